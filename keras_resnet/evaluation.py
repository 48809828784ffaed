"""Scores of a trained model on a data set, and the classes of image files."""

import dataclasses
import logging
import os
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import preprocessing
from keras_resnet import scores as scores
from keras_resnet.arguments import check_int
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.outputs import logits_of, softmax
from keras_resnet.models.outputs import predict_all as predict_all
from keras_resnet.preprocessing import InputRecord
from keras_resnet.training import Run

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model, what it takes, and the run that it comes from where there is one.

    Args:
        model: images in [0, 255] to logits, probabilities or numbers.
        record: what it takes.
        run: None for a model alone.
    """

    model: keras.Model
    record: InputRecord
    run: Run | None


def evaluate(
    run_or_model: Run | keras.Model | str | os.PathLike,
    data: str | datasets.Dataset | None = None,
    *,
    data_dir: str | os.PathLike | None = None,
    split: str = "test",
    batch_size: int = 64,
) -> dict[str, Any]:
    """Scores a trained model; every example is counted once.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`. The model takes images in [0, 255];
            it may end in logits or in probabilities.
        data: a spec such as "digits" or "folder:photos", or a loaded dataset. None for the data of the run.
        data_dir: where TFDS finds its prepared data sets.
        split: "train", "validation" or "test".
        batch_size: examples at a time; it does not change the scores.

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
    trained = open_trained(run_or_model)
    dataset = _dataset(trained, data, data_dir)
    _check_agreement(trained, dataset)
    return scores.score(trained.model, dataset, split, trained.record, batch_size)


def predict(
    run_or_model: Run | keras.Model | str | os.PathLike,
    image_paths: str | os.PathLike | Iterable[str | os.PathLike],
    top: int = 5,
) -> list[dict[str, Any]]:
    """Reads image files and returns their most probable classes.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`, as for `evaluate`.
        image_paths: image files, or one.
        top: classes to return for each image, the most probable first; at most as many as there are.

    Returns:
        For each image `{"image": path, "classes": [{"name", "index", "probability"}, ...]}`; for a regression
        `{"image": path, "values": [...]}`. A model that carries no class names has its indices for names.

    Raises:
        ValueError: a path holds no model, a file is no image, or the model takes neither 1 nor 3 channels.
    """
    check_int("top", top)
    paths = [image_paths] if isinstance(image_paths, (str, os.PathLike)) else list(image_paths)
    trained = open_trained(run_or_model)
    record = trained.record
    channels = trained.model.input_shape[-1]
    if record.channel_order == "any":
        raise BadValue(
            f"The model takes {channels} channels. Image files are read with 3 channels, or with 1 as grey. "
            "Call the model on your own array."
        )
    images = [datasets.read_for_network(path, record) for path in paths]
    outputs = np.concatenate([trained.model.predict_on_batch(image[None]) for image in images])
    if not record.class_names and "class_names" not in record.assumed:
        return [
            {"image": os.fspath(path), "values": [float(value) for value in row]}
            for path, row in zip(paths, outputs, strict=True)
        ]
    probabilities = softmax(logits_of(trained.model, outputs))
    names = record.class_names or tuple(str(index) for index in range(probabilities.shape[1]))
    return [
        {"image": os.fspath(path), "classes": _best(row, names, top)}
        for path, row in zip(paths, probabilities, strict=True)
    ]


def load_model(path: str | os.PathLike) -> keras.Model:
    """Returns the model of a run folder or of a `.keras` file.

    Args:
        path: the folder or the file.

    Raises:
        ValueError: there is no model.
    """
    return open_trained(path).model


def open_trained(run_or_model: Any) -> Trained:
    """Returns the model of a run folder, a `.keras` file, a `Run` or a `keras.Model`, with what it takes.

    Args:
        run_or_model: one of these.

    Raises:
        TypeError, ValueError: it is something else, or holds no model.
    """
    if isinstance(run_or_model, keras.Model):
        return _trained(run_or_model)
    if isinstance(run_or_model, Run):
        return Trained(run_or_model.model, run_or_model.record, run_or_model)
    if not isinstance(run_or_model, (str, os.PathLike)):
        raise BadType(
            f"run_or_model must be a path, a Run or a keras.Model, got {type(run_or_model).__name__}. Pass one of them."
        )
    path = pathlib.Path(run_or_model).expanduser()
    if path.is_dir():
        run = Run.load(path)
        return Trained(run.model, run.record, run)
    if not zipfile.is_zipfile(path):
        found = "a file, but not a Keras model" if path.exists() else "not there"
        raise BadValue(
            f"run_or_model={os.fspath(path)!r} is {found}. Allowed are a run folder and a .keras file. "
            "Pass the folder that `train` printed, or a file that `model.save` wrote."
        )
    try:
        model = keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise BadValue(
            f"The file {os.fspath(path)!r} could not be loaded as a Keras model: {error} "
            "Allowed is a whole file that `model.save` wrote, made of layers of Keras and keras_resnet. Save it again."
        ) from error
    return _trained(model)


def _trained(model: keras.Model) -> Trained:
    """Returns a model without a run; what its record lacks is said."""
    record = preprocessing.for_model(model)
    if record.assumed:
        taken = ", ".join(f"{name}={getattr(record, name)!r}" for name in record.assumed)
        LOGGER.warning("The model %r carries no record of what it takes. Defaults were taken: %s.", model.name, taken)
    return Trained(model, record, None)


def _dataset(trained: Trained, data: Any, data_dir: Any) -> datasets.Dataset:
    """Returns the data: a run's own, or other data divided into splits as the run divided its own."""
    if isinstance(data, datasets.Dataset):
        return data
    run = trained.run
    if run is not None:
        if data is None and data_dir is None:
            return run.dataset
        return run.load_data(data, data_dir)
    if data is None:
        raise BadValue("data=None was given with a model that has no run. A run knows its data. Pass a spec as data.")
    return datasets.load(data, data_dir=data_dir)


def _check_agreement(trained: Trained, dataset: datasets.Dataset) -> None:
    """Raises ValueError where the model and the data disagree on classes or channels."""
    num_outputs = trained.model.output_shape[-1]
    is_binary = num_outputs == 1 and dataset.num_outputs == 2
    if num_outputs != dataset.num_outputs and not is_binary:
        raise BadValue(
            f"The model has {num_outputs} outputs, and data={dataset.spec!r} has {dataset.num_outputs} classes. "
            "They must be equal. Evaluate on the data that the model was trained for, or train one with that head."
        )
    channels, given = trained.model.input_shape[-1], dataset.image_shape[-1]
    if channels is not None and channels != given:
        raise BadValue(
            f"The model takes {channels} channels, and data={dataset.spec!r} has {given}. They must be equal. "
            "Evaluate on data with as many channels."
        )
    trained_on = trained.record.class_names
    if trained_on and trained_on != tuple(dataset.class_names):
        raise BadValue(
            f"data={dataset.spec!r} has the classes {list(dataset.class_names)}, and the model was trained on "
            f"{list(trained_on)}. Names and order must be equal. Rename the folders or the classes."
        )


def _best(probabilities: np.ndarray, names: tuple[str, ...], top: int) -> list[dict[str, Any]]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [{"name": names[i], "index": int(i), "probability": float(probabilities[i])} for i in order]
