"""Exact copies among the examples: in two splits they make a score say too much, under two labels one is wrong."""

import collections
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.data.examples.protocol import Examples

Place = tuple[str, int]


def report_copies(splits: Mapping[str, Examples], class_names: Sequence[str]) -> list[str]:
    """Returns a line for copies across splits and one for copies under different labels; none where there are none.

    Near copies (other sizes, other compression) are not found.

    Args:
        splits: of a dataset.
        class_names: empty for a regression, whose targets are not compared.
    """
    groups = find_copies(splits)
    lines = []
    across = [group for group in groups if len({split for split, _ in group}) > 1]
    if across:
        first = across[0]
        other = next(place for place in first if place[0] != first[0][0])
        counts = collections.Counter(split for group in across for split in {split for split, _ in group})
        told = ", ".join(f"{counts[split]} in {split!r}" for split in splits if split in counts)
        lines.append(
            f"copies: {len(across)} examples stand in more than one split ({told}), such as {_told(splits, first[0])} "
            f"and {_told(splits, other)}. Scores on copies of training examples say too much; remove them"
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
    """Returns groups of equal examples as (split, index), in the order of the splits.

    Args:
        splits: of a dataset; streamed ones are left out.
    """
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
