"""A run folder on disk: whether it may be used, who holds it, and its run.json."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import shlex
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock
import numpy as np

from keras_resnet import files, locks
from keras_resnet.arguments import check_path
from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import DESCRIPTIVE, Defaults, Recipe
from keras_resnet.training.scoring import Monitor
from keras_resnet.training.state import Progress, name_of, newest_first, read_state
from keras_resnet.weights.files import is_whole_model

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
