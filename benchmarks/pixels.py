"""Evaluation pixels beside those of timm: how far the same photograph ends up apart.

    python -m benchmarks.pixels [--side 224] [--crop 0.875] [--json FILE]

timm's evaluation transform resizes the shorter side, rounds, and cuts the middle out; this package cuts the middle out
and resizes that. timm's `create_transform` needs torchvision, which has no build for CPUs alone: its steps are done
here with Pillow, as torchvision does them for Pillow's images. The photographs are those that come with scikit-learn,
whole and cut to odd sizes, as RGB, gray and CMYK JPEG files.
"""

import argparse
import io
import json
import math
import pathlib
import sys
from typing import Any

import numpy as np

from benchmarks.contest import machine
from keras_resnet import files

SIZES = {"640 x 427": (427, 640), "501 x 333": (333, 501), "375 x 427": (427, 375)}
MODES = ("RGB", "L", "CMYK")
INTERPOLATIONS = ("bilinear", "bicubic")


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
    resized = picture.resize(size, Image.Resampling[interpolation.upper()])
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
    network = np.asarray(resize_for_evaluation(ours, (side, side), crop, interpolation), "float32")
    apart = np.abs(of_timm(theirs, side, crop, interpolation) - network)
    return {"decoded": float(decoded.max()), "mean": float(apart.mean()), "largest": float(apart.max())}


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
    print("| photograph | size | file | interpolation | decoded, largest | mean | largest |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: |")
    rows = []
    for name, photograph in zip(("china", "flower"), load_sample_images().images, strict=True):
        for size, (height, width) in SIZES.items():
            for mode in MODES:
                for interpolation in INTERPOLATIONS:
                    row = compare(photograph[:height, :width], mode, options.side, options.crop, interpolation)
                    row_out = {"photograph": name, "size": size, "file": mode, "interpolation": interpolation, **row}
                    rows.append(row_out)
                    figures = " | ".join(f"{row[key]:.1f}" for key in ("decoded", "mean", "largest"))
                    print(f"| {name} | {size} | {mode} | {interpolation} | {figures} |")
    if options.json:
        files.write_text(options.json, json.dumps({**facts, "pictures": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
