"""`fit`: from a recipe, a model's name and a data spec to a run folder, with Keras's own `model.fit` inside."""

import dataclasses
import math
import os
import pathlib
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import files, models, preprocessing
from keras_resnet.arguments import check_bool, check_path
from keras_resnet.data.prepared import what_prepare_saves
from keras_resnet.distribution.together import count_of_parts, training_together
from keras_resnet.errors import BadType, BadValue, NoMemory
from keras_resnet.figures import draw_confusion, draw_or_warn
from keras_resnet.memory import SHARE, available_bytes, format_bytes, free_address_space, is_exhausted
from keras_resnet.models.precision import is_fast
from keras_resnet.tasks import TASKS, Predictions
from keras_resnet.terminal import one_line
from keras_resnet.training import scoring
from keras_resnet.training.callbacks import (
    MAX_ROLLBACKS,
    EpochLines,
    FiniteLoss,
    Report,
    SameFolder,
    TrainingDiverged,
    duration,
    rate_factor_of,
    recording_callbacks,
    rollback_of,
    save_model,
    write_history,
)
from keras_resnet.training.experiment import Experiment, fill_from_run, resolve
from keras_resnet.training.network import build_metrics
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.run import (
    COMPLETE,
    EPOCHS,
    RUNNING,
    STOPPED,
    PlannedRun,
    Run,
    RunFile,
    can_be_rebuilt,
    check_all_same,
    check_folder,
    check_same,
    differences,
    find_together,
    locked,
    new_folder,
    plan_lines,
    read_description,
    rebuild_best,
    with_defaults,
    working_folder,
    write_description,
)
from keras_resnet.training.state import (
    INTERRUPTED,
    Interrupted,
    Interval,
    Progress,
    SaveState,
    StopRequest,
    read_newest,
    restore,
    stop_after_batch,
)

FLOAT_BYTES = 4
# A step keeps for its backward pass the outputs of the convolutions, and of what follows them at most as much again.
STORED_SHARE = 0.5
# TensorFlow's threads, allocator and compiler reserve addresses that they hardly use. From here to the end of a run of
# the smallest networks 0.89 GiB were counted on two cores (docs/reliability.md); where they are not to be had,
# TensorFlow ends by a signal, mostly without a word.
RESERVED_ADDRESSES = 2**30


def check_backend(experiment: Experiment) -> None:
    """Raises ValueError where the pipeline would make random changes that only TensorFlow can make there."""
    if keras.config.backend() != "tensorflow":
        for _, size in experiment.stages:
            experiment.training_batches(size=size)


