"""What `predict` prints, and how it answers without TensorFlow, whose import alone takes seconds.

An export in the run folder,
named `best.onnx` or `best.xml`, answers for the model that it was made of, where this is the whole question: the most
probable classes of JPEG and PNG files. Everything else, and whatever is odd about a file, is left to TensorFlow.
"""

import argparse
import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from keras_resnet.terminal import one_line

# Name of the export -> the package that runs it.
EXPORTS = {"best.onnx": "onnxruntime", "best.xml": "openvino"}
SUFFIXES, MODES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}, ("RGB", "L")
MAX_PIXELS, MAX_PICTURES, TOLERANCE = 40_000_000, 1000, 1e-5


def print_answers(options: argparse.Namespace, answers: Iterable[dict[str, Any]]) -> None:
    """Prints predictions as they come, or as JSON.

    Args:
        options: of `predict`.
        answers: as `evaluation.predict_each` yields them, with the engine of each.
    """
    if options.json:
        print(json.dumps(list(answers)))
        return
    for answer in answers:
        if options.json_lines:
            print(json.dumps(answer), flush=True)
            continue
        print(one_line(answer["image"]))
        if "labels" in answer:
            print(f"  labels: {one_line(', '.join(answer['labels'])) or 'none'}")
        for best in answer.get("classes", []):
            print(f"  {best['probability']:7.2%}  {one_line(best['name'])}")
        if "set" in answer:
            print(f"  {answer['coverage']:.0%} set: {one_line(', '.join(answer['set'])) or 'none'}")
        if "values" in answer:
            units = answer.get("units") or [""] * len(answer["values"])
            values = zip(answer["values"], units, strict=True)
            print("  " + "  ".join(f"{value:g} {one_line(unit)}".rstrip() for value, unit in values))
        if "novelty" in answer:
            print(f"  more unlike the examples of the index than {answer['novelty']:.1%} of them are")
        if "error" in answer:
            print(f"  skipped: {one_line(answer['error'])}")


def answer_by_export(options: argparse.Namespace) -> list[dict[str, Any]] | None:
    """Returns the answers of `predict` by the export in a run folder; None where TensorFlow has to answer.

    Args:
        options: of `predict`.
    """
    asks_more = options.csv or options.page or options.task or options.index or options.tta != "none" or options.top < 1
    if asks_more or not 0 < len(options.images) <= MAX_PICTURES:
        return None
    try:
        folder = pathlib.Path(options.trained).expanduser()
        name = next((name for name in EXPORTS if (folder / f"{name}.json").is_file()), None)
        if name is None or not (folder / "run.json").is_file() or not importlib.util.find_spec(EXPORTS[name]):
            return None
        facts = json.loads((folder / f"{name}.json").read_text("utf-8"))
        record = facts["record"]
        is_plain = record["task"] == "classification" and record["set_threshold"] is None and record["class_names"]
        takes_pictures = record["channel_order"] != "any" and record["pixel_range"] and record["image_size"]
        takes_pictures = takes_pictures and record["interpolation"] != "bicubic"  # TensorFlow rounds its weights
        is_exact = facts["quantize"] is None and facts["largest_difference"] <= TOLERANCE
        if not (is_plain and takes_pictures and is_exact) or facts["model_dtype"] != "float32":
            return None
        parts = {"best.keras": facts["model_sha256"], **facts["sha256"]}
        if any(_sha256(folder / part) != digest for part, digest in parts.items()):
            return None  # the training went on, or a file is not whole
        reader = _reader(record)
        paths = [path for path in options.images if _is_plain_picture(pathlib.Path(path))]
        if len(paths) < len(options.images):
            return None
        run = _engine(name, str(folder / name))
        answers = []
        for path in paths:
            values = run(reader.read(path)[None])[0]
            order = sorted(range(len(values)), key=lambda place: -values[place])[: options.top]
            classes = [{"name": record["class_names"][i], "index": i, "probability": float(values[i])} for i in order]
            answers.append({"image": path, "classes": classes, "engine": EXPORTS[name]})
        return answers
    except Exception:  # whatever it is, TensorFlow answers or says what is wrong
        return None


def _reader(record: dict[str, Any]) -> Any:
    """Returns the module beside an export that reads pictures, by its path: its room loads TensorFlow."""
    path = pathlib.Path(__file__).resolve().parents[1] / "export" / "predict_image.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.RECORD = record  # type: ignore[attr-defined]
    return module


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_plain_picture(path: pathlib.Path) -> bool:
    """Returns True for a JPEG or PNG file of 8 bits, of gray values or colors, without transparency."""
    from PIL import Image

    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    with Image.open(path) as image:
        is_plain = image.format == SUFFIXES[path.suffix.lower()] and image.mode in MODES
        return is_plain and "transparency" not in image.info and image.width * image.height <= MAX_PIXELS


def _engine(name: str, path: str) -> Callable[[Any], Any]:
    """Returns the function of an export, from images to probabilities."""
    if name == "best.onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled(images)[0]
