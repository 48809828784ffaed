"""The stem, stage 1 of the papers: from the image to the first residual stage."""

import dataclasses
from typing import Any

import keras

from keras_resnet.arguments import check_bool, check_int, choose
from keras_resnet.blocks.convolution import (
    BatchNorm,
    CallLayer,
    Composite,
    Convolution,
    batch_norm,
    check_data_format,
    check_rank,
    hand_down_trainable,
    pad_shape,
    pad_space,
    reseed,
    strided_shape,
    warn_of_training,
)
from keras_resnet.blocks.quantization import QuantizedConvolution, build_ranges, check_quantized
from keras_resnet.blocks.residual import VERSIONS
from keras_resnet.blocks.shortcut import MAX_POOLING, pooling_policy


@dataclasses.dataclass(frozen=True)
class StemPlan:
    """A stem as data.

    Attributes:
        convolutions: (window in pixels, stride, width divisor) of each convolution.
        pool: whether a 3x3 max pool of stride 2 follows.
    """

    convolutions: tuple[tuple[int, int, int], ...]
    pool: bool

    @property
    def strides(self) -> int:
        """The product of all strides."""
        product = 2 if self.pool else 1
        for _, stride, _ in self.convolutions:
            product *= stride
        return product


STEMS = {
    "conv7": StemPlan(convolutions=((7, 2, 1),), pool=True),  # He et al. 2015, table 1
    "deep": StemPlan(convolutions=((3, 2, 2), (3, 1, 2), (3, 1, 1)), pool=True),  # He et al. 2019, figure 2b
    # Bello et al. 2021, section 4.2: a strided convolution takes the place of the max pool.
    "deep_strided": StemPlan(convolutions=((3, 2, 2), (3, 1, 2), (3, 1, 1), (3, 2, 1)), pool=False),
    "small": StemPlan(convolutions=((3, 1, 1),), pool=False),  # He et al. 2015, section 4.2
}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Stem(Composite):
    """Convolves the image and, but for "small", brings it to a quarter of its size.

    Args:
        filters: output channels, >= 1.
        kind: "conv7", a 7x7 convolution and a max pool; "deep", three 3x3 convolutions and a max pool;
            "deep_strided", the same with a strided 3x3 convolution in place of the pool, as in ResNet-RS; "small", one
            3x3 convolution at full size, for inputs under about 64 px.
        version: "v1", "v1.5", "v2" or "v2-keras"; under the last two no norm and ReLU follow the last convolution,
            because the first block begins with them.
        kernel_initializer: any Keras initializer, or its name.
        kernel_regularizer: any Keras regularizer, its name, or None.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        preprocessing: what images have to be like for the weights that were loaded, as plain values that
            `keras_resnet.preprocessing.for_model` reads; it is saved with the layer and changes nothing it computes.
        fused: without the norms that follow a convolution, and with a bias on every convolution to hold what they
            did; made by `keras_resnet.fuse`, for inference (see there).
        quantized: rounds kernels and feature maps to 8 bits, in training too; fused as well. Made by
            `keras_resnet.models.quantize`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, *space, channels)` with one to three axes of space; channels second under "channels_first".

    Output shape:
        Each size n becomes `ceil(ceil(n / 2) / 2)`, or stays under "small"; channels become `filters`.

    Raises:
        TypeError, ValueError: an argument is out of its range, or the input's rank is not 1 to 3.

    Source:
        He et al. 2015, table 1 and section 4.2; He et al. 2019, "Bag of Tricks", figure 2b; Bello et al. 2021,
        "Revisiting ResNets", section 4.2.
    """

    def __init__(
        self,
        filters: int,
        *,
        kind: str = "conv7",
        version: str = "v1.5",
        kernel_initializer: Any = "he_normal",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        preprocessing: dict[str, Any] | None = None,
        fused: bool = False,
        quantized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preprocessing = preprocessing
        self.filters = check_int("filters", filters)
        choose("kind", kind, STEMS)
        choose("version", version, VERSIONS)
        self.kind = kind
        self.version = version
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.data_format = check_data_format(data_format)
        self.fused = check_bool("fused", fused)
        self.quantized = check_quantized(quantized, fused)

    def build(self, input_shape: tuple) -> None:
        """Creates `conv1`, `norm1`, ... and the pool."""
        rank = check_rank(self, input_shape)
        conventions = VERSIONS[self.version]
        plan = STEMS[self.kind]
        shape = tuple(input_shape)
        self.convolutions, self.norms = [], []
        for index, (kernel_size, strides, divisor) in enumerate(plan.convolutions, start=1):
            normalized = not conventions.preactivation or index < len(plan.convolutions)
            kind = QuantizedConvolution if self.quantized else Convolution
            conv = kind(
                max(1, self.filters // divisor),
                kernel_size,
                strides=strides,
                use_bias=self.fused or conventions.has_bias(normalized=normalized),
                kernel_initializer=reseed(self.kernel_initializer, f"conv{index}"),
                kernel_regularizer=self.kernel_regularizer,
                data_format=self.data_format,
                dtype=self.dtype_policy,
                name=f"conv{index}",
            )
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            setattr(self, conv.name, conv)
            self.convolutions.append(conv)
            if normalized:
                self.norms.append(self._norm(f"norm{index}", shape))
        if self.quantized:  # what leaves is rounded by the block that it enters
            rounded = ["input", *(conv.name for conv in self.convolutions[:-1])]
            self.ranges = build_ranges(rounded, self.convolutions, self.dtype_policy)
        self.pool = None
        if plan.pool:
            policy = pooling_policy(rank, self.dtype_policy)
            self.pool = MAX_POOLING[rank](
                3, strides=2, padding="valid", data_format=self.data_format, dtype=policy, name="pool"
            )
            self.pool.build(pad_shape(shape, 1, self.data_format))
        hand_down_trainable(self)

    def _norm(self, name: str, shape: tuple) -> BatchNorm | None:
        """Returns a built norm; None where it is folded into the convolution before it."""
        if self.fused:
            return None
        norm = batch_norm(
            name, epsilon=VERSIONS[self.version].norm_epsilon, data_format=self.data_format, dtype=self.dtype_policy
        )
        norm.build(shape)
        setattr(self, name, norm)
        return norm

    def sublayers(self) -> list[keras.layers.Layer]:
        """Returns the layers inside, in the order of the computation."""
        layers: list[keras.layers.Layer | None] = []
        for index, conv in enumerate(self.convolutions):
            layers += [conv, *self.norms[index : index + 1]]
        return [layer for layer in (*layers, self.pool, *self.ranges.values()) if layer is not None]

    def compute(self, inputs: Any, training: bool | None, call_layer: CallLayer) -> Any:
        """Returns the feature map for the first residual stage."""
        if self.fused and training and not self.quantized:
            warn_of_training()
        x = self.rounded(inputs, "input", training, call_layer)
        for index, conv in enumerate(self.convolutions):
            x = call_layer(conv, x)
            if index < len(self.norms):
                norm = self.norms[index]
                x = keras.ops.relu(x if norm is None else call_layer(norm, x, training=training))
            x = self.rounded(x, conv.name, training, call_layer)
        if self.pool:
            padded = pad_space(x, 1, self.data_format, VERSIONS[self.version].pool_fill)
            x = keras.ops.cast(call_layer(self.pool, padded), self.compute_dtype)
        return x

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of `call`'s result for a batched `input_shape`."""
        shape = tuple(input_shape)
        for _, strides, _ in STEMS[self.kind].convolutions:
            shape = strided_shape(shape, strides, self.filters, self.data_format)
        return strided_shape(shape, 2, self.filters, self.data_format) if STEMS[self.kind].pool else shape

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kind": self.kind,
            "version": self.version,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "data_format": self.data_format,
            "preprocessing": self.preprocessing,
            "fused": self.fused,
            "quantized": self.quantized,
        }
