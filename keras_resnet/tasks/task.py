"""A task: how labels are checked, outputs read and judged, and answers given. One class per task, one file each."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from keras_resnet.errors import BadValue
from keras_resnet.tasks.metrics import Metric, Weighted
from keras_resnet.tasks.predictions import Predictions


class Task:
    """What a model is for. A subclass is a task; its methods are the only place that knows how it differs from others.

    Attributes:
        name: as configurations and options have it.
        data_task: the task that data are labeled for, where it is another one.
        labels: what the labels are called in messages.
        has_classes: whether labels name classes; else they are numbers, one or several per example.
        is_exclusive: whether each example has one class.
        has_thresholds: whether each class has its own threshold.
        activations: what may turn logits into probabilities; none where outputs are answers as they are.
        loss: the default loss, a row of `keras_resnet.training.losses.LOSSES`.
        plain_loss: the metric that is the loss without smoothing, weights and regularization.
        metrics: figures of all examples.
        class_metrics: figures per class.
        curves: metrics whose course a page draws, with their titles.
        sections: of the page of a run, in their order, keys of `keras_resnet.report.run_page.SECTIONS`.
        paired: metrics by which two models are compared example by example.
    """

    name: ClassVar[str]
    data_task: ClassVar[str] = ""
    labels: ClassVar[str]
    has_classes: ClassVar[bool] = True
    is_exclusive: ClassVar[bool] = False
    has_thresholds: ClassVar[bool] = False
    activations: ClassVar[tuple[str, ...]] = ()
    loss: ClassVar[str]
    plain_loss: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    class_metrics: ClassVar[tuple[Metric, ...]] = ()
    curves: ClassVar[dict[str, str]]
    sections: ClassVar[tuple[str, ...]]
    paired: ClassVar[tuple[str, ...]] = ("accuracy", "loss")

    def __init_subclass__(cls) -> None:
        """Gives a task its own name for its data, where it has no other."""
        cls.data_task = cls.__dict__.get("data_task", cls.name)

    def __str__(self) -> str:
        """Returns the name."""
        return self.name

    def check_labels(self, labels: Any, num_classes: int | None = None, *, where: str = "labels") -> np.ndarray:
        """Returns labels of the type that losses take; an error names the first wrong one."""
        raise NotImplementedError

    def read(self, model: keras.Model, outputs: np.ndarray, activation: str | None) -> dict[str, Any]:
        """Returns `outputs` and `activation` of `Predictions`, from what a model returned.

        Args:
            model: whose last activation says what its outputs are.
            outputs: `(examples, outputs)`.
            activation: of its configuration; None for the usual one.

        Raises:
            ValueError: a classifier ends in neither logits nor probabilities.
        """
        raise NotImplementedError

    def normalize(self, outputs: Any, labels: Any, class_names: Sequence[str]) -> tuple[np.ndarray, Any]:
        """Returns outputs and labels with the shapes that `Predictions` promises.

        Raises:
            ValueError: they do not fit, a label names no class, or an output is not finite.
        """
        raise NotImplementedError

    def probabilities(self, predictions: Predictions) -> np.ndarray:
        """Returns `(examples, classes)` in [0, 1]."""
        raise NotImplementedError

    def guesses(self, predictions: Predictions) -> np.ndarray:
        """Returns the guess for each example."""
        raise NotImplementedError

    def known(self, predictions: Predictions) -> np.ndarray:
        """Returns `(examples, classes)`: whether each label is known."""
        return np.ones(predictions.outputs.shape, bool)

    def truth(self, predictions: Predictions) -> np.ndarray:
        """Returns `(examples, classes)`: whether each example is of each class."""
        return np.asarray(predictions.labels > 0)

    def losses(self, predictions: Predictions) -> np.ndarray:
        """Returns the loss of each example, or of each of its answers."""
        raise NotImplementedError

    def view(self, predictions: Predictions, weights: np.ndarray) -> Weighted:
        """Returns predictions under weights, as the metrics of this task take them."""
        raise NotImplementedError

    def metrics_for(self, predictions: Predictions) -> tuple[Metric, ...]:
        """Returns the figures that these predictions have."""
        return self.metrics

    def tables(self, predictions: Predictions, view: Any) -> dict[str, Any]:
        """Returns the tables of a summary beside its figures: `per_class` of a classifier, `confusion`."""
        return {}

    def support(self, predictions: Predictions) -> np.ndarray:
        """Returns the number of examples of each class."""
        return self.truth(predictions).sum(axis=0)

    def check_several(self, predictions: Predictions) -> None:
        """Raises ValueError where figures of the task cannot have an interval."""
        if not self.has_classes:
            return
        truth = predictions.truth
        if truth.all(axis=0).any() if self.is_exclusive else truth.all() or not truth.any():
            raise BadValue("The examples are of one class. A curve needs two. Score a split that has more.")

    def answers(self, predictions: Predictions, top: int, units: Sequence[str]) -> list[dict[str, Any]]:
        """Returns the answer of `predict` for each example.

        Args:
            predictions: without labels.
            top: how many classes at most.
            units: of the values of a regression.
        """
        raise NotImplementedError

    def choose_thresholds(self, predictions: Predictions) -> tuple[float, ...]:
        """Returns the thresholds of the classes that labeled predictions suggest."""
        raise NotImplementedError
