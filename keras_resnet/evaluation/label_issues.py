"""Labels that are probably wrong: those that models which had not seen the example disagree with."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.errors import BadValue
from keras_resnet.training.folds import PREDICTIONS, UNKNOWN

# Of the labels with which models agree; below it what they doubt says more of them than of the labels.
RELIABLE = 0.7


@dataclasses.dataclass(frozen=True)
class LabelIssue:
    """An example whose label is doubtful.

    Attributes:
        path: of the example, or its place.
        label: that it has; of multi-label targets the answer for one class, as "crack: no".
        guess: the class that it more probably is of.
        quality: the probability of its label, by a model that had not seen it; the lower, the more doubtful.
        is_issue: whether confident learning counts it as wrong.
        agrees: whether its label is the most probable class.
        several: whether examples have several labels, each with its own issue.
    """

    path: str
    label: str
    guess: str
    quality: float
    is_issue: bool
    agrees: bool = False
    several: bool = False

    def __str__(self) -> str:
        """Returns a line."""
        return f"{self.quality:.3f}  {self.path}: {self.label}, more probably {self.guess}"


def label_issues(folder: str | os.PathLike) -> list[LabelIssue]:
    """Returns the examples of a cross-validation, those whose label is most doubtful first.

    Of multi-label targets each class is its own question, of yes or no: there is an issue for each example
    and class.

    They are ranked by the probability of their label ("self-confidence"). `is_issue` is confident learning's: another
    class is at least as probable as it is on average for the examples that have it for a label.

    Args:
        folder: of `training.cross_validate`, for a classification.

    Raises:
        ValueError: it holds no out-of-fold predictions of a classifier.

    Source:
        Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", section 3.1;
        the ranks are those of the library cleanlab's `get_label_quality_scores`.
    """
    path = pathlib.Path(folder) / PREDICTIONS
    if not path.is_file():
        raise BadValue(
            f"{os.fspath(folder)!r} holds no {PREDICTIONS}. Allowed is the folder of a cross-validation that ended "
            "(keras-resnet train --folds 5). Name it."
        )
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = list(reader)
    if header[:3] != ["path", "fold", "label"] or len(header) < 5 or not rows:
        raise BadValue(f"{os.fspath(path)!r} is of no classifier. Allowed is a column 'label' and one for each class.")
    names = header[3:]
    are_several = [not row[2] or row[2] not in names for row in rows]
    label_names = (
        [row[2].split("|") if row[2] else [] for row in rows] if any(are_several) else [[row[2]] for row in rows]
    )
    unknown = [
        {label.removeprefix(UNKNOWN) for label in labels if label not in names} & set(names) for labels in label_names
    ]
    label_names = [
        [label for label in labels if label.removeprefix(UNKNOWN) not in lost]
        for labels, lost in zip(label_names, unknown, strict=True)
    ]
    strange = next((label for labels in label_names for label in labels if label not in names), None)
    if strange is not None:
        raise BadValue(
            f"{os.fspath(path)!r} has the label {strange!r}, which is none of its classes. Allowed are "
            f"{', '.join(map(repr, names))}. Write it again by a cross-validation."
        )
    probabilities = np.array([[float(value) for value in row[3:]] for row in rows])
    paths = [row[0] for row in rows]
    if any(are_several) or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        truth = np.array([[name in labels for name in names] for labels in label_names])
        is_label_known = np.array([[name not in lost for name in names] for lost in unknown])
        candidates = _of_answers(paths, names, truth, probabilities, is_label_known)
    else:
        labels = np.array([names.index(label) for (label,) in label_names])
        quality, guesses, issues = ranked(probabilities, labels)
        agrees = probabilities.argmax(axis=1) == labels
        candidates = [
            LabelIssue(path, names[label], names[guess], float(sure), bool(wrong), bool(same))
            for path, label, guess, sure, wrong, same in zip(
                paths, labels, guesses, quality, issues, agrees, strict=True
            )
        ]
    return sorted(candidates, key=lambda issue: issue.quality)


def agreement(issues: Sequence[LabelIssue]) -> str:
    """Returns a sentence on how often the models agree with the labels, on which all that they doubt depends.

    Args:
        issues: of `label_issues`, all of them.
    """
    share = sum(issue.agrees for issue in issues) / len(issues)
    caution = "; with so few, most of these are mistakes of the models" if share < RELIABLE else ""
    return f"The models agree with {share:.0%} of the labels{caution}."


def _of_answers(
    paths: Sequence[str], names: Sequence[str], truth: np.ndarray, probabilities: np.ndarray, known: np.ndarray
) -> list[LabelIssue]:
    """Returns an issue for every example and class, of multi-label targets."""
    result = []
    for place, name in enumerate(names):
        rows = np.flatnonzero(known[:, place])
        if not len(rows):
            continue
        chances = np.stack([1 - probabilities[rows, place], probabilities[rows, place]], axis=1)
        labels = truth[rows, place]
        quality, guesses, issues = ranked(chances, labels)
        mine = [paths[row] for row in rows.tolist()]
        for path, label, guess, sure, wrong in zip(mine, labels, guesses, quality, issues, strict=True):
            said, probable = (f"{name}: {'yes' if answer else 'no'}" for answer in (label, guess))
            result.append(LabelIssue(path, said, probable, float(sure), bool(wrong), bool(sure >= 0.5), several=True))
    return result


def ranked(probabilities: Any, labels: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns of each example the probability of its label, the likeliest other class, and if it is an issue."""
    probabilities, labels = np.asarray(probabilities, "float64"), np.asarray(labels, "int64")
    classes = probabilities.shape[1]
    quality = probabilities[np.arange(len(labels)), labels]
    # Of a class that no example has for a label nothing is known: none is taken for it.
    usual = np.array([
        probabilities[labels == index, index].mean() if (labels == index).any() else np.inf for index in range(classes)
    ])  # fmt: skip
    confident = np.where(probabilities >= usual, probabilities, -np.inf)
    assigned = confident.argmax(axis=1)
    # As cleanlab does, none whose label is the most probable class.
    issues = np.isfinite(confident.max(axis=1)) & (assigned != labels) & (probabilities.argmax(axis=1) != labels)
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return quality, np.where(issues, assigned, others.argmax(axis=1)), issues
