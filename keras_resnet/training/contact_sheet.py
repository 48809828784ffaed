"""What training sees: a contact sheet of examples after their random changes."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from keras_resnet import data as datasets
from keras_resnet import files
from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue
from keras_resnet.training.defaults import resolve
from keras_resnet.training.inputs import Augment
from keras_resnet.training.plots import draw_examples
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.setup import Setup

COLUMNS = 8


def preview(
    recipe: Recipe | str | os.PathLike = "quick",
    *,
    data: str | datasets.Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
    out: str | os.PathLike,
    count: int = 40,
    seed: int | None = None,
    overrides: Any = None,
) -> pathlib.Path:
    """Draws the first training examples as a recipe changes them: the very ones that `fit` would see first.

    Above them stand the same examples unchanged, where the batch holds as many. Mixed labels are written with their
    shares.

    Args:
        recipe: a `Recipe`, a name from `list_recipes()`, or a TOML file.
        data: a spec, or a loaded dataset; by default what the recipe was made for, else "digits".
        data_dir: where TFDS finds its prepared data sets.
        out: a PNG file; an older one that this package wrote is replaced.
        count: examples at most.
        seed: of order and changes; None for the recipe's.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.

    Returns:
        The path of the picture.

    Raises:
        TypeError, ValueError: an argument or the data is not fit for training, or `out` is not a PNG file that may be
            written.
    """
    check_int("count", count)
    path = pathlib.Path(out).expanduser()
    if path.suffix != ".png":
        raise BadValue(f"out={os.fspath(out)!r} is not a PNG file. Expected a path such as grid.png.")
    files.check_parent(path)
    files.check_replaceable(path)
    setup = resolve(recipe, data=data, data_dir=data_dir, seed=seed, overrides=overrides)
    plan = setup.recipe.replace({"augment.augment_on": "host"})
    count = min(count, plan.train.batch_size)
    with datasets.explain_decode_errors(setup.dataset):
        shown, labels = _first_examples(setup.for_recipe(plan), count)
        bare = dataclasses.replace(plan, augment=Augment(repeats=plan.augment.repeats))
        plain, _ = _first_examples(setup.for_recipe(bare), count)
    titles = [_title(label, setup.dataset.class_names) for label in labels]
    files.write_atomically(path, lambda where: draw_examples(plain, shown, titles, COLUMNS, where))
    return path


def _first_examples(setup: Setup, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first examples and their labels, pictures in [0, 255]."""
    images, labels, *_ = next(iter(setup.training_batches(size=setup.stages[0][1]).take(1)))
    pictures = setup.record.to_bytes(np.asarray(images, dtype="float32")[:count])
    return pictures, np.asarray(labels)[:count]


def _title(label: Any, names: tuple[str, ...]) -> str:
    """Returns a class, the shares of mixed classes, or regression targets."""
    if not names:
        return ", ".join(f"{value:.3g}" for value in np.atleast_1d(label))
    if np.ndim(label) == 0:
        return names[int(label)]
    order = np.argsort(-label)
    return " + ".join(f"{label[index]:.0%} {names[index]}" for index in order[:2] if label[index] > 0.005)
