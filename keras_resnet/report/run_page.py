"""The page of a run: figures, curves, confusion, calibration, worst mistakes, data, recipe, how to make it again."""

import base64
import dataclasses
import io
import json
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.evaluation import Predictor, open_predictor, reliability
from keras_resnet.evaluation.mistakes import Mistake, mistakes_of
from keras_resnet.evaluation.probes import feature_model, features_of
from keras_resnet.explain import explain, overlay
from keras_resnet.explain.overlays import as_rgb, blend
from keras_resnet.report import chart
from keras_resnet.report.chart import class_curves
from keras_resnet.report.page import SORT, escape, number, page, table, tiles
from keras_resnet.tasks import Predictions
from keras_resnet.tasks.labels import class_counts
from keras_resnet.tasks.metrics import CALIBRATION_BINS
from keras_resnet.training import Recipe, Run, compare_recipes, list_recipes

SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 128, 256


def shown_mistakes(run: Run, mistakes: Sequence[Mistake]) -> str:
    """Returns a figure for each example that was got wrong, with the map of what was guessed."""
    guesses = [run.class_names.index(mistake.guess) for mistake in mistakes]
    heat_maps = explain(run.model, np.stack([mistake.image for mistake in mistakes]), classes=guesses)
    return "".join(_show(run, mistake, heat) for mistake, heat in zip(mistakes, heat_maps.maps, strict=True))


def _show(run: Run, mistake: Mistake, heat: np.ndarray) -> str:
    caption = (
        f"{escape(mistake.name)}: {escape(mistake.guess)} with {mistake.confidence:.1%}; labeled "
        f"{escape(mistake.label)} ({mistake.probability:.1%})"
    )
    alternative = f"{mistake.name}, labeled {mistake.label}, taken for {mistake.guess}"
    if heat.ndim == 2:
        image = as_rgb(mistake.image, run.record)
        plain = blend(image, np.zeros_like(heat))
        images_html = embed_picture(plain, alternative) + embed_picture(blend(image, heat), f"map of {mistake.guess}")
        images_html = f'<div class="two">{images_html}</div>'
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "map.png"
            overlay(mistake.image, heat, path)
            images_html = _embed(path.read_bytes(), alternative)
    return f"<figure>{images_html}<figcaption>{caption}</figcaption></figure>"


