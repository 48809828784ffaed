"""The loss of a run: its section of a recipe, its choices, its metrics, and the check that it fits the model."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_bool
from keras_resnet.data.weighting import LabelWeights
from keras_resnet.errors import BadValue
from keras_resnet.tasks import CLASSIFICATION, MULTILABEL, ORDINAL, REGRESSION, Task
from keras_resnet.tasks.labels import is_number
from keras_resnet.tasks.outputs import LOG_SCORES, last_activation
from keras_resnet.training import fields
from keras_resnet.training.losses import (
    AdjustedCrossEntropy,
    Asymmetric,
    ClassAccuracy,
    CrossEntropy,
    Focal,
    LabelAccuracy,
    MeanRocAuc,
    MultilabelCrossEntropy,
    OrdinalCrossEntropy,
    PlainCrossEntropy,
    SigmoidCrossEntropy,
)

# Mean and standard deviation of the targets of each output.
TargetScale = tuple[tuple[float, ...], tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class LabelFacts:
    """Statistics of the training labels that losses use.

    Attributes:
        targets: the scale of a regression's targets, in whose units the loss is; None for theirs.
        class_shares: the share of each class among the labels, which `logit_adjustment` takes; None for no adjustment.
        label_weights: of multi-label targets, weights of yes and of no for each class; None for 1.
        num_classes: of multi-label targets; 0 for other tasks.
        are_weighted: whether examples have weights, by which they count in the metrics too.
    """

    targets: TargetScale | None = None
    class_shares: tuple[float, ...] | None = None
    label_weights: LabelWeights | None = None
    num_classes: int = 0
    are_weighted: bool = False


def _cross_entropy(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    metrics = [ClassAccuracy(), PlainCrossEntropy(from_logits)]
    if facts.class_shares is not None:
        return AdjustedCrossEntropy(facts.class_shares, loss.logit_adjustment, loss.label_smoothing), metrics
    return CrossEntropy(loss.label_smoothing, from_logits), metrics


def _sigmoid_cross_entropy(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    built = SigmoidCrossEntropy(loss.label_smoothing, from_logits)
    return built, [ClassAccuracy(), PlainCrossEntropy(from_logits, "sigmoid")]


def _focal(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    built = Focal(loss.gamma, loss.label_smoothing, from_logits)
    return built, [ClassAccuracy(), PlainCrossEntropy(from_logits)]


def _ordinal(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    return OrdinalCrossEntropy(loss.decay, from_logits), [ClassAccuracy(), PlainCrossEntropy(from_logits)]


def _binary_cross_entropy(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    built = keras.losses.BinaryCrossentropy(
        from_logits=from_logits, label_smoothing=loss.label_smoothing, name="binary_cross_entropy"
    )
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0 if from_logits else 0.5, name="accuracy")
    return built, [accuracy, PlainCrossEntropy(from_logits, "binary")]


@keras.saving.register_keras_serializable(package="keras_resnet")
class ScaledLoss(keras.losses.Loss):
    """A loss of targets and outputs in units of the targets' spread, whatever the units that they come in."""

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


