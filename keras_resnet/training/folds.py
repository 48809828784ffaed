"""Cross-validation: a run for each fold, what they say together, and one model that is their mean."""

import csv
import dataclasses
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import files, preprocessing
from keras_resnet.arguments import check_int, check_path, choose
from keras_resnet.errors import BadType, BadValue
from keras_resnet.preprocessing import InputRecord
from keras_resnet.tasks import CLASSIFICATION, TASKS, Predictions
from keras_resnet.tasks.outputs import SMALLEST, last_activation
from keras_resnet.tasks.predictions import concatenate
from keras_resnet.training.callbacks import save_model
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.run import Run
from keras_resnet.training.scoring import predict
from keras_resnet.training.trainer import fit

View = Callable[[Any], Any]


def _flipped(images: Any) -> Any:
    return keras.ops.flip(images, axis=-2)


def _turns(images: Any) -> list[Any]:
    """Returns the eight ways in which a square picture can lie."""
    turned = [images, keras.ops.flip(images, axis=(1, 2))]
    aside = keras.ops.transpose(images, (0, 2, 1, 3))
    turned += [aside, keras.ops.flip(aside, axis=(1, 2))]
    return [*turned, *(keras.ops.flip(view, axis=2) for view in turned)]


# Name -> the views of an example that are averaged.
VIEWS: dict[str, Callable[[Any], list[Any]]] = {
    "none": lambda images: [images],
    "flip": lambda images: [images, _flipped(images)],
    "quarter-turns": _turns,
}


def mean_of_models(members: Sequence[keras.Model], views: str = "none") -> keras.Model:
    """Returns one network whose probabilities, or values, are the mean over networks and over views of an example.

    It takes what its members take and answers as they do, so it is predicted with, evaluated, saved and exported as
    any model.
    """
    choose("views", views, VIEWS)
    records = [preprocessing.for_model(member) for member in members]
    record, shape = records[0], members[0].input_shape[1:]
    for member, other in zip(members, records, strict=True):
        _check_alike(members[0], record, member, other)
    if views == "quarter-turns" and (len(shape) != 3 or shape[0] != shape[1]):
        raise BadValue(
            f"views={views!r} was given for examples of shape {shape}. Allowed are square pictures. Use 'flip'."
        )
    image = keras.Input(shape, name="image")
    # Of sigmoids each is an answer by itself: the one of two classes, or those of multi-label targets.
    is_single = members[0].output_shape[-1] == 1 or (record.task is not None and TASKS[record.task].has_thresholds)
    networks = [_under_a_name_of_its_own(member, f"member_{n}") for n, member in enumerate(members, start=1)]
    views_of = VIEWS[views](image)
    answers = [(network, network(view)) for network in networks for view in views_of]
    if record.activation is None:
        values = [output for _, output in answers]
        mean = keras.layers.Average(dtype="float32")(values) if len(values) > 1 else values[0]
        model = keras.Model(image, keras.layers.Activation("linear", dtype="float32")(mean), name="mean")
        if record.normalization is not None:  # which carries the record; other networks have none
            preprocessing.describe_outputs(model, task=record.task, units=record.units)
        return model
    # In logarithms, and of sigmoids to the end: 1 - 1e-9 is 1 in float32, of which no logit could be read back.
    logits = _log_mean([_log_probabilities(output, network, record, is_single) for network, output in answers])
    if is_single:
        logits -= _log_mean([_log_probabilities(-output, network, record, True, 1.0) for network, output in answers])
    activation = "sigmoid" if is_single else "softmax"
    ends_in = "linear" if is_single and record.normalization is not None else activation
    model = keras.Model(image, keras.layers.Activation(ends_in, dtype="float32")(logits), name="mean")
    cuts = [other.thresholds for other in records]
    thresholds = tuple(np.mean(cuts, axis=0).tolist()) if all(cuts) else ()
    outputs_config: dict[str, Any] = {"task": record.task or CLASSIFICATION.name, "activation": activation}
    if record.normalization is not None:
        preprocessing.describe_outputs(model, record.class_names, thresholds=thresholds, **outputs_config)
    return model


def _under_a_name_of_its_own(member: keras.Model, name: str) -> keras.Model:
    """Returns a copy of a member, whose record can be another one, under a name that no other member has."""
    copy = keras.models.clone_model(member)
    copy.set_weights(member.get_weights())
    copy.name = name
    return copy


