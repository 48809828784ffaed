"""Counts and times how ResNet50 refuses bad arguments: tried, refused with the argument named, slowest.

python -m benchmarks.bad_calls [--json FILE]
"""

import argparse
import json
import os
import re
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_resnet  # noqa: E402
from tests.models.bad_calls import BAD_CALLS  # noqa: E402


def measure() -> dict[str, float | int | str]:
    """Makes every call once and returns the counts, and the slowest refusal in seconds."""
    refused, slowest, slowest_call = 0, 0.0, ""
    for name, (arguments, message) in BAD_CALLS.items():
        start = time.perf_counter()
        try:
            keras_resnet.ResNet50(**arguments)
        except (TypeError, ValueError) as error:
            refused += bool(re.search(message, str(error)))
        seconds = time.perf_counter() - start
        if seconds > slowest:
            slowest, slowest_call = seconds, name
    return {"tried": len(BAD_CALLS), "refused": refused, "slowest_seconds": slowest, "slowest_call": slowest_call}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    figures = measure()
    print(f"{'tried':>8}{'refused':>10}{'slowest':>12}")
    print(f"{figures['tried']:>8}{figures['refused']:>10}{figures['slowest_seconds'] * 1000:>9.1f} ms", end="")
    print(f"  ({figures['slowest_call']})")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
