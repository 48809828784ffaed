"""What resume needs, committed at the end of every epoch as one file that appears whole or not at all.

A file is a line with the sha256 of the rest, and the rest: an .npz of every variable, in order, and one JSON text.
HDF5, which Keras writes, has no check of its own: most flipped bits load in silence as wrong weights.
"""

import dataclasses
import io
import json
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import files
from keras_resnet.errors import BadValue

MAGIC = b"keras_resnet state 1 "
KEPT = 2


@dataclasses.dataclass
class Progress:
    """What has happened in a run, up to the end of its last whole epoch.

    Attributes:
        epochs: that were finished and saved.
        best: the best figure so far, by which the best model is kept.
        best_epoch: in which it was reached, 1-based.
        waited: epochs since then.
        stopped: no better one came for as long as the recipe waits.
        halted: whoever follows the run asked it to stop; it can go on.
        rows: one an epoch, as in history.csv.
        steps: training batches that this process has run; not saved.
    """

    epochs: int = 0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    stopped: bool = False
    halted: bool = False
    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)
    steps: int = 0

    def to_state(self) -> dict[str, Any]:
        """Returns what a saved state holds of it."""
        names = ("best", "best_epoch", "waited", "stopped")
        return {"epochs": self.epochs, "best": {name: getattr(self, name) for name in names}, "history": self.rows}

    def take(self, state: Mapping[str, Any]) -> None:
        """Takes over what a saved state holds."""
        self.epochs, self.rows = state["epochs"], list(state["history"])
        for name, value in state["best"].items():
            setattr(self, name, value)


class CheckpointError(BadValue):
    """No saved state can be used."""


class SaveState(keras.callbacks.Callback):
    """Commits the state at the end of every epoch; the last of the callbacks that change anything.

    Args:
        folder: `last/` of the run.
        progress: of the run; part of the state.
        identity: what must be the same for a resume.
        further: variables beside those of the model, such as averages of its weights.
    """

    def __init__(
        self, folder: pathlib.Path, progress: Progress, identity: dict[str, Any], further: Sequence[Any] = ()
    ) -> None:
        super().__init__()
        self.further = further
        self.folder = folder
        self.progress = progress
        self.identity = identity

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the new state, then removes all but the newest two."""
        state = {**self.progress.to_state(), "epochs": epoch + 1, "identity": self.identity}
        payload = _pack([*state_variables(self.model), *self.further], state)
        files.write_checked(self.folder / f"epoch-{epoch + 1:06d}.state", MAGIC, payload)
        self.progress.epochs = epoch + 1
        for old in _newest_first(self.folder)[KEPT:]:
            old.unlink(missing_ok=True)


def state_variables(model: keras.Model) -> list[Any]:
    """Returns every variable that training changes: weights, moving statistics, seed generators, optimizer.

    Metrics are left out: they start anew with every epoch.

    Args:
        model: compiled, with a built optimizer.
    """
    of_metrics = {id(variable) for variable in model.metrics_variables}
    variables = [variable for variable in model.variables if id(variable) not in of_metrics]
    seen = {id(variable) for variable in variables}
    return variables + [variable for variable in model.optimizer.variables if id(variable) not in seen]


def read_newest(folder: pathlib.Path) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Returns the newest whole state as `(description, values)`, or None where no epoch was ever committed.

    Raises:
        CheckpointError: there are files, and none is whole.
    """
    paths = _newest_first(folder)
    broken: list[str] = []
    for path in paths:
        try:
            description, values = _unpack(path.read_bytes())
        except (ValueError, OSError) as error:
            broken.append(f"{os.fspath(path)} ({error})")
            continue
        if broken:
            warnings.warn(
                f"Not usable: {'; '.join(broken)}. Going on from {os.fspath(path)}, after epoch "
                f"{description['epochs']}.",
                stacklevel=2,
            )
        return description, values
    if not paths:
        return None
    raise CheckpointError(
        f"No saved state is whole: {'; '.join(broken)}. A resume needs one. Start again in another folder; best.keras "
        "in this one may still be good."
    )


def restore(
    model: keras.Model, description: dict[str, Any], values: list[np.ndarray], further: Sequence[Any] = ()
) -> None:
    """Puts saved values into the variables of a model, and into `further` ones.

    Raises:
        CheckpointError: the variables are not those that were saved; nothing is changed then.
    """
    variables = [*state_variables(model), *further]
    saved = [tuple(row) for row in description["variables"]]
    present = [_row(variable) for variable in variables]
    if saved != present:
        differing = [f"{old} is now {new}" for old, new in zip(saved, present, strict=False) if old != new][:3]
        raise CheckpointError(
            f"The saved state has {len(saved)} variables and the model {len(present)}; differing: "
            f"{'; '.join(differing) or 'their number'}. They must be the same. Resume with the code and the versions "
            "that wrote it."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _row(variable: Any) -> tuple[str, str, str]:
    # The path leaves out the number that Keras gives to the second optimizer or layer of a process.
    return (variable.name, str(tuple(variable.shape)), str(variable.dtype))


def _pack(variables: list[Any], description: dict[str, Any]) -> bytes:
    values = {f"{index:06d}": keras.ops.convert_to_numpy(variable) for index, variable in enumerate(variables)}
    for variable, value in zip(variables, values.values(), strict=True):
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise CheckpointError(
                f"The variable {variable.path!r} is not finite after the epoch. Such a state is never saved; earlier "
                "files are as they were. Lower optimizer.learning_rate."
            )
    text = json.dumps({**description, "variables": [_row(variable) for variable in variables]})
    buffer = io.BytesIO()
    np.savez(buffer, description=np.frombuffer(text.encode(), "uint8"), **values)
    return buffer.getvalue()


def _unpack(content: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    with np.load(io.BytesIO(files.verify_payload(content, MAGIC)), allow_pickle=False) as arrays:
        description = json.loads(arrays["description"].tobytes())
        return description, [arrays[name] for name in sorted(set(arrays.files) - {"description"})]


def _newest_first(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.glob("epoch-*.state"), reverse=True)
