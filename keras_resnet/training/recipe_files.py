"""The files of recipes: those of the package, and those that extend one another."""

import importlib.resources
import os
import pathlib
import tomllib
from typing import Any

from keras_resnet.arguments import choose
from keras_resnet.errors import BadType, BadValue
from keras_resnet.training.sections import TABLES, About


def list_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return list(packaged())


def read_tables(path: pathlib.Path, seen: tuple[pathlib.Path, ...] = ()) -> dict[str, Any]:
    """Returns the tables of a recipe, with those of the recipe that it extends below them.

    Args:
        path: a TOML file, or the name of a recipe of the package.
        seen: recipes on the way here, which it must not extend.

    Raises:
        TypeError, ValueError: it does not exist, is not valid TOML, or extends itself.
    """
    if path.suffix != ".toml":
        return tomllib.loads(choose("recipe", os.fspath(path), packaged()).read_text(encoding="utf-8"))
    if not path.is_file():
        raise BadValue(f"recipe={os.fspath(path)!r} is not a file. Allowed is a TOML file. Check the path.")
    if path.resolve() in seen:
        raise BadValue(f"recipe={os.fspath(path)!r} extends itself. Allowed is another recipe. Correct `extends`.")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadValue(
            f"recipe={os.fspath(path)!r} is not valid TOML: {error}. Allowed are [section] tables of "
            "key = value. Correct that line."
        ) from error
    base = tables.pop("extends", None)
    if base is None:
        return tables
    if not isinstance(base, str):
        raise BadType(f"extends={base!r} in {os.fspath(path)!r} is not a string. Pass such as 'cifar' or 'my.toml'.")
    below = read_tables(path.parent / base if base.endswith(".toml") else pathlib.Path(base), (*seen, path.resolve()))
    for title, values in below.items():
        if title in TABLES and title != About.title and isinstance(tables.get(title, {}), dict):
            tables[title] = {**values, **tables.get(title, {})}
    return tables


def packaged() -> dict[str, Any]:
    """Returns the name and the file of each recipe that comes with the package."""
    folder = importlib.resources.files("keras_resnet.training") / "recipes"
    found = {entry.name.removesuffix(".toml"): entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
    return dict(sorted(found.items()))
