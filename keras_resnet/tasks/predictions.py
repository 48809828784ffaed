"""Predictions: what a model answered, with the labels, weights, groups and names of the examples."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue
from keras_resnet.tasks.metrics import Metric, Ranking, Weighted, counts_of, interval_of, resample

if TYPE_CHECKING:
    from keras_resnet.tasks.task import Task

RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Outputs of a model for examples, in their order. Everything that judges a model takes this object.

    Attributes:
        task: of the model.
        outputs: `(examples, outputs)`, float64: logits of a classifier, of a regression values.
        labels: checked by the task: integers `(examples,)`, rows of 0 and 1 (NaN for unknown), or targets; None for
            examples without labels.
        class_names: one per class; empty for a regression.
        activation: of a classifier, which turns its logits into probabilities, "softmax" or "sigmoid".
        thresholds: of multi-label targets, the probability from which on an example has each class, one per class, or
            `(examples, classes)`; empty for 0.5.
        weights: how much each example counts, >= 0; None for all alike.
        groups: of the examples, which belong together, such as those of one patient; None for each by itself.
        names: of the examples; empty where nobody asks.
        counts: how much each example counts, 1 without weights.
    """

    task: "Task"
    outputs: np.ndarray
    labels: Any = None
    class_names: Sequence[str] = ()
    activation: str | None = None
    thresholds: Any = ()
    weights: Any = None
    groups: Any = None
    names: Sequence[str] = ()
    counts: np.ndarray = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks that outputs and labels fit, so that no figure is computed from others."""
        outputs, labels = self.task.normalize(self.outputs, self.labels, self.class_names)
        object.__setattr__(self, "outputs", outputs)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "counts", counts_of(self.weights, len(outputs)))

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.outputs)

    def replace(self, **changes: Any) -> "Predictions":
        """Returns predictions that differ in some attributes."""
        return dataclasses.replace(self, **changes)

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """`(examples, classes)` in [0, 1] of a classifier."""
        return self.task.probabilities(self)

    @functools.cached_property
    def guesses(self) -> np.ndarray:
        """The most probable class of each example; of multi-label targets the classes that it is said to have."""
        return self.task.guesses(self)

    @functools.cached_property
    def known(self) -> np.ndarray:
        """`(examples, classes)`: whether each label of multi-label targets is known; True for other tasks."""
        return self.task.known(self)

    @functools.cached_property
    def truth(self) -> np.ndarray:
        """`(examples, classes)`: whether each example is of each class."""
        return self.task.truth(self)

    @functools.cached_property
    def confidences(self) -> np.ndarray:
        """The probability of each guess of a classifier of exclusive classes."""
        return self.probabilities.max(axis=1)

    @functools.cached_property
    def right(self) -> np.ndarray:
        """Whether each guess is right; of multi-label targets `(examples, classes)`."""
        return self.guesses == (self.labels if self.labels.ndim == 1 else self.truth)

    @functools.cached_property
    def losses(self) -> np.ndarray:
        """The cross-entropy of each example in nats; of multi-label targets of each answer, 0 where it is unknown."""
        return self.task.losses(self)

    @functools.cached_property
    def rankings(self) -> list[tuple[Ranking, np.ndarray]]:
        """For each class, the examples ranked by their probability, and of which of them the label is known."""
        return [
            (Ranking(self.probabilities[mine, index], self.truth[mine, index]), mine)
            for index, mine in enumerate(self.known.T)
        ]

    @functools.cached_property
    def micro_ranking(self) -> tuple[Ranking, np.ndarray]:
        """All pairs of example and class whose label is known, ranked, and which these are."""
        return Ranking(self.probabilities[self.known], self.truth[self.known]), self.known

    def weighted(self, weights: np.ndarray | None = None) -> Weighted:
        """Returns the predictions under weights of their examples, which metrics take.

        Args:
            weights: `(resamples, examples)`; None for one row, the example weights.
        """
        weights = self.counts[None].astype("float64") if weights is None else weights
        return self.task.view(self, weights)

    def score(self) -> dict[str, Any]:
        """Returns the summary of `evaluate`: `examples`, the figures of the task, and `per_class` of a classifier."""
        view = self.weighted()
        summary = {m.name: m.plain(m.under(view)[0]) for m in self.task.metrics_for(self) if m.is_summary}
        return {"examples": len(self), **summary, **self.task.tables(self, view)}

    def interval(self, metric: "str | Metric", resamples: int = RESAMPLES, seed: int = 0) -> list[float] | None:
        """Returns the 95 % bootstrap interval of one figure; None where there are too few examples or groups for one.

        Args:
            metric: a metric, or the name of one of the task's.
            resamples: how many, >= 1.
            seed: of the draws, >= 0.
        """
        if isinstance(metric, str):
            metric = next(each for each in self.task.metrics if each.name == metric)
        if len(self) < 2 or (self.groups is not None and len(np.unique(np.asarray(self.groups).astype(str))) < 2):
            return None
        draws = resample(len(self), self.groups, resamples, seed)
        cases = 0.0 if metric.cases is None else float(self.independent(metric.cases(self)))
        return interval_of(np.concatenate([metric(self, times * self.counts) for times in draws]), cases)

    def independent(self, cases: np.ndarray) -> np.ndarray:
        """Returns how many independent examples there are among some: of groups, and of weights by Kish 1965.

        Args:
            cases: `(examples,)` or `(examples, classes)`, booleans.
        """
        weights = np.where(cases.T, self.counts, 0.0).T
        if self.groups is not None:
            _, places = np.unique(np.asarray(self.groups).astype(str), return_inverse=True)
            totals = np.zeros((places.max() + 1, *weights.shape[1:]))
            np.add.at(totals, places, weights)
            weights = totals
        squares = (weights**2).sum(axis=0)
        return np.where(squares > 0, weights.sum(axis=0) ** 2 / np.where(squares > 0, squares, 1), 0)

    def intervals(self, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
        """Returns figures with their 95 % bootstrap interval, `NAME` and `NAME_interval`, and the same per class.

        Examples are drawn again with replacement; with groups whole groups are, because examples of one patient are not
        independent. A resample that lacks a class does not count for the figures of that class.

        Args:
            resamples: how many, >= 1.
            seed: of the draws, >= 0.

        Raises:
            ValueError: fewer than two groups, or labels of one class alone.

        Source:
            Efron 1979, "Bootstrap methods: another look at the jackknife"; Field and Welsh 2007 for whole groups.
        """
        check_int("resamples", resamples)
        check_int("seed", seed, minimum=0)
        self.task.check_several(self)
        metrics = [metric for metric in (*self.task.metrics_for(self), *self.task.class_metrics) if metric.has_interval]
        view = self.weighted()
        values = [metric.under(view)[0] for metric in metrics]
        draws: list[list[np.ndarray]] = [[] for _ in metrics]
        for times in resample(len(self), self.groups, resamples, seed):
            view = self.weighted(times * self.counts)
            for samples, metric in zip(draws, metrics, strict=True):
                samples.append(metric.under(view))
        result: dict[str, Any] = {}
        rows = [{"name": name, "support": int(self.task.support(self)[i])} for i, name in enumerate(self.class_names)]
        for metric, value, parts in zip(metrics, values, draws, strict=True):
            values_drawn = np.concatenate(parts)
            cases = np.zeros_like(value) if metric.cases is None else self.independent(metric.cases(self))
            if np.ndim(value):
                for index, row in enumerate(rows):
                    row |= _entry(metric.name, value[index], values_drawn[:, index], cases[index])
            else:
                result |= _entry(metric.name, value, values_drawn, cases)
        result |= {"per_class": rows} if rows else {}
        return {**result, "resamples": resamples, "resampled": "examples" if self.groups is None else "groups"}


def _entry(name: str, value: Any, samples: np.ndarray, cases: Any) -> dict[str, Any]:
    if np.isnan(value):
        return {name: None, f"{name}_interval": None}
    return {name: float(value), f"{name}_interval": interval_of(samples, float(cases))}


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Returns the predictions of several models for different examples as one object, as after a cross-validation."""
    first, together = parts[0], (lambda values: None if values[0] is None else np.concatenate(values))
    cuts = [np.tile(part.thresholds, (len(part), 1)) if len(part.thresholds) else () for part in parts]
    return first.replace(
        outputs=np.concatenate([part.outputs for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        thresholds=np.concatenate(cuts) if all(map(len, cuts)) else (),
        weights=together([part.weights for part in parts]),
        groups=together([part.groups for part in parts]),
        names=[name for part in parts for name in part.names],
    )


def check_fit(outputs: np.ndarray, shape: tuple[int, ...]) -> None:
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
