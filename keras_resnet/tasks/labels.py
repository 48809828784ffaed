"""Labels checked before the first step, on every backend alike."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.errors import BadType, BadValue

# Labels are held as int32, and the number of classes is one more than the largest.
LARGEST_LABEL = 2**31 - 2


def check_labels(labels: Any, num_classes: int | None = None, *, where: str = "labels") -> np.ndarray:
    """Returns class labels as int32 of shape `(examples,)`.

    A label outside the range is an obscure error on TensorFlow, NaN weights under XLA, and a finite but wrong loss on
    JAX; here it is one message before anything is trained.

    Args:
        labels: integers of shape `(examples,)` or `(examples, 1)`, or one-hot rows `(examples, classes)`.
        num_classes: how many classes there are; None to take the largest label plus one.
        where: what to call the labels in an error: "y_train of data.npz".

    Raises:
        TypeError: the labels are not numbers, or floats that are not one-hot.
        ValueError: a label outside [0, num_classes), NaN, or rows that are not one-hot; the first such sample is
            named by index.

    Example:
        >>> from keras_resnet.data import check_labels
        >>> check_labels([[0, 1], [1, 0]]).tolist()
        [1, 0]
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise BadValue(
            f"{where} has shape {array.shape}. Allowed is (examples,) or one-hot rows (examples, classes). "
            "Reshape it so that the first axis counts the examples."
        )
    if array.ndim == 2:
        return _from_one_hot(array, num_classes, where)
    _check_integers(array, num_classes, where)
    largest = LARGEST_LABEL if num_classes is None else num_classes - 1
    # In the type that they came in: a cast would wrap large numbers into the range.
    outside = np.flatnonzero((array < 0) | (array > largest))
    if len(outside):
        _refuse(where, outside, array[outside[0]], f"an integer from 0 to {largest}")
    return array.astype("int32")


def check_targets(targets: Any, *, where: str = "targets") -> np.ndarray:
    """Returns regression targets as float32 of shape `(examples,)` or `(examples, outputs)`.

    Args:
        targets: numbers, one or several an example.
        where: what to call them in an error.

    Raises:
        TypeError: they are not numbers.
        ValueError: NaN, infinity or a number beyond float32; the first such sample is named by index.
    """
    array = np.asarray(targets)
    if array.dtype.kind not in "iuf":
        raise BadType(
            f"{where} has dtype {array.dtype}. Allowed for regression are numbers. Convert it, with .astype('float32')."
        )
    if array.ndim not in (1, 2):
        raise BadValue(f"{where} has shape {array.shape}. Allowed is (examples,) or (examples, outputs). Reshape it.")
    with np.errstate(over="ignore"):
        array = array.astype("float32")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    # One number per example, or several: the product of the empty shape is 1, and -1 would not do for no examples.
    rows = array.reshape(len(array), math.prod(array.shape[1:]))
    outside = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(outside):
        _refuse(where, outside, array[outside[0]], "a finite float32 number")
    return array


def check_many(labels: Any, num_classes: int | None = None, *, where: str = "labels") -> np.ndarray:
    """Returns the labels of examples that may have several, as float32 rows of 0 and 1, `(examples, classes)`."""
    array = np.asarray(labels)
    if array.dtype.kind not in "iufb":
        raise BadType(f"{where} has dtype {array.dtype}. Allowed are rows of 0 and 1. Encode the labels so.")
    if array.ndim != 2 or num_classes not in (None, array.shape[1]):
        width = "classes" if num_classes is None else num_classes
        raise BadValue(
            f"{where} has shape {array.shape}. Allowed for multi-label targets is (examples, {width}), a column "
            "of 0 and 1 for each class. Encode the labels so."
        )
    broken = np.flatnonzero(~((array == 0) | (array == 1)).all(axis=1))
    if len(broken):
        _refuse(where, broken, array[broken[0]], "0 or 1 for each class")
    return array.astype("float32")


