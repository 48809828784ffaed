"""The loss of a run: classes, the section of a recipe, its choices, and the check that it fits the model."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_bool, check_float, check_fraction, choose
from keras_resnet.data.weighting import LabelWeights
from keras_resnet.errors import BadValue
from keras_resnet.tasks import CLASSIFICATION, MULTILABEL, ORDINAL, REGRESSION, Task
from keras_resnet.tasks.labels import is_number
from keras_resnet.tasks.outputs import LOG_SCORES, last_activation
from keras_resnet.training import fields
from keras_resnet.training.scoring import (
    ClassAccuracy,
    LabelAccuracy,
    MeanRocAuc,
    answer_weights,
    are_rows,
    known_rows,
    mean_of_answers,
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


def one_hot(y_true: Any, y_pred: Any) -> Any:
    """Returns labels as rows of `(batch, classes)`, whether they come as integers or as such rows already."""
    if are_rows(y_true, y_pred):
        return y_true
    classes = y_pred.shape[-1]
    labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
    # A label that names no class would have the target zero and the loss zero; NaN stops the training.
    is_class = keras.ops.expand_dims(keras.ops.logical_and(labels >= 0, labels < classes), -1)
    return keras.ops.where(is_class, keras.ops.one_hot(labels, classes, dtype=y_pred.dtype), math.nan)


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
        return keras.losses.categorical_crossentropy(
            one_hot(y_true, y_pred), y_pred, from_logits=self.from_logits, label_smoothing=self.label_smoothing
        )

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        """Returns smoothed rows of shares, `(batch, classes)`."""
        return one_hot(y_true, y_pred) * (1 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
        }


@keras.saving.register_keras_serializable(package="keras_resnet")
class AdjustedCrossEntropy(CrossEntropy):
    """Cross-entropy of logits to which the logarithms of the classes' shares were added, while training.

    The logits themselves then rank classes as if all were as frequent, so rare ones are not passed over; their softmax
    are probabilities of such data, and too high for rare classes of data as they come.

    Args:
        shares: of each class among the training labels, in (0, 1].
        strength: factor of the logarithms; 1 in the paper.
        label_smoothing: as for `CrossEntropy`.
        from_logits: must be True; the model ends in logits.
        name: of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        As for `CrossEntropy`.

    Source:
        Menon et al. 2021, "Long-tail learning via logit adjustment", equation 10.
    """

    def __init__(
        self,
        shares: Sequence[float],
        strength: float = 1.0,
        label_smoothing: float = 0.0,
        from_logits: bool = True,
        name: str = "cross_entropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_smoothing, from_logits, name, **kwargs)
        _check_logits(name, from_logits)
        self.shares = [float(share) for share in shares]
        self.strength = check_float("strength", strength, minimum=0.0)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of every example, `(batch,)`."""
        added = [self.strength * math.log(share) for share in self.shares]
        return super().call(y_true, y_pred + keras.ops.convert_to_tensor(added, y_pred.dtype))

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "shares": self.shares, "strength": self.strength}


