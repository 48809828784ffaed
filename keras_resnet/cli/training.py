"""The commands that show networks and recipes, look at data, train and search.

Nothing is imported at the top that loads Keras: `keras-resnet --help` reads this file.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet import models
from keras_resnet.arguments import check_int, choose
from keras_resnet.cli.names import recipe_titles, weights_table
from keras_resnet.cli.options import (
    ADDRESS,
    BATCH_SIZE,
    DATA,
    DATA_DIR,
    ENGINE,
    EPOCHS,
    JSON,
    MINUTES,
    PATH,
    RESUME,
    SEED,
    SET,
    SPEC,
    TASK,
    TRACKERS,
    command,
    given,
    model_arguments,
    option,
    overrides_of,
    shape_of,
    training_overrides,
)
from keras_resnet.errors import BadValue
from keras_resnet.models.variants import table
from keras_resnet.standard_error import load_quietly
from keras_resnet.terminal import one_line

PAGE = "folds.html"
GROUP = "--set=distribution.kind=multiworker"  # the last word for a field counts
SHOWN = 20


@command(
    "list",
    "the models, with their parameters and multiply-adds; or the published weights",
    option("pattern", metavar="PATTERN", nargs="?", help="names that match, such as '*50*'"),
    option("--weights", action="store_true", help="the weights, with publisher, license and accuracy"),
    examples=("'*50*'", "--weights"),
    needs_keras=False,
)
def list_models(options: argparse.Namespace) -> None:
    """Prints the table of variants, or of published weights."""
    pattern = options.pattern or "*"
    print(weights_table(models.list_models(pattern)) if options.weights else table(pattern))


@command(
    "info",
    "a model stage by stage: shapes, parameters, multiply-adds, memory",
    option("model", metavar="MODEL", help="a name that `list` prints, NAME:TAG, a run folder or a .keras file"),
    option("--input-shape", metavar="H,W,C", help="of one input, such as 224,224,3"),
    option("--set", action="append", default=[], metavar="model.b=v", help="such as model.stem=small"),
    option("--svg", metavar="FILE.svg", help="draw the block diagram too"),
    examples=("resnet50", "resnet18 --input-shape 32,32,3 --set model.stem=small"),
)
def info(options: argparse.Namespace) -> None:
    """Prints a model stage by stage."""
    shape = shape_of(options.input_shape)
    if os.path.exists(options.model) or options.model.partition(":")[0] != options.model:
        from keras_resnet import evaluation

        if options.set:
            raise BadValue(
                f"--set {options.set[0]} was given with a trained model. It describes a model to be built from a name. "
                "Leave it out."
            )
        model = evaluation.load_model(options.model)
    else:
        choose("MODEL", options.model, models.VARIANTS)
        # Values do not matter here, and zeros are the cheapest to make.
        arguments = {"kernel_initializer": "zeros", "input_shape": shape, **model_arguments(options.set)}
        model, shape = models.build(options.model, **arguments), None
    print(models.model_info(model, input_shape=shape))
    if options.svg:
        models.diagram(model, options.svg)
        print(options.svg)


@command(
    "recipes",
    "the recipes; one of them, or what differs between two",
    option("name", metavar="NAME|FILE.toml", nargs="?", help="a recipe to show; without one all are listed"),
    option("--compare", metavar="NAME|FILE.toml", help="show the fields in which this one differs"),
    examples=("", "quick --compare cifar"),
    needs_keras=False,
)
def recipes(options: argparse.Namespace) -> None:
    """Prints the recipes, one of them, or what differs between two."""
    if options.name is None:
        if options.compare is not None:
            raise BadValue(f"--compare {options.compare} was given without a recipe. Name the one to compare first.")
        print(recipe_titles())
        return
    load_quietly()
    from keras_resnet import training

    recipe = training.Recipe.load(options.name)
    if options.compare is None:
        print(recipe.to_toml(), end="")
        return
    rows = training.compare_recipes(recipe, training.Recipe.load(options.compare))
    width = max([len("field"), *(len(name) for name, _, _ in rows)])
    first = max([len(options.name), *(len(str(one)) for _, one, _ in rows)])
    print(f"{'field':<{width}}  {options.name:<{first}}  {options.compare}")
    for name, one, other in rows:
        print(f"{name:<{width}}  {one!s:<{first}}  {other}")


def train_folds(options: argparse.Namespace) -> None:
    """Trains a run for each fold, and prints what they say together."""
    from keras_resnet import files, training
    from keras_resnet.report import write_folds

    if options.out is None:
        raise BadValue(f"--folds {options.folds} was given without --out. Allowed is a folder for its runs. Name it.")
    refused = {
        "--processes": options.processes,
        "--workers": options.workers,
        "--dry-run": options.dry_run or None,
        "--minutes": options.minutes,
    }
    refused["--engine ray"] = None if options.engine == "local" else options.engine
    for name, value in refused.items():
        if value is not None:
            raise BadValue(f"{name} was given with --folds. A fold is trained in one process. Leave it out.")
    files.check_replaceable(pathlib.Path(options.out).expanduser() / PAGE)
    folds = training.cross_validate(
        **given(options, "recipe", "model", "data"),
        folds=options.folds,
        data_dir=options.data_dir,
        out=options.out,
        resume=options.resume,
        seed=options.seed,
        weights=options.weights,
        overrides=training_overrides(options),
    )
    page = write_folds(folds, folds.path / PAGE)
    print(folds)
    print(f"page         {one_line(str(page))}")


def start(options: argparse.Namespace) -> int | None:
    """Starts the requested processes and waits for them; returns the exit status, None for this one alone."""
    import keras

    from keras_resnet.distribution import run_on_ray, run_together

    if options.engine == "ray":
        if options.processes is not None:
            raise BadValue(
                f"--processes {options.processes} was given with --engine ray. Processes on a Ray cluster are its "
                "workers. Use --workers."
            )
        count = check_int("--workers", 1 if options.workers is None else options.workers)
        words = without(options.words, ("--engine", "--workers", "--address"))
        return run_on_ray(count, [*words, GROUP], options.address)
    for name, value in (("--workers", options.workers), ("--address", options.address)):
        if value is not None:
            raise BadValue(f"{name} {value} was given without --engine ray. It is of a Ray cluster. Give both.")
    if options.processes is not None and check_int("--processes", options.processes) > 1:
        group = "--set=distribution.kind=data_parallel" if keras.config.backend() == "jax" else GROUP
        return run_together(options.processes, [*without(options.words, ("--processes",)), group])
    return None


def without(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns a command line without some of its options, each of which takes a value."""
    rest: list[str] = []
    is_value = False
    for word in words:
        if not is_value and word.partition("=")[0] not in names:
            rest.append(word)
        is_value = not is_value and word in names
    return rest


