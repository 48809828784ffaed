"""Steps per second of a small network by how many of them TensorFlow takes in one call (`train.steps_per_execution`).

    python -m benchmarks.executions [--executions 1 8 40] [--rounds 3] [--epochs 6] [--json FILE]

ResNet-18 of width 16 on the digits, 8 px, batches of 32, by `training.fit`; in turns, every round one run of each. The
first two epochs of a run compile and are left out.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from benchmarks.contest import machine

BATCH_SIZE, LEFT_OUT = 32, 2


def steps_per_second(executions: int, epochs: int) -> float:
    """Returns the median over the epochs of a run.

    Args:
        executions: steps in a call.
        epochs: of the run.
    """
    from keras_resnet import training

    words = {"model.width": 16, "train.batch_size": BATCH_SIZE, "train.epochs": epochs}
    with tempfile.TemporaryDirectory() as folder:
        run = training.fit(
            "quick",
            model="resnet18",
            out=pathlib.Path(folder) / "run",
            overrides={**words, "train.steps_per_execution": executions},
            score=(),
            verbose=0,
        )
    return statistics.median(run.history["images_per_second"][LEFT_OUT:]) / BATCH_SIZE


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, nargs="+", default=[1, 8, 40], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--epochs", type=int, default=6, metavar="N")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the figures to FILE")
    options = parser.parse_args()
    rates: dict[int, list[float]] = {number: [] for number in options.executions}
    for turn in range(options.rounds):
        for number in options.executions if turn % 2 == 0 else options.executions[::-1]:
            rates[number].append(steps_per_second(number, options.epochs))
    facts = {**machine(), "command": " ".join(sys.argv)}
    print("{date}, {processor}, {cores} cores".format(**facts))
    print("| steps in a call | steps per second |")
    print("| ---: | ---: |")
    for number, values in rates.items():
        print(f"| {number} | {statistics.median(values):.1f} |")
    if options.json:
        from keras_resnet import files

        files.write_text(options.json, json.dumps({**facts, "rates": rates}, indent=1) + "\n")


if __name__ == "__main__":
    main()
