"""Predictions of every example of a split, the metrics of an epoch, and the figure that chooses the best one."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_resnet.arguments import suggestion
from keras_resnet.data import Dataset, sizing
from keras_resnet.data.examples.batches import rows_of_part
from keras_resnet.distribution import ALONE, Group
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import InputRecord
from keras_resnet.tasks import TASKS, Predictions
from keras_resnet.tasks.labels import check_class_numbers

EVALUATION_BATCH_SIZE = 256


def predict(
    model: keras.Model,
    dataset: Dataset,
    split: str,
    config: InputRecord,
    batch_size: int = EVALUATION_BATCH_SIZE,
    group: Group = ALONE,
) -> Predictions:
    """Returns the predictions of a model for every example of a split, each once and in order."""
    sizes = sizing(config, dataset.image_shape)
    shard = (group.index, group.count)
    outputs, labels = predict_all(model, dataset.batches(split, batch_size, shard=shard, **sizes))
    if group.count > 1:
        rows = [group.gather(values) for values in (outputs, labels)]
        places = [rows_of_part(dataset.sizes[split], batch_size, index, group.count) for index in range(group.count)]
        # Rows that fill a part up repeat an example: the first of them counts.
        _, first = np.unique(np.concatenate(places), return_index=True)
        outputs, labels = rows[0][first], rows[1][first]
    predictions = with_labels(model, outputs, labels, dataset, config)
    return predictions.replace(weights=dataset.weights_of(split), groups=dataset.groups_of(split))


def with_labels(
    model: keras.Model, outputs: np.ndarray, labels: np.ndarray, dataset: Dataset, config: InputRecord
) -> Predictions:
    """Returns `Predictions` from outputs and labels, without weights and groups."""
    task = TASKS[config.task or dataset.task]
    names = tuple(dataset.class_names) if task.has_classes else ()
    if task.has_classes and config.class_names and config.class_names != names:
        labels, names = match_classes(labels, names, config.class_names), config.class_names
    return Predictions(
        task,
        labels=labels,
        class_names=names,
        thresholds=config.thresholds,
        **task.read(model, outputs, config.activation),
    )


def match_classes(labels: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Returns labels numbered by other class names, among which theirs are."""
    places = np.array([list(wanted).index(name) for name in names])
    if labels.ndim == 2 and labels.shape[1] == len(names) and len(names) > 1:  # a column for each class
        matched = np.zeros((len(labels), len(wanted)), labels.dtype)
        matched[:, places] = labels
        return matched
    return places[check_class_numbers(np.asarray(labels).reshape(-1), len(places))]


