"""Figures by matplotlib: training curves, confusion, examples; the fonts that class names need; signals."""

import functools
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_resnet.files import PNG_METADATA, write_atomically

DEFAULT = "DejaVu Sans"  # comes with matplotlib, without Chinese, Japanese and Korean
INK = "#1b1f24"


def readable(texts: Sequence[str]) -> tuple[list[str], Any]:
    """Returns texts as figures can show them, and settings for `matplotlib.rc_context` with the fonts that they need.

    A text with a character that no font of this system has is replaced by its number: "#3".
    """
    families, missing = _families(frozenset("".join(texts)))
    labels = [text if not missing & set(text) else f"#{index}" for index, text in enumerate(texts)]
    return labels, {"font.family": list(families)}


@functools.lru_cache(maxsize=64)
def _families(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Returns the families that show as many characters as this system can, the default first, and what is left."""
    from matplotlib import font_manager

    families = [DEFAULT]
    missing = {character for character in characters if character.isprintable()}
    missing -= _characters(font_manager.findfont(DEFAULT))
    for entry in font_manager.fontManager.ttflist if missing else ():
        if entry.style != "normal" or entry.name in families:
            continue
        covered = missing & _characters(entry.fname)
        if covered:
            families.append(entry.name)
            missing -= covered
        if not missing:
            break
    return tuple(families), frozenset(missing)


@functools.lru_cache(maxsize=256)
def _characters(path: str) -> frozenset[str]:
    from matplotlib import font_manager

    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError):  # a font that cannot be read shows nothing
        return frozenset()


def draw_leads(axes: Any, signal: np.ndarray) -> np.ndarray:
    """Draws the channels of a signal as dark lines one above the other, the first on top.

    Returns:
        The height of each channel's middle.
    """
    spread = float(np.ptp(signal, axis=0).max()) or 1.0
    heights = -1.1 * np.arange(signal.shape[1])
    middles = (signal.max(axis=0) + signal.min(axis=0)) / 2
    axes.plot((signal - middles) / spread + heights, color=INK, linewidth=0.7)
    axes.set_xlim(0, max(len(signal) - 1, 1))
    axes.set_ylim(heights[-1] - 0.6, 0.6)
    return heights


TRAINING, VALIDATION = "#1f5fa8", "#d1701f"
MAX_ANNOTATED_CLASSES, MAX_NAMED_CLASSES = 20, 50


def draw_or_warn(path: pathlib.Path, draw: Callable[[pathlib.Path], object]) -> None:
    """Writes a picture of a run; one that cannot be drawn is a warning, because it must not end the run."""
    try:
        write_atomically(path, draw)
    except Exception as error:
        warnings.warn(f"{path.name} could not be drawn ({error!r}); the run goes on without it.", stacklevel=2)


def draw_curves(rows: Sequence[dict[str, float]], path: pathlib.Path) -> None:
    """Draws loss, accuracy or mean absolute error, and learning rate over the epochs."""
    panels = [("loss", "loss", "Loss as minimized")]
    panels += [
        (key, key, title) for key, title in (("accuracy", "Accuracy"), ("mae", "Mean absolute error")) if key in rows[0]
    ]
    panels += [("learning_rate", "", "Learning rate at the end of the epoch")] if "learning_rate" in rows[0] else []
    figure = _figure(4.2 * len(panels), 3.4)
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) <= 30 else ""
    for place, (key, pair, title) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.plot(epochs, [row[key] for row in rows], color=TRAINING, marker=marker, markersize=3, label="training")
        if pair and f"val_{pair}" in rows[0]:
            values = [row[f"val_{pair}"] for row in rows]
            axes.plot(epochs, values, color=VALIDATION, marker=marker, markersize=3, label="validation")
            axes.legend(frameon=False)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata=PNG_METADATA)


def draw_confusion(confusion: Any, class_names: Sequence[str], path: pathlib.Path, title: str) -> None:
    """Draws a confusion matrix: one row per true class, shaded by its share of the row, annotated with counts."""
    names, fonts = readable(class_names)
    with _fonts(fonts):
        _draw_confusion(np.asarray(confusion), names, path, title)


def _draw_confusion(counts: np.ndarray, class_names: Sequence[str], path: pathlib.Path, title: str) -> None:
    classes = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.45 * classes + 2.2, 4.0, 14.0))
    figure = _figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if classes <= MAX_NAMED_CLASSES:
        longest = max(map(len, class_names))
        # Names are text as it stands: "$" begins no formula.
        axes.set_xticks(range(classes), class_names, rotation=90 if longest > 3 else 0, parse_math=False)
        axes.set_yticks(range(classes), class_names, parse_math=False)
    if classes <= MAX_ANNOTATED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if share[row, column] > 0.55 else "black"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.03)
    figure.savefig(path, dpi=120, metadata=PNG_METADATA)


def _figure(width: float, height: float) -> Any:
    # Its own figure rather than pyplot's, which keeps global state and may look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_range_test(found: Any, path: pathlib.Path) -> None:
    """Draws the losses of a range test over the learning rate."""
    figure = _figure(7.0, 4.0)
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color=TRAINING, alpha=0.3, label="loss of each batch")
    axes.plot(found.rates, found.smoothed, color=TRAINING, label="smoothed")
    if found.suggestion is not None:
        axes.axvline(found.suggestion, color=VALIDATION, linestyle="--", label=f"falls fastest: {found.suggestion:.2g}")
    axes.set_xscale("log")
    low, high = min(*found.losses, *found.smoothed), max(found.smoothed[: int(np.argmin(found.smoothed)) + 1])
    # From the start to the bottom: what diverges leaves the picture above. Losses that never fall have no such height.
    if high > low:
        axes.set_ylim(low - 0.1 * (high - low), high + 0.4 * (high - low))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata=PNG_METADATA)


def draw_examples(
    plain: np.ndarray, changed: np.ndarray, titles: Sequence[str], columns: int, path: pathlib.Path
) -> None:
    """Draws pairs of examples, unchanged and augmented: pictures, signals as lines, slices of volumes."""
    shown, fonts = readable(titles)
    with _fonts(fonts):
        _draw_pairs(plain, changed, shown, columns, path)


def _fonts(settings: Any) -> Any:
    import matplotlib

    return matplotlib.rc_context(settings)


def _draw_pairs(
    plain: np.ndarray, changed: np.ndarray, titles: Sequence[str], columns: int, path: pathlib.Path
) -> None:
    rows = -(-len(changed) // columns)
    figure = _figure(1.5 * columns, 3.2 * rows)
    for index, (one, two) in enumerate(zip(plain, changed, strict=True)):
        row, column = divmod(index, columns)
        for below, example in enumerate((one, two)):
            axes = figure.add_subplot(2 * rows, columns, (2 * row + below) * columns + column + 1)
            _draw_example(axes, example)
            if below:  # the caption stands under its pair
                axes.set_xlabel(titles[index], fontsize=6, parse_math=False)
    figure.savefig(path, dpi=120, metadata=PNG_METADATA)


def _draw_example(axes: Any, example: np.ndarray) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if example.ndim == 2:
        draw_leads(axes, example)
        return
    picture = example[len(example) // 2] if example.ndim == 4 else example
    if picture.shape[-1] == 3:
        axes.imshow(np.clip(picture / 255, 0, 1))
    else:
        axes.imshow(picture.mean(axis=-1), cmap="gray")
