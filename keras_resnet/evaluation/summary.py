"""What to know of a run when it ends: its score with an interval, what it confuses, what is odd, what to do next."""

import importlib.util
import math
import shlex
from typing import Any

import numpy as np

from keras_resnet import data as datasets
from keras_resnet.tasks import CLASSIFICATION, TASKS, Task
from keras_resnet.tasks.labels import class_counts
from keras_resnet.training import Run

# Limits of the baseline, so that it takes a second or two.
# Of large pictures fewer: to decode them takes the longest, about as long as two epochs of 300.
BASELINE_EXAMPLES, LARGE_EXAMPLES = 2000, 300
BASELINE_SIDE_PX = 16
MAX_SIDE_PX = 128
CONFUSIONS = 3
VALIDATION_EXAMPLES = 50


def summary(run: Run) -> str:
    """Returns some lines on a run that ended: test score, confusions, warnings, and the next commands.

    Args:
        run: complete, with its scores.
    """
    task = TASKS[run.recipe.loss.choice.task.name]
    split = next((name for name in ("test", "validation") if name in run.metrics), None)
    if split is None:
        return ""
    figures = run.metrics[split]
    name = task.paired[0]
    low, high = figures.get(f"{name}_interval") or (None, None)
    interval = "" if low is None else f" (95 % interval {low:.4f} to {high:.4f})"
    lines = [f"score      {split} {name} {figures[name]:.4f}{interval}, {figures['examples']:,} examples"]
    floor = constant_score(run.dataset, split, task)
    if floor is not None:
        lines.append(f"baselines  {floor:.4f} for one answer to all")
        probe = linear_baseline(run.dataset, split)
        lines[-1] += "" if probe is None else f", {probe:.4f} for a linear classifier on pixels"
    else:
        probe = None
    if "confusion" in figures:
        lines += _confusions(figures["confusion"], run.class_names)
    lines += [f"warning    {text}" for text in _warnings(run, figures, name, floor, probe)]
    path = shlex.quote(str(run.path))
    faster = f"  keras-resnet export {path} --format onnx --out {path}/best.onnx"
    can_export = all(importlib.util.find_spec(name) for name in ("onnxruntime", "tf2onnx"))
    is_faster = can_export and task is CLASSIFICATION and len(run.about.image_shape) == 3
    return "\n".join(
        [
            *lines,
            "next:",
            f"  keras-resnet report {path} --out report.html        a page with curves, mistakes and calibration",
            f"  keras-resnet predict {path} NEW/ --csv answers.csv   the classes of new files, as a table",
            f"  keras-resnet evaluate {path} --data NEW              its score on other labeled data",
            *([f"{faster}   so that predict answers without TensorFlow, in 0.3 s"] if is_faster else []),
        ]
    )


def constant_score(dataset: datasets.Dataset, split: str, task: Task) -> float | None:
    """Returns the accuracy on a split of the commonest class of the training split; None for other tasks.

    Args:
        dataset: with labels in memory.
        split: that is scored.
        task: of the run.
    """
    train, scored = dataset.split("train").labels, dataset.split(split).labels
    if not task.is_exclusive or train is None or scored is None:
        return None
    best = int(class_counts(np.asarray(train), len(dataset.class_names)).argmax())
    return float(np.average(np.asarray(scored) == best, weights=dataset.weights_of(split)))


def linear_baseline(dataset: datasets.Dataset, split: str) -> float | None:
    """Returns the accuracy of a logistic regression on the pixels of some examples of each split.

    Pictures are made small, 16 px, and standardized. It is what a network should beat. At most 2,000 examples are read,
    and 300 of pictures of more than 128 px or of several sizes.

    Args:
        dataset: of pictures, or of signals or volumes of at most 49,152 values; others take too long.
        split: that is scored.

    Returns:
        None where there is nothing to compare with.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shape = [size or MAX_SIDE_PX**3 for size in dataset.image_shape]  # None where sizes differ
    space, is_large = shape[:-1], math.prod(shape) > 3 * MAX_SIDE_PX**2
    if is_large and len(space) != 2:
        return None
    size = (BASELINE_SIDE_PX,) * 2 if len(space) == 2 and min(space) > BASELINE_SIDE_PX else None
    most = LARGE_EXAMPLES if is_large else BASELINE_EXAMPLES
    (train, labels), (test, truth) = (_flat(dataset, name, size, most) for name in ("train", split))
    if len(np.unique(labels)) < 2:
        return None
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    return float(classifier.fit(train, labels).score(test, truth))


def _flat(
    dataset: datasets.Dataset, split: str, size: tuple[int, int] | None, most: int
) -> tuple[np.ndarray, np.ndarray]:
    step = -(-dataset.size_of(split) // most)
    batches = dataset.batches(split, 1, image_size=size).shard(step, 0)
    images, labels = zip(*((images, labels) for images, labels, *_ in batches.as_numpy_iterator()), strict=True)
    pixels = np.concatenate(images).astype("float32")
    return pixels.reshape(len(pixels), -1), np.concatenate(labels).reshape(-1)


def _confusions(confusion: list[list[int]], names: tuple[str, ...]) -> list[str]:
    counts = np.array(confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [(counts.flat[place], *np.unravel_index(place, counts.shape)) for place in order if counts.flat[place]]
    listed = ", ".join(f"{names[i]} as {names[j]} ({count})" for count, i, j in pairs)
    return [f"confuses   {listed}"] if listed else []


def _warnings(run: Run, figures: Any, name: str, floor: float | None, probe: float | None) -> list[str]:
    messages = []
    if floor is not None and figures[name] <= floor:
        messages.append("the network is no better than one answer to all: look at the labels and at the learning rate")
    elif probe is not None and figures[name] < probe:
        messages.append("a linear classifier on pixels is better: train longer, or with weights (--weights)")
    epochs, best = len(run.history.get("epoch", [])), run.file.best_epoch or 0
    # Of fewer examples one more mistake is a fall.
    is_told_apart = run.about.sizes.get("validation", 0) >= VALIDATION_EXAMPLES
    if epochs >= 4 and best <= epochs / 2 and is_told_apart:
        messages.append(
            f"the best epoch was {best} of {epochs}: validation fell since; train shorter, or with more decay"
        )
    first, second = (run.metrics.get(split, {}).get(f"{name}_interval") for split in ("validation", "test"))
    if first and second and (first[0] > second[1] or second[0] > first[1]):
        messages.append("the test split is far from the validation split: they may not be drawn alike")
    if any(line.startswith("copies: ") and "more than one split" in line for line in run.about.report):
        messages.append("copies of training examples are in other splits (see the notes above): scores say too much")
    return messages
