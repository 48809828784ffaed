"""A process that takes trials from a search, trains them and hands in what came out.

`start_worker.py` starts it. It ends when the search does, when the process that started it ends,
and after a trial that may have left memory behind."""

import argparse
import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import evaluation, files, models, training
from keras_resnet.errors import BadValue, NodesLost, NoMemory, NoRoom, UserError
from keras_resnet.memory import is_exhausted
from keras_resnet.tuning.definition import Definition
from keras_resnet.tuning.ledger import (
    ANOTHER,
    COMPLETE,
    DONE,
    FAILED,
    INFEASIBLE,
    INTERRUPTED,
    PRUNED,
    SCORED,
    Ledger,
    Trial,
)
from keras_resnet.tuning.outcome import best_of, recipe_of, variant_of


def write(ledger: Ledger, definition: Definition, trial: Trial) -> None:
    """Writes what a trial tried and what it scored, under `logs/` of the search."""
    if trial.status not in SCORED:
        return
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    folder = ledger.path / "logs"
    metric = definition.metric
    if not (folder / "experiment").exists():
        dimensions = [api.HParam(dimension.name, _domain(api, dimension)) for dimension in definition.space]
        with tf.summary.create_file_writer(str(folder / "experiment")).as_default():
            api.hparams_config(hparams=dimensions, metrics=[api.Metric(metric)])
    with tf.summary.create_file_writer(str(folder / trial.id)).as_default():
        tried = {name: value for name, value in trial.values.items() if not name.startswith("tuner/")}
        api.hparams(tried, trial_id=trial.id)
        for epoch, value in enumerate(trial.curve, start=1):
            tf.summary.scalar(metric, value, step=epoch)


def _domain(api, dimension):  # type: ignore[no-untyped-def]
    if dimension.choices:
        return api.Discrete(list(dimension.choices))
    if dimension.is_integer:
        return api.IntInterval(int(dimension.low), int(dimension.high))
    return api.RealInterval(float(dimension.low), float(dimension.high))


