"""Groups: examples of one patient, plant, machine or scene, which a split never divides."""

import collections
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnet.errors import BadValue

# What tells several pictures of one subject apart, at the end of a name.
_COUNTED = "img|image|field|frame|slice|view|tile|patch|scan|f|s|v"
_VIEW = re.compile(
    rf"[ _.-](left|right|l|r|od|os|front|back|top|bottom|side|a|b|c|({_COUNTED})?\d{{1,3}})$", re.IGNORECASE
)
# Fewer groups than that may be the arms of a study, or its sites, and not its subjects.
FEW_GROUPS = 10
# That many names of a set must have a partner before it looks like subjects.
FEWEST_SHARED = 0.5
NAMED_AT_MOST = 3


def groups_of(paths: Sequence[str], given: Sequence[str | None], pattern: str | None) -> np.ndarray | None:
    """Returns the group of each example, as text; None where nothing says it.

    Args:
        paths: of the examples.
        given: the group of each, by a table; None where it does not say.
        pattern: a regular expression that finds the group in a path, its first parentheses or all of it; None for none.

    Raises:
        ValueError: the pattern is not a regular expression, or does not fit a path.
    """
    groups: list[str] = [group for group in given if group is not None]
    if pattern is not None:
        if groups:
            raise BadValue(
                f"group_pattern={pattern!r} was given with a table that has a column of groups. Allowed is one. "
                "Leave the pattern out."
            )
        try:
            finder = re.compile(pattern)
        except re.error as error:
            raise BadValue(
                f"group_pattern={pattern!r} is not a regular expression ({error}). Allowed is such as '(p[0-9]+)_'."
            ) from error
        for path in paths:
            found = finder.search(path.replace(os.sep, "/"))
            if found is None:
                raise BadValue(
                    f"group_pattern={pattern!r} finds nothing in {path!r}. Allowed is one that fits every path. "
                    "Correct it, or rename the file."
                )
            groups.append(found[1] if finder.groups and found[1] is not None else found[0])
    if not groups:
        return None
    array = np.empty(len(groups), object)
    array[:] = groups
    return array


def group_report(paths: Sequence[str], groups: np.ndarray | None) -> list[str]:
    """Returns lines for a report: how many groups there are, or that names look like groups and none were given.

    Args:
        paths: of the examples.
        groups: of the examples; None for none.
    """
    if groups is not None:
        sizes = list(collections.Counter(groups.tolist()).values())
        lines = [f"{len(sizes)} groups of {min(sizes)} to {max(sizes)} examples, which no split divides"]
        if len(sizes) < FEW_GROUPS:
            lines.append(
                f"warning: there are {len(sizes)} groups alone. If they are the arms of a study or its sites, and not "
                "its subjects, the splits are by these. Name the column of the subjects, or leave it out "
                "(columns='group=none')"
            )
        return lines
    stems = [os.path.splitext(path.replace(os.sep, "/"))[0] for path in paths]
    subjects: dict[str, list[str]] = {}
    for stem in stems:
        folder, _, name = stem.rpartition("/")
        found = _VIEW.sub("", name)
        # A subject has a number, as in p012; "img_001" counts pictures.
        if found != name and re.search(r"\d", found):
            subjects.setdefault(f"{folder}/{found}", []).append(name)
    shared = [names for names in subjects.values() if len(names) > 1]
    is_like_groups = len(shared) > 1 and sum(map(len, shared)) >= FEWEST_SHARED * len(stems)
    # The number of a class in the names of ImageNet's files is none of a subject.
    folders = {stem.rpartition("/")[0] for stem in stems}
    if not is_like_groups or len(subjects) <= 2 * len(folders):
        return []
    example = " and ".join(map(repr, sorted(shared[0])[:2]))
    return [
        f"names such as {example} look like several examples of one subject, as {sum(map(len, shared))} of "
        f"{len(stems)} do. A split may divide them, and scores are then too high. Say how to find the subject "
        "(group_pattern, in a recipe data.group_pattern, or a column of a table), and no split will."
    ]


def check_groups(
    spec: str, groups: np.ndarray | None, splits: Mapping[str, Sequence[int]], names: Sequence[str]
) -> None:
    """Raises ValueError where the splits of a source divide a group.

    Args:
        spec: for messages.
        groups: of the examples; None for none.
        splits: the examples of each split, by their number.
        names: of the examples, for messages.
    """
    if groups is None:
        return
    first: dict[str, tuple[str, int]] = {}
    divided = []
    for split, indices in splits.items():
        for index in indices:
            other, member = first.setdefault(groups[index], (split, index))
            if other != split:
                divided.append(
                    f"group {groups[index]!r} is in {other} ({names[member]}) and in {split} ({names[index]})"
                )
    if divided:
        more = f"; and {len(divided) - NAMED_AT_MOST} more" if len(divided) > NAMED_AT_MOST else ""
        raise BadValue(
            f"{spec}: {'; '.join(divided[:NAMED_AT_MOST])}{more}. A score on a group that was trained on is "
            "too high. Allowed is each group in one split. Move the examples, or leave the column of splits out."
        )
