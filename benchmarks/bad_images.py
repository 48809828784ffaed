"""Counts how image files as people have them are read: bad ones refused by name, odd ones read right, bombs in time.

python -m benchmarks.bad_images [--json FILE]
"""

import argparse
import json
import os
import pathlib
import re
import resource
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402

from keras_resnet import data  # noqa: E402
from tests.data import image_files  # noqa: E402


def read(folder: pathlib.Path, name: str, content: bytes) -> np.ndarray:
    """Writes a file and reads it as an image."""
    path = folder / name
    path.write_bytes(content)
    return data.read_image(path)


def is_refused(folder: pathlib.Path, name: str, content: bytes, message: str) -> bool:
    """Returns whether reading the file ends in an error that names it and says why."""
    try:
        read(folder, name, content)
    except data.BadImageError as error:
        return name in str(error) and re.search(message, str(error)) is not None
    return False


def measure() -> dict[str, int | float]:
    """Reads every file once, bombs twice, and returns the counts, and time and memory of the worst bomb."""
    bad = {name: (content(), message) for name, (content, message) in image_files.BAD.items()}
    bad |= {name: (content(), "") for name, content in image_files.BAD_INSIDE.items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        refused = sum(is_refused(folder, name, *row) for name, row in bad.items())
        right = 0
        for name, (content, expected) in image_files.ODD.items():
            reference = np.asarray(expected().convert("RGB"), "float32")
            right += abs(read(folder, name, content()).mean() - reference.mean()) <= 2
        slowest, grown = 0.0, 0
        for name in [name for name in bad if name.startswith("bomb")]:
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
            is_refused(folder, name, *bad[name])
            slowest = max(slowest, time.perf_counter() - start)
            grown = max(grown, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {
        "bad_tried": len(bad),
        "bad_refused_by_name": refused,
        "odd_tried": len(image_files.ODD),
        "odd_read_right": int(right),
        "slowest_bomb_seconds": slowest,
        "bomb_memory_mib": grown / 1024,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    figures = measure()
    print(f"{'':<14}{'tried':>8}{'passed':>8}")
    print(f"{'bad files':<14}{figures['bad_tried']:>8}{figures['bad_refused_by_name']:>8}")
    print(f"{'odd files':<14}{figures['odd_tried']:>8}{figures['odd_read_right']:>8}")
    print(f"slowest bomb {figures['slowest_bomb_seconds'] * 1000:.1f} ms, {figures['bomb_memory_mib']:.1f} MiB more")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