# The median rule judges from this share of the epochs on, and against that many other trials.
GRACE, FEWEST = 0.2, 4


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained for a trial, and when it ends early.

    Attributes:
        recipe: how it is trained.
        model: name of the variant.
        data: spec of the data.
        data_dir: root of prepared data sets, or None.
        metric: the objective as the history names it.
        direction: of the objective, "max" or "min".
        budget: epochs up to which it is trained.
        others: the objective of whole trials after each epoch, with which it is compared; none where it is not pruned.
    """

    recipe: training.Recipe
    model: str
    data: str
    data_dir: str | None
    metric: str
    direction: str
    budget: int
    others: list[list[float]]

    def load(self) -> datasets.Dataset:
        """Returns the data as the recipe loads them."""
        return self.recipe.data.load(self.data, self.data_dir, self.recipe.loss.choice.task.data_task)

    def run(
        self, folder: pathlib.Path, dataset: datasets.Dataset, callbacks: Sequence[keras.callbacks.Callback]
    ) -> bool:
        """Trains in a folder, going on where it stands; returns whether the trial was pruned."""
        pruned = False

        def report(epoch: int, figures: Mapping[str, float]) -> bool:
            nonlocal pruned
            if epoch >= max(2, round(GRACE * self.recipe.train.epochs)) and len(self.others) >= FEWEST:
                with open(folder / "history.csv", encoding="utf-8", newline="") as file:
                    curve = [float(row[self.metric]) for row in csv.DictReader(file)]
                pruned = is_to_prune(curve, self.others, self.direction)
            return pruned or epoch >= self.budget

        run = training.fit(
            self.recipe,
            model=self.model,
            data=dataset,
            data_dir=self.data_dir,
            out=folder,
            resume=True,
            report=report,
            callbacks=callbacks,
            score=(),  # the history has the objective, and only the winner is scored on the test split
            verbose=0,
        )
        return pruned and len(run.file.history) < self.budget


class Engine(Protocol):
    """Where a worker trains its jobs."""

    def train(self, job: Job, folder: pathlib.Path, dataset: datasets.Dataset, beats: pathlib.Path, trial: str) -> bool:
        """Trains a job in a folder, going on where it stands; returns whether it was pruned."""


class LocalEngine:
    """Trains jobs in this process."""

    def train(self, job: Job, folder: pathlib.Path, dataset: datasets.Dataset, beats: pathlib.Path, trial: str) -> bool:
        """Trains a job in a folder, as `Engine` says."""
        heartbeat = Heartbeat(beats, trial)
        heartbeat.beat()
        return job.run(folder, dataset, [heartbeat])


def is_to_prune(curve: list[float], others: list[list[float]], direction: str) -> bool:
    """Returns whether the best of a curve is worse than the median of what others had reached by then.

    Source:
        Golovin et al. 2017, "Google Vizier", section 3.2 (median stopping rule).
    """
    best = max if direction == "max" else min
    reached = [best(other[: len(curve)]) for other in others if other]
    median = statistics.median(reached)
    return best(curve) < median if direction == "max" else best(curve) > median


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
        """Returns a sign of this moment."""
        return cls(trial, time.monotonic(), usual)

    def write(self, path: pathlib.Path) -> None:
        """Writes this sign, whole or not at all."""
        files.write_text(path, json.dumps(dataclasses.asdict(self)))

    def standstill(self, minutes: float, factor: float) -> str:
        """Returns the message about a trial that stands still; nothing if it does not."""
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
    """Leaves a sign after batches of training and of validation, at most one per second."""

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
        """Writes a sign where the supervisor reads it."""
        sign.write(self.path)


def read_sign(path: pathlib.Path) -> Sign | None:
    """Returns the last sign in a file; None where there is none."""
    try:
        values = json.loads(path.read_text("utf-8"))
        return Sign(str(values["trial"]), float(values["time"]), float(values["usual"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


POLL_SECONDS = 0.2
LATENCY_CALLS = 20


class OverLimit(Exception):
    """A model is larger or slower than the search allows."""


class Worker:
    """Runs trials until there are none."""

    def __init__(self, ledger: Ledger, name: str, engine: Engine) -> None:
        self.ledger = ledger
        self.name = name
        self.engine = engine
        self.definition: Definition = ledger.definition
        self.dataset = self._load()
        self.folds: dict[str, datasets.Dataset] = {}
        self.since = time.perf_counter()  # the last trial was handed in, or the first could begin

    def _load(self) -> datasets.Dataset:
        about = self.definition
        dataset = about.recipe.data.load(about.data, about.data_dir, about.recipe.loss.choice.task.data_task)
        facts = {
            "fingerprint": dataset.fingerprint,
            "sizes": dict(dataset.sizes),
            "image_shape": list(dataset.image_shape),
            "class_names": list(dataset.class_names),
        }
        changed = self.ledger.settle_facts(facts)
        if changed:
            raise BadValue(
                f"data={about.data!r} is not what this search began with; differing: {'; '.join(changed)}. Scores of "
                "old and new trials would not compare. Restore the data, or start another search."
            )
        if not dataset.sizes.get("validation"):
            raise BadValue(
                f"data={about.data!r} has no validation split, by which trials are compared. Allowed is a "
                "data.validation_fraction above 0. Set it."
            )
        self.definition = self.ledger.definition  # without dimensions that such data does not have
        return dataset

    def run(self) -> int:
        """Returns the exit status."""
        while True:
            what, trial, lock = self.ledger.take(self.name)
            if what == "done":
                return DONE
            if lock is None:
                time.sleep(POLL_SECONDS)
                continue
            try:
                if trial is None:
                    self._finish()
                    return DONE
                clean = self._run_trial(trial)
            finally:
                lock.release()
            if not clean:
                return ANOTHER

    def _run_trial(self, trial: Trial) -> bool:
        """Trains a trial and hands it in; returns False where this process should not go on."""
        clean = True
        try:
            self._train(trial)
        except KeyboardInterrupt:
            self.ledger.release(trial)
            raise
        except OverLimit as over:
            trial.status, trial.message = INFEASIBLE, str(over)
        except UserError as error:
            clean = not isinstance(error, NoMemory)  # another process begins without what this one holds
            trial.status, trial.message = FAILED, str(error) if clean else _reason(error)
            trial.again = isinstance(error, (NoRoom, NoMemory, NodesLost))
        except Exception as error:
            clean = False
            trial.again = _is_of_machine(error)
            folder = self.ledger.folder_of(trial.id)
            folder.mkdir(parents=True, exist_ok=True)
            files.write_text(folder / "error.txt", traceback.format_exc())
            trial.status, trial.message = FAILED, _reason(error)
        now = time.perf_counter()
        trial.seconds, self.since = now - self.since, now
        self.ledger.end(trial)
        write(self.ledger, self.definition, trial)
        self._prune()
        keras.backend.clear_session()  # which collects what the trial leaves behind
        print(f"trial {trial.id}: {trial.status} {trial.score} {trial.message}", flush=True)
        return clean

    def _train(self, trial: Trial) -> None:
        about = self.definition
        recipe, variant = recipe_of(about, trial.values), variant_of(about, trial.values)
        folder = self.ledger.folder_of(trial.id)
        if trial.parent is not None and not folder.exists():
            # Under another name first: a copy that was cut off must not pass for a run.
            half = folder.with_name(f".{trial.id}")
            shutil.rmtree(half, ignore_errors=True)
            shutil.copytree(self.ledger.folder_of(trial.parent), half)
            os.replace(half, folder)
        self._check_limits(recipe, variant)
        is_whole = not (trial.parent or "tuner/epochs" in trial.values)
        job = Job(
            recipe=recipe,
            model=variant,
            data=about.data,
            data_dir=about.data_dir,
            metric=about.metric,
            direction=about.direction,
            budget=trial.values.get("tuner/epochs", recipe.train.epochs),
            others=self._curves() if is_whole and about.settings.prune_trials else [],
        )
        started = time.perf_counter()
        beats = self.ledger.path / "workers" / f"{self.name}.beat"
        pruned = self.engine.train(job, folder, self.dataset, beats, trial.id)
        runs = [training.Run.load(folder)]
        for number in range(2, 1 if pruned else about.settings.folds + 1):
            own = dataclasses.replace(job, recipe=of_fold(recipe, number, about.settings.folds), others=[])
            place = folder / f"fold-{number}"
            self.engine.train(own, place, self._fold(own), beats, trial.id)
            runs.append(training.Run.load(place))
        trial.training_seconds = time.perf_counter() - started
        monitor = recipe.monitor(self.dataset.class_names)
        trial.score = statistics.fmean(monitor.best_row(run.file.history)[about.metric] for run in runs)
        rows = runs[0].file.history
        trial.curve, trial.epochs = [row[about.metric] for row in rows], len(rows)
        trial.parameters = runs[0].about.parameters
        trial.status = PRUNED if pruned else COMPLETE

    def _fold(self, job: Job) -> datasets.Dataset:
        """Returns the data of a further fold, which are loaded once."""
        name = job.recipe.data.validation_fold
        if name not in self.folds:
            self.folds[name] = job.load()
        return self.folds[name]

    def _curves(self) -> list[list[float]]:
        return [trial.curve for trial in self.ledger.trials if trial.status == COMPLETE]

    def _check_limits(self, recipe: training.Recipe, variant: str) -> None:
        settings = self.definition.settings
        if not (settings.max_parameters or settings.max_multiply_adds or settings.max_latency_ms):
            return
        model = training.fit(recipe, model=variant, data=self.dataset, dry_run=True).model
        usage: dict[str, tuple[float, float]] = {}
        if settings.max_parameters or settings.max_multiply_adds:
            info = models.model_info(model)
            usage["parameters"] = info.parameters, settings.max_parameters
            usage["multiply-adds"] = info.multiply_adds, settings.max_multiply_adds
        if settings.max_latency_ms:
            usage["ms for one example"] = latency_ms(model), settings.max_latency_ms
        for what, (value, limit) in usage.items():
            if limit and value > limit:
                raise OverLimit(f"{value:,.10g} {what}, more than the limit of {limit:,.10g}; it was not trained.")

    def _prune(self) -> None:
        """Removes what no trial can go on from and nobody asked to keep."""
        if self.definition.settings.keep == "all":
            return
        trials = self.ledger.trials
        best = best_of(self.definition, trials)
        for trial in trials:
            if trial.status not in (COMPLETE, PRUNED, FAILED) or (best is not None and trial.id == best.id):
                continue
            if trial.again or "tuner/epochs" in trial.values and not self.ledger.record.read()["final"]:
                continue
            folder = self.ledger.folder_of(trial.id)
            for place in (folder, *folder.glob("fold-*")):
                for name in ("best.keras", "final.keras"):
                    (place / name).unlink(missing_ok=True)
                shutil.rmtree(place / "last", ignore_errors=True)

    def _finish(self) -> None:
        """Scores the winner on the test split, which no trial has seen."""
        best = best_of(self.definition, self.ledger.trials)
        final: dict[str, Any] = {"trial": None if best is None else best.id, "test": None}
        if best is not None and self.dataset.sizes.get("test"):
            final["test"] = evaluation.evaluate(self.ledger.folder_of(best.id), split="test")
        self.ledger.finish(final)
        self._prune()


def of_fold(recipe: training.Recipe, number: int, folds: int) -> training.Recipe:
    """Returns the recipe that validates on one of several folds."""
    return recipe.replace({"data.validation_fold": f"{number}/{folds}"})


def latency_ms(model: keras.Model) -> float:
    """Returns the median time of a model for one example, in ms."""
    example = np.zeros((1, *(size or 224 for size in model.input_shape[1:])), "float32")
    seconds = []
    for _ in range(LATENCY_CALLS + 2):  # the first two build the graph
        start = time.perf_counter()
        model.predict_on_batch(example)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:]) * 1e3


def _is_of_machine(error: Exception) -> bool:
    """Returns whether a trial failed for want of memory or of a device, and may do better another time."""
    name, text = type(error).__name__, str(error)
    is_of_device = name in ("InternalError", "UnavailableError", "UnknownError") and re.search(
        r"CUDA|cuDNN|device", text
    )
    return is_exhausted(error) or bool(is_of_device)


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if is_exhausted(error):
        return f"out of memory ({name}). A smaller batch, width or image needs less."
    return f"{name}: {str(error).splitlines()[0] if str(error) else ''} (see error.txt in its folder)"


def main() -> int:
    """Runs a worker on the folder and under the name of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("name")
    parser.add_argument("--ray", metavar="ADDRESS")
    options = parser.parse_args()
    # Python's own, which `training.fit` exchanges for one that finishes the batch and saves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ledger = Ledger(options.folder)
    try:
        engine: Engine = LocalEngine()
        if options.ray:
            from keras_resnet.tuning.ray_engine import RayEngine

            engine = RayEngine(options.ray, ledger.definition.settings)
        return Worker(ledger, options.name, engine).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except UserError as error:
        ledger.stop(str(error))
        return DONE