def is_number(class_name: str) -> bool:
    """Returns True for a class that is called by a number, as grades are."""
    return re.fullmatch(r"[+-]?\d{1,9}(\.\d{1,9})?", class_name, re.ASCII) is not None


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns how many examples have each class."""
    if labels.ndim == 2:
        return (labels > 0).sum(axis=0)
    return np.bincount(labels, minlength=num_classes)


def check_class_numbers(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns labels as int64."""
    # In the type that they came in: a cast would round fractions and wrap large numbers.
    fits = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    if not fits.all():
        index = int(np.flatnonzero(~fits)[0])
        raise BadValue(
            f"The label of example {index} is {labels[index]}. Labels must be whole numbers in [0, {classes}), one per "
            "class name. Correct the labels."
        )
    return labels.astype("int64")


def is_known(labels: np.ndarray) -> np.ndarray:
    """Returns a mask of the known labels: all but NaN."""
    return ~np.isnan(labels) if labels.dtype.kind == "f" else np.ones(labels.shape, bool)


def strata_of(labels: np.ndarray) -> np.ndarray:
    """Returns one integer for each example, by which splits are stratified: its class, or the rarest of its classes."""
    if labels.ndim == 1:
        return labels
    counts = (labels > 0).sum(axis=0)
    rarest = np.where(labels > 0, counts, np.inf).argmin(axis=1)
    return np.where((labels > 0).any(axis=1), rarest, labels.shape[1]).astype("int32")


def count_classes(labels: np.ndarray, class_names: Sequence[str], where: str) -> int:
    """Returns the number of classes: the names given, or the labels 0 to the largest, of which each must occur."""
    if class_names:
        return len(class_names)
    present = np.unique(labels)
    num_classes = int(present[-1]) + 1
    if len(present) < num_classes:
        missing = int(np.flatnonzero(~np.isin(np.arange(len(present) + 1), present))[0])
        index = int(np.flatnonzero(labels == present[-1])[0])
        raise BadValue(
            f"{where}[{index}]={num_classes - 1} is the largest label, but label {missing} never occurs. "
            f"Allowed are the labels 0 to {len(present) - 1} for {len(present)} classes. "
            "Renumber them, or give class_names, which says how many classes there are."
        )
    return num_classes


def _check_integers(array: np.ndarray, num_classes: int | None, where: str) -> None:
    if array.dtype.kind in "iu":
        return
    allowed = "an integer >= 0" if num_classes is None else f"an integer from 0 to {num_classes - 1}"
    if array.dtype.kind == "f":
        broken = np.flatnonzero(~(np.isfinite(array) & (array == np.round(array))))
        if len(broken):
            _refuse(where, broken, array[broken[0]], allowed)
    value = repr(array[:1].tolist()[0]) if len(array) else "nothing"
    raise BadType(
        f"{where}[0]={value} has dtype {array.dtype}. Allowed is {allowed}. "
        "Use .astype('int64') for class labels, or task='regression' for regression targets."
    )


def _from_one_hot(array: np.ndarray, num_classes: int | None, where: str) -> np.ndarray:
    width = array.shape[1]
    if num_classes is not None and width != num_classes:
        raise BadValue(
            f"{where}[0]={array[0].tolist() if len(array) else []} is a row of {width} values, and there are "
            f"{num_classes} classes. Allowed are {num_classes} values a row, or integers from 0 to {num_classes - 1}. "
            "Encode the labels again for these classes."
        )
    if array.dtype.kind not in "iufb":
        raise BadType(
            f"{where} has dtype {array.dtype}. Allowed are one-hot rows of 0 and 1. Convert the labels to integers."
        )
    is_one_hot = ((array == 0) | (array == 1)).all(axis=1) & (array.sum(axis=1) == 1)
    broken = np.flatnonzero(~is_one_hot)
    if len(broken):
        several = ((array == 0) | (array == 1)).all()
        hint = "; rows with several are for task='multilabel'" if several else ""
        _refuse(where, broken, array[broken[0]], f"one 1 among {width - 1} zeros{hint}")
    return array.argmax(axis=1).astype("int32")


def _refuse(where: str, indices: np.ndarray, value: Any, allowed: str) -> None:
    label = np.asarray(value).tolist()
    more = f" ({len(indices)} such samples)" if len(indices) > 1 else ""
    raise BadValue(f"{where}[{indices[0]}]={label}{more}. Allowed is {allowed}. Correct or drop these samples.")
