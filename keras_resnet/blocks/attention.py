"""Attention over channels: each is scaled by what the whole feature map holds. A row of `ATTENTION` adds one."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_resnet.arguments import check_fraction, check_int
from keras_resnet.blocks.convolution import (
    CallLayer,
    Composite,
    channel_axis,
    check_data_format,
    check_rank,
    reseed,
    spatial_axes,
)
from keras_resnet.errors import BadValue


class ChannelAttention(Composite):
    """Scales every channel by a gate in (0, 1), which a subclass computes from the channel means.

    Args:
        kernel_initializer: any Keras initializer, or its name.
        kernel_regularizer: any Keras regularizer, its name, or None.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.
    """

    label = ""  # in drawings

    def __init__(
        self,
        *,
        kernel_initializer: Any = "he_normal",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.data_format = check_data_format(data_format)

    def gates(self, means: Any, call_layer: CallLayer) -> Any:
        """Returns the gates `(batch, channels)` for means of the same shape."""
        raise NotImplementedError

    def compute(self, inputs: Any, training: bool | None, call_layer: CallLayer) -> Any:
        """Returns `inputs` scaled channel by channel."""
        axes = spatial_axes(len(inputs.shape), self.data_format)
        # Keras takes the mean of 16-bit numbers in float32: their sum over a large map would leave float16's range.
        gates = self.gates(keras.ops.mean(inputs, axis=axes), call_layer)
        for axis in axes:
            gates = keras.ops.expand_dims(gates, axis)
        return inputs * gates

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns `input_shape`."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_resnet")
class SqueezeExcite(ChannelAttention):
    """Scales every channel by a gate in (0, 1) computed from the channel means.

    Args:
        ratio: width of the gate's hidden layer as a fraction of the channels, in (0, 1]; the width is rounded to a
            multiple of 8, at least 8, as timm does, so that published weights fit.
        kernel_initializer: any Keras initializer, or its name, for both dense layers.
        kernel_regularizer: any Keras regularizer, its name, or None, for both kernels.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, *space, channels)` with one to three axes of space; channels second under "channels_first".

    Output shape:
        That of the input.

    Raises:
        TypeError, ValueError: `ratio` is not in (0, 1], or the input's rank is not 1 to 3.

    Source:
        Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3; ratio 1/16 is its default.
    """

    label = "squeeze-excite"

    def __init__(self, ratio: float = 1 / 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ratio = check_fraction("ratio", ratio, one_included=True, zero_included=False)

    def build(self, input_shape: tuple) -> None:
        """Creates the two dense layers `reduce` and `expand`."""
        check_rank(self, input_shape)
        channels = input_shape[channel_axis(self.data_format)]
        hidden = max(8, int(channels * self.ratio + 4) // 8 * 8)
        self.reduce = self._dense("reduce", hidden, "relu")
        self.expand = self._dense("expand", channels, "sigmoid")
        self.reduce.build((input_shape[0], channels))
        self.expand.build((input_shape[0], hidden))

    def _dense(self, name: str, units: int, activation: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=reseed(self.kernel_initializer, name),
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name=name,
        )

    def sublayers(self) -> list[keras.layers.Layer]:
        """Returns the layers inside, in the order of the computation."""
        return [self.reduce, self.expand]

    def gates(self, means: Any, call_layer: CallLayer) -> Any:
        """Returns the gates of two dense layers."""
        return call_layer(self.expand, call_layer(self.reduce, means))

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "ratio": self.ratio}


@keras.saving.register_keras_serializable(package="keras_resnet")
class EfficientChannelAttention(ChannelAttention):
    """Scales every channel by a gate in (0, 1) computed from the means of its neighbors in the order of the channels.

    Args:
        kernel_size: neighbors that are looked at, odd; None for the paper's size, which grows with the logarithm of the
            channels: 3 for 64, 5 for 256, 7 for 2048.
        kernel_initializer: any Keras initializer, or its name.
        kernel_regularizer: any Keras regularizer, its name, or None.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, *space, channels)` with one to three axes of space; channels second under "channels_first".

    Output shape:
        That of the input.

    Raises:
        TypeError, ValueError: `kernel_size` is even, or the input's rank is not 1 to 3.

    Source:
        Wang et al. 2020, "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", section 3.2.
    """

    label = "efficient channel attention"

    def __init__(self, kernel_size: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kernel_size is not None and check_int("kernel_size", kernel_size) % 2 == 0:
            raise BadValue(f"kernel_size={kernel_size} is even. Allowed are odd sizes, centered on a channel. Use one.")
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple) -> None:
        """Creates the convolution `conv` along the channels."""
        check_rank(self, input_shape)
        channels = input_shape[channel_axis(self.data_format)]
        size = self.kernel_size
        if size is None:
            size = int(abs(math.log2(channels) + 1) / 2)
            size = size if size % 2 else size + 1
        self.conv = keras.layers.Conv1D(
            1,
            size,
            padding="same",
            use_bias=False,
            activation="sigmoid",
            data_format="channels_last",
            kernel_initializer=reseed(self.kernel_initializer, "conv"),
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build((input_shape[0], channels, 1))

    def sublayers(self) -> list[keras.layers.Layer]:
        """Returns the layer inside."""
        return [self.conv]

    def gates(self, means: Any, call_layer: CallLayer) -> Any:
        """Returns the gates of a convolution along the channels."""
        return keras.ops.squeeze(call_layer(self.conv, keras.ops.expand_dims(means, -1)), -1)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "kernel_size": self.kernel_size}


@dataclasses.dataclass(frozen=True)
class Attention:
    """A kind of attention that a block can end its branch with.

    Attributes:
        build: makes the layer, with the arguments that `SqueezeExcite` and `EfficientChannelAttention` share.
        timm_names: name of a layer inside -> its name below `se.` in timm's files.
    """

    build: Callable[..., Composite]
    timm_names: Mapping[str, str]


_SE_NAMES = {"reduce": "fc1", "expand": "fc2"}
ATTENTION: dict[str | None, Attention | None] = {
    None: None,
    "se": Attention(SqueezeExcite, _SE_NAMES),  # the ratio of Hu et al. 2018
    # The ratio of Bello et al. 2021 (ResNet-RS).
    "se_quarter": Attention(functools.partial(SqueezeExcite, 0.25), _SE_NAMES),
    "eca": Attention(EfficientChannelAttention, {"conv": "conv"}),
}
