"""A run: what it is, its folder on disk, who holds it, and its run.json."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import shlex
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import filelock
import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import files, locks, preprocessing
from keras_resnet.arguments import check_path
from keras_resnet.distribution import Group
from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import DESCRIPTIVE, Defaults, Recipe, compare_recipes, list_recipes
from keras_resnet.training.scoring import Monitor
from keras_resnet.training.state import Progress, name_of, newest_first, read_state
from keras_resnet.weights.files import is_whole_model, load_model_file

COMPLETE, RUNNING, STOPPED = "complete", "running", "stopped"
# What must be the same for a resumed run to end as an uninterrupted one.
IDENTITY = ("recipe", "model", "data", "fingerprint")


@dataclasses.dataclass(frozen=True)
class Description:
    """What a run is, known before its first step.

    Attributes:
        recipe: how it is trained.
        model: name of the variant.
        data: spec, with absolute paths.
        data_dir: root of prepared data sets, or None.
        fingerprint: of the data.
        class_names: one per class; empty for a regression.
        sizes: examples of each split.
        image_shape: `(*space, channels)` of the data, None where sizes differ.
        report: what was noticed about the data.
        versions: of the packages that compute.
        parameters: of the network.
        input_shape: of the network, such as "32x32x3".
        steps_per_epoch: training batches per epoch.
        extended: numbers of epochs that were planned before more were asked for.
        weights_sha256: of the file of weights that it began with; empty for random ones.
        teacher_sha256: of the file of its teacher; empty without one.
        rollbacks: each time that it diverged and went back: reason, step, rate, and the factor of the rates after.
    """

    recipe: Recipe
    model: str
    data: str
    data_dir: str | None
    fingerprint: str
    class_names: tuple[str, ...]
    sizes: Mapping[str, int]
    image_shape: tuple[int | None, ...]
    report: tuple[str, ...] = ()
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parameters: int = 0
    input_shape: str = ""
    steps_per_epoch: int = 0
    extended: tuple[int, ...] = ()
    weights_sha256: str = ""
    teacher_sha256: str = ""
    rollbacks: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**plain, "recipe": self.recipe.to_dict(), "seed": self.recipe.train.seed}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Description":
        """Builds the object from the values of `to_dict`; fields unknown to earlier versions take defaults."""
        names = {field.name for field in dataclasses.fields(cls)}
        fields: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in names
        }
        return cls(**{**fields, "recipe": earlier_recipe(values["recipe"])})

    def recipe_for_others(self) -> Recipe:
        """Returns the recipe with the model and the data that it was used for, as files hold it."""
        defaults = Defaults(model=self.model, data=self.data, data_dir=self.data_dir or "")
        return dataclasses.replace(self.recipe, defaults=defaults)

    def identity(self) -> dict[str, Any]:
        """Returns the settings that must not change on resume; title, notice and source of the recipe may."""
        # Wherever the file of the teacher is, its content counts.
        recipe = dataclasses.replace(
            self.recipe, distill=dataclasses.replace(self.recipe.distill, teacher=self.teacher_sha256)
        )
        return {**{name: getattr(self, name) for name in IDENTITY}, "recipe": _identity_of(recipe)}


# What runs did whose recipe lacks the field: versions before it was there.
EARLIER = {"data": {"apply_exif": False}}


def earlier_recipe(tables: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of a run or a search that may be older than some of its fields."""
    sections = {title: {**EARLIER.get(title, {}), **tables[title]} for title in EARLIER if title in tables}
    return Recipe.from_dict({**tables, **sections})


