"""Rounding to 8 bits inside a network in floats, as integer kernels round: for quantization-aware training."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_bool
from keras_resnet.blocks.convolution import Convolution
from keras_resnet.errors import BadValue

BITS = 8
NARROWEST = 1e-6  # of a range: a tensor of zeros has one too


def check_quantized(quantized: Any, fused: bool) -> bool:
    """Returns `quantized`, which a layer that keeps its norms cannot be."""
    if check_bool("quantized", quantized) and not fused:
        raise BadValue("quantized=True was given with fused=False. Integers hold no norms. Pass fused=True as well.")
    return bool(quantized)


@keras.saving.register_keras_serializable(package="keras_resnet")
class FakeQuantization(keras.layers.Layer):
    """Rounds its input to the 256 levels of a range that holds 0, and leaves it in floats.

    In training the ends of the range follow the smallest and the largest value of each batch, as moving averages; in
    inference they are constants. Before the first batch they are NaN, and so is what it returns in inference. Gradients
    pass unchanged inside the range, and not outside.

    Args:
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Source:
        Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference", section 3.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.blocks import FakeQuantization
        >>> layer = FakeQuantization()
        >>> values = layer(np.array([0.0, 0.3, 255.0], "float32"), training=True)
        >>> [float(value) for value in values]
        [0.0, 0.0, 255.0]
    """

    measuring = False  # the range in inference too
    momentum = 0.99  # weight of the old average

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self, input_shape: tuple) -> None:
        """Creates the ends of the range, not known yet."""
        unknown = keras.initializers.Constant(float("nan"))
        self.low, self.high = (
            self.add_weight(name=name, shape=(), initializer=unknown, dtype="float32", trainable=False)
            for name in ("low", "high")
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns `inputs`, rounded."""
        low, high = self.low, self.high
        if self.measuring or (training and self.trainable):
            values = keras.ops.stop_gradient(keras.ops.cast(inputs, "float32"))
            seen = (keras.ops.minimum(keras.ops.min(values), 0.0), keras.ops.maximum(keras.ops.max(values), NARROWEST))
            low, high = (self._follow(end, value) for end, value in zip((self.low, self.high), seen, strict=True))
        return keras.quantizers.fake_quant_with_min_max_vars(inputs, low, high, num_bits=BITS)

    def scale(self) -> Any:
        """Returns the distance of two levels."""
        return (self.high - self.low) / (2**BITS - 1)

    def _follow(self, end: Any, seen: Any) -> Any:
        average = self.momentum * end + (1 - self.momentum) * seen
        value = keras.ops.where(keras.ops.isnan(end), seen, average)
        end.assign(value)
        return value

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of the input."""
        return tuple(input_shape)


def round_weights(kernel: Any, bias: Any, input_scale: Any, axis: int | None) -> tuple[Any, Any]:
    """Returns the weights of a layer as integer kernels have them, in floats; gradients pass unchanged.

    Args:
        kernel: is rounded to 255 levels around 0.
        bias: is rounded to multiples of the scale of the kernel times that of the inputs, as sums of 32 bits have it.
        input_scale: the distance of two levels of the inputs.
        axis: of the kernel, whose parts have scales of their own; None for one scale.
    """
    ops = keras.ops
    kernel, bias = ops.convert_to_tensor(kernel), ops.convert_to_tensor(bias)
    others = None if axis is None else tuple(range(len(kernel.shape) - 1))
    largest = ops.maximum(ops.stop_gradient(ops.max(ops.abs(kernel), axis=others)), NARROWEST)
    rounded = keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -largest, largest, num_bits=BITS, narrow_range=True, axis=axis
    )
    step = ops.stop_gradient(largest / (2 ** (BITS - 1) - 1) * ops.cast(input_scale, kernel.dtype))
    return rounded, bias + ops.stop_gradient(ops.round(bias / step) * step - bias)


def round_kernel(kernel: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns a kernel as 8-bit integers, and what one level is, as `round_weights` rounds it."""
    others = None if axis is None else tuple(range(kernel.ndim - 1))
    scale = np.maximum(np.abs(kernel).max(axis=others), np.float32(NARROWEST)) / np.float32(2 ** (BITS - 1) - 1)
    return np.rint(kernel / scale).astype("int8"), np.asarray(scale)


@keras.saving.register_keras_serializable(package="keras_resnet")
class QuantizedConvolution(Convolution):
    """A `Convolution` whose kernel is rounded to 8 bits in every call, with a scale for each filter, and its bias."""

    is_plain = True

    def follow(self, inputs: FakeQuantization) -> None:
        """Sets the layer that rounds what is convolved. It is not saved: the block that holds both sets it."""
        self._input_scale = inputs.scale  # the method, which Keras does not take for a layer inside this one

    def call_weights(self) -> tuple[Any, Any]:
        """Returns the kernel and the bias, rounded."""
        return round_weights(self.kernel, self.bias, self._input_scale(), -1)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the convolution of `inputs`; in inference signals are pictures of one row, which converters know."""
        if training or len(inputs.shape) != 3 or self.data_format != "channels_last":
            return super().call(inputs, training=training)
        ops, half = keras.ops, self.kernel_size // 2
        # The kernel first becomes that of pictures and is then rounded: what is rounded enters the convolution itself.
        kernel, bias = round_weights(ops.expand_dims(self.kernel, 0), self.bias, self._input_scale(), -1)
        rows = ops.expand_dims(ops.pad(inputs, [(0, 0), (half, half), (0, 0)]), 1)
        outputs = ops.conv(rows, kernel, strides=(1, self.strides), padding="valid", data_format="channels_last")
        return ops.squeeze(ops.add(outputs, bias), 1)


@keras.saving.register_keras_serializable(package="keras_resnet")
class QuantizedDense(keras.layers.Dense):
    """A `keras.layers.Dense` that rounds its inputs, its weights and, before its activation, its outputs to 8 bits.

    Args:
        units: outputs, >= 1.
        **kwargs: the other arguments of `keras.layers.Dense`, with a bias.

    Input shape:
        `(batch, channels)`.

    Output shape:
        `(batch, units)`.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.input_range = FakeQuantization(name="input_range", dtype=self.dtype_policy)
        self.output_range = FakeQuantization(name="output_range", dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        """Creates the kernel, the bias and the ranges."""
        super().build(input_shape)
        self.input_range.build(input_shape)
        self.output_range.build((*input_shape[:-1], self.units))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the outputs."""
        inputs = self.input_range(inputs, training=training)
        kernel, bias = round_weights(self.kernel, self.bias, self.input_range.scale(), None)
        outputs = keras.ops.add(keras.ops.matmul(inputs, kernel), bias)
        return self.activation(self.output_range(outputs, training=training))


def build_ranges(names: Sequence[str], convolutions: Sequence[Any], policy: Any) -> dict[str, FakeQuantization]:
    """Returns the layers that round what enters a chain of quantized convolutions and what leaves them, built.

    Args:
        names: of what is rounded; the first is what enters the first convolution, and so on.
        convolutions: in the order of the computation.
        policy: the dtype policy.
    """
    ranges = {name: FakeQuantization(name=f"{name}_range", dtype=policy) for name in names}
    for layer in ranges.values():
        layer.build(())
    for layer, convolution in zip(ranges.values(), convolutions, strict=False):
        convolution.follow(layer)
    return ranges
