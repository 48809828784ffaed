"""The loss of a run: its section of a recipe, its choices, its metrics, and the check that it fits the model."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_bool
from keras_resnet.errors import BadValue
from keras_resnet.tasks import CLASSIFICATION, REGRESSION, Task
from keras_resnet.tasks.outputs import LOG_SCORES, last_activation
from keras_resnet.training import fields
from keras_resnet.training.cross_entropies import (
    ClassAccuracy,
    CrossEntropy,
    Focal,
    PlainCrossEntropy,
    SigmoidCrossEntropy,
)

# Mean and standard deviation of the targets of each output.
TargetScale = tuple[tuple[float, ...], tuple[float, ...]]


def _cross_entropy(loss: "Loss", from_logits: bool) -> tuple[Any, list[Any]]:
    return CrossEntropy(loss.label_smoothing, from_logits), [ClassAccuracy(), PlainCrossEntropy(from_logits)]


def _sigmoid_cross_entropy(loss: "Loss", from_logits: bool) -> tuple[Any, list[Any]]:
    built = SigmoidCrossEntropy(loss.label_smoothing, from_logits)
    return built, [ClassAccuracy(), PlainCrossEntropy(from_logits, "sigmoid")]


def _focal(loss: "Loss", from_logits: bool) -> tuple[Any, list[Any]]:
    built = Focal(loss.gamma, loss.label_smoothing, from_logits)
    return built, [ClassAccuracy(), PlainCrossEntropy(from_logits)]


def _binary_cross_entropy(loss: "Loss", from_logits: bool) -> tuple[Any, list[Any]]:
    built = keras.losses.BinaryCrossentropy(
        from_logits=from_logits, label_smoothing=loss.label_smoothing, name="binary_cross_entropy"
    )
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0 if from_logits else 0.5, name="accuracy")
    return built, [accuracy, PlainCrossEntropy(from_logits, "binary")]


@keras.saving.register_keras_serializable(package="keras_resnet")
class ScaledLoss(keras.losses.Loss):
    """A loss of targets and outputs in units of the targets' spread, whatever the units that they come in.

    Args:
        loss: a Keras loss.
        mean: of the targets, a number for each output.
        scale: their standard deviations.
        name: of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        `(batch, outputs)`, or `(batch,)` for targets of one output.
    """

    def __init__(self, loss: Any, mean: Sequence[float], scale: Sequence[float], name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.loss = keras.losses.deserialize(loss) if isinstance(loss, dict) else loss
        self.mean, self.scale = [float(value) for value in mean], [float(value) for value in scale]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of every example, `(batch,)`."""
        y_true = keras.ops.reshape(keras.ops.cast(y_true, y_pred.dtype), (-1, len(self.mean)))
        mean, scale = (keras.ops.convert_to_tensor(values, y_pred.dtype) for values in (self.mean, self.scale))
        return self.loss.call((y_true - mean) / scale, (y_pred - mean) / scale)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        own = {"loss": keras.losses.serialize(self.loss), "mean": self.mean, "scale": self.scale}
        return {**super().get_config(), **own}


def _mean_squared_error(loss: "Loss", from_logits: bool) -> tuple[Any, list[Any]]:
    return keras.losses.MeanSquaredError(name="mean_squared_error"), _errors()


def _huber(loss: "Loss", from_logits: bool) -> tuple[Any, list[Any]]:
    return keras.losses.Huber(loss.delta, name="huber"), _errors()


def _errors() -> list[Any]:
    return [keras.metrics.MeanAbsoluteError(name="mae"), keras.metrics.MeanSquaredError(name="mse")]


@dataclasses.dataclass(frozen=True)
class LossChoice(fields.Choice):
    """A row of the table of losses.

    Attributes:
        task: that it is for.
        activation: what makes probabilities of the logits; None for a regression.
        is_binary: for two classes and one output, the logit of the second.
    """

    task: Task = CLASSIFICATION
    activation: str | None = "softmax"
    is_binary: bool = False


LOSSES: dict[str, LossChoice] = {
    "cross_entropy": LossChoice(_cross_entropy, ("label_smoothing",)),
    "sigmoid_cross_entropy": LossChoice(_sigmoid_cross_entropy, ("label_smoothing",), activation="sigmoid"),
    "focal": LossChoice(_focal, ("label_smoothing", "gamma")),
    "binary_cross_entropy": LossChoice(
        _binary_cross_entropy, ("label_smoothing",), activation="sigmoid", is_binary=True
    ),
    "mean_squared_error": LossChoice(_mean_squared_error, ("scale_targets",), task=REGRESSION, activation=None),
    # Huber 1964: squared up to delta, linear beyond.
    "huber": LossChoice(_huber, ("delta", "scale_targets"), task=REGRESSION, activation=None),
}