def _log_mean(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return keras.ops.logsumexp(keras.ops.stack(parts), axis=0) - math.log(len(parts))


def _log_probabilities(
    output: Any, member: keras.Model, record: InputRecord, is_single: bool, whole: float = 0.0
) -> Any:
    """Returns the logarithms of the probabilities that an output stands for; of those of the opposite for `-output`."""
    output = keras.ops.cast(output, "float32")
    is_probability = last_activation(member) != "linear"
    if is_probability:
        output = keras.ops.log(keras.ops.maximum(output + whole, SMALLEST))
    elif is_single or record.activation == "sigmoid":  # sigmoids of labels that exclude each other share their sum
        output = keras.ops.log_sigmoid(output)
    return output if is_single else keras.ops.log_softmax(output)


def _check_alike(first: keras.Model, record: InputRecord, member: keras.Model, other: InputRecord) -> None:
    """Raises ValueError where a network takes or gives something else than the first one."""
    properties = {
        "takes": (first.input_shape[1:], member.input_shape[1:]),
        "gives": (first.output_shape[1:], member.output_shape[1:]),
        "is for": (record.task, other.task),
        "has the classes": (record.class_names, other.class_names),
        "reads through": (record.activation, other.activation),
        "wants pixels in": (record.pixel_range, other.pixel_range),
        "cuts the share": (record.crop_fraction, other.crop_fraction),
        "resizes by": (record.interpolation, other.interpolation),
        "has the channels": (record.channel_order, other.channel_order),
        "turns photographs upright:": (record.apply_exif, other.apply_exif),
    }
    for what, (one, two) in properties.items():
        if one != two:
            raise BadValue(
                f"One model {what} {one}, and another {two}. A mean is of models that take and give the same. Leave "
                "one of them out."
            )


FOLDS_FILE, MEAN_MODEL, PREDICTIONS = "folds.json", "mean.keras", "out_of_fold.csv"
MAX_FOLDS = 100
UNKNOWN = "?"  # before a class in the cell of several labels, where it is not known whether the example has it


def _is_scores(path: pathlib.Path) -> bool:
    try:
        return {"folds", "out_of_fold"} <= set(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _is_predictions(path: pathlib.Path) -> bool:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().startswith("path,fold,")
    except OSError:
        return False


def _is_mean(path: pathlib.Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))["config"]["name"] == "mean"
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile):
        return False


# What a cross-validation writes beside its runs -> whether a file is one that it wrote.
WRITTEN = {FOLDS_FILE: _is_scores, MEAN_MODEL: _is_mean, PREDICTIONS: _is_predictions}


@dataclasses.dataclass(frozen=True)
class Folds:
    """The runs of a cross-validation.

    Attributes:
        path: the folder, with a run in `fold-1` and so on, `folds.json`, `out_of_fold.csv` and `mean.keras`.
        rows: the scores of each fold on the examples that it left out.
        out_of_fold: the scores of all of these predictions together.
    """

    path: pathlib.Path
    rows: list[dict[str, Any]]
    out_of_fold: dict[str, Any]

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Folds":
        """Returns a cross-validation that ended.

        Args:
            folder: of it.

        Raises:
            ValueError: it holds none that ended, or its file was changed.
        """
        path = pathlib.Path(folder).expanduser()
        try:
            content = json.loads((path / FOLDS_FILE).read_text("utf-8"))
            first, *others = (dict(row) for row in content["folds"])
            return cls(path, [first, *others], dict(content["out_of_fold"]))
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise BadValue(
                f"{os.fspath(folder)!r} holds no whole {FOLDS_FILE} ({error}). Allowed is the folder of a "
                "cross-validation that ended. Go on with --resume."
            ) from error

    def __str__(self) -> str:
        """Returns a table: each fold, mean and standard deviation, and all predictions together."""
        names, rows = self.table()
        wide = {name: max(len(name), 10) for name in names}

        def line(title: str, values: Mapping[str, Any]) -> str:
            cells = (format(values[name], ",.4g") if name in values else "" for name in names)
            cells = (f"{cell:>{wide[name]}}" for cell, name in zip(cells, names, strict=True))
            return f"{title:<12}" + "  ".join(cells)

        lines = [f"{'fold':<12}" + "  ".join(f"{name:>{wide[name]}}" for name in names)]
        lines += [line(title, values) for title, values in rows.items()]
        return "\n".join([f"{self.path}", *lines])

    def table(self) -> tuple[list[str], dict[str, Mapping[str, Any]]]:
        """Returns the names of the scores, and those of each fold, "mean", "spread" and "out of fold".

        The spread is the standard deviation of the folds, with folds - 1 as the divisor.
        """
        names = [name for name, value in self.rows[0].items() if isinstance(value, (int, float))]
        columns = {name: [row[name] for row in self.rows] for name in names if name != "examples"}
        return names, {
            **{str(number): row for number, row in enumerate(self.rows, start=1)},
            "mean": {name: float(np.mean(values)) for name, values in columns.items()},
            "spread": {name: float(np.std(values, ddof=1)) for name, values in columns.items()},
            "out of fold": self.out_of_fold,
        }


