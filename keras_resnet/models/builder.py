"""The one builder: stem, stages, head."""

import os
from typing import Any, NamedTuple

import keras

from keras_resnet.blocks import Stem
from keras_resnet.blocks.convolution import batch_norm, draw_seed, reseed
from keras_resnet.blocks.residual import VERSIONS
from keras_resnet.errors import BadValue
from keras_resnet.models import validation
from keras_resnet.models.precision import warn_of_slow_floats
from keras_resnet.models.variants import VARIANTS
from keras_resnet.weights.adaptation import HEAD, POOLED

AVERAGE = {
    1: keras.layers.GlobalAveragePooling1D,
    2: keras.layers.GlobalAveragePooling2D,
    3: keras.layers.GlobalAveragePooling3D,
}
MAXIMUM = {1: keras.layers.GlobalMaxPooling1D, 2: keras.layers.GlobalMaxPooling2D, 3: keras.layers.GlobalMaxPooling3D}
POOLING_LAYERS = {"avg": AVERAGE, "max": MAXIMUM}


def build_resnet(
    variant: str,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    adapt_weights: bool = False,
    version: str = "v1.5",
    stem: str = "conv7",
    shortcut: str = "conv",
    width: int = 64,
    widths: str = "",
    groups: int = 1,
    width_per_group: int = 64,
    attention: str | None = None,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    kernel_initializer: Any = "he_normal",
    kernel_regularizer: Any = None,
    zero_init_residual: bool = True,
    data_format: str | None = None,
    dtype: Any = None,
) -> keras.Model:
    """Builds a residual network as a functional Keras model.

    Nothing is built or read before every argument is checked.

    Args:
        include_top: whether the classifier is part of the model.
        weights: None for random initialization; a tag from `list_weights()`: "cifar10" (in the package), "imagenet"
            or "imagenet.TAG", fetched into a cache; "hf://ORG/REPOSITORY"; or a path to `.safetensors`, `.pth`, a
            `.keras` model, or `.h5` of keras.applications. Version, stem, width and the like follow from the weights;
            `classes` other than theirs makes a new head.
        adapt_weights: whether weights of RGB pictures are made to fit an input of other channels, signals or volumes:
            the first kernel is summed over the channels for one, repeated and scaled for others; kernels are repeated
            along depth for volumes (Carreira and Zisserman 2017) and summed over height for signals.
        input_tensor: a symbolic Keras tensor to build upon, such as the output of a preprocessing layer; None makes
            an input of `input_shape`.
        input_shape: sizes of one input, which set the rank: `(length, channels)` for signals, `(height, width,
            channels)` for images, `(depth, height, width, channels)` for volumes; channels first under
            "channels_first". Any channel count; None for a size not known. By default `(224, 224, 3)` with the
            classifier, `(None, None, 3)` without. At least 32 px, or 8 px under `stem="small"`.
        pooling: without the classifier: None for the last feature map, "avg" or "max" for its global pooling.
        classes: outputs of the classifier, >= 1; 1 with `classifier_activation=None` is a regression head. Ignored
            without the classifier.
        classifier_activation: a Keras activation, or None for logits. Ignored without the classifier.
        name: of the model; by default that of the variant.
        version: "v1": stride on the first 1x1, biases, as in keras.applications; "v1.5": stride on the 3x3, as in
            torchvision and timm; "v2": pre-activation; "v2-keras": that with the stride in the last block of stages
            2 to 4, as in keras.applications' V2, whose weights need it.
        stem: "conv7": 7x7 and max pool; "deep": three 3x3 and max pool; "deep_strided": a strided 3x3 in place of
            that pool (ResNet-RS); "small": one 3x3, no pool, for inputs under about 64 px.
        shortcut: projection shortcuts: "conv", a 1x1 convolution, or "pool", average pool then 1x1 (ResNet-D).
        width: channels of stage 1, >= 1; stages 2 to 5 have 1, 2, 4 and 8 times as many, bottlenecks 4 times that.
        widths: channels of the stem and of the convolutions of each block, in place of what `width` says, as `prune`
            leaves them: "16 8,16 12,16" for a stem and two identity blocks; "" for those of `width`.
        groups: parts into which the 3x3 of a bottleneck divides its channels (ResNeXt), >= 1.
        width_per_group: channels of each part in stage 2, for `width=64`; the later stages have 2, 4 and 8 times as
            many, at least one. 64 without groups is ResNet, 128 the wide ResNet.
        attention: None, "se" for squeeze-and-excitation with ratio 1/16 in every block, "se_quarter" with ratio 1/4
            (ResNet-RS), or "eca" for efficient channel attention.
        drop_path_rate: probability in [0, 1) of dropping a sample's branch in the last block; it grows linearly from
            0 in the first.
        dropout_rate: probability in [0, 1) of dropping an input of the classifier.
        kernel_initializer: any Keras initializer, or its name, for every convolution and the classifier; each kernel
            draws from its own stream. "he_normal" counts the inputs of a kernel (fan in).
        kernel_regularizer: any Keras regularizer, its name, or None, for every convolution and the classifier;
            biases and norms are never regularized.
        zero_init_residual: every block starts as its shortcut: the last norm's gamma, under "v2" the last kernel,
            is zero.
        data_format: "channels_last", "channels_first", or None for Keras's default. TensorFlow has no
            "channels_first" on a CPU.
        dtype: a dtype policy or its name, or None for the global one. The head computes in float32 under any
            16-bit policy.

    Input shape:
        `(batch, *input_shape)`, values as the network was trained on them.

    Output shape:
        `(batch, classes)`; without the classifier `(batch, *sizes / 32, channels)` or, pooled, `(batch, channels)`.

    Returns:
        A functional `keras.Model` with layers "stem", "stage2_block1" to "stage5_block*", "head_pool" and
        "predictions".

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of its range, or would have no effect.

    Source:
        He et al. 2015, "Deep Residual Learning for Image Recognition", table 1; He et al. 2016, "Identity Mappings
        in Deep Residual Networks" (v2); Goyal et al. 2017 (v1.5, zero initialization); He et al. 2019, "Bag of
        Tricks" (deep stem, ResNet-D); Huang et al. 2016 (drop path).

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 1), classes=10, stem="small", width=8)
        >>> model.output_shape
        (None, 10)
    """
    assert weights is None, "the constructors load them"
    if adapt_weights:
        raise BadValue(
            "adapt_weights=True was given without weights. Only weights of a file can be adapted. Pass weights, or "
            "leave it out."
        )
    validation.check_head(include_top, pooling, classes, classifier_activation, dropout_rate)
    validation.check_choices(version, stem, shortcut, attention, width, zero_init_residual)
    validation.check_groups(variant, groups, width_per_group)
    initializer, regularizer = validation.check_regularisation(kernel_initializer, kernel_regularizer, drop_path_rate)
    stem_width, block_widths = validation.check_widths(widths, variant, stem, width)
    name = validation.check_name(name, variant)
    policy = validation.check_dtype(dtype)
    warn_of_slow_floats(policy)
    shape, data_format = validation.check_input(input_tensor, input_shape, data_format, stem, include_top)

    def layer_arguments(layer_name: str) -> dict[str, Any]:
        return {
            "name": layer_name,
            "kernel_initializer": reseed(initializer, layer_name),
            "kernel_regularizer": regularizer,
        }

    inputs = keras.Input(shape, name="image", dtype=_head_dtype(policy)) if input_tensor is None else input_tensor
    common = {"version": version, "data_format": data_format, "dtype": policy}
    x = Stem(stem_width, kind=stem, **common, **layer_arguments("stem"))(inputs)
    plans = _block_plans(variant, width, drop_path_rate, VERSIONS[version].strided_block == "last")
    for plan, own_widths in zip(plans, block_widths, strict=True):
        block = VARIANTS[variant].block(
            plan.filters,
            strides=plan.strides,
            groups=groups,
            inner_filters=validation.inner_filters(plan.filters, groups, width_per_group),
            widths=own_widths,
            shortcut="subsample" if plan.subsamples else shortcut,
            attention=attention,
            drop_path_rate=plan.drop_path_rate,
            zero_init_residual=zero_init_residual,
            **common,
            **layer_arguments(plan.name),
        )
        x = block(x)
    x = _finish_features(x, version, data_format, policy)
    if include_top:
        x = _pool(x, "avg", data_format, policy)
        if dropout_rate:
            x = keras.layers.Dropout(dropout_rate, seed=draw_seed(), name="head_dropout", dtype=_head_dtype(policy))(x)
        dense = keras.layers.Dense(
            classes, activation=classifier_activation, dtype=_head_dtype(policy), **layer_arguments(HEAD)
        )
        x = dense(x)
    elif pooling:
        x = _pool(x, pooling, data_format, policy)
    sources = keras.utils.get_source_inputs(inputs)
    model = keras.Model(sources[0] if len(sources) == 1 else sources, x, name=name)
    # Keras scales the loss of a model whose own policy is mixed_float16, whatever its layers compute in.
    model.dtype_policy = policy
    return model


