"""What `import keras_resnet` costs over `import keras`: fresh processes, alternating, medians.

    python -m benchmarks.import_time [--rounds 9] [--json FILE]

To hold: at most 0.1 s more.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

TIMED = """
import time
start = time.perf_counter()
import keras
middle = time.perf_counter()
{statement}
print(middle - start, time.perf_counter() - middle)
"""


def measure(rounds: int) -> dict[str, float]:
    """Returns the medians in seconds of `import keras`, and of `import keras_resnet` behind it."""
    keras_seconds, added_seconds, empty_seconds = [], [], []
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for _ in range(rounds):
        for statement, times in (("import keras_resnet", added_seconds), ("pass", empty_seconds)):
            command = [sys.executable, "-c", TIMED.format(statement=statement)]
            output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            base, added = map(float, output.split())
            keras_seconds.append(base)
            times.append(added)
    return {
        "import_keras_seconds": statistics.median(keras_seconds),
        "added_seconds": statistics.median(added_seconds) - statistics.median(empty_seconds),
        "slowest_added_seconds": max(added_seconds),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    figures = measure(options.rounds)
    print(f"{'import keras':>14}{'keras_resnet adds':>20}{'slowest':>10}")
    print("{import_keras_seconds:>12.2f} s{added_seconds:>18.3f} s{slowest_added_seconds:>8.3f} s".format(**figures))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