def check_memory(network: keras.Model, batch_size: int, recomputes: bool) -> None:
    """Raises ValueError where weights, gradients and activations of one step are larger than the memory that is free.

    On a machine with a GPU nothing is checked: its own memory counts there.
    """
    free = available_bytes()
    if free is None or _has_gpu():
        return
    weights = 2 * FLOAT_BYTES * network.count_params()  # and their gradients
    shape = network.input_shape[1:]
    example = FLOAT_BYTES * math.prod(side or 1 for side in shape)
    if None not in shape and not recomputes:
        example += round(STORED_SHARE * models.model_info(network).activation_bytes)
    needed = weights + batch_size * example
    addresses = free_address_space()
    if addresses is not None and needed + RESERVED_ADDRESSES > addresses:
        raise BadValue(
            f"A limit of the address space leaves {format_bytes(max(addresses, 0))}. This training needs "
            f"{format_bytes(needed + RESERVED_ADDRESSES)} and more, most of it reserved by TensorFlow and hardly "
            "used, and TensorFlow ends by a signal where it gets less. Raise the limit (`ulimit -v unlimited`); to "
            "limit memory itself, use a container or a control group."
        )
    if needed <= SHARE * free:
        return
    fitting = int((SHARE * free - weights) // example)
    lower = (
        f"Lower train.batch_size to {fitting} or less, data.image_size or model.width, or set train.recompute."
        if fitting >= 1
        else "Lower model.width or data.image_size, or take a smaller model."
    )
    raise BadValue(
        f"A step on {batch_size} examples of {'x'.join(map(str, shape))} needs {format_bytes(needed)} of memory and "
        f"more, and {format_bytes(free)} are free. {lower}"
    )


def _has_gpu() -> bool:
    if keras.config.backend() != "tensorflow":
        return True
    import tensorflow as tf

    devices: Any = tf.config.list_physical_devices("GPU")
    return bool(devices)


Listener = Callable[[int, Mapping[str, float]], Any]


@dataclasses.dataclass
class TrainingLoop:
    """A run under way: what it is, what has happened, and what it is made of.

    Of several processes the first one's `folder` is that of the run; the others have one for the time. `named` is the
    folder of the run in every process.
    """

    folder: pathlib.Path
    experiment: Experiment
    network: keras.Model
    score: tuple[str, ...]
    extended: tuple[int, ...]
    rollbacks: tuple[Mapping[str, Any], ...]
    model_class: type[keras.Model]
    named: pathlib.Path

    def __post_init__(self) -> None:
        """Describes the run: its network stays of one kind."""
        about = self.experiment.describe(self.network)
        self.about = dataclasses.replace(about, extended=self.extended, rollbacks=self.rollbacks)
        self.dataset = self.experiment.dataset
        self.group = self.experiment.group

    def run(self, extra: Sequence[keras.callbacks.Callback], report: Listener | None, verbose: Any) -> Run:
        """Trains from where the folder stands to the end, or to where the listener stops it."""
        self.progress = Progress()
        try:
            with self.group.translate_peer_errors(self._place):
                return self._run(extra, report, verbose)
        except Exception as error:
            if not is_exhausted(error):
                raise
            raise self._no_memory(error) from error

    def _place(self) -> str:
        """Returns the position of the training, for a message."""
        return f"in epoch {self.progress.epochs + 1}, after {self.progress.steps} steps of this start"

    def _run(self, extra: Sequence[keras.callbacks.Callback], report: Listener | None, verbose: Any) -> Run:
        start = self._begin()
        while True:
            try:
                self._train(extra, report, verbose)
                break
            except TrainingDiverged as error:
                self._go_back(error)
                start = self._begin()
        progress = self.progress
        self._check_steps(start)
        if progress.halted and progress.epochs < self.about.recipe.train.epochs:
            file = RunFile(self.about, STOPPED, epochs_trained=progress.epochs, history=tuple(progress.rows))
            write_description(self.folder, file)
            return Run(self.named, file, dataset=self.dataset)
        try:
            with self.group.alone():
                return self._finish()
        except KeyboardInterrupt as interrupt:
            raise self._interrupted(interrupt, ", and the scores are missing") from None

    def _begin(self) -> tuple[int, int]:
        """Compiles the network and brings it to where the folder stands: epochs, and batches of the next."""
        recipe, progress = self.about.recipe, Progress()
        self.progress = progress
        self.metrics: Sequence[Any] = ()
        rate = self.experiment.recipe.optimizer.learning_rate * rate_factor_of(self.about.rollbacks)
        lowered = self.experiment.recipe.replace({"optimizer.learning_rate": rate})
        self.trained = dataclasses.replace(self.experiment, recipe=lowered)
        # Keras counts the batches that are accumulated when it asks a schedule.
        steps = self._optimizer_steps(self.about.steps_per_epoch * recipe.optimizer.accumulation)
        self.network.compile(**self.trained.compile_args(steps_per_epoch=steps))
        self.network.optimizer.build(self.network.trainable_variables)
        self.average = recipe.optimizer.weight_average(self.network)
        self.averages = [] if self.average is None else self.average.variables
        (self.folder / "last").mkdir(exist_ok=True)
        self._restore()
        position = progress.epochs, progress.batches
        if position == (0, 0) or self.about.extended:
            write_description(self.folder, RunFile(self.about, RUNNING))
            files.write_text(self.folder / "recipe.toml", self.about.recipe_for_others().to_toml())
        return position

    def _go_back(self, error: TrainingDiverged) -> None:
        """Makes the network anew and lowers its rate, where the recipe says so and it was not done too often."""
        rollbacks = self.about.rollbacks
        if self.about.recipe.train.on_divergence != "back" or len(rollbacks) >= MAX_ROLLBACKS:
            raise error
        rollback = rollback_of(error, rollbacks)
        self.about = dataclasses.replace(self.about, rollbacks=(*rollbacks, rollback))
        # Before anything is trained, so that a kill does not undo it.
        write_description(self.folder, RunFile(self.about, RUNNING))
        warnings.warn(
            f"{error.what} at optimizer step {error.step}. The run goes back to its last state, with its learning "
            f"rates times {rollback['rate_factor']:g} ({len(rollbacks) + 1} of at most {MAX_ROLLBACKS} times).",
            stacklevel=4,
        )
        keras.utils.set_random_seed(self.about.recipe.train.seed)
        self.network = self.experiment.build_model(self.model_class)

    def _train(self, extra: Sequence[keras.callbacks.Callback], report: Listener | None, verbose: Any) -> None:
        """Trains what is left of the epochs; a signal stops it after a batch, which is saved."""
        try:
            with stop_after_batch() as stop_request:
                self._fit(stop_request, extra, report, verbose)
        except KeyboardInterrupt as interrupt:
            raise self._interrupted(interrupt) from None

    def _interrupted(self, interrupt: KeyboardInterrupt, missing: str = "") -> Interrupted:
        """Returns the exception to raise, which says what is saved and how to resume."""
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
        """Returns the exception to raise where memory ran out: what is saved, and what needs less."""
        train, shape = self.about.recipe.train, self.network.input_shape[1:]
        what = next(iter(str(error).splitlines()), "") or type(error).__name__
        return NoMemory(
            f"Memory ran out {self._place()}, with batches of {train.batch_size} examples of "
            f"{'x'.join(map(str, shape))}: {what} Lower train.batch_size, data.image_size or model.width, or set "
            "train.recompute, in another folder; or make memory free and go on from the last saved state: "
            f"{self._how_to_go_on()}"
        )

    def _fit(
        self,
        stop_request: StopRequest,
        extra: Sequence[keras.callbacks.Callback],
        report: Listener | None,
        verbose: Any,
    ) -> None:
        """Calls Keras's `fit` for what is left of the epochs."""
        recipe, progress = self.about.recipe, self.progress
        folder_check = SameFolder(self.folder)
        finite_loss = FiniteLoss(progress)
        own = recording_callbacks(
            self.folder,
            batch_size=recipe.train.batch_size,
            patience=recipe.train.early_stopping_patience,
            monitor=self.experiment.monitor,
            average=self.average,
            progress=progress,
            finite_loss=finite_loss,
        )
        interval = Interval.of(recipe.train.save_every)
        state = SaveState(
            self.folder / "last",
            progress,
            self.about.identity(),
            further=self.averages,
            interval=interval,
            stop_request=stop_request,
            metrics=self.metrics,
            max_states=recipe.train.keep_states,
            further_state=lambda: {"rate_factor": rate_factor_of(self.about.rollbacks)},
            group=self.group,
            check=folder_check.check,
            check_values=finite_loss.check,
        )
        own = [folder_check, *own, state, *([] if report is None else [Report(partial(self._ask, report), progress)])]
        if verbose := _show(verbose):
            *_, figure = recipe.loss.choice.task.curves
            remark = partial(what_prepare_saves, self.dataset, is_scaled=recipe.data.decode == "scaled")
            own.append(EpochLines(progress, recipe.train.epochs, figure, has_bar=verbose == 1, remark=remark))
        if progress.epochs < recipe.train.epochs and not progress.stopped:
            try:
                self.trained.fit(
                    self.network,
                    callbacks=[*own, *extra],
                    average=self.average,
                    start_epoch=progress.epochs,
                    start_batch=progress.batches,
                    past=progress.rows,
                    verbose=0,
                )
            finally:
                state.wait()
        elif self.average is not None:
            self.average.put()

    def _ask(self, report: Listener, epoch: int, figures: Mapping[str, float]) -> bool:
        """Returns whether the run is to stop: of several processes the first one is asked."""
        return self.group.is_true(lambda: bool(report(epoch, figures)))

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
        rebuild_best(self.folder, self.progress, self.experiment.monitor, self._save_best)
        self.metrics = restore(self.network, saved, values, self.averages)
        lowered = rate_factor_of(self.about.rollbacks) / saved.get("rate_factor", 1.0)
        for variable in self.network.optimizer.variables:
            if variable.name == "learning_rate" and lowered != 1:  # without a schedule it is a part of the state
                variable.assign(variable * lowered)
        if self.metrics:
            build_metrics(self.network, self.experiment.training_batches(), self.experiment.outputs)
        if self.progress.rows:
            write_history(self.folder, self.progress.rows)
        if changed and self.progress.rows and self.group.is_first:
            planned, done = self.about.recipe.train.epochs, self.progress.epochs
            rate, last = float(self.network.optimizer.learning_rate), self.progress.rows[-1]["learning_rate"]
            print(
                f"{self.named}: extended to {planned} epochs. Epoch {done + 1} begins at a learning rate of "
                f"{rate:.3g}, as the schedule of {planned} epochs has it; epoch {done} ended at {last:.3g}."
            )

    def _save_best(self, saved: dict[str, Any], values: list[Any]) -> None:
        """Writes best.keras as it was after the epoch of a state."""
        restore(self.network, saved, values, self.averages)
        with nullcontext() if self.average is None else self.average.in_place():
            files.write_atomically(self.folder / "best.keras", lambda path: save_model(self.network, path))

    def _optimizer_steps(self, batches: int) -> int:
        """Returns how many optimizer steps that many batches make; a model with its own step may say."""
        steps_of = getattr(self.network, "optimizer_steps", None)
        steps = batches if steps_of is None else int(steps_of(batches))
        return steps // self.about.recipe.optimizer.accumulation

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
            split: _with_interval(scoring.predict(best, dataset, split, record, group=self.group))
            for split in self.score
            if dataset.sizes.get(split)
        }
        splits = [split for split in metrics if "confusion" in metrics[split]]
        if splits:
            split, figures = splits[-1], metrics[splits[-1]]
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
        if record.task is None or not TASKS[record.task].has_thresholds or not self.dataset.sizes.get("validation"):
            return
        predictions = scoring.predict(best, self.dataset, "validation", record, group=self.group)
        cuts = predictions.task.choose_thresholds(predictions)
        outputs: dict[str, Any] = {"task": record.task, "activation": record.activation, "thresholds": cuts}
        preprocessing.describe_outputs(best, record.class_names, **outputs)
        files.write_atomically(self.folder / "best.keras", lambda path: save_model(best, path))


