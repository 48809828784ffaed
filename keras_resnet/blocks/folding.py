"""Batch norms folded into the convolution before them: the arithmetic, and what layers without their norms need."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_resnet.blocks.convolution import Convolution


def fold(conv: Convolution, norm: keras.layers.BatchNormalization | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel and the bias with which a convolution alone computes `norm(conv(x))` in inference.

    With `scale = gamma / sqrt(moving_variance + epsilon)` they are `kernel * scale`, filter by filter, and
    `beta + (bias - moving_mean) * scale`.

    Args:
        conv: a built convolution, with or without a bias.
        norm: the built norm that follows it; None folds nothing and gives a missing bias as zeros.

    Returns:
        Arrays of float64, `(*window, channels, filters)` and `(filters,)`.

    Source:
        Jacob et al. 2018, "Quantization and Training of Neural Networks", section 3.2.
    """
    kernel = _values(conv.kernel)
    bias = np.zeros(conv.filters) if conv.bias is None else _values(conv.bias)
    if norm is None:
        return kernel, bias
    scale = _values(norm.gamma) / np.sqrt(_values(norm.moving_variance) + norm.epsilon)
    return kernel * scale, _values(norm.beta) + (bias - _values(norm.moving_mean)) * scale


def _values(weight: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(weight)).astype("float64")


def warn_of_training() -> None:
    """Warns that a fused layer was called in training."""
    warnings.warn(
        "A fused layer was called with training=True, and its batch norms, folded into its convolutions, cannot learn. "
        "Fused models are for inference. Train the original model and fuse it again.",
        stacklevel=2,
    )


def hand_down_trainable(layer: keras.layers.Layer) -> None:
    """Freezes the layers inside a frozen layer that was just built.

    Keras does so when `trainable` is set on a built layer, not for a layer made with `trainable=False`, as loading
    makes it. The norms inside would then go on moving their averages in training.
    """
    if not layer.trainable:
        for child in layer.sublayers():  # setting layer.trainable to what it is does nothing on TensorFlow
            child.trainable = False
