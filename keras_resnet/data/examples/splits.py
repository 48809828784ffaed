"""Splits that are seeded, stratified, disjoint and never empty."""

import collections
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from keras_resnet.data.examples.plan import Examples
from keras_resnet.data.options import LoadOptions
from keras_resnet.errors import BadValue
from keras_resnet.tasks.labels import strata_of

Place = tuple[str, int]


def report_copies(splits: Mapping[str, Examples], class_names: Sequence[str]) -> list[str]:
    """Returns a line for copies across splits and one for copies under different labels; none where there are none.

    Near copies (other sizes, other compression) are not found.
    """
    groups = find_copies(splits)
    lines = []
    across = [group for group in groups if len({split for split, _ in group}) > 1]
    if across:
        first = across[0]
        other = next(place for place in first if place[0] != first[0][0])
        counts = collections.Counter(split for group in across for split in {split for split, _ in group})
        summary = ", ".join(f"{counts[split]} in {split!r}" for split in splits if split in counts)
        lines.append(
            f"copies: {len(across)} examples stand in more than one split ({summary}), such as "
            f"{_told(splits, first[0])} and {_told(splits, other)}. Scores on copies of training examples "
            "say too much; remove them"
        )
    if class_names:
        # Groups come from splits that are in memory or in files, which know their labels.
        label_of = {name: examples.labels for name, examples in splits.items() if examples.labels is not None}
        split_labels = [(group, [_plain(label_of[split][index]) for split, index in group]) for group in groups]
        conflicts = [(group, labels) for group, labels in split_labels if len(set(labels)) > 1]
        if conflicts:
            group, labels = conflicts[0]
            second = next(place for place, label in enumerate(labels) if label != labels[0])
            pair = " and ".join(
                f"{_told(splits, group[place])} ({_named(labels[place], class_names)})" for place in (0, second)
            )
            is_one = not isinstance(labels[0], tuple)
            several = ", or train for multi-label targets (task='multilabel')" * is_one
            lines.append(
                f"copies: {len(conflicts)} examples stand under more than one label: {pair}; correct them{several}"
            )
    return lines


def find_copies(splits: Mapping[str, Examples]) -> list[list[Place]]:
    """Returns groups of equal examples as (split, index), in the order of the splits."""
    candidates: dict[Hashable, list[Place]] = collections.defaultdict(list)
    for split, examples in splits.items():
        signatures = examples.signatures
        for index, signature in enumerate(() if signatures is None else signatures):
            candidates[signature].append((split, index))
    groups: list[list[Place]] = []
    for places in candidates.values():
        if len(places) > 1:
            equal: dict[bytes, list[Place]] = collections.defaultdict(list)
            digests: dict[Hashable, bytes] = {}
            for split, index in places:
                # A file of many names, such as hard links, is read once.
                file = splits[split].file_of(index) or (split, index)
                if file not in digests:
                    digests[file] = splits[split].digest_of(index)
                equal[digests[file]].append((split, index))
            groups += [group for group in equal.values() if len(group) > 1]
    return groups


def _plain(label: Any) -> Hashable:
    """Returns a label that can be compared: an integer, or of several labels those that there are."""
    return tuple(np.flatnonzero(np.asarray(label) > 0).tolist()) if np.ndim(label) else int(label)


def _named(label: Any, class_names: Sequence[str]) -> str:
    if isinstance(label, tuple):
        return ", ".join(repr(class_names[index]) for index in label) or "none"
    return repr(class_names[label])


def _told(splits: Mapping[str, Examples], place: Place) -> str:
    split, index = place
    return f"{splits[split].name_of(index)} of {split!r}"


Held = TypeVar("Held", bound=Examples)
MAX_FOLDS = 20


