"""Predictions of a classifier for a split, and the examples it gets wrong with the highest confidence."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet import data as datasets
from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.trained import Trained, dataset_of, match_labels, open_classifier
from keras_resnet.tasks import CLASSIFICATION
from keras_resnet.tasks.outputs import class_logits, scores_of, softmax
from keras_resnet.training.scoring import predict_all

BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions of a classifier for every example of a split, in its order.

    Args:
        logits: `(examples, classes)`, float64.
        activation: what makes probabilities of them, "softmax" or "sigmoid".
        labels: `(examples,)`, integers.
        class_names: one per class of the model.
        dataset: whose examples they are.
        split: of it.
        sizing: how its images were brought to the network, as `Dataset.batches` takes it.
        weights: how much each example counts, `(examples,)`; None for all alike.
    """

    logits: np.ndarray
    activation: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    dataset: datasets.Dataset
    split: str
    sizing: dict[str, Any]
    weights: np.ndarray | None

    @property
    def scores(self) -> np.ndarray:
        """`(examples, classes)`, whose softmax are the probabilities."""
        return scores_of(self.logits, self.activation)

    @property
    def probabilities(self) -> np.ndarray:
        """`(examples, classes)` in [0, 1]."""
        return softmax(self.scores)

    @property
    def guesses(self) -> np.ndarray:
        """The most probable class of each example."""
        return self.logits.argmax(axis=1)

    @property
    def confidences(self) -> np.ndarray:
        """The probability of each guess, in [0, 1]."""
        return self.probabilities.max(axis=1)

    @property
    def right(self) -> np.ndarray:
        """Whether each guess is the label."""
        return self.guesses == self.labels

    def worst(self, top: int) -> list[int]:
        """Returns the examples whose guess is wrong and most probable, the most probable first."""
        wrong = np.flatnonzero(~self.right)
        order = np.argsort(-self.confidences[wrong], kind="stable")[:top]
        return [int(index) for index in wrong[order]]

    def images(self, indexes: Sequence[int]) -> list[np.ndarray]:
        """Returns the examples of these indexes as the network takes them, float32."""
        wanted, found = set(indexes), {}
        batches = self.dataset.batches(self.split, BATCH_SIZE, **self.sizing)
        for number, (images, *_) in enumerate(batches):
            first = number * BATCH_SIZE
            for index in wanted & set(range(first, first + len(images))):
                found[index] = np.asarray(images[index - first], dtype="float32")
            if len(found) == len(wanted):
                break
        return [found[index] for index in indexes]


def predictions_of(trained: Trained, dataset: datasets.Dataset, split: str) -> Predictions:
    """Predicts a split with a classifier.

    Args:
        trained: the classifier.
        dataset: which fits it.
        split: "train", "validation" or "test".

    Raises:
        ValueError: it is a regression, or there is no such split.
    """
    if trained.task is not CLASSIFICATION or dataset.task != CLASSIFICATION.name:
        raise BadValue(
            f"data={dataset.spec!r} has {trained.task.labels}. Only a single-label classifier has "
            "confidences and mistakes. Use evaluate, which gives errors."
        )
    sizing = datasets.sizing(trained.record, dataset.image_shape)
    outputs, labels = predict_all(trained.model, dataset.batches(split, BATCH_SIZE, **sizing))
    return predictions_from(trained, dataset, split, outputs, labels)


def predictions_from(
    trained: Trained, dataset: datasets.Dataset, split: str, outputs: np.ndarray, labels: np.ndarray
) -> Predictions:
    """Builds `Predictions` from outputs and labels that were computed already."""
    sizing = datasets.sizing(trained.record, dataset.image_shape)
    logits, activation = class_logits(trained.model, outputs, trained.record.activation)
    if not np.isfinite(logits).all():
        raise BadValue("The model's outputs are not finite. Confidences need numbers. Look for NaN in the weights.")
    labels, names = match_labels(trained, dataset, labels.astype("int64").reshape(-1))
    return Predictions(logits, activation, labels, names, dataset, split, sizing, dataset.weights_of(split))


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An example that a classifier got wrong.

    Attributes:
        index: of the example in its split.
        name: of its file, or of its place in the source, such as "example 12".
        image: as the network takes it, `(*space, channels)`, float32.
        label: name of the true class.
        guess: name of the most probable class.
        confidence: probability of the guess, in [0, 1].
        probability: of the true class, in [0, 1].
    """

    index: int
    name: str
    image: np.ndarray
    label: str
    guess: str
    confidence: float
    probability: float


def mistakes(
    run_or_model: Any, data: Any = None, *, data_dir: Any = None, split: str | None = None, top: int = 12
) -> list[Mistake]:
    """Returns the examples that a classifier gets wrong with the highest confidence, the most confident first.

    They are where to look for wrong labels, for classes that are one, and for what the training data lacks.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`, as for `evaluate`.
        data: a spec or a loaded dataset; None for the data of the run.
        data_dir: where TFDS finds its prepared data sets.
        split: as for `evaluate`.
        top: how many at most.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, or it is a regression.

    Example:
        >>> import keras_resnet
        >>> from keras_resnet import evaluation
        >>> model = keras_resnet.ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=10)
        >>> len(evaluation.mistakes(model, "digits", top=3))
        3
    """
    check_int("top", top)
    trained = open_classifier(run_or_model)
    dataset, split = dataset_of(trained, data, data_dir, split)
    return mistakes_of(predictions_of(trained, dataset, split), top)


def mistakes_of(predicted: Predictions, top: int) -> list[Mistake]:
    """Returns the `top` mistakes of predictions that were made already."""
    indexes = predicted.worst(top)
    names, probabilities = predicted.class_names, predicted.probabilities
    result = []
    for index, image in zip(indexes, predicted.images(indexes), strict=True):
        label, guess = int(predicted.labels[index]), int(predicted.guesses[index])
        row = probabilities[index]
        name = predicted.dataset.name_of(predicted.split, index)
        result.append(Mistake(index, name, image, names[label], names[guess], float(row[guess]), float(row[label])))
    return result
