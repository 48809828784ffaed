"""`verify`: whether a published folder is whole, and whether the figure on its card holds for data."""

import dataclasses
import os
import pathlib
from typing import Any

from keras_resnet import evaluation
from keras_resnet.data import Dataset
from keras_resnet.errors import BadValue
from keras_resnet.publishing.card import split_of, with_interval
from keras_resnet.publishing.folder import MANIFEST, MODEL, RECIPE, differences, manifest
from keras_resnet.publishing.hub import download
from keras_resnet.tasks import TASKS
from keras_resnet.training import Recipe
from keras_resnet.training.experiment import absolute_spec
from keras_resnet.weights.sources import HUB


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        where: the folder.
        figure: name of the figure that was compared.
        published: its value on the card, with its interval.
        measured: its value on the data, with its interval.
        holds: whether the two intervals overlap.
    """

    where: str
    figure: str
    published: dict[str, Any]
    measured: dict[str, Any]
    holds: bool

    def __str__(self) -> str:
        """Returns a human-readable summary."""
        words = "holds" if self.holds else "does NOT hold: the two intervals do not overlap"
        return "\n".join(
            [
                f"{self.where}: every file is the one that was published",
                f"published  {self.figure} {with_interval(self.published, self.figure)}",
                f"measured   {self.figure} {with_interval(self.measured, self.figure)} "
                f"({self.measured['examples']:,} examples)",
                f"The figure {words}.",
            ]
        )


def verify(where: str | os.PathLike, data: str, *, data_dir: str | os.PathLike | None = None) -> Verification:
    """Checks the sha256 of every file of a published folder, and scores its model again.

    Args:
        where: a folder that `publish` wrote, or "hf://ORG/NAME" (needs the extra `hub`).
        data: a spec. Of the data of the training the split of the card is scored, which the recipe draws again; of
            others the test split, or all where there is none.
        data_dir: where TFDS finds its prepared data sets.

    Raises:
        ValueError: a file is missing or another one, or the data do not fit the model.

    Example:
        >>> from keras_resnet import publishing
        >>> publishing.verify("nowhere", "digits")
        Traceback (most recent call last):
        ...
        keras_resnet.errors.BadValue: where='nowhere' holds no keras_resnet.json. ...
    """
    text = os.fspath(where)
    folder = download(text) if text.startswith(HUB) else pathlib.Path(text).expanduser()
    changed = differences(folder)
    if changed == [MANIFEST]:
        raise BadValue(f"where={text!r} holds no {MANIFEST}. Allowed is a folder that `publish` wrote. Check the path.")
    if changed:
        raise BadValue(
            f"where={text!r} holds other files than were published: {', '.join(changed)} is missing or was changed. "
            "Fetch the folder again."
        )
    facts = manifest(folder)
    split = split_of(facts)
    published = facts["scores"][split]
    name = TASKS[facts["task"]].paired[0]
    own = _own_data(folder, data, data_dir)
    if own is not None and own.fingerprint == facts["fingerprint"]:
        # Of the data that it was trained on, the examples that it was not trained on.
        measured = evaluation.evaluate(folder / MODEL, own, split=split, intervals=True)
    else:
        measured = evaluation.evaluate(folder / MODEL, data, data_dir=data_dir, intervals=True)
    low, high = (_interval(figures, name) for figures in (published, measured))
    return Verification(text, name, published, measured, low[0] <= high[1] and high[0] <= low[1])


def _own_data(folder: pathlib.Path, data: str, data_dir: str | os.PathLike | None) -> Dataset | None:
    """Returns the data divided into splits as for the training; None where they are of another kind."""
    recipe = Recipe.load(folder / RECIPE)
    try:
        spec, root = absolute_spec(data, data_dir)
        return recipe.data.load(spec, root, recipe.loss.choice.task.data_task)
    except BadValue:
        return None


def _interval(figures: dict[str, Any], name: str) -> tuple[float, float]:
    low, high = figures.get(f"{name}_interval") or (figures[name], figures[name])
    return float(low), float(high)
