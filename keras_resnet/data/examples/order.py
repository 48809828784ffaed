"""Where every example goes: a pure function of (seed, epoch), computed position by position."""

from typing import Any

import tensorflow as tf

from keras_resnet.preprocessing.streams import derived_seed


def shuffled(positions: Any, epoch: Any, seed: int, size: int) -> Any:
    """Returns the examples at `positions` of an epoch's order.

    The order is a permutation computed by a block cipher, so that any position is found at once and nothing of the
    length of the dataset is kept.

    Args:
        positions: int64 tensor, values in [0, size).
        epoch: int64 scalar, >= 0.
        seed: of the run.
        size: number of examples.
    """
    seeds = tf.stack([tf.constant(derived_seed(seed, "order"), tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.index_shuffle(positions, seeds, tf.constant(size - 1, tf.int64))
