"""A run folder on disk: whether it may be used, who holds it, and its run.json."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import socket
import warnings
from collections.abc import Iterator

import filelock

from keras_resnet import files, locks
from keras_resnet.arguments import check_path
from keras_resnet.errors import BadValue
from keras_resnet.training.description import COMPLETE, Description, RunFile, differences
from keras_resnet.training.recipe import Recipe

# What a run writes into its folder beside run.json.
RUN_FILES = ("recipe.toml", "history.csv", "best.keras", "final.keras", "curves.png", "confusion.png", "last", "logs")


EPOCHS = "recipe.train.epochs: "


def check_same(folder: pathlib.Path, found: RunFile, about: Description) -> Description:
    """Returns the run that goes on, with more epochs than before where they are asked for; warns of other versions.

    Raises:
        ValueError: the folder holds a run of another recipe, model or data, or one that cannot be extended.
    """
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
    trained = planned if found.epochs_trained is None else found.epochs_trained
    if found.status == COMPLETE and trained < planned:
        raise BadValue(
            f"{run} that stopped early after {trained} of them: train.early_stopping_patience="
            f"{earlier.recipe.train.early_stopping_patience}. More epochs would not change it. Start another run with "
            "more patience, in another folder."
        )


def check_folder(folder: pathlib.Path | None, resume: bool) -> RunFile | None:
    """Returns what run.json in the folder holds, if anything; refuses a folder that must not be written to."""
    check_path("out", folder)
    if folder is None or not folder.exists():
        return None
    if not folder.is_dir():
        raise BadValue(f"out={os.fspath(folder)!r} is a file. A run needs a folder. Choose another path.")
    found = read_description(folder)
    if found is None:
        files.check_folder_free(folder, RUN_FILES)
    if found is not None and not resume:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds a run already ({found.status}). A new run needs a folder of its own. "
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


def read_description(folder: pathlib.Path) -> RunFile | None:
    """Returns what run.json holds, or None where there is none.

    Raises:
        ValueError: the file is not what this package writes.
    """
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
    """Holds a run folder against other processes while the block runs; the system frees it when the process ends.

    Raises:
        ValueError: another process holds it.
    """
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
