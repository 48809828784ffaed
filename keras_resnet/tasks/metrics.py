"""Figures of predictions: a `Metric` is one of them, computed for any weights of the examples.

The score of a split is a metric with one row of weights, its bootstrap interval the same metric with a thousand rows.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_resnet.errors import BadValue

if TYPE_CHECKING:
    from keras_resnet.tasks.predictions import Predictions

CALIBRATION_BINS = 15
# Numbers of weights of resamples in memory at a time, about 64 MB.
WEIGHTS_AT_ONCE = 8_000_000
PERCENT = (2.5, 97.5)


class Weighted:
    """Predictions under rows of example weights; what several metrics need is computed once."""

    def __init__(self, predictions: "Predictions", weights: np.ndarray) -> None:
        self.predictions = predictions
        self.weights = weights
        self.total = weights.sum(axis=1)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Returns the weighted mean of values of the examples, `(resamples,)`."""
        return (self.weights * values).sum(axis=1) / self.total


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure of predictions.

    Attributes:
        name: its key in results and histories.
        compute: of `Weighted` predictions, to `(resamples,)`, of a figure per class `(resamples, classes)`; NaN where
            it is not defined.
        title: on pages; empty for a figure that pages do not show first.
        best: "max" or "min", the direction in which it improves.
        is_summary: whether every evaluation has it; others come with their intervals.
        has_interval: whether a bootstrap interval is computed.
        default: of a summary where the figure is not defined; None for null.
        cases: of a share of right answers, which examples it counts, `(examples,)` or `(examples, classes)`; None for
            other figures.
    """

    name: str
    compute: Callable[[Any], np.ndarray]
    title: str = ""
    best: Literal["max", "min"] = "max"
    is_summary: bool = False
    has_interval: bool = True
    default: float | None = None
    cases: Callable[["Predictions"], np.ndarray] | None = None

    def __call__(self, predictions: "Predictions", weights: np.ndarray | None = None) -> np.ndarray:
        """Returns the figure for each row of weights."""
        return self.under(predictions.weighted(weights))

    def under(self, view: Weighted) -> np.ndarray:
        """Returns the figure of weighted predictions; NaN where it would be divided by nothing."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.compute(view)

    def plain(self, value: Any) -> float | None:
        """Returns a number for JSON; the default where it is NaN."""
        return self.default if np.isnan(value) else float(value)


