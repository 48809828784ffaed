"""What a run is to be: the arguments of `fit` resolved, held against what its folder says, and its first network."""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet import data as datasets
from keras_resnet import models, preprocessing
from keras_resnet.errors import BadValue
from keras_resnet.training.batches import changes_in_step, target_scale
from keras_resnet.training.progress import COMPLETE, Description, differences, earlier_recipe
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.sections import DESCRIPTIVE
from keras_resnet.training.sharpness import SharpnessAware

DEFAULTS: dict[str, Any] = {"recipe": "quick", "model": "resnet18", "data": "digits", "data_dir": None}


def made_for(recipe: Recipe, has_data: bool) -> dict[str, str]:
    """Returns the model, the data and the folder of data that a recipe names; nothing for what it does not.

    Args:
        recipe: that a run or a search may have made.
        has_data: whether other data were given, whose folder the recipe does not know.
    """
    named = dataclasses.asdict(recipe.defaults)
    return {name: value for name, value in named.items() if value and not (has_data and name == "data_dir")}


def fill_in(
    given: Mapping[str, Any],
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    found: Mapping[str, Any] | None = None,
) -> tuple[Recipe, dict[str, Any]]:
    """Returns the recipe, and model, data and folder of data: as given, else as the run has them, else by default.

    A run that goes on has its own; a recipe that a run or a search made names those that it was made for.

    Args:
        given: the arguments "recipe", "model", "data" and "data_dir"; None, or missing, for what was not given.
        seed: for the recipe; None for its own.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.
        found: what run.json of a run that goes on holds, or None.
    """
    known = dict(DEFAULTS) if found is None else {**found, "recipe": earlier_recipe(found["recipe"])}
    recipe = known["recipe"] if given.get("recipe") is None else given["recipe"]
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    recipe = recipe.replace({**(overrides or {}), **({} if seed is None else {"train.seed": seed})})
    if found is None:
        known |= made_for(recipe, given.get("data") is not None)
    names = ("model", "data", "data_dir")
    return recipe, {name: known[name] if given.get(name) is None else given[name] for name in names}


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


def loaded(
    recipe: Recipe, data: str | datasets.Dataset, data_dir: str | os.PathLike | None
) -> tuple[Recipe, str, str | None, datasets.Dataset]:
    """Returns the recipe, spec and folder with absolute paths, and the data as the recipe wants it.

    Loaded data stay as they are, and the recipe says how they were loaded.
    """
    if isinstance(data, datasets.Dataset):
        return recipe.replace(recipe.data.loaded_as(data)), *anchored(data.spec, data_dir), data
    spec, root = anchored(str(data), data_dir)
    return recipe, spec, root, recipe.data.load(spec, root, recipe.loss.choice.task)


def described(recipe: Recipe, model: str, spec: str, root: str | None, dataset: datasets.Dataset) -> Description:
    """Returns what a run of these is, without what its network adds."""
    import tensorflow as tf

    from keras_resnet import __version__

    return Description(
        recipe=recipe,
        model=model,
        data=spec,
        data_dir=root,
        fingerprint=dataset.fingerprint,
        class_names=tuple(dataset.class_names),
        sizes=dict(dataset.sizes),
        image_shape=tuple(dataset.image_shape),
        report=tuple(dataset.report),
        versions={"keras_resnet": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
    )


def with_defaults(identity: dict[str, Any]) -> dict[str, Any]:
    """Returns the identity of a run of an earlier version with the recipe fields that it did not know."""
    recipe = earlier_recipe(identity["recipe"]).to_dict()
    return {**identity, "recipe": {key: value for key, value in recipe.items() if key not in DESCRIPTIVE}}


def check_same(folder: pathlib.Path, found: dict[str, Any], about: Description) -> None:
    """Raises ValueError where a folder holds a run of another recipe, model or data; warns of other versions."""
    earlier = Description.from_dict(found)
    changed = differences(earlier.identity(), about.identity())
    if changed:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds another run. A resume needs the same recipe, model and data; differing: "
            f"{'; '.join(changed)}. Give the same as before, or choose another folder."
        )
    versions = differences(dict(earlier.versions), dict(about.versions))
    if versions and found["status"] != COMPLETE:
        warnings.warn(
            f"Resumed with other versions ({'; '.join(versions)}): the end may differ in the last bits.", stacklevel=3
        )


def first_network(recipe: Recipe, model: str, dataset: datasets.Dataset, model_class: type[keras.Model]) -> keras.Model:
    """Returns the network of a recipe for a dataset, with its first weights."""
    dataset.steps_per_epoch(recipe.train.batch_size)  # which refuses a batch larger than the split
    outputs = recipe.loss.outputs(dataset.spec, dataset.num_outputs)
    # What the examples or the labels cannot have is refused here, before a folder is made.
    recipe.augment.build(len(dataset.image_shape) - 1, recipe.data.range_for(dataset))
    recipe.augment.mixing(len(dataset.class_names), outputs)
    recipe.data.class_weights(dataset, recipe.augment.mixes)
    recipe.monitor(dataset.class_names)
    precision = recipe.train.precision
    normalization = recipe.data.normalization_for(dataset, precision, recipe.loss.choice.activation)
    targets = target_scale(recipe, dataset)
    network = recipe.model.build(model, recipe.data.shape_for(dataset), outputs, normalization, precision, targets)
    if recipe.train.recompute:
        models.recompute(network)
    recipe.data.stages(network.input_shape[1:], recipe.train.epochs)
    # After the network: layers of an augmentation draw seeds too, and first weights are the same on either place.
    changes = changes_in_step(recipe, dataset, outputs)
    if recipe.optimizer.sam_radius:
        if model_class is not keras.Model:
            raise BadValue(
                f"optimizer.sam_radius={recipe.optimizer.sam_radius} was given with model_class="
                f"{model_class.__name__}. Both have a training step of their own. Leave one of them out."
            )
        model_class = SharpnessAware
    if changes is not None:
        model_class = preprocessing.in_step(model_class)  # type: ignore[arg-type]  # mypy: type[Any] has no hash
    if model_class is keras.Model:
        return network
    own = model_class(network.input, network.output, name=network.name)
    own.dtype_policy = network.dtype_policy
    if isinstance(own, SharpnessAware):
        own.radius = recipe.optimizer.sam_radius
    if changes is not None:
        own.changes = changes
    return own