def _cross_entropy(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    metrics = [ClassAccuracy(), PlainCrossEntropy(from_logits)]
    if facts.class_shares is not None:
        return AdjustedCrossEntropy(facts.class_shares, loss.logit_adjustment, loss.label_smoothing), metrics
    return CrossEntropy(loss.label_smoothing, from_logits), metrics


@keras.saving.register_keras_serializable(package="keras_resnet")
class SigmoidCrossEntropy(CrossEntropy):
    """Mean over the classes of their binary cross-entropies.

    It suits labels that are mixed, where more than one class is right.

    Args:
        label_smoothing: as for `CrossEntropy`.
        from_logits: must be True; the model ends in logits.
        name: of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        As for `CrossEntropy`.

    Source:
        Wightman et al. 2021, "ResNet strikes back", section 3.2. The mean, not the sum of Beyer et al. 2020, is what
        timm trained those weights with, beside a clipped gradient and the 1e-6 of LAMB, which know its size.
    """

    def __init__(
        self, label_smoothing: float = 0.0, from_logits: bool = True, name: str = "sigmoid_cross_entropy", **kwargs: Any
    ) -> None:
        super().__init__(label_smoothing, from_logits, name, **kwargs)
        _check_logits(name, from_logits)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of every example, `(batch,)`."""
        targets = self.targets(y_true, y_pred)
        # log(1 + exp(x)) - x * target, in the form that does not overflow.
        return keras.ops.mean(keras.ops.softplus(y_pred) - y_pred * targets, axis=-1)


def _sigmoid_cross_entropy(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    built = SigmoidCrossEntropy(loss.label_smoothing, from_logits)
    return built, [ClassAccuracy(), PlainCrossEntropy(from_logits, "sigmoid")]


@keras.saving.register_keras_serializable(package="keras_resnet")
class Focal(CrossEntropy):
    """Cross-entropy that down-weights well-classified examples.

    Args:
        gamma: how much less: the loss is multiplied by (1 - p) to this power, p the probability of the class.
        label_smoothing: as for `CrossEntropy`.
        from_logits: must be True; the model ends in logits.
        name: of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        As for `CrossEntropy`.

    Source:
        Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4, for softmax probabilities.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        label_smoothing: float = 0.0,
        from_logits: bool = True,
        name: str = "focal",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_smoothing, from_logits, name, **kwargs)
        _check_logits(name, from_logits)
        self.gamma = check_float("gamma", gamma, minimum=0.0)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of every example, `(batch,)`."""
        targets = self.targets(y_true, y_pred)
        logs = keras.ops.log_softmax(y_pred, axis=-1)
        # The gradient of a power is not finite at 0 for gamma below 1.
        remaining = keras.ops.maximum(1 - keras.ops.exp(logs), 1e-7)
        return -keras.ops.sum(targets * keras.ops.power(remaining, self.gamma) * logs, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "gamma": self.gamma}


def _focal(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    built = Focal(loss.gamma, loss.label_smoothing, from_logits)
    return built, [ClassAccuracy(), PlainCrossEntropy(from_logits)]


@keras.saving.register_keras_serializable(package="keras_resnet")
class OrdinalCrossEntropy(CrossEntropy):
    """Cross-entropy for classes that are grades: the target of a class has shares of its neighbors too.

    The share of a class at distance d, in grades, falls as exp(-decay * d**2), so that a guess costs the more, the
    farther it is from the label. The order is that of the classes' numbers.

    Args:
        decay: how fast the shares fall, > 0; 1 in the paper. The larger, the nearer to the plain cross-entropy.
        from_logits: whether the model ends in logits, otherwise in probabilities.
        name: of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        As for `CrossEntropy`.

    Source:
        Diaz and Marathe 2019, "Soft Labels for Ordinal Regression", equation 3, with squared distances.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.training import OrdinalCrossEntropy
        >>> rows = OrdinalCrossEntropy(from_logits=True).targets(np.array([0]), np.zeros((1, 3), "float32"))
        >>> [round(float(share), 3) for share in rows[0]]
        [0.721, 0.265, 0.013]
    """

    def __init__(self, decay: float = 1.0, from_logits: bool = False, name: str = "ordinal", **kwargs: Any) -> None:
        super().__init__(0.0, from_logits, name, **kwargs)
        self.decay = check_float("decay", decay, minimum=0.0, minimum_included=False)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of every example, `(batch,)`."""
        targets = self.targets(y_true, y_pred)
        return keras.losses.categorical_crossentropy(targets, y_pred, from_logits=self.from_logits)

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        """Returns rows of shares, `(batch, classes)`."""
        grades = keras.ops.arange(y_pred.shape[-1], dtype=y_pred.dtype)
        apart = keras.ops.square(grades[:, None] - grades)
        return keras.ops.matmul(one_hot(y_true, y_pred), keras.ops.softmax(-self.decay * apart, axis=-1))

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        config = {**super().get_config(), "decay": self.decay}
        del config["label_smoothing"]
        return config


