"""Convolution of any rank with symmetric padding, and the batch normalization that follows it."""

import hashlib
import random
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_bool, check_int, choose
from keras_resnet.blocks import kernels
from keras_resnet.errors import BadValue

DATA_FORMATS = {"channels_last": "channels_last", "channels_first": "channels_first"}


def check_data_format(data_format: str | None) -> str:
    """Returns `data_format`, or Keras's default for None."""
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
    """Returns the number of spatial axes, 1 to 3, of a batched `input_shape`."""
    rank = len(input_shape) - 2
    if rank not in (1, 2, 3):
        raise BadValue(
            f"{type(layer).__name__} {layer.name!r} received an input of shape {tuple(input_shape)}. "
            "Expected 3 to 5 axes: batch, one to three axes of space, and channels. Reshape the input."
        )
    return rank


CallLayer = Callable[..., Any]


def run_layer(layer: keras.layers.Layer, inputs: Any, **options: Any) -> Any:
    """Returns `layer(inputs)`: how a composite calls a layer inside it, unless someone watches."""
    return layer(inputs, **options)


class Composite(keras.layers.Layer):
    """Calls each layer inside through a function that is given, so that someone may record or change what it returns.

    A subclass writes `compute` and `sublayers`.
    """

    # Layers that round, by the name of what they round: of a layer that is quantized.
    ranges: Mapping[str, keras.layers.Layer] = {}

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the outputs of the layer."""
        return self.compute(inputs, training, run_layer)

    def compute(self, inputs: Any, training: bool | None, call_layer: CallLayer) -> Any:
        """Returns the outputs of the layer.

        Args:
            inputs: of the layer.
            training: as for `call`.
            call_layer: `(layer, inputs, **options)`, called in the place of every layer inside.
        """
        raise NotImplementedError

    def rounded(self, values: Any, name: str, training: bool | None, call_layer: CallLayer) -> Any:
        """Returns values, rounded where there is a layer for what they are."""
        return call_layer(self.ranges[name], values, training=training) if name in self.ranges else values

    def sublayers(self) -> list[keras.layers.Layer]:
        """Returns the layers inside, in the order of the computation."""
        raise NotImplementedError


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


@keras.saving.register_keras_serializable(package="keras_resnet")
class Convolution(keras.layers.Layer):
    """Convolves 1-D, 2-D or 3-D inputs, padded by the same width on both sides.

    Keras's `padding="same"` pads a strided convolution more on the far side, depending on the input size; PyTorch
    and keras.applications' ResNets pad both sides alike. Weights trained there give their numbers only with the
    latter, so that is the only padding here: `kernel_size // 2` zeros on each side, times the dilation.

    Args:
        filters: output channels, >= 1.
        kernel_size: window size in pixels, the same along every axis; odd.
        strides: step in pixels, the same along every axis, >= 1.
        dilation: pixels from one value of the window to the next, >= 1; above 1 with `strides=1` alone.
        groups: parts into which the channels are divided, each with its own filters; a divisor of both numbers of
            channels.
        use_bias: whether a bias is added.
        kernel_initializer: any Keras initializer, or its name.
        kernel_regularizer: any Keras regularizer, its name, or None. The bias is never regularized.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, length, channels)`, `(batch, height, width, channels)` or `(batch, depth, height, width, channels)`;
        channels second under "channels_first".

    Output shape:
        Each size n becomes `ceil(n / strides)`, channels become `filters`.

    Raises:
        TypeError, ValueError: an argument is out of its range, `kernel_size` is even, or the input's rank is
            not 1 to 3.

    Example:
        >>> import keras
        >>> from keras_resnet.blocks import Convolution
        >>> Convolution(8, 3, strides=2)(keras.ops.ones((1, 5, 7, 3))).shape == (1, 3, 4, 8)
        True
    """

    # Whether inference is one operation of Keras with the whole kernel, which converters of files know.
    is_plain = False

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: int = 1,
        dilation: int = 1,
        groups: int = 1,
        use_bias: bool = False,
        kernel_initializer: Any = "he_normal",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = check_int("filters", filters)
        self.groups = check_int("groups", groups)
        if self.filters % self.groups:
            raise BadValue(
                f"filters={filters} cannot be divided into groups={groups}. Allowed is a multiple of the groups. "
                "Change one of them."
            )
        self.kernel_size = check_int("kernel_size", kernel_size)
        if self.kernel_size % 2 == 0:
            raise BadValue(
                f"kernel_size must be odd, got {kernel_size}. An even window has no center to pad around. "
                f"Use {kernel_size - 1 or 1} or {kernel_size + 1}."
            )
        self.strides = check_int("strides", strides)
        self.dilation = check_int("dilation", dilation)
        if self.strides > 1 and self.dilation > 1:
            raise BadValue(
                f"strides={strides} and dilation={dilation} were given together. A dilated window makes no step. Leave "
                "one of them at 1."
            )
        self.use_bias = check_bool("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.data_format = check_data_format(data_format)

    def build(self, input_shape: tuple) -> None:
        """Creates the kernel, `(*window, channels / groups, filters)`, and the bias."""
        rank = check_rank(self, input_shape)
        channels = input_shape[channel_axis(self.data_format)]
        if channels % self.groups:
            raise BadValue(
                f"{self.name!r} received an input of shape {tuple(input_shape)}, whose {channels} channels cannot be "
                f"divided into groups={self.groups}. Allowed is a multiple of the groups. Change one of them."
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=rank + 2, axes={channel_axis(self.data_format) % (rank + 2): channels}
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size,) * rank + (channels // self.groups, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros") if self.use_bias else None

    def call_weights(self) -> tuple[Any, Any]:
        """Returns the kernel and the bias, or None, that a call computes with."""
        return self.kernel, self.bias

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the convolution of `inputs`; in training, where kernels are on, with faster gradients."""
        if inputs.shape[0] == 0:
            # TensorFlow 2.21's oneDNN kernel gives an empty batch the shape of its input.
            return keras.ops.zeros(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)
        kernel, bias = self.call_weights()
        own_form = self.dilation == 1 and (training or not self.is_plain)
        if own_form and kernels.enabled() and self.data_format == "channels_last":
            outputs = kernels.convolve(inputs, kernel, self.strides, training=bool(training))
            return outputs if bias is None else kernels.add_bias(outputs, bias)
        if self.dilation == 1 and kernels.on_pytorch():
            return kernels.convolve_on_pytorch(inputs, kernel, bias, self.strides, channel_axis(self.data_format))
        padding = "same"
        if self.strides > 1:
            # At stride 1 and an odd window "same" is already symmetric, and padding inside the op saves a copy.
            padding = "valid"
            if self.kernel_size > 1:
                inputs = pad_space(inputs, self.kernel_size // 2, self.data_format)
        outputs = keras.ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation,
        )
        if bias is not None:
            shape = [1] * len(outputs.shape)
            shape[channel_axis(self.data_format)] = self.filters
            outputs = outputs + keras.ops.reshape(bias, shape)
        return outputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of `call`'s result for a batched `input_shape`."""
        return strided_shape(input_shape, self.strides, self.filters, self.data_format)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation": self.dilation,
            "groups": self.groups,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_resnet")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras's batch normalization, computed by TensorFlow's or PyTorch's fused operation where kernels are on.

    It returns the numbers of its parent, learns and saves the same weights, and takes the same arguments.

    Source:
        Ioffe and Szegedy 2015, "Batch Normalization"; speed: `benchmarks/training_step.py`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Returns `inputs` normalized by the batch's statistics in training, by their moving averages otherwise."""
        if mask is None:
            outputs = kernels.normalize(self, inputs, training=bool(training))
            if outputs is not None:
                return outputs
        return super().call(inputs, training=training, mask=mask)


def batch_norm(name: str, *, epsilon: float, data_format: str, dtype: Any, zero_init: bool = False) -> BatchNorm:
    """Returns a batch normalization over the channel axis.

    Momentum 0.9, the weight of the old moving average, is PyTorch's 0.1 seen from the other side and what
    Goyal et al. 2017 train with; Keras's own default of 0.99 takes ten times as many steps to settle.
    """
    return BatchNorm(
        axis=channel_axis(data_format),
        momentum=0.9,
        epsilon=epsilon,
        gamma_initializer="zeros" if zero_init else "ones",
        name=name,
        dtype=dtype,
    )


def reseed(initializer: Any, index: object) -> Any:
    """Returns a copy of a Keras initializer with its own stream.

    One initializer object gives equal values to kernels of equal shape, with and without a seed. Without a seed a
    copy draws a new one; with a seed the copy's follows from that seed and `index`, so that a network is
    reproducible and still has no two equal kernels.
    """
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] = _mix_seed(config["seed"], str(index))
    return type(initializer).from_config(config)


def draw_seed() -> int:
    """Returns a seed that follows from `keras.utils.set_random_seed`.

    A layer that keeps it in its configuration draws the same numbers when its model is loaded again. Keras draws one in
    the same way where a layer has none, and forgets it: a `.keras` file does not hold the states of seed generators.
    """
    return random.randint(1, 10**9)


def _mix_seed(seed: int, index: str) -> int:
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # Keras seeds are non-negative int32


def fold(conv: Convolution, norm: keras.layers.BatchNormalization | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel and the bias with which a convolution alone computes `norm(conv(x))` in inference.

    With `scale = gamma / sqrt(moving_variance + epsilon)` they are `kernel * scale`, filter by filter, and
    `beta + (bias - moving_mean) * scale`.

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