def _with_interval(predictions: Predictions) -> dict[str, Any]:
    """Returns the summary of predictions, with the interval of its first figure."""
    figures, name = predictions.score(), predictions.task.paired[0]
    interval = predictions.interval(name)
    return figures if interval is None else {**figures, f"{name}_interval": interval}


def _show(verbose: Any) -> Any:
    """Returns 1, for the steps of an epoch too, at a terminal; 2, one line per epoch, in files and logs; or 0."""
    if verbose != "auto":
        return verbose
    return 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2


def fit(
    recipe: Recipe | str | os.PathLike | None = None,
    *,
    model: str | None = None,
    data: str | datasets.Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    seed: int | None = None,
    weights: str | os.PathLike | None = None,
    overrides: Mapping[str, Any] | None = None,
    distribution: str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: Listener | None = None,
    score: Sequence[str] = ("validation", "test"),
    model_class: type[keras.Model] = keras.Model,
    verbose: Any = "auto",
    dry_run: bool = False,
    minutes: float | None = None,
) -> Any:
    """Trains a model by a recipe and leaves a run folder.

    Everything that can be checked is checked before the first epoch and before the folder is made.

    Args:
        recipe: a `Recipe`, a name from `list_recipes()`, or a TOML file; by default "quick", and with weights
            "finetune". A run that goes on remembers its recipe, model and data.
        model: a name from `keras_resnet.list_models()`; by default what the recipe was made for, else "resnet18".
        data: a spec such as "digits", "folder:photos", "tfds:cifar10" or "npz:FILE", by default what the recipe was
            made for, else "digits"; or a `Dataset` that was loaded already, to be used for several runs.
        data_dir: where TFDS finds its prepared data sets.
        out: the run folder; None for `runs/<recipe>-<model>-<time>`.
        resume: go on where the folder stands, and start where it is empty; a finished run is returned as it is.
            The run then ends with the same bits as one that was never interrupted, on the same machine. With more
            epochs than the run was planned for, it is extended: the learning rate goes on as the schedule of the
            longer run has it at that epoch, so it may rise once, and run.json says so under "extended".
        seed: of weights, order and augmentation; None for the recipe's.
        weights: a tag or a file to begin with, as for the constructors; None for the recipe's (`model.weights`). Other
            classes than those of the weights make a new head, and images are normalized as the weights want them
            unless the recipe names another normalization.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.
        distribution: who trains together, "none", "mirrored", "multiworker" or "data_parallel"; None for the recipe's
            (`distribution.kind`). Of several processes each has a `Run`, and the first one alone writes.
        callbacks: more of Keras's callbacks, called after the run's own. Their state is not saved. Where images grow
            (`data.progressive_from`), training begins and ends once for each size.
        report: `(epoch, figures) -> bool`, called after every epoch was saved, with the figures of history.csv; True
            stops the run there. It is then left as it stands, without scores, and goes on with `resume=True`.
        score: splits that the best model is scored on at the end; a search leaves "test" out.
        model_class: a subclass of `keras.Model` whose `train_step` takes the place of Keras's. Where an optimizer step
            takes several batches, its method `optimizer_steps(batches)` says how many that makes.
        verbose: 0 silent, 2 one line per epoch, 1 the steps of the epoch under way too; "auto" is 1 at a terminal or in
            a notebook, else 2.
        dry_run: stop before training, and write nothing.
        minutes: how long the run may take, > 0: some steps are timed first, and as many epochs are planned as fit. None
            for the recipe's epochs. A run that goes on keeps the epochs that it was planned with.

    Returns:
        A `Run` with `path`, `model` (best.keras), `history`, `metrics`, `recipe` and `dataset`; with `dry_run` a
        `PlannedRun`.

    Raises:
        TypeError, ValueError: an argument, the data or the folder is not fit for training; `TrainingDiverged` when
            the loss is not finite; `CheckpointError` when no saved state is whole.
        Interrupted: on Ctrl-C.

    Example:
        >>> from keras_resnet import training
        >>> run = training.fit("quick", overrides={"model.width": 8}, dry_run=True)
        >>> run.recipe.model.width, len(run.class_names)
        (8, 10)
    """
    check_bool("resume", resume)
    check_bool("dry_run", dry_run)
    start = time.perf_counter()
    _check_minutes(minutes, overrides or {})
    if resume and out is None:
        raise BadValue("resume=True was given without out. A resume needs the folder of the run. Pass it as out.")
    if not (isinstance(model_class, type) and issubclass(model_class, keras.Model)):
        raise BadType(
            f"model_class={model_class!r} is not a subclass of keras.Model. Allowed are keras.Model and such. Pass one."
        )
    folder = None if out is None else pathlib.Path(out).expanduser()
    check_path("out", folder)
    more = {"model.weights": None if weights is None else os.fspath(weights), "distribution.kind": distribution}
    overrides = {**(overrides or {}), **{name: value for name, value in more.items() if value is not None}}
    run_file = read_description(folder) if resume and folder is not None and folder.is_dir() else None
    if minutes is not None and run_file is not None:  # the epochs that were planned stay, also beside a named recipe
        overrides["train.epochs"] = run_file.about.recipe.train.epochs
    kind = fill_from_run({"recipe": recipe}, seed, overrides, run_file)[0].distribution.kind
    plan = partial(resolve, recipe, model=model, data=data, data_dir=data_dir, seed=seed, overrides=overrides)
    with training_together(kind, dry_run) as group:
        state = find_together(group, partial(check_folder, folder, resume))
        experiment = group.together(partial(plan, run_file=state, group=group))
        about = experiment.describe()
        check_all_same(group, {**about.identity(), "versions": dict(about.versions)})
        extended: tuple[int, ...] = ()
        rollbacks = () if state is None else state.about.rollbacks
        if state is not None and folder is not None:
            extended = check_same(folder, state, about).extended
            is_extended = len(extended) > len(state.about.extended)
            if state.status == COMPLETE and not is_extended and not group.is_true(partial(can_be_rebuilt, folder)):
                print(f"{folder}: already complete, nothing to do. More epochs, as in --epochs N, extend it.")
                return Run(folder, state, dataset=experiment.dataset)
        planned_steps = experiment.recipe.train.epochs * experiment.steps_per_epoch
        is_long = minutes is not None or (not dry_run and planned_steps >= MEASURED_FROM_STEPS)
        is_planned = recipe is None and group.count == 1 and is_long
        if state is None and (minutes is not None or is_planned):
            free = _fields_to_fit(experiment.recipe, overrides) if is_planned else set()
            experiment = _by_measurement(experiment, model_class, minutes, start, free, verbose)
        keras.utils.set_random_seed(experiment.recipe.train.seed)
        network = experiment.build_model(model_class)
        batch_size = experiment.recipe.train.batch_size // count_of_parts(experiment.recipe.distribution.kind, group)
        check_memory(network, batch_size, experiment.recipe.train.recompute)
        check_backend(experiment)
        if dry_run:
            return PlannedRun(experiment.describe(network), network, experiment.dataset)
        if experiment.recipe.about.notice and not experiment.recipe.model.weights:
            warnings.warn(f"{experiment.recipe.name}: {experiment.recipe.about.notice}", stacklevel=2)
        verbose = verbose if group.is_first else 0
        for line in (*plan_lines(experiment.describe(network)), *experiment.dataset.report) if verbose else ():
            print(one_line(line))
        if folder is None:
            name = partial(new_folder, experiment.recipe, experiment.model)
            folder = pathlib.Path(group.from_first(lambda: os.fspath(name())))
        with (
            working_folder(group, partial(_held, folder, resume)) as place,
            datasets.explain_decode_errors(experiment.dataset),
        ):
            run_folder = place if group.is_first else folder
            loop = TrainingLoop(place, experiment, network, tuple(score), extended, rollbacks, model_class, run_folder)
            return loop.run(callbacks, report, verbose)


