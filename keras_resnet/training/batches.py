"""The batches of a run: a dataset as a recipe changes, mixes and weighs it."""

from typing import Any

import numpy as np

from keras_resnet import preprocessing
from keras_resnet.data import Dataset
from keras_resnet.data.examples.operations import changes_of
from keras_resnet.preprocessing.outputs import REGRESSION
from keras_resnet.preprocessing.streams import BatchOperation
from keras_resnet.training.loss import TargetScale
from keras_resnet.training.recipe import Recipe


def training_batches(
    recipe: Recipe, dataset: Dataset, outputs: int, *, start_step: int = 0, size: tuple[int, int] | None = None
) -> Any:
    """Returns infinite training batches of a dataset, changed at random and mixed as the recipe says.

    Args:
        recipe: of the run.
        dataset: from `keras_resnet.data.load`.
        outputs: of the network.
        start_step: the first global step, >= 0.
        size: `(height, width)` of smaller images than the network takes, from `data.stages`; None for whole ones.

    Raises:
        TypeError, ValueError: something is asked for that the examples or the labels cannot have.
    """
    on_host = recipe.augment.augment_on == "host"
    return recipe.data.training_batches(
        dataset,
        recipe.train.batch_size,
        size=size,
        seed=recipe.train.seed,
        start_step=start_step,
        augmentation=_augmentation(recipe, dataset) if on_host else None,
        operations=_operations(recipe, dataset, outputs, size) if on_host else (),
        repeats=recipe.augment.repeats,
    )


def changes_in_step(
    recipe: Recipe, dataset: Dataset, outputs: int, *, size: tuple[int, int] | None = None
) -> preprocessing.Changes | None:
    """Returns the random changes that the training step makes, with `augment_on="device"`; None for nothing.

    Args:
        recipe: of the run.
        dataset: from `keras_resnet.data.load`.
        outputs: of the network.
        size: as for `training_batches`.

    Raises:
        TypeError, ValueError: something is asked for that the examples or the labels cannot have.
    """
    if recipe.augment.augment_on == "host":
        return None
    operations = _operations(recipe, dataset, outputs, size)
    return changes_of(_augmentation(recipe, dataset), operations, dataset.image_shape, recipe.train.seed)


def validation_batches(recipe: Recipe, dataset: Dataset) -> Any:
    """Returns the batches of the validation split, weighted as training weighs them; None where there is no split.

    Args:
        recipe: of the run.
        dataset: from `keras_resnet.data.load`.
    """
    return recipe.data.validation_batches(dataset, recipe.augment.mixes)


def _augmentation(recipe: Recipe, dataset: Dataset) -> preprocessing.Augmentation | None:
    return recipe.augment.build(len(dataset.image_shape) - 1, recipe.data.range_for(dataset))


def _operations(recipe: Recipe, dataset: Dataset, outputs: int, size: tuple[int, int] | None) -> list[BatchOperation]:
    mixing = recipe.augment.mixing(len(dataset.class_names), outputs)
    return [*mixing, *recipe.data.shrinking(dataset, size)]


def target_scale(recipe: Recipe, dataset: Dataset) -> TargetScale | None:
    """Returns mean and standard deviation of the training targets of each output; None where they are not scaled.

    A target that never changes has the scale 1.

    Args:
        recipe: of the run.
        dataset: from `keras_resnet.data.load`.
    """
    labels = dataset.split("train").labels
    if recipe.loss.choice.task != REGRESSION or not recipe.loss.scale_targets or labels is None:
        return None
    targets = np.asarray(labels, "float64").reshape(len(labels), -1)
    spread = targets.std(axis=0)
    scale = np.where(spread > 1e-6 * np.abs(targets).max(axis=0), spread, 1.0)
    return tuple(targets.mean(axis=0).tolist()), tuple(scale.tolist())
