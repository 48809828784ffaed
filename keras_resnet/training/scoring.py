"""A model's outputs on every example of a split, and their scores."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_resnet.data import Dataset, sizing
from keras_resnet.data.examples.shards import rows_of_part
from keras_resnet.distribution import Group
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import InputRecord
from keras_resnet.tasks import MULTILABEL, TASKS, multilabel


def score(
    model: keras.Model,
    dataset: Dataset,
    split: str,
    record: InputRecord,
    batch_size: int,
    group: Group | None = None,
) -> dict[str, Any]:
    """Scores a model on every example of a split, each counted once, or by its weight where examples have weights.

    Args:
        model: takes images as the dataset has them; a classifier may end in logits or in probabilities.
        dataset: labeled for the task of the model.
        split: "train", "validation" or "test".
        record: of the model; images are cut and resized, and outputs read by it.
        batch_size: examples at a time.
        group: processes that score together, each a part, with the same model; None for one alone.

    Returns:
        The figures of the model's task, such as `evaluation.scores.classification`.
    """
    if group is None:
        outputs, labels = outputs_and_labels(model, dataset, split, record, batch_size)
    else:
        outputs, labels = _divided(model, dataset, split, record, batch_size, group)
    task = TASKS[record.task or dataset.task]
    read, weights = task.read(model, outputs, record.activation), dataset.weights_of(split)
    return task.score(read, labels, dataset.class_names, record.thresholds, weights)


def choose_thresholds(
    model: keras.Model, dataset: Dataset, record: InputRecord, batch_size: int, group: Group | None = None
) -> tuple[float, ...]:
    """Returns the threshold of each class of multi-label targets, by which F1 is highest on the validation split.

    Args:
        model: as for `score`.
        dataset: with a validation split.
        record: as for `score`.
        batch_size: as for `score`.
        group: as for `score`.
    """
    predict = outputs_and_labels if group is None else partial(_divided, group=group)
    outputs, labels = predict(model, dataset, "validation", record, batch_size)
    read = MULTILABEL.read(model, outputs, record.activation)
    return multilabel.choose_thresholds(read, labels, dataset.weights_of("validation"))


def outputs_and_labels(
    model: keras.Model, dataset: Dataset, split: str, record: InputRecord, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a model's outputs and the labels of every example of a split.

    Args:
        model: as for `score`.
        dataset: as for `score`.
        split: as for `score`, or "all".
        record: as for `score`.
        batch_size: as for `score`.
    """
    return predict_all(model, dataset.batches(split, batch_size, **sizing(record, dataset.image_shape)))


def _divided(
    model: keras.Model, dataset: Dataset, split: str, record: InputRecord, batch_size: int, group: Group
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `outputs_and_labels` does, in every process, of which each makes a part."""
    shard = (group.index, group.count)
    mine = predict_all(model, dataset.batches(split, batch_size, shard=shard, **sizing(record, dataset.image_shape)))
    rows = [group.gather(values) for values in mine]
    places = [rows_of_part(dataset.sizes[split], batch_size, index, group.count) for index in range(group.count)]
    # Rows that fill a part up repeat an example: the first of them counts.
    _, first = np.unique(np.concatenate(places), return_index=True)
    return rows[0][first], rows[1][first]


def predict_all(model: keras.Model, batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns a model's outputs and the labels for every example of finite batches, each once and in order.

    Args:
        model: takes images as the batches hold them.
        batches: `(images, labels)`, with weights or without, such as `dataset.batches("test", 64)`.

    Returns:
        `(outputs, labels)`: float32 `(examples, outputs)`, and the labels as they come.

    Raises:
        ValueError: there is no example.
    """
    outputs, labels = [], []
    size = 0
    for images, batch_labels, *_ in batches:
        images, batch_labels = np.asarray(images), np.asarray(batch_labels)
        examples = len(images)
        size = size or examples
        if examples < size:
            # A smaller last batch is filled up and cut again: one shape means one compiled function.
            images = np.concatenate([images, np.repeat(images[:1], size - examples, axis=0)])
        outputs.append(np.asarray(model.predict_on_batch(images))[:examples].astype("float32"))
        labels.append(batch_labels)
    if not outputs:
        raise BadValue("batches holds no example. A score needs at least one. Choose another split.")
    return np.concatenate(outputs), np.concatenate(labels)
