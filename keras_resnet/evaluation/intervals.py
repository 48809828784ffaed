"""Scores that a reviewer asks for, each with its bootstrap interval: of examples, or of whole groups."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue

RESAMPLES = 1000
# Weights of so many resamples are held at a time, about 64 MB.
WEIGHTS_AT_ONCE = 8_000_000
PERCENT = (2.5, 97.5)


def detailed_scores(
    probabilities: Any,
    labels: Any,
    class_names: Sequence[str],
    groups: Any = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns further scores of a classifier, and for each `NAME` its 95 % interval `NAME_interval`, `[low, high]`.

    Examples are drawn again with replacement; with groups whole groups are, because examples of one patient are not
    independent. The interval goes from the 2.5th to the 97.5th percentile. A resample that lacks a class does not count
    for the figures of that class.

    Args:
        probabilities: `(examples, classes)`, rows that sum to 1.
        labels: integers `(examples,)`.
        class_names: one per class.
        groups: of the examples; None for each by itself.
        resamples: how many, >= 1.
        seed: of the draws, >= 0.

    Returns:
        `roc_auc` and `average_precision` (area under the curve of precision and recall), for two classes those of
        the second, for more the mean over one class against the rest; `roc_auc_micro` and `average_precision_micro`
        over all pairs of example and class; `accuracy`, `balanced_accuracy`, `f1` (mean over classes), `cohen_kappa`,
        `matthews`, `brier` (mean squared error of the probabilities, summed over classes); and `per_class`, one dict
        per class with `name`, `support`, `roc_auc`, `average_precision`, `sensitivity`, `specificity`, None where the
        class is absent. Figures of scikit-learn's definitions.

    Raises:
        ValueError: fewer than two groups, or labels of one class alone.

    Source:
        Efron 1979, "Bootstrap methods: another look at the jackknife"; Field and Welsh 2007 for whole groups.
    """
    probabilities, labels = np.asarray(probabilities, "float64"), np.asarray(labels, "int64")
    check_int("resamples", resamples)
    check_int("seed", seed, minimum=0)
    if len(np.unique(labels)) < 2:
        raise BadValue("The examples are of one class. A curve needs two. Score a split that has more.")
    made = _Figures(probabilities, labels, len(class_names))
    point = made(np.ones((1, len(labels))))
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in point}
    for weights in _resampled(len(labels), groups, resamples, seed):
        for name, values in made(weights).items():
            drawn[name].append(values)
    found = {name: (values[0], np.concatenate(drawn[name])) for name, values in point.items()}
    result = {key: value for name in made.overall for key, value in _told(name, *found[name]).items()}
    result["per_class"] = [
        {"name": name, "support": int((labels == index).sum())}
        | {
            key: value
            for figure in made.by_class
            for key, value in _told(
                figure.removesuffix("_of"), found[figure][0][index], found[figure][1][:, index]
            ).items()
        }
        for index, name in enumerate(class_names)
    ]
    return {**result, "resamples": resamples, "resampled": "examples" if groups is None else "groups"}


def _told(name: str, value: Any, drawn: np.ndarray) -> dict[str, Any]:
    if np.isnan(value):
        return {name: None, f"{name}_interval": None}
    kept = drawn[~np.isnan(drawn)]
    ends = [float(end) for end in np.percentile(kept, PERCENT)] if len(kept) else None
    return {name: float(value), f"{name}_interval": ends}


def _resampled(examples: int, groups: Any, resamples: int, seed: int) -> Any:
    """Yields weights `(resamples, examples)`: how often each example was drawn."""
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


class _Figures:
    """Every figure for weights of the examples, `(resamples,)` or `(resamples, classes)`.

    Args:
        probabilities: `(examples, classes)`.
        labels: of the examples.
        classes: how many.
    """

    overall = (
        *("roc_auc", "roc_auc_micro", "average_precision", "average_precision_micro"),
        *("accuracy", "balanced_accuracy", "f1", "cohen_kappa", "matthews", "brier"),
    )
    by_class = ("roc_auc_of", "average_precision_of", "sensitivity", "specificity")

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray, classes: int) -> None:
        self.labels, self.classes = labels, classes
        self.guesses = probabilities.argmax(axis=1)
        truth = np.eye(classes)[labels]
        self.squared = ((probabilities - truth) ** 2).sum(axis=1)
        self.curves = [curve(probabilities[:, index], truth[:, index] > 0) for index in range(classes)]
        self.micro = curve(probabilities.reshape(-1), truth.reshape(-1) > 0)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the figures.

        Args:
            weights: `(resamples, examples)`.
        """
        areas = np.stack([np.stack(of(weights), axis=1) for of in self.curves], axis=2)  # (resamples, 2, classes)
        micro = self.micro(np.repeat(weights, self.classes, axis=1))
        main = areas[:, :, 1] if self.classes == 2 else _mean(areas)
        confusion = self._confusion(weights)
        return {
            "roc_auc": main[:, 0],
            "average_precision": main[:, 1],
            "roc_auc_micro": micro[0],
            "average_precision_micro": micro[1],
            "roc_auc_of": areas[:, 0],
            "average_precision_of": areas[:, 1],
            "brier": weights @ self.squared / weights.sum(axis=1),
            **from_confusion(confusion),
        }

    def _confusion(self, weights: np.ndarray) -> np.ndarray:
        places = self.labels * self.classes + self.guesses
        counts = [np.bincount(places, weights=row, minlength=self.classes**2) for row in weights]
        return np.stack(counts).reshape(-1, self.classes, self.classes)


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


def from_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the figures that counts of true and guessed classes give.

    Args:
        confusion: `(resamples, classes, classes)`, a row for each true class.
    """
    total = confusion.sum(axis=(1, 2))
    hits = np.einsum("rcc->rc", confusion)
    true, guessed = confusion.sum(axis=2), confusion.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = hits / true
        f1 = 2 * hits / (true + guessed)
        accuracy = hits.sum(axis=1) / total
        by_chance = (true * guessed).sum(axis=1) / total**2
        kappa = (accuracy - by_chance) / (1 - by_chance)
        covariance = accuracy - by_chance
        spread = np.sqrt((1 - ((true / total[:, None]) ** 2).sum(1)) * (1 - ((guessed / total[:, None]) ** 2).sum(1)))
        specificity = (total[:, None] - true - guessed + hits) / (total[:, None] - true)
        return {
            "accuracy": accuracy,
            "balanced_accuracy": _mean(sensitivity),
            "f1": _mean(f1),
            "cohen_kappa": kappa,
            "matthews": np.where(spread > 0, covariance / spread, 0.0),
            "sensitivity": sensitivity,
            "specificity": specificity,
        }


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis, of the classes that are there."""
    there = ~np.isnan(values)
    count = there.sum(axis=-1)
    return np.where(count > 0, np.where(there, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)
