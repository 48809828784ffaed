"""How far probabilities can be trusted: reliability by bins, and temperature scaling that is saved with the model."""

import dataclasses
import json
import math
import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_resnet import files, preprocessing
from keras_resnet.arguments import check_fraction
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.predictor import check_not_trained_on, dataset_of, open_classifier
from keras_resnet.tasks import CLASSIFICATION, MULTILABEL, Predictions
from keras_resnet.tasks.metrics import CALIBRATION_BINS, bins_of, counts_of
from keras_resnet.tasks.outputs import LOGITS, last_activation, sigmoid
from keras_resnet.training.callbacks import save_model

# Temperatures that are tried; a classifier that is never wrong would have the lowest.
COLDEST, HOTTEST = 0.05, 20.0
# Standard deviation of the logarithm of a temperature before anything is seen, which a few examples hardly move.
PRIOR_STDDEV = 0.25
FOLDS = 10


@dataclasses.dataclass(frozen=True)
class Bin:
    """The examples whose confidence lies in an interval.

    Attributes:
        low: end of the interval, excluded but for 0.
        high: end of the interval, included.
        examples: how many.
        confidence: their mean; None where there are none.
        accuracy: of their guesses, in [0, 1]; None where there are none.
    """

    low: float
    high: float
    examples: int
    confidence: float | None
    accuracy: float | None


def reliability(confidences: Any, right: Any, weights: Any = None) -> list[Bin]:
    """Returns the bins of a reliability diagram, those that `expected_calibration_error` sums up.

    Args:
        confidences: the probability of each guess, in [0, 1].
        right: whether each guess is right.
        weights: how much each example counts; None for all alike.

    Source:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 1.

    Example:
        >>> from keras_resnet.evaluation import reliability
        >>> [(bin.examples, bin.accuracy) for bin in reliability([0.9, 0.9], [True, False]) if bin.examples]
        [(2, 0.5)]
    """
    confidences, right = np.asarray(confidences, "float64"), np.asarray(right, "float64")
    numbers, counts = bins_of(confidences), counts_of(weights, len(right))
    bins = []
    for number in range(CALIBRATION_BINS):
        inside = numbers == number
        num_examples = int(np.count_nonzero(counts[inside]))
        mean, accuracy = (
            float(np.average(values[inside], weights=counts[inside])) if num_examples else None
            for values in (confidences, right)
        )
        edges = number / CALIBRATION_BINS, (number + 1) / CALIBRATION_BINS
        bins.append(Bin(*edges, num_examples, mean, accuracy))
    return bins


