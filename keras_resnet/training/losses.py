"""Losses and metrics from a recipe, for integer and one-hot labels, and the check that they fit the model."""

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.arguments import check_bool, check_fraction, choose
from keras_resnet.errors import BadValue
from keras_resnet.models.outputs import PROBABILITIES, last_activation


@keras.saving.register_keras_serializable(package="keras_resnet")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy in nats, with label smoothing, for integer labels as well as for one-hot rows.

    Keras has two losses for the two kinds of labels, and smooths the one-hot ones alone.

    Args:
        label_smoothing: share of the target that is spread evenly over all classes, in [0, 1).
        from_logits: whether the model ends in logits, otherwise in probabilities.
        name: of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        Labels `(batch,)`, `(batch, 1)` or one-hot `(batch, classes)`; predictions `(batch, classes)`.

    Source:
        Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", section 7.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.training import CrossEntropy
        >>> loss = CrossEntropy(from_logits=True)
        >>> round(float(loss(np.array([1]), np.array([[0.0, 0.0]], "float32"))), 4)
        0.6931
    """

    def __init__(
        self, label_smoothing: float = 0.0, from_logits: bool = False, name: str = "cross_entropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = check_fraction("label_smoothing", label_smoothing)
        self.from_logits = check_bool("from_logits", from_logits)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of every example, `(batch,)`."""
        classes = y_pred.shape[-1]
        if len(y_true.shape) == 1 or y_true.shape[-1] == 1 != classes:
            labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
            # A label that names no class would have the target zero and the loss zero; NaN stops the training.
            known = keras.ops.expand_dims(keras.ops.logical_and(labels >= 0, labels < classes), -1)
            y_true = keras.ops.where(known, keras.ops.one_hot(labels, classes, dtype=y_pred.dtype), math.nan)
        return keras.losses.categorical_crossentropy(
            y_true, y_pred, from_logits=self.from_logits, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
        }


def _cross_entropy(label_smoothing: float, from_logits: bool) -> tuple[Any, list[Any]]:
    # Keras picks the accuracy that fits the shape of the labels.
    return CrossEntropy(label_smoothing, from_logits), ["accuracy"]


def _binary_cross_entropy(label_smoothing: float, from_logits: bool) -> tuple[Any, list[Any]]:
    loss = keras.losses.BinaryCrossentropy(
        from_logits=from_logits, label_smoothing=label_smoothing, name="binary_cross_entropy"
    )
    return loss, [keras.metrics.BinaryAccuracy(threshold=0.0 if from_logits else 0.5, name="accuracy")]


def _mean_squared_error(label_smoothing: float, from_logits: bool) -> tuple[Any, list[Any]]:
    return keras.losses.MeanSquaredError(name="mean_squared_error"), [keras.metrics.MeanAbsoluteError(name="mae")]


LOSSES: dict[str, Callable[[float, bool], tuple[Any, list[Any]]]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "mean_squared_error": _mean_squared_error,
}


def build_loss(loss: Any, from_logits: bool) -> tuple[Any, list[Any]]:
    """Returns the loss of a recipe and its metrics, for `model.compile`.

    Args:
        loss: the section of a recipe.
        from_logits: whether the model ends in logits; a regression has no use for it.
    """
    check_bool("from_logits", from_logits)
    return choose("loss.name", loss.name, LOSSES)(loss.label_smoothing, from_logits)


def check_outputs(model: keras.Model) -> None:
    """Raises ValueError where the last activation of a compiled model and its loss disagree.

    Keras trains such a pair without a word: a softmax of a softmax learns slowly, and a logarithm of logits is NaN or
    clipped.

    Args:
        model: after `compile` with `recipe.compile_args(...)`; one with another loss passes.
    """
    from_logits = getattr(model.loss, "from_logits", None)
    if from_logits is None:
        # keras.losses.BinaryCrossentropy keeps its arguments in its configuration.
        from_logits = model.loss.get_config().get("from_logits") if hasattr(model.loss, "get_config") else None
    activation = last_activation(model)
    if from_logits is None or activation is None:
        return
    if from_logits and activation in PROBABILITIES:
        raise BadValue(
            f"The model ends in {activation!r}, that is in probabilities, and the loss takes logits. They must agree. "
            "Use recipe.compile_args(from_logits=False), or build the model with classifier_activation=None."
        )
    if not from_logits and activation == "linear":
        raise BadValue(
            "The model ends in logits (classifier_activation=None), and the loss takes probabilities. They must agree. "
            "Use recipe.compile_args(from_logits=True), or build the model with classifier_activation='softmax'."
        )
