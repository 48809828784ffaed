"""Scores of a trained model on a data set, and the classes of image files."""

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet.arguments import check_int, choose
from keras_resnet.data.options import BAD_IMAGE_POLICIES
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.examples import example_files, read_batches
from keras_resnet.evaluation.intervals import detailed_scores
from keras_resnet.evaluation.trained import Trained, dataset_of, match_labels, open_trained, with_views
from keras_resnet.training import Run
from keras_resnet.training.scoring import outputs_and_labels

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
        intervals: of a classifier add the figures of `detailed_scores`, each with its 95 % bootstrap interval; whole
            groups are drawn where the data have them.
        views: of each example whose answers are averaged (test-time augmentation), as for `average_models`.

    Returns:
        `split`, what was scored; for a classifier `examples`, `loss` (cross-entropy, nats), `accuracy`, `top5` (more
        than 5 classes), `expected_calibration_error`, all in [0, 1] but the loss; `per_class` and `confusion`. For
        multi-label targets those of `tasks.multilabel.score`. For a
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
    trained = with_views(open_trained(run_or_model, task), views)
    dataset, split = dataset_of(trained, data, data_dir, split, on_bad_image)
    if task is None and "task" in trained.record.assumed:
        trained = trained.for_task(dataset.task)  # what the labels are for
    outputs, labels = outputs_and_labels(trained.model, dataset, split, trained.record, batch_size)
    names: tuple[str, ...] = ()
    if trained.task.has_classes:
        labels, names = match_labels(trained, dataset, labels)
    weights = dataset.weights_of(split)
    found = trained.task.score(trained.read(outputs), labels, names, trained.record.thresholds, weights)
    missing = [row["name"] for row in found.get("per_class", ()) if not row["support"]]
    if missing:
        LOGGER.warning("data=%r has no examples of the classes %s in the split %r.", dataset.spec, missing, split)
    if intervals:
        if trained.task.probabilities is None:
            raise BadValue(f"intervals=True was given for a {trained.task}. It is for classifiers. Leave it out.")
        probabilities = trained.task.probabilities(trained.read(outputs))
        groups, cuts = dataset.groups_of(split), trained.record.thresholds
        more = detailed_scores(probabilities, labels, names, groups, thresholds=cuts, weights=weights)
        if trained.run is not None and trained.run.recipe.loss.name != "ordinal":
            # Figures of grades, which say nothing of classes without an order.
            more = {name: value for name, value in more.items() if not name.startswith(("quadratic_", "mean_dist"))}
        rows = [{**row, **told} for row, told in zip(found["per_class"], more["per_class"], strict=True)]
        found = {**found, **more, "per_class": rows}
    return {"split": split, **found}


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
        on_bad_image: "error" stops at a file that cannot be read; "skip" goes on, with what is wrong in its place.
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
    """Returns what `predict` does, one image after the other, however many there are: none is held longer.

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
    trained = with_views(open_trained(run_or_model, task), views)
    return _answer_each(trained, paths, top, on_bad_image == "skip")


def _answer_each(trained: Trained, paths: list[str | os.PathLike], top: int, skips: bool) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            for names, examples in read_batches(path, trained):
                answers = answers_of(trained, np.asarray(trained.model.predict_on_batch(examples)), top)
                for name, answer in zip(names, answers, strict=True):
                    yield {"image": name, **answer}
        except BadValue as error:
            if not skips:
                raise
            yield {"image": os.fspath(path), "error": str(error)}


def answers_of(trained: Trained, outputs: np.ndarray, top: int) -> list[dict[str, Any]]:
    """Returns what outputs say of each picture: `{"classes": [...]}` as `predict`, or `{"values": [...]}`.

    Args:
        trained: whose outputs they are.
        outputs: `(pictures, outputs)`.
        top: classes for each.
    """
    read = trained.read(outputs)
    record = trained.record
    names = record.names_for(read.shape[1])
    found = trained.task.answers(read, names, record.units, top, record.thresholds)
    if record.set_threshold is None or trained.task.probabilities is None:
        return found
    inside = trained.task.probabilities(read) >= record.set_threshold
    return [
        {**answer, "set": [names[index] for index in np.flatnonzero(row)], "coverage": record.coverage}
        for answer, row in zip(found, inside, strict=True)
    ]
