"""How many examples a second a model takes on this machine."""

import statistics
import time
from typing import Any

import numpy as np

from keras_resnet.arguments import check_int
from keras_resnet.evaluation.trained import open_trained

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

    model = open_trained(run_or_model).model
    call = tf.function(lambda images: model(images, training=False), reduce_retracing=False)
    found = {}
    for size in batch_sizes:
        check_int("batch_sizes", size)
        noise = np.random.default_rng(0).uniform(0, 255, (size, *model.input_shape[1:]))
        images = tf.constant(noise, "float32")
        call(images)
        found[size] = size * statistics.median(_rate(call, images) for _ in range(ROUNDS))
    return found


def _rate(call: Any, images: Any) -> float:
    """Returns calls a second over a round."""
    calls, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < SECONDS or not calls:
        np.asarray(call(images))
        calls += 1
    return calls / spent
