"""Multi-label targets: an independent yes or no per class, each with its own threshold."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.tasks.curves import best_threshold, curve, mean_of_known
from keras_resnet.tasks.outputs import best_classes, last_activation, sigmoid, to_logits
from keras_resnet.tasks.scores import calibration_error, check_scored, counts_of, ratio

THRESHOLD = 0.5


def label_logits(model: keras.Model, outputs: np.ndarray, activation: str | None) -> np.ndarray:
    """Returns `(examples, classes)` logits in float64, whose sigmoids are the probabilities of the classes.

    Args:
        model: with an output for each class.
        outputs: what it returned, `(examples, classes)`.
        activation: of its record; a sigmoid in any case.

    Raises:
        ValueError: the model ends in neither logits nor sigmoids.
    """
    return to_logits(outputs, last_activation(model) or "linear")


def thresholds_for(thresholds: Any, classes: int) -> np.ndarray:
    """Returns the threshold of the probability of each class; 0.5 where a record has none.

    Args:
        thresholds: of a record, one per class, or none; or a row of them for each example.
        classes: how many.
    """
    return np.asarray(thresholds if len(thresholds) else [THRESHOLD] * classes, "float64")


def score(
    logits: Any, labels: Any, class_names: Sequence[str], thresholds: Any = (), weights: Any = None
) -> dict[str, Any]:
    """Scores a model of multi-label targets.

    Args:
        logits: `(examples, classes)`.
        labels: rows of 0 and 1, as many; NaN for a label that is not known, which does not count.
        class_names: one per class.
        thresholds: of the probability from which on an example has a class, one per class; or `(examples, classes)`,
            as after folds, of which the mean is reported; none for 0.5.
        weights: how much each example counts, >= 0; None for all alike. `examples` and `support` stay counts.

    Returns:
        `examples`; `loss`, the binary cross-entropy in nats, the mean over examples and classes; `accuracy`, the share
        of right answers over examples and classes; `exact_match`, the share of examples whose every class is right;
        `f1` (mean over the classes that occur) and `f1_micro` (over all answers together); `roc_auc` and
        `average_precision`, each the mean over the classes that have it, None where none has;
        `expected_calibration_error` of all answers; `per_class`, one dict per class with `name`, `support`,
        `threshold`, `precision`, `recall`, `f1`, `roc_auc` and `average_precision` (None where a class is always or
        never there). Figures of scikit-learn's definitions.

    Raises:
        ValueError: the shapes do not fit, or an output is not finite.

    Example:
        >>> from keras_resnet.tasks import multilabel
        >>> multilabel.score([[2.0, -1.0], [-3.0, 0.5]], [[1, 0], [0, 0]], ("crack", "dent"))["accuracy"]
        0.75
    """
    logits, labels = np.asarray(logits, "float64"), np.asarray(labels)
    truth, known = labels > 0, is_known(labels)
    check_scored(logits, (len(truth), len(class_names)))
    losses = label_losses(logits, labels)
    probabilities = sigmoid(logits)
    cuts = thresholds_for(thresholds, len(class_names))
    guesses = (probabilities >= cuts) & known
    example_weights = counts_of(weights, len(truth))
    right = guesses == truth  # where it is not known too, which counts nowhere
    answers_known = example_weights[:, None] * known
    some = example_weights * known.any(axis=1)
    hits, guessed, weighted = (example_weights @ part for part in (guesses & truth, guesses, truth))
    support = truth.sum(axis=0)
    areas = np.full((len(class_names), len(AREAS)), np.nan)
    for index, mine in enumerate(known.T):
        if mine.any() and support[index] < mine.sum():  # a class that is always there has no curve
            areas_for = curve(logits[mine, index], truth[mine, index])
            areas[index] = np.ravel(areas_for(example_weights[None, mine].astype("float64")))
    f1 = [ratio(2 * hits[index], guessed[index] + weighted[index]) for index in range(len(class_names))]
    occurs = (weighted > 0) | (guessed > 0)
    means = {name: float(value) for name, value in zip(AREAS, mean_of_known(areas.T), strict=True)}
    confident = np.where(probabilities >= THRESHOLD, probabilities, 1 - probabilities)
    return {
        "examples": len(truth),
        "loss": float((losses * answers_known).sum() / answers_known.sum()),
        "accuracy": float((right * answers_known).sum() / answers_known.sum()),
        "exact_match": float(np.average(right.all(axis=1), weights=some)),
        "f1": float(np.mean(np.array(f1)[occurs])) if occurs.any() else 0.0,
        "f1_micro": ratio(2 * hits.sum(), guessed.sum() + weighted.sum()),
        **{name: None if np.isnan(value) else value for name, value in means.items()},
        "expected_calibration_error": calibration_error(
            confident.reshape(-1),
            ((probabilities >= THRESHOLD) == truth).reshape(-1),
            answers_known.reshape(-1),
        ),
        "per_class": [
            {
                "name": name,
                "support": int(support[index]),
                "threshold": float(np.mean(cuts[..., index])),
                "precision": ratio(hits[index], guessed[index]),
                "recall": ratio(hits[index], weighted[index]),
                "f1": f1[index],
            }
            | {key: None if np.isnan(value) else float(value) for key, value in zip(AREAS, areas[index], strict=True)}
            for index, name in enumerate(class_names)
        ],
    }


AREAS = ("roc_auc", "average_precision")


def is_known(labels: np.ndarray) -> np.ndarray:
    """Returns a mask of the known labels: all but NaN."""
    return ~np.isnan(labels) if labels.dtype.kind == "f" else np.ones(labels.shape, bool)


def label_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the binary cross-entropy of each answer, `(examples, classes)`, in nats; 0 where no label is known.

    Args:
        logits: `(examples, classes)`.
        labels: rows of 0 and 1, as many.
    """
    return np.where(is_known(labels), np.logaddexp(0.0, logits) - logits * np.nan_to_num(labels), 0.0)


def answers(
    logits: np.ndarray, names: Sequence[str], units: Sequence[str], top: int, thresholds: Sequence[float] = ()
) -> list[dict[str, Any]]:
    """Returns the answer for each example: the most probable classes, and its labels, those above their thresholds.

    Args:
        logits: `(examples, classes)`.
        names: one per class.
        units: none.
        top: how many classes are listed; all its labels are.
        thresholds: of the probabilities, one per class; none for 0.5.
    """
    result = []
    cuts = thresholds_for(thresholds, len(names))
    for row in sigmoid(logits):
        order = np.argsort(-row, kind="stable")
        labels = [names[i] for i in order if row[i] >= cuts[i]]
        result.append({"labels": labels, "classes": best_classes(row, names, top)})
    return result


def choose_thresholds(logits: np.ndarray, labels: np.ndarray, weights: Any = None) -> tuple[float, ...]:
    """Returns for each class the threshold of the probability at which its F1 score is highest.

    A class that no example has keeps 0.5.

    Args:
        logits: `(examples, classes)`, of examples that the model was not trained on.
        labels: rows of 0 and 1, as many.
        weights: how much each example counts, >= 0; None for all alike.
    """
    probabilities, labels = sigmoid(np.asarray(logits, "float64")), np.asarray(labels)
    example_weights = counts_of(weights, len(labels))
    is_label_known = is_known(labels) & (example_weights > 0)[:, None]

    def of_class(index: int) -> float:
        mine = is_label_known[:, index]
        truth = labels[mine, index] > 0
        return best_threshold(probabilities[mine, index], truth, example_weights[mine])[0] if truth.any() else THRESHOLD

    return tuple(map(of_class, range(labels.shape[1])))