def resample(examples: int, groups: Any, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields bootstrap weights `(resamples, examples)`, some rows at a time: how often each example was drawn."""
    rng = np.random.default_rng(seed)
    unit = np.arange(examples)
    if groups is not None:
        unit = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    units = int(unit.max()) + 1
    if units < 2:
        raise BadValue(f"{examples} examples of {units} group give no interval. Two groups are needed. Score more.")
    at_once = max(1, WEIGHTS_AT_ONCE // examples)
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        yield rng.multinomial(units, np.full(units, 1 / units), size=count)[:, unit].astype("float64")


def interval_of(samples: np.ndarray, cases: float = 0.0) -> list[float] | None:
    """Returns the 95 % interval of a figure from its resamples, of which NaN do not count; None without any.

    Args:
        samples: `(resamples,)`.
        cases: of a share of right answers, the number of independent ones; 0 for other figures. Where all are right, or
            none, resamples cannot differ, and the exact binomial interval of Clopper and Pearson 1934 takes their
            place.
    """
    values = samples[~np.isnan(samples)]
    if not len(values):
        return None
    low, high = (float(end) for end in np.percentile(values, PERCENT))
    if cases and low == high and low in (0.0, 1.0):
        bound = (PERCENT[0] / 100) ** (1 / cases)
        return [bound, 1.0] if low == 1.0 else [0.0, 1 - bound]
    return [low, high]


def counts_of(weights: Any, examples: int) -> np.ndarray:
    """Returns how much each example counts: its weight, or 1 where there are none."""
    if weights is None:
        return np.ones(examples, "int64")
    counts = np.asarray(weights, "float64")
    if counts.shape != (examples,) or not (np.isfinite(counts) & (counts >= 0)).all() or not counts.any():
        raise BadValue(
            f"The weights have shape {counts.shape}, from {counts.min():g} to {counts.max():g}. Allowed is a finite "
            f"number from 0 on for each of the {examples} examples, not all of them 0. Correct the weights."
        )
    return counts


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
    """Returns the bin of each confidence; bins are open below and closed above, and 0 goes to the first."""
    return np.clip(np.ceil(confidences * CALIBRATION_BINS).astype("int64") - 1, 0, CALIBRATION_BINS - 1)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns shares; 0 where there is nothing to have a share of."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)


def all_examples(predictions: "Predictions") -> np.ndarray:
    """Returns `(examples,)`, True: the cases of a share of all examples."""
    return np.ones(len(predictions), bool)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis, of what is not NaN; NaN where all is."""
    is_known = ~np.isnan(values)
    count = is_known.sum(axis=-1)
    return np.where(count > 0, np.where(is_known, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


class Ranking:
    """Areas under the curves of ranked examples, which are sorted once.

    Ties count half, as in scikit-learn.
    """

    def __init__(self, scores: np.ndarray, truth: np.ndarray) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.first = np.flatnonzero(np.r_[True, np.diff(scores[self.order]) != 0]) if len(scores) else np.array([], int)
        self.is_true = truth[self.order]

    def areas(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the area under ROC and the average precision for each row of weights."""
        if not len(self.first):
            nothing = np.full(len(weights), np.nan)
            return nothing, nothing
        true, false = self._sums(weights)
        all_true, all_false = true.sum(axis=1), false.sum(axis=1)
        above_true, above_false = true.cumsum(axis=1), false.cumsum(axis=1)
        roc = (false * (above_true - true / 2)).sum(axis=1) / (all_true * all_false)
        precision = np.nan_to_num(above_true / (above_true + above_false))
        average = np.where(all_true > 0, (true * precision).sum(axis=1) / all_true, np.nan)
        return roc, average

    def _sums(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the weights of the examples of the class, and of the others, at each score that occurs."""
        ordered = weights[:, self.order]
        true = np.add.reduceat(np.where(self.is_true, ordered, 0.0), self.first, axis=1)
        return true, np.add.reduceat(np.where(self.is_true, 0.0, ordered), self.first, axis=1)

    def sensitivity_at(self, weights: np.ndarray, specificity: float) -> np.ndarray:
        """Returns the highest sensitivity whose specificity is at least as given, for each row of weights.

        Args:
            weights: `(resamples, examples)`.
            specificity: in (0, 1).
        """
        if not len(self.first):
            return np.full(len(weights), np.nan)
        true, false = self._sums(weights)
        sensitivity, false_positives = (part.cumsum(axis=1) / part.sum(axis=1, keepdims=True) for part in (true, false))
        best = np.where(false_positives <= 1 - specificity + 1e-12, sensitivity, 0.0).max(axis=1)
        return np.where(np.isnan(sensitivity[:, -1] + false_positives[:, -1]), np.nan, best)


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
    """Returns the points of the curves of ROC and of precision and recall, one for each score that occurs."""
    counts = counts_of(weights, len(truth))
    thresholds, hits, taken, _ = _cumulated(scores, truth, counts)
    of_class, whole = counts @ truth, counts.sum()
    return Points(
        thresholds=thresholds,
        sensitivity=hits / of_class,
        false_positives=(taken - hits) / (whole - of_class),
        precision=hits / np.maximum(taken, np.finfo("float64").tiny),
    )


def best_threshold(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Returns the threshold at which the F1 score is highest, and that score; the middle between two examples' scores.

    Of equal ones the highest threshold is taken.
    """
    counts = np.ones(len(truth)) if weights is None else weights
    thresholds, hits, taken, ranked = _cumulated(scores, truth, counts)
    f1 = 2 * hits / (taken + (counts * truth).sum())
    best = int(f1.argmax())
    last = thresholds[best]
    below = ranked[np.searchsorted(-ranked, -last, side="right")] if best + 1 < len(thresholds) else last
    return float((last + below) / 2), float(f1[best])


def _cumulated(
    scores: np.ndarray, truth: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the scores that occur, falling; the counts of true and of all examples above each; all scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.r_[np.diff(ranked) != 0, True])
    hits, taken = (np.cumsum(part[order])[ends] for part in (counts * truth, counts))
    return ranked[ends], hits, taken, ranked


class WithClasses(Weighted):
    """Shared by classes that exclude each other and multi-label targets: areas under the curves.

    Subclasses say of which class each example is known to be, by `Predictions.rankings`.
    """

    @functools.cached_property
    def areas(self) -> np.ndarray:
        """`(2, resamples, classes)`: the area under ROC, and the average precision."""
        rows = [ranking.areas(self.weights[:, mine]) for ranking, mine in self.predictions.rankings]
        return np.stack([np.stack(row) for row in rows], axis=2)

    @functools.cached_property
    def micro_areas(self) -> tuple[np.ndarray, np.ndarray]:
        """The same over all pairs of example and class whose label is known."""
        ranking, mine = self.predictions.micro_ranking
        return ranking.areas(np.repeat(self.weights, mine.shape[1], axis=1)[:, mine.reshape(-1)])


def sensitivity_at(specificity: float, which: int | None = None) -> Metric:
    """Returns the metric "sensitivity_at_specificity": of one class, or the mean over the classes.

    Args:
        specificity: in (0, 1).
        which: the class; None for the mean over those that some examples have and others lack.
    """

    def compute(view: Any) -> np.ndarray:
        rows = view.predictions.rankings if which is None else [view.predictions.rankings[which]]
        return mean_of_known(
            np.stack([ranking.sensitivity_at(view.weights[:, mine], specificity) for ranking, mine in rows], axis=1)
        )

    return Metric("sensitivity_at_specificity", compute)
