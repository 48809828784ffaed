"""Weights of a network into a .safetensors file, under our names with what it is, or under those of timm."""

import json
import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_resnet import files
from keras_resnet.arguments import choose
from keras_resnet.errors import BadValue, MissingPackage
from keras_resnet.weights.architecture import architecture_of, layout_of
from keras_resnet.weights.files import ARCHITECTURE, RECORD
from keras_resnet.weights.loading import network_variables
from keras_resnet.weights.naming import NAMINGS

WRITTEN = {"keras_resnet": "keras_resnet", "timm": "torch"}


def save_weights(
    model: keras.Model, path: str | os.PathLike, *, names: str = "keras_resnet", preprocessing: Any = None
) -> pathlib.Path:
    """Writes the weights of a network, whole or not at all.

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
    try:
        from safetensors.numpy import save_file
    except ImportError:
        raise MissingPackage("Weights need safetensors, which is not installed. Run: pip install safetensors") from None
    naming = NAMINGS[WRITTEN[choose("names", names, {name: name for name in WRITTEN})]]
    target = pathlib.Path(path).expanduser()
    if target.suffix != ".safetensors":
        raise BadValue(f"out={os.fspath(path)!r} does not end in '.safetensors', as files of weights do. Name it so.")
    if target.exists():
        raise BadValue(f"out={os.fspath(path)!r} exists, and weights never replace a file. Choose another name.")
    files.check_parent(target)
    architecture = architecture_of(model)
    known = ("conv7", "deep", "deep_strided")
    if names == "timm" and (architecture["version"] != "v1.5" or architecture["stem"] not in known):
        raise BadValue(
            f"names='timm' was given with version={architecture['version']!r} and stem={architecture['stem']!r}. "
            f"Networks of timm have version 'v1.5' and a stem of {', '.join(map(repr, known))}. Write the file under "
            "our own names."
        )
    layout = layout_of(architecture)
    tensors = {
        naming.rename(place, layout): naming.from_ours(np.asarray(keras.ops.convert_to_numpy(variable)), place)
        for place, variable in network_variables(model).items()
    }
    metadata = {"format": "np"}
    if names == "keras_resnet":
        metadata[ARCHITECTURE] = json.dumps(architecture)
        if preprocessing is not None:
            metadata[RECORD] = json.dumps(preprocessing)
    target.absolute().parent.mkdir(parents=True, exist_ok=True)

    def write(where: pathlib.Path) -> None:
        save_file(tensors, os.fspath(where), metadata)
        os.chmod(where, 0o666 & ~_umask())  # the library leaves it to its owner alone

    files.write_atomically(target, write)
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
