"""Checks of a constructor's arguments, made before anything is built."""

import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.arguments import check_bool, check_fraction, check_int, choose
from keras_resnet.blocks.convolution import check_data_format
from keras_resnet.blocks.residual import ATTENTION, VERSIONS
from keras_resnet.blocks.shortcut import SHORTCUTS
from keras_resnet.blocks.stem import STEMS
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.variants import VARIANTS

# What divides by the sum over the classes: of a single one nothing is left to learn.
ONE_ALWAYS = (keras.activations.softmax, keras.activations.log_softmax)
POOLINGS = {None: None, "avg": "average", "max": "max"}
# Those that can change the channels, as the first block of a stage does.
MODEL_SHORTCUTS = {name: what for name, what in SHORTCUTS.items() if name != "subsample"}
STAGE_STRIDES = 8  # stages 3, 4 and 5 halve the size once each
PLAIN_WIDTH = 64  # of stage 2, in which `width_per_group` is counted
AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}


def check_head(include_top: Any, pooling: Any, classes: Any, classifier_activation: Any, dropout_rate: Any) -> None:
    """Checks what belongs to the classifier, and that no argument is given that would have no effect."""
    check_bool("include_top", include_top)
    choose("pooling", pooling, POOLINGS)
    check_int("classes", classes)
    check_fraction("dropout_rate", dropout_rate)
    if include_top and pooling is not None:
        raise BadValue(
            f"pooling={pooling!r} was given with include_top=True, where it has no effect. "
            "The classifier averages the last feature map. Pass include_top=False to get pooled features."
        )
    if not include_top and dropout_rate:
        raise BadValue(
            f"dropout_rate={dropout_rate!r} was given with include_top=False, where it has no effect. "
            "It drops inputs of the classifier. Pass include_top=True, or dropout_rate=0."
        )
    _check_activation(classifier_activation)
    if include_top and classes == 1 and keras.activations.get(classifier_activation) in ONE_ALWAYS:
        raise BadValue(
            f"classes=1 was given with classifier_activation={classifier_activation!r}, which answers with the same "
            "number whatever it sees. Allowed are None for a regression or a logit, and 'sigmoid'. Pass one of these, "
            "or classes=2."
        )


def _check_activation(activation: Any) -> None:
    if callable(activation) and getattr(activation, "__name__", "") == "<lambda>":
        raise BadValue(
            "classifier_activation is a lambda, which no saved model could hold. Allowed are the name of a Keras "
            "activation, a registered function or None. Use keras.saving.register_keras_serializable on a function."
        )
    try:
        keras.activations.get(activation)
    except (ValueError, TypeError) as error:
        raise BadValue(
            f"classifier_activation={activation!r} is not a Keras activation. Allowed are names such as 'softmax' and "
            "'sigmoid', functions, and None for logits. Pass one of these."
        ) from error


def check_regularisation(kernel_initializer: Any, kernel_regularizer: Any, drop_path_rate: Any) -> tuple[Any, Any]:
    """Returns the initializer and the regularizer as Keras objects."""
    check_fraction("drop_path_rate", drop_path_rate)
    try:
        initializer = keras.initializers.get(kernel_initializer)
        if initializer is None or not hasattr(initializer, "get_config"):
            raise ValueError("not an Initializer")
    except (ValueError, TypeError) as error:
        raise BadValue(
            f"kernel_initializer={kernel_initializer!r} is not a Keras initializer. Allowed are names such as "
            "'he_normal' and 'glorot_uniform', and keras.initializers objects. Pass one of these."
        ) from error
    try:
        regularizer = keras.regularizers.get(kernel_regularizer)
        if regularizer is not None and not hasattr(regularizer, "get_config"):
            raise ValueError("not a Regularizer")
    except (ValueError, TypeError) as error:
        raise BadValue(
            f"kernel_regularizer={kernel_regularizer!r} is not a Keras regularizer. Allowed are 'l1', 'l2', 'l1l2', "
            "keras.regularizers objects and None. Pass for example keras.regularizers.L2(1e-4)."
        ) from error
    return initializer, regularizer


