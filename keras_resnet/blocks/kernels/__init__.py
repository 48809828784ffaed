"""Faster TensorFlow forms of what the layers compute, and PyTorch's own operations; JAX takes Keras's.

Nothing here changes what a layer returns, beyond the order of its float additions, or what it saves. The forms of
TensorFlow are for CPUs: beside a visible GPU only the fused batch norm is used. The environment variable
`KERAS_RESNET_KERNELS=0`, or `use(False)`, leaves Keras's own operations. Compiled functions keep what held when they
were traced, so that the switch is for the start of a program.
"""

import os
from typing import Any

import keras

from keras_resnet.arguments import check_bool, choose

VARIABLE = "KERAS_RESNET_KERNELS"
_SWITCH: dict[str, bool] = {}


def enabled() -> bool:
    """Returns whether layers that are called from now on use the faster forms."""
    return keras.backend.backend() == "tensorflow" and _is_on()


def _is_on() -> bool:
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


def on_pytorch() -> bool:
    """Returns whether layers that are called from now on use PyTorch's own operations."""
    return keras.backend.backend() == "torch" and _is_on()


def convolve_on_pytorch(inputs: Any, kernel: Any, bias: Any, strides: int, axis: int) -> Any:
    """Returns the symmetrically padded convolution of `inputs`, as `kernels.pytorch.convolve`."""
    from keras_resnet.blocks.kernels import pytorch

    return pytorch.convolve(inputs, kernel, bias, strides, axis)


def add_bias(inputs: Any, bias: Any) -> Any:
    """Returns channels-last `inputs` plus `bias`, as an operation that TensorFlow fuses with the convolution before."""
    import tensorflow as tf

    return tf.nn.bias_add(inputs, tf.convert_to_tensor(bias))


def normalize(layer: keras.layers.BatchNormalization, inputs: Any, *, training: bool) -> Any:
    """Returns the batch norm of `inputs` as one operation; None for inputs that Keras normalizes."""
    if not (on_pytorch() or enabled()) or not _is_one_operation(layer, inputs):
        return None
    if on_pytorch():
        from keras_resnet.blocks.kernels import pytorch

        return pytorch.normalize(layer, inputs, training=training)
    from keras_resnet.blocks.kernels import convolution

    return convolution.normalize(layer, inputs, training=training)


DTYPES = ("float16", "bfloat16", "float32")


def _is_one_operation(layer: keras.layers.BatchNormalization, inputs: Any) -> bool:
    """Returns whether a batch norm is plain: with scale and offset, on one device, in the dtype of its inputs."""
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    is_renormalized = getattr(layer, "renorm", False)  # Keras has it since 3.12
    return (
        dtype in DTYPES
        and layer.compute_dtype == dtype
        and inputs.shape[0] != 0
        and layer.gamma is not None
        and layer.beta is not None
        and not layer.synchronized
        and not is_renormalized
    )
