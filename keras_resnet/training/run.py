"""A run that was trained, and one that is only planned."""

import dataclasses
import os
import pathlib
from typing import Any

import keras

from keras_resnet import data as datasets
from keras_resnet import preprocessing
from keras_resnet.errors import BadValue
from keras_resnet.training.experiment import Experiment
from keras_resnet.training.folder import Description, RunFile, how_to_rebuild, read_description
from keras_resnet.training.recipe import Recipe, compare_recipes, list_recipes
from keras_resnet.weights.files import load_model_file


def plan_lines(about: Description) -> list[str]:
    """Returns the plan of a training in a few lines: images, weights, steps, optimizer, precision."""
    recipe, train, optimizer = about.recipe, about.recipe.train, about.recipe.optimizer
    bare = type(recipe.augment)()
    crop = recipe.data.crop
    is_cut = crop == "random" or (crop == "auto" and len(about.image_shape) == 3 and None in about.image_shape)
    changes = ["random resized crops"] * is_cut + [
        _named(field.name, value)
        for field in dataclasses.fields(bare)
        for value in [getattr(recipe.augment, field.name)]
        if value != getattr(bare, field.name)
    ]
    stem = recipe.model.stem if recipe.model.stem != "auto" else "the stem that fits their size"
    base = Recipe.load(recipe.name) if recipe.name in list_recipes() else Recipe()
    differing = [f"{name}={value}" for name, _, value in compare_recipes(base, recipe)]
    distill = recipe.distill
    heat = f"alpha {distill.alpha:g}, temperature {distill.temperature:g}"
    return [
        f"images     {about.input_shape}, {stem if 'stem' in stem else f'stem {stem}'}; "
        f"augmented by {', '.join(changes) or 'nothing'}",
        f"weights    {recipe.model.weights or 'random'}, width {recipe.model.width}",
        f"optimizer  {optimizer.name}, learning rate {optimizer.learning_rate:g} ({recipe.schedule.name}), "
        f"decay {optimizer.weight_decay:g}, {train.precision}",
        *([f"teacher    {distill.teacher}, {distill.kind}, {heat}"] if distill.teacher else []),
        f"changed    {', '.join(differing) or 'nothing'} (of the recipe {recipe.name})",
    ]


def _named(name: str, value: Any) -> str:
    if value is True:
        return name
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _lines(about: Description, where: str) -> list[str]:
    """Returns a human-readable summary."""
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
    """Description of a run, trained or not."""

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
        """Returns a human-readable summary."""
        notes = [f"note       {line}" for line in self.about.report]
        lines = [*_lines(self.about, "planned only, nothing was written"), *plan_lines(self.about)]
        return "\n".join([*lines, *notes])


class Run(_Described):
    """A run in its folder.

    Args:
        path: of the folder.
        file: what run.json holds.
        model: the trained model; None to read best.keras when it is first asked for.
        dataset: the data; None to load it when it is first asked for.

    Attributes: `path`, `about` (what it is), `file` (what run.json holds), `recipe`, `model`, `record` (what the
    network takes), `dataset`, `class_names`, `history` (name -> one value per epoch) and `metrics` ("validation" and
    "test" -> the scores of `evaluation.scores`).
    """

    def __init__(
        self,
        path: pathlib.Path,
        file: RunFile,
        model: keras.Model | None = None,
        dataset: datasets.Dataset | None = None,
    ) -> None:
        self.path = path
        self.file = file
        self.about = file.about
        self.metrics = dict(file.metrics)
        rows = file.history
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
        file = read_description(folder)
        if file is None:
            raise BadValue(
                f"path={os.fspath(path)!r} holds no run: there is no run.json. Allowed is a folder that training made. "
                "Check the path."
            )
        return cls(folder, file)

    @property
    def description(self) -> dict[str, Any]:
        """What run.json holds, as plain values."""
        return self.file.to_dict()

    @property
    def model(self) -> keras.Model:
        """The model of best.keras, from images in [0, 255] to logits."""
        if self._model is None:
            path = self.path / "best.keras"
            if not path.is_file():
                if self.history:
                    raise BadValue(f"{os.fspath(path)!r} does not exist. {how_to_rebuild(self.path)}")
                raise BadValue(
                    f"{os.fspath(path)!r} does not exist: no epoch of this run was finished. A run has a model after "
                    "its first epoch. Train it with resume=True."
                )
            try:
                self._model = load_model_file(path)
            except BadValue as error:
                raise BadValue(f"{error} {how_to_rebuild(self.path)}") from error
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
        elif record.task == loss.task.name and "task" not in record.assumed:
            return record
        return dataclasses.replace(record, task=loss.task.name, activation=loss.activation, assumed=())

    def load_data(self, spec: str | None = None, data_dir: str | os.PathLike | None = None) -> datasets.Dataset:
        """Returns data as this run's recipe wants it: its own, or other data divided into splits alike.

        Args:
            spec: such as "folder:photos"; None for that of the run.
            data_dir: where TFDS finds its prepared data sets; None for that of the run.
        """
        root = self.about.data_dir if data_dir is None else os.fspath(data_dir)
        return self.recipe.data.load(spec or self.about.data, root, self.recipe.loss.choice.task.data_task)

    def __repr__(self) -> str:
        """Returns a human-readable summary."""
        lines = _lines(self.about, str(self.path))
        for split, figures in self.metrics.items():
            values = (f"{name} {value:.4f}" for name, value in figures.items() if isinstance(value, float))
            lines.append(f"{split:<10} {', '.join(values)} ({figures['examples']} examples)")
        lines += [
            f"diverged   at step {rollback.get('optimizer_step')} ({rollback.get('reason')}); learning rates since "
            f"times {rollback['rate_factor']:g}"
            for rollback in self.about.rollbacks
        ]
        return "\n".join(lines)


def describe_run(experiment: Experiment, network: keras.Model | None = None) -> Description:
    """Describes the run, as run.json stores it."""
    import tensorflow as tf

    from keras_resnet import __version__

    dataset = experiment.dataset
    about = Description(
        recipe=experiment.recipe,
        model=experiment.model,
        data=experiment.data,
        data_dir=experiment.data_dir,
        fingerprint=dataset.fingerprint,
        class_names=tuple(dataset.class_names),
        sizes=dict(dataset.sizes),
        image_shape=tuple(dataset.image_shape),
        report=tuple(dataset.report),
        versions={"keras_resnet": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
        steps_per_epoch=experiment.steps_per_epoch,
        weights_sha256="" if experiment.pretrained is None else experiment.pretrained.sha256,
        teacher_sha256="" if experiment.teacher is None else experiment.teacher.sha256,
    )
    if network is None:
        return about
    shape = "x".join(map(str, network.input_shape[1:]))
    return dataclasses.replace(about, parameters=network.count_params(), input_shape=shape)
