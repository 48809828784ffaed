"""Scores of a trained model on a data set, and the classes of image files."""

import logging
import os
import pathlib
import statistics
import time
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet.arguments import check_fraction, check_int, choose
from keras_resnet.data.array_files import MEASUREMENTS, check_regular, measurement_kind, open_npz, read_measurement
from keras_resnet.data.examples.arrays import ArrayExamples
from keras_resnet.data.options import BAD_IMAGE_POLICIES, MAX_PIXELS
from keras_resnet.data.sources.listing import EXTENSIONS
from keras_resnet.data.sources.npz import UNREADABLE
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.predictor import Predictor, open_predictor, open_with_data, with_views
from keras_resnet.tasks import Predictions
from keras_resnet.tasks.metrics import sensitivity_at
from keras_resnet.training import Run
from keras_resnet.training.inputs import AUTO

ARRAYS = (".npy", ".npz", *MEASUREMENTS)
# Of the arrays in an .npz file that may hold the examples, the first that is there.
KEYS = ("x", "x_test", "x_val", "x_train")
BATCH_SIZE = 64


def example_files(paths: Iterable[str | os.PathLike]) -> list[str | os.PathLike]:
    """Returns files as they are, and in the place of a folder the image files and arrays in it."""
    files: list[str | os.PathLike] = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        suffixes = {*EXTENSIONS, *ARRAYS}
        inside = sorted(file for file in pathlib.Path(path).rglob("*") if measurement_kind(file) in suffixes)
        if not inside:
            raise BadValue(
                f"The folder {os.fspath(path)!r} holds no image file and no array. Allowed are files with the "
                f"extensions {', '.join(sorted(suffixes))}. Check the path."
            )
        files += inside
    return files


