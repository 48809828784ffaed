"""What a network is, as far as its weights depend on it: files of equal shapes may mean different networks."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_resnet.blocks import Stem
from keras_resnet.blocks.layout import channel_axis
from keras_resnet.blocks.residual import ResidualBlock
from keras_resnet.blocks.versions import VERSIONS
from keras_resnet.errors import BadValue
from keras_resnet.weights.naming import Layout

HEAD = "predictions"


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
    "attention": lambda value: value is None or _is_word(value),
    "rank": lambda value: _is_whole(value) and value <= 3,
    "channels": _is_whole,
    "classes": _is_whole_or_none,
}


def architecture_of(model: keras.Model) -> dict[str, Any]:
    """Returns what tells a network from others whose weights have the same shapes.

    Args:
        model: built by keras_resnet, flat.

    Returns:
        Plain values: kind of the blocks, their number in each stage and their strides, version, stem, shortcut, width,
        groups, attention, input channels, rank, and the classes (None without a classifier).

    Raises:
        ValueError: the model holds no stem of keras_resnet.
    """
    stems = [layer for layer in model.layers if isinstance(layer, Stem)]
    blocks = [layer for layer in model.layers if isinstance(layer, ResidualBlock)]
    if len(stems) != 1 or not blocks:
        raise BadValue(
            f"model {model.name!r} holds {len(stems)} stems of keras_resnet and {len(blocks)} blocks. Allowed is one "
            "network, flat. Pass the network itself, not a model around it."
        )
    stem, first = stems[0], blocks[0]
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
        "inner_filters": first.inner_filters or first.filters,
        "attention": first.attention_kind,
        "rank": len(shape) - 2,
        "channels": int(shape[channel_axis(stem.data_format)]),
        "classes": int(heads[0].units) if heads else None,
    }


def layout_of(architecture: Mapping[str, Any]) -> Layout:
    """Returns what the names of a network's variables depend on in other libraries."""
    preactivation = VERSIONS[architecture["version"]].preactivation
    return Layout(architecture["stem"], architecture["shortcut"], preactivation)
