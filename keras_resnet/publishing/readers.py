"""Reads a published folder as one library does, without this package: `python readers.py LIBRARY FOLDER IMAGES OUT`.

The file is run by its path. It takes pictures `(n, height, width, 3)` in [0, 255] of the size that the network was
trained on, as .npy, and writes the logits, and prints the version of the library.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Answer = tuple[np.ndarray, str]


def _normalized(folder: str, images: np.ndarray) -> Any:
    """Returns pictures as PyTorch's networks take them, by the mean and the deviation in config.json."""
    import torch

    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)["pretrained_cfg"]
    scaled = (images / 255 - np.array(config["mean"])) / np.array(config["std"])
    return torch.from_numpy(scaled.astype("float32").transpose(0, 3, 1, 2))


def timm(folder: str, images: np.ndarray) -> Answer:
    """Returns logits and version: `timm.create_model("local-dir:FOLDER")`."""
    import timm
    import torch

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        return model(_normalized(folder, images)).numpy(), timm.__version__


def transformers(folder: str, images: np.ndarray) -> Answer:
    """Returns logits and version: `AutoModelForImageClassification`, which needs timm too."""
    import torch
    import transformers

    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(_normalized(folder, images)).logits.numpy(), transformers.__version__


def keras_hub(folder: str, images: np.ndarray) -> Answer:
    """Returns logits and version: `ImageClassifier.from_preset`, with its own normalization."""
    import keras_hub

    # Of its image converter the size alone: that of the pictures, which are then not resized.
    model = keras_hub.models.ImageClassifier.from_preset(folder)
    model.preprocessor.image_converter.image_size = images.shape[1:3]
    return np.asarray(model.predict(images, verbose=0)), keras_hub.__version__


def keras(folder: str, images: np.ndarray) -> Answer:
    """Returns logits and version: `keras.saving.load_model`, which needs this package for its layers."""
    import keras

    import keras_resnet.blocks  # noqa: F401

    model = keras.saving.load_model(os.path.join(folder, "model.keras"))
    return np.asarray(model.predict(images, verbose=0)), keras.__version__


READERS: dict[str, Callable[[str, np.ndarray], Answer]] = {
    "timm": timm,
    "transformers": transformers,
    "keras_hub": keras_hub,
    "keras": keras,
}

if __name__ == "__main__":
    library, folder, images, out = sys.argv[1:]
    # This folder holds no modules for others, and has names of theirs.
    sys.path = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]
    logits, version = READERS[library](folder, np.load(images))
    np.save(out, logits)
    print(version)