def check_choices(version: Any, stem: Any, shortcut: Any, attention: Any, width: Any, zero_init_residual: Any) -> None:
    """Checks the arguments that choose an architecture."""
    choose("version", version, VERSIONS)
    choose("stem", stem, STEMS)
    choose("shortcut", shortcut, MODEL_SHORTCUTS)
    choose("attention", attention, ATTENTION)
    check_int("width", width)
    check_bool("zero_init_residual", zero_init_residual)


def check_groups(variant: str, groups: Any, width_per_group: Any) -> None:
    """Checks the arguments that divide a bottleneck."""
    check_int("groups", groups)
    check_int("width_per_group", width_per_group)
    if VARIANTS[variant].kind != "bottleneck" and (groups, width_per_group) != (1, PLAIN_WIDTH):
        able = ", ".join(name for name, row in VARIANTS.items() if row.kind == "bottleneck")
        raise BadValue(
            f"groups={groups} and width_per_group={width_per_group} were given for {variant}, whose blocks have no "
            f"bottleneck. Allowed are they for {able}. Leave them out, or build one of these."
        )


def inner_filters(filters: int, groups: int, width_per_group: int) -> int | None:
    """Returns the channels of a bottleneck's 3x3; None for `filters`, as in a plain ResNet."""
    if (groups, width_per_group) == (1, PLAIN_WIDTH):
        return None
    return max(1, filters * width_per_group // PLAIN_WIDTH) * groups


def check_widths(widths: Any, variant: str, stem: str, width: int) -> tuple[int, Sequence[tuple[int, ...] | None]]:
    """Returns the channels of the stem, and those of the convolutions of each block; None for those of `width`."""
    row = VARIANTS[variant]
    blocks, convolutions = sum(row.depths), len(row.block.branch)
    if widths == "":
        return width, (None,) * blocks
    if not isinstance(widths, str):
        raise BadType(
            f"widths must be a string, got {widths!r} of type {type(widths).__name__}. Pass such as '16 8,16'."
        )
    parts = [part.split(",") for part in widths.split()]
    counts = [len(part) for part in parts]
    numbers = [number for part in parts for number in part]
    if counts != [1, *[convolutions] * blocks] or not all(number.isdecimal() and int(number) for number in numbers):
        raise BadValue(
            f"widths={widths!r} was given for {variant}. It needs a number for the stem and {convolutions} for each of "
            f"{blocks} blocks, with commas, and spaces between blocks. Pass what `prune` left in the configuration."
        )
    (first,), *rest = (tuple(map(int, part)) for part in parts)
    if len(STEMS[stem].convolutions) > 1 and first != width:
        raise BadValue(
            f"widths={widths!r} begins with {first} and width={width} was given with stem={stem!r}, whose channels "
            "follow from width. Begin with the same."
        )
    return first, rest


def check_name(name: Any, default: str) -> str:
    """Returns `name`, or `default` for None."""
    if name is None:
        return default
    if not isinstance(name, str):
        raise BadType(f"name must be a string or None, got {name!r} of type {type(name).__name__}. Pass a string.")
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.>\\-]*", name):
        raise BadValue(
            f"name={name!r} cannot name a model. Allowed are letters, digits, '_', '.' and '-', with at least one. "
            f"Pass a name such as {default!r}, or None."
        )
    return name


def check_dtype(dtype: Any) -> Any:
    """Returns `dtype` as a Keras policy; the global policy for None."""
    try:
        policy = keras.dtype_policies.get(dtype)
        # A policy accepts any name; only a known dtype can be computed in.
        keras.backend.standardize_dtype(policy.compute_dtype)
        if not policy.compute_dtype.startswith(("float", "bfloat")):
            raise ValueError(policy.compute_dtype)
        return policy
    except (ValueError, TypeError, AttributeError) as error:
        raise BadValue(
            f"dtype={dtype!r} is not a floating dtype policy. Allowed are 'float32', 'float64', 'bfloat16', 'float16', "
            "'mixed_bfloat16', 'mixed_float16', keras.DTypePolicy objects and None. Pass one of these."
        ) from error


