"""What resume needs: what has happened in a run, its variables, and the newest whole state among those saved."""

import dataclasses
import os
import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.training.state_file import CheckpointError, newest_first, read_state, row_of


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
        rows: one per epoch, as in history.csv.
        batches: of the epoch after these, that were trained and saved too.
        seconds: that those batches took.
        steps: training batches that this process has run; not saved.
    """

    epochs: int = 0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    stopped: bool = False
    halted: bool = False
    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)
    batches: int = 0
    seconds: float = 0.0
    steps: int = 0

    def to_state(self) -> dict[str, Any]:
        """Returns what a saved state holds of it."""
        names = ("best", "best_epoch", "waited", "stopped")
        return {"epochs": self.epochs, "best": {name: getattr(self, name) for name in names}, "history": self.rows}

    def take(self, state: Mapping[str, Any]) -> None:
        """Takes over what a saved state holds."""
        self.epochs, self.rows = state["epochs"], list(state["history"])
        self.batches, self.seconds = state.get("batches", 0), state.get("seconds", 0.0)
        for name, value in state["best"].items():
            setattr(self, name, value)


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


def _unnumbered(row: tuple[str, ...]) -> tuple[str, ...]:
    return (re.sub(r"_\d+(?=_|$)", "", row[0]), *row[1:])


def read_newest(folder: pathlib.Path) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Returns the newest whole state as `(description, values)`, or None where no epoch was ever committed.

    Raises:
        CheckpointError: there are files, and none is whole.
    """
    paths = newest_first(folder)
    broken: list[str] = []
    for path in paths:
        try:
            description, values = read_state(path)
        except (ValueError, OSError) as error:
            broken.append(f"{os.fspath(path)} ({error})")
            continue
        if broken:
            warnings.warn(
                f"Not usable: {'; '.join(broken)}. Going on from {os.fspath(path)}, after epoch "
                f"{description['epochs']} and {description.get('batches', 0)} batches.",
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
) -> list[np.ndarray]:
    """Puts saved values into the variables of a model, and into `further` ones.

    Returns:
        The values of the metrics of an epoch that was left in its middle, for when it goes on; none after whole epochs.

    Raises:
        CheckpointError: the variables are not those that were saved; nothing is changed then.
    """
    variables = [*state_variables(model), *further]
    count = len(values) - int(description.get("metrics", 0))
    saved = [tuple(row) for row in description["variables"]][:count]
    present = [row_of(variable) for variable in variables]
    # Keras numbers the layers without a name that a process makes: "dense_3" may be "dense_4" the next time.
    if [_unnumbered(row) for row in saved] != [_unnumbered(row) for row in present]:
        differing = [f"{old} is now {new}" for old, new in zip(saved, present, strict=False) if old != new][:3]
        raise CheckpointError(
            f"The saved state has {len(saved)} variables and the model {len(present)}; differing: "
            f"{'; '.join(differing) or 'their number'}. They must be the same. Resume with the code and the versions "
            "that wrote it."
        )
    for variable, value in zip(variables, values[:count], strict=True):
        variable.assign(value)
    return values[count:]
