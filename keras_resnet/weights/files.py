"""Files of tensors, opened without running code of theirs: names and shapes are known before numbers are read."""

import collections
import io
import json
import logging
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import keras
import numpy as np

from keras_resnet import blocks as blocks  # registers the layers that a saved model holds
from keras_resnet import preprocessing as preprocessing
from keras_resnet.errors import BadValue, require
from keras_resnet.preprocessing import InputNormalization
from keras_resnet.weights.adaptation import HEAD, architecture_of
from keras_resnet.weights.checkpoints import read_checkpoint

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
# Arguments of layers of which each has a weight at least.
SIZES = ("units", "filters", "input_dim", "output_dim")


def is_whole_model(path: str | os.PathLike) -> bool:
    """Returns whether a `.keras` file is there and every byte in it is as it was written, by its checksums."""
    if not os.path.isfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None and WEIGHTS in archive.namelist()
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError, ValueError, EOFError):
        return False


def load_model_file(path: str | os.PathLike) -> keras.Model:
    """Returns the model of a `.keras` file, not compiled; no code of the file is run."""
    message = f"The file {os.fspath(path)!r} could not be loaded as a Keras model"
    allowed = (
        "Allowed is a whole file that `model.save` wrote, made of layers of Keras and keras_resnet, with finite "
        "weights. Save it again."
    )
    if not os.path.isfile(path):
        raise BadValue(f"{message}: it is not a file. {allowed}")
    try:
        unfit = _too_large(path)
        if not unfit:
            model = keras.saving.load_model(pathlib.Path(path), compile=False)
            unfit = _unfit_weights(path, model)
    except Exception as error:  # whatever damaged bytes make Keras, h5py or zipfile raise
        raise BadValue(f"{message}: {' '.join(str(error).split()) or type(error).__name__} {allowed}") from error
    if unfit:
        raise BadValue(f"{message}: {unfit}. {allowed}")
    return model


def _too_large(path: str | os.PathLike) -> str:
    """Returns the parts that would grow beyond the file: Keras compresses nothing, and each unit has a weight in it."""
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > size:
                return f"its member {member.filename!r} is to have {member.file_size:,} bytes in a file of {size:,}"
        pending = [json.loads(archive.read(CONFIG))]
    while pending:
        entry = pending.pop()
        pending += entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
        for name in SIZES if isinstance(entry, dict) else ():
            if isinstance(entry.get(name), int) and entry[name] > size:
                return f"a layer has {name}={entry[name]:,} in a file of {size:,} bytes"
    return ""


