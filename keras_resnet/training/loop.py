"""The training loop of a run: from where its folder stands to its end, through Keras's `fit`, and its files."""

import dataclasses
import os
import pathlib
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import keras

from keras_resnet import files, preprocessing
from keras_resnet.errors import BadValue, NoMemory
from keras_resnet.memory import is_exhausted
from keras_resnet.tasks import MULTILABEL
from keras_resnet.training import scoring
from keras_resnet.training.batches import EVALUATION_BATCH_SIZE
from keras_resnet.training.callbacks import Report, SameFolder, recording_callbacks, save_model, write_history
from keras_resnet.training.checkpoint import Progress, read_newest, restore
from keras_resnet.training.description import COMPLETE, RUNNING, STOPPED, RunFile, differences, with_defaults
from keras_resnet.training.divergence import MAX_SETBACKS, TrainingDiverged, rate_factor_of, setback_of
from keras_resnet.training.folder import EPOCHS, write_description
from keras_resnet.training.interruption import INTERRUPTED, Interrupted, StopRequest, stop_after_batch
from keras_resnet.training.network import build_metrics
from keras_resnet.training.plots import draw_confusion, draw_or_warn
from keras_resnet.training.repair import rebuild_best
from keras_resnet.training.run import Run, describe_run
from keras_resnet.training.saving import Interval, SaveState
from keras_resnet.training.setup import Setup
from keras_resnet.training.together import is_true

Listener = Callable[[int, Mapping[str, float]], Any]


