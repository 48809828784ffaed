"""Listing a folder of very many pictures, before and after its headers are kept: seconds and peak memory.

    python -m benchmarks.listing [--pictures 1300000] [--classes 1000] [--sources 1300000] [--quick] [--json FILE]

The folder is made of small JPEG pictures, of hard links where fewer of them are different, and removed at the end.
Each listing is a fresh process with its own cache folder; the clock runs over `data.load`, which decodes nothing,
and memory is the growth of the largest resident size (VmHWM) meanwhile.
"""

import argparse
import json
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.contest import machine, told_by
from keras_resnet import files

# A file system allows that many names of one file, and few allow more.
MAX_LINKS = 30_000
PROCESS = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from keras_resnet import data
import tensorflow
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
before, started = resident(), time.perf_counter()
dataset = data.load("folder:" + sys.argv[1], in_memory_limit=0)
seconds = time.perf_counter() - started
print(json.dumps({"pictures": sum(dataset.sizes.values()), "seconds": seconds, "mebibytes": resident() - before}))
"""


def make_folder(folder: pathlib.Path, pictures: int, classes: int, sources: int) -> None:
    """Writes class folders of hard links to small pictures of noise.

    Args:
        folder: to write into.
        pictures: how many names, in all.
        classes: how many class folders, in turn.
        sources: how many different pictures.
    """
    generator = np.random.default_rng(0)
    originals = folder / "originals"
    originals.mkdir()
    for index in range(sources):
        pixels = generator.integers(0, 256, (12, 12, 3), "uint8")
        Image.fromarray(pixels).save(originals / f"{index}.jpg", quality=80)
    for name in range(classes):
        (folder / "pictures" / f"class_{name:04d}").mkdir(parents=True)
    for index in range(pictures):
        link = folder / "pictures" / f"class_{index % classes:04d}" / f"{index:08d}.jpg"
        os.link(originals / f"{index % sources}.jpg", link)


def measure(folder: pathlib.Path) -> dict[str, Any]:
    """Returns pictures, seconds and MiB of one process that lists the folder.

    Args:
        folder: as `make_folder` left it.
    """
    return told_by(PROCESS, str(folder / "pictures"), KERAS_RESNET_HOME=str(folder / "cache"))


def main() -> None:
    """Prints the table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1_300_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--sources", type=int, default=1_300_000, help="different pictures")
    parser.add_argument("--quick", action="store_true", help="20,000 pictures in 10 classes")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    pictures, classes = (20_000, 10) if options.quick else (options.pictures, options.classes)
    sources = max(min(options.sources, pictures), pictures // MAX_LINKS)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_folder(pathlib.Path(folder), pictures, classes, sources)
        for listing in ("first", "again"):
            measured = measure(pathlib.Path(folder))
            rows.append({"listing": listing, **measured})
            print(
                f"{listing:<6} {measured['pictures']:>10,} pictures {measured['seconds']:8.1f} s "
                f"{measured['mebibytes']:8.0f} MiB",
                flush=True,
            )
    if options.json:
        result = {"machine": machine(), "classes": classes, "different pictures": sources, "listings": rows}
        files.write_text(options.json, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
