"""Faster TensorFlow forms of what the layers compute; JAX and PyTorch fall through to Keras's own.

Nothing here changes what a layer returns, beyond the order of its float additions, or what it saves. The forms are for
CPUs: beside a visible GPU only the fused batch norm is used. The environment variable `KERAS_RESNET_KERNELS=0`, or
`use(False)`, leaves Keras's own operations. Compiled functions keep what held when they were traced, so that the
switch is for the start of a program.
"""

import os
from typing import Any

import keras

from keras_resnet.arguments import check_bool, choose

VARIABLE = "KERAS_RESNET_KERNELS"
_SWITCH: dict[str, bool] = {}


def enabled() -> bool:
    """Returns whether layers that are called from now on use the faster forms."""
    if keras.backend.backend() != "tensorflow":
        return False
    if "on" not in _SWITCH:
        _SWITCH["on"] = choose(VARIABLE, os.environ.get(VARIABLE, "1"), {"0": False, "1": True})
    return _SWITCH["on"]


def use(on: bool) -> None:
    """Turns the faster forms on or off for layers that are called, or functions that are traced, from now on.

    Example:
        >>> from keras_resnet.blocks import kernels
        >>> kernels.use(False)
        >>> kernels.enabled()
        False
        >>> kernels.use(True)
    """
    _SWITCH["on"] = check_bool("on", on)


def convolve(inputs: Any, kernel: Any, strides: int, *, training: bool) -> Any:
    """Returns the symmetrically padded convolution of channels-last `inputs`, as `kernels.convolution.convolve`."""
    from keras_resnet.blocks.kernels import convolution

    return convolution.convolve(inputs, kernel, strides, training=training)


def add_bias(inputs: Any, bias: Any) -> Any:
    """Returns channels-last `inputs` plus `bias`, as an operation that TensorFlow fuses with the convolution before."""
    import tensorflow as tf

    return tf.nn.bias_add(inputs, tf.convert_to_tensor(bias))


def normalize(layer: keras.layers.BatchNormalization, inputs: Any, *, training: bool) -> Any:
    """Returns the batch norm of `inputs`, as `kernels.normalization.normalize`; None where it has no form for them."""
    from keras_resnet.blocks.kernels import convolution

    return convolution.normalize(layer, inputs, training=training)
