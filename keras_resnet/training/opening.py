"""What stands before the first epoch: the recipe, the folder, and whether the two belong together."""

import datetime
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet import data as datasets
from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.run import COMPLETE, differences, read_description

# What must be the same for a resumed run to end as an uninterrupted one.
IDENTITY = ("recipe", "model", "data", "fingerprint")
DEFAULTS: dict[str, Any] = {"recipe": "quick", "model": "resnet18", "data": "digits", "data_dir": None}


def remembered(found: dict[str, Any] | None, given: dict[str, Any]) -> dict[str, Any]:
    """Returns recipe, model, data and folder of data: as given, else as the run in the folder has them, else defaults.

    Args:
        found: what run.json of a run that goes on holds, or None.
        given: the arguments of `fit`, None for what was not given.
    """
    known = DEFAULTS if found is None else {**found, "recipe": Recipe.from_dict(found["recipe"])}
    return {name: known[name] if given[name] is None else given[name] for name in DEFAULTS}


def anchored(spec: str, data_dir: str | os.PathLike | None) -> tuple[str, str | None]:
    """Returns spec and folder of data with absolute paths, so that a run finds its data from any working directory.

    Args:
        spec: such as "digits" or "folder:photos".
        data_dir: the root of relative paths in the spec, or None for the working directory.
    """
    source, _, path = spec.partition(":")
    if data_dir is not None:
        return spec, os.path.abspath(os.path.expanduser(data_dir))
    if source in ("folder", "npz") and path:
        return f"{source}:{os.path.abspath(os.path.expanduser(path))}", None
    return spec, None


def resolve(recipe: Any, seed: int | None, overrides: Mapping[str, Any] | None) -> Recipe:
    """Returns the recipe of that name, file or object, with the overrides and the seed in it."""
    resolved = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    return resolved.replace({**(overrides or {}), **({} if seed is None else {"train.seed": seed})})


def check_folder(folder: pathlib.Path | None, resume: bool) -> dict[str, Any] | None:
    """Returns what run.json in the folder holds, if anything; refuses a folder that must not be written to."""
    if folder is None or not folder.exists():
        return None
    if not folder.is_dir():
        raise BadValue(f"out={os.fspath(folder)!r} is a file. A run needs a folder. Choose another path.")
    found = read_description(folder)
    if found is not None and not resume:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds a run already ({found['status']}). A new run needs a folder of its own. "
            "Choose another, or go on with it: resume=True, on the command line --resume."
        )
    return found


def identity(description: dict[str, Any]) -> dict[str, Any]:
    """Returns what a run has in common with itself when it goes on; what its recipe says about itself may change."""
    recipe = {key: value for key, value in description["recipe"].items() if key not in ("name", "about")}
    return {**{key: description.get(key) for key in IDENTITY}, "recipe": recipe}


def check_same(folder: pathlib.Path, found: dict[str, Any], description: dict[str, Any]) -> None:
    """Raises ValueError where a folder holds a run of another recipe, model or data; warns of other versions."""
    changed = differences(identity(found), identity(description))
    if changed:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds another run. A resume needs the same recipe, model and data; differing: "
            f"{'; '.join(changed)}. Give the same as before, or choose another folder."
        )
    versions = differences(found.get("versions"), description["versions"])
    if versions and found["status"] != COMPLETE:
        warnings.warn(
            f"Resumed with other versions ({'; '.join(versions)}): the end may differ in the last bits.", stacklevel=3
        )


def describe(recipe: Recipe, model: str, data: str, data_dir: Any, dataset: datasets.Dataset) -> dict[str, Any]:
    """Returns what run.json holds from the start."""
    import tensorflow as tf

    from keras_resnet import __version__

    return {
        "status": "running",
        "recipe": recipe.to_dict(),
        "model": model,
        "seed": recipe.train.seed,
        "data": data,
        "data_dir": None if data_dir is None else os.fspath(data_dir),
        "fingerprint": dataset.fingerprint,
        "class_names": list(dataset.class_names),
        "sizes": dataset.sizes,
        "image_shape": list(dataset.image_shape),
        "report": list(dataset.report),
        "versions": {"keras_resnet": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
    }


def new_folder(recipe: Recipe, model: str) -> pathlib.Path:
    """Returns a path under runs/ that is free."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = pathlib.Path("runs") / f"{recipe.name}-{model}-{stamp}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder
