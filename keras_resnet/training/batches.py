"""Batches beside those of training: the validation split with its weights, and images that are made smaller."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import data as datasets
from keras_resnet import preprocessing
from keras_resnet.distribution import Group, evaluation_size
from keras_resnet.preprocessing.batch_transforms import BatchOperation

EVALUATION_BATCH_SIZE = 256


def evaluation_batches(
    dataset: datasets.Dataset,
    record: preprocessing.InputRecord,
    weights: Mapping[int, float] | None,
    group: Group | None,
) -> Any:
    """Returns the batches of the validation split; None if there is no split.

    Args:
        dataset: the data.
        record: what the network takes.
        weights: of each class, by which examples count; None where they count alike.
        group: processes of which each takes a part of every batch; None for one alone. Rows that fill a part up have
            the weight -1, unless the model is told of them (`Group.joins_parts`).
    """
    size = dataset.sizes.get("validation")
    if not size:
        return None
    shard = (0, 1) if group is None else (group.index, group.count)
    sizes = datasets.sizing(record, dataset.image_shape)
    joins = group is not None and group.joins_parts
    most = evaluation_size(size, EVALUATION_BATCH_SIZE, shard[1]) if joins else EVALUATION_BATCH_SIZE
    batches = dataset.batches("validation", most, shard=shard, **sizes)
    if weights is None and (group is None or joins):
        return batches
    table = None
    if weights is not None:
        table = tf.constant([weights[label] for label in range(len(weights))], tf.float32)
    counts = _which_count(size, shard)

    def weighted(step: Any, batch: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        images, labels, *own = batch
        weight = own[0] if own else tf.ones(tf.shape(labels)[:1])
        weight = weight if table is None else tf.gather(table, labels)
        if group is not None and not joins:
            weight = tf.where(counts[step][: tf.shape(labels)[0]], weight, -1.0)
        return images, labels, weight

    return batches.enumerate().map(weighted)


def _which_count(size: int, shard: tuple[int, int]) -> Any:
    """Returns for each row of each of a process's validation batches whether it is one of its own."""
    index, count = shard
    part = -(-EVALUATION_BATCH_SIZE // count)
    found = np.zeros((-(-size // EVALUATION_BATCH_SIZE), part), bool)
    for step in range(len(found)):
        rows = min(EVALUATION_BATCH_SIZE, size - step * EVALUATION_BATCH_SIZE)
        mine = -(-rows // count)
        found[step, :mine] = index * mine + np.arange(mine) < rows
    return tf.constant(found)


def shrink_to(size: tuple[int, int]) -> BatchOperation:
    """Returns what makes the images of a batch smaller, after they were augmented in pixels of the whole picture.

    Args:
        size: `(height, width)`.
    """

    def shrink(images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        images = keras.ops.cast(images, "float32")
        return keras.ops.image.resize(images, size, antialias=True, data_format="channels_last"), labels

    return shrink
