"""Photographs: read as they are, at a scale, after `keras-resnet prepare`, and by PIL as timm reads them.

Random resized crops of 224 pixels with flips; all in turns, medians of the rounds. PIL runs in as many worker
processes as there are cores, with and without `draft`, its decoding at a half, a quarter or an eighth.

    python -m benchmarks.prepared [--only "12 MP" gray] [--images 24] [--rounds 3] [--json prepared.json]
"""

import argparse
import itertools
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

SIDE, BATCH_SIZE = 224, 8
SECONDS = 3.0  # of each measurement
TWELVE_MEGAPIXELS = (4000, 3000)
# Name -> size, mode of the pixels, options of Pillow's `save`.
KINDS: dict[str, tuple[tuple[int, int], str, dict[str, Any]]] = {
    "12 MP": (TWELVE_MEGAPIXELS, "RGB", {}),
    "1 MP": ((1200, 900), "RGB", {}),
    "24 MP": ((6000, 4000), "RGB", {}),
    "48 MP": ((8000, 6000), "RGB", {}),
    "progressive": (TWELVE_MEGAPIXELS, "RGB", {"progressive": True}),
    "4:4:4": (TWELVE_MEGAPIXELS, "RGB", {"subsampling": 0}),
    "gray": (TWELVE_MEGAPIXELS, "L", {}),
    "CMYK": (TWELVE_MEGAPIXELS, "CMYK", {}),
    "turned by EXIF": (TWELVE_MEGAPIXELS, "RGB", {"exif": {0x0112: 6}}),
}
WHOLE = {"in_memory_limit": 0, "validation_fraction": 0.0, "test_fraction": 0.0}


def write_photographs(root: pathlib.Path, count: int, kind: str = "12 MP") -> float:
    """Writes JPEG files in two class folders; returns their mean size in megabytes."""
    draw, ((width, height), mode, options) = np.random.default_rng(0), KINDS[kind]
    if "exif" in options:
        exif = Image.Exif()
        exif.update(options["exif"])
        options = {"exif": exif}
    for index in range(count):
        folder = root / ("odd" if index % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        # Coarse noise enlarged, and fine noise on top: about the detail, and so the bytes, of a photograph.
        coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype="uint8")).resize((width, height))
        fine = draw.normal(0, 6, (height // 2, width // 2, 1)).repeat(2, 0).repeat(2, 1)
        pixels = np.clip(np.asarray(coarse) + fine, 0, 255).astype("uint8")
        Image.fromarray(pixels).convert(mode).save(folder / f"{index:03d}.jpg", quality=85, **options)
    return statistics.mean(path.stat().st_size for path in root.rglob("*.jpg")) / 1e6


def rate_of(spec: str, seed: int, decode: str = "full") -> float:
    """Returns the images per second of the training pipeline, after two batches to start up."""
    from keras_resnet import data

    dataset = data.load(spec, **WHOLE)
    batches = iter(dataset.training_batches(BATCH_SIZE, seed=seed, image_size=SIDE, crop="random", decode=decode))
    for _ in range(2):
        next(batches)
    begin, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begin) < SECONDS:
        count += len(next(batches)[1])
    return count / seconds


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
    jobs = ((path, index, is_draft) for index, path in enumerate(itertools.cycle(paths), seed * len(paths)))
    pool.map(read_by_pil, itertools.islice(jobs, 4))
    begin, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begin) < SECONDS:
        count += len(pool.map(read_by_pil, itertools.islice(jobs, 4 * BATCH_SIZE), chunksize=1))
    return count / seconds


def measure(kind: str, images: int, rounds: int, pool: Any) -> dict[str, Any]:
    """Returns the images per second of each way to read one kind of file, in turns, and how long `prepare` took."""
    from keras_resnet import data

    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        megabytes = write_photographs(root / "photos", images, kind)
        begin = time.perf_counter()
        original = data.load(f"folder:{root}/photos", **WHOLE)
        done = data.prepare(original, root / "small", verbose=False)
        seconds = time.perf_counter() - begin
        paths = sorted(map(str, (root / "photos").rglob("*.jpg")))
        folder = f"folder:{root}/photos"
        contestants: dict[str, Callable[[int], float]] = {
            "as they are": lambda seed: rate_of(folder, seed),
            'decode="scaled"': lambda seed: rate_of(folder, seed, "scaled"),
            "prepared": lambda seed: rate_of(f"csv:{done.table}", seed),
            "PIL": lambda seed: rate_of_pil(pool, paths, seed, False),
            "PIL with draft": lambda seed: rate_of_pil(pool, paths, seed, True),
        }
        runs: dict[str, list[float]] = {name: [] for name in contestants}
        for seed in range(rounds):
            for name, contestant in contestants.items():
                runs[name].append(contestant(seed))
    rates = {name: statistics.median(values) for name, values in runs.items()}
    return {"images_per_second": rates, "rounds": runs, "megabytes": megabytes, "prepared_per_second": images / seconds}


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="prepared.json")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for kind in arguments.only:
            result[kind] = measured = measure(kind, arguments.images, arguments.rounds, pool)
            rates = measured["images_per_second"]
            if kind == arguments.only[0]:
                print(f"| images/s, over PIL | MB a file | {' | '.join(rates)} |")
                print(f"| --- |{' ---: |' * (len(rates) + 1)}")
            cells = [f"{rate:.1f}, {rate / rates['PIL']:.2f}" for rate in rates.values()]
            print(f"| {kind} | {measured['megabytes']:.1f} | {' | '.join(cells)} |", flush=True)
    pathlib.Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
