"""What a search may try, as data: dimensions, read from TOML or written in Python."""

import importlib.resources
import os
import pathlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras_tuner

from keras_resnet import training
from keras_resnet.arguments import choose
from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import SECTIONS
from keras_resnet.tuning.dimension import KEYS, VARIANT, Dimension


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
        found = sorted(dimensions, key=lambda dimension: not _decides(dimension.name))
        names = [dimension.name for dimension in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not found:
            raise BadValue(f"A search space needs dimensions, each once; got {twice or 'none'}. Correct the space.")
        self.dimensions = tuple(found)

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
        named = {dimension.name: dimension for dimension in (*self, *dimensions)}
        return Space(named.values())

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
        """Returns what `Recipe.replace` takes, of the values of a trial; KerasTuner's own and the variant stay out.

        Args:
            values: name -> value, of active dimensions.
        """
        names = set(self.names) - {VARIANT}
        wanted = {name: value for name, value in values.items() if name in names}
        return {name: value for name, value in wanted.items() if _is_read(name, wanted)}


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
                    f"{section}.{field}={values!r} is not a table. Allowed is such as {{low = 0.1, high = 0.5}} or "
                    "{choices = [1, 2]}. Correct the space."
                )
            yield f"{section}.{field}", dict(values)


def _packaged() -> dict[str, Any]:
    folder = importlib.resources.files("keras_resnet.tuning") / "spaces"
    return {entry.name.removesuffix(".toml"): entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
