"""The pictures of a run folder: curves.png and confusion.png."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

TRAINING, VALIDATION = "#1f5fa8", "#d1701f"
MOST_ANNOTATED_CLASSES, MOST_NAMED_CLASSES = 20, 50


def draw_curves(rows: Sequence[dict[str, float]], path: pathlib.Path) -> None:
    """Draws loss, accuracy or mean absolute error, and learning rate over the epochs.

    Args:
        rows: one an epoch, as in history.csv.
        path: of the PNG.
    """
    panels = [("loss", "loss", "Loss")]
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
    figure.savefig(path, dpi=120)


def draw_confusion(confusion: Any, class_names: Sequence[str], path: pathlib.Path, title: str) -> None:
    """Draws a confusion matrix: a row a true class, shaded by its share of the row, annotated with counts.

    Args:
        confusion: `(classes, classes)` counts.
        class_names: one a class.
        path: of the PNG.
        title: above the picture.
    """
    counts = np.asarray(confusion)
    classes = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.45 * classes + 2.2, 4.0, 14.0))
    figure = _figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if classes <= MOST_NAMED_CLASSES:
        longest = max(map(len, class_names))
        axes.set_xticks(range(classes), class_names, rotation=90 if longest > 3 else 0)
        axes.set_yticks(range(classes), class_names)
    if classes <= MOST_ANNOTATED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[row, column] > 0.55 else "black"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.03)
    figure.savefig(path, dpi=120)


def _figure(width: float, height: float) -> Any:
    # A figure of its own rather than pyplot's, which keeps global state and may look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
