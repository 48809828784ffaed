"""What the residual blocks share: a branch of convolutions beside a shortcut."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import keras

from keras_resnet.arguments import check_bool, check_fraction, check_int, choose
from keras_resnet.blocks.attention import ATTENTION
from keras_resnet.blocks.convolution import (
    BatchNorm,
    CallLayer,
    Composite,
    Convolution,
    batch_norm,
    channel_axis,
    check_data_format,
    check_rank,
    draw_seed,
    hand_down_trainable,
    reseed,
    run_layer,
    strided_shape,
    warn_of_training,
)
from keras_resnet.blocks.quantization import QuantizedConvolution, build_ranges, check_quantized
from keras_resnet.blocks.shortcut import SHORTCUTS, Shortcut
from keras_resnet.errors import BadValue


@dataclasses.dataclass(frozen=True)
class Version:
    """A published arrangement of convolution, norm and activation.

    Attributes:
        preactivation: norm and ReLU stand before each convolution, not after it.
        bottleneck_stride: which convolution of a strided bottleneck steps, 0-based.
        bias: which convolutions have one: "none", "all", or "unnormalized", those that no norm follows.
        norm_epsilon: added to the variance by every batch norm.
        pool_fill: the value around the feature map that the stem's max pool sees beyond its border.
        strided_block: which block of a stage steps: the first of stages 3 to 5, or the last of stages 2 to 4, whose
            shortcut then takes every second pixel.
    """

    preactivation: bool
    bottleneck_stride: int
    bias: Literal["none", "all", "unnormalized"]
    norm_epsilon: float
    pool_fill: float
    strided_block: Literal["first", "last"] = "first"

    def has_bias(self, *, normalized: bool) -> bool:
        """Returns whether a convolution has a bias, given that a norm follows it directly or not."""
        return self.bias == "all" or (self.bias == "unnormalized" and not normalized)


VERSIONS = {
    # He et al. 2015, figure 5 and section 4.1; biases and epsilon as in keras.applications. Behind a ReLU a border of
    # zeros gives the maxima that one of -inf does, which PyTorch pads.
    "v1": Version(preactivation=False, bottleneck_stride=0, bias="all", norm_epsilon=1.001e-5, pool_fill=0.0),
    # The stride moved to the 3x3 (Goyal et al. 2017, section 5.1), as in torchvision and timm.
    "v1.5": Version(preactivation=False, bottleneck_stride=1, bias="none", norm_epsilon=1e-5, pool_fill=0.0),
    # He et al. 2016, figure 4(e); biases, epsilon and the border as in keras.applications' V2. No ReLU stands before
    # the pool: zeros win over negative values at the border. keras-hub pads -inf there; its weights would not fit.
    "v2": Version(preactivation=True, bottleneck_stride=1, bias="unnormalized", norm_epsilon=1.001e-5, pool_fill=0.0),
    # The same with the stride where keras.applications' V2 has it, for its weights.
    "v2-keras": Version(
        preactivation=True,
        bottleneck_stride=1,
        bias="unnormalized",
        norm_epsilon=1.001e-5,
        pool_fill=0.0,
        strided_block="last",
    ),
}


def recomputed_call(layer: Composite, inputs: Any, training: bool | None) -> Any:
    """Returns the outputs of `layer`, by a function without side effects that may run a second time."""
    generators = [part for part in layer._flatten_layers() if getattr(part, "seed_generator", None) is not None]
    states = [part.seed_generator.state for part in generators]
    # Copies: the second time draws what the first one drew, though the generators have moved on.
    state_values = [(state, state + 0) for state in states]
    if keras.config.backend() == "jax":
        # Values of a step stand in a scope around it, which the one below hides.
        state_values += [(variable, variable.value) for variable in layer.variables if not _is_one_of(variable, states)]
    moving = [variable for variable in layer.non_trainable_variables if not _is_one_of(variable, states)]

    def pure(x: Any) -> tuple[Any, ...]:
        with keras.StatelessScope(state_mapping=state_values) as scope:
            outputs = layer.compute(x, training, run_layer)
            return outputs, *(scope.get_current_value(variable) for variable in moving)

    outputs, *values = keras.remat(pure)(inputs)
    for variable, value in zip(moving, values, strict=True):
        if value is not None:
            variable.assign(value)
    for part in generators:
        part.seed_generator.next()
    return outputs


def _is_one_of(variable: Any, others: list[Any]) -> bool:
    return any(variable is other for other in others)


class ResidualBlock(Composite):
    """What `IdentityBlock` and `BottleneckBlock` share: all but the windows and widths of their branch.

    The branch's children are `conv1`, `norm1`, `conv2`, ... in the order of the computation; beside them stand
    `shortcut` where the shapes of input and branch differ, `attention` and `drop_path` where asked for. A fused block
    lacks each norm that follows a convolution: all of them, under "v2" all but `norm1`.

    Args:
        filters: width of the branch, >= 1; the block returns `output_filters` channels.
        strides: step in pixels along every axis, >= 1.
        groups: parts into which the window of a bottleneck divides its channels (ResNeXt), >= 1.
        inner_filters: channels of a bottleneck's window, a multiple of `groups`; None for `filters`.
        widths: channels of each convolution of the branch, the last of which the block returns, in place of what
            `filters` and `inner_filters` say, as `keras_resnet.models.prune` leaves them; None for these.
        dilations: of each convolution of the branch, >= 1, as `keras_resnet.models.dilate` sets them; None for 1.
        version: "v1", "v1.5", "v2" or "v2-keras": where the stride, the norms and the biases stand (`VERSIONS`).
        shortcut: projection where one is needed: "conv", "pool" (ResNet-D) or "subsample" (see `Shortcut`).
        attention: at the end of the branch, a key of `keras_resnet.blocks.attention.ATTENTION`: None, "se" and
            "se_quarter" for squeeze-and-excitation, or "eca" for efficient channel attention.
        drop_path_rate: probability in [0, 1) of dropping the branch of a sample in training; the branches kept are
            scaled by 1 / (1 - rate).
        kernel_initializer: any Keras initializer, or its name. Every kernel draws from its own stream.
        kernel_regularizer: any Keras regularizer, its name, or None; for kernels, never for biases and norms.
        zero_init_residual: start as the identity: the last norm's gamma, under "v2" or fused the last kernel, is zero.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        seed: of the drop path, an int >= 0, or None to draw one from Keras's global seed.
        fused: without the norms that follow a convolution, and with a bias on every convolution to hold what they
            did; made by `keras_resnet.fuse`, for inference (see there).
        quantized: rounds kernels and feature maps to 8 bits, in training too; fused as well. Made by
            `keras_resnet.models.quantize`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, length, channels)`, `(batch, height, width, channels)` or `(batch, depth, height, width, channels)`;
        channels second under "channels_first".

    Output shape:
        Each size n becomes `ceil(n / strides)`, channels become `output_filters`.

    Raises:
        TypeError, ValueError: an argument is out of its range, or the input's rank is not 1 to 3.
    """

    # Whether the inside is computed again in the backward pass; see `keras_resnet.models.recompute`.
    recomputed = False
    # The branch as (window in pixels, width in multiples of `filters`) of each convolution.
    branch: ClassVar[tuple[tuple[int, int], ...]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Gives a block the documentation that all blocks share, between its own first lines and its source."""
        super().__init_subclass__(**kwargs)
        if cls.__doc__ and ResidualBlock.__doc__ and "Args:" not in cls.__doc__:
            opening, source, rest = inspect.cleandoc(cls.__doc__).partition("Source:")
            _, arguments, shared = inspect.cleandoc(ResidualBlock.__doc__).partition("Args:")
            cls.__doc__ = f"{opening}{arguments}{shared}\n\n{source}{rest}\n"

    def __init__(
        self,
        filters: int,
        *,
        strides: int = 1,
        groups: int = 1,
        inner_filters: int | None = None,
        widths: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        version: str = "v1.5",
        shortcut: str = "conv",
        attention: str | None = None,
        drop_path_rate: float = 0.0,
        kernel_initializer: Any = "he_normal",
        kernel_regularizer: Any = None,
        zero_init_residual: bool = True,
        data_format: str | None = None,
        seed: int | None = None,
        fused: bool = False,
        quantized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = check_int("filters", filters)
        self.strides = check_int("strides", strides)
        self.groups = check_int("groups", groups)
        self.inner_filters = inner_filters if inner_filters is None else check_int("inner_filters", inner_filters)
        if len(self.branch) != 3 and (self.groups != 1 or self.inner_filters is not None):
            raise BadValue(
                f"groups={groups} and inner_filters={inner_filters} were given to {type(self).__name__}, which has no "
                "bottleneck. Only BottleneckBlock takes them. Leave them out."
            )
        self.widths = self._one_each("widths", widths)
        self.dilations = self._one_each("dilations", dilations)
        choose("version", version, VERSIONS)
        choose("shortcut", shortcut, SHORTCUTS)
        choose("attention", attention, ATTENTION)
        self.version = version
        self.shortcut_kind = shortcut
        self.attention_kind = attention
        self.drop_path_rate = check_fraction("drop_path_rate", drop_path_rate)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.zero_init_residual = check_bool("zero_init_residual", zero_init_residual)
        self.data_format = check_data_format(data_format)
        self.seed = seed if seed is None else check_int("seed", seed, minimum=0)
        self.fused = check_bool("fused", fused)
        self.quantized = check_quantized(quantized, fused)
        if self.quantized and self.dilations is not None:
            raise BadValue("quantized=True was given with dilations. Rounding them is not supported. Leave one out.")
        if self.quantized and (VERSIONS[version].preactivation or attention is not None):
            raise BadValue(
                f"quantized=True was given with version={version!r} and attention={attention!r}. Allowed are 'v1' and "
                "'v1.5' without attention, whose norms can all be folded. Use one of them."
            )

    def _one_each(self, name: str, values: Sequence[int] | None) -> tuple[int, ...] | None:
        """Returns a number for each convolution of the branch; None for None."""
        numbers = None if values is None else tuple(check_int(name, value) for value in values)
        if numbers is not None and len(numbers) != len(self.branch):
            raise BadValue(
                f"{name}={numbers} was given to {type(self).__name__}, which has {len(self.branch)} convolutions. "
                "Pass one number for each."
            )
        return numbers

    @property
    def strided_convolution(self) -> int:
        """Place of the convolution that makes the step, 0-based."""
        return VERSIONS[self.version].bottleneck_stride if len(self.branch) == 3 else 0

    @property
    def output_filters(self) -> int:
        """Channels that leave the block."""
        return self.branch_widths[-1]

    @property
    def branch_widths(self) -> tuple[int, ...]:
        """Channels of each convolution of the branch."""
        if self.widths is not None:
            return self.widths
        *inner, (_, expansion) = self.branch
        return (*(self.inner_filters or self.filters * times for _, times in inner), self.filters * expansion)

    def build(self, input_shape: tuple) -> None:
        """Creates the branch, and a shortcut where the shapes of input and branch differ."""
        check_rank(self, input_shape)
        shape = tuple(input_shape)
        self.convolutions, self.norms = [], []
        for index, ((kernel_size, _), width) in enumerate(zip(self.branch, self.branch_widths, strict=True)):
            conv = self._convolution(index, kernel_size, width)
            conv_shape = conv.compute_output_shape(shape)
            norm = self._norm(index)
            conv.build(shape)
            # Attributes, not only lists: weights are saved under the attribute's name.
            setattr(self, conv.name, conv)
            if norm is not None:
                norm.build(shape if VERSIONS[self.version].preactivation else conv_shape)
                setattr(self, norm.name, norm)
            shape = conv_shape
            self.convolutions.append(conv)
            self.norms.append(norm)
        self.shortcut = self._shortcut(input_shape)
        self.attention = self._attention(shape)
        self.drop_path = self._drop_path(len(input_shape))
        if self.quantized:
            rounded = ["input", *(conv.name for conv in self.convolutions)]
            self.ranges = build_ranges(rounded, self.convolutions, self.dtype_policy)
            if self.shortcut and self.shortcut.conv:
                self.shortcut.conv.follow(self.ranges["input"])
        hand_down_trainable(self)

    def _norm(self, index: int) -> BatchNorm | None:
        """Returns the norm of the branch's convolution `index`; None where it is folded into the one before it."""
        conventions = VERSIONS[self.version]
        follows_convolution = index > 0 or not conventions.preactivation
        if self.fused and follows_convolution:
            return None
        last = index == len(self.branch) - 1
        return batch_norm(
            f"norm{index + 1}",
            epsilon=conventions.norm_epsilon,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            zero_init=last and self.zero_init_residual and not conventions.preactivation,
        )

    def _convolution(self, index: int, kernel_size: int, filters: int) -> Convolution:
        conventions = VERSIONS[self.version]
        last = index == len(self.branch) - 1
        normalized = not (last and conventions.preactivation)
        initializer: Any = reseed(self.kernel_initializer, f"conv{index + 1}")
        if last and self.zero_init_residual and (conventions.preactivation or self.fused):
            # Without a last norm to start at zero the last kernel does (Kolesnikov et al. 2020, BiT).
            initializer = "zeros"
        kind = QuantizedConvolution if self.quantized else Convolution
        return kind(
            filters,
            kernel_size,
            strides=self.strides if index == self.strided_convolution else 1,
            dilation=1 if self.dilations is None else self.dilations[index],
            groups=self.groups if len(self.branch) == 3 and kernel_size > 1 else 1,
            use_bias=self.fused or conventions.has_bias(normalized=normalized),
            kernel_initializer=initializer,
            kernel_regularizer=self.kernel_regularizer,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name=f"conv{index + 1}",
        )

    def _shortcut(self, input_shape: tuple) -> Shortcut | None:
        channels = input_shape[channel_axis(self.data_format)]
        if self.strides == 1 and channels == self.output_filters:
            return None
        conventions = VERSIONS[self.version]
        normalized = not conventions.preactivation
        shortcut = Shortcut(
            self.output_filters,
            strides=self.strides,
            kind=self.shortcut_kind,
            norm_epsilon=conventions.norm_epsilon if normalized and not self.fused else None,
            use_bias=self.fused or conventions.has_bias(normalized=normalized),
            kernel_initializer=reseed(self.kernel_initializer, "shortcut"),
            kernel_regularizer=self.kernel_regularizer,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            quantized=self.quantized,
            name="shortcut",
        )
        shortcut.build(input_shape)
        return shortcut

    def _attention(self, branch_shape: tuple) -> keras.layers.Layer | None:
        kind = ATTENTION[self.attention_kind]
        if kind is None:
            return None
        attention = kind.build(
            kernel_initializer=reseed(self.kernel_initializer, "attention"),
            kernel_regularizer=self.kernel_regularizer,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name="attention",
        )
        attention.build(branch_shape)
        return attention

    def _drop_path(self, num_axes: int) -> keras.layers.Dropout | None:
        if self.drop_path_rate == 0.0:
            return None
        self.seed = draw_seed() if self.seed is None else self.seed
        # One draw per sample, kept branches scaled by 1 / (1 - rate): stochastic depth (Huang et al. 2016).
        return keras.layers.Dropout(
            self.drop_path_rate,
            noise_shape=(None,) + (1,) * (num_axes - 1),
            seed=self.seed,
            dtype=self.dtype_policy,
            name="drop_path",
        )

    def sublayers(self) -> list[keras.layers.Layer]:
        """Returns the layers inside, branch first, each in the order of the computation."""
        pairs = zip(self.convolutions, self.norms, strict=True)
        if VERSIONS[self.version].preactivation:
            branch = [layer for conv, norm in pairs for layer in (norm, conv)]
        else:
            branch = [layer for conv, norm in pairs for layer in (conv, norm)]
        others = (self.attention, self.drop_path, self.shortcut, *self.ranges.values())
        return [layer for layer in (*branch, *others) if layer is not None]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the outputs of the block."""
        if self.recomputed and training:
            return recomputed_call(self, inputs, training)
        return super().call(inputs, training=training)

    def compute(self, inputs: Any, training: bool | None, call_layer: CallLayer) -> Any:
        """Returns shortcut plus branch; behind a ReLU where the version has one there."""
        if self.fused and training and not self.quantized:
            warn_of_training()
        if VERSIONS[self.version].preactivation:
            return self._forward_preactivated(inputs, training, call_layer)
        x = inputs = self.rounded(inputs, "input", training, call_layer)
        for conv, norm in zip(self.convolutions, self.norms, strict=True):
            x = call_layer(conv, x)
            if norm is not None:
                x = call_layer(norm, x, training=training)
            if conv is not self.convolutions[-1]:
                x = keras.ops.relu(x)
            x = self.rounded(x, conv.name, training, call_layer)
        identity = call_layer(self.shortcut, inputs, training=training) if self.shortcut else inputs
        return keras.ops.relu(identity + self._regularize(x, training, call_layer))

    def _forward_preactivated(self, inputs: Any, training: bool | None, call_layer: CallLayer) -> Any:
        x = inputs
        identity = inputs
        for conv, norm in zip(self.convolutions, self.norms, strict=True):
            if norm is not None:
                # The norms of a fused block, also the one left, are for inference.
                x = call_layer(norm, x, training=training and not self.fused)
            x = keras.ops.relu(x)
            if conv is self.convolutions[0] and self.shortcut:
                # A projection reads the activated input (He et al. 2016, section 4.1); subsampling the plain one.
                source = inputs if self.shortcut_kind == "subsample" else x
                identity = call_layer(self.shortcut, source, training=training)
            x = call_layer(conv, x)
        return identity + self._regularize(x, training, call_layer)

    def _regularize(self, branch: Any, training: bool | None, call_layer: CallLayer) -> Any:
        if self.attention:
            branch = call_layer(self.attention, branch)
        if self.drop_path:
            branch = call_layer(self.drop_path, branch, training=training)
        return branch

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of `call`'s result for a batched `input_shape`."""
        return strided_shape(input_shape, self.strides, self.output_filters, self.data_format)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "groups": self.groups,
            "inner_filters": self.inner_filters,
            "widths": self.widths,
            "dilations": self.dilations,
            "version": self.version,
            "shortcut": self.shortcut_kind,
            "attention": self.attention_kind,
            "drop_path_rate": self.drop_path_rate,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "zero_init_residual": self.zero_init_residual,
            "data_format": self.data_format,
            "seed": self.seed,
            "fused": self.fused,
            "quantized": self.quantized,
        }


@keras.saving.register_keras_serializable(package="keras_resnet")
class IdentityBlock(ResidualBlock):
    """The block of ResNet-18 and -34: two 3x3 convolutions beside a shortcut.

    The first convolution carries the stride.
    The shortcut is the identity where input and branch agree in shape, and a projection where they do not.
    It returns `filters` channels: `output_filters` below.

    Source:
        He et al. 2015, "Deep Residual Learning for Image Recognition", figure 5 left.

    Example:
        >>> import keras
        >>> from keras_resnet import IdentityBlock
        >>> IdentityBlock(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape == (1, 4, 4, 16)
        True
    """

    branch = ((3, 1), (3, 1))


@keras.saving.register_keras_serializable(package="keras_resnet")
class BottleneckBlock(ResidualBlock):
    """The block of ResNet-50, -101 and -152: 1x1, 3x3 and 1x1 convolutions beside a shortcut.

    Under "v1" the first convolution carries the stride, otherwise the 3x3.
    The shortcut is the identity where input and branch agree in shape, and a projection where they do not.
    It returns `4 * filters` channels: `output_filters` below.

    Source:
        He et al. 2015, "Deep Residual Learning for Image Recognition", figure 5 right.

    Example:
        >>> import keras
        >>> from keras_resnet import BottleneckBlock
        >>> BottleneckBlock(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape == (1, 4, 4, 64)
        True
    """

    branch = ((1, 1), (3, 1), (1, 4))
