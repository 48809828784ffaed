"""Fields of a recipe: a default, a check, and how a word of the command line becomes a value."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from keras_resnet.arguments import check_bool, check_float, check_int, choose, suggestion
from keras_resnet.errors import BadType, BadValue


def integer(default: int, *, minimum: int = 0, maximum: int | None = None) -> Any:
    """Returns a field for an int in [minimum, maximum]."""
    return _field(default, _int_of, lambda name, value: check_int(name, value, minimum=minimum, maximum=maximum))


def number(
    default: float,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    open_below: bool = False,
    open_above: bool = False,
) -> Any:
    """Returns a field for a finite float in an interval, whose ends are excluded where it is `open`."""

    def check(name: str, value: Any) -> float:
        return check_float(
            name,
            value,
            minimum=minimum,
            maximum=maximum,
            minimum_included=not open_below,
            maximum_included=not open_above,
        )

    return _field(default, _float_of, check)


def flag(default: bool) -> Any:
    """Returns a field for True or False."""
    return _field(default, lambda name, text: choose(name, text.lower(), WORDS_OF_BOOL), check_bool)


def choice(default: str, table: Mapping[str, Any]) -> Any:
    """Returns a field for a key of `table`."""

    def check(name: str, value: Any) -> str:
        choose(name, value, table)
        return str(value)

    return _field(default, lambda name, text: text, check, table=table)


def integer_or(word: str, *, minimum: int = 1) -> Any:
    """Returns a field for an int or one `word`, which is the default."""

    def parse(name: str, text: str) -> Any:
        return int(text) if text.lstrip("-").isdigit() else text

    def check(name: str, value: Any) -> Any:
        if value == word:
            return value
        if isinstance(value, str):
            raise BadValue(f"{name}={value!r} is not known. Use {word!r} or an int >= {minimum}. Pass one of them.")
        return check_int(name, value, minimum=minimum)

    return _field(word, parse, check)


def fractions(default: tuple[float, ...]) -> Any:
    """Returns a field for rising fractions in (0, 1); on the command line separated by commas."""

    def parse(name: str, text: str) -> list[float]:
        return [_float_of(name, part) for part in text.strip("[]() ").split(",") if part.strip()]

    def check(name: str, value: Any) -> tuple[float, ...]:
        if not isinstance(value, (list, tuple)):
            raise BadType(f"{name}={value!r} is not a list. Allowed are fractions in (0, 1). Pass such as [0.5, 0.75].")
        numbers = tuple(
            check_float(name, part, minimum=0, maximum=1, minimum_included=False, maximum_included=False)
            for part in value
        )
        if not numbers or list(numbers) != sorted(set(numbers)):
            raise BadValue(f"{name}={value!r} is empty or does not rise. Each must exceed the one before. Sort them.")
        return numbers

    return _field(default, parse, check)


def text(default: str) -> Any:
    """Returns a field for any string."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise BadType(f"{name} must be a string, got {value!r} of type {type(value).__name__}. Put it in quotes.")
        return value

    return _field(default, lambda name, given: given, check)


class Section:
    """A table of a recipe: a frozen dataclass of the fields above, checked when it is made."""

    title = "section"

    def __post_init__(self) -> None:
        """Checks every field, and stores what the check returns."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = field.metadata["check"](f"{self.title}.{field.name}", getattr(self, field.name))
            object.__setattr__(self, field.name, value)


def make(section: type, values: Any) -> Any:
    """Returns a section from the table of a TOML file.

    Raises:
        TypeError: `values` is no table.
        ValueError: a key is unknown; the message names the closest.
    """
    title = section.title  # type: ignore[attr-defined]
    if not isinstance(values, Mapping):
        raise BadType(f"{title}={values!r} is not a table. Allowed are keys and values. Write them under [{title}].")
    names = [field.name for field in dataclasses.fields(section)]
    for key in values:
        if key not in names:
            raise unknown_key(f"{title}.{key}", [f"{title}.{name}" for name in names])
    return section(**values)


def parsed(section: type, name: str, value: Any) -> Any:
    """Returns `value` as the field `name` has it; a string is read as its type."""
    title = section.title  # type: ignore[attr-defined]
    table = {field.name: field for field in dataclasses.fields(section)}
    if name not in table:
        raise unknown_key(f"{title}.{name}", [f"{title}.{key}" for key in table])
    return table[name].metadata["parse"](f"{title}.{name}", value) if isinstance(value, str) else value


def unknown_key(key: str, names: list[str]) -> ValueError:
    """Returns the error for a key that no section has."""
    return BadValue(f"The recipe key {key!r} is not known. {suggestion(key, names)}Use one of: {', '.join(names)}.")


WORDS_OF_BOOL = {"true": True, "false": False}


def _field(
    default: Any,
    parse: Callable[[str, str], Any],
    check: Callable[[str, Any], Any],
    table: Mapping[str, Any] | None = None,
) -> Any:
    return dataclasses.field(default=default, metadata={"parse": parse, "check": check, "choices": table})


def _int_of(name: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise BadValue(f"{name}={word!r} is not a whole number. Allowed is such as 16. Write digits alone.") from None


def _float_of(name: str, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadValue(f"{name}={word!r} is not a number. Allowed is such as 0.1 or 1e-3. Write it so.") from None
