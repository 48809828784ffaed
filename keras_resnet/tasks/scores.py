"""Scores of predictions in NumPy; `evaluation.scores` is this module."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.errors import BadValue

CALIBRATION_BINS = 15


def classification(logits: Any, labels: Any, class_names: Sequence[str], weights: Any = None) -> dict[str, Any]:
    """Scores a classifier.

    Args:
        logits: `(examples, classes)`; for two classes also `(examples, 1)`, the logit of the second.
        labels: integers `(examples,)` in [0, classes).
        class_names: one per class.
        weights: how much each example counts, >= 0; None for all alike. `examples`, `support` and `confusion` stay
            counts of examples.

    Returns:
        `examples`; `loss`, the mean cross-entropy in nats without label smoothing; `accuracy`; `top5` where there are
        more than 5 classes; `expected_calibration_error` over 15 bins of equal width; `per_class`, one dict per class
        with `name`, `support`, `precision`, `recall`, `f1` (0 where nothing was predicted or nothing is there);
        `confusion`, one row per true class. Plain numbers and lists, ready for JSON.

    Raises:
        ValueError: the shapes do not fit, a label names no class, or an output is not finite.

    Source:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.

    Example:
        >>> from keras_resnet.evaluation import scores
        >>> scores.classification([[2.0, 0.0], [2.0, 0.0]], [0, 1], ("cat", "dog"))["accuracy"]
        0.5
    """
    logits, labels = np.asarray(logits, "float64"), np.asarray(labels).reshape(-1)
    if logits.ndim == 2 and logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    examples, classes = len(labels), len(class_names)
    check_scored(logits, (examples, classes))
    labels = checked_labels(labels, classes)
    log_probabilities = logits - _log_sum_exp(logits)
    probabilities = np.exp(log_probabilities)
    guesses = logits.argmax(axis=1)
    right = guesses == labels
    example_weights = counts_of(weights, examples)
    confusion = np.zeros((classes, classes), "int64")
    np.add.at(confusion, (labels, guesses), 1)
    weighted = np.zeros((classes, classes), example_weights.dtype)
    np.add.at(weighted, (labels, guesses), example_weights)
    result: dict[str, Any] = {
        "examples": examples,
        "loss": float(np.average(-log_probabilities[np.arange(examples), labels], weights=example_weights)),
        "accuracy": float(np.average(right, weights=example_weights)),
    }
    if classes > 5:
        best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        result["top5"] = float(np.average((best == labels[:, None]).any(axis=1), weights=example_weights))
    return result | {
        "expected_calibration_error": calibration_error(probabilities.max(axis=1), right, example_weights),
        "per_class": _per_class(weighted, confusion.sum(axis=1), class_names),
        "confusion": confusion.tolist(),
    }


def counts_of(weights: Any, examples: int) -> np.ndarray:
    """Returns how much each example counts: its weight, or 1 where there are none.

    Args:
        weights: of the examples; None for none.
        examples: how many there are.

    Raises:
        ValueError: there is another number of weights, one is negative or not finite, or all are 0.
    """
    if weights is None:
        return np.ones(examples, "int64")
    counts = np.asarray(weights, "float64")
    if counts.shape != (examples,) or not (np.isfinite(counts) & (counts >= 0)).all() or not counts.any():
        raise BadValue(
            f"The weights have shape {counts.shape}, from {counts.min():g} to {counts.max():g}. Allowed is a finite "
            f"number from 0 on for each of the {examples} examples, not all of them 0. Correct the weights."
        )
    return counts


def checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns labels as int64.

    Args:
        labels: `(examples,)`, of any number type.
        classes: how many there are.

    Raises:
        ValueError: a label is not a whole number in [0, classes).
    """
    # In the type that they came in: a cast would round fractions and wrap large numbers.
    fits = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    if not fits.all():
        index = int(np.flatnonzero(~fits)[0])
        raise BadValue(
            f"The label of example {index} is {labels[index]}. Labels must be whole numbers in [0, {classes}), one per "
            "class name. Correct the labels."
        )
    return labels.astype("int64")


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cross-entropy of each example, in nats.

    Args:
        logits: `(examples, classes)`.
        labels: integers `(examples,)`.
    """
    return _log_sum_exp(logits)[:, 0] - logits[np.arange(len(labels)), labels]


def regression(outputs: Any, targets: Any, weights: Any = None) -> dict[str, Any]:
    """Scores a regression.

    Args:
        outputs: `(examples, outputs)`, or `(examples,)`.
        targets: as many numbers.
        weights: how much each example counts, >= 0; None for all alike.

    Returns:
        `examples`, `mse`, `mae`, and `r2`: 1 minus the squared errors over those of the mean target, averaged over
        outputs; 0 for an output whose target is constant.

    Raises:
        ValueError: the shapes do not fit, or an output is not finite.
    """
    targets = np.asarray(targets, "float64")
    targets = targets.reshape(len(targets), -1)
    outputs = np.asarray(outputs, "float64")
    outputs = outputs.reshape(len(outputs), -1)
    check_scored(outputs, targets.shape)
    errors = outputs - targets
    if weights is None:
        example_weights, mean = np.ones((len(targets), 1)), targets.mean(axis=0)
    else:
        example_weights = counts_of(weights, len(targets))[:, None]
        example_weights = example_weights * (len(targets) / example_weights.sum())
        mean = np.average(targets, axis=0, weights=example_weights[:, 0])
    spread = (example_weights * (targets - mean) ** 2).sum(axis=0)
    r2 = np.where(spread > 0, 1 - (example_weights * errors**2).sum(axis=0) / np.where(spread > 0, spread, 1.0), 0.0)
    return {
        "examples": len(targets),
        "mse": float((example_weights * errors**2).mean()),
        "mae": float((example_weights * np.abs(errors)).mean()),
        "r2": float(r2.mean()),
    }


def calibration_error(confidences: Any, right: Any, weights: Any = None) -> float:
    """Returns the expected calibration error: mean gap between confidence and accuracy, bin by bin.

    Args:
        confidences: the probability of each guess, in [0, 1].
        right: whether each guess is right.
        weights: how much each counts; None for all alike.
    """
    confidences, right = np.asarray(confidences, "float64"), np.asarray(right, "float64")
    example_weights = counts_of(weights, len(right))
    gaps = np.bincount(
        bins_of(confidences), weights=example_weights * (right - confidences), minlength=CALIBRATION_BINS
    )
    return float(np.abs(gaps).sum() / example_weights.sum())


def bins_of(confidences: np.ndarray) -> np.ndarray:
    """Returns the bin of each confidence; bins are open below and closed above, and 0 goes to the first.

    Args:
        confidences: in [0, 1].
    """
    return np.clip(np.ceil(confidences * CALIBRATION_BINS).astype("int64") - 1, 0, CALIBRATION_BINS - 1)


def _per_class(confusion: np.ndarray, examples: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    hits = confusion.diagonal()
    support, guessed = confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        {
            "name": name,
            "support": int(examples[index]),
            "precision": ratio(hits[index], guessed[index]),
            "recall": ratio(hits[index], support[index]),
            "f1": ratio(2 * hits[index], guessed[index] + support[index]),
        }
        for index, name in enumerate(class_names)
    ]


def ratio(part: Any, whole: Any) -> float:
    """Returns a share; 0 where there is nothing to have a share of."""
    return float(part / whole) if whole else 0.0


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1, keepdims=True)
    return top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def check_scored(outputs: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises ValueError where outputs have another shape than the labels ask for, or are not finite."""
    if outputs.shape != shape or not shape[0]:
        raise BadValue(
            f"The outputs have shape {outputs.shape}, and the labels ask for {shape}. They must be equal, with at "
            "least one example. Use the model and the data of one run."
        )
    if not np.isfinite(outputs).all():
        index = int(np.flatnonzero(~np.isfinite(outputs).all(axis=1))[0])
        raise BadValue(
            f"The model's output for example {index} is not finite: {outputs[index][:5].tolist()}. Scores need finite "
            "numbers. Look for NaN in the weights and in the data."
        )
