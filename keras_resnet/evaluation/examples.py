"""Files of examples, as a trained model takes them: pictures, and arrays of signals, volumes or pictures."""

import os
import pathlib
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from keras_resnet import data as datasets
from keras_resnet.data.array_files import check_regular, open_npz
from keras_resnet.data.examples.arrays import ArrayExamples
from keras_resnet.data.measurements import MEASUREMENTS, measurement_kind, read_measurement
from keras_resnet.data.options import MAX_PIXELS
from keras_resnet.data.sources.listing import EXTENSIONS
from keras_resnet.data.sources.npz import UNREADABLE
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.trained import Trained
from keras_resnet.training.inputs import AUTO

ARRAYS = (".npy", ".npz", *MEASUREMENTS)
# Of the arrays in an .npz file that may hold the examples, the first that is there.
KEYS = ("x", "x_test", "x_val", "x_train")
BATCH_SIZE = 64


def example_files(paths: Iterable[str | os.PathLike]) -> list[str | os.PathLike]:
    """Returns files as they are, and in the place of a folder the image files and arrays in it.

    Args:
        paths: of files and folders.

    Raises:
        ValueError: a folder holds no such file.
    """
    found: list[str | os.PathLike] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        wanted = {*EXTENSIONS, *ARRAYS}
        inside = sorted(file for file in pathlib.Path(path).rglob("*") if measurement_kind(file) in wanted)
        if not inside:
            raise BadValue(
                f"The folder {os.fspath(path)!r} holds no image file and no array. Allowed are files with the "
                f"extensions {', '.join(sorted(wanted))}. Check the path."
            )
        found += inside
    return found


def read_batches(
    path: str | os.PathLike, trained: Trained, max_pixels: int | None = None
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields names and examples of a file, up to 64 at a time: one picture, or the examples of an array.

    Args:
        path: an image file, which is brought to the model as in training; a file that `read_measurement` reads; or
            `.npy` or `.npz` with one example, or several along the first axis, in the units and the shape of the
            training data. Of an `.npz` file the only array is taken, or "x", "x_test", "x_val" or "x_train".
        trained: the model.
        max_pixels: of a picture; None for what its run was trained with.

    Yields:
        The path for the only example of a file, else "path[index]"; and `(examples, *shape)`.

    Raises:
        ValueError: the file cannot be read, or does not hold what the model takes; `BadImageError` for an image.
    """
    if measurement_kind(path) not in ARRAYS:
        if max_pixels is None:
            max_pixels = MAX_PIXELS if trained.run is None else trained.run.recipe.data.max_pixels
        image = datasets.read_for_network(path, trained.record, max_pixels)
        yield [os.fspath(path)], image[None]
        return
    shape = tuple(trained.model.input_shape[1:])
    array = _read_array(path)
    # Files of pictures are brought to the model; arrays are where training did so, and are otherwise a mistake.
    if measurement_kind(path) in MEASUREMENTS or (trained.run and trained.run.recipe.data.image_size != AUTO):
        array = _resized(array, trained)
    array = _as_examples(array, shape, path)
    for first in range(0, len(array), BATCH_SIZE):
        part = np.asarray(array[first : first + BATCH_SIZE])
        names = [f"{os.fspath(path)}[{first + place}]" for place in range(len(part))]
        part = part if part.dtype == np.uint8 else part.astype("float32")
        broken = np.flatnonzero(~np.isfinite(part.reshape(len(part), -1).astype("float32")).all(axis=1))
        if len(broken):
            raise BadValue(f"{names[broken[0]]} holds NaN or infinity. Allowed are finite numbers. Correct the array.")
        yield (names if len(array) > 1 else [os.fspath(path)]), part


def _read_array(path: str | os.PathLike) -> Any:
    """Returns the array of a file, of `.npy` without reading it whole."""
    try:
        check_regular(path)
        if measurement_kind(path) in MEASUREMENTS:
            return read_measurement(path)
        if pathlib.Path(path).suffix.lower() == ".npy" and not zipfile.is_zipfile(path):
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with open_npz(path) as arrays:
            keys = arrays.files
            chosen = keys if len(keys) == 1 else [key for key in KEYS if key in keys]
            if not chosen:
                raise BadValue(
                    f"{os.fspath(path)!r} holds the arrays {keys}. Allowed is one array, or one called "
                    f"{', '.join(map(repr, KEYS))}. Rename the examples."
                )
            return arrays[chosen[0]]
    except BadValue:
        raise
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        raise BadValue(
            f"{os.fspath(path)!r} cannot be read: {error}. Allowed are files that numpy.save and numpy.savez wrote, "
            f"without pickled objects, and {', '.join(MEASUREMENTS)}. Write it again."
        ) from None


def _resized(array: Any, trained: Trained) -> Any:
    """Returns pictures at the size that the model takes, as evaluation resizes them; other arrays as they are."""
    record, (*space, channels) = trained.record, trained.model.input_shape[1:]
    if len(space) != 2 or record.image_size is None or array.dtype.kind not in "iuf":
        return array
    pictures = array[..., None] if channels == 1 and array.shape[-1] != 1 and array.ndim in (2, 3) else array
    pictures = pictures[None] if pictures.ndim == 3 else pictures
    if pictures.ndim != 4 or pictures.shape[-1] != channels or pictures.shape[1:3] == tuple(space):
        return array
    pictures = np.asarray(pictures if pictures.dtype == np.uint8 else pictures.astype("float32"))
    whole = ArrayExamples(pictures, np.zeros(len(pictures), "float32"))
    dataset = datasets.Dataset("array", {"train": whole}, class_names=(), num_outputs=1, report=[])
    batches = dataset.batches("train", BATCH_SIZE, **datasets.sizing(record, dataset.image_shape))
    return np.concatenate([np.asarray(images) for images, *_ in batches])


def _as_examples(array: Any, shape: tuple[int | None, ...], path: str | os.PathLike) -> Any:
    """Returns `(examples, *shape)` from one example or several, with the axis of the channels or, of one, without."""
    if array.dtype.kind not in "iufb":
        raise BadValue(f"{os.fspath(path)!r} holds {array.dtype}. Allowed are numbers. Convert the array.")

    def fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
        return len(found) == len(wanted) and all(b in (a, None) for a, b in zip(found, wanted, strict=True))

    for wanted, add_channels in ((shape, False), *(((shape[:-1], True),) if shape[-1] == 1 else ())):
        if fits(array.shape, wanted):
            array = array[None]
        elif not fits(array.shape[1:], wanted):
            continue
        return array[..., None] if add_channels else array
    raise BadValue(
        f"{os.fspath(path)!r} has the shape {array.shape}, and the model takes {shape}. Allowed is one example of that "
        "shape, or several along a first axis. Bring the array to it as the training data were."
    )
