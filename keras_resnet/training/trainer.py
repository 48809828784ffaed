"""`fit`: from a recipe, a model's name and a data spec to a run folder, with Keras's own `model.fit` inside."""

import dataclasses
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras

from keras_resnet import data as datasets
from keras_resnet import files, preprocessing, scores
from keras_resnet.arguments import check_bool
from keras_resnet.errors import BadType, BadValue
from keras_resnet.training.callbacks import Report, recording_callbacks, save_model, write_history
from keras_resnet.training.checkpoint import Progress, SaveState, read_newest, restore
from keras_resnet.training.defaults import resolve
from keras_resnet.training.folder import (
    COMPLETE,
    EPOCHS,
    RUNNING,
    STOPPED,
    Description,
    check_folder,
    check_same,
    differences,
    locked,
    new_folder,
    with_defaults,
    write_description,
)
from keras_resnet.training.inputs import EVALUATION_BATCH_SIZE
from keras_resnet.training.plots import draw_confusion, draw_or_warn
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.run import PlannedRun, Run
from keras_resnet.training.setup import Setup

Listener = Callable[[int, Mapping[str, float]], Any]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `fit`: the last finished epoch is saved, and the message says how to go on."""


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
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: Listener | None = None,
    score: Sequence[str] = ("validation", "test"),
    model_class: type[keras.Model] = keras.Model,
    verbose: Any = "auto",
    dry_run: bool = False,
) -> Any:
    """Trains a model by a recipe and leaves a run folder.

    Everything that can be checked is checked before the first epoch and before the folder is made.

    Args:
        recipe: a `Recipe`, a name from `list_recipes()`, or a TOML file; "quick" by default. A run that goes on
            remembers its recipe, model and data.
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
        callbacks: more of Keras's callbacks, called after the run's own. Their state is not saved. Where images grow
            (`data.progressive_from`), training begins and ends once for each size.
        report: `(epoch, figures) -> bool`, called after every epoch was saved, with the figures of history.csv; True
            stops the run there. It is then left as it stands, without scores, and goes on with `resume=True`.
        score: splits that the best model is scored on at the end; a search leaves "test" out.
        model_class: a subclass of `keras.Model` whose `train_step` takes the place of Keras's. Where an optimizer step
            takes several batches, its method `optimizer_steps(batches)` says how many that makes.
        verbose: 0 silent, 1 a progress bar, 2 one line per epoch; "auto" is 1 at a terminal or in a notebook, else 2.
        dry_run: stop before training, and write nothing.

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
    if resume and out is None:
        raise BadValue("resume=True was given without out. A resume needs the folder of the run. Pass it as out.")
    if not (isinstance(model_class, type) and issubclass(model_class, keras.Model)):
        raise BadType(
            f"model_class={model_class!r} is not a subclass of keras.Model. Allowed are keras.Model and such. Pass one."
        )
    folder = None if out is None else pathlib.Path(out).expanduser()
    found = check_folder(folder, resume)
    if weights is not None:
        overrides = {**(overrides or {}), "model.weights": os.fspath(weights)}
    setup = resolve(recipe, model=model, data=data, data_dir=data_dir, seed=seed, overrides=overrides, found=found)
    dataset = setup.dataset
    extended: tuple[int, ...] = ()
    if found is not None and folder is not None:
        extended = check_same(folder, found, describe_run(setup)).extended
        if found["status"] == COMPLETE and len(extended) == len(found.get("extended", ())):
            print(f"{folder}: already complete, nothing to do. More epochs, as in --epochs N, extend it.")
            return Run(folder, found, dataset=dataset)
    keras.utils.set_random_seed(setup.recipe.train.seed)
    network = setup.build_model(model_class)
    if dry_run:
        return PlannedRun(describe_run(setup, network), network, dataset)
    if setup.recipe.about.notice and not setup.recipe.model.weights:
        warnings.warn(f"{setup.recipe.name}: {setup.recipe.about.notice}", stacklevel=2)
    for line in dataset.report if verbose else ():
        print(line)
    folder = files.make_writable(folder or new_folder(setup.recipe, setup.model))
    with locked(folder), datasets.naming_bad_files(dataset):
        # Another process may have finished or changed the run before this one had the lock.
        check_folder(folder, resume)
        return _Training(folder, setup, network, Progress(), tuple(score), extended).run(callbacks, report, verbose)