def predict_all(model: keras.Model, batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns a model's outputs and the labels for every example of finite batches, each once and in order.

    Args:
        model: takes images as the batches hold them.
        batches: `(images, labels)`, with weights or without, such as `dataset.batches("test", 64)`.

    Returns:
        `(outputs, labels)`: float32 `(examples, outputs)`, and the labels as they come.

    Raises:
        ValueError: there is no example.
    """
    outputs, labels = [], []
    size = 0
    for images, batch_labels, *_ in batches:
        images, batch_labels = np.asarray(images), np.asarray(batch_labels)
        examples = len(images)
        size = size or examples
        if examples < size:
            # A smaller last batch is filled up and cut again: one shape means one compiled function.
            images = np.concatenate([images, np.repeat(images[:1], size - examples, axis=0)])
        outputs.append(np.asarray(model.predict_on_batch(images))[:examples].astype("float32"))
        labels.append(batch_labels)
    if not outputs:
        raise BadValue("batches holds no example. A score needs at least one. Choose another split.")
    return np.concatenate(outputs), np.concatenate(labels)


AUTO, BALANCED, RECALL = "auto", "balanced_accuracy", "recall:"
# Metrics of which more is better; less is better of every other one.
RISING = {"auc", "precision", *(m.name for task in TASKS.values() for m in task.metrics if m.best == "max")}


@dataclasses.dataclass(frozen=True)
class Monitor:
    """A column of the history, and which way it improves.

    Attributes:
        name: of the metric, without "val_".
        direction: "min" or "max".
    """

    name: str = "loss"
    direction: Literal["min", "max"] = "min"

    def value(self, figures: Mapping[str, Any]) -> float:
        """Returns the figure of an epoch: that of the validation split where there is one."""
        return float(figures[f"val_{self.name}" if f"val_{self.name}" in figures else self.name])

    def is_better(self, value: float, best: float | None) -> bool:
        """Returns whether a figure is better than the best so far."""
        return best is None or (value < best if self.direction == "min" else value > best)

    def best_row(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Returns the first of the best rows of a history."""
        best = min if self.direction == "min" else max
        return best(rows, key=self.value)


def direction_of(name: str) -> Literal["min", "max"]:
    """Returns which way a metric improves, by its name."""
    return "max" if name in RISING or name.startswith(RECALL) else "min"


def monitor_of(name: str, metrics: Sequence[Any], class_names: Sequence[str]) -> tuple[Monitor, list[Any]]:
    """Returns the monitor that a recipe names, and the metrics to add to those of its loss."""
    if name in (AUTO, "loss"):
        return Monitor(), []
    names = [metric if isinstance(metric, str) else metric.name for metric in metrics]
    monitor = Monitor(name, direction_of(name))
    if name in names:
        return monitor, []
    if name == BALANCED and class_names:
        return monitor, [MeanRecall(len(class_names), name=name)]
    label = name.removeprefix(RECALL)
    if name.startswith(RECALL) and label in class_names:
        return monitor, [MeanRecall(len(class_names), label=list(class_names).index(label), name=name)]
    allowed = [AUTO, "loss", *names]
    if class_names:
        allowed += [BALANCED, *(f"{RECALL}{label}" for label in class_names)]
    raise BadValue(
        f"train.monitor={name!r} is not a figure of this run. {suggestion(name, allowed)}Use one of: "
        f"{', '.join(allowed[:12])}{', ...' if len(allowed) > 12 else ''}."
    )


@keras.saving.register_keras_serializable(package="keras_resnet")
class MeanRecall(keras.metrics.Metric):
    """Balanced accuracy: the mean over the classes of the share of their examples that are recognized; or one of them.

    Args:
        num_classes: >= 2.
        label: the class whose recall is meant; None for the mean over all classes that occur.
        threshold: of a single output, above which it means the second class: 0 for a logit, 0.5 for a probability.
        name: of the metric.
        dtype: of its sums.

    Source:
        Brodersen et al. 2010, "The Balanced Accuracy and Its Posterior Distribution"; scikit-learn's
        `balanced_accuracy_score`.

    Example:
        >>> from keras_resnet.training import MeanRecall
        >>> metric = MeanRecall(2)
        >>> metric.update_state([0, 0, 0, 1], [[1.0, 0.0]] * 4)
        >>> float(metric.result())
        0.5
    """

    def __init__(
        self,
        num_classes: int,
        label: int | None = None,
        threshold: float = 0.0,
        name: str = BALANCED,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.label = label
        self.threshold = threshold
        self.hits = self.add_weight(shape=(num_classes,), initializer="zeros", name="hits")
        self.support = self.add_weight(shape=(num_classes,), initializer="zeros", name="support")
        self._direction = "up"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch: labels as integers or rows of shares, one output or one per class."""
        ops = keras.ops
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_true.shape) == 2 and y_true.shape[-1] == self.num_classes and self.num_classes > 1:
            y_true = ops.argmax(y_true, axis=-1)
        truth = ops.one_hot(ops.reshape(ops.cast(y_true, "int32"), (-1,)), self.num_classes)
        if y_pred.shape[-1] == 1:
            guesses = ops.cast(ops.reshape(y_pred, (-1,)) > self.threshold, "int32")
        else:
            guesses = ops.argmax(y_pred, axis=-1)
        if sample_weight is not None:
            truth = truth * ops.reshape(ops.cast(sample_weight, truth.dtype), (-1, 1))
        right = truth * ops.one_hot(guesses, self.num_classes)
        self.hits.assign_add(ops.cast(ops.sum(right, axis=0), self.hits.dtype))
        self.support.assign_add(ops.cast(ops.sum(truth, axis=0), self.support.dtype))

    def result(self) -> Any:
        """Returns the mean over the classes that occur, or the recall of the one."""
        recalls = self.hits / keras.ops.where(self.support > 0, self.support, 1.0)
        if self.label is not None:
            return recalls[self.label]
        present = keras.ops.cast(self.support > 0, recalls.dtype)
        return keras.ops.sum(recalls) / keras.ops.maximum(keras.ops.sum(present), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        names = ("num_classes", "label", "threshold")
        return {"name": self.name, "dtype": self.dtype, **{name: getattr(self, name) for name in names}}


def are_rows(y_true: Any, y_pred: Any) -> bool:
    """Returns whether labels have a share for each class; a column of integers has not."""
    return len(y_true.shape) > 1 and not y_true.shape[-1] == 1 != y_pred.shape[-1]


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
    if are_rows(y_true, y_pred):
        y_true = keras.ops.argmax(y_true, axis=-1)
    labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
    return keras.ops.cast(keras.ops.cast(keras.ops.argmax(y_pred, axis=-1), "int32") == labels, "float32")


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
