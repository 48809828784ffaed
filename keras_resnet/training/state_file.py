"""A saved state on disk: a safetensors file that any reader of that format opens, with one sha256 for all of it.

The tensors have the paths of their variables. Two entries of the metadata hold the rest: `keras_resnet.state` is a JSON
text (epochs and batches done, history, best figure, what the run is, the order of the tensors), and `sha256` is that of
the whole file with 64 zeros in its own place. HDF5, which Keras writes, has no check of its bits.
"""

import hashlib
import io
import json
import pathlib
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from keras_resnet import files
from keras_resnet.errors import BadValue

SUFFIX = ".safetensors"
DESCRIPTION = "keras_resnet.state"
_DIGEST = b'"sha256":"'
_ZEROS = b"0" * 64
# What the first versions wrote: a line with the sha256 of the rest, and an .npz.
_EARLIER_SUFFIX, _EARLIER_MAGIC = ".state", b"keras_resnet state 1 "
_NAME = re.compile(rf"epoch-\d{{6,9}}(-\d{{8,12}})?({re.escape(SUFFIX)}|{re.escape(_EARLIER_SUFFIX)})", re.ASCII)

# Path of a variable, its row in the description of a state, and a copy of its value.
Values = list[tuple[str, tuple[str, str, str], np.ndarray]]


class CheckpointError(BadValue):
    """No saved state can be used."""


def row_of(variable: Any) -> tuple[str, str, str]:
    """Returns name, shape and dtype of a variable, by which a resume compares.

    Not its path, in which Keras numbers the second optimizer or layer of a process.

    Args:
        variable: of Keras.
    """
    return (variable.name, str(tuple(variable.shape)), str(variable.dtype))


def copy_values(variables: Sequence[Any]) -> Values:
    """Returns copies: what is trained meanwhile does not change them.

    Args:
        variables: of a model, its optimizer, averages and metrics.
    """
    return [
        (variable.path, row_of(variable), np.array(keras.ops.convert_to_numpy(variable), copy=True))
        for variable in variables
    ]


def write_state(path: pathlib.Path, values: Values, description: dict[str, Any]) -> None:
    """Writes a state, whole or not at all.

    Args:
        path: ends in `.safetensors`.
        values: of `copy_values`.
        description: of the state, of plain values.

    Raises:
        CheckpointError: a value is not finite.
        NoRoom: there is no room for the file.
    """
    tensors: dict[str, np.ndarray] = {}
    for variable_path, _, value in values:
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise CheckpointError(
                f"The variable {variable_path!r} is not finite. Such a state is never saved; earlier files are as they "
                "were. Lower optimizer.learning_rate."
            )
        # Two optimizers or averages may hold variables of one path.
        tensors[variable_path if variable_path not in tensors else f"{variable_path}#{len(tensors)}"] = value
    text = json.dumps({**description, "variables": [row for _, row, _ in values], "tensors": list(tensors)})
    content = safetensors.numpy.save(tensors, {DESCRIPTION: text, "sha256": _ZEROS.decode()})
    place = _place_of_digest(content)
    digest = hashlib.sha256(content).hexdigest().encode()

    def write(where: pathlib.Path) -> None:
        with open(where, "wb") as file:
            file.write(content[:place])
            file.write(digest)
            file.write(memoryview(content)[place + len(digest) :])

    files.write_atomically(path, write)


def read_state(path: pathlib.Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Returns `(description, values)` of a state, the values in the order in which they were written.

    Args:
        path: of the file.

    Raises:
        ValueError, OSError: it is not whole; for the caller, who may have an earlier one.
    """
    content = path.read_bytes()
    if path.suffix == _EARLIER_SUFFIX:
        with np.load(io.BytesIO(files.verify_payload(content, _EARLIER_MAGIC)), allow_pickle=False) as arrays:
            description = json.loads(arrays["description"].tobytes())
            _check_description(description)
            return description, [arrays[name] for name in sorted(set(arrays.files) - {"description"})]
    place = _place_of_digest(content)
    view = memoryview(content)
    found = hashlib.sha256(view[:place])
    found.update(_ZEROS)
    found.update(view[place + len(_ZEROS) :])
    if found.hexdigest().encode() != content[place : place + len(_ZEROS)]:
        raise ValueError("its sha256 is not the one it was written with")
    # Whatever follows is as it was written.
    (length,) = struct.unpack("<Q", content[:8])
    description = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][DESCRIPTION])
    _check_description(description)
    tensors = safetensors.numpy.load(content)
    if not set(description["tensors"]) <= set(tensors):
        raise ValueError("it lacks tensors that it names")
    return description, [tensors[name] for name in description["tensors"]]


def _check_description(description: Any) -> None:
    """Raises ValueError for a description that no training wrote: its sha256 may be right all the same."""

    def is_count(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53

    def is_number(value: Any) -> bool:
        return value is None or isinstance(value, (int, float))

    def is_row(value: Any) -> bool:
        return isinstance(value, dict) and all(map(is_number, value.values()))

    def is_list(value: Any, check: Callable[[Any], bool]) -> bool:
        return isinstance(value, list) and all(map(check, value))

    def is_variable(value: Any) -> bool:
        return is_list(value, lambda text: isinstance(text, str)) and len(value) == 3

    is_fit = isinstance(description, dict) and (
        is_count(description.get("epochs"))
        and all(is_count(description.get(name, 0)) for name in ("batches", "metrics"))
        and all(is_number(description.get(name, 1.0)) for name in ("seconds", "rate_factor"))
        and is_list(description.get("history"), is_row)
        and is_row(description.get("best"))
        and set(description["best"]) <= {"best", "best_epoch", "waited", "stopped"}
        and isinstance(description.get("identity"), dict)
        and is_list(description.get("variables"), is_variable)
        and is_list(description.get("tensors", []), lambda text: isinstance(text, str))
        and description.get("metrics", 0) <= len(description["variables"])
    )
    if not is_fit:
        raise ValueError("its description is none that a training wrote")


def _place_of_digest(content: bytes) -> int:
    """Returns where the digest stands in the header; quotes inside of metadata are escaped, so it stands there once."""
    length = int.from_bytes(content[:8], "little")
    place = content.find(_DIGEST, 8, 8 + min(length, len(content)))
    if place < 0 or place + len(_DIGEST) + len(_ZEROS) > len(content):
        raise ValueError("it does not begin as such a file does")
    return place + len(_DIGEST)


def newest_first(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the states by epoch and, inside one, by batch.

    Args:
        folder: `last/` of a run.
    """
    paths = [path for path in folder.glob("epoch-*") if _NAME.fullmatch(path.name) and path.is_file()]
    return sorted(paths, key=lambda path: [int(part) for part in path.stem.split("-")[1:]], reverse=True)


def name_of(epochs: int, batches: int = 0) -> str:
    """Returns the name of a state's file.

    Args:
        epochs: that were finished.
        batches: of the next one.
    """
    return f"epoch-{epochs:06d}{f'-{batches:08d}' * bool(batches)}{SUFFIX}"