def _tracking(options: argparse.Namespace) -> contextlib.AbstractContextManager:
    """Returns the context in which a run is sent while it trains; an empty one where it is not asked for."""
    if options.track is None:
        return contextlib.nullcontext()
    several = [f"--{name}" for name in ("folds", "processes", "workers") if getattr(options, name) is not None]
    if several:
        raise BadValue(
            f"--track {options.track} was given with {several[0]}. One process is followed. Leave it out, and send the "
            "folder afterwards: keras-resnet track OUT"
        )
    if options.dry_run:
        return contextlib.nullcontext()
    if options.out is None:
        raise BadValue(f"--track {options.track} was given without --out. What is sent is read there. Name a folder.")
    from keras_resnet.tracking import follow

    return follow(options.out, options.track)


@command(
    "train",
    "train a model by a recipe and leave a run folder",
    PATH,
    DATA,
    DATA_DIR,
    option("--model", metavar="NAME", help="a name that `list` prints"),
    option("--recipe", metavar="NAME|FILE.toml", help="a recipe of the package or a file"),
    EPOCHS,
    MINUTES,
    BATCH_SIZE,
    option("--weights", metavar="TAG|FILE", help="to begin with, such as cifar10; default: random ones"),
    option("--out", metavar="RUN", help="the run folder to make"),
    RESUME,
    SEED,
    SET,
    option("--folds", type=int, metavar="K", help="cross-validation: a run for each of K folds"),
    option("--processes", type=int, metavar="N", help="train together in N processes on this machine"),
    ENGINE,
    option("--workers", type=int, metavar="N", help="processes on the Ray cluster that train together"),
    ADDRESS,
    option("--dry-run", action="store_true", help="resolve and build everything, print it, take no step"),
    option(
        "--track",
        choices=TRACKERS,
        help="send the run there while it trains; its own variables, as MLFLOW_TRACKING_URI, say where",
    ),
    examples=("photos/ --minutes 30 --out runs/photos", "--data labels.csv --weights imagenet --out runs/tuned"),
)
def train(options: argparse.Namespace) -> int | None:
    """Trains by a recipe, or shows what would be trained."""
    from keras_resnet import evaluation, training

    tracking = _tracking(options)
    if options.folds is not None:
        train_folds(options)
        return None
    if not options.dry_run and (status := start(options)) is not None:
        return status
    with tracking:
        run = training.fit(
            **given(options, "recipe", "model", "data"),
            data_dir=options.data_dir,
            out=options.out,
            resume=options.resume,
            seed=options.seed,
            weights=options.weights,
            overrides=training_overrides(options),
            dry_run=options.dry_run,
            minutes=options.minutes,
        )
    if options.dry_run:
        print(f"{models.model_info(run.model)}\n")
    print(run)
    if not options.dry_run and run.metrics:
        print(evaluation.summary(run))
    return None


