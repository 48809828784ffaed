"""`.keras` files, read so that a damaged one is one error and never a model with other weights in silence."""

import collections
import io
import json
import os
import pathlib
import zipfile
import zlib
from typing import Any

import h5py
import keras
import numpy as np

from keras_resnet import blocks as blocks  # registers the layers that a saved model holds
from keras_resnet import preprocessing as preprocessing
from keras_resnet.errors import BadValue

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
# Arguments of layers of which each has a weight at least.
SIZES = ("units", "filters", "input_dim", "output_dim")


def is_whole_model(path: str | os.PathLike) -> bool:
    """Returns whether a `.keras` file is there and every byte in it is as it was written, by its checksums.

    Args:
        path: of the file.
    """
    if not os.path.isfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None and WEIGHTS in archive.namelist()
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError, ValueError, EOFError):
        return False


def load_model_file(path: str | os.PathLike) -> keras.Model:
    """Returns the model of a `.keras` file, not compiled; no code of the file is run.

    Args:
        path: of the file.

    Raises:
        ValueError: it is not whole, is made of other layers than those of Keras and keras_resnet, or holds weights
            that are not finite or of another type than those of its layers.
    """
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
