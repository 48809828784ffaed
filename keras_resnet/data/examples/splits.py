"""Splits that are seeded, stratified, disjoint and never empty."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from keras_resnet.data.examples.protocol import Examples
from keras_resnet.data.options import LoadOptions
from keras_resnet.errors import BadValue

Held = TypeVar("Held", bound=Examples)


def split_off(
    labels: np.ndarray, count: int, *, seed: int, stratified: bool, argument: str = "validation_fraction"
) -> tuple[np.ndarray, np.ndarray]:
    """Divides examples into those that stay and `count` that leave.

    Stratified: every class gives its share, rounded so that the total is exactly `count` (largest remainders first),
    and keeps at least one example. The same seed gives the same split whatever else is drawn.

    Args:
        labels: of all examples; only their number matters when not stratified.
        count: how many leave, >= 0.
        seed: of the split.
        stratified: whether to share by class.
        argument: which argument asked for it, for the error.

    Returns:
        Two sorted int64 arrays of indices, disjoint, together all of them.

    Raises:
        ValueError: a part would be empty.
    """
    total = len(labels)
    if not 0 < count < total:
        raise BadValue(
            f"{argument} takes {count} of {total} examples, which leaves {total - count}. "
            "Allowed is at least one example on each side. Use another fraction, or more data."
        )
    if not stratified:
        order = np.random.default_rng([seed, 0]).permutation(total)
        leaving = np.sort(order[:count])
    else:
        leaving = np.sort(np.concatenate(_share_by_class(labels, count, seed)))
    staying = np.setdiff1d(np.arange(total), leaving)
    return staying, leaving


def _share_by_class(labels: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    shares = np.floor(exact).astype("int64")
    # Ties go by class order, so that the split depends on nothing but labels, count and seed.
    by_remainder = np.argsort(-(exact - shares), kind="stable")
    while (missing := count - int(shares.sum())) > 0:
        able = [index for index in by_remainder if shares[index] < sizes[index] - 1]
        if not able:  # every class is down to one: then classes must give up their last
            able = [index for index in by_remainder if shares[index] < sizes[index]]
        shares[able[:missing]] += 1
    leaving = []
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label)]).permutation(len(members))
        leaving.append(members[order[:share]])
    return leaving


def rounded_count(fraction: float, total: int) -> int:
    """Returns the number of examples nearest to `fraction` of `total`, halves upwards."""
    return int(np.floor(fraction * total + 0.5))


def with_validation(splits: Mapping[str, Held], options: LoadOptions) -> dict[str, Held]:
    """Returns the splits with "validation" taken from "train" where there is none, in the usual order."""
    return _carve(splits, "validation", options.validation_fraction, options, "validation_fraction")


def with_test(splits: Mapping[str, Held], options: LoadOptions) -> dict[str, Held]:
    """Returns the splits with "test" taken from "train" where there is none, in the usual order."""
    return _carve(splits, "test", options.test_fraction, options, "test_fraction")


def division(splits: Mapping[str, Held], found: int) -> str:
    """Returns what a report adds to the counts of the first split: how it was divided, if it was.

    Args:
        splits: after the division.
        found: how many splits the source had.
    """
    if len(splits) == found:
        return ""
    names = [name for name in splits if name != "test" or found == 1]
    return f"; divided into {', '.join(f'{name} {len(splits[name])}' for name in names)}"


def _carve(
    splits: Mapping[str, Held], name: str, fraction: float, options: LoadOptions, argument: str
) -> dict[str, Held]:
    held = dict(splits)
    if name not in held and fraction > 0:
        train = held["train"]
        # Test and validation are drawn by different seeds: equal ones would rank the examples alike.
        seed = options.split_seed * 2 + (name == "test")
        staying, leaving = split_off(
            np.zeros(len(train)) if train.labels is None else train.labels,
            rounded_count(fraction, len(train)),
            seed=seed,
            stratified=options.task.has_classes and train.labels is not None,
            argument=f"{argument}={fraction:g}",
        )
        held["train"], held[name] = train.take(staying), train.take(leaving)
    return {key: held[key] for key in ("train", "validation", "test") if key in held}
