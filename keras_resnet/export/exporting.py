"""`export`: from a run or a model to a file that is checked before it takes its name."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import tensorflow as tf

from keras_resnet import data as datasets
from keras_resnet import files, locks
from keras_resnet.arguments import check_int, choose
from keras_resnet.data import Dataset
from keras_resnet.errors import BadValue
from keras_resnet.evaluation import Predictor, open_predictor
from keras_resnet.evaluation.predictor import check_channels
from keras_resnet.export.checking import about, check_export, files_of, images_of, script_of
from keras_resnet.export.formats import FORMATS, Format, Served
from keras_resnet.models.precision import HALF_PRECISION, compute_dtype, to_float32
from keras_resnet.models.quantization import is_quantized

INT8, INT8_ALL, FLOAT16 = "int8", "int8-all", "float16"
QUANTIZATIONS = {
    None: None,
    INT8: "weights and activations of 8 bits",
    INT8_ALL: "weights, activations, pictures and answers of 8 bits",
    FLOAT16: "weights of 16 bits",
}
CALIBRATED = (INT8, INT8_ALL)
CALIBRATION_IMAGES = 200


@dataclasses.dataclass(frozen=True)
class Exported:
    """A model that was exported and checked.

    Attributes:
        path: the file, or for a SavedModel the folder that TensorFlow Serving takes.
        facts: what the JSON file beside it says: the largest difference from the Keras model, agreement, size, times.
    """

    path: pathlib.Path
    facts: dict[str, Any]

    def __str__(self) -> str:
        """Returns a human-readable summary."""
        facts = self.facts
        lines = [
            f"{self.path}",
            f"size           {facts['bytes'] / 2**20:.2f} MiB",
            f"checked        {facts['images']} images, by {facts['checked_by']}",
            f"difference     {facts['largest_difference']:.2e} at most, top-1 agrees on {facts['agreement']:.1%}"
            if facts["agreement"] is not None
            else f"difference     {facts['largest_difference']:.2e} at most",
            f"time           {facts['ms_1']:.2f} ms for 1 image, {facts['ms_8']:.2f} ms for 8",
        ]
        if "accuracy" in facts:
            before, after = facts["accuracy_before"], facts["accuracy"]
            lines.append(f"test accuracy  {before:.4f} before, {after:.4f} after quantization")
        return "\n".join(lines)


def export(
    source: Any,
    *,
    format: str = "savedmodel",
    out: str | os.PathLike,
    quantize: str | None = None,
    calibration: str | Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
    task: str | None = None,
    model_version: int | None = None,
) -> Exported:
    """Writes a trained model for serving; preprocessing and class names travel inside.

    The result takes float32 images of the model's size and range, any number at a time, and answers with
    probabilities, or with numbers for a regression. It is loaded in a process without this package, given images, and
    compared with the Keras model before it takes its final name; a JSON file beside it says what was found.

    A model trained under a mixed policy keeps its 16-bit computation in a SavedModel. The other runtimes have no 16-bit
    arithmetic on every processor: their files compute in float32 with the same weights, and are compared with the Keras
    model in float32.

    Beside a file that takes pictures lies a script, `<name>_<suffix>_predict.py`, that reads image files as `predict`
    does, with Pillow and NumPy alone, and runs the model. The record, with the class names, is in the file's own
    metadata too.

    Args:
        source: a run folder, a `.keras` file, a `Run` or a `keras.Model`.
        format: "savedmodel" (TensorFlow Serving's layout, `OUT/1/`; also takes uint8 images, encoded files, and gives
            features), "onnx", "openvino" or "litert".
        out: the file, ending in `.onnx`, `.xml` or `.tflite`, or the folder of a SavedModel. It must not exist; the
            folder may hold other versions where `model_version` says which one is written.
        quantize: None; "int8" for weights and activations of 8 bits, for all but "savedmodel"; "int8-all" for pictures
            and answers of 8 bits too, as microcontrollers want them, for "litert"; "float16" for weights of 16 bits,
            for "openvino" and "litert". A network that was trained to round to 8 bits (`keras_resnet.models.quantize`)
            is stored in 8 bits with its own ranges wherever the format can hold them.
        calibration: a spec or a dataset whose training images set the ranges of int8, up to 200; by default the run's.
            The accuracy before and after is that on the test split of the run, or of these data for a model alone.
        data_dir: where TFDS finds its prepared data sets.
        task: "classification" or "regression", for a model that carries no record of it.
        model_version: of a SavedModel, the number of its folder, >= 1; the highest is served. None for 1.

    Returns:
        The path, and the facts of the check.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, `out` exists, or the check failed.
        ImportError: a package of the format is missing; the message has the command that installs it.

    """
    choose("format", format, FORMATS)
    choose("quantize", quantize, QUANTIZATIONS)
    path = pathlib.Path(out).expanduser()
    row = FORMATS[format]
    if not row.suffix and model_version is None and path.name.isdigit() and path.parent.name:  # "served/2"
        path, model_version = path.parent, int(path.name)
    version = _check_version(model_version, format)
    _check_path(path, row.suffix, version)
    if quantize and quantize not in row.quantizations:
        able = ", ".join(repr(name) for name, other in FORMATS.items() if quantize in other.quantizations)
        raise BadValue(
            f"quantize={quantize!r} was given with format={format!r}, which cannot hold {QUANTIZATIONS[quantize]}. "
            f"Allowed are {able}. Choose one of them."
        )
    row.check_packages(format, False)
    predictor = open_predictor(source, task)
    _check_model(predictor)
    rounds = is_quantized(predictor.model)
    if rounds:
        quantize = _check_rounded(quantize, row)
    needs_ranges = quantize in CALIBRATED and not rounds
    row.check_packages(format, needs_ranges)
    dataset, ranges = _datasets(predictor, calibration, data_dir, quantize, needs_ranges)
    dtype = compute_dtype(predictor.model)
    if not row.half_precision and dtype in HALF_PRECISION:
        predictor = dataclasses.replace(predictor, model=to_float32(predictor.model))
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with files.explaining_no_room(path), locks.temporary_folder(path) as aside:
        served = Served(predictor.model, predictor.record, aside, about(predictor))
        saved = aside / "saved"
        tf.saved_model.save(served, os.fspath(saved), signatures=served.signatures())
        artifact = aside / f"made{row.suffix}"
        images = images_of(ranges, predictor, CALIBRATION_IMAGES, "train") if needs_ranges else None
        row.write(served, saved, artifact, images, quantize)
        script = script_of(row, path.name, served)
        facts = check_export(format, artifact, script, served, predictor, dataset, quantize, aside)
        facts["model_dtype"] = dtype
        if row.suffix:
            facts["sha256"] = {f"{path.stem}{file.suffix}": files.sha256_of(file) for file in files_of(artifact)}
        text = json.dumps(facts, indent=1) + "\n"
        if format == "openvino":
            _move_openvino(artifact, path)
        elif version is None:
            os.rename(artifact, path)
        else:
            path.mkdir(exist_ok=True)
            os.rename(artifact / "1", path / version)
        files.write_text(_facts_path(path, version), text)
        if row.suffix and served.takes_files:
            files.write_text(_script_path(path), script)
    return Exported(path if version is None else path / version, facts)


def _datasets(
    predictor: Predictor,
    calibration: str | Dataset | None,
    data_dir: str | os.PathLike | None,
    quantize: str | None,
    needs_ranges: bool,
) -> tuple[Dataset | None, Dataset | None]:
    """Returns the data whose test split is scored, the run's own where there is one, and those that set the ranges."""
    run = predictor.run
    if calibration is not None and run is not None and not needs_ranges:
        raise BadValue(
            f"calibration was given with quantize={quantize!r}, which has no ranges to set from images. Leave it out."
        )
    samples = None if calibration is None else _load_calibration(predictor, calibration, data_dir)
    is_moved = data_dir is not None and calibration is None
    dataset = samples if run is None else run.load_data(None, data_dir) if is_moved else run.dataset
    ranges = dataset if samples is None else samples
    if needs_ranges and ranges is None:
        raise BadValue(
            f"quantize={quantize!r} needs images that set its ranges, and the model knows no data. Allowed is a spec "
            "as calibration, on the command line --calibration. Name the training data."
        )
    return dataset, ranges


