"""Evaluation batches of which each of several processes makes an equal part."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_resnet.data.examples.plan import Plan
from keras_resnet.data.examples.protocol import Examples
from keras_resnet.data.examples.streamed import StreamedExamples


def finite_part(examples: Examples, plan: Plan, index: int, count: int) -> tf.data.Dataset:
    """Returns the part of one process of every batch, in order.

    Where a batch cannot be divided, its last example fills the last parts up: of the parts together, the first rows
    are the batch.

    Args:
        examples: a split.
        plan: whose batches are divided.
        index: of the process, 0-based.
        count: how many there are.
    """
    if count == 1:
        return examples.finite(plan)
    if isinstance(examples, StreamedExamples):
        return examples.finite_part(plan, index, count)
    rows = rows_of_part(len(examples), plan.batch_size, index, count)
    return examples.take(rows).finite(dataclasses.replace(plan, batch_size=-(-plan.batch_size // count)))


def rows_of_part(size: int, batch_size: int, index: int, count: int) -> np.ndarray:
    """Returns the examples that one process takes of batches in order, of each an equal part.

    Args:
        size: examples of the split.
        batch_size: of all processes together.
        index: of the process, 0-based.
        count: how many there are.

    Example:
        >>> from keras_resnet.data.examples.shards import rows_of_part
        >>> rows_of_part(7, 4, 1, 2).tolist()
        [2, 3, 6, 6]
    """
    rows = []
    for first in range(0, size, batch_size):
        last = min(first + batch_size, size)
        part = -(-(last - first) // count)
        rows.append(np.minimum(first + index * part + np.arange(part), last - 1))
    return np.concatenate(rows)