def _unfit_weights(path: str | os.PathLike, model: Any) -> str:
    """Returns the fault of a model's weights, or nothing if they are finite and of their declared types."""
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            values = np.asarray(keras.ops.convert_to_numpy(weight)).astype("float32", copy=False)
            if not np.isfinite(values).all():
                return f"its weight {weight.path!r} holds NaN or infinity"
    # Keras casts what a file holds, so that weights in 8-bit integers would pass for floats.
    needed = collections.Counter(
        (tuple(weight.shape), dtype)
        for weight in model.weights
        if (dtype := keras.backend.standardize_dtype(weight.dtype)) != "bfloat16"  # HDF5 has no such type
    )
    counts: collections.Counter = collections.Counter()

    def count(_: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            counts[tuple(entry.shape), str(entry.dtype)] += 1

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r") as held:
        held.visititems(count)
    for (shape, dtype), times in needed.items():
        if counts[shape, dtype] < times:
            return f"it holds {counts[shape, dtype]} tensors of {dtype} {shape} where the layers have {times}"
    return ""


# Under which our own files keep what their network is, and what it takes.
ARCHITECTURE, RECORD = "keras_resnet.architecture", "keras_resnet.preprocessing"
# The types of safetensors that weights come in; bfloat16 is widened to float32, which holds it exactly.
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Of a kernel in 8-bit integers the file has a second tensor: what one level of each filter is.
INTEGERS, SCALE = "I8", "/scale"
# Far more than the largest network has: about 150 bytes for a tensor in a header of safetensors.
MAX_TENSORS, MAX_HEADER_BYTES = 100_000, 16 * 2**20


LOGGER = logging.getLogger(__name__)


class TensorFile:
    """What a file holds, read tensor by tensor."""

    def __init__(
        self,
        path: pathlib.Path,
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, str],
        read: Callable[[str], np.ndarray],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.shapes = dict(shapes)
        self.dtypes = dict(dtypes)
        self._read = read
        self.metadata = dict(metadata or {})

    def read(self, name: str) -> np.ndarray:
        """Returns the numbers of a tensor."""
        try:
            return self._read(name)
        except Exception as error:  # whatever damaged numbers make a library raise
            raise BadValue(_unreadable(self.path, f"its tensor {name!r}", error)) from error


def _unreadable(path: str | os.PathLike, what: str, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"weights={os.fspath(path)!r}: {what} cannot be read ({reason}). Allowed is a whole file of its kind. Fetch or "
        "write it again."
    )


def open_tensors(path: str | os.PathLike) -> TensorFile:
    """Opens a file of weights and reads what it says of its tensors.

    Args:
        path: `.safetensors`; `.pth` or `.pt` that `torch.save` wrote since version 1.6; a `.keras` model; or what
            keras.applications publishes (`.h5`) and what Keras 3 saves of its ResNets (`.weights.h5`, `.keras`), alone
            or below a head of the user's. A head is read where it is one dense layer.

    Raises:
        ValueError: the file is of another kind, damaged, or asks for code to be run.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise BadValue(f"weights={os.fspath(path)!r} is not a file. Allowed is a file of weights. Check the path.")
    opened = READERS.get(file.suffix.lower())
    if opened is None:
        raise BadValue(f"weights={os.fspath(path)!r} is of no kind that is known. Allowed are {', '.join(READERS)}.")
    try:
        return opened(file)
    except BadValue:
        raise
    except Exception as error:  # whatever a damaged file makes its library raise
        raise BadValue(_unreadable(path, "the file", error)) from error


def _open_safetensors(path: pathlib.Path) -> TensorFile:
    safetensors = require("safetensors", "A file of weights")
    _check_duplicates(path)
    handle = safetensors.safe_open(path, "np")
    shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118  # not a dict
    dtypes = {name: FLOATS.get(kind := str(handle.get_slice(name).get_dtype()), kind) for name in shapes}

    scales = {name: f"{name}{SCALE}" for name in shapes if dtypes[name] == INTEGERS}
    integers = [
        name
        for name, scale in scales.items()
        if dtypes.get(scale) == "float32" and shapes[scale] in ((), shapes[name][-1:])
    ]
    for name in integers:
        dtypes[name] = "float32"
        del shapes[f"{name}{SCALE}"]

    def read(name: str) -> np.ndarray:
        if name in integers:
            return handle.get_tensor(name).astype("float32") * handle.get_tensor(f"{name}{SCALE}")
        if dtypes[name] != "bfloat16":
            return handle.get_tensor(name)
        import ml_dtypes

        return np.asarray(handle.get_tensor(name)).view(ml_dtypes.bfloat16).astype("float32")

    return TensorFile(path, shapes, dtypes, read, handle.metadata())


def _check_duplicates(path: pathlib.Path) -> None:
    """Raises ValueError if a name stands twice in the header, of which readers would take either."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER_BYTES, path.stat().st_size):
            raise BadValue(
                f"weights={os.fspath(path)!r} has a header of {length} bytes. Allowed are {MAX_HEADER_BYTES} at most, "
                "and no more than the file has. It is damaged."
            )
        text = file.read(length)

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in found]
        if len(set(names)) < len(names):
            raise BadValue(f"weights={os.fspath(path)!r} names a tensor twice. Such a file is refused.")
        return dict(found)

    json.loads(text, object_pairs_hook=pairs)


def _open_h5(path: pathlib.Path) -> TensorFile:
    """Opens HDF5: the older format of Keras, in which keras.applications publishes, and that of Keras 3."""
    if path.name.endswith(".weights.h5"):
        return _open_saved(path, path)
    handle = h5py.File(path, "r")
    root = handle.get("model_weights", handle)
    arrays: dict[str, str] = {}
    for name in _datasets(path, root):  # "layer/layer/variable:0"
        layer, *_, variable = name.removeprefix(root.name).strip("/").split("/")
        arrays[f"{layer}/{variable.partition(':')[0]}"] = name
    return _tensors_in(path, handle, arrays)


def _open_saved(path: pathlib.Path, source: Any) -> TensorFile:
    """Opens a network of keras.applications saved by Keras 3: "layers/CLASS/vars/NUMBER"."""
    handle = h5py.File(source, "r")
    layers: dict[str, list[str]] = {}
    for name in _datasets(path, handle):
        layers.setdefault(str(handle[name].parent.attrs.get("name", "")), []).append(name)
    if "conv1_conv" not in layers:
        raise BadValue(
            f"weights={os.fspath(path)!r} holds layers like {list(layers)[:3]}, and none named 'conv1_conv'. Allowed "
            "are the ResNets of keras.applications. For another model build it, call model.load_weights(path), and "
            "save it with keras_resnet.weights.save_weights."
        )
    network = {name: layers.pop(name) for name in list(layers) if re.fullmatch(r"conv\d_.*|post_bn", name)}
    last = max(
        (name for name in network if name.endswith("_conv")), key=lambda name: handle[network[name][0]].shape[-1]
    )
    features = handle[network[last][0]].shape[-1]
    others = {
        name: places for name, places in layers.items() if any(handle[place].dtype.kind == "f" for place in places)
    }
    shapes = [handle[places[0]].shape for places in others.values()]
    if len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][0] == features:
        network[HEAD] = others.popitem()[1]
    if others:
        LOGGER.warning("%s: layers that are not part of a ResNet are left out: %s.", path, ", ".join(sorted(others)))
    variables = {4: ("gamma", "beta", "moving_mean", "moving_variance"), 2: ("kernel", "bias"), 1: ("kernel",)}
    arrays = {
        f"{layer}/{variable}": place
        for layer, places in network.items()
        for variable, place in zip(variables.get(len(places), ()), sorted(places), strict=True)
    }
    return _tensors_in(path, handle, arrays)