def describe_run(setup: Setup, network: keras.Model | None = None) -> Description:
    """Returns what a run of this is, as run.json holds it.

    Args:
        setup: of the run.
        network: from `build_model`; None without what it adds.
    """
    import tensorflow as tf

    from keras_resnet import __version__

    dataset = setup.dataset
    about = Description(
        recipe=setup.recipe,
        model=setup.model,
        data=setup.data,
        data_dir=setup.data_dir,
        fingerprint=dataset.fingerprint,
        class_names=tuple(dataset.class_names),
        sizes=dict(dataset.sizes),
        image_shape=tuple(dataset.image_shape),
        report=tuple(dataset.report),
        versions={"keras_resnet": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
        steps_per_epoch=setup.steps_per_epoch,
    )
    if network is None:
        return about
    shape = "x".join(map(str, network.input_shape[1:]))
    return dataclasses.replace(about, parameters=network.count_params(), input_shape=shape)


@dataclasses.dataclass
class _Training:
    """A run under way: what it is, what has happened, and what it is made of."""

    folder: pathlib.Path
    setup: Setup
    network: keras.Model
    progress: Progress
    score: tuple[str, ...]
    extended: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Describes the run once: its network does not change."""
        self.about = dataclasses.replace(describe_run(self.setup, self.network), extended=self.extended)
        self.dataset = self.setup.dataset

    def run(self, extra: Sequence[keras.callbacks.Callback], report: Listener | None, verbose: Any) -> Run:
        """Trains from where the folder stands to the end, or to where the listener stops it."""
        recipe, progress = self.about.recipe, self.progress
        # Keras counts the batches that are accumulated when it asks a schedule.
        steps = self._optimizer_steps(self.about.steps_per_epoch * recipe.optimizer.accumulation)
        self.network.compile(**self.setup.compile_args(steps_per_epoch=steps))
        self.network.optimizer.build(self.network.trainable_variables)
        self.average = recipe.optimizer.weight_average(self.network)
        self.averages = [] if self.average is None else self.average.variables
        (self.folder / "last").mkdir(exist_ok=True)
        self._restore()
        begun = progress.epochs
        if begun == 0 or self.about.extended:
            write_description(self.folder, self._json(RUNNING))
            files.write_text(self.folder / "recipe.toml", self.about.recipe_for_others().to_toml())
        own = recording_callbacks(
            self.folder,
            batch_size=recipe.train.batch_size,
            patience=recipe.train.early_stopping_patience,
            monitor=self.setup.monitor,
            average=self.average,
            progress=progress,
        )
        own.append(SaveState(self.folder / "last", progress, self.about.identity(), self.averages))
        if report is not None:
            own.append(Report(report, progress))
        try:
            if begun < recipe.train.epochs and not progress.stopped:
                self.setup.fit(
                    self.network,
                    callbacks=[*own, *extra],
                    average=self.average,
                    start_epoch=begun,
                    past=progress.rows,
                    verbose=_show(verbose),
                )
            elif self.average is not None:
                self.average.put()
        except KeyboardInterrupt:
            raise Interrupted(
                f"Interrupted after {progress.epochs} of {recipe.train.epochs} epochs, which are saved. To go on: "
                f"keras-resnet train --out {self.folder} --resume (in Python: out={os.fspath(self.folder)!r}, "
                "resume=True)"
            ) from None
        self._check_steps(begun)
        if progress.halted and progress.epochs < recipe.train.epochs:
            description = self._json(STOPPED, epochs_trained=progress.epochs, history=progress.rows)
            write_description(self.folder, description)
            return Run(self.folder, description, dataset=self.dataset)
        return self._finish()

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
        restore(self.network, saved, values, self.averages)
        self.progress.take(saved)
        write_history(self.folder, self.progress.rows)
        if changed and self.progress.rows:
            planned, trained = self.about.recipe.train.epochs, self.progress.epochs
            rate, last = float(self.network.optimizer.learning_rate), self.progress.rows[-1]["learning_rate"]
            print(
                f"{self.folder}: extended to {planned} epochs. Epoch {trained + 1} begins at a learning rate of "
                f"{rate:.3g}, as the schedule of {planned} epochs has it; epoch {trained} ended at {last:.3g}."
            )

    def _optimizer_steps(self, batches: int) -> int:
        """Returns how many optimizer steps so many batches make; a model with a step of its own may say."""
        counted = getattr(self.network, "optimizer_steps", None)
        made = batches if counted is None else int(counted(batches))
        return made // self.about.recipe.optimizer.accumulation

    def _check_steps(self, begun: int) -> None:
        """Raises RuntimeError when Keras took another number of steps than planned, which would shift schedules."""
        progress, steps = self.progress, self.about.steps_per_epoch
        planned, total = (progress.epochs - begun) * steps, self._optimizer_steps(progress.epochs * steps)
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
        best = Run(folder, self._json(RUNNING)).model
        record = preprocessing.for_model(best)
        metrics = {
            split: scores.score(best, dataset, split, record, EVALUATION_BATCH_SIZE)
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
        description = self._json(
            COMPLETE,
            epochs_trained=progress.epochs,
            best_epoch=progress.best_epoch,
            optimizer_steps=iterations,
            skipped_steps=self._optimizer_steps(progress.epochs * self.about.steps_per_epoch) - iterations,
            metrics=metrics,
            history=progress.rows,
        )
        write_description(folder, description)
        return Run(folder, description, model=best, dataset=dataset)

    def _json(self, status: str, **outcome: Any) -> dict[str, Any]:
        """Returns what run.json holds."""
        return {"status": status, **self.about.to_dict(), **outcome}


def _show(verbose: Any) -> Any:
    """Returns what Keras is to show: a bar where someone watches it, one line per epoch in files and logs."""
    if verbose != "auto":
        return verbose
    return 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2