def _ordinal(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    return OrdinalCrossEntropy(loss.decay, from_logits), [ClassAccuracy(), PlainCrossEntropy(from_logits)]


def _binary_cross_entropy(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    built = keras.losses.BinaryCrossentropy(
        from_logits=from_logits, label_smoothing=loss.label_smoothing, name="binary_cross_entropy"
    )
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0 if from_logits else 0.5, name="accuracy")
    return built, [accuracy, PlainCrossEntropy(from_logits, "binary")]


@keras.saving.register_keras_serializable(package="keras_resnet")
class MultilabelCrossEntropy(keras.losses.Loss):
    """The binary cross-entropy of each class by itself, in nats, the mean over the classes.

    Args:
        label_smoothing: share s by which targets are moved towards a half: 0 and 1 become s / 2 and 1 - s / 2; [0, 1).
        weights: of the classes where an example has them, and where it has not; None for 1.
        from_logits: must be True; the model ends in logits.
        name: of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        Labels `(batch, classes)`, 0 and 1 or shares in [0, 1], NaN where a label is not known: it does not count;
        logits `(batch, classes)`.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.training import MultilabelCrossEntropy
        >>> loss = MultilabelCrossEntropy()
        >>> round(float(loss(np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]], "float32"))), 4)
        0.6931
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        weights: Sequence[Sequence[float]] | None = None,
        from_logits: bool = True,
        name: str = "multilabel_cross_entropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = check_fraction("label_smoothing", label_smoothing)
        if not from_logits:
            raise BadValue(
                f"from_logits=False was given with the loss {name!r}, which is computed from logits. Build the model "
                "with classifier_activation=None, and pass from_logits=True."
            )
        self.from_logits = True
        self.weights = None if weights is None else [[float(value) for value in row] for row in weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of every example, `(batch,)`."""
        targets, known = known_rows(y_true, y_pred)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        yes, no = self.answers(y_pred)
        if self.weights is not None:
            yes, no = (
                part * keras.ops.convert_to_tensor(weight, y_pred.dtype)
                for part, weight in zip((yes, no), self.weights, strict=True)
            )
        return mean_of_answers(targets * yes + (1 - targets) * no, known)

    def answers(self, logits: Any) -> tuple[Any, Any]:
        """Returns the loss of each class where an example has it, and where it has not, `(batch, classes)`."""
        return keras.ops.softplus(-logits), keras.ops.softplus(logits)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        names = ("label_smoothing", "weights", "from_logits")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _multilabel_cross_entropy(loss: "Loss", from_logits: bool, facts: LabelFacts) -> tuple[Any, list[Any]]:
    built = MultilabelCrossEntropy(loss.label_smoothing, facts.label_weights, from_logits)
    return built, _answer_metrics(facts)


@keras.saving.register_keras_serializable(package="keras_resnet")
class Asymmetric(MultilabelCrossEntropy):
    """A cross-entropy that counts easy answers less, and easy absent classes much less, of which there are many.

    With equal powers and no margin it is the focal loss of each class.

    Args:
        gamma_positive: power by which an answer counts less where the example has the class: (1 - p) to this power.
        gamma_negative: the same where it has not: p to this power.
        margin: by which the probability of an absent class is lowered first, in [0, 1): below it the loss is 0.
        label_smoothing: as for `MultilabelCrossEntropy`.
        weights: as for `MultilabelCrossEntropy`.
        from_logits: must be True.
        name: of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        As for `MultilabelCrossEntropy`.

    Source:
        Ridnik et al. 2021, "Asymmetric Loss For Multi-Label Classification", equations 4 to 7; Lin et al. 2017 for
        equal powers.
    """

    def __init__(
        self,
        gamma_positive: float = 0.0,
        gamma_negative: float = 4.0,
        margin: float = 0.05,
        label_smoothing: float = 0.0,
        weights: Sequence[Sequence[float]] | None = None,
        from_logits: bool = True,
        name: str = "asymmetric",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_smoothing, weights, from_logits, name, **kwargs)
        self.gamma_positive = check_float("gamma_positive", gamma_positive, minimum=0.0)
        self.gamma_negative = check_float("gamma_negative", gamma_negative, minimum=0.0)
        self.margin = check_fraction("margin", margin)

    def answers(self, logits: Any) -> tuple[Any, Any]:
        """Returns the loss of each class where an example has it, and where it has not, `(batch, classes)`."""
        ops = keras.ops
        yes, no = super().answers(logits)
        # The gradient of a power is not finite at 0 for powers below 1.
        if self.gamma_positive:
            yes = yes * ops.power(ops.maximum(ops.sigmoid(-logits), 1e-7), self.gamma_positive)
        lowered = ops.maximum(ops.sigmoid(logits) - self.margin, 0.0)
        if self.margin:
            no = -ops.log1p(-ops.minimum(lowered, 1 - 1e-7))
        if self.gamma_negative:
            no = no * ops.power(ops.maximum(lowered, 1e-7), self.gamma_negative)
        return yes, no

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        names = ("gamma_positive", "gamma_negative", "margin")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


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


def _check_logits(name: str, from_logits: bool) -> None:
    if not from_logits:
        raise BadValue(
            f"from_logits=False was given with the loss {name!r}, which is computed from logits. Build the model with "
            "classifier_activation=None, and pass from_logits=True."
        )


def _plain_binary(from_logits: bool) -> Callable[[Any, Any], Any]:
    def loss(y_true: Any, y_pred: Any) -> Any:
        truth = keras.ops.cast(keras.ops.reshape(y_true, (-1, 1)), y_pred.dtype)
        return keras.ops.binary_crossentropy(truth, y_pred, from_logits=from_logits)

    return loss


PLAIN_LOSSES: dict[str, Callable[[bool], Callable[[Any, Any], Any]]] = {
    "softmax": lambda from_logits: CrossEntropy(0.0, from_logits).call,
    "sigmoid": lambda from_logits: SigmoidCrossEntropy(0.0, from_logits).call,
    "binary": _plain_binary,
    "multilabel": lambda from_logits: MultilabelCrossEntropy(from_logits=from_logits).call,
}


@keras.saving.register_keras_serializable(package="keras_resnet")
class PlainCrossEntropy(keras.metrics.MeanMetricWrapper):
    """The cross-entropy without label smoothing, focal weights, class weights and regularization, in nats.

    What recipes minimize differs with their smoothing and decay; this does not, so that runs can be compared by it.
    """

    def __init__(
        self, from_logits: bool = False, kind: str = "softmax", name: str = "cross_entropy", dtype: Any = None
    ) -> None:
        super().__init__(choose("kind", kind, PLAIN_LOSSES)(from_logits), name=name, dtype=dtype)
        self.from_logits, self.kind = from_logits, kind
        self._direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Counts a batch."""
        if self.kind == "multilabel":
            sample_weight = answer_weights(y_true, y_pred, sample_weight)
        return super().update_state(y_true, y_pred, sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        names = ("from_logits", "kind", "name", "dtype")
        return {name: getattr(self, name) for name in names}


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