def differences(saved: Any, present: Any, name: str = "") -> list[str]:
    """Returns a line for every value that differs between two nested tables.

    Args:
        saved: as a folder has it.
        present: as it is now.
        name: of the tables, before the names of their keys.
    """
    if isinstance(saved, dict) and isinstance(present, dict):
        keys = sorted({*saved, *present})
        return [
            line
            for key in keys
            for line in differences(saved.get(key), present.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if saved == present else [f"{name}: {saved!r} in the folder, {present!r} now"]


# Fields of [train] that leave the weights of a run as they are, as long as it does not diverge.
OF_STATES = ("save_every", "keep_states", "on_divergence")


def with_defaults(identity: dict[str, Any]) -> dict[str, Any]:
    """Returns the identity of a run of an earlier version with the recipe fields that it did not know."""
    return {**identity, "recipe": _identity_of(earlier_recipe(identity["recipe"]))}


def _identity_of(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings that must be equal: not title and source of the recipe, save intervals or processes."""
    tables = {key: value for key, value in recipe.to_dict().items() if key not in DESCRIPTIVE}
    return {
        **tables,
        "train": {key: value for key, value in tables["train"].items() if key not in OF_STATES},
        # How many processes train may change; what their batch norms see may not.
        "distribution": {"synchronize_norms": recipe.distribution.synchronize_norms},
    }


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _table_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _is_history(value: Any) -> bool:
    return _list_of(_table_of(_or_none(_is_number)))(value) and all(row.keys() == value[0].keys() for row in value)


def _are_scores(value: Any) -> bool:
    return _table_of(lambda figures: isinstance(figures, dict) and _is_count(figures.get("examples")))(value)


def _is_rollback(value: Any) -> bool:
    factor: Any = value.get("rate_factor") if isinstance(value, dict) else None
    return _is_number(factor) and 0 < factor <= 1


# Field of run.json -> its check, and what is allowed.
STRINGS, COUNT = (_list_of(_is_string), "a list of strings"), (_is_count, "a whole number >= 0")
TEXT, MAYBE_COUNT = (_is_string, "a string"), (_or_none(_is_count), "a whole number >= 0, or null")
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "status": (lambda value: value in (COMPLETE, RUNNING, STOPPED), f"{COMPLETE!r}, {RUNNING!r} or {STOPPED!r}"),
    "recipe": (_table_of(lambda _: True), "a table"),
    "model": TEXT,
    "data": TEXT,
    "data_dir": (_or_none(_is_string), "a string, or null"),
    "fingerprint": TEXT,
    "class_names": STRINGS,
    "sizes": (_table_of(_is_count), "a table of whole numbers"),
    "image_shape": (_list_of(_or_none(_is_count)), "a list of whole numbers or null"),
    "report": STRINGS,
    "versions": (_table_of(_is_string), "a table of strings"),
    "parameters": COUNT,
    "input_shape": TEXT,
    "steps_per_epoch": COUNT,
    "weights_sha256": TEXT,
    "teacher_sha256": TEXT,
    "rollbacks": (_list_of(_is_rollback), "a list of tables with a rate_factor above 0 and up to 1"),
    "extended": (_list_of(_is_count), "a list of whole numbers"),
    "epochs_trained": MAYBE_COUNT,
    "best_epoch": MAYBE_COUNT,
    "optimizer_steps": MAYBE_COUNT,
    "skipped_steps": MAYBE_COUNT,
    "metrics": (_are_scores, "a table of scores, each with its number of examples"),
    "history": (_is_history, "a list of tables of numbers with the same names"),
}
# Fields of run.json in earlier versions -> their names now.
RENAMED = {"setbacks": "rollbacks"}
NEEDED = ("status", "recipe", "model", "data", "data_dir", "fingerprint", "class_names", "sizes", "image_shape")


@dataclasses.dataclass(frozen=True)
class RunFile:
    """What run.json holds.

    Attributes:
        about: what the run is.
        status: `COMPLETE`, `RUNNING` or `STOPPED`.
        epochs_trained: fewer than planned where the run stopped early; None while it runs.
        best_epoch: whose model is in best.keras, 1-based.
        optimizer_steps: that were taken.
        skipped_steps: whose 16-bit gradients overflowed.
        metrics: split -> its scores.
        history: a row per epoch, name -> value.
    """

    about: Description
    status: str
    epochs_trained: int | None = None
    best_epoch: int | None = None
    optimizer_steps: int | None = None
    skipped_steps: int | None = None
    metrics: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        own = {name: getattr(self, name) for name in OUTCOME}
        fields = {name: value for name, value in own.items() if value is not None}
        rows = [dict(row) for row in self.history]
        return {"status": self.status, **self.about.to_dict(), **fields, "history": rows}

    @classmethod
    def from_dict(cls, values: Any) -> "RunFile":
        """Builds the object from the plain values of `to_dict`."""
        if not isinstance(values, dict):
            raise BadValue("it is not a table.")
        values = {RENAMED.get(name, name): value for name, value in values.items()}
        missing = [name for name in NEEDED if name not in values]
        if missing:
            raise BadValue(f"it lacks {', '.join(missing)}.")
        for name, (check, allowed) in CHECKS.items():
            if name in values and not check(values[name]):
                raise BadValue(f"{name} is {str(values[name])[:60]!r}, and must be {allowed}.")
        own = {name: values[name] for name in OUTCOME if name in values}
        own["history"] = tuple(own.get("history", ()))
        return cls(Description.from_dict(values), values["status"], **own)


OUTCOME = tuple(field.name for field in dataclasses.fields(RunFile) if field.name not in ("about", "status"))


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
        *(["rounds     kernels and feature maps to 8 bits"] if recipe.quantize.int8 else []),
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


# What a run writes into its folder beside run.json.
RUN_FILES = ("recipe.toml", "history.csv", "best.keras", "final.keras", "curves.png", "confusion.png", "last", "logs")
EPOCHS = "recipe.train.epochs: "


def check_same(folder: pathlib.Path, found: RunFile, about: Description) -> Description:
    """Returns the run that goes on, with more epochs than before where they are asked for; warns of other versions."""
    earlier = found.about
    changed = differences(earlier.identity(), about.identity())
    if changed and all(line.startswith(EPOCHS) for line in changed):
        _check_longer(folder, found, earlier, about)
        about, changed = dataclasses.replace(about, extended=(*earlier.extended, earlier.recipe.train.epochs)), []
    else:
        about = dataclasses.replace(about, extended=earlier.extended)
    if changed:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds another run. A resume needs the same recipe, model and data; differing: "
            f"{'; '.join(changed)}. Give the same as before, or choose another folder."
        )
    versions = differences(dict(earlier.versions), dict(about.versions))
    if versions and found.status != COMPLETE:
        warnings.warn(
            f"Resumed with other versions ({'; '.join(versions)}): the end may differ in the last bits.", stacklevel=3
        )
    return about


def _check_longer(folder: pathlib.Path, found: RunFile, earlier: Description, about: Description) -> None:
    """Raises ValueError where a run cannot be given another number of epochs."""
    planned, asked = earlier.recipe.train.epochs, about.recipe.train.epochs
    run = f"out={os.fspath(folder)!r} holds a run of {planned} epochs"
    if asked < planned:
        raise BadValue(
            f"{run}, and {asked} were asked for. A run that goes on may have as many or more. Ask for more, or start "
            "a shorter one in another folder."
        )
    done = planned if found.epochs_trained is None else found.epochs_trained
    if found.status == COMPLETE and done < planned:
        raise BadValue(
            f"{run} that stopped early after {done} of them: train.early_stopping_patience="
            f"{earlier.recipe.train.early_stopping_patience}. More epochs would not change it. Start another run with "
            "more patience, in another folder."
        )


def check_folder(folder: pathlib.Path | None, resume: bool) -> RunFile | None:
    """Reads run.json of the folder, if there is one; refuses a folder that must not be written to."""
    check_path("out", folder)
    if folder is None or not folder.exists():
        return None
    if not folder.is_dir():
        raise BadValue(f"out={os.fspath(folder)!r} is a file. A run needs a folder. Choose another path.")
    description = read_description(folder)
    if description is None:
        files.check_folder_free(folder, RUN_FILES)
    if description is not None and not resume:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds a run already ({description.status}). A new run needs its own folder. "
            "Choose another, or go on with it: resume=True, on the command line --resume."
        )
    return description


def new_folder(recipe: Recipe, model: str) -> pathlib.Path:
    """Returns a path under runs/ that is free."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = pathlib.Path("runs") / f"{recipe.name}-{model}-{stamp}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def read_description(folder: pathlib.Path) -> RunFile | None:
    """Reads run.json; None if there is none."""
    path = folder / "run.json"
    if not path.is_file():
        return None
    try:
        return RunFile.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError, OSError) as error:
        raise BadValue(
            f"{os.fspath(path)!r} cannot be read as a run: {error} Allowed is a file that training wrote. Restore it, "
            "or use another folder."
        ) from error


def write_description(folder: pathlib.Path, file: RunFile) -> None:
    """Writes run.json, whole or not at all."""
    files.write_text(folder / "run.json", json.dumps(file.to_dict(), indent=2, ensure_ascii=False) + "\n")


HOLDER = "process "  # with which the note of who holds a folder begins


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a run folder against other processes while the block runs; the system frees it when the process ends."""
    files.check_no_links(folder, (".lock", ".held", ".lock-holder", "run.json", *RUN_FILES))
    # Who holds it stands beside the lock, because taking a lock empties its file.
    note = folder / ".lock-holder"
    if note.exists() and not note.read_bytes().startswith(HOLDER.encode()):
        raise BadValue(
            f"{os.fspath(note)!r} exists, and keras_resnet did not write it. It would be replaced by who trains here. "
            "Move it away."
        )
    try:
        lock = locks.acquire(folder / ".lock", timeout=0)
    except filelock.Timeout:
        holder = note.read_text(encoding="utf-8") if note.is_file() else "another process"
        raise BadValue(
            f"out={os.fspath(folder)!r} is in use by {holder}. One process may write to a run. Wait for it, or "
            "choose another folder."
        ) from None
    try:
        files.write_text(note, f"{HOLDER}{os.getpid()} on {socket.gethostname()}")
        files.remove_unfinished(folder, ("run.json", *RUN_FILES))
        files.remove_unfinished(folder / "last", ("epoch-*",))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def how_to_rebuild(folder: pathlib.Path) -> str:
    """Returns the repair for a best.keras that is missing or damaged."""
    if newest_first(folder / "last"):
        again = shlex.join(["keras-resnet", "train", "--out", os.fspath(folder), "--resume"])
        return f"It is made again from the saved states of its run by: {again}"
    return "No saved state is left to make it again. Train it anew, in another folder."


def can_be_rebuilt(folder: pathlib.Path) -> bool:
    """Returns whether the best model of a run is missing or damaged, and states are left."""
    return not is_whole_model(folder / "best.keras") and bool(newest_first(folder / "last"))


def rebuild_best(
    folder: pathlib.Path,
    progress: Progress,
    monitor: Monitor,
    save: Callable[[dict[str, Any], list[np.ndarray]], None],
) -> None:
    """Makes best.keras again where it is missing or damaged: from the state of its epoch, or the best that is left.

    A warning says so. Where no state of a whole epoch is left, the best is chosen among the epochs to come.
    """
    path = folder / "best.keras"
    if progress.best_epoch is None or is_whole_model(path):
        return
    what = f"{os.fspath(path)!r} is missing or damaged"
    states = {state.stem: state for state in newest_first(folder / "last")}  # of either format
    rows = sorted(progress.rows, key=monitor.value, reverse=monitor.direction == "max")
    for row in rows:
        epoch = int(row["epoch"])
        state = states.get(pathlib.Path(name_of(epoch)).stem)
        if state is None:
            continue
        try:
            saved, values = read_state(state)
        except (ValueError, OSError):
            continue
        save(saved, values)
        best = "" if epoch == progress.best_epoch else f"; the state of the best, epoch {progress.best_epoch}, is gone"
        progress.best, progress.best_epoch = monitor.value(row), epoch
        warnings.warn(f"{what}. It is made again from {os.fspath(state)!r}{best}.", stacklevel=2)
        return
    warnings.warn(
        f"{what}, and no state of a whole epoch is left. The best of the epochs to come is kept.", stacklevel=2
    )
    progress.best = progress.best_epoch = None
    progress.waited = 0


def check_all_same(group: Group, identity: Mapping[str, Any]) -> None:
    """Raises ValueError, in every process, where one would train another run than the first."""

    def compare(first: str, other: str) -> str:
        lines = differences(json.loads(first), json.loads(other))
        return "; ".join(lines).replace(" in the folder, ", " in the first, ").replace(" now", " in this one")

    settings = {name: value for name, value in identity.items() if name != "data"}
    group.check_same(json.dumps(settings, sort_keys=True), "a run", compare)


def find_together(group: Group, check: Callable[[], RunFile | None]) -> RunFile | None:
    """Checks the folder of the run in the first process, and returns the result in all."""

    def find() -> str:
        result = check()
        return "" if result is None else json.dumps(result.to_dict())

    text = group.from_first(find)
    return RunFile.from_dict(json.loads(text)) if text else None


@contextlib.contextmanager
def working_folder(
    group: Group, hold: Callable[[], contextlib.AbstractContextManager[pathlib.Path]]
) -> Iterator[pathlib.Path]:
    """Gives the first process the folder of the run, and the others one for the time, with the files to go on from.

    The folder of the run need not be there on the machines of the others.
    """
    with contextlib.ExitStack() as stack:
        other = partial(tempfile.TemporaryDirectory, prefix="keras_resnet-", ignore_cleanup_errors=True)
        mine: Any = hold() if group.is_first else other()
        folder = pathlib.Path(group.together(lambda: stack.enter_context(mine)))
        states = [f"last/{path.name}" for path in newest_first(folder / "last")]
        names = [name for name in ("run.json", "best.keras", *states) if (folder / name).is_file()]
        group.send_files(folder, names)
        yield folder
