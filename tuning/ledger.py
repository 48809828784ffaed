"""The record of a search on disk: who runs which trial, what came out, and what KerasTuner's oracle knows.

Workers, on one machine or on several that share the folder, take trials and hand in results under a lock; nothing
listens on a port. A trial that is running is held by a lock of its own, which the system frees when its process ends,
however it ends: what is called running and held by nobody goes back into the queue.
"""

import dataclasses
import os
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import filelock
import keras_tuner
from keras_tuner.engine import trial as kt_trial

from keras_resnet import locks, training
from keras_resnet.errors import BadType, BadValue
from keras_resnet.tuning.algorithms import make_oracle, restore_state, state_of
from keras_resnet.tuning.definition import Definition
from keras_resnet.tuning.record import RecordFile
from keras_resnet.tuning.trial import COMPLETE, FAILED, INFEASIBLE, PRUNED, RUNNING, SCORED, WAITING, Assignment, Trial


class Ledger:
    """The record of a search, in the folder `path`; every method reads it anew, and writes it whole.

    Args:
        path: the folder of the search.
    """

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
        """Returns the record, checked, with the definition of the search and its trials in the order of their start.

        Raises:
            ValueError: it is not one that a search wrote.
        """
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
        """Returns the run folder of a trial.

        Raises:
            ValueError: its name would lead elsewhere.
        """
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

        Args:
            worker: a name for it.

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
            made = oracle.create_trial(f"trial {len(record['trials'])}")
        if made.status == kt_trial.TrialStatus.IDLE:
            return "wait"
        if made.status == kt_trial.TrialStatus.STOPPED:
            return "none"
        record["oracle"] = state_of(definition.algorithm, oracle)
        row = dataclasses.asdict(Trial(made.trial_id, made.hyperparameters.values))
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
        """Lets a search that was stopped or is over go on; failures are counted anew.

        Args:
            trials: how many recipes are tried at most; with more than before the winner is chosen and scored again.

        Raises:
            ValueError: a Hyperband search is over, and what its new trials would go on from is gone.
        """
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
        """Ends a trial that stands still.

        Args:
            worker: which runs it.
            trial_id: of the trial.
            message: why.
            kill: ends its process; called while nobody can give the trial to another.
        """
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
            made = kt_trial.Trial(values, trial_id=row["id"], status=statuses.get(row["status"], "FAILED"))
            made.score, made.best_step = row["score"], row["epochs"]
            oracle.trials[row["id"]] = made
        if record["oracle"] is not None:
            restore_state(definition.algorithm, oracle, record["oracle"])
        return oracle

    def _owner(self, name: str) -> filelock.BaseFileLock | None:
        """Returns the lock of a trial, held; None where another process holds it."""
        try:
            return locks.acquire(self.path / "owners" / f"{name}.lock", timeout=0)
        except filelock.Timeout:
            return None
