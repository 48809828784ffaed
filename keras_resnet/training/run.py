"""A run folder: what is in it, who may write to it, and how it is read."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import keras

from keras_resnet import blocks as blocks  # registers the layers that a saved model holds
from keras_resnet import data as datasets
from keras_resnet import files, preprocessing
from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import Recipe

COMPLETE = "complete"


class Run:
    """A finished or planned run.

    Args:
        path: of the folder; None for a dry run.
        description: what run.json holds.
        model: the trained model; None to read best.keras when it is first asked for.
        dataset: the data; None to load it when it is first asked for.

    Attributes: `path`, `recipe`, `model`, `dataset`, `class_names`, `history` (name -> a value an epoch) and `metrics`
    ("validation" and "test" -> the scores of `evaluation.scores`).
    """

    def __init__(
        self,
        path: pathlib.Path | None,
        description: dict[str, Any],
        model: keras.Model | None = None,
        dataset: datasets.Dataset | None = None,
    ) -> None:
        self.path = path
        self.description = description
        self.recipe = Recipe.from_dict(description["recipe"])
        self.metrics: dict[str, dict[str, Any]] = description.get("metrics", {})
        self.class_names: tuple[str, ...] = tuple(description["class_names"])
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
            path = self._folder / "best.keras"
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
            if dataset.fingerprint != self.description["fingerprint"]:
                raise BadValue(
                    f"data={self.description['data']!r} is not what this run was trained on: its fingerprint changed. "
                    "Scores would mix training and test examples. Restore the files, or name other data."
                )
            self._dataset = dataset
        return self._dataset

    @property
    def record(self) -> preprocessing.InputRecord:
        """What the network takes, as its model carries it; for models of earlier versions, as the run describes it."""
        record = preprocessing.for_model(self.model)
        if not record.assumed:
            return record
        return dataclasses.replace(
            record,
            crop_fraction=datasets.CROP_FRACTION if None in self.description["image_shape"] else None,
            class_names=self.class_names,
            assumed=(),
        )

    def load_data(self, spec: str | None = None, data_dir: str | os.PathLike | None = None) -> datasets.Dataset:
        """Returns data as this run's recipe wants it: its own, or other data divided into splits alike.

        Args:
            spec: such as "folder:photos"; None for that of the run.
            data_dir: where TFDS finds its prepared data sets; None for that of the run.
        """
        root = self.description["data_dir"] if data_dir is None else os.fspath(data_dir)
        return load_data(spec or self.description["data"], root, self.recipe)

    @property
    def _folder(self) -> pathlib.Path:
        if self.path is None:
            raise BadValue("This run was planned with dry_run=True. It has no folder. Train without dry_run.")
        return self.path

    def __repr__(self) -> str:
        """Returns what a person wants to know after training, or before it."""
        about = self.description
        sizes = ", ".join(f"{size} {name}" for name, size in about["sizes"].items())
        lines = [
            f"run        {self.path or 'planned only, nothing was written'}",
            f"model      {about['model']}, {about['parameters']:,} parameters, input {about['input_shape']}",
            f"data       {about['data']}: {sizes}; {len(self.class_names) or 'no'} classes",
            f"recipe     {self.recipe.name}: {self.recipe.train.epochs} epochs of {about['steps_per_epoch']} steps, "
            f"batch {self.recipe.train.batch_size}, seed {self.recipe.train.seed}",
        ]
        for split, figures in self.metrics.items():
            shown = (f"{name} {value:.4f}" for name, value in figures.items() if isinstance(value, float))
            lines.append(f"{split:<10} {', '.join(shown)} ({figures['examples']} examples)")
        return "\n".join(lines)


def load_data(spec: str, data_dir: str | None, recipe: Recipe) -> datasets.Dataset:
    """Returns the dataset as a recipe wants it."""
    task = "regression" if recipe.loss.name == "mean_squared_error" else "classification"
    return datasets.load(
        spec,
        data_dir=data_dir,
        task=task,
        validation_fraction=recipe.data.validation_fraction,
        on_bad_image=recipe.data.on_bad_image,
    )


def read_description(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns what run.json holds, or None where there is none.

    Raises:
        ValueError: the file is not what this package writes.
    """
    path = folder / "run.json"
    if not path.is_file():
        return None
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        description["recipe"], description["class_names"], description["status"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadValue(
            f"{os.fspath(path)!r} cannot be read as a run ({error!r}). Allowed is a file that training wrote. Restore "
            "it, or use another folder."
        ) from error
    return description


def write_description(folder: pathlib.Path, description: dict[str, Any]) -> None:
    """Writes run.json, whole or not at all."""
    files.write_text(folder / "run.json", json.dumps(description, indent=2, ensure_ascii=False) + "\n")


def differences(saved: Any, present: Any, name: str = "") -> list[str]:
    """Returns a line for every value that differs between two nested tables."""
    if isinstance(saved, dict) and isinstance(present, dict):
        keys = sorted({*saved, *present})
        return [
            line
            for key in keys
            for line in differences(saved.get(key), present.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if saved == present else [f"{name}: {saved!r} in the folder, {present!r} now"]


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a run folder against other processes while the block runs; the system frees it when the process ends.

    Raises:
        ValueError: another process holds it.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            raise BadValue(
                f"out={os.fspath(folder)!r} is in use by {holder}. One process may write to a run. Wait for it, or "
                "choose another folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
