"""Figures of arrays: outputs and labels in, the figures of `evaluate` out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.tasks import CLASSIFICATION, MULTILABEL, ORDINAL, REGRESSION, Predictions
from keras_resnet.tasks.metrics import calibration_error as calibration_error
from keras_resnet.tasks.outputs import LOGITS
from keras_resnet.tasks.predictions import RESAMPLES


def classification(logits: Any, labels: Any, class_names: Sequence[str], weights: Any = None) -> dict[str, Any]:
    """Scores a classifier.

    Args:
        logits: `(examples, classes)`; for two classes also `(examples, 1)`, the logit of the second.
        labels: integers `(examples,)` in [0, classes).
        class_names: one per class.
        weights: how much each example counts, >= 0; None for all alike. `examples`, `support` and `confusion` stay
            counts of examples.

    Returns:
        `examples`; `accuracy`; `top5` where there are more than 5 classes; `loss`, the mean cross-entropy in nats
        without label smoothing; `expected_calibration_error` over 15 bins of equal width; `per_class`, one dict per
        class with `name`, `support`, `precision`, `recall`, `f1` (0 where nothing was predicted or nothing is there);
        `confusion`, one row per true class. Plain numbers and lists, ready for JSON.

    Raises:
        ValueError: the shapes do not fit, a label names no class, or an output is not finite.

    Source:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.

    Example:
        >>> from keras_resnet.evaluation import scores
        >>> scores.classification([[2.0, 0.0], [2.0, 0.0]], [0, 1], ("cat", "dog"))["accuracy"]
        0.5
    """
    return Predictions(CLASSIFICATION, logits, labels, class_names, "softmax", weights=weights).score()


def multilabel(
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
        >>> from keras_resnet.evaluation import scores
        >>> scores.multilabel([[2.0, -1.0], [-3.0, 0.5]], [[1, 0], [0, 0]], ("crack", "dent"))["accuracy"]
        0.75
    """
    return Predictions(MULTILABEL, logits, labels, class_names, "sigmoid", thresholds, weights).score()


def regression(outputs: Any, targets: Any, weights: Any = None) -> dict[str, Any]:
    """Scores a regression.

    Args:
        outputs: `(examples, outputs)`, or `(examples,)`.
        targets: as many numbers.
        weights: how much each example counts, >= 0; None for all alike.

    Returns:
        `examples`, `mse`, `mae`, and `r2`: 1 minus the squared errors over those of the mean target, averaged over
        outputs; 0 for an output whose target is constant.

    Raises:
        ValueError: the shapes do not fit, or an output is not finite.
    """
    return Predictions(REGRESSION, outputs, targets, weights=weights).score()


def detailed_scores(
    probabilities: Any,
    labels: Any,
    class_names: Sequence[str],
    groups: Any = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    thresholds: Sequence[float] = (),
    weights: Any = None,
) -> dict[str, Any]:
    """Returns further scores of a classifier, and for each `NAME` its 95 % interval `NAME_interval`, `[low, high]`.

    Args:
        probabilities: `(examples, classes)`, rows that sum to 1; of multi-label targets each by itself in [0, 1].
        labels: integers `(examples,)`; of multi-label targets rows of 0 and 1.
        class_names: one per class.
        groups: of the examples; None for each by itself.
        resamples: how many, >= 1.
        seed: of the draws, >= 0.
        thresholds: of multi-label targets, the probability from which on it has each class; empty for 0.5.
        weights: how much each example counts, >= 0, in every figure; None for all alike. They are drawn alike.

    Returns:
        `accuracy`, `loss`, `roc_auc` and `average_precision` (area under the curve of precision and recall), for two
        classes those of the second, for more the mean over one class against the rest; `roc_auc_micro` and
        `average_precision_micro` over all pairs of example and class; `top5` of more than 5 classes,
        `balanced_accuracy`, `f1` (mean over classes), `cohen_kappa`, `quadratic_kappa` and `mean_distance` (which say
        something where classes are grades in their order), `matthews`, `brier` (mean squared error of the
        probabilities, summed over classes); and `per_class`, one dict per class with `name`, `support`, `roc_auc`,
        `average_precision`, `sensitivity`, `specificity`, None where the class is absent. Of multi-label targets
        `loss`, `roc_auc`, `average_precision`, `f1` and their `_micro` forms, `accuracy` (right answers), `exact_match`
        (examples whose every answer is right) and `brier`. Figures of scikit-learn's definitions.

    Raises:
        ValueError: fewer than two groups, or labels of one class alone, or none where there may be several.

    Source:
        Efron 1979, "Bootstrap methods: another look at the jackknife"; Field and Welsh 2007 for whole groups.
    """
    probabilities = np.asarray(probabilities, "float64")
    several = np.ndim(labels) == 2
    activation = "sigmoid" if several else "softmax"
    predictions = Predictions(
        MULTILABEL if several else ORDINAL,  # with the figures of grades
        LOGITS[activation](probabilities),
        labels,
        class_names,
        activation,
        thresholds,
        weights,
        groups,
    )
    vars(predictions)["probabilities"] = probabilities  # exactly these, whose ties stay ties
    return predictions.intervals(resamples, seed)
