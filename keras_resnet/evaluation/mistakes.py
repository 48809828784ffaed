"""The examples that a classifier gets wrong with the highest confidence."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet import data as datasets
from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.predictor import Predictor, dataset_of, open_classifier
from keras_resnet.tasks import Predictions

BATCH_SIZE = 64


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
    predictor = open_classifier(run_or_model)
    dataset, split = dataset_of(predictor, data, data_dir, split)
    return mistakes_of(predictor.predict(dataset, split), predictor, dataset, split, top)


def mistakes_of(
    predictions: Predictions, predictor: Predictor, dataset: datasets.Dataset, split: str, top: int
) -> list[Mistake]:
    """Returns the wrong guesses of highest confidence."""
    if not predictions.task.is_exclusive:
        raise BadValue(
            f"data={dataset.spec!r} has {predictor.task.labels}. Only a single-label classifier has "
            "confidences and mistakes. Use evaluate, which gives errors."
        )
    wrong = np.flatnonzero(~predictions.right)
    indexes = wrong[np.argsort(-predictions.confidences[wrong], kind="stable")[:top]].tolist()
    names, result = predictions.class_names, []
    for index, image in zip(indexes, _images(predictor, dataset, split, indexes), strict=True):
        label, guess = int(predictions.labels[index]), int(predictions.guesses[index])
        row = predictions.probabilities[index]
        name = dataset.name_of(split, index)
        result.append(Mistake(index, name, image, names[label], names[guess], float(row[guess]), float(row[label])))
    return result


def _images(predictor: Predictor, dataset: datasets.Dataset, split: str, indexes: Sequence[int]) -> list[np.ndarray]:
    """Returns the examples of these indexes as the network takes them, float32."""
    wanted, images_of = set(indexes), {}
    batches = dataset.batches(split, BATCH_SIZE, **datasets.sizing(predictor.record, dataset.image_shape))
    for number, (images, *_) in enumerate(batches):
        first = number * BATCH_SIZE
        for index in wanted & set(range(first, first + len(images))):
            images_of[index] = np.asarray(images[index - first], dtype="float32")
        if len(images_of) == len(wanted):
            break
    return [images_of[index] for index in indexes]
