"""Signs of life: a worker leaves one after its batches, and the supervisor ends a trial that stands still."""

import dataclasses
import json
import pathlib
import statistics
import time
from typing import Any

import keras

from keras_resnet import files

SECONDS = 1.0  # between two signs
STEPS = 100  # of which the usual time is the median
# Nothing shorter than this is a standstill, whatever a step usually takes: validation and saving come between steps.
LEAST_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Sign:
    """The last sign of a worker.

    Attributes:
        trial: its id.
        time: by `time.monotonic`, which all processes of a machine share.
        usual: s that a step usually takes; 0 before the second one.
    """

    trial: str
    time: float
    usual: float

    @classmethod
    def now(cls, trial: str, usual: float) -> "Sign":
        """Returns a sign of this moment.

        Args:
            trial: its id.
            usual: s that a step usually takes.
        """
        return cls(trial, time.monotonic(), usual)

    def write(self, path: pathlib.Path) -> None:
        """Writes this sign, whole or not at all.

        Args:
            path: of the file.
        """
        files.write_text(path, json.dumps(dataclasses.asdict(self)))

    def standstill(self, minutes: float, factor: float) -> str:
        """Returns what to say of a trial that stands still; nothing where it does not.

        Args:
            minutes: after which it does, whatever a step takes; 0 for never.
            factor: after that many times its usual step it does too; 0 for never.
        """
        quiet = time.monotonic() - self.time
        if minutes and quiet > 60 * minutes:
            return f"it stood still for {quiet / 60:.1f} minutes, more than search.stall_minutes={minutes:g}."
        if factor and self.usual and quiet > max(LEAST_SECONDS, factor * self.usual):
            return (
                f"it stood still for {quiet:.0f} s, more than search.stall_factor={factor:g} times its usual step of "
                f"{self.usual:.3g} s."
            )
        return ""


class Heartbeat(keras.callbacks.Callback):
    """Leaves a sign after batches of training and of validation, at most one per second.

    Args:
        path: of the file.
        trial: id of the trial.
    """

    def __init__(self, path: pathlib.Path, trial: str) -> None:
        super().__init__()
        self.path = path
        self.trial = trial
        self._written = self._step = 0.0
        self._taken: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the clock of a step."""
        self._step = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Leaves a sign."""
        self._taken = [*self._taken[-STEPS + 1 :], time.monotonic() - self._step]
        self.beat()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Leaves a sign."""
        self.beat()

    def beat(self) -> None:
        """Leaves a sign, if the last one is a second old."""
        now = time.monotonic()
        if now - self._written < SECONDS:
            return
        self._written = now
        usual = statistics.median(self._taken) if len(self._taken) > 1 else 0.0
        self.leave(Sign(self.trial, now, usual))

    def leave(self, sign: Sign) -> None:
        """Writes a sign where the supervisor reads it.

        Args:
            sign: of now.
        """
        sign.write(self.path)


def read_sign(path: pathlib.Path) -> Sign | None:
    """Returns the last sign in a file; None where there is none.

    Args:
        path: of the file.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        return Sign(str(values["trial"]), float(values["time"]), float(values["usual"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