@command(
    "auto",
    "try three settings, train the best long, and write a page",
    PATH,
    DATA,
    DATA_DIR,
    option("--model", metavar="NAME", help="a name that `list` prints"),
    option("--minutes", type=float, default=60.0, metavar="T", help="for all of it (default: %(default)g)"),
    option("--out", metavar="DIR", required=True, help="the folder; the same command goes on there"),
    SEED,
    SET,
    examples=("photos/ --minutes 60 --out runs/auto", "--data labels.csv --out runs/auto"),
)
def auto(options: argparse.Namespace) -> None:
    """Trains the best of some candidates."""
    from keras_resnet.auto import train_best

    print(
        train_best(
            options.data or "digits",
            options.out,
            minutes=options.minutes,
            model=options.model,
            data_dir=options.data_dir,
            seed=options.seed,
            overrides=overrides_of(options.set),
        )
    )


@command(
    "tune",
    "search for a better recipe, in its own processes",
    PATH,
    option("--data", metavar="SPEC", help=f"the data: {SPEC} (default: digits)"),
    DATA_DIR,
    option("--model", metavar="NAME", help="a name that `list` prints (default: resnet18)"),
    option("--algorithm", choices=["random", "bayesian", "hyperband", "grid"], help="default: random"),
    option("--trials", type=int, metavar="N", help="how many recipes to try at most (default: 20)"),
    option("--out", metavar="DIR", required=True, help="where trials.csv and best.toml go"),
    EPOCHS,
    option("--workers", type=int, default=1, metavar="K", help="trials at a time (default: %(default)s)"),
    ENGINE,
    ADDRESS,
    RESUME,
    SEED,
    SET,
    examples=("photos/ --trials 20 --out search", "--out search --resume"),
)
def tune(options: argparse.Namespace) -> None:
    """Searches for a better recipe."""
    from keras_resnet import tuning

    tuning.search(
        model=options.model,
        data=options.data,
        data_dir=options.data_dir,
        algorithm=options.algorithm,
        trials=options.trials,
        out=options.out,
        epochs=options.epochs,
        workers=options.workers,
        engine=options.engine,
        address=options.address,
        resume=options.resume,
        seed=options.seed,
        overrides=overrides_of(options.set),
    )


@command(
    "lr-find",
    "a range test: for which learning rates the loss falls",
    PATH,
    DATA,
    DATA_DIR,
    option("--model", metavar="NAME", help="a name that `list` prints (default: resnet18)"),
    option("--recipe", metavar="NAME|FILE.toml", help="a recipe of the package or a file (default: quick)"),
    option("--out", metavar="DIR", required=True, help="where lr.csv and lr.png go"),
    SEED,
    SET,
    examples=("photos/ --out ranges", "--data digits --recipe quick --out ranges"),
)
def lr_find(options: argparse.Namespace) -> None:
    """Prints what a range test found."""
    from keras_resnet import training

    print(
        training.lr_find(
            **given(options, "recipe", "model", "data"),
            data_dir=options.data_dir,
            out=options.out,
            seed=options.seed,
            overrides=overrides_of(options.set),
        )
    )


@command(
    "preview",
    "a contact sheet of training examples as a recipe changes them",
    PATH,
    DATA,
    DATA_DIR,
    option("--recipe", metavar="NAME|FILE.toml", help="a recipe of the package or a file (default: quick)"),
    option("--out", metavar="FILE.png", required=True, help="the picture to make"),
    SEED,
    SET,
    examples=("photos/ --out grid.png", "--data photos/ --recipe cifar --out grid.png"),
)
def preview(options: argparse.Namespace) -> None:
    """Draws training examples."""
    from keras_resnet import training

    print(
        training.preview(
            **given(options, "recipe", "data"),
            data_dir=options.data_dir,
            out=options.out,
            seed=options.seed,
            overrides=overrides_of(options.set),
        )
    )


