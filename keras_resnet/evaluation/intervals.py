"""Scores that a reviewer asks for, each with its bootstrap interval: of examples, or of whole groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.trained import Trained, dataset_of, match_labels, open_trained
from keras_resnet.tasks import CLASSIFICATION, MULTILABEL, scores
from keras_resnet.tasks.curves import curve, mean_of_known
from keras_resnet.tasks.labels import class_counts
from keras_resnet.tasks.multilabel import is_known, label_losses, thresholds_for
from keras_resnet.tasks.scores import counts_of
from keras_resnet.training.scoring import outputs_and_labels

RESAMPLES = 1000
# Weights of that many resamples are held at a time, about 64 MB.
WEIGHTS_AT_ONCE = 8_000_000
PERCENT = (2.5, 97.5)


def detailed_scores(
    probabilities: Any,
    labels: Any,
    class_names: Sequence[str],
    groups: Any = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    thresholds: Sequence[float] = (),
    weights: Any = None,
) -> dict[str, Any]:
    """Returns further scores of a classifier, and for each `NAME` its 95 % interval `NAME_interval`, `[low, high]`.

    Examples are drawn again with replacement; with groups whole groups are, because examples of one patient are not
    independent. The interval goes from the 2.5th to the 97.5th percentile. A resample that lacks a class does not count
    for the figures of that class.

    Args:
        probabilities: `(examples, classes)`, rows that sum to 1; of multi-label targets each by itself in [0, 1].
        labels: integers `(examples,)`; of multi-label targets rows of 0 and 1.
        class_names: one per class.
        groups: of the examples; None for each by itself.
        resamples: how many, >= 1.
        seed: of the draws, >= 0.
        thresholds: of multi-label targets, the probability from which on it has each class; empty for 0.5.
        weights: how much each example counts, >= 0, in every figure; None for all alike. They are drawn alike.

    Returns:
        `roc_auc` and `average_precision` (area under the curve of precision and recall), for two classes those of
        the second, for more the mean over one class against the rest; `roc_auc_micro` and `average_precision_micro`
        over all pairs of example and class; `accuracy`, `balanced_accuracy`, `f1` (mean over classes), `cohen_kappa`,
        `quadratic_kappa` and `mean_distance` (which say something where classes are grades in their order),
        `matthews`, `brier` (mean squared error of the probabilities, summed over classes); and `per_class`, one dict
        per class with `name`, `support`, `roc_auc`, `average_precision`, `sensitivity`, `specificity`, None where the
        class is absent. Of multi-label targets `roc_auc`, `average_precision`, `f1` and their `_micro` forms,
        `accuracy` (right answers), `exact_match` (examples whose every answer is right) and `brier`. Figures of
        scikit-learn's definitions.

    Raises:
        ValueError: fewer than two groups, or labels of one class alone, or none where there may be several.

    Source:
        Efron 1979, "Bootstrap methods: another look at the jackknife"; Field and Welsh 2007 for whole groups.
    """
    probabilities, labels = np.asarray(probabilities, "float64"), np.asarray(labels)
    is_label_known = is_known(labels)
    labels = np.where(is_label_known, labels, 0).astype("int64")
    check_int("resamples", resamples)
    check_int("seed", seed, minimum=0)
    if len(np.unique(labels)) < 2:
        raise BadValue("The examples are of one class. A curve needs two. Score a split that has more.")
    figures: Any = (
        _Figures(probabilities, labels, len(class_names))
        if labels.ndim == 1
        else _LabelFigures(probabilities, labels > 0, is_label_known, thresholds_for(thresholds, len(class_names)))
    )
    example_weights = counts_of(weights, len(labels)).astype("float64")
    point = figures(example_weights[None])
    samples: dict[str, list[np.ndarray]] = {name: [] for name in point}
    for times in resampled(len(labels), groups, resamples, seed):
        for name, values in figures(times * example_weights).items():
            samples[name].append(values)
    estimates = {name: (values[0], np.concatenate(samples[name])) for name, values in point.items()}
    result = {key: value for name in figures.overall for key, value in _told(name, *estimates[name]).items()}
    supports = class_counts(labels, len(class_names))
    result["per_class"] = [
        {"name": name, "support": int(supports[index])}
        | {
            key: value
            for figure in figures.by_class
            for key, value in _told(
                figure.removesuffix("_of"), estimates[figure][0][index], estimates[figure][1][:, index]
            ).items()
        }
        for index, name in enumerate(class_names)
    ]
    return {**result, "resamples": resamples, "resampled": "examples" if groups is None else "groups"}


def _told(name: str, value: Any, drawn: np.ndarray) -> dict[str, Any]:
    if np.isnan(value):
        return {name: None, f"{name}_interval": None}
    values = drawn[~np.isnan(drawn)]
    ends = [float(end) for end in np.percentile(values, PERCENT)] if len(values) else None
    return {name: float(value), f"{name}_interval": ends}


def resampled(examples: int, groups: Any, resamples: int, seed: int) -> Any:
    """Yields weights `(resamples, examples)`, some at a time: how often each example was drawn.

    Args:
        examples: how many there are.
        groups: of the examples, which are drawn whole; None for each by itself.
        resamples: how many.
        seed: of the draws.

    Raises:
        ValueError: there are fewer than two groups.
    """
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
        *("accuracy", "balanced_accuracy", "f1", "cohen_kappa", "quadratic_kappa", "mean_distance"),
        *("matthews", "brier"),
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
        main = areas[:, :, 1] if self.classes == 2 else mean_of_known(areas)
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


class _LabelFigures:
    """Every figure of multi-label targets, for weights of the examples, `(resamples,)` or `(resamples, classes)`.

    Args:
        probabilities: `(examples, classes)`.
        truth: which classes each example has.
        known: of which of them it is known.
        thresholds: of the probabilities.
    """

    overall = (
        *("roc_auc", "roc_auc_micro", "average_precision", "average_precision_micro"),
        *("f1", "f1_micro", "accuracy", "exact_match", "brier"),
    )
    by_class = _Figures.by_class

    def __init__(self, probabilities: np.ndarray, truth: np.ndarray, known: np.ndarray, thresholds: np.ndarray) -> None:
        self.truth, self.known, self.classes = truth, known, truth.shape[1]
        self.guesses = (probabilities >= thresholds) & known
        self.squared = ((probabilities - truth) ** 2 * known).sum(axis=1)
        self.curves = [
            curve(probabilities[mine, index], truth[mine, index]) if mine.any() else None
            for index, mine in enumerate(known.T)
        ]
        self.micro = curve(probabilities[known], truth[known])

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the figures.

        Args:
            weights: `(resamples, examples)`.
        """
        unknown = np.full((len(weights), 2), np.nan)
        areas = np.stack(  # (resamples, 2, classes)
            [
                unknown if of is None else np.stack(of(weights[:, mine]), axis=1)
                for of, mine in zip(self.curves, self.known.T, strict=True)
            ],
            axis=2,
        )
        answers = np.repeat(weights, self.classes, axis=1)[:, self.known.reshape(-1)]
        main, micro = mean_of_known(areas), self.micro(answers)
        right = self.guesses == self.truth
        hits, guessed, support = (weights @ part for part in (self.guesses & self.truth, self.guesses, self.truth))
        total = weights @ self.known
        each, some = total.sum(axis=1), weights @ self.known.any(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = mean_of_known(2 * hits / (guessed + support))
            sensitivity, specificity = hits / support, (total - guessed - support + hits) / (total - support)
            f1_micro = 2 * hits.sum(axis=1) / (guessed + support).sum(axis=1)
        return {
            "roc_auc": main[:, 0],
            "average_precision": main[:, 1],
            "roc_auc_micro": micro[0],
            "average_precision_micro": micro[1],
            "roc_auc_of": areas[:, 0],
            "average_precision_of": areas[:, 1],
            "brier": weights @ self.squared / some,
            "f1": f1,
            "f1_micro": f1_micro,
            "accuracy": weights @ (right & self.known).sum(axis=1) / each,
            "exact_match": weights @ (right.all(axis=1) & self.known.any(axis=1)) / some,
            "sensitivity": sensitivity,
            "specificity": specificity,
        }


def from_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the figures that counts of true and guessed classes give.

    Args:
        confusion: `(resamples, classes, classes)`, a row for each true class.
    """
    total = confusion.sum(axis=(1, 2))
    grades = np.arange(confusion.shape[1])
    apart = np.abs(grades[:, None] - grades)
    hits = np.einsum("rcc->rc", confusion)
    true, guessed = confusion.sum(axis=2), confusion.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = hits / true
        f1 = 2 * hits / (true + guessed)
        accuracy = hits.sum(axis=1) / total
        by_chance = (true * guessed).sum(axis=1) / total**2
        kappa = (accuracy - by_chance) / (1 - by_chance)
        missed = (confusion * apart**2).sum(axis=(1, 2))
        quadratic = 1 - missed / (np.einsum("rt,rg,tg->r", true, guessed, apart**2) / total)
        covariance = accuracy - by_chance
        spread = np.sqrt((1 - ((true / total[:, None]) ** 2).sum(1)) * (1 - ((guessed / total[:, None]) ** 2).sum(1)))
        specificity = (total[:, None] - true - guessed + hits) / (total[:, None] - true)
        return {
            "accuracy": accuracy,
            "balanced_accuracy": mean_of_known(sensitivity),
            "f1": mean_of_known(f1),
            "cohen_kappa": kappa,
            "quadratic_kappa": quadratic,
            "mean_distance": (confusion * apart).sum(axis=(1, 2)) / total,
            "matthews": np.where(spread > 0, covariance / spread, 0.0),
            "sensitivity": sensitivity,
            "specificity": specificity,
        }


BATCH_SIZE = 64


def paired_difference(
    one: Any,
    other: Any,
    data: Any = None,
    *,
    data_dir: Any = None,
    split: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares two models example by example, which sees smaller differences than two intervals do.

    Examples are drawn again with replacement, the same for both models; whole groups where the data have them.

    Args:
        one: a run folder, a `.keras` file, a `Run` or a `keras.Model`.
        other: another one, for the same task and classes.
        data: a spec or a loaded dataset; None for the data of the first run, which must be those of the second too.
        data_dir: where TFDS finds its prepared data sets.
        split: as for `evaluate`; it must be of examples that neither model was trained on.
        resamples: how many, >= 1.
        seed: of the draws, >= 0.

    Returns:
        `split`; `examples`; for each figure `NAME` (of a classifier `accuracy` and `loss`, of multi-label targets
        the share of right answers and the loss, of a regression `mae` and `mse`) `NAME`, a pair, `NAME_difference`, the
        second minus the first, and `NAME_difference_interval`, of 95 %; `differs`, whether 0 lies outside of the
        interval of the first figure; for a classifier `only_first_right`, `only_second_right` and `mcnemar_p`, the
        exact probability of so uneven a division if both were as good (for independent examples).

    Raises:
        TypeError, ValueError: the models are for different tasks, classes or data.

    Source:
        McNemar 1947, with the exact binomial test; Efron and Tibshirani 1993, section 16, for the paired bootstrap.
    """
    check_int("resamples", resamples)
    first, second = open_trained(one), open_trained(other)
    if first.task is not second.task or set(first.record.class_names) != set(second.record.class_names):
        raise BadValue(
            f"One model is for a {first.task} of the classes {list(first.record.class_names)}, the other for a "
            f"{second.task} of {list(second.record.class_names)}. A difference is of models for the same. Choose "
            "others."
        )
    dataset, split = dataset_of(first, data, data_dir, split)
    if data is None and second.run is not None and second.run.about.fingerprint != dataset.fingerprint:
        raise BadValue(
            f"The second run was trained on data={second.run.about.data!r}, which are other data than the first one's, "
            "or divided otherwise. A difference is of the same examples. Name data that neither was trained on."
        )
    mine, known = _judge(first, dataset, split)
    theirs, _ = _judge(second, dataset_of(second, dataset, None, split)[0], split)
    result: dict[str, Any] = {"split": split, "examples": len(known)}
    counts = counts_of(dataset.weights_of(split), len(known))
    weights = counts * np.concatenate(list(resampled(len(known), dataset.groups_of(split), resamples, seed)))
    weights = weights[weights @ known > 0]  # a resample of examples that all weigh 0 says nothing
    for name in mine:
        differences = theirs[name] - mine[name]
        samples = weights @ differences / (weights @ known)
        result[name] = [float(counts @ judged[name] / (counts @ known)) for judged in (mine, theirs)]
        result[f"{name}_difference"] = float(counts @ differences / (counts @ known))
        result[f"{name}_difference_interval"] = [float(end) for end in np.percentile(samples, PERCENT)]
    low, high = result[f"{next(iter(mine))}_difference_interval"]
    result["differs"] = bool(low > 0 or high < 0)
    if first.task is CLASSIFICATION:
        first_right, second_right = (judged["accuracy"][counts > 0] == 1 for judged in (mine, theirs))
        only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
        result |= {"only_first_right": only_first, "only_second_right": only_second}
        result["mcnemar_p"] = mcnemar(only_first, only_second)
    return result


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided probability of so uneven a division of the examples that one model alone gets right.

    Args:
        only_first: examples that the first model alone gets right.
        only_second: those that the second one alone does.
    """
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def _judge(trained: Trained, dataset: Any, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns figures of each example, and the share of its labels that are known, by whose sums they are divided."""
    outputs, labels = outputs_and_labels(trained.model, dataset, split, trained.record, BATCH_SIZE)
    read = trained.read(outputs)
    if not trained.task.has_classes:
        errors = read - labels.reshape(len(labels), -1)
        return {"mae": np.abs(errors).mean(axis=1), "mse": (errors**2).mean(axis=1)}, np.ones(len(labels))
    labels, _ = match_labels(trained, dataset, labels)
    if trained.task is MULTILABEL:
        cuts = thresholds_for(trained.record.thresholds, read.shape[1])
        assert trained.task.probabilities is not None  # of classes there are some
        right = (trained.task.probabilities(read) >= cuts) == (labels > 0)
        is_label_known = is_known(labels)
        losses = label_losses(read, labels).mean(axis=1)
        return {"accuracy": (right & is_label_known).mean(axis=1), "loss": losses}, is_label_known.mean(axis=1)
    labels = labels.astype("int64").reshape(-1)
    right = read.argmax(axis=1) == labels
    return {"accuracy": right.astype("float64"), "loss": scores.losses(read, labels)}, np.ones(len(labels))