def check_input(
    input_tensor: Any, input_shape: Any, data_format: Any, stem: str, include_top: bool
) -> tuple[tuple[int | None, ...], str]:
    """Returns the shape of one input without the batch axis, and the data format."""
    data_format = check_data_format(data_format)
    if input_tensor is not None:
        shape = _shape_of_tensor(input_tensor)
        if input_shape is not None and tuple(input_shape) != shape:
            raise BadValue(
                f"input_shape={tuple(input_shape)} was given with an input_tensor of shape {shape}. "
                "They must be equal. Pass one of them."
            )
        source = "input_tensor"
    elif input_shape is None:
        side = 224 if include_top else None
        shape = (side, side, 3) if data_format == "channels_last" else (3, side, side)
        source = "input_shape"
    else:
        shape = _shape_of_argument(input_shape)
        source = "input_shape"
    _check_sizes(shape, data_format, stem, source)
    return shape, data_format


def _shape_of_tensor(input_tensor: Any) -> tuple[int | None, ...]:
    if not keras.backend.is_keras_tensor(input_tensor):
        raise BadType(
            f"input_tensor must be a symbolic Keras tensor, got {type(input_tensor).__name__}. "
            "It is what keras.Input(shape) or a layer called on one returns. Call the finished model on data instead."
        )
    if not str(input_tensor.dtype).startswith(("float", "bfloat")):
        raise BadType(
            f"input_tensor has dtype {input_tensor.dtype}. Convolutions take floating dtypes only. "
            "Put a preprocessing layer in between, such as keras_resnet.preprocessing.InputNormalization."
        )
    return tuple(input_tensor.shape[1:])


def _shape_of_argument(input_shape: Any) -> tuple[int | None, ...]:
    if not isinstance(input_shape, (tuple, list)):
        raise BadType(
            f"input_shape must be a tuple (height, width, channels), got {input_shape!r} of type "
            f"{type(input_shape).__name__}. For 1-D nets it is (length, channels), for 3-D nets (depth, height, width, "
            "channels). Pass such a tuple, without the batch axis."
        )
    for size in input_shape:
        if size is not None and (isinstance(size, bool) or not hasattr(size, "__index__")):
            raise BadType(
                f"input_shape={tuple(input_shape)} holds {size!r}. Its sizes must be integers or None. "
                "Pass whole numbers of pixels."
            )
    return tuple(None if size is None else int(size) for size in input_shape)


def _check_sizes(shape: tuple[int | None, ...], data_format: str, stem: str, source: str) -> None:
    if len(shape) not in (2, 3, 4):
        raise BadValue(
            f"{source} has length {len(shape)}: {shape}. Allowed are length 2 (length, channels), length 3 (height, "
            "width, channels) and length 4 (depth, height, width, channels). Leave out the batch axis."
        )
    channels = shape[-1] if data_format == "channels_last" else shape[0]
    sizes = shape[:-1] if data_format == "channels_last" else shape[1:]
    expected = (
        f"({AXES[len(sizes)]}, channels)" if data_format == "channels_last" else f"(channels, {AXES[len(sizes)]})"
    )
    if channels is None or channels < 1:
        raise BadValue(
            f"{source}={shape} has {channels} channels. channels must be >= 1 in {expected}, the order of "
            f"data_format={data_format!r}. Pass the number of channels."
        )
    minimum = STEMS[stem].strides * STAGE_STRIDES
    if all(size is None or size >= minimum for size in sizes):
        return
    size = "x".join(str(size) for size in sizes)
    hint = ""
    if data_format == "channels_last" and sizes[0] is not None and sizes[0] <= 4 < channels:
        hint = f" The shape looks like channels_first; expected {expected}."
    elif data_format == "channels_first" and sizes[-1] is not None and sizes[-1] <= 4 < channels:
        hint = f" The shape looks like channels_last; expected {expected}."
    smaller = (
        "" if stem == "small" else f", or stem='small' for inputs of at least {STEMS['small'].strides * STAGE_STRIDES}"
    )
    raise BadValue(
        f"{source}={shape} is too small: an input of {size} is smaller than the minimum of {minimum} that "
        f"stem={stem!r} reduces to one pixel.{hint} Pass larger inputs{smaller}."
    )
