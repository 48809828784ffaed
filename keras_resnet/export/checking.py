"""The check of an export: loaded by its own runtime, given images, and compared with the Keras model."""

import datetime
import inspect
import os
import pathlib
import pprint
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import data as datasets
from keras_resnet import files
from keras_resnet.data import Dataset
from keras_resnet.errors import BadValue
from keras_resnet.evaluation import Predictor
from keras_resnet.export import consumers, predict_image
from keras_resnet.export.formats import FORMATS, Format, Served
from keras_resnet.models import compute_dtype
from keras_resnet.tasks.multilabel import thresholds_for

CHECKED_IMAGES = 32
# Of probabilities, by the dtype in which the file computes: float32 sums come out in another order; 16 bits round the
# output of every layer, and folded norms round elsewhere than separate ones.
TOLERANCES = {"float64": 1e-5, "float32": 1e-5, "bfloat16": 5e-2, "float16": 1e-2}
# Of the mean of a network that rounds: what one layer rounds otherwise, the layers behind it carry on.
TOLERANCE_OF_ROUNDED = 1e-2


def images_of(dataset: Dataset | None, predictor: Predictor, count: int, split: str) -> np.ndarray:
    """Returns float32 images as the model takes them: real ones where there are any, else noise of a fixed seed."""
    shape = predictor.model.input_shape[1:]
    if dataset is None:
        noise = np.random.default_rng(0).uniform(0, 255, (count, *shape)).astype("float32")
        return noise if predictor.record.pixel_range is None else predictor.record.from_bytes(noise)
    split = split if dataset.sizes.get(split) else "train"
    batches = dataset.batches(split, 1, **datasets.sizing(predictor.record, dataset.image_shape))
    # Evenly from the whole split: files of a folder are in the order of their classes.
    step = max(1, dataset.sizes[split] // count)
    images_list = [images[0] for images, *_ in batches.shard(step, 0).take(count).as_numpy_iterator()]
    return np.stack(images_list).astype("float32")


def about(predictor: Predictor) -> dict[str, Any]:
    """Returns the provenance of a model: its source and the versions that wrote it."""
    from keras_resnet import __version__

    run = predictor.run
    return {
        "model": predictor.model.name if run is None else run.about.model,
        "fingerprint": None if run is None else run.about.fingerprint,
        "keras_resnet": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "date": str(datetime.date.today()),
        "record": predictor.record.to_dict(),
    }


def script_of(row: Format, name: str, served: Served) -> str:
    """Returns the script that classifies image files with an exported model, for its name, its record and its format.

    What it says in place of their three constants is all that `predict_image.py` lacks to stand alone.
    """
    text = pathlib.Path(predict_image.__file__).read_text(encoding="utf-8")
    start = text.index("# The function of the model")
    end = text.index("\n\n", start)
    load = inspect.getsource(row.load).replace(f"def {row.load.__name__}(", "def load(", 1)
    record = f"RECORD: dict = {pprint.pformat(served.about_record(), width=118)}"
    text = f"{text[:start]}\n\n{load}{text[end:]}"
    return text.replace('MODEL = "model.onnx"', f"MODEL = {name!r}", 1).replace("RECORD: dict = {}", record, 1)


def _consume(format: str, made: pathlib.Path, script: str, aside: pathlib.Path, images: np.ndarray) -> Any:
    """Returns the answer of a process without this package, by the script that stands beside the export."""
    given, got, reader = aside / "images.npz", aside / "answers.npz", aside / "predict.py"
    np.savez(given, images=images)
    reader.write_text(script, encoding="utf-8")
    # -P: the folder of the script, which holds modules named like packages, is not searched.
    command = [sys.executable, "-P", consumers.__file__, *map(os.fspath, (reader, made, given, got))]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        raise BadValue(
            f"The {format} file was written and cannot be used: {done.stderr.strip().splitlines()[-1:]}. It was "
            "removed. Report this with the model."
        )
    return np.load(got)


def check_export(
    format: str,
    made: pathlib.Path,
    script: str,
    served: Served,
    predictor: Predictor,
    dataset: Dataset | None,
    quantize: str | None,
    aside: pathlib.Path,
) -> dict[str, Any]:
    """Returns the facts of the check."""
    images = images_of(dataset, predictor, CHECKED_IMAGES, "test")
    expected = expected_answers(served, predictor, images)
    answer = partial(_consume, format, made, script, aside)
    got = answer(images)
    difference = float(np.abs(got["answers"] - expected).max())
    dtype = compute_dtype(predictor.model)
    agreement = _agreement(got["answers"], expected, predictor) if served.has_classes else None
    facts: dict[str, Any] = {
        **about(predictor),
        "record": served.about_record(),
        "format": format,
        "compute_dtype": dtype,
        "quantize": quantize,
        "images": len(images),
        "real_images": dataset is not None,
        "checked_by": FORMATS[format].consumer,
        "largest_difference": difference,
        "largest_difference_of_two_calls": float(got["repeated"]),
        "agreement": agreement,
        "bytes": sum(file.stat().st_size for file in files_of(made)),
        "model_sha256": None if predictor.run is None else files.sha256_of(predictor.run.path / "best.keras"),
        "ms_1": float(got["ms_1"]),
        "ms_8": float(got["ms_8"]),
    }
    if quantize:
        facts |= _accuracies(answer, served, predictor, dataset)
    if served.rounds:
        mean = float(np.abs(got["answers"] - expected).mean())
        if not mean <= TOLERANCE_OF_ROUNDED * max(1.0, float(np.abs(expected).max())):
            raise BadValue(
                f"The {format} file answers differently from the network that rounds to 8 bits, by {mean:.2e} on the "
                "average. It was removed. Report this with the model."
            )
    if served.rounds or quantize in ("int8", "int8-all"):
        return facts
    scale = _scale(served, predictor, images, expected)
    allowed = TOLERANCES["float16" if quantize else dtype] * scale
    if not difference <= allowed:
        raise BadValue(
            f"The {format} file answers differently from the model, by {difference:.2e} where {allowed:.0e} is "
            "allowed. It was removed. Report this with the model."
        )
    return facts


def _scale(served: Served, predictor: Predictor, images: np.ndarray, expected: np.ndarray) -> float:
    """Returns by how much more the answers may differ than numbers near 1 would.

    A probability follows an error of its logit, and float32 knows a logit of 100 to a tenth of what it knows one of 10.
    """
    if not served.has_classes:
        return max(1.0, float(np.abs(expected).max()))
    outputs = np.asarray(predictor.model(images, training=False), dtype="float32")
    return max(1.0, float(np.abs(predictor.read(outputs).outputs).max()) / 10)


def files_of(made: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of an export that was just written."""
    if made.is_dir():
        return [path for path in made.rglob("*") if path.is_file()]
    return [path for path in (made, made.with_suffix(".bin")) if path.is_file()]


def expected_answers(served: Served, predictor: Predictor, images: np.ndarray) -> np.ndarray:
    """Returns the answers of the Keras model itself, norms and all."""
    outputs = np.asarray(predictor.model(images, training=False), dtype="float32")
    if not predictor.task.has_classes:
        return outputs
    return predictor.read(outputs).probabilities.astype("float32")


def _agreement(answers: np.ndarray, others: np.ndarray, predictor: Predictor) -> float:
    """Returns the share of answers that are the same: the class of an example, or for each class whether it has it."""
    if predictor.task.has_thresholds:
        cuts = thresholds_for(predictor.record.thresholds, answers.shape[1])
        return float(((answers >= cuts) == (others >= cuts)).mean())
    return float((answers.argmax(1) == others.argmax(1)).mean())


def _accuracies(
    answer: Callable[[np.ndarray], Any], served: Served, predictor: Predictor, dataset: Dataset | None
) -> dict[str, float]:
    """Returns the accuracy on the test split before and after quantization."""
    if dataset is None or not served.has_classes or not dataset.sizes.get("test"):
        return {}
    batches = dataset.batches("test", 256, **datasets.sizing(predictor.record, dataset.image_shape))
    images, labels, *_ = (np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True))
    got = answer(images.astype("float32"))
    before = np.concatenate(
        [expected_answers(served, predictor, images[i : i + 256]) for i in range(0, len(images), 256)]
    )
    truth = labels if labels.ndim == 2 else np.eye(before.shape[1])[labels]
    return {
        "examples": len(images),
        "accuracy_before": _agreement(before, truth, predictor),
        "accuracy": _agreement(got["answers"], truth, predictor),
    }
