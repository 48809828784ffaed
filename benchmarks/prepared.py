"""Photographs of 12 megapixels: read as they are, after `keras-resnet prepare`, and by PIL as timm reads them.

Random resized crops of 224 pixels with flips; all in turns, medians of the rounds. PIL runs in as many worker
processes as there are cores, with and without `draft`, its decoding at a half, a quarter or an eighth.

    python -m benchmarks.prepared [--images 24] [--rounds 3] [--json prepared.json]
"""

import argparse
import json
import math
import multiprocessing
import os
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.contest import machine

WIDTH, HEIGHT, SIDE, BATCH_SIZE = 4000, 3000, 224, 8
WHOLE = {"in_memory_limit": 0, "validation_fraction": 0.0, "test_fraction": 0.0}


def write_photographs(root: pathlib.Path, count: int) -> float:
    """Writes JPEG files in two class folders; returns their mean size in megabytes."""
    draw = np.random.default_rng(0)
    for index in range(count):
        folder = root / ("odd" if index % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        # Coarse noise enlarged, and fine noise on top: about the detail, and so the bytes, of a photograph.
        coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype="uint8")).resize((WIDTH, HEIGHT))
        fine = draw.normal(0, 6, (HEIGHT // 2, WIDTH // 2, 1)).repeat(2, 0).repeat(2, 1)
        pixels = np.clip(np.asarray(coarse) + fine, 0, 255).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{index:03d}.jpg", quality=85)
    return statistics.mean(path.stat().st_size for path in root.rglob("*.jpg")) / 1e6


def rate_of(spec: str, count: int, seed: int) -> float:
    """Returns the images per second of the training pipeline, after two batches to start up."""
    from keras_resnet import data

    dataset = data.load(spec, **WHOLE)
    batches = iter(dataset.training_batches(BATCH_SIZE, seed=seed, image_size=SIDE, crop="random"))
    for _ in range(2):
        next(batches)
    steps = max(2, count // BATCH_SIZE)
    begin = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return steps * BATCH_SIZE / (time.perf_counter() - begin)


def read_by_pil(job: tuple[str, int, bool]) -> np.ndarray:
    """Returns one training example as timm makes it: decode, random resized crop, bilinear resize, flip."""
    path, seed, is_draft = job
    draw, image = random.Random(seed), Image.open(path)
    area = image.width * image.height * draw.uniform(0.08, 1.0)
    ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
    width = min(image.width, round(math.sqrt(area * ratio)))
    height = min(image.height, round(math.sqrt(area / ratio)))
    left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    whole = image.width
    if is_draft:  # so that the crop still has at least the pixels that are wanted
        scale = min(width, height) / SIDE
        image.draft("RGB", (round(image.width / scale), round(image.height / scale)))
    shrunk = whole / image.width
    box = [round(edge / shrunk) for edge in (left, top, left + width, top + height)]
    image = image.convert("RGB").crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else image
    return np.asarray(image)


def rate_of_pil(pool: Any, paths: list[str], seed: int, is_draft: bool) -> float:
    """Returns the images per second of PIL in worker processes."""
    jobs = [(path, seed * len(paths) + index, is_draft) for index, path in enumerate(paths)]
    pool.map(read_by_pil, jobs[:4])
    begin = time.perf_counter()
    for _ in pool.imap_unordered(read_by_pil, jobs):
        pass
    return len(jobs) / (time.perf_counter() - begin)


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="prepared.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        root = pathlib.Path(name)
        megabytes = write_photographs(root / "photos", arguments.images)
        from keras_resnet import data

        begin = time.perf_counter()
        original = data.load(f"folder:{root}/photos", **WHOLE)
        done = data.prepare(original, root / "small", verbose=False)
        seconds = time.perf_counter() - begin
        paths = sorted(map(str, (root / "photos").rglob("*.jpg")))
        contestants: dict[str, Callable[[int], float]] = {
            "as they are": lambda seed: rate_of(f"folder:{root}/photos", arguments.images, seed),
            "prepared": lambda seed: rate_of(f"csv:{done.table}", 20 * arguments.images, seed),
            "PIL": lambda seed: rate_of_pil(pool, paths, seed, False),
            "PIL with draft": lambda seed: rate_of_pil(pool, paths, seed, True),
        }
        runs: dict[str, list[float]] = {name: [] for name in contestants}
        for seed in range(arguments.rounds):
            for name, measure in contestants.items():
                runs[name].append(measure(seed))
    rates = {name: statistics.median(values) for name, values in runs.items()}
    print(
        f"{WIDTH} x {HEIGHT} pixels, {megabytes:.1f} MB a file; prepared at {arguments.images / seconds:.1f} images/s"
    )
    print("| read | images/s | over PIL |\n| --- | ---: | ---: |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.1f} | {rate / rates['PIL']:.2f} |")
    result = {"images_per_second": rates, "rounds": runs, "prepare_seconds": seconds, "machine": machine()}
    pathlib.Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
