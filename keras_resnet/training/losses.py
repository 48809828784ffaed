"""Losses and metrics of epochs, for classes, multi-label targets and grades."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_resnet.arguments import check_bool, check_float, check_fraction, choose
from keras_resnet.errors import BadValue


def _are_rows(y_true: Any, y_pred: Any) -> bool:
    """Returns whether labels have a share for each class; a column of integers has not."""
    return len(y_true.shape) > 1 and not y_true.shape[-1] == 1 != y_pred.shape[-1]


def one_hot(y_true: Any, y_pred: Any) -> Any:
    """Returns labels as rows of `(batch, classes)`, whether they come as integers or as such rows already."""
    if _are_rows(y_true, y_pred):
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


def _check_logits(name: str, from_logits: bool) -> None:
    if not from_logits:
        raise BadValue(
            f"from_logits=False was given with the loss {name!r}, which is computed from logits. Build the model with "
            "classifier_activation=None, and pass from_logits=True."
        )


@keras.saving.register_keras_serializable(package="keras_resnet")
class ClassAccuracy(keras.metrics.MeanMetricWrapper):
    """Share of the examples whose most probable class is the label, for integers and for rows of one-hot labels.

    Of mixed labels it takes the class with the largest share. Keras's "accuracy" is made for one kind of labels when it
    sees the first batch, and fails where training has mixed labels and validation integers.

    Args:
        name: of the metric.
        dtype: of its sums.
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(_is_right, name=name, dtype=dtype)
        self._direction = "up"

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {"name": self.name, "dtype": self.dtype}


def _is_right(y_true: Any, y_pred: Any) -> Any:
    if _are_rows(y_true, y_pred):
        y_true = keras.ops.argmax(y_true, axis=-1)
    labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
    return keras.ops.cast(keras.ops.cast(keras.ops.argmax(y_pred, axis=-1), "int32") == labels, "float32")


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


def rows_of(y_true: Any, y_pred: Any) -> Any:
    """Returns labels as `(batch, classes)` in the type of the logits."""
    return keras.ops.cast(keras.ops.reshape(y_true, keras.ops.shape(y_pred)), y_pred.dtype)


def known_rows(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Returns labels as `rows_of` with 0 for NaN, and 1 where a label is known, else 0."""
    rows = rows_of(y_true, y_pred)
    is_known = keras.ops.logical_not(keras.ops.isnan(rows))
    return keras.ops.where(is_known, rows, 0.0), keras.ops.cast(is_known, rows.dtype)


def mean_of_answers(values: Any, known: Any) -> Any:
    """Returns the mean over the classes whose label is known, `(batch,)`; 0 where none is."""
    share = keras.ops.mean(known, axis=-1)  # 1 where all are, by which nothing changes
    return keras.ops.mean(values * known, axis=-1) / keras.ops.where(share > 0, share, 1.0)


def answer_weights(y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
    """Returns the weight of each example in a mean over answers: its own, times the share of its labels it has."""
    ops = keras.ops
    _, known = known_rows(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
    share = ops.cast(ops.mean(known, axis=-1), "float32")
    return share if sample_weight is None else share * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))


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


@keras.saving.register_keras_serializable(package="keras_resnet")
class LabelAccuracy(keras.metrics.MeanMetricWrapper):
    """Share of right answers over examples and classes; a class is said to be there from a probability of 0.5 on."""

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(_right_answers, name=name, dtype=dtype)
        self._direction = "up"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Counts a batch."""
        return super().update_state(y_true, y_pred, sample_weight=answer_weights(y_true, y_pred, sample_weight))

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {"name": self.name, "dtype": self.dtype}


def _right_answers(y_true: Any, y_pred: Any) -> Any:
    rows, known = known_rows(y_true, y_pred)
    right = (rows >= 0.5) == (y_pred >= 0)
    return mean_of_answers(keras.ops.cast(right, "float32"), keras.ops.cast(known, "float32"))


# Bins of a histogram of logits, by which areas are found: a bin is 0.00012 wide at 0, and wider farther away.
AREA_BINS = 2**14


@keras.saving.register_keras_serializable(package="keras_resnet")
class MeanRocAuc(keras.metrics.Metric):
    """The mean area under ROC over the classes that some examples have and others have not.

    Each class has a histogram of its logits, of 16,384 bins; examples of one bin count as ties. Keras's AUC takes 200
    thresholds evenly in probability, between which all examples of a rare class may lie, and counts a class that is
    absent as 0.

    Source:
        Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating characteristic curve".
    """

    def __init__(self, num_classes: int, name: str = "roc_auc", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        shape = (num_classes, AREA_BINS)
        self.present = self.add_weight(shape=shape, initializer="zeros", name="present")
        self.absent = self.add_weight(shape=shape, initializer="zeros", name="absent")
        self._direction = "up"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch."""
        ops = keras.ops
        logits = ops.cast(ops.convert_to_tensor(y_pred), "float32")
        rows, example_counts = known_rows(ops.convert_to_tensor(y_true), logits)
        truth = ops.cast(rows >= 0.5, "float32")
        # From -1 to 1, rising with the logit, and steepest at 0.
        place = logits / (1.0 + ops.abs(logits))
        bins = ops.cast(ops.clip((place + 1.0) * (AREA_BINS / 2), 0, AREA_BINS - 1), "int32")
        bins = ops.reshape(bins + AREA_BINS * ops.arange(self.num_classes), (-1,))
        if sample_weight is not None:
            example_counts = example_counts * ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        for histogram, mine in ((self.present, truth), (self.absent, 1.0 - truth)):
            counts = ops.segment_sum(ops.reshape(mine * example_counts, (-1,)), bins, self.num_classes * AREA_BINS)
            histogram.assign_add(ops.cast(ops.reshape(counts, histogram.shape), histogram.dtype))

    def result(self) -> Any:
        """Returns the mean area; 0 where no class has one."""
        ops = keras.ops
        present, absent = (ops.convert_to_tensor(histogram) for histogram in (self.present, self.absent))
        below = ops.cumsum(absent, axis=1) - absent / 2
        pairs = ops.sum(present, axis=1) * ops.sum(absent, axis=1)
        areas = ops.sum(present * below, axis=1) / ops.where(pairs > 0, pairs, 1.0)
        has_both = ops.cast(pairs > 0, areas.dtype)
        return ops.sum(areas * has_both) / ops.maximum(ops.sum(has_both), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {"num_classes": self.num_classes, "name": self.name, "dtype": self.dtype}