def read_batches(
    path: str | os.PathLike, predictor: Predictor, max_pixels: int | None = None
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields names and examples of a file, up to 64 at a time: one picture, or the examples of an array."""
    if measurement_kind(path) not in ARRAYS:
        if max_pixels is None:
            max_pixels = MAX_PIXELS if predictor.run is None else predictor.run.recipe.data.max_pixels
        image = datasets.read_for_network(path, predictor.record, max_pixels)
        yield [os.fspath(path)], image[None]
        return
    shape = tuple(predictor.model.input_shape[1:])
    array = _read_array(path)
    # Files of pictures are brought to the model; arrays are where training did so, and are otherwise a mistake.
    if measurement_kind(path) in MEASUREMENTS or (predictor.run and predictor.run.recipe.data.image_size != AUTO):
        array = _resized(array, predictor)
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


def _resized(array: Any, predictor: Predictor) -> Any:
    """Returns pictures at the size that the model takes, as evaluation resizes them; other arrays as they are."""
    record, (*space, channels) = predictor.record, predictor.model.input_shape[1:]
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


LOGGER = logging.getLogger(__name__)


def evaluate(
    run_or_model: Run | keras.Model | str | os.PathLike,
    data: str | datasets.Dataset | None = None,
    *,
    data_dir: str | os.PathLike | None = None,
    split: str | None = None,
    batch_size: int = 64,
    task: str | None = None,
    on_bad_image: str | None = None,
    intervals: bool = False,
    views: str = "none",
    at_specificity: float | None = None,
) -> dict[str, Any]:
    """Scores a trained model; every example is counted once, or by its weight where the data have weights.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`, which may end in logits or in
            probabilities.
        data: a spec such as "digits" or "folder:photos", or a loaded dataset. None for the data of the run. Other data
            are scored whole, unless they bring a test split; classes are matched by name, and some may be missing.
        data_dir: where TFDS finds its prepared data sets.
        split: "train", "validation", "test" or "all"; None for "test" of the run's own data and of data that bring one,
            "all" of others. With a name other data are divided as the run divided its own.
        batch_size: examples at a time; it does not change the scores.
        task: "classification" or "regression", for a model that carries no record of it.
        on_bad_image: what happens to files of other data that cannot be read: "error", or "skip" to leave them out as
            far as `max_skipped_fraction` allows; None for what the run did.
        intervals: add further figures (of a classifier those of `detailed_scores`), each with its 95 % bootstrap
            interval; whole groups are drawn where the data have them.
        views: of each example whose answers are averaged (test-time augmentation), as for `average_models`.
        at_specificity: add `sensitivity_at_specificity`, the highest sensitivity at a specificity of at least this, in
            (0, 1), with its interval: of the second of two classes, or the mean over multi-label classes.

    Returns:
        `split`, what was scored; for a classifier `examples`, `loss` (cross-entropy, nats), `accuracy`, `top5` (more
        than 5 classes), `expected_calibration_error`, all in [0, 1] but the loss; `per_class` and `confusion`. For
        multi-label targets those of `scores.multilabel`. For a
        regression `examples`, `mse`, `mae` and `r2`.

    Raises:
        ValueError: the model and the data disagree on the number of classes, their names or the channels; or a path
            holds no model.
        TypeError: `run_or_model` is none of those.

    Example:
        >>> import keras_resnet
        >>> from keras_resnet import evaluation
        >>> model = keras_resnet.ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=10)
        >>> evaluation.evaluate(model, "digits")["examples"]
        360
    """
    check_int("batch_size", batch_size)
    predictor, dataset, split = open_with_data(run_or_model, data, data_dir, split, task, on_bad_image, views)
    predictions = predictor.predict(dataset, split, batch_size)
    figures = predictions.score()
    if at_specificity is not None:
        figures |= _at_specificity(predictions, at_specificity)
    missing = [row["name"] for row in figures.get("per_class", ()) if not row["support"]]
    if missing:
        LOGGER.warning("data=%r has no examples of the classes %s in the split %r.", dataset.spec, missing, split)
    if intervals:
        more = predictions.intervals()
        if "per_class" in figures:
            more["per_class"] = [
                {**row, **further} for row, further in zip(figures["per_class"], more["per_class"], strict=True)
            ]
        figures = {**figures, **more}
    return {"split": split, **figures}


def _at_specificity(predictions: Predictions, specificity: float) -> dict[str, Any]:
    check_fraction("at_specificity", specificity, zero_included=False)
    task, classes = predictions.task, len(predictions.class_names)
    if not task.has_classes or (task.is_exclusive and classes != 2):
        raise BadValue(
            f"at_specificity={specificity} was given for {classes or 'no'} classes. A specificity is of two classes, "
            "or of multi-label targets. Leave it out."
        )
    metric = sensitivity_at(specificity, 1 if task.is_exclusive else None)
    value, interval = float(metric(predictions)[0]), predictions.interval(metric)
    return {
        "at_specificity": specificity,
        metric.name: None if np.isnan(value) else value,
        f"{metric.name}_interval": interval,
    }


def predict(
    run_or_model: Run | keras.Model | str | os.PathLike,
    image_paths: str | os.PathLike | Iterable[str | os.PathLike],
    top: int = 5,
    task: str | None = None,
    on_bad_image: str = "error",
    views: str = "none",
) -> list[dict[str, Any]]:
    """Reads image files, or arrays of signals and volumes, and returns their most probable classes.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`, as for `evaluate`.
        image_paths: image files, and `.npy` or `.npz` with one example or several along the first axis, in the units of
            the training data; or one such path. Of a folder every such file in it, folders within included.
        top: classes to return for each image, the most probable first; at most as many as there are.
        task: as for `evaluate`.
        on_bad_image: "error" stops at a file that cannot be read; "skip" goes on, with the reason instead of an answer.
        views: as for `evaluate`.

    Returns:
        For each image `{"image": path, "classes": [{"name", "index", "probability"}, ...]}`; for a regression
        `{"image": path, "values": [...]}`, and
        `units` where the model knows them; for a file that was skipped `{"image": path, "error": ...}`. Several
        examples of an array are called "path[index]". A model that carries no class names has its indices for names.

    Raises:
        ValueError: a path holds no model, or a file does not hold what the model takes.
    """
    return list(predict_each(run_or_model, image_paths, top, task, on_bad_image, views))


def predict_each(
    run_or_model: Run | keras.Model | str | os.PathLike,
    image_paths: str | os.PathLike | Iterable[str | os.PathLike],
    top: int = 5,
    task: str | None = None,
    on_bad_image: str = "error",
    views: str = "none",
) -> Iterator[dict[str, Any]]:
    """Yields the predictions of `predict` one image after the other; none is kept in memory.

    Args:
        run_or_model: as for `predict`.
        image_paths: as for `predict`.
        top: as for `predict`.
        task: as for `predict`.
        on_bad_image: as for `predict`.
        views: as for `predict`.

    Raises:
        ValueError: as `predict`; of a file when its turn comes.
    """
    check_int("top", top)
    choose("on_bad_image", on_bad_image, BAD_IMAGE_POLICIES)
    paths = example_files([image_paths] if isinstance(image_paths, (str, os.PathLike)) else image_paths)
    predictor = with_views(open_predictor(run_or_model, task), views)
    return _answer_each(predictor, paths, top, on_bad_image == "skip")


def _answer_each(
    predictor: Predictor, paths: list[str | os.PathLike], top: int, skips: bool
) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            for names, examples in read_batches(path, predictor):
                answers = answers_of(predictor, np.asarray(predictor.model.predict_on_batch(examples)), top)
                for name, answer in zip(names, answers, strict=True):
                    yield {"image": name, **answer}
        except BadValue as error:
            if not skips:
                raise
            yield {"image": os.fspath(path), "error": str(error)}


def answers_of(predictor: Predictor, outputs: np.ndarray, top: int) -> list[dict[str, Any]]:
    """Returns the answer for each picture: `{"classes": [...]}` as `predict`, or `{"values": [...]}`."""
    predictions, record = predictor.read(outputs), predictor.record
    answers = predictor.task.answers(predictions, top, record.units)
    if record.set_threshold is None or not predictor.task.has_classes:
        return answers
    inside = predictions.probabilities >= record.set_threshold
    sets = [[name for name, is_in in zip(predictions.class_names, row, strict=True) if is_in] for row in inside]
    return [{**answer, "set": each, "coverage": record.coverage} for answer, each in zip(answers, sets, strict=True)]


ROUNDS = 5
SECONDS = 0.4  # of a round


def throughput(run_or_model: Any, *, batch_sizes: tuple[int, ...] = (1, 8, 64)) -> dict[int, float]:
    """Returns examples a second for batches of several sizes, on images of noise.

    Median of five rounds of at least 0.4 s, compiled, after a first call that is not counted; images are on the
    device already. Decoding and resizing are not part of it.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`, whose input size is known.
        batch_sizes: examples at a time.

    Raises:
        TypeError, ValueError: a path holds no model, or a size is not positive.
    """
    import tensorflow as tf

    model = open_predictor(run_or_model).model
    call = tf.function(lambda images: model(images, training=False), reduce_retracing=False)
    rates = {}
    for size in batch_sizes:
        check_int("batch_sizes", size)
        noise = np.random.default_rng(0).uniform(0, 255, (size, *model.input_shape[1:]))
        images = tf.constant(noise, "float32")
        call(images)
        rates[size] = size * statistics.median(_rate(call, images) for _ in range(ROUNDS))
    return rates


def _rate(call: Any, images: Any) -> float:
    """Returns calls a second over a round."""
    calls, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < SECONDS or not calls:
        np.asarray(call(images))
        calls += 1
    return calls / spent
