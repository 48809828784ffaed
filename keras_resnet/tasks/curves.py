"""Areas under curves of ranked examples, for any weights of the examples."""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_resnet.tasks.scores import counts_of


def curve(scores: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns a function from weights `(resamples, examples)` to the area under ROC and the average precision of each.

    The scores are sorted once. Ties count half, as in scikit-learn.

    Args:
        scores: of the examples, the higher the likelier.
        truth: whether each example is of the class.
    """
    order = np.argsort(-scores, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    is_true = truth[order]

    def areas(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordered = weights[:, order]
        true = np.add.reduceat(np.where(is_true, ordered, 0.0), first, axis=1)
        false = np.add.reduceat(np.where(is_true, 0.0, ordered), first, axis=1)
        all_true, all_false = true.sum(axis=1), false.sum(axis=1)
        above_true, above_false = true.cumsum(axis=1), false.cumsum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            roc = (false * (above_true - true / 2)).sum(axis=1) / (all_true * all_false)
            precision = np.nan_to_num(above_true / (above_true + above_false))
            average = np.where(all_true > 0, (true * precision).sum(axis=1) / all_true, np.nan)
        return roc, average

    return areas


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis, of what is not NaN; NaN where all is."""
    there = ~np.isnan(values)
    count = there.sum(axis=-1)
    return np.where(count > 0, np.where(there, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


@dataclasses.dataclass(frozen=True)
class Points:
    """Sensitivity, false positives and precision of a class at each threshold, from the highest to the lowest.

    Attributes:
        thresholds: from which on an example is taken for one of the class.
        sensitivity: share of the class that is taken, the recall.
        false_positives: share of the others that is taken, 1 - specificity.
        precision: share of those taken that are of the class.
    """

    thresholds: np.ndarray
    sensitivity: np.ndarray
    false_positives: np.ndarray
    precision: np.ndarray

    def at(self, threshold: float) -> tuple[float, float, float]:
        """Returns sensitivity, false positives and precision at a threshold; precision is 1 where nothing is taken."""
        index = int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1
        if index < 0:
            return 0.0, 0.0, 1.0
        return float(self.sensitivity[index]), float(self.false_positives[index]), float(self.precision[index])


def points_of(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> Points:
    """Returns the points of the curves of ROC and of precision and recall, one for each score that occurs.

    Args:
        scores: of the examples, the higher the likelier.
        truth: whether each example is of the class; some are, and some are not.
        weights: how much each example counts; None for all alike.
    """
    counts = counts_of(weights, len(truth))
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    hits, taken = (np.cumsum(part[order])[ends] for part in (counts * truth, counts))
    of_class, whole = counts @ truth, counts.sum()
    return Points(
        thresholds=scores[order][ends],
        sensitivity=hits / of_class,
        false_positives=(taken - hits) / (whole - of_class),
        precision=hits / np.maximum(taken, np.finfo("float64").tiny),
    )


def best_threshold(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Returns the threshold at which the F1 score is highest, and that score; the middle between two examples' scores.

    Of equal ones the highest threshold is taken.

    Args:
        scores: of the examples, the higher the likelier; an example is taken from its threshold on.
        truth: whether each example is of the class; at least one is.
        weights: how much each counts, > 0; None for all alike.
    """
    example_weights = np.ones(len(truth)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.r_[np.diff(ranked) != 0, True])
    hits, taken = (np.cumsum(part[order])[ends] for part in (example_weights * truth, example_weights))
    f1 = 2 * hits / (taken + (example_weights * truth).sum())
    best = int(f1.argmax())
    last = ranked[ends[best]]
    below = ranked[ends[best] + 1] if ends[best] + 1 < len(ranked) else last
    return float((last + below) / 2), float(f1[best])
