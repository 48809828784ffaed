"""One function a command: read the options, call the library, print."""

import argparse
import json
import os
from collections.abc import Callable
from typing import Any

import keras_resnet.models as models
from keras_resnet.arguments import choose
from keras_resnet.cli import folds, inspection, together
from keras_resnet.cli.words import given, model_arguments, overrides_of, shape_of, training_overrides
from keras_resnet.errors import BadValue
from keras_resnet.models.variants import table
from keras_resnet.terminal import one_line

Command = Callable[[argparse.Namespace], int | None]


def list_models(options: argparse.Namespace) -> None:
    """Prints the table of variants, or of published weights."""
    if not options.weights:
        print(table())
        return
    from keras_resnet.weights import list_weights

    print(f"{'model':<12}{'tag':<28}{'publisher':<20}{'top 1':>7}{'px':>6}  license")
    for row in list_weights():
        top1 = "" if row.top1 is None else f"{row.top1:.2f}"
        print(f"{row.model:<12}{row.tag:<28}{row.publisher:<20}{top1:>7}{row.measured_at:>6}  {row.license or '-'}")


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
        for name in training.list_recipes():
            about = training.Recipe.load(name).about
            print(f"{name:<20} {about.source}")
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
    from keras_resnet import training

    if options.folds is not None:
        folds.train(options)
        return None
    if not options.dry_run and (status := together.start(options)) is not None:
        return status
    run = training.fit(
        **given(options, "recipe", "model", "data"),
        data_dir=options.data_dir,
        out=options.out,
        resume=options.resume,
        seed=options.seed,
        weights=options.weights,
        overrides=training_overrides(options),
        dry_run=options.dry_run,
    )
    if options.dry_run:
        print(f"{run.recipe.to_toml()}\n{models.model_info(run.model)}\n")
    print(run)
    return None


def evaluate(options: argparse.Namespace) -> None:
    """Prints the scores of a trained model."""
    from keras_resnet import evaluation

    asked = {"data": options.data, "data_dir": options.data_dir, "split": options.split}
    asked |= {"on_bad_image": options.on_bad_image}
    scores = evaluation.evaluate(options.trained, **asked, task=options.task, intervals=options.intervals)
    if options.robustness:
        scores["robustness"] = evaluation.robustness(options.trained, **asked)
    if options.json:
        print(json.dumps(scores))
        return
    for name, value in scores.items():
        if isinstance(value, (int, float)):
            told = f"{name:<28}{value:>10,}" if isinstance(value, int) else f"{name:<28}{value:>10.4f}"
            ends = scores.get(f"{name}_interval")
            print(told if ends is None else f"{told}   [{ends[0]:.4f}, {ends[1]:.4f}]")
    if scores.get("per_class"):
        _print_classes(scores["per_class"])
    if options.robustness:
        _print_robustness(scores["robustness"])


def _print_robustness(found: dict[str, Any]) -> None:
    print(f"\n{'corruption':<20}{'severity 1':>11}" + "".join(f"{severity:>9}" for severity in range(2, 6)))
    for name, accuracies in found["corruptions"].items():
        print(f"{name:<20}{accuracies[0]:>11.4f}" + "".join(f"{accuracy:>9.4f}" for accuracy in accuracies[1:]))
    told = f"{found['clean']:.4f} as they are, {found['mean']:.4f} corrupted"
    print(f"accuracy on {found['examples']:,} examples: {told}")


def _print_classes(rows: list[dict[str, Any]]) -> None:
    width = max(len("class"), *(len(row["name"]) for row in rows))
    further = [(name, len(name) + 2) for name in ("threshold", "specificity", "roc_auc") if name in rows[0]]
    more = "".join(f"{name:>{room}}" for name, room in further)
    print(f"\n{'class':<{width}}{'examples':>10}{'precision':>11}{'recall':>9}{'f1':>9}{more}")
    for row in rows:
        figures = f"{row['precision']:>11.4f}{row['recall']:>9.4f}{row['f1']:>9.4f}"
        for name, room in further:
            figures += f"{'' if row[name] is None else format(row[name], '.4f'):>{room}}"
        print(f"{row['name']:<{width}}{row['support']:>10,}{figures}")