def _check_rounded(quantize: str | None, row: Format) -> str | None:
    """Returns the quantization of a network that was trained with it: of 8 bits where the format can hold them."""
    if quantize not in (None, INT8):
        raise BadValue(
            f"quantize={quantize!r} was given for a network that rounds to 8 bits. Allowed are None and {INT8!r}, with "
            "pictures and answers in floats. Leave it out, or export the network that it was made of."
        )
    return quantize or (INT8 if INT8 in row.quantizations else None)


def _check_version(version: int | None, format: str) -> str | None:
    """Returns the name of the folder of a version, None for one that was not asked for."""
    if version is None:
        return None
    if FORMATS[format].suffix:
        raise BadValue(
            f"model_version={version!r} was given with format={format!r}, which is one file. Only a SavedModel has "
            "versions. Leave it out, and put the version into the name."
        )
    return str(check_int("model_version", version, minimum=1))


def _facts_path(path: pathlib.Path, version: str | None = None) -> pathlib.Path:
    return path.with_name(f"{path.name}.json" if version is None else f"{path.name}.{version}.json")


def _script_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.stem}_{path.suffix[1:]}_predict.py")


def _move_openvino(made: pathlib.Path, path: pathlib.Path) -> None:
    """Moves the weights first: a description without them would be half a model."""
    os.rename(made.with_suffix(".bin"), path.with_suffix(".bin"))
    os.rename(made, path)


