"""Fields of a recipe: a default, a check, what a search may try, and how a word of the command line becomes a value."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from keras_resnet.arguments import check_bool, check_float, check_int, choose, suggestion
from keras_resnet.errors import BadType, BadValue

Kind = Literal["integer", "number", "flag", "choice", "fractions", "text"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """A row of a table of choices, such as a loss: how it is built, and what it reads.

    Attributes:
        build: a function of the section, and of what else the part needs.
        reads: the fields of the section that have an effect with this choice and not with every one.
    """

    build: Callable[..., Any]
    reads: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Field:
    """What a field of a recipe may hold, for whoever searches or shows it.

    Attributes:
        kind: of value.
        default: where nothing else is said.
        minimum: the smallest value; None where there is none.
        maximum: the largest value; None where there is none.
        open_below: the minimum itself is excluded.
        open_above: the maximum itself is excluded.
        scale: "log" where factors matter rather than differences.
        choices: the words that may be chosen; empty for other kinds.
        word: stands for a value that is found out, such as "auto"; None where there is none.
    """

    kind: Kind
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    open_below: bool = False
    open_above: bool = False
    scale: Literal["linear", "log"] = "linear"
    choices: tuple[str, ...] = ()
    word: str | None = None


def integer(default: int, *, minimum: int = 0, maximum: int | None = None, scale: Any = "linear") -> Any:
    """Returns a field for an int in [minimum, maximum]."""
    about = Field("integer", default, minimum, maximum, scale=scale)
    return _field(about, _int_of, lambda name, value: check_int(name, value, minimum=minimum, maximum=maximum))


def number(
    default: float,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    open_below: bool = False,
    open_above: bool = False,
    scale: Any = "linear",
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

    most = None if maximum == math.inf else maximum
    return _field(Field("number", default, minimum, most, open_below, open_above, scale), _float_of, check)


def flag(default: bool) -> Any:
    """Returns a field for True or False."""
    about = Field("flag", default, choices=("true", "false"))
    return _field(about, lambda name, text: choose(name, text.lower(), WORDS_OF_BOOL), check_bool)


def choice(default: str, table: Mapping[Any, Any], *, word: str | None = None) -> Any:
    """Returns a field for a key of `table`, or for a `word` that stands for its key None or for what is found out."""
    words = [*([word] if word else []), *(key for key in table if key is not None)]
    values = {key: None if key == word else key for key in words}

    def check(name: str, value: Any) -> str:
        choose(name, value, values)
        return str(value)

    about = Field("choice", default, choices=tuple(words), word=word)
    return _field(about, lambda name, text: text, check, table=values)


def integer_or(word: str, *, minimum: int = 1, scale: Any = "linear") -> Any:
    """Returns a field for an int or one `word`, which is the default."""

    def parse(name: str, text: str) -> Any:
        return int(text) if text.lstrip("-").isdigit() else text

    def check(name: str, value: Any) -> Any:
        if value == word:
            return value
        if isinstance(value, str):
            raise BadValue(f"{name}={value!r} is not known. Use {word!r} or an int >= {minimum}. Pass one of them.")
        return check_int(name, value, minimum=minimum)

    return _field(Field("integer", word, minimum, word=word, scale=scale), parse, check)


def size_or(word: str) -> Any:
    """Returns a field for a side in pixels, a pair of height and width, or one `word`, which is the default."""

    def parse(name: str, text: str) -> Any:
        sides = text.strip("[]() ").replace("x", ",").split(",")
        numbers = [int(side) if side.strip().isdecimal() else text for side in sides]
        return text if text in numbers else numbers[0] if len(numbers) == 1 else numbers

    def check(name: str, value: Any) -> Any:
        if value == word:
            return value
        if isinstance(value, str):
            raise BadValue(
                f"{name}={value!r} is not known. Use {word!r}, a side in pixels, or height and width such as 192x256."
            )
        if not isinstance(value, (list, tuple)):
            return check_int(name, value)
        if len(value) != 2:
            raise BadValue(f"{name}={value!r} has {len(value)} values. Use one side, or height and width.")
        height, width = (check_int(name, side) for side in value)
        return height if height == width else (height, width)

    return _field(Field("integer", word, 1, word=word), parse, check)


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

    return _field(Field("fractions", default, 0.0, 1.0, open_below=True, open_above=True), parse, check)


def text(default: str) -> Any:
    """Returns a field for any string."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise BadType(f"{name} must be a string, got {value!r} of type {type(value).__name__}. Put it in quotes.")
        return value

    return _field(Field("text", default), lambda name, given: given, check)


class Section:
    """A table of a recipe: a frozen dataclass of the fields above, checked when it is made."""

    title = "section"

    def __post_init__(self) -> None:
        """Checks every field, and stores what the check returns."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = field.metadata["check"](f"{self.title}.{field.name}", getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    # The table that the field `name` chooses from, for sections that have one.
    table: ClassVar[Mapping[str, Choice]] = {}
    # Fields that have an effect where others are set -> these, for a message, and whether a recipe sets them.
    needs: ClassVar[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {}

    @classmethod
    def readers(cls, name: str) -> tuple[str, ...] | None:
        """Returns the choices of the section that read a field; None for a field that all of them read."""
        readers = tuple(choice for choice, row in cls.table.items() if name in row.reads)
        return readers or None

    def check(self, recipe: Any) -> None:
        """Raises ValueError where the recipe has another part that does not go with the section."""

    def step_parts(self, experiment: Any) -> list[Any]:
        """Returns what the section adds to the training step: `keras_resnet.distribution.step.StepPart`."""
        return []


def make(section: type, values: Any) -> Any:
    """Returns a section from the table of a TOML file."""
    title = section.title  # type: ignore[attr-defined]
    if not isinstance(values, Mapping):
        raise BadType(f"{title}={values!r} is not a table. Allowed are keys and values. Write them under [{title}].")
    names = [field.name for field in dataclasses.fields(section)]
    for key in values:
        if key not in names:
            raise unknown_key(f"{title}.{key}", [f"{title}.{name}" for name in names])
    return section(**values)


def parse(section: type, name: str, value: Any) -> Any:
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
    about: Field,
    parse: Callable[[str, str], Any],
    check: Callable[[str, Any], Any],
    table: Mapping[str, Any] | None = None,
) -> Any:
    metadata = {"about": about, "parse": parse, "check": check, "choices": table}
    return dataclasses.field(default=about.default, metadata=metadata)


def _int_of(name: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise BadValue(
            f"{name}={word!r} is not a whole number. Expected something like 16. Write digits alone."
        ) from None


def _float_of(name: str, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadValue(f"{name}={word!r} is not a number. Expected something like 0.1 or 1e-3. Write it so.") from None
