"""A run folder on disk: whether it may be used, who holds it, and run.json."""

import contextlib
import datetime
import json
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import filelock

from keras_resnet import files
from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import Recipe

# What a run writes into its folder beside run.json.
RUN_FILES = ("recipe.toml", "history.csv", "best.keras", "final.keras", "curves.png", "confusion.png", "last", "logs")


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


def make_writable(out: str | os.PathLike) -> pathlib.Path:
    """Makes a folder where it is missing, and returns its path.

    Raises:
        ValueError: it cannot be made or written.
    """
    folder = pathlib.Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadValue(
            f"out={os.fspath(out)!r} cannot be written: {error.strerror}. A run needs a folder it may write to. "
            "Choose another one, or change its permissions."
        ) from error
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
