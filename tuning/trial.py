"""A trial of a search, and what a worker is to do next."""

import dataclasses
from typing import Any, Literal, NamedTuple

import filelock

from keras_resnet.errors import BadType

WAITING, RUNNING, COMPLETE, PRUNED, FAILED, INFEASIBLE = (
    "waiting",
    "running",
    "complete",
    "pruned",
    "failed",
    "infeasible",
)
ENDED = (COMPLETE, PRUNED, FAILED, INFEASIBLE)
SCORED = (COMPLETE, PRUNED)
# Exit status of a worker: the search is over; start another one; interrupted.
DONE, ANOTHER, INTERRUPTED = 0, 3, 130


@dataclasses.dataclass
class Trial:
    """One recipe that is tried.

    Attributes:
        id: from "0000" on, in the order of their start.
        values: name -> value of what the search varies, with KerasTuner's own "tuner/..." for rungs.
        status: "waiting", "running", "complete", "pruned" (stopped early), "failed" or "infeasible" (over a limit).
        attempts: how often it was begun.
        worker: who runs or ran it.
        score: the objective in the best epoch by `train.monitor`, whose model is kept.
        epochs: that were trained, with those of the trial that it goes on from.
        parameters: of the model.
        curve: the objective after every epoch.
        seconds: since the worker was free for it; of which `training_seconds` in `training.fit`.
        message: why it failed.
        again: whether it failed for want of space, memory or a device, and is tried again when the search goes on.
    """

    id: str
    values: dict[str, Any]
    status: str = RUNNING
    attempts: int = 0
    worker: str = ""
    score: float | None = None
    epochs: int = 0
    parameters: int | None = None
    curve: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    training_seconds: float = 0.0
    message: str = ""
    again: bool = False

    def __post_init__(self) -> None:
        """Refuses what a search does not write."""

        def are_numbers(*values: Any) -> bool:
            return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)

        fits = (
            isinstance(self.id, str)
            and isinstance(self.values, dict)
            and self.status in (WAITING, RUNNING, *ENDED)
            and all(isinstance(count, int) for count in (self.attempts, self.epochs, self.parameters or 0))
            and isinstance(self.curve, list)
            and all(isinstance(text, str) for text in (self.worker, self.message))
            and are_numbers(*self.curve, self.seconds, self.training_seconds, 0 if self.score is None else self.score)
        )
        if not fits:
            raise BadType(f"{self!r} is not a trial that a search wrote. Allowed is what its record holds. Restore it.")

    @property
    def parent(self) -> str | None:
        """The trial that this one goes on from; None where it starts anew."""
        return self.values.get("tuner/trial_id")


class Assignment(NamedTuple):
    """What a worker is to do next."""

    kind: Literal["trial", "final", "wait", "done"]
    trial: Trial | None = None
    lock: filelock.BaseFileLock | None = None
