"""The options of `load`, checked once and handed to every source."""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from keras_resnet.arguments import check_bool, check_fraction, check_int, choose
from keras_resnet.errors import BadType, BadValue
from keras_resnet.tasks import TASKS, Task

BAD_IMAGE_POLICIES = {"error": "error", "skip": "skip"}
# What a blank or -1 in a column of 0 and 1 means: the label, NaN for an unknown one, None to refuse the table.
UNCERTAIN: dict[str, float | None] = {"error": None, "negative": 0.0, "positive": 1.0, "ignore": math.nan}
# More than the largest cameras of 35 mm film's format have; of a photograph of that many, 0.2 GB of bytes are decoded.
MAX_PIXELS = 64_000_000
IN_MEMORY_LIMIT = 2**30
# What data are labeled for; grades are labeled as classes are.
DATA_TASKS = {task.data_task: TASKS[task.data_task] for task in TASKS.values()}
# What a column of a table is for.
COLUMN_ROLES = ("path", "label", "split", "group", "weight")


def _option(default: Any, check: Callable[[str, Any], Any]) -> Any:
    """Returns a field: its default as a user writes it, and the check of `(name, value)` that returns what is kept."""
    return dataclasses.field(metadata={"default": default, "check": check})


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


def _text(what: str) -> Callable[[str, Any], str | None]:
    return lambda name, value: _check_text(name, value, what)


def _share(name: str, value: Any) -> float:
    return check_fraction(name, value)


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """The arguments of `load` after their checks; it documents them. This is the only list of them."""

    data_dir: pathlib.Path | None = _option(None, lambda name, value: _check_path(name, value))
    task: Task = _option("classification", lambda name, value: choose(name, value, DATA_TASKS))
    validation_fraction: float = _option(0.1, _share)
    test_fraction: float = _option(0.1, _share)
    split_seed: int = _option(0, lambda name, value: check_int(name, value, minimum=0))
    on_bad_image: str = _option("error", lambda name, value: choose(name, value, BAD_IMAGE_POLICIES))
    max_skipped_fraction: float = _option(0.01, lambda name, value: check_fraction(name, value, one_included=True))
    max_pixels: int = _option(MAX_PIXELS, check_int)
    apply_exif: bool = _option(True, check_bool)
    in_memory_limit: int = _option(IN_MEMORY_LIMIT, lambda name, value: check_int(name, value, minimum=0))
    manifest: pathlib.Path | None = _option(None, lambda name, value: _check_path(name, value))
    rank: int | None = _option(None, _or_none(lambda name, value: check_int(name, value, minimum=1, maximum=3)))
    class_names: tuple[str, ...] | None = _option(None, _or_none(lambda name, value: tuple(value)))
    label_key: str | None = _option(None, _text("a feature's name"))
    uncertain: str = _option("error", lambda name, value: _check_key(name, value, UNCERTAIN))
    columns: Mapping[str, tuple[str, ...]] = _option(
        None, lambda name, value: _check_columns(_check_text(name, value, "such as 'label=diagnosis,group=patient'"))
    )
    group_pattern: str | None = _option(None, _text("a regular expression"))
    fold: tuple[int, int] | None = _option(None, lambda name, value: _check_fold(name, value))
    validation_fold: tuple[int, int] | None = _option(None, lambda name, value: _check_fold(name, value))

    @classmethod
    def of(cls, **arguments: Any) -> "LoadOptions":
        """Checks arguments as a user gave them; the others take their defaults.

        Raises:
            TypeError, ValueError: an argument is out of its range.
        """
        fields = dataclasses.fields(cls)
        values = {field.name: arguments.get(field.name, field.metadata["default"]) for field in fields}
        return cls(**{field.name: field.metadata["check"](field.name, values[field.name]) for field in fields})


@dataclasses.dataclass(frozen=True)
class Source:
    """A kind of data: what stands before the colon of a spec. A file in `data/sources/` with such a row adds one.

    Attributes:
        name: before the colon.
        load: `(spec, argument, options)` to a `Dataset`; the argument is what follows the colon.
        spec: how it is written, such as "csv:FILE".
        options: arguments of `data.load` that only some sources have, of these: `OF_SOME_SOURCES`.
        is_path: whether the argument is a path.
        endings: of files that are taken for this source without its name.
    """

    name: str
    load: Callable[[str, str, LoadOptions], Any]
    spec: str
    options: tuple[str, ...] = ()
    is_path: bool = True
    endings: tuple[str, ...] = ()


# Arguments of `load` that the others refuse.
OF_SOME_SOURCES = ("columns", "group_pattern", "label_key", "manifest")


def _check_key(argument: str, value: Any, table: Mapping[str, Any]) -> str:
    choose(argument, value, table)
    return str(value)


def _check_fold(argument: str, value: Any) -> tuple[int, int] | None:
    text = _check_text(argument, value, "such as '1/5'")
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text, re.ASCII)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count or count < 2:
        raise BadValue(
            f"{argument}={text!r} is not a fold. Allowed is which of how many, as '1/5', of two or more. Correct it."
        )
    return number, count


def _check_text(argument: str, value: Any, what: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BadType(f"{argument} must be a string, got {value!r} of type {type(value).__name__}. Pass {what}.")


def _check_columns(text: str | None) -> dict[str, tuple[str, ...]]:
    """Returns role -> columns of a text such as "path=image,label=age+height"."""
    columns: dict[str, tuple[str, ...]] = {}
    for part in (text or "").split(",") if text else ():
        role, equals, names = (piece.strip() for piece in part.partition("="))
        column_names = tuple(name.strip() for name in names.split("+"))
        if not equals or role not in COLUMN_ROLES or role in columns or not all(column_names):
            raise BadValue(
                f"columns={text!r} cannot be read at {part!r}. Allowed are {', '.join(COLUMN_ROLES)}, each once, as in "
                "'path=image,label=diagnosis,group=patient'; several targets, or 0/1 columns, as label=age+height."
            )
        if len(column_names) > 1 and role != "label":
            raise BadValue(
                f"columns={text!r} names {len(column_names)} columns for the {role}. Allowed is one. Name one."
            )
        columns[role] = column_names
    return columns


def _check_path(argument: str, value: Any) -> pathlib.Path | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise BadType(
            f"{argument} must be a path, got {value!r} of type {type(value).__name__}. "
            "Allowed are a string and a pathlib.Path. Pass one."
        )
    return pathlib.Path(value).expanduser()
