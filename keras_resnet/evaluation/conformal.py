"""Sets of classes that contain the true one with a given probability: conformal prediction, saved with the model."""

import dataclasses
import json
import math
import os
import pathlib
from typing import Any

import numpy as np

from keras_resnet import files, preprocessing
from keras_resnet.arguments import check_fraction
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.calibration import copy_of
from keras_resnet.evaluation.predictions import predictions_of
from keras_resnet.evaluation.trained import check_not_trained_on, dataset_of, open_classifier
from keras_resnet.tasks import CLASSIFICATION
from keras_resnet.tasks.scores import counts_of
from keras_resnet.training.callbacks import save_model


@dataclasses.dataclass(frozen=True)
class PredictionSets:
    """A model that predicts sets of classes.

    Attributes:
        path: of the `.keras` file; None where none was written.
        model: its record holds `coverage` and `set_threshold`.
        facts: `coverage` asked for, `set_threshold`, the `split` and the number of `examples` it was found on; where
            there is another test split, `test_coverage`, the share of its examples whose class is in their set, and
            `mean_set_size`.
    """

    path: pathlib.Path | None
    model: Any
    facts: dict[str, Any]


def set_threshold(probabilities: Any, labels: Any, coverage: float, weights: Any = None) -> float:
    """Returns the probability from which on classes belong to a set, so that sets hold the true class often enough.

    It is the k-th largest probability of a true class, k = ceil((n + 1) * coverage) of n examples: for examples that
    are exchangeable with these the set then holds the class with at least that probability. 0, every class, where n is
    too small.

    Args:
        probabilities: `(examples, classes)`, of a model that was not trained on them.
        labels: integers `(examples,)`.
        coverage: in (0, 1).
        weights: how much each example counts, >= 0; a new one counts as much as their mean. None for all alike.

    Source:
        Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels"; Vovk,
        Gammerman and Shafer 2005 for the finite sample.

    Example:
        >>> from keras_resnet.evaluation import set_threshold
        >>> set_threshold([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], [0, 0, 1, 0], coverage=0.6)
        0.7
    """
    check_fraction("coverage", coverage, zero_included=False)
    probabilities, labels = np.asarray(probabilities, "float64"), np.asarray(labels, "int64")
    counts = counts_of(weights, len(labels))
    used = np.flatnonzero(counts)
    true = probabilities[np.arange(len(labels)), labels][used]
    order = np.argsort(-true, kind="stable")
    reached = np.cumsum(counts[used][order] / counts[used].mean())
    # Rounded first: 10 * 0.9 is a little more than 9 in floating point.
    rank = int(np.searchsorted(np.round(reached, 9), round((len(true) + 1) * coverage, 9)))
    return float(true[order][rank]) if rank < len(true) else 0.0


def prediction_sets(
    run_or_model: Any,
    data: Any = None,
    *,
    coverage: float = 0.9,
    data_dir: Any = None,
    split: str = "validation",
    out: str | os.PathLike | None = None,
) -> PredictionSets:
    """Finds the threshold of a classifier's prediction sets, and writes a model that answers with such sets.

    `predict` then adds to each answer a `set` of classes. The promise is for examples drawn as those of the split were:
    of patients who are not in the training data only if the split has such. A split that also chose the best epoch is
    a little too easy.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`.
        data: a spec or a loaded dataset; None for the data of the run.
        coverage: share of new examples whose set is to hold their class, in (0, 1).
        data_dir: where TFDS finds its prepared data sets.
        split: on which the threshold is found; one that the model was not trained on, and not the test split.
        out: the `.keras` file to write, with a `.json` file of the same name beside it; None writes `sets.keras` and
            `sets.json` into the folder of a run, and nothing for a model.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, it is not a classifier of one class per example, or
            the split has too few examples for that coverage.
    """
    check_fraction("coverage", coverage, zero_included=False)
    trained = open_classifier(run_or_model)
    if trained.task is not CLASSIFICATION:
        raise BadValue(
            f"coverage={coverage:g} was given for a model of {trained.task.labels}. Prediction sets "
            "need one class per example. Without a coverage, calibrate finds a temperature."
        )
    dataset, split = dataset_of(trained, data, data_dir, split)
    check_not_trained_on(run_or_model, dataset)
    predictions = predictions_of(trained, dataset, split)
    if out is not None and pathlib.Path(out).suffix != ".keras":
        raise BadValue(f"out={os.fspath(out)!r} does not end in .keras. Expected a path such as sets.keras.")
    path = None if out is None else pathlib.Path(out).expanduser()
    for taken in () if path is None else (path, path.with_suffix(".json")):
        files.check_replaceable(taken)
    fewest = math.ceil(round(coverage / (1 - coverage), 9))
    if len(predictions.labels) < fewest:
        raise BadValue(
            f"coverage={coverage:g} was given for {len(predictions.labels)} examples of the split {split!r}. "
            f"It needs at least {fewest}. Use a lower coverage or more examples."
        )
    threshold = set_threshold(predictions.probabilities, predictions.labels, coverage, predictions.weights)
    model = copy_of(trained.model)
    layer = preprocessing.for_model(model).normalization
    if layer is None or layer.record is None:
        raise BadValue(
            f"The model {model.name!r} carries no record, in which the threshold is kept. Train it here, or describe "
            "it with keras_resnet.preprocessing.describe_outputs."
        )
    layer.record = dataclasses.replace(layer.record, coverage=coverage, set_threshold=threshold)
    facts: dict[str, Any] = {"coverage": coverage, "set_threshold": threshold}
    facts |= {"split": split, "examples": len(predictions.labels)}
    if split != "test" and dataset.sizes.get("test"):
        tested = predictions_of(trained, dataset, "test")
        inside = tested.probabilities >= threshold
        holds = inside[np.arange(len(tested.labels)), tested.labels]
        facts["test_coverage"] = float(np.average(holds, weights=tested.weights))
        facts["mean_set_size"] = float(np.average(inside.sum(axis=1), weights=tested.weights))
    if path is None and trained.run is not None:
        path = trained.run.path / "sets.keras"
    if path is not None:
        files.write_atomically(path, lambda where: save_model(model, where))
        files.write_text(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    return PredictionSets(path, model, facts)
