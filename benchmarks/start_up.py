"""Start-up: building each network, and the time from nothing to the end of the first training step.

    python -m benchmarks.start_up [--peers PYTHON] [--rounds 3] [--json FILE]

Networks are built in one process in turns with those of keras.applications. The first training step, of a ResNet-18 of
width 16 at 32 px, is timed from the start of a fresh process: imports, building and compiling included. What the import
alone costs is in `benchmarks/import_time.py`.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.contest import ROOT, Contestant, Row, machine

FIRST_STEP = Row(
    *("ResNet-18, 32 px, width 16", "resnet18", "train", 32, 16, 64),
    ("keras_resnet", "keras_resnet_stock", "timm_eager", "timm_channels_last", "timm_compiled"),
)


def seconds(call: Callable[[], Any]) -> float:
    """Returns how long a call takes."""
    import keras

    keras.backend.clear_session()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def build_times(rounds: int, names: list[str]) -> list[dict[str, Any]]:
    """Returns the median seconds that networks take to be built, here and in keras.applications."""
    import keras

    from keras_resnet import models

    theirs = {
        name: getattr(keras.applications, name.replace("resnet", "ResNet"))
        for name in names
        if name not in ("resnet18", "resnet34")
    }
    rows = []
    for name in names:
        ours_seconds, their_seconds = [], []
        for _ in range(rounds + 1):
            ours_seconds.append(seconds(lambda name=name: models.build(name)))
            if name in theirs:
                their_seconds.append(seconds(lambda name=name: theirs[name](weights=None)))
        # The first build of a process pays for what the later ones find ready.
        row = {"model": name, "keras_resnet": statistics.median(ours_seconds[1:])}
        rows.append({**row, "keras_applications": statistics.median(their_seconds[1:]) if their_seconds else None})
    return rows


def first_steps(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the seconds from the start of a process to the end of its first step."""
    times: dict[str, list[float]] = {name: [] for name in row.contestants}
    failures: dict[str, str] = {}
    for _ in range(options.rounds):
        for name in row.contestants:
            start = time.perf_counter()
            contestant = Contestant(name, row, options, warm_up=2 if name.startswith("keras") else 1)
            times[name].append(time.perf_counter() - start)
            if contestant.failure:
                failures[name] = contestant.failure
            contestant.close()
    return {name: failures.get(name) or statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Measures, prints the tables and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--python", default=sys.executable, help="interpreter of this package's contestants")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter of the others")
    parser.add_argument("--quick", action="store_true", help="two networks, to try the script")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    options.isa, options.dtype = "native", "float32"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    facts = machine()
    print("{date}, {processor}, {cores} cores\n".format(**facts))
    print("| building | keras_resnet | keras.applications | ratio |\n| --- | ---: | ---: | ---: |")
    from keras_resnet import models

    built = build_times(options.rounds, ["resnet18", "resnet50"] if options.quick else models.list_models())
    for row in built:
        peer = row["keras_applications"]
        beside = f"{peer:.2f} s | {row['keras_resnet'] / peer:.2f}" if peer else "none |"
        print(f"| {row['model']} | {row['keras_resnet']:.2f} s | {beside} |", flush=True)
    print("\n| first training step after | |\n| --- | ---: |")
    row = dataclasses.replace(FIRST_STEP, contestants=FIRST_STEP.contestants[:2]) if options.quick else FIRST_STEP
    started = first_steps(row, options)
    for name, value in started.items():
        print(f"| {name} | {value if isinstance(value, str) else f'{value:.1f} s'} |")
    if options.json:
        from keras_resnet import files

        record = {**facts, "build_seconds": built, "first_step_seconds": started}
        files.write_text(options.json, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