def _fields_to_fit(recipe: Recipe, overrides: Mapping[str, Any]) -> set[str]:
    """Returns the fields that a plan may fit to the machine: those that were not given, and no width of weights."""
    fields = {"train.precision", "augment.policy"}
    if not (recipe.model.weights or recipe.model.widths):
        fields.add("model.width")
    return {field for field in fields if not any(name.startswith(field) for name in overrides)}


# Of a measurement: steps that are not counted, those that are at least, and the seconds after which it ends.
WARM_STEPS, LEAST_STEPS, MEASURED_SECONDS = 4, 10, 5.0
# Seconds of an epoch beside its steps, and more for each parameter: saving the best model and a state.
SECONDS_BESIDE, SECONDS_OF_PARAMETER = 0.1, 2e-8


def seconds_per_epoch(experiment: Experiment, network: keras.Model) -> tuple[float, float]:
    """Returns the measured seconds of an epoch and of the scores at the end; the network is trained a few steps for it.

    The step's median counts, so that a short disturbance does not.
    """
    network.compile(**experiment.compile_args())
    network.optimizer.build(network.trainable_variables)  # a step that makes variables is traced twice
    times: list[float] = []

    def end_of_step(batch: int, logs: Any) -> None:
        times.append(time.perf_counter())
        if len(times) > WARM_STEPS + LEAST_STEPS and times[-1] - times[WARM_STEPS] > MEASURED_SECONDS:
            network.stop_training = True

    clock = keras.callbacks.LambdaCallback(on_train_batch_end=end_of_step)
    steps = WARM_STEPS + max(LEAST_STEPS, 200)
    network.fit(experiment.training_batches(), steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[clock])
    step = float(np.median(np.diff(times[WARM_STEPS:])))
    validation = experiment.validation_batches()
    example = 0.0
    if validation is not None:
        network.evaluate(validation, steps=1, verbose=0)
        start = time.perf_counter()
        network.evaluate(validation, verbose=0)
        example = (time.perf_counter() - start) / experiment.dataset.sizes["validation"]
    sizes = experiment.dataset.sizes
    scores = example * (sizes.get("validation", 0) + sizes.get("test", 0))
    beside = SECONDS_BESIDE + SECONDS_OF_PARAMETER * network.count_params()
    return step * experiment.steps_per_epoch + example * sizes.get("validation", 0) + beside, scores