def cross_validate(
    recipe: Recipe | str | os.PathLike | None = None,
    *,
    folds: int = 5,
    model: str | None = None,
    data: str | None = None,
    data_dir: str | os.PathLike | None = None,
    out: str | os.PathLike,
    resume: bool = False,
    seed: int | None = None,
    weights: str | os.PathLike | None = None,
    overrides: Mapping[str, Any] | None = None,
    verbose: Any = "auto",
) -> Folds:
    """Trains a run for each fold, scores it on the examples that it left out, and keeps the mean of the models.

    The training split is dealt into folds, stratified by class; groups stay whole. Each run leaves one out, takes its
    validation split from the others, which chooses its best epoch, and is scored on the one that it left out: so
    each example is predicted once, by a model that has not seen it. A test split of the data is not touched.

    Args:
        recipe: as for `fit`.
        folds: how many, in [2, 100].
        model: as for `fit`.
        data: a spec, as for `fit`.
        data_dir: as for `fit`.
        out: the folder. It is given `fold-1/` and so on, runs as those of `fit`; `folds.json`, the scores; the
            predictions in `out_of_fold.csv` (path, fold, label, a probability for each class; several labels are
            divided by "|"; of a regression targets and values); and `mean.keras`, the mean of the models, which
            `predict`, `evaluate` and `export` take for the folder.
        resume: go on where the folder stands, and start where it is empty.
        seed: as for `fit`.
        weights: as for `fit`.
        overrides: as for `fit`.
        verbose: as for `fit`.

    Raises:
        TypeError, ValueError: as `fit`; or the data cannot be dealt into that many folds.
        Interrupted: on Ctrl-C; with `resume` it goes on.
    """
    check_int("folds", folds, minimum=2, maximum=MAX_FOLDS)
    check_path("out", out)
    if data is not None and not isinstance(data, str):
        raise BadType(f"data={data!r} is not a spec. Folds are dealt as data are loaded. Pass one as 'folder:photos'.")
    if "data.fold" in (overrides or {}):
        raise BadValue("data.fold was given for a cross-validation, which sets it. Leave it out.")
    folder = pathlib.Path(out).expanduser()
    names = [f"fold-{number + 1}" for number in range(folds)]
    if not resume or not any((folder / name / "run.json").is_file() for name in names):
        files.check_folder_free(folder, (*names, *WRITTEN))
    for written, is_ours in WRITTEN.items():
        if os.path.lexists(folder / written) and not is_ours(folder / written):
            raise BadValue(
                f"out={os.fspath(folder)!r} holds a {written!r} that no cross-validation wrote, and that would be "
                "replaced. Move it away, or choose another folder."
            )
    extra = folder / f"fold-{folds + 1}"
    if extra.exists():
        raise BadValue(f"out={os.fspath(folder)!r} holds {extra.name}, of more folds than {folds}. Choose another.")
    shared: dict[str, Any] = {"model": model, "data": data, "data_dir": data_dir, "seed": seed, "weights": weights}
    rows, parts, fold_of = [], list[Predictions](), []
    precision: dict[str, Any] = {}
    for number, name in enumerate(names, start=1):
        own = {**(overrides or {}), **precision, "data.fold": f"{number}/{folds}"}
        run = fit(recipe, out=folder / name, resume=resume, overrides=own, verbose=verbose, **shared)
        if recipe is None:  # the first fold may have measured which is fast; all train in one
            precision = {"train.precision": run.recipe.train.precision}
        rows.append({key: value for key, value in run.metrics["test"].items() if isinstance(value, (int, float))})
        examples = run.dataset.split("test")
        parts.append(
            predict(run.model, run.dataset, "test", run.record).replace(
                weights=examples.weights,  # as the data have them: each fold has its own mean
                names=[examples.name_of(index) for index in range(len(examples))],
            )
        )
        fold_of += [number] * len(examples)
        last = run
        keras.backend.clear_session()
    together = concatenate(parts)
    scored = together.score()
    _write_predictions(folder / PREDICTIONS, together, fold_of, last.dataset.units)
    files.write_atomically(
        folder / MEAN_MODEL,
        lambda path: save_model(mean_of_models([Run.load(folder / name).model for name in names]), path),
    )
    found_folds = Folds(folder, rows, scored)
    table = found_folds.table()[1]
    content = {"folds": rows, "mean": table["mean"], "spread": table["spread"], "out_of_fold": scored}
    content |= {"recipe": last.recipe.name, "data": last.about.data}
    files.write_text(folder / FOLDS_FILE, json.dumps(content, indent=1) + "\n")
    return found_folds


def _write_predictions(
    path: pathlib.Path, predictions: Predictions, folds: Sequence[int], units: Sequence[str]
) -> None:
    """Writes a line per example: its name, its fold, its label, and what the model that had not seen it says."""
    names = predictions.class_names
    values = predictions.probabilities if names else predictions.outputs
    outputs_named = names or units or tuple(map(str, range(values.shape[1])))
    first = ["path", "fold", *(["label"] if names else [f"target {name}" for name in outputs_named])]
    # A class may be called "label", or "=1".
    columns = [f"class {name}" if name in first else files.plain_cell(name) for name in outputs_named]

    def label_cells(label: Any) -> list[Any]:
        if not names:
            return [float(value) for value in label]
        if not np.ndim(label):
            return [columns[int(label)]]
        pairs = zip(columns, label, strict=True)
        return ["|".join((UNKNOWN if np.isnan(yes) else "") + name for name, yes in pairs if yes != 0)]

    def write(half: pathlib.Path) -> None:
        with open(half, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*first, *columns])
            for name, fold, label, row in zip(predictions.names, folds, predictions.labels, values, strict=True):
                writer.writerow([files.plain_cell(name), fold, *label_cells(label), *(float(value) for value in row)])

    files.write_atomically(path, write)
