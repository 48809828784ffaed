"""One function a command: read the options, call the library, print."""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence

import keras_resnet.models as models
from keras_resnet.arguments import check_int, choose
from keras_resnet.cli import judging
from keras_resnet.cli.names import recipe_titles, weights_table
from keras_resnet.cli.words import given, model_arguments, overrides_of, shape_of, training_overrides
from keras_resnet.errors import BadValue
from keras_resnet.models.variants import table
from keras_resnet.terminal import one_line

PAGE = "folds.html"


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


GROUP = "--set=distribution.kind=multiworker"  # the last word for a field counts


def start(options: argparse.Namespace) -> int | None:
    """Starts the requested processes and waits for them; returns the exit status, None for this one alone."""
    import keras

    from keras_resnet.distribution import run_on_ray, run_together

    if options.engine == "ray":
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


Command = Callable[[argparse.Namespace], int | None]


def list_models(options: argparse.Namespace) -> None:
    """Prints the table of variants, or of published weights."""
    pattern = options.pattern or "*"
    print(weights_table(models.list_models(pattern)) if options.weights else table(pattern))


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


def recipes(options: argparse.Namespace) -> None:
    """Prints the recipes, one of them, or what differs between two."""
    from keras_resnet import training

    if options.name is None:
        if options.compare is not None:
            raise BadValue(f"--compare {options.compare} was given without a recipe. Name the one to compare first.")
        print(recipe_titles())
        return
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


def report(options: argparse.Namespace) -> None:
    """Writes a page."""
    from keras_resnet.report import write_report

    print(write_report(options.source, options.out))


def publish(options: argparse.Namespace) -> None:
    """Prints what was written, and which libraries read it."""
    from keras_resnet.publishing import publish

    words = {name: getattr(options, name) for name in ("license", "private", "dry_run", "mistakes")}
    print(publish(options.run, options.to, **words))


def track(options: argparse.Namespace) -> None:
    """Prints the id of the run on the server."""
    from keras_resnet.tracking import track

    print(f"run {track(options.folder, options.to)}")


def verify(options: argparse.Namespace) -> int:
    """Prints whether the published figure holds; the status is that of a mistake where it does not."""
    from keras_resnet.cli import USERS_MISTAKE
    from keras_resnet.publishing import verify

    verification = verify(options.folder, options.data, data_dir=options.data_dir)
    print(verification)
    return 0 if verification.holds else USERS_MISTAKE


def demo(options: argparse.Namespace) -> None:
    """Serves a page until Ctrl-C."""
    from keras_resnet.demo import serve

    serve(options.trained, options.port, options.task)


def benchmark(options: argparse.Namespace) -> None:
    """Prints how fast this machine is."""
    import dataclasses

    from keras_resnet.benchmark import benchmark as measured

    figures = measured(**given(options, "model", "mode", "input_size", "batch_size"))
    print(json.dumps(dataclasses.asdict(figures)) if options.json else figures)


def export(options: argparse.Namespace) -> None:
    """Writes a model for serving."""
    from keras_resnet.export import export as write

    print(
        write(
            options.trained,
            format=options.format,
            out=options.out,
            quantize=options.quantize,
            calibration=options.calibration,
            data_dir=options.data_dir,
            task=options.task,
            model_version=options.model_version,
        )
    )


def convert(options: argparse.Namespace) -> None:
    """Writes weights of another library as ours, or ours as timm's."""
    from keras_resnet.evaluation.predictor import convert as write

    print(write(options.source, options.out, model=options.model, names=options.names))


def explain(options: argparse.Namespace) -> None:
    """Writes overlays of class activation maps."""
    from keras_resnet.explain import explain_files

    for path in explain_files(options.trained, options.images, options.out, task=options.task):
        print(path)


def shrink(options: argparse.Namespace) -> None:
    """Makes a run smaller step by step."""
    from keras_resnet.shrink import shrink as make_smaller

    words = given(options, "macs", "max_loss", "epochs", "multiple", "format")
    done = make_smaller(options.run, options.out, verbose=0 if options.json else "auto", **words)
    print(json.dumps([dataclasses.asdict(step) for step in done.steps]) if options.json else done)


COMMANDS: dict[str, Command] = {
    "list": list_models,
    "info": info,
    "recipes": recipes,
    "train": train,
    "auto": auto,
    "evaluate": judging.evaluate,
    "predict": judging.predict,
    "lr-find": lr_find,
    "preview": preview,
    "inspect-data": judging.inspect,
    "prepare": judging.prepare,
    "probe": judging.probe,
    "embed": judging.embed,
    "similar": judging.similar,
    "tune": tune,
    "explain": explain,
    "export": export,
    "report": report,
    "publish": publish,
    "track": track,
    "verify": verify,
    "compare": judging.compare,
    "calibrate": judging.calibrate,
    "prune": judging.prune,
    "shrink": shrink,
    "average": judging.average,
    "convert": convert,
    "demo": demo,
    "benchmark": benchmark,
}