def embed_picture(pixels: np.ndarray, alternative: str) -> str:
    """Returns an `img` of uint8 pixels: small ones enlarged by a whole factor, large ones made smaller."""
    from PIL import Image

    picture: Any = Image.fromarray(pixels)
    side = max(picture.size)
    if side > LARGEST_SIDE_PX:
        picture.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX))
    elif side < SMALLEST_SIDE_PX:
        factor = -(-SMALLEST_SIDE_PX // side)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return _embed(png_of(picture), alternative)


def png_of(picture: Any) -> bytes:
    """Returns a picture of Pillow as a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def url_of(png: bytes) -> str:
    """Returns a PNG as a URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _embed(png: bytes, alternative: str) -> str:
    return f'<img src="{url_of(png)}" alt="{escape(alternative)}">'


MISTAKES = 12
MAX_MAPPED = 1000
MAX_CONFUSION_CLASSES = 40
MAX_PAIRS = 20
Section = tuple[str, str]


def run_page(run: Run) -> str:
    """Returns the page of a run that has a model; the test split is predicted for it, or else the validation split.

    Args:
        run: complete or not.
    """
    about = run.about
    split = next((name for name in ("test", "validation") if about.sizes.get(name)), "train")
    sections: list[Section] = [("Curves", _curves(run))]
    scored = _scored(run, split)
    sections += [(title, SECTIONS[title](scored)) for title in scored.predictor.task.sections]
    sections += _stored_robustness(run)
    sections += [
        ("Data", _data(run)),
        ("Recipe", _recipe(run)),
        ("Environment", _environment(run)),
        ("Make it again", _again(run)),
    ]
    glance = _glance(scored)
    subtitle = (
        f"{about.model} on {about.data}, recipe {about.recipe.name}, seed {about.recipe.train.seed}; "
        f"{run.file.status}; figures of the {split} split"
        + ", whose examples count by their weights"
        * (run.dataset.weights_of(split) is not None)
    )
    return page(f"Run {run.path.name}", subtitle, [("At a glance", glance), *sections], SORT)


@dataclasses.dataclass(frozen=True)
class Scored:
    """A run, and what its model says of a split.

    Attributes:
        run: the run.
        predictor: its model and record.
        split: that was predicted.
        predictions: of the model for the split.
        figures: as `evaluate` gives them.
    """

    run: Run
    predictor: Predictor
    split: str
    predictions: Predictions
    figures: Mapping[str, Any]


def _scored(run: Run, split: str) -> Scored:
    """Returns the scores of a split, as `evaluate` computes them."""
    predictor = open_predictor(run)
    predictions = predictor.predict(run.dataset, split)
    return Scored(run, predictor, split, predictions, predictions.score())


def _glance(scored: Scored) -> str:
    run, split, figures = scored.run, scored.split, scored.figures
    values = [
        (metric.title, f"{figures[metric.name]:.4f}")
        for metric in scored.predictor.task.metrics
        if metric.title and figures.get(metric.name) is not None
    ]
    seconds = sum(run.history.get("epoch_seconds", []))
    values += [
        (f"{split} examples", f"{figures['examples']:,}"),
        ("parameters", f"{run.about.parameters:,}"),
        ("epochs", f"{len(run.history.get('epoch', []))} of {run.recipe.train.epochs}"),
        ("minutes of training", f"{seconds / 60:.1f}"),
    ]
    return tiles(values)


def _curves(run: Run) -> str:
    history = run.history
    if not history:
        return "<p>No epoch is finished.</p>"
    charts = []
    notes = {"loss": _about_loss(run)}
    for name, title in run.recipe.loss.choice.task.curves.items():
        series = [
            (f"{title[0].lower()}{title[1:]}, {split}", list(zip(history["epoch"], history[key], strict=True)))
            for key, split in ((name, "training"), (f"val_{name}", "validation"))
            if key in history
        ]
        if series and not _is_the_loss(history, name):
            note = (
                f"{title} after every epoch. {notes.get(name, '')}Training figures are means over the epoch, on "
                "augmented examples."
            )
            charts.append(chart.lines(series, x_label="epoch", note=note, name=f"curve-{name}"))
    names = list(history)
    rows = [("", [history[name][index] for name in names]) for index in range(len(history["epoch"]))]
    listed = f"<details><summary>Every epoch as numbers</summary>{table(names, rows)}</details>"
    return f'<div class="charts">{"".join(charts)}</div>{listed}'


def _about_loss(run: Run) -> str:
    """Returns in what the loss that is minimized differs from the plain one of the task."""
    loss = run.recipe.loss
    if not loss.choice.task.has_classes:
        return "In units of the targets' standard deviations. " if loss.scale_targets else ""
    plain = loss.plain_metric
    differs = plain in run.history and not _is_the_loss(run.history, plain)
    return "With smoothing, weights of classes and regularization. " if differs else ""


def _is_the_loss(history: Mapping[str, list[float]], name: str) -> bool:
    """Returns whether a metric is what was minimized, to the rounding of sums."""
    return name not in ("loss", "accuracy") and np.allclose(history.get(name, np.inf), history["loss"], rtol=1e-4)


def _confusion(scored: Scored) -> str:
    names, counts = scored.run.about.class_names, np.asarray(scored.figures["confusion"])
    wrong = [(int(counts[i, j]), i, j) for i, j in zip(*np.nonzero(counts), strict=True) if i != j]
    pairs = sorted(wrong, key=lambda row: -row[0])[:MAX_PAIRS]
    listed = table(
        ["examples", "true", "predicted", "share of the true class"],
        [("", [count, names[i], names[j], count / int(counts[i].sum())]) for count, i, j in pairs],
    )
    if len(names) > MAX_CONFUSION_CLASSES:
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
        "<p>One row per true class; the shade is the share of its examples.</p>"
        f"{whole}<details><summary>The most frequent confusions</summary>{listed}</details>"
    )