@dataclasses.dataclass(frozen=True)
class Loss(fields.Section):
    """What is minimized; "mean_squared_error" and "huber" make the run a regression.

    `scale_targets` counts a regression's errors in standard deviations of the training targets, so that rates, clipping
    and `delta` (in the same units) mean the same for ages and for prices; the model answers in the units of the data.
    """

    title = "loss"
    table = LOSSES
    name: str = fields.choice("cross_entropy", LOSSES)
    label_smoothing: float = fields.number(0.0, maximum=1.0, open_above=True)
    gamma: float = fields.number(2.0)
    delta: float = fields.number(1.0, open_below=True, scale="log")
    scale_targets: bool = fields.flag(True)

    @property
    def plain_metric(self) -> str:
        """The metric that is the plain loss of the task: without smoothing, weights and regularization."""
        return self.choice.task.plain_loss

    @property
    def choice(self) -> LossChoice:
        """The row of the table."""
        return LOSSES[self.name]

    def scale_of(self, targets: Any) -> TargetScale | None:
        """Returns mean and standard deviation of each output's training targets; None if they are not scaled.

        A target that never changes has the scale 1.

        Args:
            targets: `(examples,)` or `(examples, outputs)`; None if they are streamed from files.
        """
        if self.choice.task is not REGRESSION or not self.scale_targets or targets is None:
            return None
        values = np.asarray(targets, "float64").reshape(len(targets), -1)
        spread = values.std(axis=0)
        scale = np.where(spread > 1e-6 * np.abs(values).max(axis=0), spread, 1.0)
        return tuple(values.mean(axis=0).tolist()), tuple(scale.tolist())

    def build(self, from_logits: bool, targets: TargetScale | None = None) -> tuple[Any, list[Any]]:
        """Returns the loss and its metrics, for `model.compile`.

        Args:
            from_logits: whether the model ends in logits; a regression has no use for it.
            targets: the scale of a regression's targets, in whose units the loss is; metrics are in those of the data.
        """
        built, metrics = self.choice.build(self, check_bool("from_logits", from_logits))
        return (built if targets is None else ScaledLoss(built, *targets, name=built.name)), metrics

    def outputs(self, spec: str, num_outputs: int) -> int:
        """Returns the outputs of a network for data with so many classes, or regression targets.

        Raises:
            ValueError: the loss does not fit their number.
        """
        if not self.choice.task.has_classes:
            return num_outputs
        if self.choice.is_binary:
            if num_outputs != 2:
                raise BadValue(
                    f"loss.name={self.name!r} was given for data={spec!r} with {num_outputs} classes. It "
                    "takes two. Use loss.name='cross_entropy'."
                )
            return 1
        if num_outputs < 2:
            raise BadValue(
                f"data={spec!r} has {num_outputs} class. A classifier needs two. Add another class, or use "
                "loss.name='mean_squared_error' for regression targets."
            )
        return num_outputs


def check_outputs(model: keras.Model) -> None:
    """Raises ValueError where the outputs or the last activation of a compiled model and its loss disagree.

    Keras trains such a pair without a word: a softmax of a softmax learns slowly, and a logarithm of logits is NaN or
    clipped.

    Args:
        model: after `compile` with `recipe.compile_args(...)`; one with another loss passes.
    """
    outputs = model.output_shape[-1] if isinstance(model.output_shape, tuple) else None
    if outputs == 1 and isinstance(model.loss, CrossEntropy) and not isinstance(model.loss, SigmoidCrossEntropy):
        raise BadValue(
            f"The model has 1 output, and the loss {model.loss.name!r} divides by the sum over the classes, which "
            "leaves nothing to learn. They must agree. Use loss.name='binary_cross_entropy' for two classes, "
            "'mean_squared_error' for regression targets, or a model with an output for each class."
        )
    from_logits = getattr(model.loss, "from_logits", None)
    if from_logits is None:
        # keras.losses.BinaryCrossentropy keeps its arguments in its configuration.
        from_logits = model.loss.get_config().get("from_logits") if hasattr(model.loss, "get_config") else None
    activation = last_activation(model)
    if from_logits is None or activation is None:
        return
    if from_logits and activation in LOG_SCORES:
        raise BadValue(
            f"The model ends in {activation!r}, that is in probabilities, and the loss takes logits. They must agree. "
            "Use recipe.compile_args(from_logits=False), or build the model with classifier_activation=None."
        )
    if not from_logits and activation == "linear":
        raise BadValue(
            "The model ends in logits (classifier_activation=None), and the loss takes probabilities. They must agree. "
            "Use recipe.compile_args(from_logits=True), or build the model with classifier_activation='softmax'."
        )
