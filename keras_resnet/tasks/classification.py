"""Classification: each example has one class."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from keras_resnet.tasks.labels import check_class_numbers, check_labels
from keras_resnet.tasks.metrics import Metric, WithClasses, all_examples, calibration_error, mean_of_known, ratio
from keras_resnet.tasks.outputs import LOG_SCORES, best_classes, class_logits, scores_of, softmax
from keras_resnet.tasks.predictions import Predictions, check_fit
from keras_resnet.tasks.task import Task


class WeightedClasses(WithClasses):
    """Predictions of exclusive classes under rows of weights."""

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """`(resamples, classes, classes)`: the weights of the examples by their true class and their guess."""
        predictions, classes = self.predictions, len(self.predictions.class_names)
        places = predictions.labels * classes + predictions.guesses
        counts = [np.bincount(places, weights=row, minlength=classes**2) for row in self.weights]
        return np.stack(counts).reshape(-1, classes, classes)

    @functools.cached_property
    def hits(self) -> np.ndarray:
        """`(resamples, classes)`: what is recognized of each class."""
        return np.einsum("rcc->rc", self.confusion)

    @functools.cached_property
    def true(self) -> np.ndarray:
        """`(resamples, classes)`: what there is of each class."""
        return self.confusion.sum(axis=2)

    @functools.cached_property
    def guessed(self) -> np.ndarray:
        """`(resamples, classes)`: what is taken for each class."""
        return self.confusion.sum(axis=1)

    def main_area(self, which: int) -> np.ndarray:
        """Returns the area of the second of two classes, or the mean over one class against the rest."""
        areas = self.areas[which]
        return areas[:, 1] if areas.shape[1] == 2 else mean_of_known(areas)

    @functools.cached_property
    def grades(self) -> np.ndarray:
        """`(classes, classes)`: the distance between two classes in their order."""
        order = np.arange(self.confusion.shape[1])
        return np.abs(order[:, None] - order)


def _f1(view: WeightedClasses) -> np.ndarray:
    return (2 * view.hits) / (view.true + view.guessed)


def _by_chance(view: WeightedClasses) -> np.ndarray:
    return (view.true * view.guessed).sum(axis=1) / view.total**2


def _accuracy(view: WeightedClasses) -> np.ndarray:
    return view.mean(view.predictions.right)  # not by the confusion, which is large for many classes


def _kappa(view: WeightedClasses) -> np.ndarray:
    by_chance = _by_chance(view)
    return (_accuracy(view) - by_chance) / (1 - by_chance)


def quadratic_kappa(view: WeightedClasses) -> np.ndarray:
    """Returns Cohen's kappa with squared distances of grades as weights."""
    squares = view.grades**2
    missed = (view.confusion * squares).sum(axis=(1, 2))
    return 1 - missed / (np.einsum("rt,rg,tg->r", view.true, view.guessed, squares) / view.total)


def mean_distance(view: WeightedClasses) -> np.ndarray:
    """Returns the mean number of grades between the guess and the truth."""
    return (view.confusion * view.grades).sum(axis=(1, 2)) / view.total


def _matthews(view: WeightedClasses) -> np.ndarray:
    shares = [((part / view.total[:, None]) ** 2).sum(axis=1) for part in (view.true, view.guessed)]
    spread = np.sqrt((1 - shares[0]) * (1 - shares[1]))
    return np.where(spread > 0, (_accuracy(view) - _by_chance(view)) / spread, 0.0)


def _specificity(view: WeightedClasses) -> np.ndarray:
    others = view.total[:, None] - view.true
    return (others - view.guessed + view.hits) / others


def _brier(view: WeightedClasses) -> np.ndarray:
    predictions = view.predictions
    return view.mean(((predictions.probabilities - predictions.truth) ** 2).sum(axis=1))


def _top5(view: WeightedClasses) -> np.ndarray:
    best = np.argsort(-view.predictions.outputs, axis=1, kind="stable")[:, :5]
    return view.mean((best == view.predictions.labels[:, None]).any(axis=1))


def _calibration(view: WeightedClasses) -> np.ndarray:
    predictions = view.predictions
    return np.array([calibration_error(predictions.confidences, predictions.right, row) for row in view.weights])