def _check_minutes(minutes: float | None, overrides: Mapping[str, Any]) -> None:
    if minutes is None:
        return
    if not isinstance(minutes, (int, float)) or not 0 < minutes < math.inf:
        raise BadValue(f"minutes={minutes!r} is not a time. Allowed is a number above 0. Pass one, or None.")
    if "train.epochs" in overrides:
        raise BadValue("minutes was given with train.epochs. Each says how long to train. Leave one out.")


# A shorter training ends before a measurement would pay.
MEASURED_FROM_STEPS = 2000
# Fewer epochs learn more from crops and flips alone than from a policy of strong changes (docs/recipes.md).
POLICY_EPOCHS = 120
# A precision is changed where it makes a step faster by that factor: less may be noise.
WORTHWHILE = 0.85
# Where fewer epochs fit, half the width learns more in the same time, down to the least (docs/recipes.md).
ENOUGH_EPOCHS, WIDTH, LEAST_WIDTH = 30, 64, 16


def _by_measurement(
    experiment: Experiment,
    model_class: type[keras.Model],
    minutes: float | None,
    start: float,
    free: Collection[str],
    verbose: Any,
) -> Experiment:
    """Returns the experiment in the precision that is fast here, with the epochs that fit the minutes, one or more.

    Args:
        experiment: as it was resolved.
        model_class: of the network.
        minutes: that the whole may take; None for the epochs of the recipe.
        start: when it began, by `time.perf_counter`.
        free: fields of `_fields_to_fit` that may be changed.
        verbose: whether the time is printed.
    """
    if experiment.group.count > 1:
        raise BadValue("minutes was given for several processes. Steps are timed in one alone. Give the epochs.")
    dataset, end = experiment.dataset, math.inf if minutes is None else start + 60 * minutes

    def measure(candidate: Experiment) -> tuple[float, float, float]:
        """Returns the seconds of an epoch, of the scores, and of building and compiling."""
        keras.utils.set_random_seed(experiment.recipe.train.seed)
        began = time.perf_counter()
        return *seconds_per_epoch(candidate, candidate.build_model(model_class)), time.perf_counter() - began

    def epochs_in(times: tuple[float, float, float]) -> int:
        """Returns how many epochs fit the time that is left; the training itself builds and compiles once more."""
        return int((end - time.perf_counter() - times[2] - times[1]) / times[0])

    times = measure(experiment)
    if "train.precision" in free and experiment.recipe.train.precision == "float32" and is_fast("bfloat16"):
        candidate = experiment.for_recipe(experiment.recipe.replace({"train.precision": "mixed_bfloat16"}))
        others = measure(candidate)
        if others[0] < WORTHWHILE * times[0]:
            dataset.report.append(
                f"train.precision mixed_bfloat16, because an epoch takes {others[0] / times[0]:.2f} of float32's time"
            )
            experiment, times = candidate, others
    width = experiment.recipe.model.width
    width = int(models.VARIANTS[experiment.model].defaults.get("width", WIDTH) if width == "auto" else width)
    while minutes is not None and "model.width" in free and width > LEAST_WIDTH and epochs_in(times) < ENOUGH_EPOCHS:
        width = max(LEAST_WIDTH, width // 2)
        experiment = experiment.for_recipe(experiment.recipe.replace({"model.width": width}))
        before, times = epochs_in(times), measure(experiment)
        dataset.report.append(f"model.width {width}, because {max(before, 0)} epochs fit with twice the width")
    keras.utils.set_random_seed(experiment.recipe.train.seed)
    epoch, scores, _ = times
    epochs = experiment.recipe.train.epochs
    if minutes is not None:
        epochs = max(1, epochs_in(times))
        if epochs_in(times) < 1:
            warnings.warn(
                f"minutes={minutes:g} is less than one epoch takes, {duration(epoch)}, beside the start. One is "
                "trained.",
                stacklevel=3,
            )
    recipe = experiment.recipe.replace({"train.epochs": epochs})
    if "augment.policy" in free and minutes is not None and recipe.augment.policy != "none" and epochs < POLICY_EPOCHS:
        plain = type(recipe.augment)()
        fields = [field.name for field in dataclasses.fields(plain) if field.name.startswith("policy")]
        recipe = recipe.replace({f"augment.{name}": getattr(plain, name) for name in fields})
        dataset.report.append(f"augment.policy none, because it pays in long trainings, and {epochs} epochs fit")
    if verbose:
        print(
            f"time       {epochs} epochs of {duration(epoch)}, as measured: about {duration(epochs * epoch + scores)}"
        )
    return experiment.for_recipe(recipe)


@contextmanager
def _held(folder: pathlib.Path, resume: bool) -> Iterator[pathlib.Path]:
    """Makes a run folder, and holds it against other processes."""
    folder = files.make_writable(folder)
    with locked(folder):
        # Another process may have finished or changed the run before this one had the lock.
        check_folder(folder, resume)
        yield folder
