"""Weights of a file into a network: every tensor matched, compared and reported before one is changed."""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet import files
from keras_resnet.arguments import choose
from keras_resnet.blocks.quantization import round_kernel
from keras_resnet.errors import BadValue, require
from keras_resnet.weights.adaptation import FACTS, HEAD, POOLED, adapt_kernel, architecture_of, can_adapt, layout_of
from keras_resnet.weights.files import ARCHITECTURE, FLOATS, RECORD, SCALE, TensorFile, open_tensors
from keras_resnet.weights.naming import IGNORED_SUFFIXES, NAMINGS, Naming, naming_of, strip_prefix

LOGGER = logging.getLogger(__name__)
# What a network may have otherwise than a file: its head and its first kernel are made for it.
FREE = ("classes", "channels", "rank")
FIRST_KERNEL = "stem/conv1/kernel"
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Audit:
    """What became of the tensors of a file.

    Attributes:
        path: of the file.
        naming: of the library whose names it has.
        loaded: our paths of the variables that were set.
        left_out: names in the file that the network has no place for, and that were meant to be left out: a head of
            another size, counters of PyTorch.
        kept: our paths of variables that stay as they were: a new head.
    """

    path: str
    naming: str
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        """Returns a line of counts, and what was left."""
        text = f"{self.path} ({self.naming}): {len(self.loaded)} variables loaded"
        text += f"; kept as they were: {', '.join(self.kept)}" if self.kept else ""
        return text + (f"; left out of the file: {_some(list(self.left_out))}" if self.left_out else "")


def load_weights(
    model: keras.Model,
    file: TensorFile | str | os.PathLike,
    *,
    new_head: bool = False,
    adapt: bool = False,
    is_bgr: bool = False,
) -> Audit:
    """Loads weights into a network; all of them or none.

    Args:
        model: built by keras_resnet.
        file: from `open_tensors`, or a path for it.
        new_head: whether the classifier stays as it is, where that of the file has another number of classes, or none.
        adapt: whether kernels of pictures are made kernels for other channels, signals or volumes (`adapt_kernel`).
        is_bgr: whether the first kernel of the file takes BGR; one that is adapted takes RGB.

    Returns:
        What became of every tensor.

    Raises:
        ValueError: a tensor is missing, unexpected, of another shape, no floating-point number, not finite, or a
            variance is not positive; or the file says that its network is another one. Nothing is changed then.
    """
    file = file if isinstance(file, TensorFile) else open_tensors(file)
    where = f"weights={os.fspath(file.path)!r}"
    names = strip_prefix(file.shapes)
    key = naming_of(names)
    naming, architecture = NAMINGS[key], architecture_of(model)
    check_architecture(where, architecture_in(file), architecture)
    variables = network_variables(model)
    expected = {path: naming.rename(path, layout_of(architecture)) for path in variables}
    head = {path for path in variables if path.startswith(f"{HEAD}/")} if new_head else set()
    heads_there = {expected[path] for path in head}
    missing = [f"{name} ({path})" for path, name in expected.items() if name not in names and path not in head]
    unexpected = [name for name in names if name not in expected.values() and not (new_head and _is_head(name, key))]
    used = {place: names[name] for place, name in expected.items() if name in names and place not in head}
    wrong = [
        told for place, name in used.items() if (told := _misfit(file, name, naming, variables[place], place, adapt))
    ]
    problems = [f"missing: {_some(missing)}"] * bool(missing) + [f"unexpected: {_some(unexpected)}"] * bool(unexpected)
    problems += [_some(wrong)] * bool(wrong)
    if problems:
        raise BadValue(
            f"{where} does not fit the network {model.name!r} ({_told(architecture)}): {'; '.join(problems)}. Build "
            "the network that the file was written for, or give classes for a new head."
        )
    arrays: dict[str, np.ndarray] = {}
    for place, name in used.items():
        array = naming.to_ours(np.asarray(file.read(name)), place)
        _check_values(where, name, place, array)
        shape = tuple(variables[place].shape)
        if array.shape != shape:
            array = adapt_kernel(array[..., ::-1, :] if is_bgr and place == FIRST_KERNEL else array, shape)
        arrays[place] = array
    for place, array in arrays.items():
        variables[place].assign(array)
    ignored = [name for name in file.shapes if name.endswith(IGNORED_SUFFIXES)]
    ignored += sorted(heads_there & set(names)) if head else [name for name in names if name not in expected.values()]
    return Audit(os.fspath(file.path), naming.name, tuple(arrays), tuple(ignored), tuple(sorted(head)))


def _misfit(file: TensorFile, name: str, naming: Naming, variable: Any, place: str, adapt: bool) -> str:
    """Returns why a tensor cannot be the value of a variable; nothing if it can."""
    if file.dtypes[name] not in FLOATS.values():
        return f"{name} is {file.dtypes[name]}, and weights are floating-point numbers"
    source_shape = naming.to_ours(np.broadcast_to(np.float32(0), file.shapes[name]), place).shape
    shape = tuple(variable.shape)
    if source_shape == shape or (adapt and can_adapt(source_shape, shape, is_first=place == FIRST_KERNEL)):
        return ""
    expected = naming.from_ours(np.broadcast_to(np.float32(0), shape), place).shape
    return f"{name} has the shape {file.shapes[name]}, and the network wants {tuple(expected)}"


def network_variables(model: keras.Model) -> dict[str, Any]:
    """Returns the weights of the network by their paths, without those of layers around it."""
    inside = ("stem/", "stage", "head_norm/", f"{POOLED}_range/", f"{HEAD}/")
    return {variable.path: variable for variable in model.weights if variable.path.startswith(inside)}


