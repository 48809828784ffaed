"""How much each example counts: weights from the data, checked, and on one scale."""

from collections.abc import Mapping

import numpy as np

from keras_resnet.data.examples.protocol import Examples
from keras_resnet.errors import BadValue


def relative_weights(spec: str, splits: Mapping[str, Examples]) -> dict[str, np.ndarray]:
    """Returns the weights of the examples of each split, divided by their mean over the training split.

    So learning rates and losses keep their scale whatever the unit of the weights.

    Args:
        spec: of the data, for messages.
        splits: of the data.

    Returns:
        float32 `(examples,)` for each split, ones for one whose examples have none; empty where no split has any, or
        all examples have the same.

    Raises:
        ValueError: a weight is negative or not finite, or all of a split are 0.
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
    """Returns a line of the report that says how examples count; none where no example has a weight.

    Args:
        splits: of the data.
        relative: from `relative_weights`.
    """
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
