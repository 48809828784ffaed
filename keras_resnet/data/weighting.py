"""Class weights, label weights and sampling by the counts of the classes."""

from collections.abc import Mapping

import numpy as np

from keras_resnet.data.examples.plan import Examples
from keras_resnet.errors import BadValue
from keras_resnet.tasks.labels import class_counts, strata_of

# A class this many times as common as another is reported before training: an accuracy hides what is never predicted.
IMBALANCE = 5.0


def class_weights(spec: str, labels: np.ndarray | None, class_names: tuple[str, ...], power: float) -> dict[int, float]:
    """Returns a weight for each class, whose mean over the examples is 1."""
    if labels is None or not class_names or labels.ndim == 2:
        if not class_names:
            what = "regression targets"
        else:
            what = "labels in files that are streamed" if labels is None else "multi-label targets"
        raise BadValue(
            f"data={spec!r} has {what}. Weights are for class labels, one per example, that are in memory. Pass "
            "class_weight yourself, or leave it out; of several labels label_weights() has them."
        )
    counts = class_counts(labels, len(class_names))
    if not counts.all():
        raise BadValue(
            f"data={spec!r} has no training example of the class {class_names[int(counts.argmin())]!r}. "
            "A weight needs one of each class. Add examples, or leave the class out."
        )
    total = float((counts ** (1.0 - power)).sum())
    return {label: float(len(labels) / (total * count**power)) for label, count in enumerate(counts)}


def sampling_weights(
    spec: str, labels: np.ndarray | None, has_classes: bool, power: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Returns with which probability each example is drawn, inverse to a power of how many of its class there are."""
    if labels is None or not has_classes:
        what = "labels in files that are streamed" if has_classes else "regression targets"
        raise BadValue(
            f"data={spec!r} has {what}. Balanced sampling is for classes whose labels are in memory. Leave it out "
            "(data.balance='none')."
        )
    strata = strata_of(labels)
    _, places = np.unique(strata, return_inverse=True)
    counts = np.ones(len(labels)) if weights is None else (weights > 0).astype("float64")
    chances = counts / np.maximum(np.bincount(places, weights=counts)[places], 1) ** power
    return chances / chances.sum()


LabelWeights = tuple[tuple[float, ...], tuple[float, ...]]


def label_weights(spec: str, labels: np.ndarray | None, power: float) -> LabelWeights:
    """Returns weights of yes and of no for every class, whose mean over the examples is 1."""
    if labels is None or labels.ndim != 2:
        raise BadValue(
            f"data={spec!r} has no rows of several labels in memory. These weights are for such. Use class_weights(), "
            "or leave them out."
        )
    yes, no = ((labels == answer).sum(axis=0).astype("float64") for answer in (1, 0))
    both = (yes > 0) & (no > 0)
    total = yes ** (1.0 - power) + no ** (1.0 - power)
    with_class, without = (
        tuple(np.where(both, (yes + no) / (total * np.maximum(counts, 1) ** power), 1.0).tolist())
        for counts in (yes, no)
    )
    return with_class, without


def report_imbalance(labels: np.ndarray | None, class_names: tuple[str, ...]) -> list[str]:
    """Returns a line of the report where the largest class of the training split is many times the smallest."""
    if labels is None or len(class_names) < 2:
        return []
    counts = class_counts(labels, len(class_names))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    if counts[largest] < IMBALANCE * counts[smallest]:
        return []
    times = f"{counts[largest] / counts[smallest]:.0f} times as many" if counts[smallest] else "none of the other"
    return [
        f"unbalanced: the training split has {counts[largest]} examples of {class_names[largest]!r} and "
        f"{counts[smallest]} of {class_names[smallest]!r}, {times}. Accuracy hides a class that is never predicted: "
        "look at recall class by class, and see data.balance"
    ]


def relative_weights(spec: str, splits: Mapping[str, Examples]) -> dict[str, np.ndarray]:
    """Returns the weights of the examples of each split, divided by their mean over the training split.

    So learning rates and losses keep their scale whatever the unit of the weights.
    """
    raw = {name: examples.weights for name, examples in splits.items() if examples.weights is not None}
    if not raw:
        return {}
    for name, values in raw.items():
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(wrong):
            where = f"{splits[name].name_of(int(wrong[0]))} in the split {name!r}"
            raise BadValue(
                f"data={spec!r}: the weight of {where} is {values[wrong[0]]}. Allowed are finite numbers from 0 on. "
                "Correct it; 0 leaves an example out."
            )
        if not values.any():
            raise BadValue(
                f"data={spec!r}: every weight in the split {name!r} is 0. Allowed is at least one that counts. Correct "
                "the weights."
            )
    if len(np.unique(np.concatenate(list(raw.values())))) == 1:
        return {}
    mean = float(np.mean(raw["train"], dtype="float64")) if "train" in raw else 1.0
    ones = {name: np.ones(len(examples), "float32") for name, examples in splits.items()}
    return ones | {name: (values / mean).astype("float32") for name, values in raw.items()}


def report_weights(splits: Mapping[str, Examples], relative: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a line of the report that says how examples count; none where no example has a weight."""
    if not relative:
        if all(examples.weights is None for examples in splits.values()):
            return []
        return ["weights: all are equal, and examples count alike"]
    raw = np.concatenate([found for name in relative if (found := splits[name].weights) is not None])
    zeros = int((raw == 0).sum())
    left_out = f"; {zeros} of them are 0, and those examples do not count" * bool(zeros)
    return [
        f"weights: examples count by them in the loss and in the scores, from {raw.min():g} to {raw.max():g}; the mean "
        f"of the training split counts as 1{left_out}"
    ]
