"""What a search may try, as data: dimensions, read from TOML or written in Python."""

import dataclasses
import importlib.resources
import os
import pathlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras_tuner

from keras_resnet import models, training
from keras_resnet.arguments import check_float, choose, suggestion
from keras_resnet.errors import BadType, BadValue
from keras_resnet.training.fields import Field
from keras_resnet.training.recipe import SECTIONS

SCALES = {"linear": "linear", "log": "log"}
VARIANT = "variant"  # of the model, which is not a field of a recipe
KEYS = ("low", "high", "step", "scale", "choices", "why")


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One thing that a search varies.

    Args:
        name: "section.field" of a recipe, such as "optimizer.learning_rate", or "variant" for the model.
        low: the smallest value, for numbers.
        high: the largest value, for numbers.
        step: between values; None for any value in between.
        scale: "linear", or "log" where factors matter rather than differences.
        choices: the values, instead of `low` and `high`.
        why: a word for the reader.

    Raises:
        TypeError, ValueError: no recipe has such a field, or it does not allow a value.

    Example:
        >>> from keras_resnet.tuning import Dimension
        >>> Dimension("optimizer.learning_rate", low=0.01, high=0.5, scale="log").values(3)
        [0.01, 0.0707107, 0.5]
    """

    name: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    scale: str = "linear"
    choices: tuple[Any, ...] = ()
    why: str = ""

    def __post_init__(self) -> None:
        """Checks the dimension against the field that it varies."""
        about = self.about
        choose(f"{self.name}.scale", self.scale, SCALES)
        if isinstance(self.choices, str) or not isinstance(self.choices, Iterable):
            raise BadType(f"{self.name}.choices={self.choices!r} is not a list. Pass such as [32, 64].")
        object.__setattr__(self, "choices", tuple(self.choices))
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise BadValue(f"{self.name} needs either choices or low and high, got {self}. Give one of the two.")
        for value in self.choices or self._ends(about):
            self.check(value)

    @property
    def about(self) -> Field:
        """What the field may hold."""
        if self.name == VARIANT:
            return Field("choice", "resnet18", choices=tuple(models.VARIANTS))
        fields = training.recipe_fields()
        if self.name not in fields:
            raise BadValue(
                f"The search space names {self.name!r}, which no recipe has. {suggestion(self.name, fields)}"
                f"Use a field of a recipe, such as 'optimizer.learning_rate', or {VARIANT!r}."
            )
        return fields[self.name]

    @property
    def is_integer(self) -> bool:
        """Whether values between `low` and `high` are whole numbers."""
        return self.about.kind == "integer"

    def _ends(self, about: Field) -> tuple[float, float]:
        if about.kind not in ("integer", "number"):
            raise BadValue(
                f"{self.name} is not a number and has no low and high. Allowed are choices: {about.choices}. Use those."
            )
        low = check_float(f"{self.name}.low", self.low)
        high = check_float(f"{self.name}.high", self.high)
        if not low < high or (self.scale == "log" and low <= 0):
            raise BadValue(
                f"{self.name} goes from {low:g} to {high:g} on a {self.scale} scale. low must be less than high, and "
                "on a log scale more than 0. Correct them."
            )
        if self.step is not None:
            check_float(f"{self.name}.step", self.step, minimum=0, minimum_included=False)
        return low, high

    def check(self, value: Any) -> None:
        """Raises TypeError or ValueError where the field does not allow a value."""
        if self.name == VARIANT:
            choose("variant", value, models.VARIANTS)
            return
        section, _, field = self.name.partition(".")
        SECTIONS[section](**{field: int(value) if self.is_integer and float(value).is_integer() else value})

    def check_within(self, value: Any) -> None:
        """Raises TypeError or ValueError for a value that is not one of the choices, or outside low to high."""
        self.check(value)
        low, high = float(self.low or 0), float(self.high or 0)
        rounding = 1e-9 * (high - low)
        if value not in self.choices if self.choices else not low - rounding <= value <= high + rounding:
            raise BadValue(f"{self.name}={value!r} is outside of its dimension.")

    def values(self, count: int = 10) -> list[Any]:
        """Returns the choices, or at most that many values from `low` to `high`, evenly on the scale."""
        if self.choices:
            return list(self.choices)
        low, high = float(self.low or 0), float(self.high or 0)
        shares = [index / (count - 1) for index in range(count)]
        spread = [low * (high / low) ** s if self.scale == "log" else low + (high - low) * s for s in shares]
        return sorted({round(value) for value in spread}) if self.is_integer else [float(f"{v:.6g}") for v in spread]

    def declare(self, hp: keras_tuner.HyperParameters, default: Any) -> Any:
        """Registers the dimension with KerasTuner, and returns the value that it has there."""
        if self.choices:
            default = default if default in self.choices else self.choices[0]
            if all(isinstance(value, bool) for value in self.choices) and len(self.choices) == 2:
                return hp.Boolean(self.name, default)
            return hp.Choice(self.name, list(self.choices), default=default, ordered=self._order())
        low, high = float(self.low or 0), float(self.high or 0)
        usable = isinstance(default, (int, float)) and low <= default <= high
        # KerasTuner takes a step on a log scale for a factor.
        options: dict[str, Any] = {"sampling": self.scale, "step": self.step, "default": default if usable else None}
        if self.is_integer:
            step = {} if self.step is None else {"step": int(self.step)}
            return hp.Int(self.name, int(low), int(high), **{**options, **step} if step else _without_step(options))
        return hp.Float(self.name, low, high, **options)

    def _order(self) -> bool | None:
        return True if all(isinstance(value, (int, float)) for value in self.choices) else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the values that are not defaults, as TOML stores them."""
        plain = {key: getattr(self, key) for key in KEYS}
        plain["choices"] = list(self.choices)
        return {key: value for key, value in plain.items() if value not in (None, [], "", "linear")}


