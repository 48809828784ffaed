"""The best model of a run, rebuilt from its saved states where its file is missing or damaged."""

import os
import pathlib
import shlex
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_resnet.training.checkpoint import Progress
from keras_resnet.training.monitor import Monitor
from keras_resnet.training.state_file import name_of, newest_first, read_state
from keras_resnet.weights.model_file import is_whole_model


def how_to_rebuild(folder: pathlib.Path) -> str:
    """Returns what to do about a best.keras that is missing or damaged.

    Args:
        folder: of the run.
    """
    if newest_first(folder / "last"):
        again = shlex.join(["keras-resnet", "train", "--out", os.fspath(folder), "--resume"])
        return f"It is made again from the saved states of its run by: {again}"
    return "No saved state is left to make it again. Train it anew, in another folder."


def can_be_rebuilt(folder: pathlib.Path) -> bool:
    """Returns whether the best model of a run is missing or damaged, and states are left.

    Args:
        folder: of the run.
    """
    return not is_whole_model(folder / "best.keras") and bool(newest_first(folder / "last"))


def rebuild_best(
    folder: pathlib.Path,
    progress: Progress,
    monitor: Monitor,
    save: Callable[[dict[str, Any], list[np.ndarray]], None],
) -> None:
    """Makes best.keras again where it is missing or damaged: from the state of its epoch, or the best that is left.

    A warning says so. Where no state of a whole epoch is left, the best is chosen among the epochs to come.

    Args:
        folder: of the run.
        progress: of the run, as its newest state has it.
        monitor: the figure that chooses.
        save: writes best.keras from the description and the values of a state.
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
