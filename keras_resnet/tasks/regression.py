"""Regression: one or several numbers per example."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.tasks.labels import check_targets
from keras_resnet.tasks.metrics import Metric, Weighted
from keras_resnet.tasks.predictions import Predictions, check_fit
from keras_resnet.tasks.task import Task


class WeightedValues(Weighted):
    """Predictions of numbers under rows of weights."""

    @functools.cached_property
    def mse(self) -> np.ndarray:
        """`(resamples, outputs)`: the mean squared error."""
        return self.weights @ (self.predictions.outputs - self.predictions.labels) ** 2 / self.total[:, None]

    def r2(self) -> np.ndarray:
        """Returns 1 minus the squared errors over those of the mean target; 0 for a constant target."""
        targets = self.predictions.labels
        # From the first moments of shifted targets: their mean is near 0, so that the variance loses no digits.
        shifted = targets - targets.mean(axis=0)
        mean = self.weights @ shifted / self.total[:, None]
        variance = self.weights @ shifted**2 / self.total[:, None] - mean**2
        is_spread = variance > 1e-12 * (shifted**2).mean(axis=0)
        ratio = np.where(is_spread, 1 - self.mse / np.where(is_spread, variance, 1.0), 0.0)
        return ratio.mean(axis=1)


def _mae(view: WeightedValues) -> np.ndarray:
    return view.mean(np.abs(view.predictions.outputs - view.predictions.labels).mean(axis=1))


class Regression(Task):
    """Each example has numbers."""

    name = "regression"
    labels = "regression targets"
    has_classes = False
    loss = "mean_squared_error"
    plain_loss = "mse"
    metrics = (
        Metric("mse", lambda view: view.mse.mean(axis=1), "mean squared error", "min", is_summary=True),
        Metric("mae", _mae, "mean absolute error", "min", is_summary=True),
        Metric("r2", WeightedValues.r2, "R squared", is_summary=True),
    )
    curves = {"loss": "Loss as minimized", "mae": "Mean absolute error"}
    sections = ("Predicted and true",)
    paired = ("mae", "mse")

    def check_labels(self, labels: Any, num_classes: int | None = None, *, where: str = "targets") -> np.ndarray:
        return check_targets(labels, where=where)

    def read(self, model: keras.Model, outputs: np.ndarray, activation: str | None) -> dict[str, Any]:
        return {"outputs": outputs.astype("float64")}

    def normalize(self, outputs: Any, labels: Any, class_names: Sequence[str]) -> tuple[np.ndarray, Any]:
        values = np.asarray(outputs, "float64")
        values = values.reshape(len(values), -1)
        if labels is None:
            return values, None
        targets = np.asarray(labels, "float64")
        targets = targets.reshape(len(targets), -1)
        check_fit(values, targets.shape)
        return values, targets

    def view(self, predictions: Predictions, weights: np.ndarray) -> WeightedValues:
        return WeightedValues(predictions, weights)

    def answers(self, predictions: Predictions, top: int, units: Sequence[str]) -> list[dict[str, Any]]:
        unit = {"units": list(units)} if units else {}
        return [{"values": [float(value) for value in row], **unit} for row in predictions.outputs]


REGRESSION = Regression()