class BlockPlan(NamedTuple):
    """What differs between the blocks of a network."""

    name: str
    filters: int
    strides: int
    drop_path_rate: float
    subsamples: bool


def _block_plans(variant: str, width: int, drop_path_rate: float, steps_last: bool) -> list[BlockPlan]:
    """Returns the blocks of all stages as data, with drop path growing linearly from 0 to its rate."""
    depths = VARIANTS[variant].depths
    last = sum(depths) - 1
    plans: list[BlockPlan] = []
    for stage, depth in enumerate(depths, start=2):
        for block in range(1, depth + 1):
            steps = (stage < len(depths) + 1 and block == depth) if steps_last else (stage > 2 and block == 1)
            rate = drop_path_rate * len(plans) / last
            name, filters = f"stage{stage}_block{block}", width * 2 ** (stage - 2)
            plans.append(BlockPlan(name, filters, 2 if steps else 1, rate, steps and steps_last))
    return plans


def _finish_features(x: Any, version: str, data_format: str, policy: Any) -> Any:
    """Returns the feature map behind the last activation; only pre-activated blocks still lack one."""
    if not VERSIONS[version].preactivation:
        return x
    norm = batch_norm("head_norm", epsilon=VERSIONS[version].norm_epsilon, data_format=data_format, dtype=policy)
    return keras.layers.Activation("relu", name="head_activation", dtype=policy)(norm(x))


def _pool(x: Any, pooling: str, data_format: str, policy: Any) -> Any:
    table = POOLING_LAYERS[pooling]
    return table[len(x.shape) - 2](data_format=data_format, name=POOLED, dtype=_head_dtype(policy))(x)


def _head_dtype(policy: Any) -> str:
    """Returns the dtype of the head: never 16 bit, where means, logits and losses lose their small differences."""
    return "float64" if policy.compute_dtype == "float64" else "float32"