def _classes(scored: Scored) -> str:
    rows = scored.figures["per_class"]
    figures = [name for name in ("precision", "recall", "f1", "roc_auc", "average_precision") if name in rows[0]]
    head = ["class", "examples", *(name.replace("_", " ") for name in figures)]
    listed = [("", [row["name"], row["support"], *(_or_dash(row[name]) for name in figures)]) for row in rows]
    return table(head, listed, sortable=True)


def _or_dash(value: float | None) -> Any:
    return "–" if value is None else value


def _calibration(scored: Scored) -> str:
    run, predictions, error = scored.run, scored.predictions, scored.figures["expected_calibration_error"]
    note = (
        f"Accuracy of the guesses by their confidence; the line across each column is the mean confidence, where a "
        f"calibrated classifier would end, the upright one the 95 % interval of the "
        f"accuracy (Wilson). Expected calibration error {error:.4f} over {CALIBRATION_BINS} bins."
    )
    diagram = chart.reliability_diagram(
        reliability(predictions.confidences, predictions.right, predictions.weights), note
    )
    stored = run.path / "calibration.json"
    if not stored.is_file():
        advice = "keras_resnet.evaluation.calibrate calibrates the probabilities and keeps the classes."
        return f"{diagram}<p>{advice}</p>"
    facts = json.loads(stored.read_text("utf-8"))
    rows = [
        ("", [split, *(facts[split][when][name] for name in ("loss", "expected_calibration_error") for when in WHEN)])
        for split in ("validation", "test")
        if split in facts
    ]
    head = ["split", *(f"{name} {when}" for name in ("cross-entropy", "calibration error") for when in WHEN)]
    return (
        f"{diagram}<p>A temperature of {facts['temperature']:.3f}, found on the {escape(facts['split'])} split, is in "
        f"calibrated.keras.</p>{table(head, rows)}"
    )


WHEN = ("before", "after")


def _mistakes(scored: Scored) -> str:
    run = scored.run
    mistakes = mistakes_of(scored.predictions, scored.predictor, run.dataset, scored.split, MISTAKES)
    if not mistakes:
        return "<p>There is none.</p>"
    return (
        "<p>The wrong guesses of the highest probability: look here for wrong labels. Beside each example, where the "
        f'network sees what it guessed (Grad-CAM).</p><div class="pictures">{shown_mistakes(run, mistakes)}</div>'
    )