def temperature_of(
    logits: Any,
    labels: Any,
    prior_stddev: float | None = None,
    activation: str = "softmax",
    weights: Any = None,
) -> float:
    """Returns the temperature by which logits are to be divided so that the cross-entropy is least.

    The best of a grid is refined by golden-section search in the logarithm of the temperature.

    Args:
        logits: `(examples, classes)`.
        labels: integers `(examples,)`; of multi-label targets rows of 0 and 1, of which every answer
            counts.
        prior_stddev: standard deviation of a normal prior, around 0, of the logarithm of the temperature, which holds a
            temperature of few examples near 1; None for no prior.
        activation: what makes probabilities of the logits, "softmax" or "sigmoid" (divided by their sum).
        weights: how much each example counts, `(examples,)`, of which the mean is no matter; None for all alike.

    Returns:
        From 0.05 to 20; above 1 for a classifier that is too sure of itself.

    Source:
        Guo et al. 2017, section 4.2.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.evaluation import temperature_of
        >>> # Nine of ten are right, where the logits say 98 of 100: log(9) would do instead of 4.
        >>> round(temperature_of(np.repeat([[4.0, 0.0]], 10, axis=0), [0] * 9 + [1]), 3)
        1.82
    """
    logits = np.asarray(logits, "float64")
    labels = np.asarray(labels)
    pull = 0.0 if prior_stddev is None else 1 / prior_stddev**2
    example_weights = counts_of(weights, len(labels))
    example_weights = example_weights / example_weights.mean()

    def cost(log: float) -> float:
        """The summed cross-entropy, and the prior, of the logarithm of a temperature."""
        return float(example_weights @ _losses(logits * math.exp(-log), labels, activation)) + pull * log**2 / 2

    grid = np.linspace(math.log(COLDEST), math.log(HOTTEST), 25)
    best = int(np.argmin([cost(log) for log in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    golden = (math.sqrt(5) - 1) / 2
    while high - low > 1e-7:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if cost(left) <= cost(right) else (left, high)
    return math.exp((low + high) / 2)


def _losses(logits: np.ndarray, labels: np.ndarray, activation: str) -> np.ndarray:
    """Returns the cross-entropy of each example; of multi-label targets the sum over the classes."""
    task, names = (MULTILABEL if labels.ndim == 2 else CLASSIFICATION), [""] * logits.shape[1]
    losses = Predictions(task, logits, labels, names, activation).losses
    return losses.sum(axis=1) if losses.ndim == 2 else losses


def held_out_gains(logits: Any, labels: Any, activation: str = "softmax", weights: Any = None) -> np.ndarray:
    """Returns by how much each example's cross-entropy falls under the temperature that the others have."""
    logits, labels = np.asarray(logits, "float64"), np.asarray(labels)
    folds = np.random.default_rng(0).permutation(len(labels)) % min(FOLDS, len(labels))
    gains, counted = np.zeros(len(labels)), counts_of(weights, len(labels))
    for fold in range(folds.max() + 1):
        is_held_out = folds == fold
        if not counted[~is_held_out].any():
            continue
        temperature = temperature_of(
            logits[~is_held_out], labels[~is_held_out], PRIOR_STDDEV, activation, counted[~is_held_out]
        )
        before, after = (
            _losses(logits[is_held_out] / divisor, labels[is_held_out], activation) for divisor in (1.0, temperature)
        )
        gains[is_held_out] = before - after
    return gains


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A model whose probabilities were calibrated.

    Attributes:
        path: of the `.keras` file; None where none was written.
        model: the calibrated model.
        facts: `temperature`; `examples` it stands on, and `held_out_gain`, by how many nats it lowers the loss of those
            it was not found on, with `held_out_gain_error`, its standard error; the split it was found on, and for it
            and the test split `loss` and `expected_calibration_error` before and after. Weights of examples count.
    """

    path: pathlib.Path | None
    model: keras.Model
    facts: dict[str, Any]


def calibrate(
    run_or_model: Any,
    data: Any = None,
    *,
    data_dir: Any = None,
    split: str = "validation",
    out: str | os.PathLike | None = None,
) -> Calibrated:
    """Finds the temperature of a classifier on a split, and writes a model whose logits are divided by it.

    Classes and accuracy stay as they are (thresholds of several labels are moved along), probabilities are calibrated.
    The temperature goes into the weights of the last layer, so that `predict`, `evaluate`, `export` and `explain` need
    to know nothing of it. It is held near 1 by a prior that few examples hardly move, and has to lower the loss of
    held-out examples (10 folds): else nothing is written.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`.
        data: a spec or a loaded dataset; None for the data of the run.
        data_dir: where TFDS finds its prepared data sets.
        split: on which the temperature is found; one that the model was not trained on, and not the test split.
        out: the `.keras` file to write, which must not exist, with a `.json` file of the same name beside it; None
            writes `calibrated.keras` and `calibration.json` into the folder of a run, and nothing for a model.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, it is a regression, the model does not end in a dense
            layer, or no temperature helps.

    Source:
        Guo et al. 2017, section 4.2.
    """
    predictor = open_classifier(run_or_model)
    if predictor.record.set_threshold is not None:
        raise BadValue(
            f"The model answers with prediction sets, whose threshold {predictor.record.set_threshold:.4f} is one of "
            "its probabilities as they are. A temperature would break their promise. Calibrate the model that the sets "
            "were made from, and find the sets again."
        )
    dataset, split = dataset_of(predictor, data, data_dir, split)
    check_not_trained_on(run_or_model, dataset)
    if not predictor.task.has_classes:
        raise BadValue(
            f"data={dataset.spec!r} has {predictor.task.labels}. Only a classifier has probabilities to calibrate. Use "
            "evaluate, which gives errors."
        )
    predictions = predictor.predict(dataset, split)
    logits, labels, activation = predictions.outputs, predictions.labels, predictions.activation or "softmax"
    if out is not None and pathlib.Path(out).suffix != ".keras":
        raise BadValue(f"out={os.fspath(out)!r} does not end in .keras. Expected a path such as calibrated.keras.")
    path = None if out is None else pathlib.Path(out).expanduser()
    for taken in () if path is None else (path, path.with_suffix(".json")):
        files.check_replaceable(taken)
    temperature = temperature_of(logits, labels, PRIOR_STDDEV, activation, predictions.counts)
    gains = held_out_gains(logits, labels, activation, predictions.counts)
    gain, error = _mean_and_error(gains, predictions.counts)
    if not gain > 0:
        raise BadValue(
            f"On {len(gains)} examples of the split {split!r} no temperature helps: it changes the loss of those held "
            f"out by {-gain:+.4f}, with a standard error of {error:.4f}. Only what lowers it is written. Leave the "
            "probabilities as they are, or calibrate on more examples."
        )
    model = _divide_head(predictor.model, temperature)
    facts: dict[str, Any] = {
        "temperature": temperature,
        "examples": len(gains),
        "held_out_gain": gain,
        "held_out_gain_error": error,
        "split": split,
        split: _compare(predictions, temperature),
    }
    if split != "test" and dataset.sizes.get("test"):
        facts["test"] = _compare(predictor.predict(dataset, "test"), temperature)
    description_path = None if path is None else path.with_suffix(".json")
    if path is None and predictor.run is not None:
        path, description_path = predictor.run.path / "calibrated.keras", predictor.run.path / "calibration.json"
    if path is not None and description_path is not None:
        files.write_atomically(path, lambda where: save_model(model, where))
        files.write_text(description_path, json.dumps(facts, indent=1) + "\n")
    return Calibrated(path, model, facts)


def _mean_and_error(gains: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Returns the mean of what is gained, each example by its count, and its standard error."""
    mean = float(np.average(gains, weights=counts))
    if np.count_nonzero(counts) < 2:
        return mean, math.inf
    spread = math.sqrt(float((counts**2) @ (gains - mean) ** 2)) / float(counts.sum())
    return mean, spread * math.sqrt(len(gains) / (len(gains) - 1))


def _compare(predictions: Predictions, temperature: float) -> dict[str, Any]:
    """Returns loss and calibration error with the logits as they are and divided."""
    before = predictions.score()
    after = predictions.replace(outputs=predictions.outputs / temperature).score()
    figures = ("loss", "expected_calibration_error")
    return {
        "examples": before["examples"],
        "before": {name: before[name] for name in figures},
        "after": {name: after[name] for name in figures},
    }


def logit(probability: Any) -> Any:
    """Returns the number whose sigmoid is a probability."""
    return np.log(probability) - np.log1p(-probability)


def copy_of(model: keras.Model) -> keras.Model:
    """Returns a copy of a model, with its weights and its own record."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _divide_head(model: keras.Model, temperature: float) -> keras.Model:
    """Returns a copy of a model whose last dense layer gives logits divided by a temperature."""
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense) or last_activation(model) not in LOGITS:
        raise BadValue(
            f"The model {model.name!r} ends in {type(last).__name__} {last.name!r}. A temperature goes into the "
            "weights of a last Dense layer. Build the model with include_top=True."
        )
    copy = copy_of(model)
    head = copy.layers[-1]
    head.set_weights([weight / temperature for weight in head.get_weights()])
    layer = preprocessing.for_model(copy).normalization
    if layer is not None and layer.record is not None:
        cuts = [sigmoid(logit(cut) / temperature) for cut in map(np.float64, layer.record.thresholds)]  # answers stay
        changes = {"temperature": layer.record.temperature * temperature, "thresholds": tuple(map(float, cuts))}
        layer.record = dataclasses.replace(layer.record, **changes)
    return copy


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
    predictor = open_classifier(run_or_model)
    if not predictor.task.is_exclusive:
        raise BadValue(
            f"coverage={coverage:g} was given for a model of {predictor.task.labels}. Prediction sets "
            "need one class per example. Without a coverage, calibrate finds a temperature."
        )
    dataset, split = dataset_of(predictor, data, data_dir, split)
    check_not_trained_on(run_or_model, dataset)
    predictions = predictor.predict(dataset, split)
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
    threshold = set_threshold(predictions.probabilities, predictions.labels, coverage, predictions.counts)
    model = copy_of(predictor.model)
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
        tested = predictor.predict(dataset, "test")
        inside = tested.probabilities >= threshold
        holds = inside[np.arange(len(tested.labels)), tested.labels]
        facts["test_coverage"] = float(np.average(holds, weights=tested.weights))
        facts["mean_set_size"] = float(np.average(inside.sum(axis=1), weights=tested.weights))
    if path is None and predictor.run is not None:
        path = predictor.run.path / "sets.keras"
    if path is not None:
        files.write_atomically(path, lambda where: save_model(model, where))
        files.write_text(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    return PredictionSets(path, model, facts)
