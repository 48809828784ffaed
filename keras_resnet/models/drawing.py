"""A network as a picture: stem, stages and head, with the branch and the shortcut of each kind of block."""

import dataclasses
import html
import os
from collections.abc import Iterator
from typing import Any

import keras

from keras_resnet import files
from keras_resnet.arguments import choose
from keras_resnet.blocks import Convolution
from keras_resnet.blocks.convolution import Composite
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.constructors import build
from keras_resnet.models.stages import BLOCK_NAME
from keras_resnet.models.variants import VARIANTS

BOX_WIDTH, BOX_HEIGHT, GAP, LEFT = 132, 34, 16, 170
SHORTCUT_HEIGHT = 40
STYLE = """
svg { font: 12px system-ui, sans-serif; color-scheme: light dark; }
text { fill: light-dark(#1b1f24, #e4e8ec); } .soft { fill: light-dark(#5d6670, #98a3ad); }
rect { fill: light-dark(#f2f5f8, #1d2329); stroke: light-dark(#8a94a0, #6b7682); }
rect.conv { fill: light-dark(#dcebfb, #1d3b5c); }
path { fill: none; stroke: light-dark(#5d6670, #98a3ad); stroke-width: 1.4; }
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the picture: the stem, a kind of block and how often it follows itself, or the head.

    Attributes:
        name: of the stage.
        times: how many blocks of this kind follow one another.
        shape: of the output, without the batch axis.
        branch: what is computed, in order; one text a box.
        shortcut: what the shortcut computes; empty for the identity, None for what has no shortcut.
    """

    name: str
    times: int
    shape: tuple[int | None, ...]
    branch: tuple[str, ...]
    shortcut: tuple[str, ...] | None


def diagram(model: str | keras.Model, path: str | os.PathLike | None = None, **arguments: Any) -> str:
    """Draws the block diagram of a network from its built graph.

    Args:
        model: the name of a variant, or a model of this package.
        path: of an SVG file to write, whole or not at all; one that this package wrote is replaced. None to write
            none.
        **arguments: for a name: any argument of the constructor, such as `stem="small"` or `input_shape=(32, 32, 3)`.

    Returns:
        The SVG as text. It needs nothing from elsewhere, and follows the dark mode of the page or the system.

    Raises:
        ValueError: an unknown name, a model that holds no block of this package, or a path that does not end in .svg.
        TypeError: `model` is neither a name nor a Keras model, or arguments were given with a model.

    Example:
        >>> import keras_resnet
        >>> svg = keras_resnet.diagram("resnet50")
        >>> svg.count("stage4"), "7x7 conv, 64, /2" in svg
        (2, True)
    """
    if path is not None and not os.fspath(path).endswith(".svg"):
        raise BadValue(f"path={os.fspath(path)!r} is not an SVG file. Expected a path such as resnet50.svg.")
    if path is not None:
        files.check_replaceable(path, "path")
    if isinstance(model, str):
        choose("model", model, VARIANTS)
        model = build(model, **{"kernel_initializer": "zeros", **arguments})
    elif not isinstance(model, keras.Model):
        raise BadType(f"model must be a name or a Keras model, got {type(model).__name__}. Pass e.g. 'resnet50'.")
    elif arguments:
        raise BadType(f"{sorted(arguments)} were given with a built model, where they have no effect. Leave them out.")
    svg = _drawn(model.name, tuple(model.inputs[0].shape[1:]), rows_of(model))
    if path is not None:
        files.write_text(path, svg)
    return svg


def rows_of(model: keras.Model) -> list[Row]:
    """Returns the rows of the drawing, from the layers of a model in their order."""
    rows: list[Row] = []
    head: list[keras.layers.Layer] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        match = BLOCK_NAME.fullmatch(layer.name)
        if not match and layer.name != "stem":
            head.append(layer)
            continue
        if head and not rows:
            rows.append(_chain("input", head))
            head = []
        row = _block(match[1], layer) if match else _chain("stem", [layer])
        if rows and dataclasses.replace(rows[-1], times=1) == row:
            rows[-1] = dataclasses.replace(row, times=rows[-1].times + 1)
        else:
            rows.append(row)
    if not any(row.shortcut is not None for row in rows):
        raise BadValue(
            f"The model {model.name!r} holds no block of keras_resnet. A diagram is drawn of networks that have them. "
            "Pass e.g. ResNet50()."
        )
    return [*rows, _chain("head", head)] if head else rows


def _chain(name: str, layers: list[keras.layers.Layer]) -> Row:
    shape = tuple(layers[-1].output.shape[1:])
    return Row(name, 1, shape, tuple(_texts([leaf for layer in layers for leaf in _leaves(layer)])), None)


