"""Weights from one kind of file into another."""

import os
import pathlib
from typing import Any

from keras_resnet import models, weights
from keras_resnet.arguments import choose
from keras_resnet.errors import BadValue
from keras_resnet.models.builder import build_resnet
from keras_resnet.training import Run


def convert(
    source: str | os.PathLike, out: str | os.PathLike, *, model: str | None = None, names: str = "keras_resnet"
) -> pathlib.Path:
    """Reads weights of keras_resnet, timm, torchvision or keras.applications and writes them as ours or as timm's.

    Args:
        source: a run folder, or a file: `.safetensors`, `.pth`, `.keras`, or `.h5` of keras.applications.
        out: the `.safetensors` file to make; it must not exist.
        model: a name from `list_models()`; a run folder knows its own.
        names: "keras_resnet", with what the network is and takes; or "timm".

    Returns:
        The path of the file.

    Raises:
        ValueError: the weights do not fit the model, or a path is not what is allowed.

    Example:
        >>> from keras_resnet.evaluation.conversion import convert
        >>> convert("nowhere.safetensors", "out.safetensors", model="resnet18")
        Traceback (most recent call last):
        ...
        keras_resnet.errors.BadValue: weights='nowhere.safetensors' is not a file. ...
    """
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        run = Run.load(path)
        path, model = path / "best.keras", model or run.about.model
    if model is None:
        raise BadValue("A file of weights does not say which model it is for. Pass a name that `list` prints as model.")
    choose("model", model, models.VARIANTS)
    found = models.Pretrained.of(model, path)
    # Of any size: nothing that is stored follows from the size of the images.
    given: dict[str, Any] = {
        "include_top": found.classes is not None,
        "input_shape": (*(None,) * found.rank, found.channels),
        "classifier_activation": None,
    }
    network = found.build(build_resnet, model, given)
    return weights.save_weights(network, out, names=names, preprocessing=found.preprocessing)
