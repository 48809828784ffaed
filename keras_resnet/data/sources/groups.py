"""Groups: examples of one patient, plant, machine or scene, which a split never divides."""

import collections
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnet.data.sources.listing import WEIGHTS_NAME
from keras_resnet.data.sources.table_labels import Row, first_of, read_cells
from keras_resnet.errors import BadValue


def read_weight(cell: str) -> float | None:
    """Returns the weight in a cell; None where it is not a finite number from 0 on."""
    try:
        weight = float(cell)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight >= 0 else None


def weights_of(rows: Sequence[Row]) -> np.ndarray | None:
    """Returns the weights of rows, float32; None where the table has none."""
    if not rows or rows[0].weight is None:
        return None
    return np.array([row.weight for row in rows], "float32")


def weights_beside(spec: str, root: pathlib.Path, report: list[str]) -> Mapping[str, float] | None:
    """Returns absolute path -> weight of `weights.csv` in a folder of classes; None where there is no such file."""
    path = root / WEIGHTS_NAME
    if not path.is_file():
        return None
    header, cells = read_cells(spec, path)
    if not {"path", "weight"} <= set(header):
        raise BadValue(
            f"{spec}: {os.fspath(path)!r} has the columns {', '.join(map(repr, header))}. Needed are 'path' and "
            "'weight'. Correct its first line."
        )
    place, value = header.index("path"), header.index("weight")
    weights: dict[str, float] = {}
    faults = []
    for line, row in cells:
        full = os.path.normpath(os.path.join(root, row[place]))
        weight = read_weight(row[value])
        if weight is None:
            faults.append(f"line {line} has the weight {row[value]!r}")
        elif full in weights:
            faults.append(f"line {line} names {row[place]!r} again")
        else:
            weights[full] = weight
    _refuse(spec, path, faults)
    report.append(f"{WEIGHTS_NAME} in {root} has the weights of {len(weights)} files; others count as 1")
    return weights


def check_named(spec: str, root: pathlib.Path, weights: Mapping[str, float], paths: set[str]) -> None:
    """Raises ValueError where a table of weights names files that are none of the examples."""
    strange = [os.path.relpath(path, root) for path in weights if path not in paths]
    _refuse(spec, root / WEIGHTS_NAME, [f"it names {path!r}, which is none of the examples" for path in strange])


def _refuse(spec: str, path: pathlib.Path, faults: list[str]) -> None:
    if faults:
        raise BadValue(
            f"{spec}: {os.fspath(path)!r}: {first_of(faults)}. Allowed is a line for a file of "
            "the data, each once, with a number from 0 on. Correct the lines."
        )


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
    """Returns the group of each example, as text; None where nothing says it."""
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
                f"group_pattern={pattern!r} is not a regular expression ({error}). "
                "Expected a pattern such as '(p[0-9]+)_'."
            ) from error
        for path in paths:
            match = finder.search(path.replace(os.sep, "/"))
            if match is None:
                raise BadValue(
                    f"group_pattern={pattern!r} finds nothing in {path!r}. Allowed is one that fits every path. "
                    "Correct it, or rename the file."
                )
            groups.append(match[1] if finder.groups and match[1] is not None else match[0])
    if not groups:
        return None
    array = np.empty(len(groups), object)
    array[:] = groups
    return array


def group_report(paths: Sequence[str], groups: np.ndarray | None) -> list[str]:
    """Returns lines for a report: how many groups there are, or that names look like groups and none were given."""
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
        base_name = _VIEW.sub("", name)
        # A subject has a number, as in p012; "img_001" counts pictures.
        if base_name != name and re.search(r"\d", base_name):
            subjects.setdefault(f"{folder}/{base_name}", []).append(name)
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
    """Raises ValueError where the splits of a source divide a group."""
    if groups is None:
        return
    first: dict[str, tuple[str, int]] = {}
    shared = []
    for split, indices in splits.items():
        for index in indices:
            other, member = first.setdefault(groups[index], (split, index))
            if other != split:
                shared.append(
                    f"group {groups[index]!r} is in {other} ({names[member]}) and in {split} ({names[index]})"
                )
    if shared:
        more = f"; and {len(shared) - NAMED_AT_MOST} more" if len(shared) > NAMED_AT_MOST else ""
        raise BadValue(
            f"{spec}: {'; '.join(shared[:NAMED_AT_MOST])}{more}. A score on a group that was trained on is "
            "too high. Allowed is each group in one split. Move the examples, or leave the column of splits out."
        )