def _block(name: str, layer: Any) -> Row:
    inner = layer.sublayers()
    shortcut = [child for child in inner if child is layer.shortcut]
    branch = [leaf for child in inner if child is not layer.shortcut for leaf in _leaves(child)]
    beside = [leaf for child in shortcut for leaf in _leaves(child)]
    return Row(name, 1, tuple(layer.output.shape[1:]), tuple(_texts(branch)), tuple(_texts(beside)))


def _leaves(layer: Any) -> Iterator[Any]:
    # Squeeze-and-excitation is one word to its readers.
    if isinstance(layer, Composite) and layer.name != "attention":
        for child in layer.sublayers():
            yield from _leaves(child)
    else:
        yield layer


def _texts(layers: list[Any]) -> Iterator[str]:
    """Yields a text a box; norms are left out where they follow a convolution of the same branch, as papers do."""
    for layer in layers:
        kind = type(layer).__name__
        if isinstance(layer, Convolution):
            rank = layer.kernel.ndim - 2
            groups = f", {layer.groups} groups" if layer.groups > 1 else ""
            stride = f", /{layer.strides}" if layer.strides > 1 else ""
            yield f"{'x'.join([str(layer.kernel_size)] * rank)} conv, {layer.filters}{groups}{stride}"
        elif isinstance(layer, keras.layers.Dense):
            yield f"dense, {layer.units}"
        elif layer.name == "attention":
            yield layer.label
        elif isinstance(layer, keras.layers.Dropout):
            yield f"{layer.name.replace('_', ' ')} {layer.rate:.2g}"
        elif "Pooling" in kind:
            size = getattr(layer, "pool_size", None)
            yield "mean of all places" if size is None else f"{'x'.join(map(str, size))} {_pooling(kind)}, {_by(layer)}"
        elif kind not in ("BatchNorm", "Activation"):
            yield layer.name.replace("_", " ")


def _pooling(kind: str) -> str:
    return "mean" if kind.startswith("Average") else "max"


def _by(layer: Any) -> str:
    return f"/{layer.strides[0] if isinstance(layer.strides, (tuple, list)) else layer.strides}"


def _drawn(name: str, input_shape: tuple[int | None, ...], rows: list[Row]) -> str:
    parts, top = [], 40
    widest = max(len(row.branch) for row in rows)
    width = LEFT + (widest + 1) * (BOX_WIDTH + GAP) + 60
    parts.append(_text(16, 24, f"{name}, input {_sizes(input_shape)}", "title"))
    for row in rows:
        height = BOX_HEIGHT + 44 + (SHORTCUT_HEIGHT if row.shortcut is not None else 0)
        parts += _row(row, top)
        top += height
    title = f"Block diagram of {name}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" '
        f'role="img" aria-label="{html.escape(title)}">{files.SVG_MARK}<style>{STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _row(row: Row, top: float) -> Iterator[str]:
    """Yields a stage's name and shape, its branch from left to right, and its shortcut beneath."""
    middle = top + 22 + BOX_HEIGHT / 2
    times = f" x {row.times}" if row.times > 1 else ""
    yield _text(16, middle, f"{row.name}{times}")
    yield _text(16, middle + 16, _sizes(row.shape), "soft")
    x = float(LEFT)
    for text in row.branch:
        yield _arrow(x - GAP, x, middle)
        yield _box(x, middle - BOX_HEIGHT / 2, text)
        x += BOX_WIDTH + GAP
    if row.shortcut is None:
        return
    yield _arrow(x - GAP, x + 4, middle)
    yield f'<circle cx="{x + 14}" cy="{middle}" r="10" fill="none" stroke="currentColor"/>'
    yield _text(x + 14, middle + 4, "+", anchor="middle")
    below = middle + BOX_HEIGHT / 2 + SHORTCUT_HEIGHT - 14
    start = LEFT - GAP / 2
    yield f'<path d="M{start} {middle} V{below} H{x + 14} V{middle + 10}"/>'
    if not row.shortcut:
        yield _text((start + x) / 2, below - 5, "identity", "soft", "middle")
    place = LEFT + BOX_WIDTH / 2
    for text in row.shortcut:
        yield _box(place, below - BOX_HEIGHT / 2, text)
        place += BOX_WIDTH + GAP


def _box(x: float, y: float, text: str) -> str:
    kind = ' class="conv"' if "conv" in text or "dense" in text else ""
    label = _text(x + BOX_WIDTH / 2, y + BOX_HEIGHT / 2 + 4, text, anchor="middle")
    return f'<rect{kind} x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>{label}'


def _arrow(start: float, end: float, y: float) -> str:
    return f'<path d="M{start} {y} H{end} m-5 -4 l5 4 l-5 4"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _sizes(shape: tuple[int | None, ...]) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape)
