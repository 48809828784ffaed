"""The record of a search on disk: who runs which trial, what came out, and what KerasTuner's oracle knows.

Workers, on one machine or on several that share the folder, take trials and hand in results under a lock; nothing
listens on a port. A trial that is running is held by its own lock, which the system frees when its process ends,
however it ends: what is called running and held by nobody goes back into the queue."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import filelock
import keras_tuner
from keras_tuner.engine import trial as kt_trial

from keras_resnet import files, locks, training
from keras_resnet.errors import BadType, BadValue
from keras_resnet.tuning.definition import Definition, make_oracle, restore_state, state_of

MAGIC = b"keras_resnet search 1 "
LOCK_SECONDS = 60


class RecordFile:
    """A record of plain values in the folder of a search, changed by one process at a time."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.file = path / "search.json"
        self.previous = path / "search.previous.json"

    @property
    def exists(self) -> bool:
        """Whether there is a record, whole or not."""
        return self.file.exists() or self.previous.exists()

    def read(self) -> dict[str, Any]:
        """Returns the record; that before it, with a warning, where the newest is damaged."""
        broken = []
        for path in (self.file, self.previous):
            try:
                record = _parse(path.read_bytes())
            except (OSError, ValueError) as error:
                broken.append(f"{path.name} ({error})")
                continue
            if broken:
                warnings.warn(
                    f"Not usable: {broken[0]}. Going on from {path.name}: a trial may be run again.", stacklevel=2
                )
            return record
        if not self.exists:
            raise BadValue(f"{str(self.path)!r} holds no search: there is no search.json. Check the path.")
        raise BadValue(
            f"The record of the search in {str(self.path)!r} cannot be read: {'; '.join(broken)}. A search goes on "
            "from a whole one. Start again in another folder; the runs under trials/ may still be good."
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from changing the record while the block runs."""
        try:
            lock = locks.acquire(self.path / "search.lock", LOCK_SECONDS)
        except filelock.Timeout:
            raise BadValue(
                f"The record in {str(self.path)!r} was held by another process for {LOCK_SECONDS} s. Each change takes "
                "less than a second. Look for a process that hangs, and go on with resume=True."
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yields the record, and writes it afterwards where the block changed it."""
        with self.locked():
            record = self.read()
            before = json.dumps(record)
            yield record
            if json.dumps(record) != before:
                self.write(record)

    def write(self, record: dict[str, Any]) -> None:
        """Writes the record, and keeps the one before it."""
        record["written"] = time.time()
        text = json.dumps(record, indent=1)
        if self.file.exists():
            with contextlib.suppress(ValueError, OSError):
                before = self.file.read_bytes()
                _parse(before)  # a damaged one never takes the place of a good one
                files.write_atomically(self.previous, lambda path: path.write_bytes(before))
        files.write_checked(self.file, MAGIC, text.encode())


def _parse(content: bytes) -> dict[str, Any]:
    # Earlier versions wrote an end of line that their sha256 leaves out.
    return json.loads(files.verify_payload(content.removesuffix(b"\n"), MAGIC))


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


class Ledger:
    """The record of a search, in the folder `path`; every method reads it anew, and writes it whole."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.record = RecordFile(path)

    def create(self, definition: Definition) -> None:
        """Writes the record of a search that has not begun."""
        (self.path / "owners").mkdir(exist_ok=True)
        (self.path / "trials").mkdir(exist_ok=True)
        with self.record.locked():
            self.record.write(
                {
                    "definition": definition.to_dict(),
                    "facts": None,
                    "oracle": None,
                    "trials": [],
                    "stopped": None,
                    "final": None,
                }
            )

    def read(self) -> tuple[dict[str, Any], Definition, list[Trial]]:
        """Returns the record, checked, with the definition of the search and its trials in the order of their start."""
        record = self.record.read()
        try:
            definition = Definition.from_dict(record["definition"])
            trials = [Trial(**row) for row in record["trials"]]
            for trial in trials:
                for dimension in definition.space:
                    if dimension.name in trial.values:
                        dimension.check_within(trial.values[dimension.name])
            for final in [*record.get("earlier_finals", []), *filter(None, [record["final"]])]:
                if not isinstance((final.get("test") or {"examples": 0})["examples"], int):
                    raise BadType(f"a final score has {final['test']['examples']!r} examples.")
            for name, kinds in {"facts": dict, "stopped": str, "oracle": dict}.items():
                if not isinstance(record[name], (kinds, type(None))):
                    raise BadType(f"its {name} are {record[name]!r}.")
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise BadValue(
                f"The record in {os.fspath(self.path)!r} is not one that a search wrote ({type(error).__name__}: "
                f"{error}). Take the folder from whom you trust, or begin another search."
            ) from error
        return record, definition, trials

    @property
    def definition(self) -> Definition:
        """What the search is."""
        return self.read()[1]

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of their start."""
        return self.read()[2]

    def folder_of(self, trial_id: str) -> pathlib.Path:
        """Returns the run folder of a trial."""
        if not re.fullmatch(r"[\w-]{1,64}", trial_id, re.ASCII):
            raise BadValue(
                f"The record in {os.fspath(self.path)!r} names a trial {trial_id!r}. Allowed are letters, digits and "
                "signs of a name. Take the folder from whom you trust."
            )
        return self.path / "trials" / trial_id

    def settle_facts(self, facts: dict[str, Any]) -> list[str]:
        """Writes what was found out about the data, and drops dimensions that such data does not have.

        Returns:
            What differs from the facts that an earlier worker found, a line each; empty for the first.
        """
        with self.record.changing() as record:
            if record["facts"] is not None:
                return training.differences(record["facts"], facts)
            record["facts"] = facts
            if len(facts["image_shape"]) != 3:
                rows = record["definition"]["space"]
                record["definition"]["space"] = [row for row in rows if not row[0].startswith("augment.")]
        return []

    def take(self, worker: str) -> Assignment:
        """Takes the next thing to do.

        Returns:
            A "trial" or the "final" training, whose lock is to be released afterwards; "wait" while others run what
            decides how to go on; or "done".
        """
        with self.record.changing() as record:
            self._reclaim(record)
            if record["stopped"] or record["final"]:
                return Assignment("done")
            waiting = [row for row in record["trials"] if row["status"] == WAITING]
            row = min(waiting, key=lambda row: row["id"]) if waiting else self._new(record)
            if isinstance(row, dict):
                lock = self._owner(row["id"])
                if not lock:  # someone who has not let go yet
                    return Assignment("wait")
                row.update(status=RUNNING, worker=worker, attempts=row["attempts"] + 1)
                return Assignment("trial", Trial(**row), lock)
            if row == "wait" or any(row["status"] == RUNNING for row in record["trials"]):
                return Assignment("wait")
            lock = self._owner("final")
            return Assignment("final", None, lock) if lock else Assignment("wait")

    def _new(self, record: dict[str, Any]) -> dict[str, Any] | str:
        definition = Definition.from_dict(record["definition"])
        if len(record["trials"]) >= definition.trials:
            return "none"
        oracle = self._oracle(record, definition)
        with warnings.catch_warnings():
            # Of the Gaussian process, about a length scale at its bound.
            warnings.filterwarnings("ignore", message="The optimal value found for dimension")
            trial = oracle.create_trial(f"trial {len(record['trials'])}")
        if trial.status == kt_trial.TrialStatus.IDLE:
            return "wait"
        if trial.status == kt_trial.TrialStatus.STOPPED:
            return "none"
        record["oracle"] = state_of(definition.algorithm, oracle)
        row = dataclasses.asdict(Trial(trial.trial_id, trial.hyperparameters.values))
        record["trials"].append(row)
        return row

    def end(self, trial: Trial) -> None:
        """Writes what came out of a trial; enough failures in a row stop the search for everyone."""
        with self.record.changing() as record:
            self._end(record, trial)

    def _end(self, record: dict[str, Any], trial: Trial) -> None:
        definition = Definition.from_dict(record["definition"])
        oracle = self._oracle(record, definition)
        ended = oracle.trials[trial.id]
        ended.status = kt_trial.TrialStatus.COMPLETED if trial.status in SCORED else kt_trial.TrialStatus.FAILED
        if trial.status in SCORED:
            ended.metrics.register(definition.metric, direction=definition.direction)
            ended.metrics.update(definition.metric, trial.score, step=trial.epochs)
        oracle.end_trial(ended)
        index = next(index for index, row in enumerate(record["trials"]) if row["id"] == trial.id)
        record["trials"][index] = dataclasses.asdict(trial)
        record["oracle"] = state_of(definition.algorithm, oracle)
        record["ended"] = [*record.get("ended", []), trial.id]
        statuses = {row["id"]: row["status"] for row in record["trials"]}
        recent = [key for key in record["ended"] if statuses[key] != INFEASIBLE][-definition.settings.max_failures :]
        if len(recent) == definition.settings.max_failures and all(statuses[key] == FAILED for key in recent):
            record["stopped"] = (
                f"{len(recent)} trials in a row failed, the last one, {trial.id}: {trial.message} "
                "A search needs trials that can be trained. Mend the cause, then go on with resume=True."
            )

    def release(self, trial: Trial) -> None:
        """Puts a trial that was interrupted back into the queue; the attempt does not count."""
        with self.record.changing() as record:
            for row in record["trials"]:
                if row["id"] == trial.id:
                    row.update(status=WAITING, attempts=max(row["attempts"] - 1, 0))

    def reclaim(self) -> None:
        """Puts trials back into the queue whose process is gone; those that were begun too often have failed."""
        with self.record.changing() as record:
            self._reclaim(record)

    def _reclaim(self, record: dict[str, Any]) -> None:
        most = record["definition"]["settings"]["max_retries"] + 1
        for row in record["trials"]:
            if row["status"] != RUNNING:
                continue
            lock = self._owner(row["id"])
            if not lock:
                continue
            if row["attempts"] >= most:
                message = f"its process ended in {row['attempts']} attempts: killed, out of memory, or a crash."
                self._end(record, Trial(**{**row, "status": FAILED, "message": message}))
            else:
                row["status"] = WAITING
            lock.release()

    def stop(self, reason: str) -> None:
        """Tells every worker to stop, and why."""
        with self.record.changing() as record:
            record["stopped"] = record["stopped"] or reason

    def resume(self, trials: int) -> None:
        """Lets a search that was stopped or is over go on; failures are counted anew."""
        with self.record.changing() as record:
            about = record["definition"]
            if trials > about["trials"]:
                if record["final"] and about["algorithm"] == "hyperband" and about["settings"]["keep"] != "all":
                    raise BadValue(
                        f"The Hyperband search in {str(self.path)!r} is over, and the states that further trials would "
                        "go on from were removed. It can be extended before its end, or with search.keep=all from its "
                        "beginning. Start another search, with best.toml as search.recipe."
                    )
                about["trials"] = trials
                record["earlier_finals"] = [*record.get("earlier_finals", []), *filter(None, [record["final"]])]
                record["final"] = None
            if record["stopped"]:
                record["stopped"], record["ended"] = None, []
            self._try_again(record)

    def _try_again(self, record: dict[str, Any]) -> None:
        """Puts trials back into the queue that failed for want of space, memory or a device."""
        rows = [row for row in record["trials"] if row["status"] == FAILED and row.get("again")]
        if not rows:
            return
        if record["final"]:
            record["earlier_finals"] = [*record.get("earlier_finals", []), record["final"]]
            record["final"] = None
        oracle = record["oracle"]
        for row in rows:
            row.update(status=WAITING, attempts=0, message="", again=False)
            record["ended"] = [key for key in record.get("ended", []) if key != row["id"]]
            oracle["end_order"] = [key for key in oracle["end_order"] if key != row["id"]]
            oracle["ongoing_trials"][f"again {row['id']}"] = row["id"]

    def fail(self, worker: str, trial_id: str, message: str, kill: Callable[[], None]) -> None:
        """Ends a trial that stands still."""
        with self.record.changing() as record:
            for row in record["trials"]:
                if (row["id"], row["worker"], row["status"]) == (trial_id, worker, RUNNING):
                    kill()
                    self._end(record, Trial(**{**row, "status": FAILED, "message": message}))
                    return

    def finish(self, final: dict[str, Any]) -> None:
        """Writes what the winner scored."""
        with self.record.changing() as record:
            record["final"] = final

    def _oracle(self, record: dict[str, Any], definition: Definition) -> Any:
        """Returns KerasTuner's oracle as the record has it."""
        hyperparameters = keras_tuner.HyperParameters()
        definition.space.declare(hyperparameters, definition.recipe, definition.model)
        oracle = make_oracle(
            definition.algorithm,
            trials=definition.trials,
            epochs=definition.recipe.train.epochs,
            factor=definition.settings.factor,
            seed=definition.seed,
            objective=definition.metric,
            direction=definition.direction,
            hyperparameters=hyperparameters,
        )
        statuses = {WAITING: "RUNNING", RUNNING: "RUNNING", COMPLETE: "COMPLETED", PRUNED: "COMPLETED"}
        for row in record["trials"]:
            values = hyperparameters.copy()
            values.values = dict(row["values"])
            trial = kt_trial.Trial(values, trial_id=row["id"], status=statuses.get(row["status"], "FAILED"))
            trial.score, trial.best_step = row["score"], row["epochs"]
            oracle.trials[row["id"]] = trial
        if record["oracle"] is not None:
            restore_state(definition.algorithm, oracle, record["oracle"])
        return oracle

    def _owner(self, name: str) -> filelock.BaseFileLock | None:
        """Returns the lock of a trial, held; None where another process holds it."""
        try:
            return locks.acquire(self.path / "owners" / f"{name}.lock", timeout=0)
        except filelock.Timeout:
            return None
