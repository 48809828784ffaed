"""A run folder on disk: what its run is, whether it may be used, who holds it, and run.json."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import socket
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import filelock

from keras_resnet import files
from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.sections import DESCRIPTIVE, Defaults

# What a run writes into its folder beside run.json.
RUN_FILES = ("recipe.toml", "history.csv", "best.keras", "final.keras", "curves.png", "confusion.png", "last", "logs")


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

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**plain, "recipe": self.recipe.to_dict(), "seed": self.recipe.train.seed}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Description":
        """Returns what `to_dict` made plain; fields that an earlier version did not know take their defaults."""
        names = {field.name for field in dataclasses.fields(cls)}
        known: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in names
        }
        return cls(**{**known, "recipe": earlier_recipe(values["recipe"])})

    def recipe_for_others(self) -> Recipe:
        """Returns the recipe with the model and the data that it was used for, as files hold it."""
        defaults = Defaults(model=self.model, data=self.data, data_dir=self.data_dir or "")
        return dataclasses.replace(self.recipe, defaults=defaults)

    def identity(self) -> dict[str, Any]:
        """Returns what a run has in common with itself when it goes on; what its recipe says of itself may change."""
        recipe = {key: value for key, value in self.recipe.to_dict().items() if key not in DESCRIPTIVE}
        return {**{name: getattr(self, name) for name in IDENTITY}, "recipe": recipe}


# What runs did whose recipe lacks the field: versions before it was there.
EARLIER = {"data": {"apply_exif": False}}


def earlier_recipe(tables: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of a run or a search that may be older than some of its fields.

    Args:
        tables: as `Recipe.to_dict` of that version made them.
    """
    known = {title: {**EARLIER.get(title, {}), **tables[title]} for title in EARLIER if title in tables}
    return Recipe.from_dict({**tables, **known})


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


def with_defaults(identity: dict[str, Any]) -> dict[str, Any]:
    """Returns the identity of a run of an earlier version with the recipe fields that it did not know."""
    recipe = earlier_recipe(identity["recipe"]).to_dict()
    return {**identity, "recipe": {key: value for key, value in recipe.items() if key not in DESCRIPTIVE}}


EPOCHS = "recipe.train.epochs: "


def check_same(folder: pathlib.Path, found: dict[str, Any], about: Description) -> Description:
    """Returns the run that goes on, with more epochs than before where they are asked for; warns of other versions.

    Raises:
        ValueError: the folder holds a run of another recipe, model or data, or one that cannot be extended.
    """
    earlier = Description.from_dict(found)
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
    if versions and found["status"] != COMPLETE:
        warnings.warn(
            f"Resumed with other versions ({'; '.join(versions)}): the end may differ in the last bits.", stacklevel=3
        )
    return about


def _check_longer(folder: pathlib.Path, found: dict[str, Any], earlier: Description, about: Description) -> None:
    """Raises ValueError where a run cannot be given another number of epochs."""
    planned, asked = earlier.recipe.train.epochs, about.recipe.train.epochs
    run = f"out={os.fspath(folder)!r} holds a run of {planned} epochs"
    if asked < planned:
        raise BadValue(
            f"{run}, and {asked} were asked for. A run that goes on may have as many or more. Ask for more, or start "
            "a shorter one in another folder."
        )
    trained = found.get("epochs_trained", planned)
    if found["status"] == COMPLETE and trained < planned:
        raise BadValue(
            f"{run} that stopped early after {trained} of them: train.early_stopping_patience="
            f"{earlier.recipe.train.early_stopping_patience}. More epochs would not change it. Start another run with "
            "more patience, in another folder."
        )


def check_folder(folder: pathlib.Path | None, resume: bool) -> dict[str, Any] | None:
    """Returns what run.json in the folder holds, if anything; refuses a folder that must not be written to."""
    if folder is None or not folder.exists():
        return None
    if not folder.is_dir():
        raise BadValue(f"out={os.fspath(folder)!r} is a file. A run needs a folder. Choose another path.")
    found = read_description(folder)
    if found is None:
        files.check_folder_free(folder, RUN_FILES)
    if found is not None and not resume:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds a run already ({found['status']}). A new run needs a folder of its own. "
            "Choose another, or go on with it: resume=True, on the command line --resume."
        )
    return found


def new_folder(recipe: Recipe, model: str) -> pathlib.Path:
    """Returns a path under runs/ that is free."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = pathlib.Path("runs") / f"{recipe.name}-{model}-{stamp}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


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


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a run folder against other processes while the block runs; the system frees it when the process ends.

    Raises:
        ValueError: another process holds it.
    """
    # Who holds it stands beside the lock, because taking a lock empties its file.
    note = folder / ".lock-holder"
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder = note.read_text(encoding="utf-8") if note.is_file() else "another process"
        raise BadValue(
            f"out={os.fspath(folder)!r} is in use by {holder}. One process may write to a run. Wait for it, or "
            "choose another folder."
        ) from None
    try:
        note.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()
