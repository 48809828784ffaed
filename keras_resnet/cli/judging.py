"""The commands that judge and use what was trained: evaluate, predict, compare, calibrate, average."""

import argparse
import dataclasses
import json
import pathlib
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_resnet.cli.answers import print_answers
from keras_resnet.cli.words import given, overrides_of
from keras_resnet.errors import BadValue
from keras_resnet.terminal import one_line

SHOWN = 20


def inspect(options: argparse.Namespace) -> None:
    """Prints what is found."""
    from keras_resnet import data, evaluation
    from keras_resnet.training.folds import FOLDS_FILE

    if options.out is not None:
        from keras_resnet.report.page import page_path

        page_path(options.out)  # before anything is read
    folder = pathlib.Path(options.spec).expanduser()
    if (folder / FOLDS_FILE).is_file():
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


def prepare(options: argparse.Namespace) -> None:
    """Prints what was written."""
    from keras_resnet import data

    dataset = _load(options.spec, options, {"data.in_memory_limit": 0})
    print(data.prepare(dataset, options.out, long_side=options.long_side))


def _load(spec: str, options: argparse.Namespace, defaults: Mapping[str, Any] | None = None) -> Any:
    """Returns a dataset as `--task`, `--data-dir` and `--set data...` say, and `defaults` where these say nothing."""
    from keras_resnet import training

    recipe = training.Recipe.load("quick").replace({**(defaults or {}), **overrides_of(options.set)})
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


def embed(options: argparse.Namespace) -> None:
    """Writes the features of examples."""
    from keras_resnet import evaluation

    embeddings = evaluation.embed(options.trained, options.data, data_dir=options.data_dir, split=options.split)
    embeddings.save(options.out)
    print(f"{options.out}: {embeddings.vectors.shape[1]} features of {len(embeddings.vectors):,} examples")


def similar(options: argparse.Namespace) -> None:
    """Prints the nearest examples of each picture, and how unlike all of them it is; else the closest pairs."""
    from keras_resnet import evaluation

    if not options.images:
        for pair in evaluation.Embeddings.load(options.index).closest_pairs(options.top):
            if options.json_lines:
                print(json.dumps(pair), flush=True)
                continue
            both = zip(pair["names"], pair["labels"], strict=True)
            print(
                f"{pair['distance']:.4f}  " + "  ".join(f"{one_line(name)} ({one_line(label)})" for name, label in both)
            )
        return
    for answer in evaluation.similar(options.index, options.images, top=options.top, run_or_model=options.network):
        if options.json_lines:
            print(json.dumps(answer), flush=True)
            continue
        share = answer["novelty"]
        print(f"{one_line(answer['image'])}: more unlike the others than {share:.1%} of the examples of the index")
        for neighbor in answer["neighbors"]:
            print(f"  {neighbor['distance']:.4f}  {one_line(neighbor['label'])}  {one_line(neighbor['name'])}")


def evaluate(options: argparse.Namespace) -> None:
    """Prints the scores of a trained model."""
    from keras_resnet import evaluation

    arguments = {"data": options.data, "data_dir": options.data_dir, "split": options.split}
    arguments |= {"on_bad_image": options.on_bad_image}
    scores = evaluation.evaluate(
        options.trained,
        **arguments,
        task=options.task,
        intervals=options.intervals,
        views=options.tta,
        at_specificity=options.at_specificity,
    )
    if options.robustness:
        scores["robustness"] = evaluation.robustness(options.trained, **arguments)
    if options.json:
        print(json.dumps(scores))
        return
    for name, value in scores.items():
        if isinstance(value, (int, float)):
            text = f"{name:<28}{value:>10,}" if isinstance(value, int) else f"{name:<28}{value:>10.4f}"
            ends = scores.get(f"{name}_interval")
            print(text if ends is None else f"{text}   [{ends[0]:.4f}, {ends[1]:.4f}]")
    if scores.get("per_class"):
        _print_classes(scores["per_class"])
    if options.robustness:
        _print_robustness(scores["robustness"])


