"""A run that was trained, and one that is only planned."""

import dataclasses
import os
import pathlib
from typing import Any

import keras

from keras_resnet import blocks as blocks  # registers the layers that a saved model holds
from keras_resnet import data as datasets
from keras_resnet import preprocessing
from keras_resnet.errors import BadValue
from keras_resnet.training.folder import Description, read_description
from keras_resnet.training.recipe import Recipe


def _lines(about: Description, where: str) -> list[str]:
    """Returns what a person wants to know of a run before training."""
    sizes = ", ".join(f"{size} {name}" for name, size in about.sizes.items())
    train = about.recipe.train
    return [
        f"run        {where}",
        f"model      {about.model}, {about.parameters:,} parameters, input {about.input_shape}",
        f"data       {about.data}: {sizes}; {len(about.class_names) or 'no'} classes",
        f"recipe     {about.recipe.name}: {train.epochs} epochs of {about.steps_per_epoch} steps, "
        f"batch {train.batch_size}, seed {train.seed}",
    ]


class _Described:
    """What a run says of itself, trained or not."""

    about: Description

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.about.recipe

    @property
    def class_names(self) -> tuple[str, ...]:
        """One per class; empty for a regression."""
        return self.about.class_names


@dataclasses.dataclass(frozen=True)
class PlannedRun(_Described):
    """A run that was checked and built, and not trained: nothing was written.

    Attributes:
        about: what it would be.
        model: the network, with its first weights.
        dataset: the data.
        path: None, since there is no folder.
    """

    about: Description
    model: keras.Model
    dataset: datasets.Dataset
    path: None = None

    def __str__(self) -> str:
        """Returns what a person wants to know before training."""
        notes = [f"note       {line}" for line in self.about.report]
        return "\n".join([*_lines(self.about, "planned only, nothing was written"), *notes])


class Run(_Described):
    """A run in its folder.

    Args:
        path: of the folder.
        description: what run.json holds.
        model: the trained model; None to read best.keras when it is first asked for.
        dataset: the data; None to load it when it is first asked for.

    Attributes: `path`, `about` (what it is), `recipe`, `model`, `record` (what the network takes), `dataset`,
    `class_names`, `history` (name -> one value per epoch) and `metrics` ("validation" and "test" -> the scores of
    `evaluation.scores`).
    """

    def __init__(
        self,
        path: pathlib.Path,
        description: dict[str, Any],
        model: keras.Model | None = None,
        dataset: datasets.Dataset | None = None,
    ) -> None:
        self.path = path
        self.description = description
        self.about = Description.from_dict(description)
        self.metrics: dict[str, dict[str, Any]] = description.get("metrics", {})
        rows = description.get("history", [])
        self.history: dict[str, list[float]] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        self._model = model
        self._dataset = dataset

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Run":
        """Reads a run folder.

        Args:
            path: of the folder.

        Raises:
            ValueError: the folder holds no run.
        """
        folder = pathlib.Path(path).expanduser()
        description = read_description(folder)
        if description is None:
            raise BadValue(
                f"path={os.fspath(path)!r} holds no run: there is no run.json. Allowed is a folder that training made. "
                "Check the path."
            )
        return cls(folder, description)

    @property
    def model(self) -> keras.Model:
        """The model of best.keras: images in [0, 255] to logits."""
        if self._model is None:
            path = self.path / "best.keras"
            if not path.is_file():
                raise BadValue(
                    f"{os.fspath(path)!r} does not exist: no epoch of this run was finished. A run has a model after "
                    "its first epoch. Train it with resume=True."
                )
            self._model = keras.saving.load_model(path, compile=False)
        return self._model

    @property
    def dataset(self) -> datasets.Dataset:
        """The data of the run, checked against the fingerprint that the run was made with."""
        if self._dataset is None:
            dataset = self.load_data()
            if dataset.fingerprint != self.about.fingerprint:
                raise BadValue(
                    f"data={self.about.data!r} is not what this run was trained on: its fingerprint changed. "
                    "Scores would mix training and test examples. Restore the files, or name other data."
                )
            self._dataset = dataset
        return self._dataset

    @property
    def record(self) -> preprocessing.InputRecord:
        """What the network takes, as its model carries it; for models of earlier versions, as the run describes it."""
        record, loss = preprocessing.for_model(self.model), self.recipe.loss.choice
        if "class_names" in record.assumed:
            crop_fraction = datasets.CROP_FRACTION if None in self.about.image_shape else None
            record = dataclasses.replace(record, crop_fraction=crop_fraction, class_names=self.class_names)
        elif record.task == loss.task and "task" not in record.assumed:
            return record
        return dataclasses.replace(record, task=loss.task, activation=loss.activation, assumed=())

    def load_data(self, spec: str | None = None, data_dir: str | os.PathLike | None = None) -> datasets.Dataset:
        """Returns data as this run's recipe wants it: its own, or other data divided into splits alike.

        Args:
            spec: such as "folder:photos"; None for that of the run.
            data_dir: where TFDS finds its prepared data sets; None for that of the run.
        """
        root = self.about.data_dir if data_dir is None else os.fspath(data_dir)
        return self.recipe.data.load(spec or self.about.data, root, self.recipe.loss.choice.task)

    def __repr__(self) -> str:
        """Returns what a person wants to know after training."""
        lines = _lines(self.about, str(self.path))
        for split, figures in self.metrics.items():
            shown = (f"{name} {value:.4f}" for name, value in figures.items() if isinstance(value, float))
            lines.append(f"{split:<10} {', '.join(shown)} ({figures['examples']} examples)")
        return "\n".join(lines)
