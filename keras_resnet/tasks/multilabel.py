"""Multi-label targets: an independent yes or no per class, each with its own threshold."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.tasks.labels import check_many, is_known
from keras_resnet.tasks.metrics import Metric, WithClasses, best_threshold, calibration_error, mean_of_known, ratio
from keras_resnet.tasks.outputs import best_classes, last_activation, sigmoid, to_logits
from keras_resnet.tasks.predictions import Predictions, check_fit
from keras_resnet.tasks.task import Task

THRESHOLD = 0.5


def thresholds_for(thresholds: Any, classes: int) -> np.ndarray:
    """Returns the threshold of the probability of each class; 0.5 where there is none."""
    return np.asarray(thresholds if len(thresholds) else [THRESHOLD] * classes, "float64")


class WeightedLabels(WithClasses):
    """Predictions of multi-label targets under rows of weights; answers to unknown labels do not count."""

    @functools.cached_property
    def hits(self) -> np.ndarray:
        """`(resamples, classes)`: what is recognized of each class."""
        return self.weights @ (self.predictions.guesses & self.predictions.truth)

    @functools.cached_property
    def true(self) -> np.ndarray:
        """`(resamples, classes)`: what there is of each class."""
        return self.weights @ self.predictions.truth

    @functools.cached_property
    def guessed(self) -> np.ndarray:
        """`(resamples, classes)`: what is taken for each class."""
        return self.weights @ self.predictions.guesses

    @functools.cached_property
    def answered(self) -> np.ndarray:
        """`(resamples, classes)`: the weights of the known labels."""
        return self.weights @ self.predictions.known

    @functools.cached_property
    def some(self) -> np.ndarray:
        """`(resamples,)`: the weights of the examples with any known label."""
        return self.weights @ self.predictions.known.any(axis=1)

    def mean_answer(self, values: np.ndarray) -> np.ndarray:
        """Returns the mean over all known answers of `(examples, classes)` values."""
        values = np.where(self.predictions.known, values, 0.0)
        return (self.weights @ values.sum(axis=1)) / self.answered.sum(axis=1)


def _exact_match(view: WeightedLabels) -> np.ndarray:
    predictions = view.predictions
    return (view.weights @ (predictions.right.all(axis=1) & predictions.known.any(axis=1))) / view.some


def _f1_micro(view: WeightedLabels) -> np.ndarray:
    return (2 * view.hits.sum(axis=1)) / (view.guessed + view.true).sum(axis=1)


def _brier(view: WeightedLabels) -> np.ndarray:
    predictions = view.predictions
    squares = (predictions.probabilities - predictions.truth) ** 2 * predictions.known
    return (view.weights @ squares.sum(axis=1)) / view.some


def _calibration(view: WeightedLabels) -> np.ndarray:
    predictions = view.predictions
    is_yes = predictions.probabilities >= THRESHOLD
    confidences = np.where(is_yes, predictions.probabilities, 1 - predictions.probabilities).reshape(-1)
    right = (is_yes == predictions.truth).reshape(-1)
    is_label_known = predictions.known
    return np.array(
        [calibration_error(confidences, right, (row[:, None] * is_label_known).reshape(-1)) for row in view.weights]
    )


def _areas(view: WeightedLabels, which: int) -> np.ndarray:
    """Returns the areas of the classes; NaN of a class that all have, or none, whose curve says nothing."""
    predictions = view.predictions
    support = predictions.truth.sum(axis=0)
    return np.where((support > 0) & (support < predictions.known.sum(axis=0)), view.areas[which], np.nan)


def _specificity(view: WeightedLabels) -> np.ndarray:
    others = view.answered - view.true
    return (others - view.guessed + view.hits) / others


class Multilabel(Task):
    """Each example has any number of classes."""

    name = "multilabel"
    labels = "multi-label targets"
    has_thresholds = True
    activations = ("sigmoid",)
    loss = "multilabel_cross_entropy"
    plain_loss = "cross_entropy"
    metrics = (
        Metric(
            "f1",
            lambda view: mean_of_known((2 * view.hits) / (view.guessed + view.true)),
            "F1, mean over classes",
            is_summary=True,
            default=0.0,
        ),
        Metric("roc_auc", lambda view: mean_of_known(_areas(view, 0)), "area under ROC", is_summary=True),
        Metric("average_precision", lambda view: mean_of_known(_areas(view, 1)), "average precision", is_summary=True),
        Metric(
            "exact_match",
            _exact_match,
            "all labels right",
            is_summary=True,
            cases=lambda predictions: np.any(predictions.known, axis=1),
        ),
        Metric("accuracy", lambda view: view.mean_answer(view.predictions.right), "right answers", is_summary=True),
        Metric("loss", lambda view: view.mean_answer(view.predictions.losses), "cross-entropy", "min", is_summary=True),
        Metric("f1_micro", _f1_micro, is_summary=True, default=0.0),
        Metric("expected_calibration_error", _calibration, "", "min", True, has_interval=False),
        Metric("roc_auc_micro", lambda view: view.micro_areas[0]),
        Metric("average_precision_micro", lambda view: view.micro_areas[1]),
        Metric("brier", _brier, "", "min"),
    )
    class_metrics = (
        Metric("roc_auc", lambda view: _areas(view, 0)),
        Metric("average_precision", lambda view: _areas(view, 1)),
        Metric(
            "sensitivity",
            lambda view: view.hits / view.true,
            cases=lambda predictions: predictions.truth & predictions.known,
        ),
        Metric("specificity", _specificity, cases=lambda predictions: ~predictions.truth & predictions.known),
    )
    curves = {"loss": "Loss as minimized", "cross_entropy": "Cross-entropy", "roc_auc": "Area under ROC"}
    sections = ("Class by class", "Curves of the classes")

    def check_labels(self, labels: Any, num_classes: int | None = None, *, where: str = "labels") -> np.ndarray:
        return check_many(labels, num_classes, where=where)

    def read(self, model: keras.Model, outputs: np.ndarray, activation: str | None) -> dict[str, Any]:
        return {"outputs": to_logits(outputs, last_activation(model) or "linear"), "activation": "sigmoid"}

    def normalize(self, outputs: Any, labels: Any, class_names: Sequence[str]) -> tuple[np.ndarray, Any]:
        logits = np.asarray(outputs, "float64")
        if labels is None:
            return logits, None
        check_fit(logits, (len(labels), len(class_names)))
        return logits, np.asarray(labels)

    def probabilities(self, predictions: Predictions) -> np.ndarray:
        return sigmoid(predictions.outputs)

    def guesses(self, predictions: Predictions) -> np.ndarray:
        cuts = thresholds_for(predictions.thresholds, predictions.outputs.shape[1])
        return (predictions.probabilities >= cuts) & predictions.known

    def known(self, predictions: Predictions) -> np.ndarray:
        return is_known(predictions.labels)

    def losses(self, predictions: Predictions) -> np.ndarray:
        logits, labels = predictions.outputs, predictions.labels
        return np.where(predictions.known, np.logaddexp(0.0, logits) - logits * np.nan_to_num(labels), 0.0)

    def view(self, predictions: Predictions, weights: np.ndarray) -> WeightedLabels:
        return WeightedLabels(predictions, weights)

    def tables(self, predictions: Predictions, view: WeightedLabels) -> dict[str, Any]:
        hits, true, guessed = view.hits[0], view.true[0], view.guessed[0]
        cuts = thresholds_for(predictions.thresholds, len(predictions.class_names))
        columns = {
            "precision": ratio(hits, guessed),
            "recall": ratio(hits, true),
            "f1": ratio(2 * hits, guessed + true),
        }
        areas = {"roc_auc": _areas(view, 0)[0], "average_precision": _areas(view, 1)[0]}
        support = self.support(predictions)
        return {
            "per_class": [
                {"name": name, "support": int(support[index]), "threshold": float(np.mean(cuts[..., index]))}
                | {key: float(values[index]) for key, values in columns.items()}
                | {key: None if np.isnan(values[index]) else float(values[index]) for key, values in areas.items()}
                for index, name in enumerate(predictions.class_names)
            ]
        }

    def answers(self, predictions: Predictions, top: int, units: Sequence[str]) -> list[dict[str, Any]]:
        names, cuts = predictions.class_names, thresholds_for(predictions.thresholds, predictions.outputs.shape[1])
        result = []
        for row in predictions.probabilities:
            order = np.argsort(-row, kind="stable")
            labels = [names[i] for i in order if row[i] >= cuts[i]]
            result.append({"labels": labels, "classes": best_classes(row, names, top)})
        return result

    def choose_thresholds(self, predictions: Predictions) -> tuple[float, ...]:
        """Returns for each class the threshold at which its F1 score is highest; 0.5 of a class that no example has."""
        counts = predictions.counts.astype("float64")
        mask = predictions.known & (counts > 0)[:, None]

        def of_class(index: int) -> float:
            mine = mask[:, index]
            truth = predictions.truth[mine, index]
            scores = predictions.probabilities[mine, index]
            return best_threshold(scores, truth, counts[mine])[0] if truth.any() else THRESHOLD

        return tuple(map(of_class, range(predictions.outputs.shape[1])))


MULTILABEL = Multilabel()
