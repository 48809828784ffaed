"""Batch normalization by TensorFlow's fused operation."""

from typing import Any

import keras
import tensorflow as tf

DTYPES = ("float16", "bfloat16", "float32")


def normalize(layer: keras.layers.BatchNormalization, inputs: Any, *, training: bool) -> Any:
    """Returns the batch norm of `inputs` and moves the layer's averages, as Keras's layer does.

    16-bit inputs are read and written in 16 bits; the statistics are computed in float32.

    Args:
        layer: built; its gamma, beta, moving averages, epsilon and momentum are used.
        inputs: `(batch, *space, channels)` with up to three axes of space.
        training: whether the statistics of the batch are used. A layer that is not trainable uses its averages.

    Returns:
        A tensor like `inputs`; None where the fused operation does not fit: float64, an empty batch, channels that
        do not come last, a layer without gamma or beta, synchronized statistics.
    """
    inputs = tf.convert_to_tensor(inputs)
    rank = len(inputs.shape)
    if (
        inputs.dtype.name not in DTYPES
        or layer.compute_dtype != inputs.dtype.name
        or layer.axis not in (-1, rank - 1)
        or inputs.shape[0] == 0
        or layer.gamma is None
        or layer.beta is None
        or layer.synchronized
        or getattr(layer, "renorm", False)  # Keras has it since 3.12
    ):
        return None
    gamma, beta, mean, variance = (
        tf.convert_to_tensor(weight) for weight in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    if gamma.dtype != tf.float32:
        return None
    # Two axes of space, as the operation wants them; joining axes moves no data.
    shape = tf.shape(inputs)
    pixels = tf.reshape(inputs, [shape[0], -1, 1, inputs.shape[-1]]) if rank != 4 else inputs
    if not (training and layer.trainable):
        outputs, *_ = tf.raw_ops.FusedBatchNormV3(
            x=pixels, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=layer.epsilon, is_training=False
        )
        return tf.reshape(outputs, shape) if rank != 4 else outputs
    outputs, batch_mean, batch_variance = _of_the_batch(pixels, gamma, beta, layer.epsilon)
    layer.moving_mean.assign(mean * layer.momentum + batch_mean * (1.0 - layer.momentum))
    layer.moving_variance.assign(variance * layer.momentum + batch_variance * (1.0 - layer.momentum))
    return tf.reshape(outputs, shape) if rank != 4 else outputs


def _of_the_batch(pixels: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Returns the outputs and the statistics of the batch."""
    nothing = tf.zeros([0])
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=pixels, scale=gamma, offset=beta, mean=nothing, variance=nothing, epsilon=epsilon, is_training=True
    )
    # The operation divides the squares by one less than their count; Keras divides by their count.
    count = tf.cast(tf.size(pixels) // tf.shape(pixels)[-1], tf.float32)
    return outputs, mean, variance * ((count - 1.0) / count)
