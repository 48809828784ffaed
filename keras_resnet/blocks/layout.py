"""Where channels and space lie in a tensor of rank 3 to 5, for both data formats."""

from typing import Any

import keras

from keras_resnet.arguments import choose
from keras_resnet.errors import BadValue

DATA_FORMATS = {"channels_last": "channels_last", "channels_first": "channels_first"}


def check_data_format(data_format: str | None) -> str:
    """Returns `data_format`, or Keras's default for None.

    Raises:
        ValueError: an unknown name, or "channels_first" on TensorFlow without a GPU, which cannot convolve it.
    """
    if data_format is None:
        data_format = keras.config.image_data_format()
    data_format = choose("data_format", data_format, DATA_FORMATS)
    if data_format == "channels_first" and keras.config.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            raise BadValue(
                "data_format='channels_first' cannot be convolved by TensorFlow on a CPU. "
                "Allowed here is 'channels_last'. Use it, or the JAX or PyTorch backend (KERAS_BACKEND=jax or torch)."
            )
    return data_format


def channel_axis(data_format: str) -> int:
    """Returns the axis of the channels: -1 or 1."""
    return -1 if data_format == "channels_last" else 1


def spatial_axes(num_axes: int, data_format: str) -> tuple[int, ...]:
    """Returns the axes of length, height and width, or depth, height and width of a batched tensor."""
    return tuple(range(1, num_axes - 1)) if data_format == "channels_last" else tuple(range(2, num_axes))


def strided_shape(shape: tuple, strides: int, channels: int, data_format: str) -> tuple:
    """Returns `shape` after a symmetrically padded window with a step: each size n becomes `ceil(n / strides)`."""
    sizes = [
        None if shape[axis] is None else -(-shape[axis] // strides) for axis in spatial_axes(len(shape), data_format)
    ]
    if data_format == "channels_last":
        return (shape[0], *sizes, channels)
    return (shape[0], channels, *sizes)


def pad_space(inputs: Any, width: int, data_format: str, value: float = 0.0) -> Any:
    """Pads `width` times `value` on both sides of every spatial axis, as PyTorch's `padding=width` does with zeros."""
    pads = [(0, 0)] * len(inputs.shape)
    for axis in spatial_axes(len(inputs.shape), data_format):
        pads[axis] = (width, width)
    return keras.ops.pad(inputs, pads, constant_values=value)


def pad_shape(shape: tuple, width: int, data_format: str) -> tuple:
    """Returns the shape that `pad_space` gives a tensor of `shape`."""
    axes = spatial_axes(len(shape), data_format)
    return tuple(size if size is None or axis not in axes else size + 2 * width for axis, size in enumerate(shape))


def check_rank(layer: keras.layers.Layer, input_shape: tuple) -> int:
    """Returns the number of spatial axes, 1 to 3, of a batched `input_shape`.

    Raises:
        ValueError: fewer than 3 or more than 5 axes.
    """
    rank = len(input_shape) - 2
    if rank not in (1, 2, 3):
        raise BadValue(
            f"{type(layer).__name__} {layer.name!r} received an input of shape {tuple(input_shape)}. "
            "Expected 3 to 5 axes: batch, one to three axes of space, and channels. Reshape the input."
        )
    return rank