@dataclasses.dataclass
class TrainingLoop:
    """A run under way: what it is, what has happened, and what it is made of.

    Of several processes the first one's `folder` is that of the run; the others have one for the time. `named` is the
    folder of the run in every process.
    """

    folder: pathlib.Path
    setup: Setup
    network: keras.Model
    score: tuple[str, ...]
    extended: tuple[int, ...]
    setbacks: tuple[Mapping[str, Any], ...]
    model_class: type[keras.Model]
    named: pathlib.Path

    def __post_init__(self) -> None:
        """Describes the run: its network stays of one kind."""
        about = describe_run(self.setup, self.network)
        self.about = dataclasses.replace(about, extended=self.extended, setbacks=self.setbacks)
        self.dataset = self.setup.dataset
        self.group = self.setup.group

    def run(self, extra: Sequence[keras.callbacks.Callback], report: Listener | None, verbose: Any) -> Run:
        """Trains from where the folder stands to the end, or to where the listener stops it."""
        self.progress = Progress()
        try:
            with nullcontext() if self.group is None else self.group.translate_peer_errors(self._place):
                return self._run(extra, report, verbose)
        except Exception as error:
            if not is_exhausted(error):
                raise
            raise self._no_memory(error) from error

    def _place(self) -> str:
        """Returns where the training is, for a message."""
        return f"in epoch {self.progress.epochs + 1}, after {self.progress.steps} steps of this start"

    def _run(self, extra: Sequence[keras.callbacks.Callback], report: Listener | None, verbose: Any) -> Run:
        begun = self._begin()
        while True:
            try:
                self._train(extra, report, verbose)
                break
            except TrainingDiverged as error:
                self._go_back(error)
                begun = self._begin()
        progress = self.progress
        self._check_steps(begun)
        if progress.halted and progress.epochs < self.about.recipe.train.epochs:
            file = RunFile(self.about, STOPPED, epochs_trained=progress.epochs, history=tuple(progress.rows))
            write_description(self.folder, file)
            return Run(self.named, file, dataset=self.dataset)
        try:
            with nullcontext() if self.group is None else self.group.alone():
                return self._finish()
        except KeyboardInterrupt as interrupt:
            raise self._interrupted(interrupt, ", and the scores are missing") from None

    def _begin(self) -> tuple[int, int]:
        """Compiles the network and brings it to where the folder stands: epochs, and batches of the next."""
        recipe, progress = self.about.recipe, Progress()
        self.progress = progress
        self.metrics: Sequence[Any] = ()
        rate = self.setup.recipe.optimizer.learning_rate * rate_factor_of(self.about.setbacks)
        lowered = self.setup.recipe.replace({"optimizer.learning_rate": rate})
        self.trained = dataclasses.replace(self.setup, recipe=lowered)
        # Keras counts the batches that are accumulated when it asks a schedule.
        steps = self._optimizer_steps(self.about.steps_per_epoch * recipe.optimizer.accumulation)
        self.network.compile(**self.trained.compile_args(steps_per_epoch=steps))
        self.network.optimizer.build(self.network.trainable_variables)
        self.average = recipe.optimizer.weight_average(self.network)
        self.averages = [] if self.average is None else self.average.variables
        (self.folder / "last").mkdir(exist_ok=True)
        self._restore()
        begun = progress.epochs, progress.batches
        if begun == (0, 0) or self.about.extended:
            write_description(self.folder, RunFile(self.about, RUNNING))
            files.write_text(self.folder / "recipe.toml", self.about.recipe_for_others().to_toml())
        return begun

    def _go_back(self, error: TrainingDiverged) -> None:
        """Makes the network anew and lowers its rate, where the recipe says so and it was not done too often."""
        setbacks = self.about.setbacks
        if self.about.recipe.train.on_divergence != "back" or len(setbacks) >= MAX_SETBACKS:
            raise error
        setback = setback_of(error, setbacks)
        self.about = dataclasses.replace(self.about, setbacks=(*setbacks, setback))
        # Before anything is trained, so that a kill does not undo it.
        write_description(self.folder, RunFile(self.about, RUNNING))
        warnings.warn(
            f"{error.what} at optimizer step {error.step}. The run goes back to its last state, with its learning "
            f"rates times {setback['rate_factor']:g} ({len(setbacks) + 1} of at most {MAX_SETBACKS} times).",
            stacklevel=4,
        )
        keras.utils.set_random_seed(self.about.recipe.train.seed)
        self.network = self.setup.build_model(self.model_class)

    def _train(self, extra: Sequence[keras.callbacks.Callback], report: Listener | None, verbose: Any) -> None:
        """Trains what is left of the epochs; a signal stops it after a batch, which is saved."""
        try:
            with stop_after_batch() as asked:
                self._fit(asked, extra, report, verbose)
        except KeyboardInterrupt as interrupt:
            raise self._interrupted(interrupt) from None

    def _interrupted(self, interrupt: KeyboardInterrupt, missing: str = "") -> Interrupted:
        """Returns what to raise: what is saved, and how to go on."""
        epochs, progress = self.about.recipe.train.epochs, self.progress
        batches = f" and {progress.batches} batches" * bool(progress.batches)
        return Interrupted(
            f"Interrupted after {progress.epochs} of {epochs} epochs{batches}, which are saved{missing}. To go on: "
            f"{self._how_to_go_on()}",
            getattr(interrupt, "status", INTERRUPTED),
        )

    def _how_to_go_on(self) -> str:
        command = f"keras-resnet train --out {shlex.quote(os.fspath(self.named))} --resume"
        return f"{command} (in Python: out={os.fspath(self.named)!r}, resume=True)"

    def _no_memory(self, error: Exception) -> NoMemory:
        """Returns what to raise: where memory ran out, what is saved, and what needs less."""
        train, shape = self.about.recipe.train, self.network.input_shape[1:]
        what = next(iter(str(error).splitlines()), "") or type(error).__name__
        return NoMemory(
            f"Memory ran out {self._place()}, with batches of {train.batch_size} examples of "
            f"{'x'.join(map(str, shape))}: {what} Lower train.batch_size, data.image_size or model.width, or set "
            "train.recompute, in another folder; or make memory free and go on from the last saved state: "
            f"{self._how_to_go_on()}"
        )

    def _fit(
        self, asked: StopRequest, extra: Sequence[keras.callbacks.Callback], report: Listener | None, verbose: Any
    ) -> None:
        """Calls Keras's `fit` for what is left of the epochs."""
        recipe, progress = self.about.recipe, self.progress
        held = SameFolder(self.folder)
        own = recording_callbacks(
            self.folder,
            batch_size=recipe.train.batch_size,
            patience=recipe.train.early_stopping_patience,
            monitor=self.setup.monitor,
            average=self.average,
            progress=progress,
        )
        interval = Interval.of(recipe.train.save_every)
        state = SaveState(
            self.folder / "last",
            progress,
            self.about.identity(),
            self.averages,
            interval,
            asked,
            self.metrics,
            recipe.train.keep_states,
            lambda: {"rate_factor": rate_factor_of(self.about.setbacks)},
            self.group,
            held.check,
        )
        own = [held, *own, state, *([] if report is None else [Report(partial(self._ask, report), progress)])]
        if progress.epochs < recipe.train.epochs and not progress.stopped:
            try:
                self.trained.fit(
                    self.network,
                    callbacks=[*own, *extra],
                    average=self.average,
                    start_epoch=progress.epochs,
                    start_batch=progress.batches,
                    past=progress.rows,
                    verbose=_show(verbose),
                )
            finally:
                state.wait()
        elif self.average is not None:
            self.average.put()

    def _ask(self, report: Listener, epoch: int, figures: Mapping[str, float]) -> bool:
        """Returns whether the run is to stop: of several processes the first one is asked."""
        return is_true(self.group, lambda: bool(report(epoch, figures)))

    def _restore(self) -> None:
        newest = read_newest(self.folder / "last")
        if newest is None:
            return
        saved, values = newest
        changed = differences(with_defaults(saved["identity"]), self.about.identity())
        longer = bool(self.about.extended) and all(line.startswith(EPOCHS) for line in changed)
        if changed and not longer:
            raise BadValue(
                f"{os.fspath(self.folder / 'last')!r} holds the state of another run; differing: {'; '.join(changed)}. "
                "A resume needs the same recipe, model and data. Give the same as before, or choose another folder."
            )
        self.progress.take(saved)
        rebuild_best(self.folder, self.progress, self.setup.monitor, self._save_best)
        self.metrics = restore(self.network, saved, values, self.averages)
        lowered = rate_factor_of(self.about.setbacks) / saved.get("rate_factor", 1.0)
        for variable in self.network.optimizer.variables:
            if variable.name == "learning_rate" and lowered != 1:  # without a schedule it is a part of the state
                variable.assign(variable * lowered)
        if self.metrics:
            build_metrics(self.network, self.setup.training_batches(), self.setup.outputs)
        if self.progress.rows:
            write_history(self.folder, self.progress.rows)
        if changed and self.progress.rows and (self.group is None or self.group.is_first):
            planned, trained = self.about.recipe.train.epochs, self.progress.epochs
            rate, last = float(self.network.optimizer.learning_rate), self.progress.rows[-1]["learning_rate"]
            print(
                f"{self.named}: extended to {planned} epochs. Epoch {trained + 1} begins at a learning rate of "
                f"{rate:.3g}, as the schedule of {planned} epochs has it; epoch {trained} ended at {last:.3g}."
            )

    def _save_best(self, saved: dict[str, Any], values: list[Any]) -> None:
        """Writes best.keras as it was after the epoch of a state."""
        restore(self.network, saved, values, self.averages)
        with nullcontext() if self.average is None else self.average.in_place():
            files.write_atomically(self.folder / "best.keras", lambda path: save_model(self.network, path))

    def _optimizer_steps(self, batches: int) -> int:
        """Returns how many optimizer steps that many batches make; a model with a step of its own may say."""
        counted = getattr(self.network, "optimizer_steps", None)
        made = batches if counted is None else int(counted(batches))
        return made // self.about.recipe.optimizer.accumulation

    def _check_steps(self, begun: tuple[int, int]) -> None:
        """Raises RuntimeError when Keras took another number of steps than planned, which would shift schedules."""
        progress, steps = self.progress, self.about.steps_per_epoch
        planned = (progress.epochs - begun[0]) * steps - begun[1]
        total = self._optimizer_steps(progress.epochs * steps)
        # A 16-bit step whose gradients overflow is skipped by design, and does not count as an iteration.
        iterations = int(self.network.optimizer.iterations)
        skipped_allowed = hasattr(self.network.optimizer, "dynamic_scale")
        if progress.steps != planned or not (iterations == total or (skipped_allowed and iterations <= total)):
            raise RuntimeError(
                f"Keras ran {progress.steps} steps where {planned} were planned, and the optimizer counts {iterations} "
                f"of {total}."
            )

    def _finish(self) -> Run:
        """Saves the last model, scores the best one, and completes run.json."""
        folder, dataset, progress = self.folder, self.dataset, self.progress
        files.write_atomically(folder / "final.keras", lambda path: save_model(self.network, path))
        best = Run(folder, RunFile(self.about, RUNNING)).model
        self._put_thresholds(best)
        record = preprocessing.for_model(best)
        metrics = {
            split: scoring.score(best, dataset, split, record, EVALUATION_BATCH_SIZE, self.group)
            for split in self.score
            if dataset.sizes.get(split)
        }
        shown = [split for split in metrics if "confusion" in metrics[split]]
        if shown:
            split, figures = shown[-1], metrics[shown[-1]]
            title = f"{split} split, accuracy {figures['accuracy']:.4f} ({figures['examples']} examples)"
            draw = partial(draw_confusion, figures["confusion"], dataset.class_names, title=title)
            draw_or_warn(folder / "confusion.png", draw)
        iterations = int(self.network.optimizer.iterations)
        file = RunFile(
            self.about,
            COMPLETE,
            epochs_trained=progress.epochs,
            best_epoch=progress.best_epoch,
            optimizer_steps=iterations,
            skipped_steps=self._optimizer_steps(progress.epochs * self.about.steps_per_epoch) - iterations,
            metrics=metrics,
            history=tuple(progress.rows),
        )
        write_description(folder, file)
        return Run(self.named, file, model=best, dataset=dataset)

    def _put_thresholds(self, best: keras.Model) -> None:
        """Writes into best.keras from which probability on an example has each class, where it may have several."""
        record = preprocessing.for_model(best)
        if record.task != MULTILABEL.name or not self.dataset.sizes.get("validation"):
            return
        cuts = scoring.choose_thresholds(best, self.dataset, record, EVALUATION_BATCH_SIZE, self.group)
        told: dict[str, Any] = {"task": record.task, "activation": record.activation, "thresholds": cuts}
        preprocessing.describe_outputs(best, record.class_names, **told)
        files.write_atomically(self.folder / "best.keras", lambda path: save_model(best, path))


def _show(verbose: Any) -> Any:
    """Returns what Keras is to show: a bar where someone watches it, one line per epoch in files and logs."""
    if verbose != "auto":
        return verbose
    return 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2