def architecture_in(file: TensorFile) -> dict[str, Any] | None:
    """Returns the architecture that a file declares; None for files of other libraries."""
    text = file.metadata.get(ARCHITECTURE)
    if text is None:
        return None
    try:
        architecture = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadValue(f"weights={os.fspath(file.path)!r} says damaged things of its network: {error}.") from error
    for name, is_right in FACTS.items():
        if not is_right(architecture.get(name)):
            raise BadValue(
                f"weights={os.fspath(file.path)!r} has a damaged description: {name} is {architecture.get(name)!r}. "
                "Allowed is what `save_weights` writes. Write the file again."
            )
    # What is built from it is as large as the tensors in the file are, not as large as the text says.
    first, head = file.shapes.get(FIRST_KERNEL, ()), file.shapes.get(f"{HEAD}/kernel", ())
    declared = (architecture["rank"] + 2, architecture["channels"], architecture["classes"])
    if (
        declared != (len(first), *first[-2:-1], head[-1] if head else None)
        or not first[-1] <= architecture["width"] <= 2 * first[-1]
    ):
        raise BadValue(
            f"weights={os.fspath(file.path)!r} says damaged things of its network: its tensors {FIRST_KERNEL} {first} "
            f"and {HEAD}/kernel {head or 'none'} are not those of {architecture}. Write the file again."
        )
    return architecture


def check_architecture(where: str, saved: Mapping[str, Any] | None, present: Mapping[str, Any]) -> None:
    """Raises ValueError where a file says that its weights belong to another network."""
    differing = [
        f"{name} is {saved[name]!r} in the file and {present.get(name)!r} in the network"
        for name in (saved or {})
        if saved is not None and name not in FREE and saved[name] != present.get(name)
    ]
    if differing:
        raise BadValue(
            f"{where} was written for another network: {'; '.join(differing)}. Shapes may agree and the outputs would "
            "be wrong. Build the network with the same arguments."
        )


def _check_values(where: str, name: str, place: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise BadValue(f"{where}: {name} holds NaN or infinity. Allowed are finite numbers. Fetch the file again.")
    if place.endswith("/moving_variance") and not (array > 0).any():
        raise BadValue(f"{where}: {name} holds no positive variance. A trained network has some. Fetch the file again.")


def _is_head(name: str, key: str) -> bool:
    return name.startswith({"torch": "fc.", "keras": "predictions/", "keras_resnet": "predictions/"}[key])


def _told(architecture: Mapping[str, Any]) -> str:
    depths = ", ".join(map(str, architecture["depths"]))
    return f"{architecture['block']} {depths}, version {architecture['version']}, width {architecture['width']}"


def _some(found: list[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{', '.join(found[:SHOWN])}{more}"


WRITTEN = {"keras_resnet": "keras_resnet", "timm": "torch"}


def save_weights(
    model: keras.Model, path: str | os.PathLike, *, names: str = "keras_resnet", preprocessing: Any = None
) -> pathlib.Path:
    """Writes the weights of a network, whole or not at all; kernels of one that rounds to 8 bits as 8-bit integers.

    Args:
        model: built by keras_resnet.
        path: ends in `.safetensors`; it must not exist.
        names: "keras_resnet", with what the network is and takes as metadata; or "timm", whose models load the file.
        preprocessing: plain values to store for `preprocessing.for_model`; None for none.

    Returns:
        The path.

    Raises:
        ValueError: the path is taken or of another kind, or timm has no such network.
    """
    save_file = require("safetensors.numpy", "A file of weights").save_file
    naming = NAMINGS[WRITTEN[choose("names", names, {name: name for name in WRITTEN})]]
    target = pathlib.Path(path).expanduser()
    if target.suffix != ".safetensors":
        raise BadValue(f"out={os.fspath(path)!r} does not end in '.safetensors', as files of weights do. Name it so.")
    if target.exists():
        raise BadValue(f"out={os.fspath(path)!r} exists, and weights never replace a file. Choose another name.")
    files.check_parent(target)
    architecture = architecture_of(model)
    stems = ("conv7", "deep", "deep_strided")
    is_quantized = architecture["quantized"]
    if names == "timm" and (architecture["version"] != "v1.5" or architecture["stem"] not in stems or is_quantized):
        raise BadValue(
            f"names='timm' was given with version={architecture['version']!r}, stem={architecture['stem']!r} and "
            f"quantized={is_quantized}. Networks of timm have version 'v1.5' and a stem of "
            f"{', '.join(map(repr, stems))}, and do not round. Write the file under our own names."
        )
    layout = layout_of(architecture)
    tensors = {
        naming.rename(place, layout): naming.from_ours(np.asarray(keras.ops.convert_to_numpy(variable)), place)
        for place, variable in network_variables(model).items()
    }
    if is_quantized:
        for place in [place for place in tensors if place.endswith("/kernel")]:
            levels = round_kernel(tensors[place], None if place.startswith(f"{HEAD}/") else -1)
            tensors[place], tensors[f"{place}{SCALE}"] = levels
    metadata = {"format": "np"}
    if names == "keras_resnet":
        metadata[ARCHITECTURE] = json.dumps(architecture)
    if preprocessing is not None:
        metadata[RECORD] = json.dumps(preprocessing)
    target.absolute().parent.mkdir(parents=True, exist_ok=True)

    def write(where: pathlib.Path) -> None:
        save_file(tensors, os.fspath(where), metadata)
        os.chmod(where, 0o666 & ~files.umask())  # the library leaves it to its owner alone

    files.write_atomically(target, write)
    return target
