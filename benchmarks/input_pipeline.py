"""JPEG files to training batches: this package's pipeline against PIL in worker processes, also with RandAugment.

    python -m benchmarks.input_pipeline [--peers PYTHON] [--images 512] [--rounds 5] [--json FILE]

Files of 500 x 375 pixels, random resized crops of 224 pixels and flips; RandAugment with two operations of strength 9.
The other side is the usual loader of PyTorch: PIL reads, crops and resizes one picture at a time, as torchvision does,
in a worker process a core, and timm's RandAugment. Rates are of all cores together, in turns.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.contest import ROOT, machine

IMAGE_SIZE, BATCH_SIZE, STRENGTH, OPERATIONS = 224, 32, 0.9, 2
CASES = {"crop, flip": False, "crop, flip, RandAugment": True}


def ours(folder: str, augment: bool, seed: int) -> Any:
    """Returns an endless iterator over this package's training batches."""
    from keras_resnet import data, preprocessing

    policy = {"policy": "rand_augment", "policy_strength": STRENGTH, "policy_ops": OPERATIONS} if augment else {}
    augmentation = preprocessing.augmentation(flip=True, **policy)
    dataset = data.load(f"folder:{folder}", in_memory_limit=0)
    return iter(
        dataset.training_batches(BATCH_SIZE, seed=seed, image_size=IMAGE_SIZE, crop="random", augmentation=augmentation)
    )


def by_pil(folder: str, augment: bool, workers: int) -> Any:
    """Returns an endless iterator over batches of PyTorch's loader."""
    import math
    import random

    import numpy as np
    import torch
    from PIL import Image

    from benchmarks.peers import without_torchvision

    without_torchvision()
    from timm.data.auto_augment import rand_augment_transform

    policy = rand_augment_transform(f"rand-m9-n{OPERATIONS}", {"translate_const": 100, "img_mean": (124, 116, 104)})
    paths = sorted(pathlib.Path(folder).rglob("*.jpg"))

    class Files(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            draw = random.Random(torch.initial_seed())
            while True:
                image = Image.open(draw.choice(paths)).convert("RGB")
                width, height = image.size
                for _ in range(10):
                    area = width * height * draw.uniform(0.08, 1.0)
                    ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
                    wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
                    if wide <= width and high <= height:
                        break
                else:
                    wide, high = width, height
                left, top = draw.randint(0, width - wide), draw.randint(0, height - high)
                image = image.crop((left, top, left + wide, top + high))
                image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
                if draw.random() < 0.5:
                    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                if augment:
                    image = policy(image)
                yield torch.from_numpy(np.array(image)), 0

    return iter(torch.utils.data.DataLoader(Files(), BATCH_SIZE, num_workers=workers))


def rate(batches: Any, count: int) -> float:
    """Returns images per second over that many batches, after a few to start up."""
    for _ in itertools.islice(batches, 6):
        pass
    start = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    return count * BATCH_SIZE / (time.perf_counter() - start)


def peer(folder: str, augment: bool, options: argparse.Namespace) -> float | None:
    """Returns the rate of PyTorch's loader in its own interpreter; None where that has not what it needs."""
    command = [options.peers, "-m", "benchmarks.input_pipeline", "--read", folder, "--batches", str(options.batches)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        output = subprocess.run(
            [*command, *(["--augment"] if augment else [])], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        return float(output.stdout)
    except (OSError, ValueError):
        return None


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, metavar="N")
    parser.add_argument("--batches", type=int, default=40, metavar="N", help="that are timed in a turn")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter of the others")
    parser.add_argument("--read", metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--augment", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    if options.read:
        print(rate(by_pil(options.read, options.augment, cores), options.batches))
        return
    from benchmarks.decode_crop import write_photographs

    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(pathlib.Path(folder), options.images)
        for seed in range(options.rounds):
            for title, augment in CASES.items():
                rates.setdefault(f"keras_resnet: {title}", []).append(
                    rate(ours(folder, augment, seed), options.batches)
                )
                other = peer(folder, augment, options)
                if other is not None:
                    rates.setdefault(f"PIL, {cores} workers: {title}", []).append(other)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print("{date}, {processor}, {cores} cores".format(**machine()))
    print("| pipeline | images/s | a core |\n| --- | ---: | ---: |")
    for name, median in medians.items():
        print(f"| {name} | {median:.0f} | {median / cores:.0f} |")
    if options.json:
        from keras_resnet import files

        facts = {**machine(), "command": " ".join(sys.argv), "medians": medians, "rates": rates}
        files.write_text(options.json, json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
