"""What stands beside a block's branch: a projection, or the input at a coarser step."""

from typing import Any

import keras

from keras_resnet.arguments import check_bool, check_int, choose
from keras_resnet.blocks.convolution import (
    CallLayer,
    Composite,
    Convolution,
    batch_norm,
    channel_axis,
    check_data_format,
    check_rank,
    hand_down_trainable,
    reseed,
    strided_shape,
)
from keras_resnet.blocks.quantization import FakeQuantization, QuantizedConvolution
from keras_resnet.errors import BadValue

MAX_POOLING = {1: keras.layers.MaxPooling1D, 2: keras.layers.MaxPooling2D, 3: keras.layers.MaxPooling3D}
AVERAGE_POOLING = {
    1: keras.layers.AveragePooling1D,
    2: keras.layers.AveragePooling2D,
    3: keras.layers.AveragePooling3D,
}


def pooling_policy(rank: int, policy: Any) -> Any:
    """Returns the policy of a pooling layer: float32 where TensorFlow cannot pool volumes in the block's dtype.

    It has no float16 pooling of volumes on a CPU, and none in float64 anywhere (TensorFlow 2.21).
    """
    if rank < 3 or keras.config.backend() != "tensorflow":
        return policy
    if policy.compute_dtype == "float64":
        raise BadValue(
            "dtype='float64' was given for volumes that are pooled, which TensorFlow cannot do in float64. Allowed are "
            "float32 and 16-bit policies; a stem 'small' with shortcuts 'conv' pools nothing. Use one of these."
        )
    return "float32" if policy.compute_dtype == "float16" else policy


SHORTCUTS = {
    # How a shortcut comes to the shape of the branch: pooling before, stride of the 1x1 convolution.
    "conv": "a 1x1 convolution that steps",
    "pool": "average pooling, then a 1x1 convolution (He et al. 2019, figure 2c)",
    "subsample": "every stride-th pixel, without parameters; the branch must keep the channels",
    "pad": "every stride-th pixel, and zeros for new channels, without parameters (He et al. 2015, option A)",
}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Shortcut(Composite):
    """Brings a block's input to the shape of its branch.

    Args:
        filters: output channels, >= 1.
        strides: step in pixels along every axis, >= 1.
        kind: "conv", a 1x1 convolution that steps; "pool", average pooling and then a 1x1 convolution, which loses
            no pixel (ResNet-D); "subsample", every `strides`-th pixel, without parameters; "pad", the same, with zeros
            for the channels that are new.
        norm_epsilon: epsilon of the norm behind the convolution; None for no norm.
        use_bias: whether the convolution has a bias.
        kernel_initializer: any Keras initializer, or its name.
        kernel_regularizer: any Keras regularizer, its name, or None.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        quantized: rounds the kernel and what the convolution returns to 8 bits, in training too.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, *space, channels)` with one to three axes of space; channels second under "channels_first".

    Output shape:
        Each size n becomes `ceil(n / strides)`, channels become `filters`.

    Raises:
        TypeError, ValueError: an argument is out of its range, or "subsample" meets other channels than `filters`.

    Source:
        He et al. 2015, section 3.3 (options A and B); He et al. 2019, "Bag of Tricks", figure 2c.
    """

    def __init__(
        self,
        filters: int,
        *,
        strides: int = 1,
        kind: str = "conv",
        norm_epsilon: float | None = 1e-5,
        use_bias: bool = False,
        kernel_initializer: Any = "he_normal",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        quantized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = check_int("filters", filters)
        self.strides = check_int("strides", strides)
        choose("kind", kind, SHORTCUTS)
        self.kind = kind
        self.norm_epsilon = norm_epsilon
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.data_format = check_data_format(data_format)
        self.quantized = check_bool("quantized", quantized)

    def build(self, input_shape: tuple) -> None:
        """Creates the pooling, the convolution and the norm that the kind asks for."""
        rank = check_rank(self, input_shape)
        self.pool = self.conv = self.norm = self.range = None
        pooled_shape = tuple(input_shape)
        if self.kind != "conv" and self.strides > 1:
            # A maximum over a window of one pixel is that pixel: pooling serves as the strided slice.
            window, padding, table = (self.strides, "same", AVERAGE_POOLING)
            if self.kind in ("subsample", "pad"):
                window, padding, table = (1, "valid", MAX_POOLING)
            self.pool = table[rank](
                window,
                strides=self.strides,
                padding=padding,
                data_format=self.data_format,
                dtype=pooling_policy(rank, self.dtype_policy),
                name="pool",
            )
            self.pool.build(input_shape)
            pooled_shape = self.pool.compute_output_shape(pooled_shape)
        if self.kind in ("subsample", "pad"):
            channels = pooled_shape[channel_axis(self.data_format)]
            self._new_channels = self.filters - channels
            if self._new_channels and (self.kind == "subsample" or self._new_channels < 0):
                raise BadValue(
                    f"kind={self.kind!r} received {channels} channels for filters={self.filters}. It has no "
                    "parameters: 'subsample' must keep the channels, 'pad' can only add some. Use kind='conv' or "
                    "'pool' where they change."
                )
            return
        kind = QuantizedConvolution if self.quantized else Convolution
        self.conv = kind(
            self.filters,
            1,
            strides=1 if self.pool else self.strides,
            use_bias=self.use_bias,
            kernel_initializer=reseed(self.kernel_initializer, "conv"),
            kernel_regularizer=self.kernel_regularizer,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build(pooled_shape)
        if self.norm_epsilon is not None:
            self.norm = batch_norm(
                "norm", epsilon=self.norm_epsilon, data_format=self.data_format, dtype=self.dtype_policy
            )
            self.norm.build(self.conv.compute_output_shape(pooled_shape))
        if self.quantized:
            self.range = FakeQuantization(name="range", dtype=self.dtype_policy)
            self.range.build(self.conv.compute_output_shape(pooled_shape))
        hand_down_trainable(self)

    def sublayers(self) -> list[keras.layers.Layer]:
        """Returns the layers inside, in the order of the computation."""
        return [layer for layer in (self.pool, self.conv, self.norm, self.range) if layer is not None]

    def compute(self, inputs: Any, training: bool | None, call_layer: CallLayer) -> Any:
        """Returns `inputs` in the shape of the branch."""
        x = keras.ops.cast(call_layer(self.pool, inputs), self.compute_dtype) if self.pool else inputs
        if self.kind == "pad" and self._new_channels:
            axis = channel_axis(self.data_format) % len(x.shape)
            x = keras.ops.pad(x, [(0, self._new_channels * (place == axis)) for place in range(len(x.shape))])
        x = call_layer(self.conv, x) if self.conv else x
        for layer in (self.norm, self.range):
            x = call_layer(layer, x, training=training) if layer else x
        return x

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of `call`'s result for a batched `input_shape`."""
        return strided_shape(input_shape, self.strides, self.filters, self.data_format)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "kind": self.kind,
            "norm_epsilon": self.norm_epsilon,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "data_format": self.data_format,
            "quantized": self.quantized,
        }