def _check_path(path: pathlib.Path, suffix: str, version: str | None = None) -> None:
    if path.suffix != suffix and suffix:
        raise BadValue(f"out={os.fspath(path)!r} does not end in {suffix!r}, as files of this format do. Name it so.")
    if not path.name:
        raise BadValue(f"out={os.fspath(path)!r} is a folder that exists, without its own name. Name a new one.")
    written = [path if version is None else path / version, _facts_path(path, version)]
    written += [_script_path(path)] if suffix else []
    written += [path.with_suffix(".bin")] if suffix == ".xml" else []
    existing = [found for found in written if found.exists()]
    if existing:
        served = not suffix and path.is_dir() and any(entry.name.isdigit() for entry in path.iterdir())
        further = "write the next version beside it (model_version), " if served else ""
        raise BadValue(
            f"out={os.fspath(path)!r} exists: {os.fspath(existing[0])!r}. An export never writes over another. Choose "
            f"another name, {further}or move the old one away."
        )
    foreign = [entry.name for entry in (path.iterdir() if path.is_dir() else ()) if not entry.name.isdigit()]
    if foreign:
        raise BadValue(
            f"out={os.fspath(path)!r} holds {foreign[0]!r}, and versions of a served model are to lie there, which are "
            "folders named by numbers. Choose a folder of such, or a new one."
        )
    files.check_parent(path)


def _check_model(predictor: Predictor) -> None:
    shape = predictor.model.input_shape
    if isinstance(shape, list) or None in shape[1:]:
        raise BadValue(
            f"The model takes {shape}, and an export needs one input of known size. Networks trained here have one. "
            "Build the model with an input_shape."
        )


def _load_calibration(predictor: Predictor, calibration: Any, data_dir: Any) -> Dataset:
    """Returns the images to calibrate with."""
    dataset = calibration
    if not isinstance(calibration, Dataset):
        load = datasets.load if predictor.run is None else predictor.run.load_data
        dataset = load(calibration, data_dir=data_dir)
    check_channels(predictor, dataset)
    return dataset
