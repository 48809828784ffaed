"""Classifies image files with the exported model beside this file: `python THIS_FILE cat.jpg ...`.

It reads a picture as the model was trained to see it, with Pillow and NumPy alone, and runs the model with the runtime
of its format. `read` can be copied into a program of your own. 16 bits per channel are kept for gray pictures; Pillow
reads colored ones with 8.
"""

import json
import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

MODEL = "model.onnx"
RECORD: dict = {}


def read(path: str) -> np.ndarray:
    """Returns a picture as the model takes it: float32, `(height, width, channels)`."""
    with Image.open(path) as file:
        turn = RECORD["apply_exif"] and file.format == "JPEG"
        image = ImageOps.exif_transpose(file) if turn else file.copy()
    deep = image.mode.startswith("I;16")
    pixels = np.asarray(image, "float32")[..., None] / 257 if deep else np.asarray(image.convert("RGB"), "float32")
    if RECORD["channel_order"] == "grey" and not deep:
        red, green, blue = np.moveaxis(pixels.astype("float64"), -1, 0)
        pixels = np.round(0.299 * red + 0.587 * green + 0.114 * blue)[..., None].astype("float32")
    elif RECORD["channel_order"] != "grey" and deep:
        pixels = np.repeat(pixels, 3, axis=-1)
    pixels = pixels[..., ::-1] if RECORD["channel_order"] == "bgr" else pixels
    height, width = RECORD["image_size"]
    if RECORD["crop_fraction"] is not None:  # the largest window of that shape around the center, times the fraction
        sizes, target = np.array(pixels.shape[:2], "int32"), np.array([height, width], "float32")
        scale = np.min(sizes / target) * np.float32(RECORD["crop_fraction"])
        rows, columns = np.clip(np.round(scale * target).astype("int32"), 1, sizes)
        top, left = (sizes - [rows, columns]) // 2
        pixels = pixels[top : top + rows, left : left + columns]
    kernel = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[RECORD["interpolation"]]
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, -1, 0)]
    resized = [np.asarray(plane.resize((width, height), kernel)) for plane in planes]
    black, white = RECORD["pixel_range"]
    low, high = (pixels.min(), pixels.max()) if deep else (0, 255)  # bicubic weights overshoot
    return np.clip(np.stack(resized, axis=-1), low, high) * np.float32((white - black) / 255) + np.float32(black)


def load(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of the model: float32 images, `(batch, height, width, channels)`, to its answers."""
    if pathlib.Path(path).is_dir():
        import tensorflow as tf

        serve = tf.saved_model.load(f"{path}/1").signatures["serving_default"]
        return lambda images: next(iter(serve(images=tf.constant(images)).values())).numpy()
    if path.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]
    if path.endswith(".xml"):
        import openvino

        # By itself OpenVINO computes in bfloat16 where the processor can.
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda images: next(iter(compiled(images).values()))
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(images: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(given["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], to_integers(images, given))
        interpreter.invoke()
        return from_integers(interpreter.get_tensor(answer["index"]), answer)

    return run


def to_integers(values: np.ndarray, about: dict) -> np.ndarray:
    """Returns values as a LiteRT tensor stores them, by its scale and zero point; floats as they are."""
    scale, zero = about["quantization"]
    if about["dtype"] == np.float32:
        return values
    kind = np.iinfo(about["dtype"])
    return np.clip(np.round(values / scale + zero), kind.min, kind.max).astype(about["dtype"])


def from_integers(values: np.ndarray, about: dict) -> np.ndarray:
    """Returns the numbers that a LiteRT tensor stands for."""
    scale, zero = about["quantization"]
    return values if values.dtype == np.float32 else (values.astype("float32") - zero) * np.float32(scale)


def main(paths: list[str]) -> None:
    """Prints a JSON object for each picture: the probability of each class and its labels, or the values."""
    run, names = load(str(pathlib.Path(__file__).resolve().with_name(MODEL))), RECORD["class_names"]
    for path in paths:
        values = [float(value) for value in run(read(path)[None])[0]]
        answer: dict = {"values": values}
        if RECORD["task"] != "regression":
            answer = {"probabilities": dict(zip(names, values, strict=True))}
        if RECORD["task"] == "multilabel":
            cuts = RECORD["thresholds"] or [0.5] * len(names)
            answer["labels"] = [name for name, value, cut in zip(names, values, cuts, strict=True) if value >= cut]
        print(json.dumps({"image": path, **answer}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
