"""`fit`: from a recipe, a model's name and a data spec to a run folder, with Keras's own `model.fit` inside."""

import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

from keras_resnet import data as datasets
from keras_resnet import files
from keras_resnet.arguments import check_bool, check_path
from keras_resnet.errors import BadType, BadValue
from keras_resnet.terminal import one_line
from keras_resnet.training.defaults import fill_from_run, resolve
from keras_resnet.training.description import COMPLETE
from keras_resnet.training.folder import check_folder, check_same, locked, new_folder, read_description
from keras_resnet.training.loop import Listener, TrainingLoop
from keras_resnet.training.preflight import check_backend, check_memory
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.repair import can_be_rebuilt
from keras_resnet.training.run import PlannedRun, Run, describe_run
from keras_resnet.training.together import (
    check_all_same,
    count_of_parts,
    find_together,
    in_all,
    is_true,
    training_together,
    working_folder,
)


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
    check_path("out", folder)
    more = {"model.weights": None if weights is None else os.fspath(weights), "distribution.kind": distribution}
    overrides = {**(overrides or {}), **{name: value for name, value in more.items() if value is not None}}
    known = read_description(folder) if resume and folder is not None and folder.is_dir() else None
    kind = fill_from_run({"recipe": recipe}, seed, overrides, known)[0].distribution.kind
    plan = partial(resolve, recipe, model=model, data=data, data_dir=data_dir, seed=seed, overrides=overrides)
    with training_together(kind, dry_run) as group:
        found = find_together(group, partial(check_folder, folder, resume))
        setup = in_all(group, partial(plan, found=found, group=group))
        about = describe_run(setup)
        check_all_same(group, {**about.identity(), "versions": dict(about.versions)})
        extended: tuple[int, ...] = ()
        setbacks = () if found is None else found.about.setbacks
        if found is not None and folder is not None:
            extended = check_same(folder, found, describe_run(setup)).extended
            is_extended = len(extended) > len(found.about.extended)
            if found.status == COMPLETE and not is_extended and not is_true(group, partial(can_be_rebuilt, folder)):
                print(f"{folder}: already complete, nothing to do. More epochs, as in --epochs N, extend it.")
                return Run(folder, found, dataset=setup.dataset)
        keras.utils.set_random_seed(setup.recipe.train.seed)
        network = setup.build_model(model_class)
        batch_size = setup.recipe.train.batch_size // count_of_parts(setup.recipe, group)
        check_memory(network, batch_size, setup.recipe.train.recompute)
        check_backend(setup)
        if dry_run:
            return PlannedRun(describe_run(setup, network), network, setup.dataset)
        if setup.recipe.about.notice and not setup.recipe.model.weights:
            warnings.warn(f"{setup.recipe.name}: {setup.recipe.about.notice}", stacklevel=2)
        verbose = verbose if group is None or group.is_first else 0
        for line in setup.dataset.report if verbose else ():
            print(one_line(line))
        if folder is None:
            name = partial(new_folder, setup.recipe, setup.model)
            folder = name() if group is None else pathlib.Path(group.from_first(lambda: os.fspath(name())))
        with (
            working_folder(group, partial(_held, folder, resume)) as place,
            datasets.explain_decode_errors(setup.dataset),
        ):
            named = place if group is None or group.is_first else folder
            training = TrainingLoop(place, setup, network, tuple(score), extended, setbacks, model_class, named)
            return training.run(callbacks, report, verbose)


@contextmanager
def _held(folder: pathlib.Path, resume: bool) -> Iterator[pathlib.Path]:
    """Makes a run folder, and holds it against other processes."""
    folder = files.make_writable(folder)
    with locked(folder):
        # Another process may have finished or changed the run before this one had the lock.
        check_folder(folder, resume)
        yield folder
