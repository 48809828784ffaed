"""The commands that ask a trained model, judge it, and compare several.

Nothing is imported at the top that loads Keras: `keras-resnet --help` reads this file.
"""

import argparse
import json
from collections.abc import Iterable
from typing import Any

from keras_resnet.cli.answers import answer_by_export, print_answers
from keras_resnet.cli.options import (
    DATA_DIR,
    IMAGES,
    JSON,
    OTHER_DATA,
    TASK,
    TRAINED,
    TTA,
    command,
    option,
)
from keras_resnet.errors import BadValue
from keras_resnet.standard_error import load_quietly
from keras_resnet.terminal import one_line


@command(
    "evaluate",
    "score a trained model; every example is counted once",
    TRAINED,
    OTHER_DATA,
    DATA_DIR,
    option("--split", help="train, validation, test or all (default: test; all of new data without one)"),
    option("--on-bad-image", choices=["error", "skip"], help="of other data (default: as the run did)"),
    option("--intervals", action="store_true", help="more scores, each with its 95 %% bootstrap interval"),
    option("--at-specificity", type=float, metavar="S", help="the sensitivity at this specificity, in (0, 1)"),
    option("--robustness", action="store_true", help="on corrupted pictures too, at five severities"),
    TTA,
    TASK,
    JSON,
    examples=("runs/photos --intervals", "runs/photos --data new_photos/"),
)
def evaluate(options: argparse.Namespace) -> None:
    """Prints the scores of a trained model."""
    from keras_resnet import evaluation

    arguments = {name: getattr(options, name) for name in ("data", "data_dir", "split", "task", "on_bad_image")}
    arguments["views"] = options.tta
    scores = evaluation.evaluate(
        options.trained, **arguments, intervals=options.intervals, at_specificity=options.at_specificity
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


@command(
    "predict",
    "the most probable classes of image files",
    TRAINED,
    IMAGES,
    option("--top", type=int, default=5, metavar="N", help="classes to print (default: %(default)s)"),
    option("--on-bad-image", choices=["error", "skip"], default="error", help="default: %(default)s"),
    TTA,
    TASK,
    JSON,
    option("--json-lines", action="store_true", help="print one JSON object per image, as they come"),
    option("--csv", metavar="FILE", help="write a table: file, class, probability"),
    option("--page", metavar="FILE.html", help="write a page of the pictures, the least sure first"),
    option("--index", metavar="FILE.parquet", help="say how unlike the examples of `embed` each picture is"),
    examples=("runs/photos picture.jpg", "runs/photos new/ --csv answers.csv --page answers.html"),
    needs_keras=False,
)
def predict(options: argparse.Namespace) -> None:
    """Prints the most probable classes of images, or writes them as a table."""
    forms = [name for name in ("--json", "--json-lines", "--csv") if getattr(options, name[2:].replace("-", "_"))]
    if len(forms) > 1:
        raise BadValue(f"{forms[0]} was given with {forms[1]}. The answers have one form. Leave one of them out.")
    if (by_export := answer_by_export(options)) is not None:
        print_answers(options, by_export)
        return
    load_quietly()
    import keras

    from keras_resnet import evaluation, report

    arguments = {"top": options.top, "task": options.task, "on_bad_image": options.on_bad_image, "views": options.tta}
    predictions: Iterable[dict[str, Any]] = evaluation.predict_each(options.trained, options.images, **arguments)
    if options.index:
        words = {"top": 1, "run_or_model": options.trained, "on_bad_image": options.on_bad_image}
        answers = evaluation.similar(options.index, options.images, **words)
        novelty = {answer["image"]: {"novelty": answer["novelty"]} for answer in answers}
        predictions = ({**each, **novelty.get(each["image"], {})} for each in predictions)
    if options.page:
        predictor = evaluation.open_predictor(options.trained, options.task)
        predictions = report.answers_page(predictions, predictor, options.page)
    if options.csv:
        print(report.write_answers(predictions, options.csv))
        return
    print_answers(options, ({**each, "engine": keras.backend.backend()} for each in predictions))


@command(
    "explain",
    "class activation maps over images",
    TRAINED,
    IMAGES,
    option("--out", metavar="DIR", required=True, help="where the PNG files go"),
    TASK,
    examples=("runs/photos picture.jpg --out maps", "resnet18:cifar10 pictures/ --out maps"),
)
def explain(options: argparse.Namespace) -> None:
    """Writes overlays of class activation maps."""
    from keras_resnet.explain import explain_files

    for path in explain_files(options.trained, options.images, options.out, task=options.task):
        print(path)


@command(
    "compare",
    "figures, recipes and curves of several runs side by side",
    option("runs", metavar="RUN", nargs="+", help="run folders, at least two"),
    option("--out", metavar="FILE.html", help="write a page with the curves too"),
    option("--paired", action="store_true", help="of two runs: whether they differ on the same examples"),
    JSON,
    examples=("runs/one runs/other", "runs/one runs/other --paired"),
)
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


@command(
    "calibrate",
    "calibrate the probabilities of a run, by a temperature that is saved with the model",
    option("run", metavar="RUN", help="a run folder; the temperature is found on its validation split"),
    option("--coverage", type=float, metavar="C", help="instead: sets that hold the class so often, as 0.9"),
    option("--out", metavar="FILE.keras", help="default: RUN/calibrated.keras, or RUN/sets.keras"),
    JSON,
    examples=("runs/photos", "runs/photos --coverage 0.9"),
)
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


@command(
    "embed",
    "the features of a network for a set of examples, in a parquet file",
    TRAINED,
    OTHER_DATA,
    DATA_DIR,
    option("--split", help="train, validation, test or all (default: all; train of the run's own data)"),
    option("--out", metavar="FILE.parquet", required=True, help="columns path, label, vector, distance"),
    examples=("runs/photos --out photos.parquet", "resnet18:cifar10 --data photos/ --out photos.parquet"),
)
def embed(options: argparse.Namespace) -> None:
    """Writes the features of examples."""
    from keras_resnet import evaluation

    embeddings = evaluation.embed(options.trained, options.data, data_dir=options.data_dir, split=options.split)
    embeddings.save(options.out)
    print(f"{options.out}: {embeddings.vectors.shape[1]} features of {len(embeddings.vectors):,} examples")


@command(
    "similar",
    "the nearest examples of an index for each picture, and how unlike all of them it is",
    option("index", metavar="INDEX", help="a file that `embed` wrote"),
    option("images", metavar="IMAGE", nargs="*", help="as for `predict`; none for the closest pairs of the index"),
    option("--top", type=int, default=10, metavar="N", help="examples to print (default: %(default)s)"),
    option("--network", metavar="RUN|MODEL", help="where the network of the index is now"),
    option("--json-lines", action="store_true", help="print one JSON object per image"),
    examples=("photos.parquet new.jpg", "photos.parquet new/ --top 3 --json-lines"),
)
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


@command(
    "report",
    "one HTML page of a run, of a cross-validation or of a search",
    option("source", metavar="RUN|FOLDS|SEARCH", help="a run folder, one of `train --folds`, or of a search"),
    option("--out", metavar="FILE.html", required=True, help="the file to make"),
    examples=("runs/photos --out report.html", "search --out search.html"),
)
def report(options: argparse.Namespace) -> None:
    """Writes a page."""
    from keras_resnet.report import write_report

    print(write_report(options.source, options.out))
