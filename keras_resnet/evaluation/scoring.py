"""Scores of a trained model on a data set, and the classes of image files."""

import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import scores
from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.trained import Trained, dataset_of, open_trained
from keras_resnet.preprocessing.outputs import softmax
from keras_resnet.training import Run


def evaluate(
    run_or_model: Run | keras.Model | str | os.PathLike,
    data: str | datasets.Dataset | None = None,
    *,
    data_dir: str | os.PathLike | None = None,
    split: str = "test",
    batch_size: int = 64,
    task: str | None = None,
) -> dict[str, Any]:
    """Scores a trained model; every example is counted once.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`, which may end in logits or in
            probabilities.
        data: a spec such as "digits" or "folder:photos", or a loaded dataset. None for the data of the run.
        data_dir: where TFDS finds its prepared data sets.
        split: "train", "validation" or "test".
        batch_size: examples at a time; it does not change the scores.
        task: "classification" or "regression", for a model that carries no record of it.

    Returns:
        For a classifier `examples`, `loss` (cross-entropy, nats), `accuracy`, `top5` (more than 5 classes),
        `expected_calibration_error`, all in [0, 1] but the loss; `per_class` and `confusion`. For a regression
        `examples`, `mse`, `mae` and `r2`.

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
    trained = open_trained(run_or_model, task)
    dataset = dataset_of(trained, data, data_dir)
    if task is None and "task" in trained.record.assumed:
        trained = trained.for_task(dataset.task)  # what the labels are for
    return scores.score(trained.model, dataset, split, trained.record, batch_size)


def predict(
    run_or_model: Run | keras.Model | str | os.PathLike,
    image_paths: str | os.PathLike | Iterable[str | os.PathLike],
    top: int = 5,
    task: str | None = None,
) -> list[dict[str, Any]]:
    """Reads image files and returns their most probable classes.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`, as for `evaluate`.
        image_paths: image files, or one.
        top: classes to return for each image, the most probable first; at most as many as there are.
        task: as for `evaluate`.

    Returns:
        For each image `{"image": path, "classes": [{"name", "index", "probability"}, ...]}`; for a regression
        `{"image": path, "values": [...]}`. A model that carries no class names has its indices for names.

    Raises:
        ValueError: a path holds no model, a file is no image, or the model takes neither 1 nor 3 channels.
    """
    check_int("top", top)
    paths = [image_paths] if isinstance(image_paths, (str, os.PathLike)) else list(image_paths)
    trained = open_trained(run_or_model, task)
    record = trained.record
    channels = trained.model.input_shape[-1]
    if record.channel_order == "any":
        raise BadValue(
            f"The model takes {channels} channels. Image files are read with 3 channels, or with 1 as grey. "
            "Call the model on your own array."
        )
    images = [datasets.read_for_network(path, record) for path in paths]
    outputs = np.concatenate([trained.model.predict_on_batch(image[None]) for image in images])
    answers = answers_of(trained, outputs, top)
    return [{"image": os.fspath(path), **answer} for path, answer in zip(paths, answers, strict=True)]


def answers_of(trained: Trained, outputs: np.ndarray, top: int) -> list[dict[str, Any]]:
    """Returns what outputs say of each picture: `{"classes": [...]}` as `predict`, or `{"values": [...]}`.

    Args:
        trained: whose outputs they are.
        outputs: `(pictures, outputs)`.
        top: classes for each.
    """
    if trained.is_regression:
        return [{"values": [float(value) for value in row]} for row in outputs]
    probabilities = softmax(trained.class_scores(outputs))
    names = trained.record.names_for(probabilities.shape[1])
    return [{"classes": _best(row, names, top)} for row in probabilities]


def _best(probabilities: np.ndarray, names: tuple[str, ...], top: int) -> list[dict[str, Any]]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [{"name": names[i], "index": int(i), "probability": float(probabilities[i])} for i in order]