def _print_robustness(found: dict[str, Any]) -> None:
    print(f"\n{'corruption':<20}{'severity 1':>11}" + "".join(f"{severity:>9}" for severity in range(2, 6)))
    for name, accuracies in found["corruptions"].items():
        print(f"{name:<20}{accuracies[0]:>11.4f}" + "".join(f"{accuracy:>9.4f}" for accuracy in accuracies[1:]))
    text = f"{found['clean']:.4f} as they are, {found['mean']:.4f} corrupted"
    print(f"accuracy on {found['examples']:,} examples: {text}")


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
    """Prints the most probable classes of images, or writes them as a table."""
    from keras_resnet import evaluation, report

    arguments = {"top": options.top, "task": options.task, "on_bad_image": options.on_bad_image, "views": options.tta}
    predictions: Iterable[dict[str, Any]] = evaluation.predict_each(options.trained, options.images, **arguments)
    if options.page:
        predictor = evaluation.open_predictor(options.trained, options.task)
        predictions = report.answers_page(predictions, predictor, options.page)
    if options.csv:
        print(report.write_answers(predictions, options.csv))
        return
    if options.index:
        answers = evaluation.similar(options.index, options.images, top=1, run_or_model=options.trained)
        novelty = {answer["image"]: {"novelty": answer["novelty"]} for answer in answers}
        predictions = ({**each, **novelty.get(each["image"], {})} for each in predictions)
    print_answers(options, ({**each, "engine": keras.backend.backend()} for each in predictions), one_line)


def compare(options: argparse.Namespace) -> None:
    """Prints runs side by side."""
    from keras_resnet import evaluation
    from keras_resnet.report import compare as side_by_side

    if options.paired and len(options.runs) != 2:
        raise BadValue(
            f"--paired was given with {len(options.runs)} runs. A difference is of two. Name two run folders."
        )
    comparison = side_by_side(options.runs)
    if options.out:
        comparison.write(options.out)
    paired = evaluation.paired_difference(*options.runs) if options.paired else None
    if options.json:
        result = {"runs": comparison.rows, "differing": comparison.differing}
        print(json.dumps(result if paired is None else {**result, "paired": paired}))
        return
    print(comparison)
    if paired is not None:
        _print_paired(paired)


def _print_paired(found: dict[str, Any]) -> None:
    print(f"\n{found['examples']:,} examples of the split {found['split']!r}; second minus first, 95 % interval")
    for name in [name for name in found if f"{name}_difference" in found]:
        low, high = found[f"{name}_difference_interval"]
        print(f"{name:<12}{found[f'{name}_difference']:>+10.4f}   [{low:+.4f}, {high:+.4f}]")
    if "mcnemar_p" in found:
        first, second = found["only_first_right"], found["only_second_right"]
        print(
            f"{first} are right in the first alone, {second} in the second alone (McNemar p = {found['mcnemar_p']:.3g})"
        )
    significant = "Significant: the interval excludes 0."
    print(significant if found["differs"] else "Not significant: the interval includes 0.")


def calibrate(options: argparse.Namespace) -> None:
    """Finds a temperature and saves the model that has it."""
    from keras_resnet import evaluation
    from keras_resnet.training import Run

    if options.coverage is not None:
        _print_sets(
            evaluation.prediction_sets(Run.load(options.run), coverage=options.coverage, out=options.out), options
        )
        return
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


def _print_sets(done: Any, options: argparse.Namespace) -> None:
    facts = done.facts
    if options.json:
        print(json.dumps(facts))
        return
    text = f"a class is in the set from a probability of {facts['set_threshold']:.4f} on"
    print(f"{done.path}\n{text}, found on {facts['examples']} examples of the {facts['split']} split")
    if "test_coverage" in facts:
        print(
            f"test       {facts['test_coverage']:.4f} of the sets hold the class, where {facts['coverage']:.4f} was "
            f"asked for; {facts['mean_set_size']:.2f} classes in the mean"
        )


def prune(options: argparse.Namespace) -> None:
    """Writes a network without some of its channels."""
    from keras_resnet import evaluation

    words = given(options, "data", "data_dir", "macs", "by", "multiple")
    done = evaluation.prune(options.trained, options.out, **words)
    if options.json:
        print(json.dumps({**dataclasses.asdict(done), "path": str(done.path)}))
        return
    print(done)
    train = f"keras-resnet train --model {done.model or 'MODEL'} --weights {shlex.quote(str(done.path))}"
    teacher = f"--set distill.teacher={shlex.quote(options.trained)}"
    print(f"next:\n  {train} {teacher} --data DATA --recipe RECIPE --out RUN")


def average(options: argparse.Namespace) -> None:
    """Writes one model that answers with the mean of several."""
    from keras_resnet import evaluation

    evaluation.average_models(options.models, options.tta, options.out)
    print(options.out)