def _without_step(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "step"}


class Space:
    """Dimensions in their order, those first that others depend on.

    Args:
        dimensions: each name once.

    Raises:
        ValueError: there is none, or one is named twice.

    Example:
        >>> from keras_resnet.tuning import Dimension, Space
        >>> space = Space.load("default").without("model.l1", "model.l2")
        >>> space = space.with_(Dimension("model.width", choices=(8, 16)))
        >>> "model.width" in space.names, "model.l2" in space.names
        (True, False)
    """

    def __init__(self, dimensions: Iterable[Dimension]) -> None:
        ordered = sorted(dimensions, key=lambda dimension: not _decides(dimension.name))
        names = [dimension.name for dimension in ordered]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not ordered:
            raise BadValue(f"A search space needs dimensions, each once; got {twice or 'none'}. Correct the space.")
        self.dimensions = tuple(ordered)

    def __iter__(self) -> Iterator[Dimension]:
        """Goes through the dimensions."""
        return iter(self.dimensions)

    def __len__(self) -> int:
        """Returns the number of dimensions."""
        return len(self.dimensions)

    @property
    def names(self) -> list[str]:
        """The names of the dimensions."""
        return [dimension.name for dimension in self.dimensions]

    @classmethod
    def load(cls, source: str | os.PathLike) -> "Space":
        """Returns the space "default" of the package, or reads a TOML file.

        A file has a table for each dimension, `[optimizer.learning_rate]`, with `low`, `high`, `scale` and `step`, or
        `choices`, and `why`. With `extends = "default"` it adds to that space and replaces what it names; a table with
        `search = false` takes a dimension away.

        Raises:
            TypeError, ValueError: the file is missing, is no TOML, or names what no recipe has.
        """
        path = pathlib.Path(source)
        if path.suffix != ".toml":
            text = choose("space", os.fspath(source), _packaged()).read_text(encoding="utf-8")
        elif path.is_file():
            text = path.read_text(encoding="utf-8")
        else:
            raise BadValue(f"space={os.fspath(source)!r} is not a file. Allowed is a TOML file. Check the path.")
        try:
            return cls.from_dict(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise BadValue(f"space={os.fspath(source)!r} is not valid TOML: {error}. Correct that line.") from error

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> "Space":
        """Returns the space that nested tables describe; see `load`."""
        tables = dict(tables)
        base = tables.pop("extends", None)
        dimensions = {} if base is None else {dimension.name: dimension for dimension in cls.load(base)}
        for name, values in _flat(tables):
            if values.get("search", True) is False:
                if name not in dimensions:
                    raise BadValue(f"{name} is taken away, and the space has no such dimension. Leave the table out.")
                del dimensions[name]
                continue
            values = {key: value for key, value in values.items() if key != "search"}
            for key in values:
                choose(f"key of {name}", key, dict.fromkeys(KEYS))
            dimensions[name] = Dimension(name, **values)
        return cls(dimensions.values())

    def rows(self) -> list[list[Any]]:
        """Returns name and values of every dimension, in their order, on which the trials of a seed depend."""
        return [[dimension.name, dimension.to_dict()] for dimension in self]

    @classmethod
    def from_rows(cls, rows: Iterable[Any]) -> "Space":
        """Returns the space that `rows` describes."""
        return cls(Dimension(name, **values) for name, values in rows)

    def to_dict(self) -> dict[str, Any]:
        """Returns nested tables, as `from_dict` takes them; dimensions of one section stand together."""
        tables: dict[str, Any] = {}
        for dimension in self:
            *section, field = dimension.name.split(".")
            table = tables.setdefault(section[0], {}) if section else tables
            table[field] = dimension.to_dict()
        return tables

    def with_(self, *dimensions: Dimension) -> "Space":
        """Returns the space with more dimensions, or with others of the same name."""
        by_name = {dimension.name: dimension for dimension in (*self, *dimensions)}
        return Space(by_name.values())

    def without(self, *names: str) -> "Space":
        """Returns the space without some dimensions."""
        for name in names:
            choose("name", name, dict.fromkeys(self.names))
        return Space(dimension for dimension in self if dimension.name not in names)

    def fitting(self, recipe: training.Recipe) -> "Space":
        """Returns the space without the dimensions that would have no effect on any recipe of it.

        Args:
            recipe: that the search starts from.
        """
        return Space(dimension for dimension in self if self._has_effect(dimension.name, recipe))

    def _has_effect(self, name: str, recipe: training.Recipe) -> bool:
        readers = _readers(name)
        return readers is None or bool(set(readers) & set(self._chosen(recipe, name)))

    def for_recipe(self, recipe: training.Recipe) -> None:
        """Raises ValueError where a dimension would have no effect on any recipe of the space."""
        for dimension in self:
            readers = _readers(dimension.name)
            chosen = self._chosen(recipe, dimension.name)
            if readers is not None and not self._has_effect(dimension.name, recipe):
                parent = f"{dimension.name.partition('.')[0]}.name"
                raise BadValue(
                    f"{dimension.name} has no effect with {parent}={', '.join(map(repr, chosen))}. It is read with "
                    f"{', '.join(map(repr, readers))}. Take it out of the space, or add {parent}."
                )

    def _chosen(self, recipe: training.Recipe, name: str) -> tuple[Any, ...]:
        """Returns the choices that decide whether a field is read: those of the space, else that of the recipe."""
        section = name.partition(".")[0]
        for dimension in self:
            if dimension.name == f"{section}.name":
                return dimension.choices
        return (getattr(getattr(recipe, section, None), "name", None),)

    def declare(self, hp: keras_tuner.HyperParameters, recipe: training.Recipe, model: str = "resnet18") -> None:
        """Registers every dimension with KerasTuner; one that some choices do not read is active with the others only.

        Args:
            hp: of KerasTuner.
            recipe: whose values are the defaults.
            model: name of the variant that is the default.
        """
        for dimension in self:
            section, _, field = dimension.name.partition(".")
            default = model if dimension.name == VARIANT else getattr(getattr(recipe, section), field)
            readers, parent = _readers(dimension.name), f"{section}.name"
            if readers is not None and parent in self.names:
                with hp.conditional_scope(
                    parent, [name for name in self._chosen(recipe, dimension.name) if name in readers]
                ):
                    dimension.declare(hp, default)
            else:
                dimension.declare(hp, default)

    def overrides(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values of a trial that `Recipe.replace` takes; KerasTuner's own and the variant stay out.

        Args:
            values: name -> value, of active dimensions.
        """
        names = set(self.names) - {VARIANT}
        selected = {name: value for name, value in values.items() if name in names}
        return {name: value for name, value in selected.items() if _is_read(name, selected)}


def _is_read(name: str, values: Mapping[str, Any]) -> bool:
    readers, parent = _readers(name), f"{name.partition('.')[0]}.name"
    return readers is None or parent not in values or values[parent] in readers


def _readers(name: str) -> tuple[str, ...] | None:
    section, _, field = name.partition(".")
    return SECTIONS[section].readers(field) if section in SECTIONS else None


def _decides(name: str) -> bool:
    return name == VARIANT or name.endswith(".name")


def _flat(tables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for section, fields in tables.items():
        if not isinstance(fields, Mapping):
            raise BadValue(
                f"{section}={fields!r} is not a table. Allowed are [section.field] tables. Correct the space."
            )
        if section == VARIANT:
            yield section, dict(fields)
            continue
        for field, values in fields.items():
            if not isinstance(values, Mapping):
                raise BadValue(
                    f"{section}.{field}={values!r} is not a table. Expected one like {{low = 0.1, high = 0.5}} or "
                    "{choices = [1, 2]}. Correct the space."
                )
            yield f"{section}.{field}", dict(values)


def _packaged() -> dict[str, Any]:
    folder = importlib.resources.files("keras_resnet.tuning") / "spaces"
    return {entry.name.removesuffix(".toml"): entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
