"""`fit`: from a recipe, a model's name and a data spec to a run folder, with Keras's own `model.fit` inside."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_resnet import data as datasets
from keras_resnet import files, models, preprocessing, scores
from keras_resnet.arguments import check_bool, choose
from keras_resnet.errors import BadValue
from keras_resnet.training.building import build_model, image_size_of, steps_of
from keras_resnet.training.callbacks import (
    BestModel,
    FiniteLoss,
    HistoryFile,
    make_writable,
    run_callbacks,
    save_model,
)
from keras_resnet.training.checkpoint import SaveState, read_newest, restore
from keras_resnet.training.opening import (
    anchored,
    check_folder,
    check_same,
    describe,
    identity,
    new_folder,
    remembered,
    resolve,
)
from keras_resnet.training.optimizers import inner_optimizer
from keras_resnet.training.plots import draw_confusion
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.run import COMPLETE, Run, differences, load_data, locked, write_description
from keras_resnet.training.sections import CROPS

EVALUATION_BATCH_SIZE = 256


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `fit`: the last finished epoch is saved, and the message says how to go on."""


def fit(
    recipe: Recipe | str | os.PathLike | None = None,
    *,
    model: str | None = None,
    data: str | None = None,
    data_dir: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: Any = "auto",
    dry_run: bool = False,
) -> Run:
    """Trains a model by a recipe and leaves a run folder.

    Everything that can be checked is checked before the first epoch and before the folder is made.

    Args:
        recipe: a `Recipe`, a name from `list_recipes()`, or a TOML file; "quick" by default. A run that goes on
            remembers its recipe, model and data.
        model: a name from `keras_resnet.list_models()`; "resnet18" by default.
        data: a spec such as "digits", "folder:photos", "tfds:cifar10" or "npz:FILE"; "digits" by default.
        data_dir: where TFDS finds its prepared data sets.
        out: the run folder; None for `runs/<recipe>-<model>-<time>`.
        resume: go on where the folder stands, and start where it is empty; a finished run is returned as it is.
            The run then ends with the same bits as one that was never interrupted, on the same machine.
        seed: of weights, order and augmentation; None for the recipe's.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.
        callbacks: more of Keras's callbacks, called after the run's own. Their state is not saved.
        verbose: "auto", 0, 1 or 2, as in `model.fit`.
        dry_run: stop before training, and write nothing.

    Returns:
        A `Run` with `path`, `model` (best.keras), `history`, `metrics`, `recipe` and `dataset`.

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
    folder = None if out is None else pathlib.Path(out).expanduser()
    found = check_folder(folder, resume)
    asked = remembered(found, {"recipe": recipe, "model": model, "data": data, "data_dir": data_dir})
    recipe, model = resolve(asked["recipe"], seed, overrides), asked["model"]
    data, data_dir = anchored(str(asked["data"]), asked["data_dir"])
    choose("model", model, models.VARIANTS)
    dataset = load_data(data, data_dir, recipe)
    description = describe(recipe, model, data, data_dir, dataset)
    if found is not None and folder is not None:
        check_same(folder, found, description)
        if found["status"] == COMPLETE:
            print(f"{folder}: already complete, nothing to do.")
            return Run(folder, found, dataset=dataset)
    keras.utils.set_random_seed(recipe.train.seed)
    network = build_model(recipe, model, dataset)
    description |= {
        "parameters": network.count_params(),
        "input_shape": "x".join(map(str, network.input_shape[1:])),
        "steps_per_epoch": steps_of(recipe, dataset),
    }
    if dry_run:
        return Run(None, description, model=network, dataset=dataset)
    for line in dataset.report if verbose else ():
        print(line)
    folder = make_writable(folder or new_folder(recipe, model))
    with locked(folder), datasets.naming_bad_files(dataset):
        # Another process may have finished or changed the run before this one had the lock.
        check_folder(folder, resume)
        return _train(folder, description, recipe, network, dataset, callbacks, verbose)


def _train(
    folder: pathlib.Path,
    description: dict[str, Any],
    recipe: Recipe,
    network: keras.Model,
    dataset: datasets.Dataset,
    extra: Sequence[keras.callbacks.Callback],
    verbose: Any,
) -> Run:
    steps = description["steps_per_epoch"]
    network.compile(**recipe.compile_args(steps_per_epoch=steps, from_logits=True))
    network.optimizer.build(network.trainable_variables)
    own = run_callbacks(recipe, folder)
    best = next(callback for callback in own if isinstance(callback, BestModel))
    history = next(callback for callback in own if isinstance(callback, HistoryFile))
    counter = next(callback for callback in own if isinstance(callback, FiniteLoss))
    (folder / "last").mkdir(exist_ok=True)
    saver = SaveState(folder / "last", best, history, identity(description))
    _restore(folder, network, saver)
    begun = saver.epochs
    if begun == 0:
        write_description(folder, description)
        recipe.save(folder / "recipe.toml")
    try:
        if begun < recipe.train.epochs and not best.state["stopped"]:
            _fit(recipe, network, dataset, steps, begun, [*own, saver, *extra], verbose)
        elif inner_optimizer(network.optimizer).use_ema:
            network.optimizer.finalize_variable_values(network.trainable_variables)
    except KeyboardInterrupt:
        raise Interrupted(
            f"Interrupted after {saver.epochs} of {recipe.train.epochs} epochs, which are saved. To go on: "
            f"keras-resnet train --out {folder} --resume (in Python: out={os.fspath(folder)!r}, resume=True)"
        ) from None
    _check_steps(network, counter.steps, (saver.epochs - begun) * steps, saver.epochs * steps)
    return _finish(folder, description, recipe, network, dataset, saver)


def _restore(folder: pathlib.Path, network: keras.Model, saver: SaveState) -> None:
    newest = read_newest(folder / "last")
    if newest is None:
        return
    saved, values = newest
    changed = differences(saved["identity"], saver.identity)
    if changed:
        raise BadValue(
            f"{os.fspath(folder / 'last')!r} holds the state of another run; differing: {'; '.join(changed)}. A resume "
            "needs the same recipe, model and data. Give the same as before, or choose another folder."
        )
    restore(network, saved, values)
    saver.epochs = saved["epochs"]
    saver.best.state = saved["best"]
    saver.history_file.rows = saved["history"]
    saver.history_file.write()


def _fit(
    recipe: Recipe,
    network: keras.Model,
    dataset: datasets.Dataset,
    steps: int,
    begun: int,
    callbacks: list[keras.callbacks.Callback],
    verbose: Any,
) -> None:
    record = preprocessing.for_model(network)
    batches = dataset.training_batches(
        recipe.train.batch_size,
        seed=recipe.train.seed,
        start_step=begun * steps,
        image_size=image_size_of(recipe, dataset),
        augmentation=_augmentation(recipe),
        crop=CROPS[recipe.data.crop],
    )
    validation = None
    if dataset.sizes.get("validation"):
        validation = dataset.batches(
            "validation", EVALUATION_BATCH_SIZE, **datasets.sizing(record, dataset.image_shape)
        )
    network.fit(
        batches,
        steps_per_epoch=steps,
        initial_epoch=begun,
        epochs=recipe.train.epochs,
        validation_data=validation,
        callbacks=callbacks,
        shuffle=False,
        verbose=verbose,
    )


def _augmentation(recipe: Recipe) -> Any:
    augment = recipe.augment
    return preprocessing.augmentation(
        augment.flip, augment.pad_and_crop, augment.rotation, augment.zoom, augment.translation
    )


def _check_steps(network: keras.Model, counted: int, planned: int, total: int) -> None:
    """Raises RuntimeError when Keras took another number of steps than planned, which would shift every schedule."""
    # A 16-bit step whose gradients overflow is skipped by design, and does not count as an iteration.
    iterations = int(network.optimizer.iterations)
    skipped_allowed = hasattr(network.optimizer, "dynamic_scale")
    if counted != planned or not (iterations == total or (skipped_allowed and iterations <= total)):
        raise RuntimeError(
            f"Keras ran {counted} steps where {planned} were planned, and the optimizer counts {iterations} of {total}."
        )


def _finish(
    folder: pathlib.Path,
    description: dict[str, Any],
    recipe: Recipe,
    network: keras.Model,
    dataset: datasets.Dataset,
    saver: SaveState,
) -> Run:
    files.write_atomically(folder / "final.keras", lambda path: save_model(network, path))
    run = Run(folder, description, dataset=dataset)
    record = preprocessing.for_model(run.model)
    metrics = {
        split: scores.score(run.model, dataset, split, record, EVALUATION_BATCH_SIZE)
        for split in ("validation", "test")
        if dataset.sizes.get(split)
    }
    shown = [split for split in metrics if "confusion" in metrics[split]]
    if shown:
        _draw_confusion(folder / "confusion.png", shown[-1], metrics[shown[-1]], dataset.class_names)
    iterations = int(network.optimizer.iterations)
    description |= {
        "status": COMPLETE,
        "epochs_trained": saver.epochs,
        "best_epoch": saver.best.state["best_epoch"],
        "optimizer_steps": iterations,
        "skipped_steps": saver.epochs * description["steps_per_epoch"] - iterations,
        "metrics": metrics,
        "history": saver.history_file.rows,
    }
    write_description(folder, description)
    return Run(folder, description, model=run.model, dataset=dataset)


def _draw_confusion(path: pathlib.Path, split: str, figures: dict[str, Any], class_names: Sequence[str]) -> None:
    title = f"{split} split, accuracy {figures['accuracy']:.4f} ({figures['examples']} examples)"
    files.write_atomically(path, lambda where: draw_confusion(figures["confusion"], class_names, where, title))
