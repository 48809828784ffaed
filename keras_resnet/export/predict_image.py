"""Classifies image files with the exported model beside this file: `python THIS_FILE cat.jpg ...`.

It reads a picture as the model was trained to see it, with Pillow and NumPy alone, and runs the model with the runtime
of its format. `read` can be copied into a program of your own. 16 bits per channel are kept for gray pictures; Pillow
reads colored ones with 8.
"""

import json
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

MODEL = "model.onnx"
RECORD: dict = {}
# The function of the model: from the path of its file to a function of float32 images, `(batch, height, width,
# channels)`, that returns its answers.
load: Callable[[str], Callable[[np.ndarray], np.ndarray]] = NotImplemented


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
    exact = RECORD["interpolation"].startswith("pil-") and not deep  # in 8 bits, and the center is cut afterwards
    full, corner = np.array([height, width]), np.array([0, 0])
    if RECORD["crop_fraction"] is not None and exact:
        wanted, sizes = np.floor(full / RECORD["crop_fraction"]), np.array(pixels.shape[:2])
        keeps_shorter = np.floor(wanted[0] * sizes / sizes.min()), np.round(sizes / (sizes / wanted).min())
        full = keeps_shorter[0 if wanted[0] == wanted[1] else 1].astype(int)
        corner = np.round((full - [height, width]) / 2).astype(int)
    elif RECORD["crop_fraction"] is not None:  # the largest window of that shape around the center, times the fraction
        sizes, target = np.array(pixels.shape[:2], "int32"), np.array([height, width], "float32")
        scale = np.min(sizes / target) * np.float32(RECORD["crop_fraction"])
        rows, columns = np.clip(np.round(scale * target).astype("int32"), 1, sizes)
        top, left = (sizes - [rows, columns]) // 2
        pixels = pixels[top : top + rows, left : left + columns]
    kernels = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    kernel = kernels[RECORD["interpolation"].removeprefix("pil-")]
    pixels = pixels.astype("uint8") if exact else pixels
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, -1, 0)]
    if exact:  # columns first, as Pillow before version 13
        planes = [plane.resize((int(full[1]), plane.height), kernel) for plane in planes]
    planes = [plane.resize((int(full[1]), int(full[0])), kernel) for plane in planes]
    top, left = map(int, corner)
    resized = [np.asarray(plane.crop((left, top, left + width, top + height))) for plane in planes]
    black, white = RECORD["pixel_range"]
    low, high = (pixels.min(), pixels.max()) if deep else (0, 255)  # bicubic weights overshoot
    return np.clip(np.stack(resized, axis=-1), low, high) * np.float32((white - black) / 255) + np.float32(black)


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
