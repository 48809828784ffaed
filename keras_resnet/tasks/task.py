"""The table of tasks: how labels are read and checked, the default loss, metrics, scores, answers and pages."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.tasks import multilabel, scores
from keras_resnet.tasks.labels import check_labels, check_many, check_targets
from keras_resnet.tasks.outputs import LOG_SCORES, best_classes, class_scores, sigmoid, softmax


@dataclasses.dataclass(frozen=True)
class Task:
    """What a model is for.

    Attributes:
        name: as records and options have it.
        labels: what the labels are called in messages.
        has_classes: whether labels name classes; else they are numbers, one or several an example.
        activations: what may turn logits into probabilities; none where outputs are answers as they are.
        check_labels: `(labels, classes or None, where=...)` to labels of the type that losses take, or an error that
            names the first wrong one.
        loss: the default loss, a row of `keras_resnet.training.loss.LOSSES`.
        plain_loss: the metric that is the loss without smoothing, weights and regularization.
        read: `(model, outputs, activation)` to what `score` and `answers` take, in float64.
        probabilities: of what was read, `(examples, classes)`; None where outputs are numbers.
        score: `(read outputs, labels, class names, thresholds, weights)` to the figures of `evaluate`.
        answers: `(read outputs, class names, units, top, thresholds)` to what `predict` says of each example.
        figures: those of `score` that a page shows first, with their titles.
        curves: metrics whose course a page draws, with their titles.
        sections: of the page of a run, in their order, keys of `keras_resnet.report.run_page.SECTIONS`.
    """

    name: str
    labels: str
    has_classes: bool
    activations: tuple[str, ...]
    check_labels: Callable[..., np.ndarray]
    loss: str
    plain_loss: str
    read: Callable[[keras.Model, np.ndarray, str | None], np.ndarray]
    probabilities: Callable[[np.ndarray], np.ndarray] | None
    score: Callable[..., dict[str, Any]]
    answers: Callable[[np.ndarray, Sequence[str], Sequence[str], int, Sequence[float]], list[dict[str, Any]]]
    figures: dict[str, str]
    curves: dict[str, str]
    sections: tuple[str, ...]

    def __str__(self) -> str:
        """Returns the name."""
        return self.name


def _most_probable(
    class_scores: np.ndarray, names: Sequence[str], units: Sequence[str], top: int, thresholds: Sequence[float] = ()
) -> list[dict[str, Any]]:
    return [{"classes": best_classes(row, names, top)} for row in softmax(class_scores)]


def _check_targets(targets: Any, num_outputs: int | None = None, *, where: str = "targets") -> np.ndarray:
    return check_targets(targets, where=where)


def _values(model: keras.Model, outputs: np.ndarray, activation: str | None) -> np.ndarray:
    return outputs.astype("float64")


def _score_classes(
    class_scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    thresholds: Sequence[float] = (),
    weights: np.ndarray | None = None,
) -> dict[str, Any]:
    return scores.classification(class_scores, labels, names, weights)


def _score_values(
    outputs: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    thresholds: Sequence[float] = (),
    weights: np.ndarray | None = None,
) -> dict[str, Any]:
    return scores.regression(outputs, targets, weights)


def _numbers(
    outputs: np.ndarray, names: Sequence[str], units: Sequence[str], top: int, thresholds: Sequence[float] = ()
) -> list[dict[str, Any]]:
    units_entry = {"units": list(units)} if units else {}
    return [{"values": [float(value) for value in row], **units_entry} for row in outputs]


CLASSIFICATION = Task(
    name="classification",
    labels="class labels",
    has_classes=True,
    activations=tuple(LOG_SCORES),
    check_labels=check_labels,
    loss="cross_entropy",
    plain_loss="cross_entropy",
    read=class_scores,
    probabilities=softmax,
    score=_score_classes,
    answers=_most_probable,
    figures={
        "accuracy": "accuracy",
        "top5": "top-5 accuracy",
        "loss": "cross-entropy",
        "expected_calibration_error": "calibration error",
    },
    curves={"loss": "Loss as minimized", "cross_entropy": "Cross-entropy", "accuracy": "Accuracy"},
    sections=("Confusion", "Class by class", "Curves of the classes", "Calibration", "Most confident errors"),
)
REGRESSION = Task(
    name="regression",
    labels="regression targets",
    has_classes=False,
    activations=(),
    check_labels=_check_targets,
    loss="mean_squared_error",
    plain_loss="mse",
    read=_values,
    probabilities=None,
    score=_score_values,
    answers=_numbers,
    figures={"mse": "mean squared error", "mae": "mean absolute error", "r2": "R squared"},
    curves={"loss": "Loss as minimized", "mae": "Mean absolute error"},
    sections=("Predicted and true",),
)
MULTILABEL = Task(
    name="multilabel",
    labels="multi-label targets",
    has_classes=True,
    activations=("sigmoid",),
    check_labels=check_many,
    loss="multilabel_cross_entropy",
    plain_loss="cross_entropy",
    read=multilabel.label_logits,
    probabilities=sigmoid,
    score=multilabel.score,
    answers=multilabel.answers,
    figures={
        "f1": "F1, mean over classes",
        "roc_auc": "area under ROC",
        "average_precision": "average precision",
        "exact_match": "all labels right",
        "accuracy": "right answers",
        "loss": "cross-entropy",
    },
    curves={"loss": "Loss as minimized", "cross_entropy": "Cross-entropy", "roc_auc": "Area under ROC"},
    sections=("Class by class", "Curves of the classes"),
)
TASKS = {task.name: task for task in (CLASSIFICATION, MULTILABEL, REGRESSION)}
