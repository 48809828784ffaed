"""The page of a run: figures, curves, confusion, calibration, worst mistakes, data, recipe, how to make it again."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet import data as datasets
from keras_resnet.evaluation import open_trained, predict_all, reliability, scores
from keras_resnet.evaluation.predictions import Predictions, mistakes_of, predictions_of
from keras_resnet.report import chart
from keras_resnet.report.page import SORT, escape, number, page, table, tiles
from keras_resnet.report.pictures import shown_mistakes
from keras_resnet.training import Run

MISTAKES = 12
MOST_CONFUSION_CLASSES = 40
MOST_PAIRS = 20
Section = tuple[str, str]


def run_page(run: Run) -> str:
    """Returns the page of a run that has a model; the test split is predicted for it, or else the validation split.

    Args:
        run: complete or not.
    """
    about = run.about
    split = next((name for name in ("test", "validation") if about.sizes.get(name)), "train")
    sections: list[Section] = [("Curves", _curves(run))]
    trained = open_trained(run)
    if not trained.is_regression:
        predicted = predictions_of(trained, run.dataset, split)
        figures = scores.classification(predicted.scores, predicted.labels, about.class_names)
        sections += [
            ("Confusion", _confusion(figures["confusion"], about.class_names)),
            ("Class by class", _classes(figures["per_class"])),
            ("Calibration", _calibration(run, predicted, figures["expected_calibration_error"])),
            ("Most confident errors", _mistakes(run, predicted)),
        ]
    else:
        sizing = datasets.sizing(run.record, run.dataset.image_shape)
        outputs, targets = predict_all(run.model, run.dataset.batches(split, 64, **sizing))
        figures = scores.regression(outputs, targets)
        sections.append(("Predicted and true", _agreement(outputs, targets)))
    sections += _stored_robustness(run)
    sections += [
        ("Data", _data(run)),
        ("Recipe", _recipe(run)),
        ("Environment", _environment(run)),
        ("Make it again", _again(run)),
    ]
    glance = _glance(run, split, figures)
    subtitle = (
        f"{about.model} on {about.data}, recipe {about.recipe.name}, seed {about.recipe.train.seed}; "
        f"{run.description['status']}; figures of the {split} split"
    )
    return page(f"Run {run.path.name}", subtitle, [("At a glance", glance), *sections], SORT)


def _glance(run: Run, split: str, figures: Mapping[str, Any]) -> str:
    names = {
        "accuracy": "accuracy",
        "top5": "top-5 accuracy",
        "loss": "cross-entropy",
        "expected_calibration_error": "calibration error",
        "mse": "mean squared error",
        "mae": "mean absolute error",
        "r2": "R squared",
    }
    shown = [(title, f"{figures[name]:.4f}") for name, title in names.items() if name in figures]
    seconds = sum(run.history.get("epoch_seconds", []))
    shown += [
        (f"{split} examples", f"{figures['examples']:,}"),
        ("parameters", f"{run.about.parameters:,}"),
        ("epochs", f"{len(run.history.get('epoch', []))} of {run.recipe.train.epochs}"),
        ("minutes of training", f"{seconds / 60:.1f}"),
    ]
    return tiles(shown)


def _curves(run: Run) -> str:
    history = run.history
    if not history:
        return "<p>No epoch is finished.</p>"
    drawn = []
    for name, title in (("loss", "Loss"), ("accuracy", "Accuracy"), ("mae", "Mean absolute error")):
        series = [
            (f"{title.lower()}, {split}", list(zip(history["epoch"], history[key], strict=True)))
            for key, split in ((name, "training"), (f"val_{name}", "validation"))
            if key in history
        ]
        if series:
            note = f"{title} after every epoch. Training figures are means over the epoch, on augmented examples."
            drawn.append(chart.lines(series, x_label="epoch", note=note, name=f"curve-{name}"))
    names = list(history)
    rows = [("", [history[name][index] for name in names]) for index in range(len(history["epoch"]))]
    return "".join(drawn) + f"<details><summary>Every epoch as numbers</summary>{table(names, rows)}</details>"


def _confusion(confusion: list[list[int]], names: tuple[str, ...]) -> str:
    counts = np.asarray(confusion)
    wrong = [(int(counts[i, j]), i, j) for i, j in zip(*np.nonzero(counts), strict=True) if i != j]
    pairs = sorted(wrong, key=lambda row: -row[0])[:MOST_PAIRS]
    listed = table(
        ["examples", "true", "predicted", "share of the true class"],
        [("", [count, names[i], names[j], count / int(counts[i].sum())]) for count, i, j in pairs],
    )
    if len(names) > MOST_CONFUSION_CLASSES:
        return f"<p>The {len(pairs)} most frequent confusions of {len(names)} classes.</p>{listed}"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    lines = [f'<tr><th scope="col">true \\ predicted</th>{head}</tr>']
    for index, row in enumerate(counts):
        cells = "".join(
            f'<td class="{"" if count else "zero"}" style="--share: {count / max(row.sum(), 1):.3f}">{count}</td>'
            for count in row
        )
        lines.append(f'<tr><th scope="row">{escape(names[index])}</th>{cells}</tr>')
    whole = f'<div class="wide" tabindex="0"><table class="confusion">{"".join(lines)}</table></div>'
    return (
        "<p>A row a true class; the shade is the share of its examples.</p>"
        f"{whole}<details><summary>The most frequent confusions</summary>{listed}</details>"
    )


def _classes(rows: list[dict[str, Any]]) -> str:
    head = ["class", "examples", "precision", "recall", "f1"]
    return table(
        head,
        [("", [row["name"], row["support"], row["precision"], row["recall"], row["f1"]]) for row in rows],
        sortable=True,
    )


def _calibration(run: Run, predicted: Predictions, error: float) -> str:
    note = (
        f"Accuracy of the guesses by their confidence; the bar across each column is the mean confidence, where an "
        f"honest classifier would end. Expected calibration error {error:.4f} over {scores.CALIBRATION_BINS} bins."
    )
    drawn = chart.reliability_diagram(reliability(predicted.confidences, predicted.right), note)
    stored = run.path / "calibration.json"
    if not stored.is_file():
        told = "keras_resnet.evaluation.calibrate calibrates the probabilities and keeps the classes."
        return f"{drawn}<p>{told}</p>"
    facts = json.loads(stored.read_text("utf-8"))
    rows = [
        ("", [split, *(facts[split][when][name] for name in ("loss", "expected_calibration_error") for when in WHEN)])
        for split in ("validation", "test")
        if split in facts
    ]
    head = ["split", *(f"{name} {when}" for name in ("cross-entropy", "calibration error") for when in WHEN)]
    return (
        f"{drawn}<p>A temperature of {facts['temperature']:.3f}, found on the {escape(facts['split'])} split, is in "
        f"calibrated.keras.</p>{table(head, rows)}"
    )


WHEN = ("before", "after")


def _mistakes(run: Run, predicted: Predictions) -> str:
    found = mistakes_of(predicted, MISTAKES)
    if not found:
        return "<p>There is none.</p>"
    return (
        "<p>The wrong guesses of the highest probability: look here for wrong labels. Beside each example, where the "
        f'network sees what it guessed (Grad-CAM).</p><div class="pictures">{shown_mistakes(run, found)}</div>'
    )


def _agreement(outputs: np.ndarray, targets: np.ndarray) -> str:
    outputs, targets = outputs.reshape(len(outputs), -1), np.asarray(targets).reshape(len(targets), -1)
    step = -(-len(outputs) // 500)
    points = [(float(x), float(y)) for x, y in zip(targets[::step].ravel(), outputs[::step].ravel(), strict=True)]
    return chart.scatter(points, ("true", "predicted"), "On the diagonal both agree; at most 500 examples are drawn.")


def _stored_robustness(run: Run) -> list[Section]:
    path = run.path / "robustness.json"
    if not path.is_file():
        return []
    facts = json.loads(path.read_text("utf-8"))
    rows = [("", [name, *accuracies]) for name, accuracies in facts["corruptions"].items()]
    told = (
        f"<p>Accuracy on {facts['examples']:,} corrupted examples at five severities; {facts['clean']:.4f} without "
        f"corruption, {facts['mean']:.4f} in the mean.</p>"
    )
    return [("Robustness", told + table(["corruption", *map(str, range(1, 6))], rows, sortable=True))]


def _data(run: Run) -> str:
    about = run.about
    sizes = table(["split", "examples"], [("", [name, size]) for name, size in about.sizes.items()])
    facts = [
        ("spec", about.data),
        ("examples", "x".join("?" if side is None else str(side) for side in about.image_shape)),
        ("classes", str(len(about.class_names)) if about.class_names else "none: numbers are predicted"),
        ("fingerprint", about.fingerprint),
    ]
    noticed = "".join(f"<li>{escape(line)}</li>" for line in about.report)
    labels = run.dataset.split("train").labels
    counted = ""
    if labels is not None and about.class_names and len(about.class_names) <= MOST_CONFUSION_CLASSES:
        counts = np.bincount(np.asarray(labels), minlength=len(about.class_names))
        rows = [
            (name, count / max(counts.max(), 1), f"{count:,}")
            for name, count in zip(about.class_names, counts, strict=True)
        ]
        counted = chart.bars(rows, "Training examples of each class.", "classes")
    return (
        table(["", ""], [("", list(fact)) for fact in facts])
        + sizes
        + counted
        + (f"<ul>{noticed}</ul>" * bool(noticed))
    )


def _recipe(run: Run) -> str:
    recipe = run.recipe
    told = f"<p>{escape(recipe.about.source)}</p>" if recipe.about.source else ""
    return f'{told}<pre tabindex="0">{escape(recipe.to_toml())}</pre>'


def _environment(run: Run) -> str:
    rows: list[tuple[str, list[Any]]] = [("", [name, version]) for name, version in run.about.versions.items()]
    rates = run.history.get("images_per_second", [])
    if rates:
        rows.append(("", ["images per second, median epoch", number(float(np.median(rates)))]))
    rows += [("", ["network input", run.about.input_shape]), ("", ["steps per epoch", run.about.steps_per_epoch])]
    return table(["", ""], rows)


def _again(run: Run) -> str:
    about = run.about
    words = [f"--data {about.data}", *([f"--data-dir {about.data_dir}"] if about.data_dir else [])]
    again = f"keras-resnet train {' '.join(words)} --model {about.model} --recipe {run.path / 'recipe.toml'} --out RUN"
    check = f"keras-resnet evaluate {run.path}"
    return (
        "<p>On the same kind of machine with the same versions the weights come out the same, bit for bit.</p>"
        f'<pre tabindex="0">{escape(again)}\n{escape(check)}</pre>'
    )