class Classification(Task):
    """Each example has one class of several."""

    name = "classification"
    labels = "class labels"
    is_exclusive = True
    activations = tuple(LOG_SCORES)
    loss = "cross_entropy"
    plain_loss = "cross_entropy"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", _accuracy, "accuracy", is_summary=True, cases=all_examples),
        Metric("top5", _top5, "top-5 accuracy", is_summary=True, cases=all_examples),
        Metric("loss", lambda view: view.mean(view.predictions.losses), "cross-entropy", "min", is_summary=True),
        Metric("expected_calibration_error", _calibration, "calibration error", "min", True, has_interval=False),
        Metric("roc_auc", lambda view: view.main_area(0)),
        Metric("roc_auc_micro", lambda view: view.micro_areas[0]),
        Metric("average_precision", lambda view: view.main_area(1)),
        Metric("average_precision_micro", lambda view: view.micro_areas[1]),
        Metric("balanced_accuracy", lambda view: mean_of_known(view.hits / view.true)),
        Metric("f1", lambda view: mean_of_known(_f1(view))),
        Metric("cohen_kappa", _kappa),
        Metric("matthews", _matthews),
        Metric("brier", _brier, "", "min"),
    )
    class_metrics = (
        Metric("roc_auc", lambda view: view.areas[0]),
        Metric("average_precision", lambda view: view.areas[1]),
        Metric("sensitivity", lambda view: view.hits / view.true, cases=lambda predictions: predictions.truth),
        Metric("specificity", _specificity, cases=lambda predictions: ~predictions.truth),
    )
    curves = {"loss": "Loss as minimized", "cross_entropy": "Cross-entropy", "accuracy": "Accuracy"}
    sections = (
        "Confusion",
        "Class by class",
        "Curves of the classes",
        "Calibration",
        "Most confident errors",
        "Map of the examples",
    )

    def check_labels(self, labels: Any, num_classes: int | None = None, *, where: str = "labels") -> np.ndarray:
        return check_labels(labels, num_classes, where=where)

    def read(self, model: keras.Model, outputs: np.ndarray, activation: str | None) -> dict[str, Any]:
        logits, activation = class_logits(model, outputs, activation)
        return {"outputs": logits, "activation": activation}

    def normalize(self, outputs: Any, labels: Any, class_names: Sequence[str]) -> tuple[np.ndarray, Any]:
        logits = np.asarray(outputs, "float64")
        if logits.ndim == 2 and logits.shape[1] == 1:  # the logit of the second class
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        if labels is None:
            return logits, None
        labels = np.asarray(labels).reshape(-1)
        check_fit(logits, (len(labels), len(class_names)))
        return logits, check_class_numbers(labels, len(class_names))

    def scores(self, predictions: Predictions) -> np.ndarray:
        """Returns `(examples, classes)` whose softmax are the probabilities."""
        return scores_of(predictions.outputs, predictions.activation or "softmax")

    def probabilities(self, predictions: Predictions) -> np.ndarray:
        return softmax(self.scores(predictions))

    def guesses(self, predictions: Predictions) -> np.ndarray:
        return predictions.outputs.argmax(axis=1)

    def truth(self, predictions: Predictions) -> np.ndarray:
        return np.eye(len(predictions.class_names), dtype=bool)[predictions.labels]

    def losses(self, predictions: Predictions) -> np.ndarray:
        scores = self.scores(predictions)
        top = scores.max(axis=1, keepdims=True)
        whole = top + np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        return whole[:, 0] - scores[np.arange(len(scores)), predictions.labels]

    def view(self, predictions: Predictions, weights: np.ndarray) -> WeightedClasses:
        return WeightedClasses(predictions, weights)

    def metrics_for(self, predictions: Predictions) -> tuple[Metric, ...]:
        has_top5 = len(predictions.class_names) > 5
        return tuple(metric for metric in self.metrics if has_top5 or metric.name != "top5")

    def tables(self, predictions: Predictions, view: WeightedClasses) -> dict[str, Any]:
        hits, true, guessed = view.hits[0], view.true[0], view.guessed[0]
        counts = WeightedClasses(predictions, np.ones((1, len(predictions)))).confusion[0].astype("int64")
        columns = {
            "precision": ratio(hits, guessed),
            "recall": ratio(hits, true),
            "f1": ratio(2 * hits, guessed + true),
        }
        return {
            "per_class": [
                {"name": name, "support": int(counts[index].sum())}
                | {key: float(values[index]) for key, values in columns.items()}
                for index, name in enumerate(predictions.class_names)
            ],
            "confusion": counts.tolist(),
        }

    def answers(self, predictions: Predictions, top: int, units: Sequence[str]) -> list[dict[str, Any]]:
        return [{"classes": best_classes(row, predictions.class_names, top)} for row in predictions.probabilities]


CLASSIFICATION = Classification()
