"""The options of `load`, checked once and handed to every source."""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Mapping
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
# What a column of a table is for.
COLUMN_ROLES = ("path", "label", "split", "group", "weight")


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """The arguments of `load` after their checks; see there."""

    data_dir: pathlib.Path | None
    task: Task
    validation_fraction: float
    test_fraction: float
    split_seed: int
    on_bad_image: str
    max_skipped_fraction: float
    max_pixels: int
    apply_exif: bool
    in_memory_limit: int
    manifest: pathlib.Path | None
    rank: int | None = None
    class_names: tuple[str, ...] | None = None
    label_key: str | None = None
    uncertain: str = "error"
    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    group_pattern: str | None = None
    fold: tuple[int, int] | None = None
    validation_fold: tuple[int, int] | None = None


def check_options(
    *,
    data_dir: Any,
    task: Any,
    validation_fraction: Any,
    test_fraction: Any,
    split_seed: Any,
    on_bad_image: Any,
    max_skipped_fraction: Any,
    max_pixels: Any,
    apply_exif: Any,
    in_memory_limit: Any,
    manifest: Any,
    rank: Any,
    class_names: Any,
    label_key: Any,
    uncertain: Any,
    columns: Any,
    group_pattern: Any,
    fold: Any,
    validation_fold: Any,
) -> LoadOptions:
    """Returns the options, or raises TypeError or ValueError naming the argument."""
    return LoadOptions(
        data_dir=_check_path("data_dir", data_dir),
        task=choose("task", task, TASKS),
        validation_fraction=check_fraction("validation_fraction", validation_fraction),
        test_fraction=check_fraction("test_fraction", test_fraction),
        split_seed=check_int("split_seed", split_seed, minimum=0),
        on_bad_image=choose("on_bad_image", on_bad_image, BAD_IMAGE_POLICIES),
        max_skipped_fraction=check_fraction("max_skipped_fraction", max_skipped_fraction, one_included=True),
        max_pixels=check_int("max_pixels", max_pixels),
        apply_exif=check_bool("apply_exif", apply_exif),
        in_memory_limit=check_int("in_memory_limit", in_memory_limit, minimum=0),
        manifest=_check_path("manifest", manifest),
        rank=None if rank is None else check_int("rank", rank, minimum=1, maximum=3),
        class_names=None if class_names is None else tuple(class_names),
        label_key=_check_text("label_key", label_key, "a feature's name"),
        uncertain=_check_key("uncertain", uncertain, UNCERTAIN),
        columns=_check_columns(_check_text("columns", columns, "such as 'label=diagnosis,group=patient'")),
        group_pattern=_check_text("group_pattern", group_pattern, "a regular expression"),
        fold=_check_fold("fold", fold),
        validation_fold=_check_fold("validation_fold", validation_fold),
    )


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
