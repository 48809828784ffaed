"""Arguments that were not given: taken from the run in its folder, from the recipe, or by default."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from keras_resnet import data as datasets
from keras_resnet import models
from keras_resnet.arguments import choose
from keras_resnet.data import Dataset
from keras_resnet.distribution import Group
from keras_resnet.tasks import REGRESSION
from keras_resnet.training.folder import RunFile
from keras_resnet.training.network import SMALL_SIDE_PX
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.setup import Setup

# Training examples below which a network from scratch needs small batches, a strong decay and many epochs.
FEW_EXAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Rule:
    """A recipe and when it is taken.

    Attributes:
        recipe: its name.
        fits: whether it is for a data set, whose examples the network takes with this shape.
        reason: told when it is taken.
    """

    recipe: str
    fits: Callable[[Dataset, tuple[int, ...]], bool]
    reason: str


def _is_small(dataset: Dataset, shape: tuple[int, ...]) -> bool:
    """Returns True for small color images; gray ones are often characters, which mean another when they are flipped."""
    *space, channels = shape
    return len(space) == 2 and channels == 3 and max(space) < SMALL_SIDE_PX


RULES = (
    Rule("quick", lambda dataset, shape: dataset.spec == "digits", "it was made for these digits"),
    Rule("regression", lambda dataset, shape: dataset.task == REGRESSION.name, "the labels are numbers"),
    Rule("signals", lambda dataset, shape: len(shape) == 2, "the examples are signals"),
    Rule("volumes", lambda dataset, shape: len(shape) == 4, "the examples are volumes"),
    Rule(
        "few-images",
        lambda dataset, shape: _is_small(dataset, shape) and dataset.sizes["train"] < FEW_EXAMPLES,
        f"there are fewer than {FEW_EXAMPLES:,} color images to train on, of less than {SMALL_SIDE_PX} px",
    ),
    Rule("cifar", _is_small, f"the images have colors and less than {SMALL_SIDE_PX} px"),
)


def recipe_for(dataset: Dataset, shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Returns the name of the recipe for a data set and the reason; None where no rule fits.

    Args:
        dataset: that is trained on, with random first weights.
        shape: `(*space, channels)` of what the network takes.
    """
    return next(((rule.recipe, rule.reason) for rule in RULES if rule.fits(dataset, shape)), None)


# The recipe for weights where none is named: a rate for random weights would destroy them.
FOR_WEIGHTS = "finetune"
DEFAULTS: dict[str, Any] = {"recipe": "quick", "model": "resnet18", "data": "digits", "data_dir": None}


def defaults_of(recipe: Recipe, has_data: bool) -> dict[str, str]:
    """Returns the model, the data and the folder of data that a recipe names; nothing for what it does not.

    Args:
        recipe: that a run or a search may have made.
        has_data: whether other data were given, whose folder the recipe does not know.
    """
    values = dataclasses.asdict(recipe.defaults)
    return {name: value for name, value in values.items() if value and not (has_data and name == "data_dir")}


def fill_from_run(
    given: Mapping[str, Any],
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    run_file: RunFile | None = None,
) -> tuple[Recipe, dict[str, Any]]:
    """Returns the recipe, and model, data and folder of data: as given, else as the run has them, else by default.

    A run that goes on has its own; a recipe that a run or a search made names those that it was made for.

    Args:
        given: the arguments "recipe", "model", "data" and "data_dir"; None, or missing, for what was not given.
        seed: for the recipe; None for its own.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.
        run_file: what run.json of a run that goes on holds, or None.
    """
    defaults = dict(DEFAULTS) if run_file is None else {name: getattr(run_file.about, name) for name in DEFAULTS}
    if run_file is None and (overrides or {}).get("model.weights"):
        defaults["recipe"] = FOR_WEIGHTS
    recipe = defaults["recipe"] if given.get("recipe") is None else given["recipe"]
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    recipe = recipe.replace({**(overrides or {}), **({} if seed is None else {"train.seed": seed})})
    if run_file is None:
        defaults |= defaults_of(recipe, given.get("data") is not None)
    names = ("model", "data", "data_dir")
    return recipe, {name: defaults[name] if given.get(name) is None else given[name] for name in names}


def absolute_spec(spec: str, data_dir: str | os.PathLike | None) -> tuple[str, str | None]:
    """Returns spec and folder of data with absolute paths, so that a run finds its data from any working directory.

    Args:
        spec: such as "digits" or "folder:photos".
        data_dir: the root of relative paths in the spec, or None for the working directory.
    """
    spec = datasets.with_source(spec, data_dir)
    source, _, path = spec.partition(":")
    if data_dir is not None:
        return spec, os.path.abspath(os.path.expanduser(data_dir))
    if source in ("folder", "csv", "npz", "wds", "hf") and path:
        return f"{source}:{os.path.abspath(os.path.expanduser(path))}", None
    return spec, None


def resolve(
    recipe: Recipe | str | os.PathLike | None = None,
    *,
    model: str | None = None,
    data: str | datasets.Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    run_file: RunFile | None = None,
    group: Group | None = None,
) -> Setup:
    """Returns everything that a training is made of, checked.

    Args:
        recipe: a `Recipe`, a name from `list_recipes()`, or a TOML file; by default what fits the data
            (`keras_resnet.training.defaults.RULES`), with weights "finetune".
        model: a name from `keras_resnet.list_models()`; by default what the recipe was made for, else "resnet18".
        data: a spec, or a loaded dataset; by default what the recipe was made for, else "digits".
        data_dir: where TFDS finds its prepared data sets.
        seed: of weights, order and augmentation; None for the recipe's.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.
        run_file: what run.json of a run that goes on holds, whose recipe, model and data are taken; None for a new run.
        group: the processes that train together; None for one alone.

    Raises:
        TypeError, ValueError: an argument or the data is not fit for training.
    """
    arguments = {"recipe": recipe, "model": model, "data": data, "data_dir": data_dir}
    recipe, asked = fill_from_run(arguments, seed, overrides, run_file)
    model = choose("model", asked["model"], {name: name for name in models.VARIANTS})
    data, root = asked["data"], asked["data_dir"]
    if isinstance(data, datasets.Dataset):
        spec, root = absolute_spec(data.spec, root)
        return Setup.of(recipe, data, model, spec, root, group)
    spec, root = absolute_spec(str(data), root)
    dataset = recipe.data.load(spec, root, recipe.loss.choice.task.name)
    if arguments["recipe"] is None and run_file is None and recipe.name == DEFAULTS["recipe"]:
        recipe, dataset = _fitting(recipe, dataset, root, partial(fill_from_run, seed=seed, overrides=overrides))
    return Setup.of(recipe, dataset, model, spec, root, group)


def _fitting(
    recipe: Recipe, dataset: datasets.Dataset, root: str | None, fill: Callable[..., tuple[Recipe, Any]]
) -> tuple[Recipe, datasets.Dataset]:
    """Returns the recipe that fits the data, where none was named, and the data as it takes them."""
    choice = recipe_for(dataset, recipe.data.shape_for(dataset))
    if choice is None or choice[0] == recipe.name:
        return recipe, dataset
    name, reason = choice
    fitting, _ = fill({"recipe": name})
    if fitting.data.load_options() != recipe.data.load_options():
        dataset = fitting.data.load(dataset.spec, root, dataset.task)
    dataset.report.append(f"recipe {name}, because {reason}; --recipe names another")
    return fitting, dataset