@command(
    "inspect-data",
    "what is wrong with data before training; or the labels that a cross-validation doubts",
    option("spec", metavar="SPEC|FOLDER", help=f"{SPEC}; or the folder of `train --folds`"),
    DATA_DIR,
    TASK,
    SET,
    option("--out", metavar="FILE.html", help="write a page with the pictures too"),
    JSON,
    examples=("photos/", "photos/ --out inspection.html"),
)
def inspect(options: argparse.Namespace) -> None:
    """Prints what is found."""
    from keras_resnet import data, evaluation
    from keras_resnet.training.folds import FOLDS_FILE

    if options.out is not None:
        from keras_resnet.report.page import page_path

        page_path(options.out)  # before anything is read
    folder = pathlib.Path(options.spec).expanduser()
    if (folder / FOLDS_FILE).is_file():
        for name in ("data_dir", "task", "set"):
            if getattr(options, name):
                raise BadValue(
                    f"--{name.replace('_', '-')} was given with {options.spec!r}, a cross-validation, which knows its "
                    "data. Leave it out."
                )
        if options.out is not None:
            from keras_resnet.report import write_label_issues

            write_label_issues(folder, options.out)
        issues = evaluation.label_issues(folder)
        _print_labels(issues, options.json)
        if not options.json:
            print(evaluation.agreement(issues))
        return
    # Unreadable files are reported with the rest.
    dataset = _load(options.spec, options, {"data.on_bad_image": "skip", "data.max_skipped_fraction": 1.0})
    inspection = data.inspect_data(dataset)
    if options.out is not None:
        from keras_resnet.report import write_inspection

        write_inspection(inspection, dataset, options.out)
    if options.json:
        print(json.dumps(inspection.to_dict()))
        return
    for line in str(inspection).splitlines():
        print(one_line(line))


@command(
    "prepare",
    "large pictures made small once, so that training reads them fast; the labels in a table",
    option("spec", metavar="SPEC", help="folder:PATH or csv:FILE"),
    DATA_DIR,
    TASK,
    SET,
    option("--long-side", type=int, default=512, metavar="PX", help="of a picture (default: %(default)s)"),
    option("--out", metavar="DIR", required=True, help="the folder; the same command goes on there"),
    examples=("photos/ --out small", "labels.csv --long-side 1024 --out small"),
)
def prepare(options: argparse.Namespace) -> None:
    """Prints what was written."""
    from keras_resnet import data

    dataset = _load(options.spec, options, {"data.in_memory_limit": 0})
    print(data.prepare(dataset, options.out, long_side=options.long_side))


@command(
    "probe",
    "classifiers on the features of a frozen network, the first thing to try with few examples",
    option("--data", metavar="SPEC", required=True, help=f"the data, with a test split: {SPEC}"),
    DATA_DIR,
    option("--model", metavar="NAME", help="a name that `list` prints (default: resnet18)"),
    option("--weights", metavar="TAG|FILE|RUN", default="cifar10", help="default: %(default)s"),
    *(TASK, SET, JSON),
    examples=(
        "--data photos/ --model resnet50 --weights imagenet",
        "--data photos/ --model resnet18 --weights cifar10",
    ),
)
def probe(options: argparse.Namespace) -> None:
    """Prints how well classifiers on frozen features do."""
    from keras_resnet import evaluation, models

    path = pathlib.Path(options.weights).expanduser()
    if path.is_dir() or path.suffix == ".keras":
        if options.model is not None:
            raise BadValue(
                f"--model {options.model} was given with --weights {options.weights}, which knows its own. Leave "
                "it out."
            )
        network = path
    else:
        network = models.pretrained_model(options.model or "resnet18", options.weights)
    result = evaluation.probe(network, _load(options.data, options))
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<20}{value:>10,}" if isinstance(value, int) else f"{name:<20}{value:>10.4f}")


def _load(spec: str, options: argparse.Namespace, defaults: Mapping[str, Any] | None = None) -> Any:
    """Returns a dataset as `--task`, `--data-dir` and `--set data...` say, and `defaults` where these say nothing."""
    from keras_resnet import training

    settings = overrides_of(options.set)
    for name in settings:
        if not name.startswith("data."):
            raise BadValue(f"--set {name} has no effect here. Allowed is data.NAME=value. Leave it out.")
    recipe = training.Recipe.load("quick").replace({**(defaults or {}), **settings})
    return recipe.data.load(spec, options.data_dir, options.task or "classification")


def _print_labels(found: list, is_json: bool) -> None:
    if is_json:
        print(json.dumps([dataclasses.asdict(issue) for issue in found]))
        return
    doubtful = sum(issue.is_issue for issue in found)
    several = any(issue.several for issue in found)
    what = (
        "labels (examples times classes), of which {} are" if several else "examples, of which {} have a label that is"
    )
    print(f"{len(found):,} {what.format(f'{doubtful:,}')} probably wrong; the most doubtful first:")
    for issue in found[:SHOWN]:
        print(one_line(f"  {issue}"))
    if doubtful > SHOWN:
        print(f"  and {doubtful - SHOWN:,} more; --json has all")
