"""Two arrays in a folder, images.npy and labels.npy."""

import pathlib

import numpy as np

from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.arrays import ArrayExamples, as_images, check_same_length
from keras_resnet.data.examples.splits import divided, split_off
from keras_resnet.data.options import LoadOptions, Source
from keras_resnet.errors import BadValue


def load_npy(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns the examples of a folder, a tenth of them for test."""
    folder = pathlib.Path(argument)
    if not all((folder / name).is_file() for name in ("images.npy", "labels.npy")):
        raise BadValue(f"{spec} holds no images.npy and labels.npy. Both are needed. Check the path.")
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy").astype("int32")
    check_same_length(images, labels, spec)
    images = as_images(images, spec, options.rank)
    train, test = split_off(labels, round(len(labels) * options.test_fraction), options.split_seed, stratified=True)
    parts = {name: ArrayExamples(images[rows], labels[rows]) for name, rows in (("train", train), ("test", test))}
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Dataset(spec, divided(parts, options), class_names=names, num_outputs=len(names), report=[])


NPY = Source("npy", load_npy, "npy:FOLDER", options=("rank", "test_fraction"))