def _tensors_in(path: pathlib.Path, held: Any, found: Mapping[str, str]) -> TensorFile:
    shapes = {name: tuple(held[place].shape) for name, place in found.items()}
    dtypes = {name: str(held[place].dtype) for name, place in found.items()}
    return TensorFile(path, shapes, dtypes, lambda name: np.asarray(held[found[name]]))


def _datasets(path: pathlib.Path, root: Any) -> list[str]:
    """Returns the names of all tensors below a group of HDF5."""
    paths: list[str] = []
    seen: set[int] = set()

    def visit(group: Any, depth: int) -> None:
        # Hard links let a file of some kilobytes hold more paths than a computer can walk.
        place = h5py.h5o.get_info(group.id).addr
        if place in seen or len(paths) > MAX_TENSORS:
            raise BadValue(
                f"weights={os.fspath(path)!r} holds the group {group.name!r} twice, or more than {MAX_TENSORS} "
                "tensors. Such a file is refused."
            )
        seen.add(place)
        for key in group:
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink) or depth > 8:
                raise BadValue(
                    f"weights={os.fspath(path)!r} holds a link at {group.name}/{key}. Such a file is refused."
                )
            entry = group[key]
            if isinstance(entry, h5py.Group):
                visit(entry, depth + 1)
            elif not isinstance(entry, h5py.Dataset) or entry.is_virtual or entry.external:
                raise BadValue(f"weights={os.fspath(path)!r} holds {entry.name}, which lies elsewhere. It is refused.")
            else:
                paths.append(entry.name)

    visit(root, 0)
    return paths


def _open_keras(path: pathlib.Path) -> TensorFile:
    saved = _saved_by_keras(path)
    if saved is not None:
        return _open_saved(path, io.BytesIO(saved))
    try:
        model = load_model_file(path)
    except BadValue as error:
        raise BadValue(f"weights={os.fspath(path)!r}: {error}") from error
    variables = {variable.path: variable for variable in model.weights}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    dtypes = {name: keras.backend.standardize_dtype(variable.dtype) for name, variable in variables.items()}
    metadata = {ARCHITECTURE: json.dumps(architecture_of(model))}
    layers = [layer for layer in model.layers if isinstance(layer, InputNormalization)]
    if layers and layers[0].record is not None:
        keys = ("scheme", "mean", "std", "record")
        metadata[RECORD] = json.dumps({name: layers[0].get_config()[name] for name in keys})
    last = model.layers[-1]

    def read(name: str) -> np.ndarray:
        values = keras.ops.convert_to_numpy(variables[name])
        if not isinstance(last, keras.layers.Rescaling) or name.partition("/")[0] != HEAD:
            return values
        # The units of a regression's targets, which the network alone has in its head.
        scaled = values * np.asarray(last.scale)
        return np.asarray(scaled if name.endswith("kernel") else scaled + np.asarray(last.offset), values.dtype)

    return TensorFile(path, shapes, dtypes, read, metadata)


def _saved_by_keras(path: pathlib.Path) -> bytes | None:
    """Returns the weights in a `.keras` file of a network of keras.applications, None where it is another one."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        # Keras does not compress what it saves: a member is no larger than its file.
        if not {CONFIG, WEIGHTS} <= set(sizes) or max(sizes.values()) > path.stat().st_size:
            return None
        config = archive.read(CONFIG)
        return archive.read(WEIGHTS) if b'"conv1_conv"' in config and b"keras_resnet>" not in config else None


def _open_checkpoint(path: pathlib.Path) -> TensorFile:
    tensors = read_checkpoint(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    return TensorFile(path, shapes, dtypes, lambda name: tensors[name].read())


READERS: dict[str, Callable[[pathlib.Path], TensorFile]] = {
    ".safetensors": _open_safetensors,
    ".pth": _open_checkpoint,
    ".pt": _open_checkpoint,
    ".h5": _open_h5,
    ".keras": _open_keras,
}