def split_off(
    labels: np.ndarray, count: int, *, seed: int, stratified: bool, argument: str = "validation_fraction"
) -> tuple[np.ndarray, np.ndarray]:
    """Divides examples into those that stay and `count` that leave.

    Stratified: every class gives its share, rounded so that the total is exactly `count` (largest remainders first),
    and keeps at least one example. The same seed gives the same split whatever else is drawn.

    Returns:
        Two sorted int64 arrays of indices, disjoint, together all of them.
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


Groups = dict[str, "np.ndarray | None"]


def with_validation(splits: Mapping[str, Held], options: LoadOptions, groups: Groups | None = None) -> dict[str, Held]:
    """Returns the splits with "validation" taken from "train" where there is none, in the usual order."""
    if options.validation_fold is None:
        return _carve(splits, "validation", options.validation_fraction, options, "validation_fraction", groups)
    if "validation" in splits:
        raise BadValue(
            "validation_fold was given for data with a validation split of their own. Allowed are data without one. "
            "Leave it out (data.validation_fold, in a search search.folds)."
        )
    return _with_fold(splits, options.validation_fold, "validation", options, groups)


def with_test(splits: Mapping[str, Held], options: LoadOptions, groups: Groups | None = None) -> dict[str, Held]:
    """Returns the splits with "test" taken from "train" where there is none, in the usual order."""
    return _carve(splits, "test", options.test_fraction, options, "test_fraction", groups)


def divided(splits: Mapping[str, Held], options: LoadOptions, groups: Groups | None = None) -> dict[str, Held]:
    """Returns the splits with those that the source lacks taken from "train", or with a fold for the test split."""
    if options.fold is not None:
        splits = _with_fold(splits, options.fold, "test", options, groups)
    elif set(splits) == {"train"}:
        splits = with_test(splits, options, groups)
    return with_validation(splits, options, groups)


def _with_fold(
    splits: Mapping[str, Held], fold: tuple[int, int], name: str, options: LoadOptions, groups: Groups | None
) -> dict[str, Held]:
    """Returns the splits with one of several equal parts of "train" in the place of `name`; scikit-learn deals them."""
    import warnings

    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    number, count = fold
    option = f"{'fold' if name == 'test' else 'validation_fold'}='{number}/{count}'"
    train = splits["train"]
    if train.labels is None:
        raise BadValue(
            f"{option} was given for data that are streamed from files. Allowed are data whose labels "
            "are at hand. Raise in_memory_limit, or use folder:, csv: or wds:."
        )
    labels = strata_of(train.labels) if options.task.has_classes else np.zeros(len(train))
    subjects = None if groups is None else groups.get("train")
    kind = StratifiedGroupKFold if subjects is not None else StratifiedKFold if options.task.has_classes else KFold
    dealer = kind(count, shuffle=True, random_state=options.split_seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class with fewer examples than folds is in some of them
            parts = list(dealer.split(np.zeros(len(train)), labels, subjects))
    except ValueError as error:
        raise BadValue(f"{option} cannot be dealt of {len(train)} examples ({error}). Use fewer folds.") from error
    staying, leaving = parts[number - 1]
    if not len(leaving) or not len(staying):
        raise BadValue(f"Fold {number} of {count} is empty, because groups stay whole. Use fewer folds.")
    result = {split: examples for split, examples in splits.items() if split not in ("train", name)}
    if subjects is not None and groups is not None:
        groups["train"], groups[name] = subjects[staying], subjects[leaving]
    left_out = train.take(leaving)
    if getattr(left_out, "names", "") is None:
        left_out.numbers = leaving  # type: ignore[attr-defined]  # an array's example is known by its place
    parted = {"train": train.take(staying), name: left_out, **result}
    return {split: parted[split] for split in ("train", "validation", "test") if split in parted}


def split_off_groups(
    labels: np.ndarray, groups: np.ndarray, fraction: float, *, seed: int, argument: str
) -> tuple[np.ndarray, np.ndarray]:
    """Divides examples as `split_off` does, but leaves every group whole: scikit-learn's `StratifiedGroupKFold`.

    The groups are dealt into up to 20 folds, of which as many leave as come nearest to the fraction; so the number of
    examples that leave is near to the fraction, and classes are shared as well as the groups allow.
    """
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    count = len(set(groups.tolist()))
    largest = int(np.unique(labels, return_counts=True)[1].max())
    folds = min(MAX_FOLDS, count, largest)
    leaving_folds = rounded_count(fraction, folds)
    if not 0 < leaving_folds < folds:
        leaving_folds = min(max(leaving_folds, 1), folds - 1)
    if folds < 2:
        raise BadValue(
            f"{argument}={fraction:g} cannot divide {len(labels)} examples of {count} groups without dividing a group. "
            "Allowed are two groups or more with two examples of a class. Use 0 for no such split, or more data."
        )
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # a class with fewer examples than folds is spread as far as it goes
        dealt = [leaving for _, leaving in dealer.split(np.zeros(len(labels)), labels, groups)]
    leaving = np.sort(np.concatenate(dealt[:leaving_folds])).astype("int64")
    staying = np.setdiff1d(np.arange(len(labels)), leaving)
    if not len(leaving) or not len(staying):
        raise BadValue(
            f"{argument}={fraction:g} leaves a part of {len(labels)} examples empty, as {count} groups stay whole. "
            "Use another fraction, or more groups."
        )
    return staying, leaving


def division(splits: Mapping[str, Held], found: int) -> str:
    """Returns the remark of a report on the first split: how it was divided, if it was."""
    if len(splits) == found:
        return ""
    names = [name for name in splits if name != "test" or found == 1]
    return f"; divided into {', '.join(f'{name} {len(splits[name])}' for name in names)}"


def _carve(
    splits: Mapping[str, Held],
    name: str,
    fraction: float,
    options: LoadOptions,
    argument: str,
    groups: Groups | None,
) -> dict[str, Held]:
    result = dict(splits)
    if name not in result and fraction > 0:
        train = result["train"]
        # Test and validation are drawn by different seeds: equal ones would rank the examples alike.
        seed = options.split_seed * 2 + (name == "test")
        stratified = options.task.has_classes and train.labels is not None
        labels = np.zeros(len(train)) if not stratified or train.labels is None else strata_of(train.labels)
        subjects = None if groups is None else groups.get("train")
        if subjects is not None and groups is not None:
            staying, leaving = split_off_groups(labels, subjects, fraction, seed=seed, argument=argument)
            groups["train"], groups[name] = subjects[staying], subjects[leaving]
        else:
            staying, leaving = split_off(
                labels,
                rounded_count(fraction, len(train)),
                seed=seed,
                stratified=stratified,
                argument=f"{argument}={fraction:g}",
            )
        result["train"], result[name] = train.take(staying), train.take(leaving)
    return {key: result[key] for key in ("train", "validation", "test") if key in result}