def principal_components(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns features along their two directions of largest variance, `(examples, 2)`, and its share of the whole.

    Args:
        features: `(examples, features)`, two or more of each.
    """
    centered = features.astype("float64") - features.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centered, full_matrices=False)
    first = directions[:2]
    signs = np.sign(first[np.arange(2), np.abs(first).argmax(axis=1)])  # either sign is right
    squares = lengths**2
    return centered @ (first * signs[:, None]).T, float(squares[:2].sum() / max(squares.sum(), 1e-12))


def _map(scored: Scored) -> str:
    run, model = scored.run, scored.predictor.model
    if "head_pool" not in [layer.name for layer in model.layers]:
        return "<p>The network has no pooled features.</p>"
    features, labels = features_of(feature_model(model), scored.predictor, run.dataset, scored.split, MAX_MAPPED)
    if min(features.shape) < 2:
        return "<p>There are too few examples or features.</p>"
    places, share = principal_components(features)
    note = (
        f"The pooled features of at most {MAX_MAPPED:,} examples of the {scored.split} split along their two "
        f"directions of largest variance (PCA), which hold {share:.0%} of it. What lies together looks alike to the "
        "network."
    )
    return chart.class_map([(float(x), float(y)) for x, y in places], labels.tolist(), run.class_names, note)


def _agreement(scored: Scored) -> str:
    outputs, targets = scored.predictions.outputs, scored.predictions.labels
    step = -(-len(outputs) // 500)
    points = [(float(x), float(y)) for x, y in zip(targets[::step].ravel(), outputs[::step].ravel(), strict=True)]
    return chart.scatter(points, ("true", "predicted"), "On the diagonal both agree; at most 500 examples are drawn.")


def _curves_of_classes(scored: Scored) -> str:
    return class_curves(scored.predictions)


# What a row of the table of tasks may name.
SECTIONS: dict[str, Callable[[Scored], str]] = {
    "Confusion": _confusion,
    "Class by class": _classes,
    "Curves of the classes": _curves_of_classes,
    "Calibration": _calibration,
    "Most confident errors": _mistakes,
    "Map of the examples": _map,
    "Predicted and true": _agreement,
}


def _stored_robustness(run: Run) -> list[Section]:
    path = run.path / "robustness.json"
    if not path.is_file():
        return []
    facts = json.loads(path.read_text("utf-8"))
    rows = [("", [name, *accuracies]) for name, accuracies in facts["corruptions"].items()]
    summary = (
        f"<p>Accuracy on {facts['examples']:,} corrupted examples at five severities; {facts['clean']:.4f} without "
        f"corruption, {facts['mean']:.4f} in the mean.</p>"
    )
    return [("Robustness", summary + table(["corruption", *map(str, range(1, 6))], rows, sortable=True))]


def _data(run: Run) -> str:
    about = run.about
    sizes = table(["split", "examples"], [("", [name, size]) for name, size in about.sizes.items()])
    facts = [
        ("spec", about.data),
        ("examples", _shape(about.image_shape)),
        ("classes", str(len(about.class_names)) if about.class_names else "none: numbers are predicted"),
        ("fingerprint", about.fingerprint),
    ]
    noticed = "".join(f"<li>{escape(line)}</li>" for line in about.report)
    labels = run.dataset.split("train").labels
    counts_html = ""
    if labels is not None and about.class_names and len(about.class_names) <= MAX_CONFUSION_CLASSES:
        counts = class_counts(np.asarray(labels), len(about.class_names))
        rows = [
            (name, count / max(counts.max(), 1), f"{count:,}")
            for name, count in zip(about.class_names, counts, strict=True)
        ]
        counts_html = chart.bars(rows, "Training examples of each class.", "classes")
    return (
        table(["", ""], [("", list(fact)) for fact in facts])
        + sizes
        + counts_html
        + (f"<ul>{noticed}</ul>" * bool(noticed))
    )


def _shape(shape: tuple[int | None, ...]) -> str:
    """Returns the shape of examples for reading, such as "32 x 32, 3 channels"."""
    *space, channels = shape
    text = "of different sizes" if None in space else " x ".join(map(str, space))
    return f"{text}, {channels} channel{'s' if channels != 1 else ''}"


def _recipe(run: Run) -> str:
    recipe = run.recipe
    source = f"<p>{escape(recipe.about.source)}</p>" if recipe.about.source else ""
    is_known = recipe.name in list_recipes()
    base = Recipe.load(recipe.name) if is_known else Recipe()
    where = f"the recipe {recipe.name!r} of the package" if is_known else "the defaults"
    changed = compare_recipes(base, recipe)
    rows = [("", [name, str(before), str(after)]) for name, before, after in changed]
    differing = (
        f"<p>What differs from {escape(where)}:</p>{table(['field', 'there', 'here'], rows)}"
        if changed
        else f"<p>As {escape(where)}.</p>"
    )
    whole = f'<details><summary>The whole recipe</summary><pre tabindex="0">{escape(recipe.to_toml())}</pre></details>'
    return source + differing + whole


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
