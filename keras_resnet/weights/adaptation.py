"""Weights of networks on RGB pictures for other inputs: other channels, signals and volumes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.blocks import Stem
from keras_resnet.blocks.convolution import channel_axis
from keras_resnet.blocks.residual import VERSIONS, ResidualBlock
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import InputNormalization
from keras_resnet.weights.naming import Layout

HEAD = "predictions"  # the layer that gives the outputs
POOLED = "head_pool"  # the one before it


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_whole_or_none(value: Any) -> bool:
    return value is None or _is_whole(value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


# What `architecture_of` says -> whether a value may be it, for files that strangers wrote.
FACTS: dict[str, Callable[[Any], bool]] = {
    "block": _is_word,
    "depths": lambda value: isinstance(value, list) and all(map(_is_whole, value)),
    "strides": lambda value: isinstance(value, list) and all(isinstance(strides, list) for strides in value),
    "version": lambda value: _is_word(value) and value in VERSIONS,
    "norm_epsilon": lambda value: isinstance(value, float),
    "stem": _is_word,
    "shortcut": _is_word,
    "width": _is_whole,
    "groups": _is_whole,
    "inner_filters": _is_whole,
    "widths": lambda value: value is None or _is_word(value),
    "attention": lambda value: value is None or _is_word(value),
    "rank": lambda value: _is_whole(value) and value <= 3,
    "channels": _is_whole,
    "classes": _is_whole_or_none,
    "quantized": lambda value: value is None or isinstance(value, bool),
}


def architecture_of(model: keras.Model, *, with_norms: bool = False) -> dict[str, Any]:
    """Returns the settings of a network that the shapes of its weights do not show.

    Args:
        model: built by keras_resnet, flat.
        with_norms: whether a network that rounds to 8 bits is refused too.

    Returns:
        Plain values: kind of the blocks, their number in each stage and their strides, version, stem, shortcut, width,
        groups, attention, widths of a pruned network, input channels, rank, classes (None without a classifier), and
        whether it rounds to 8 bits.

    Raises:
        ValueError: the model holds no stem of keras_resnet, or `fuse` or `dilate` made it.
    """
    stems = [layer for layer in model.layers if isinstance(layer, Stem)]
    blocks = [layer for layer in model.layers if isinstance(layer, ResidualBlock)]
    if len(stems) != 1 or not blocks:
        raise BadValue(
            f"model {model.name!r} holds {len(stems)} stems of keras_resnet and {len(blocks)} blocks. Allowed is one "
            "network, flat. Pass the network itself, not a model around it."
        )
    stem, first = stems[0], blocks[0]
    if stem.fused and (with_norms or not stem.quantized):
        raise BadValue(
            f"model {model.name!r} has its norms folded into its convolutions, by fuse() or quantize(). Allowed are "
            "networks that have them. Use the one that it was made of."
        )
    if any(block.dilations is not None for block in blocks):
        raise BadValue(
            f"model {model.name!r} has dilated convolutions, by dilate(). Allowed are networks with their own strides. "
            "Use the one that it was made of: it has the same weights."
        )
    heads = [layer for layer in model.layers if layer.name == HEAD]
    stages: dict[str, list[int]] = {}
    for block in blocks:
        stages.setdefault(block.name.partition("_")[0], []).append(block.strides)
    shape = stem.input.shape
    return {
        "block": type(first).__name__,
        "depths": [len(strides) for strides in stages.values()],
        "strides": [strides for strides in stages.values()],
        "version": first.version,
        "norm_epsilon": VERSIONS[first.version].norm_epsilon,
        "stem": stem.kind,
        "shortcut": first.shortcut_kind,
        "width": stem.filters,
        "groups": first.groups,
        "inner_filters": first.branch_widths[0],
        "widths": widths_of(stem, blocks),
        "attention": first.attention_kind,
        "rank": len(shape) - 2,
        "channels": int(shape[channel_axis(stem.data_format)]),
        "classes": int(heads[0].units) if heads else None,
        "quantized": stem.quantized,
    }


def widths_of(stem: Stem, blocks: Sequence[ResidualBlock]) -> str:
    """Returns the channels of a network as the constructors take them; empty where they follow from its width."""
    if all(block.widths is None for block in blocks):
        return ""
    return " ".join([str(stem.filters), *(",".join(map(str, block.branch_widths)) for block in blocks)])


def layout_of(architecture: Mapping[str, Any]) -> Layout:
    """Returns the settings on which the names of variables in other libraries depend."""
    preactivation = VERSIONS[architecture["version"]].preactivation
    return Layout(architecture["stem"], architecture["shortcut"], preactivation)


PICTURES = 2  # axes of space that published weights have
KINDS = {1: "signals", 2: "pictures", 3: "volumes"}


def can_adapt(given: tuple[int, ...], wanted: tuple[int, ...], *, is_first: bool) -> bool:
    """Returns whether a kernel of one shape can be made one of another."""
    space, other = given[:-2], wanted[:-2]
    if len(given) < 3 or len(wanted) < 3 or given[-1] != wanted[-1] or (given[-2] != wanted[-2] and not is_first):
        return False
    return space == other or (len(space) == PICTURES and set(space) == set(other) and len(set(space)) == 1)


def adapt_kernel(kernel: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """Returns a kernel for another number of channels or axes of space, float32.

    One channel sums those of the file: on gray values the answer is that of RGB with equal channels, behind the
    normalization. Other numbers repeat the channels in their order, scaled so that the sum of the inputs keeps its
    size. For volumes a kernel is repeated along depth and divided by its length: a volume whose slices are equal is
    answered as the slice. For signals it is summed over height: a signal is answered as a picture whose rows all are
    the signal.

    Source:
        Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", section 2 (inflation); channels as in timm's
        `adapt_input_conv`.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.weights.adaptation import adapt_kernel
        >>> adapt_kernel(np.ones((3, 3, 3, 1)), (3, 3, 3, 1, 1))[0, 0, 0].tolist()
        [[1.0]]
    """
    kernel = np.asarray(kernel, "float32")
    inputs, channels = kernel.shape[-2], wanted[-2]
    if channels == 1 and inputs != 1:
        kernel = kernel.sum(axis=-2, keepdims=True)
    elif channels != inputs:
        kernel = kernel[..., np.arange(channels) % inputs, :] * np.float32(inputs / channels)
    while kernel.ndim < len(wanted):
        kernel = np.repeat(kernel[None], wanted[0], axis=0) / np.float32(wanted[0])
    while kernel.ndim > len(wanted):
        kernel = kernel.sum(axis=0)
    return kernel


def adapt_normalization(stored: dict[str, Any], channels: int, rank: int) -> dict[str, Any] | None:
    """Adapts the normalization to other channels: means and deviations averaged for one, repeated for more.

    Returns:
        None for signals and volumes: their units are not those of pictures.
    """
    if rank != PICTURES:
        return None
    layer = InputNormalization(**{name: value for name, value in stored.items() if name != "record"})
    mean, std = (np.asarray(values, "float64") for values in (layer._mean, layer._std))
    if layer.scheme == "caffe":  # its constants are those of BGR
        mean, std = mean[::-1], std[::-1]
    adapted = dict(stored)
    if len(mean) not in (1, channels):
        if channels == 1:
            # The mean of the channels; deviations as if they moved together, as those of gray pictures do.
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        else:
            mean, std = (values[np.arange(channels) % len(values)] for values in (mean, std))
        adapted |= {"scheme": "dataset", "mean": mean.tolist(), "std": std.tolist()}
    if "record" in adapted:
        adapted["record"] = {**adapted["record"], "channel_order": "grey" if channels == 1 else "any"}
    return adapted


def check_input(where: str, file: tuple[int, int], wanted: tuple[int, int], adapt: bool) -> None:
    """Raises ValueError for weights of other channels or axes than the network's, unless they are adapted."""
    (channels, rank), (others, axes) = file, wanted
    can = rank in (PICTURES, axes)
    if file == wanted or (adapt and can):
        return
    advice = (
        "They can be adapted: pass adapt_weights=True (in a recipe model.adapt_weights), which sums or repeats the "
        "first kernel over channels, and the kernels of pictures over height or depth."
        if can
        else "Only weights of pictures can be adapted to other axes. Build the network that they were written for."
    )
    raise BadValue(
        f"{where} are for {KINDS[rank]} of {channels} channel{'s' if channels != 1 else ''}, and the network takes "
        f"{KINDS[axes]} of {others}. {advice}"
    )
