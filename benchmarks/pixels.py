"""Evaluation pixels beside those of timm: how far the same photograph ends up apart, and what it costs.

    python -m benchmarks.pixels [--side 224] [--crop 0.875] [--json FILE]

timm's evaluation transform resizes the shorter side, rounds, and cuts the middle out; with "pil-bilinear" and
"pil-bicubic" so does this package, else it cuts the middle out and resizes that. timm's `create_transform` needs
torchvision, which has no build for CPUs alone: its steps are done here with Pillow, as torchvision does them for
Pillow's images. The photographs are those that come with scikit-learn, whole and cut to odd sizes, as RGB, gray and
CMYK JPEG files. Milliseconds are processor time, the median of twenty.
"""

import argparse
import io
import json
import math
import pathlib
import sys
import time
from typing import Any

import numpy as np

from benchmarks.contest import machine
from keras_resnet import files

SIZES = {"640 x 427": (427, 640), "501 x 333": (333, 501), "375 x 427": (427, 375)}
MODES = ("RGB", "L", "CMYK")
INTERPOLATIONS = ("bilinear", "pil-bilinear", "bicubic", "pil-bicubic")
REPEATS = 20


def of_timm(picture: Any, side: int, crop: float, interpolation: str) -> np.ndarray:
    """Applies timm's evaluation transform to a Pillow image, float32 in [0, 255].

    Args:
        picture: RGB.
        side: of the result, px.
        crop: share of the shorter side that is kept.
        interpolation: "bilinear" or "bicubic".
    """
    from PIL import Image

    shorter = math.floor(side / crop)
    width, height = picture.size
    size = (shorter, int(shorter * height / width)) if width < height else (int(shorter * width / height), shorter)
    kernel = Image.Resampling[interpolation.removeprefix("pil-").upper()]
    # Columns first, as Pillow did before version 13, with which the published weights were made and measured.
    resized = picture.resize((size[0], height), kernel).resize(size, kernel)
    left, top = (round((length - side) / 2.0) for length in size)
    return np.asarray(resized.crop((left, top, left + side, top + side)), "float32")


def compare(pixels: np.ndarray, mode: str, side: int, crop: float, interpolation: str) -> dict[str, float]:
    """Returns how far the two are apart on one JPEG: of the decoded pixels, and of those that a network takes.

    Args:
        pixels: uint8 `(height, width, 3)`.
        mode: of Pillow, in which the JPEG is written.
        side: as for `of_timm`.
        crop: as for `of_timm`.
        interpolation: as for `of_timm`.
    """
    import tensorflow as tf
    from PIL import Image

    from keras_resnet.data.images.decoding import decode
    from keras_resnet.data.images.resizing import resize_for_evaluation

    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=95)
    theirs = Image.open(buffer).convert("RGB")
    ours = decode(tf.constant(buffer.getvalue()))
    decoded = np.abs(np.asarray(theirs, "float32") - np.asarray(ours, "float32"))
    spec = [tf.TensorSpec((None, None, 3), tf.uint8)]
    fit = tf.function(
        lambda image: resize_for_evaluation(image, (side, side), crop, interpolation), input_signature=spec
    )
    apart = np.abs(of_timm(theirs, side, crop, interpolation) - np.asarray(fit(ours), "float32"))
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        fit(ours)
        times.append(time.process_time() - started)
    figures = {"decoded": decoded.max(), "mean": apart.mean(), "largest": apart.max()}
    return {**{name: float(value) for name, value in figures.items()}, "ms": 1000 * float(np.median(times))}


def main() -> None:
    """Compares, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=224, metavar="PX")
    parser.add_argument("--crop", type=float, default=0.875, metavar="SHARE")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the figures to FILE")
    options = parser.parse_args()
    from sklearn.datasets import load_sample_images

    facts = {**machine(), "command": " ".join(sys.argv)}
    print("{date}; of 255".format(**facts))
    print("| photograph | size | file | interpolation | decoded, largest | mean | largest | ms |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: | ---: |")
    rows = []
    for name, photograph in zip(("china", "flower"), load_sample_images().images, strict=True):
        for size, (height, width) in SIZES.items():
            for mode in MODES:
                for interpolation in INTERPOLATIONS:
                    row = compare(photograph[:height, :width], mode, options.side, options.crop, interpolation)
                    row_out = {"photograph": name, "size": size, "file": mode, "interpolation": interpolation, **row}
                    rows.append(row_out)
                    figures = " | ".join(f"{row[key]:.1f}" for key in ("decoded", "mean", "largest", "ms"))
                    print(f"| {name} | {size} | {mode} | {interpolation} | {figures} |")
    if options.json:
        files.write_text(options.json, json.dumps({**facts, "pictures": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
