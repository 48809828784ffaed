"""Decoding only the crop of a JPEG against decoding all of it, in the training pipeline of class folders.

Writes JPEG files of 500 x 375 pixels, as ImageNet's are, loads them as a folder, and counts images per second
for random resized crops of 224 pixels: as the package reads them, and with every file decoded whole first.

    python -m benchmarks.decode_crop [--images 256] [--batches 40] [--json decode_crop.json]
"""

import argparse
import json
import pathlib
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet import data, files
from keras_resnet.data.examples import encoded
from keras_resnet.data.images import decoding

HEIGHT, WIDTH, IMAGE_SIZE, BATCH_SIZE, REPEATS = 375, 500, 224, 32, 5


def write_photographs(root: pathlib.Path, count: int) -> float:
    """Writes `count` JPEG files in two class folders; returns their mean size in kilobytes."""
    draw = np.random.default_rng(0)
    sizes = []
    for index in range(count):
        folder = root / ("odd" if index % 2 else "even")
        folder.mkdir(exist_ok=True)
        # Coarse noise enlarged, and fine noise on top: about the detail, and so the bytes, of a photograph.
        coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype="uint8")).resize((WIDTH, HEIGHT))
        fine = draw.normal(0, 12, (HEIGHT, WIDTH, 3))
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype("uint8")).save(path, quality=85)
        sizes.append(path.stat().st_size)
    return statistics.mean(sizes) / 1000


def images_per_second(dataset: data.Dataset, batches: int, seed: int) -> float:
    """Returns the rate over `batches` training batches, after a few to start up."""
    start_up = 10
    options = {"image_size": IMAGE_SIZE, "crop": "random"}
    iterator = iter(dataset.training_batches(BATCH_SIZE, seed=seed, **options).take(batches + start_up))
    for _ in range(start_up):
        next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return batches * BATCH_SIZE / (time.perf_counter() - start)


def whole_image(
    contents: tf.Tensor, orientation: int, window: Callable[..., tuple], *, is_deep: bool = False
) -> tf.Tensor:
    """Decodes all of a JPEG, whose values have 8 bits, and cuts the window out of it, by the same decoder."""
    image = tf.io.decode_jpeg(contents, channels=3, dct_method=decoding.DCT_METHOD)
    shape = tf.shape(image)
    top, left, height, width = window(shape[0], shape[1])
    return image[top : top + height, left : left + width]


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--json", default="decode_crop.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kilobytes = write_photographs(pathlib.Path(folder), arguments.images)
        dataset = data.load(f"folder:{folder}", in_memory_limit=0)
        runs: dict[str, list[float]] = {"only the crop": [], "the whole image": []}
        # In turns, so that whatever else the machine does falls on both.
        for seed in range(REPEATS):
            runs["only the crop"].append(images_per_second(dataset, arguments.batches, seed))
            with mock.patch.object(encoded, "decode", whole_image):
                runs["the whole image"].append(images_per_second(dataset, arguments.batches, seed))
    rates = {name: statistics.median(values) for name, values in runs.items()}
    print(f"| decoded | images/s ({kilobytes:.0f} kB, {WIDTH}x{HEIGHT} to {IMAGE_SIZE}) |\n| --- | --- |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} |")
    result = {
        "images_per_second": rates,
        "mean_kilobytes": kilobytes,
        "machine": platform.processor() or platform.machine(),
        "tensorflow": tf.__version__,
        **vars(arguments),
    }
    files.write_text(arguments.json, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