def _multilabel_cross_entropy(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    built = MultilabelCrossEntropy(loss.label_smoothing, facts.label_weights, from_logits)
    return built, _answer_metrics(facts)


def _multilabel_focal(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    powers = (loss.gamma, loss.gamma, 0.0)
    built = Asymmetric(*powers, loss.label_smoothing, facts.label_weights, from_logits, "multilabel_focal")
    return built, _answer_metrics(facts)


def _asymmetric(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    powers = (loss.gamma_positive, loss.gamma_negative, loss.margin)
    return Asymmetric(*powers, loss.label_smoothing, facts.label_weights, from_logits), _answer_metrics(facts)


def _answer_metrics(facts: LabelFacts) -> list[Any]:
    areas = [MeanRocAuc(facts.num_classes)] if facts.num_classes else []  # which needs a histogram for each class
    return [LabelAccuracy(), PlainCrossEntropy(True, "multilabel"), *areas]


def _mean_squared_error(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    return keras.losses.MeanSquaredError(name="mean_squared_error"), _errors()


def _huber(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
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


SEVERAL: dict[str, Any] = {"task": MULTILABEL, "activation": "sigmoid"}
LOSSES: dict[str, LossChoice] = {
    "cross_entropy": LossChoice(_cross_entropy, ("label_smoothing", "logit_adjustment")),
    "sigmoid_cross_entropy": LossChoice(_sigmoid_cross_entropy, ("label_smoothing",), activation="sigmoid"),
    "focal": LossChoice(_focal, ("label_smoothing", "gamma")),
    "ordinal": LossChoice(_ordinal, ("decay",), task=ORDINAL),
    "binary_cross_entropy": LossChoice(
        _binary_cross_entropy, ("label_smoothing",), activation="sigmoid", is_binary=True
    ),
    "multilabel_cross_entropy": LossChoice(_multilabel_cross_entropy, ("label_smoothing",), **SEVERAL),
    "multilabel_focal": LossChoice(_multilabel_focal, ("label_smoothing", "gamma"), **SEVERAL),
    "asymmetric": LossChoice(_asymmetric, ("label_smoothing", "gamma_positive", "gamma_negative", "margin"), **SEVERAL),
    "mean_squared_error": LossChoice(_mean_squared_error, ("scale_targets",), task=REGRESSION, activation=None),
    # Huber 1964: squared up to delta, linear beyond.
    "huber": LossChoice(_huber, ("delta", "scale_targets"), task=REGRESSION, activation=None),
}


@dataclasses.dataclass(frozen=True)
class Loss(fields.Section):
    """What is minimized; it says what the run is for.

    "mean_squared_error" and "huber" make it a regression, "multilabel_cross_entropy", "multilabel_focal" and
    "asymmetric" one of multi-label targets; the others are for one class of several, of which "ordinal" is for
    grades, in the order of their names, with a `decay` by their distance. `logit_adjustment` t adds t
    times the logarithm of each class's share of the training labels to its logit while training, so that rare classes
    are not passed over (Menon et al. 2021; 1 is their choice, 0 none). `gamma_positive`, `gamma_negative` and `margin`
    are those of the asymmetric loss.

    `scale_targets` counts a regression's errors in standard deviations of the training targets, so that rates, clipping
    and `delta` (in the same units) mean the same for ages and for prices; the model answers in the units of the data.
    """

    title = "loss"
    table = LOSSES
    name: str = fields.choice("cross_entropy", LOSSES)
    label_smoothing: float = fields.number(0.0, maximum=1.0, open_above=True)
    gamma: float = fields.number(2.0)
    decay: float = fields.number(1.0, open_below=True, scale="log")
    gamma_positive: float = fields.number(0.0)
    gamma_negative: float = fields.number(4.0)
    margin: float = fields.number(0.05, maximum=1.0, open_above=True)
    logit_adjustment: float = fields.number(0.0)
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

    def scale_of(self, targets: Any, weights: Any = None) -> TargetScale | None:
        """Returns mean and standard deviation of each output's training targets; None if they are not scaled.

        A target that never changes has the scale 1.
        """
        if self.choice.task.has_classes or not self.scale_targets or targets is None:
            return None
        values = np.asarray(targets, "float64").reshape(len(targets), -1)
        if weights is None:
            mean, spread = values.mean(axis=0), values.std(axis=0)
        else:
            mean = np.average(values, axis=0, weights=weights)
            spread = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
        scale = np.where(spread > 1e-6 * np.abs(values).max(axis=0), spread, 1.0)
        return tuple(mean.tolist()), tuple(scale.tolist())

    def check_shares(self, shares: Any) -> tuple[float, ...]:
        """Returns the share of each class, which `logit_adjustment` needs."""
        if shares is None or not np.all(shares):
            what = "labels in files that are streamed" if shares is None else "a class without training examples"
            raise BadValue(
                f"loss.logit_adjustment={self.logit_adjustment:g} was given for data with {what}. It needs the share "
                "of every class. Set it to 0, or use data whose labels are at hand."
            )
        return tuple(np.asarray(shares).tolist())

    def build(self, from_logits: bool, facts: LabelFacts | None = None) -> tuple[Any, list[Any]]:
        """Returns the loss and its metrics, for `model.compile`."""
        facts = LabelFacts() if facts is None else facts
        built, metrics = self.choice.build(self, check_bool("from_logits", from_logits), facts)
        return (built if facts.targets is None else ScaledLoss(built, *facts.targets, name=built.name)), metrics

    def outputs(self, spec: str, num_outputs: int, class_names: Sequence[str] = ()) -> int:
        """Returns the outputs of a network for data with that many classes, or regression targets."""
        if self.name == "ordinal" and all(map(is_number, class_names)):
            by_value = sorted(class_names, key=float)
            if list(class_names) != by_value:
                raise BadValue(
                    f"loss.name='ordinal' was given for data={spec!r}, whose classes are in the order "
                    f"{', '.join(class_names)}, as words are. Grades are in the order of their values. Set "
                    f"data.class_order={','.join(by_value)!r}."
                )
        if not self.choice.task.has_classes:
            return num_outputs
        if self.choice.is_binary:
            if num_outputs != 2:
                raise BadValue(
                    f"loss.name={self.name!r} was given for data={spec!r} with {num_outputs} classes. It "
                    "takes two. Use loss.name='cross_entropy'."
                )
            return 1
        if num_outputs < 2 and not self.choice.task.has_thresholds:
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