def predict(options: argparse.Namespace) -> None:
    """Prints the most probable classes of images."""
    from keras_resnet import evaluation

    asked = {"top": options.top, "task": options.task, "on_bad_image": options.on_bad_image}
    predictions = evaluation.predict_each(options.trained, options.images, **asked)
    if options.json:
        print(json.dumps(list(predictions)))
        return
    for prediction in predictions:
        if options.json_lines:
            print(json.dumps(prediction), flush=True)
            continue
        print(one_line(prediction["image"]))
        if "labels" in prediction:
            print(f"  labels: {one_line(', '.join(prediction['labels'])) or 'none'}")
        for best in prediction.get("classes", []):
            print(f"  {best['probability']:7.2%}  {one_line(best['name'])}")
        if "values" in prediction:
            units = prediction.get("units") or [""] * len(prediction["values"])
            told = zip(prediction["values"], units, strict=True)
            print("  " + "  ".join(f"{value:g} {one_line(unit)}".rstrip() for value, unit in told))
        if "error" in prediction:
            print(f"  skipped: {one_line(prediction['error'])}")


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


def compare(options: argparse.Namespace) -> None:
    """Prints runs side by side."""
    from keras_resnet.report import compare as side_by_side

    found = side_by_side(options.runs)
    if options.out:
        found.write(options.out)
    print(json.dumps({"runs": found.rows, "differing": found.differing}) if options.json else found)


def calibrate(options: argparse.Namespace) -> None:
    """Finds a temperature and saves the model that has it."""
    from keras_resnet import evaluation
    from keras_resnet.training import Run

    done = evaluation.calibrate(Run.load(options.run), out=options.out)
    if options.json:
        print(json.dumps(done.facts))
        return
    facts = done.facts
    print(f"{done.path}\ntemperature {facts['temperature']:.4f}, found on the {facts['split']} split")
    gain, error = facts["held_out_gain"], facts["held_out_gain_error"]
    print(f"it stands on {facts['examples']} examples; held out, it lowers their loss by {gain:.4f} ± {error:.4f}")
    for split in ("validation", "test"):
        for name in ("loss", "expected_calibration_error") if split in done.facts else ():
            before, after = (done.facts[split][when][name] for when in ("before", "after"))
            print(f"{split:<11}{name:<28}{before:.4f} before, {after:.4f} after")


def demo(options: argparse.Namespace) -> None:
    """Serves a page until Ctrl-C."""
    from keras_resnet.demo import serve

    serve(options.trained, options.port, options.task)


def benchmark(options: argparse.Namespace) -> None:
    """Prints how fast this machine is."""
    import dataclasses

    from keras_resnet.benchmark import benchmark as measured

    found = measured(**given(options, "model", "mode", "input_size", "batch_size"))
    print(json.dumps(dataclasses.asdict(found)) if options.json else found)


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
            task=options.task,
            model_version=options.model_version,
        )
    )


def convert(options: argparse.Namespace) -> None:
    """Writes weights of another library as ours, or ours as timm's."""
    from keras_resnet.evaluation.conversion import convert as write

    print(write(options.source, options.out, model=options.model, names=options.names))


def explain(options: argparse.Namespace) -> None:
    """Writes overlays of class activation maps."""
    from keras_resnet.explain import explain_files

    for path in explain_files(options.trained, options.images, options.out, task=options.task):
        print(path)


COMMANDS: dict[str, Command] = {
    "list": list_models,
    "info": info,
    "recipes": recipes,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "lr-find": lr_find,
    "preview": preview,
    "inspect-data": inspection.inspect,
    "probe": inspection.probe,
    "tune": tune,
    "explain": explain,
    "export": export,
    "report": report,
    "compare": compare,
    "calibrate": calibrate,
    "convert": convert,
    "demo": demo,
    "benchmark": benchmark,
}
