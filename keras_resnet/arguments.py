"""Checks of arguments, each with one message: what arrived, what is allowed, what to do."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from keras_resnet.errors import BadType, BadValue
from keras_resnet.terminal import one_line

# What people write for a field; the letters alone are nearer to other names.
ABBREVIATIONS = {
    "batch": "batch_size",
    "bs": "batch_size",
    "drop_path": "drop_path_rate",
    "dropout": "dropout_rate",
    "ema": "ema_momentum",
    "lr": "learning_rate",
    "patience": "early_stopping_patience",
    "smoothing": "label_smoothing",
    "wd": "weight_decay",
}


def closest(value: object, names: Iterable[str]) -> str | None:
    """Returns the name most like `value`, or None when nothing comes near."""
    candidates = [str(name) for name in names]
    section, dot, field = str(value).rpartition(".")
    expanded = f"{section}{dot}{ABBREVIATIONS.get(field, field)}"
    if expanded in candidates:
        return expanded
    matches = difflib.get_close_matches(str(value), candidates, n=1, cutoff=0.5)
    return matches[0] if matches else None


def suggestion(value: object, names: Iterable[str]) -> str:
    """Returns "Did you mean ...? " for the closest of `names`, or an empty string."""
    name = closest(value, names)
    return f"Did you mean {name!r}? " if name else ""


Choice = TypeVar("Choice")


def choose(argument: str, value: Any, table: Mapping[Any, Choice]) -> Choice:
    """Looks `value` up in `table`.

    Raises:
        ValueError: `value` is not a key; the message lists the keys and names the closest.
    """
    try:
        if value in table:
            return table[value]
    except TypeError:  # an unhashable value cannot be a key
        pass
    names = [name for name in table if name is not None]
    allowed = ", ".join(repr(name) for name in table)
    raise BadValue(f"{argument}={value!r} is not known. {suggestion(value, names)}Use one of: {allowed}.")


def check_int(argument: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Returns `value` as an int in [minimum, maximum]; a bool or a float is refused."""
    allowed = f"an int >= {minimum}" if maximum is None else f"an int from {minimum} to {maximum}"
    is_int = hasattr(value, "__index__") and not isinstance(value, bool)
    if not is_int:
        raise BadType(
            f"{argument} must be {allowed}, got {value!r} of type {type(value).__name__}. Pass {allowed} instead."
        )
    number = int(value)
    if number < minimum or (maximum is not None and number > maximum):
        raise BadValue(f"{argument} must be {allowed}, got {value!r}. Pass a value in that range.")
    return number


def check_float(
    argument: str,
    value: Any,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    minimum_included: bool = True,
    maximum_included: bool = True,
) -> float:
    """Returns `value` as a finite float in the interval; a bool or a string is refused."""
    interval = f"{'[' if minimum_included else '('}{minimum:g}, {maximum:g}{']' if maximum_included else ')'}"
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise BadType(
            f"{argument} must be a number in {interval}, got {value!r} of type {type(value).__name__}. "
            "Pass a float or an int."
        )
    number = float(value)
    above = number >= minimum if minimum_included else number > minimum
    below = number <= maximum if maximum_included else number < maximum
    if not (math.isfinite(number) and above and below):
        raise BadValue(f"{argument} must be a number in {interval}, got {value!r}. Pass a value in that range.")
    return number


def check_fraction(argument: str, value: Any, *, one_included: bool = False, zero_included: bool = True) -> float:
    """Returns `value` as a float in [0, 1), or with the ends that the flags name."""
    return check_float(
        argument,
        value,
        minimum=0.0,
        maximum=1.0,
        minimum_included=zero_included,
        maximum_included=one_included,
    )


def check_bool(argument: str, value: Any) -> bool:
    """Returns `value` if it is True or False; 0, 1 and strings are refused."""
    if isinstance(value, bool):
        return value
    raise BadType(
        f"{argument} must be True or False, got {value!r} of type {type(value).__name__}. Pass a bool instead."
    )


def check_names(argument: str, names: Iterable[str]) -> None:
    """Raises ValueError for a name of a class or a unit that cannot stand in a line of text."""
    for name in names:
        if one_line(name) != name:
            raise BadValue(
                f"{argument} holds {name!r}, with a line break or a control character. Allowed is text that stands in "
                "one line of a terminal and a page. Rename it."
            )


def check_path(argument: str, path: Any) -> None:
    """Raises ValueError for a path with a NUL, which no system has."""
    if "\0" in str(path):
        raise BadValue(f"{argument}={path!r} holds a NUL character. Allowed are paths without one. Correct it.")
