"""Peak resident memory of training, each contestant alone.

    python -m benchmarks.memory [--peers PYTHON] [--rounds 1] [--json FILE]

The largest resident size (VmHWM) of a process that has built its network and taken a few training steps, beside what it
held before the first step. The peers' interpreter is made by `python -m benchmarks.peers`.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys

from benchmarks.contest import ROOT, Contestant, Row, machine
from benchmarks.contestants import NAMES
from benchmarks.training_step import OURS, QUICK, ROWS


def measure(row: Row, options: argparse.Namespace) -> dict[str, dict]:
    """Returns the memory of each contestant of a row in MiB, the median over fresh processes."""
    runs: dict[str, list[dict]] = {name: [] for name in row.contestants}
    for _ in range(options.rounds):
        for name, found in runs.items():
            contestant = Contestant(name, row, options)
            found.append({"failure": contestant.failure} if contestant.failure else contestant.ready)
            contestant.close()
    results = {}
    for name, found in runs.items():
        failures = [run["failure"] for run in found if "failure" in run]
        results[name] = (
            {"failure": failures[0]}
            if failures
            else {key: statistics.median(run[key] for run in found) for key in ("built_mebibytes", "peak_mebibytes")}
        )
    return results


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--only", metavar="TEXT", help="rows whose title holds TEXT")
    parser.add_argument("--contestants", nargs="+", choices=NAMES, metavar="NAME", help="these alone")
    parser.add_argument("--python", default=sys.executable, help="interpreter of this package's contestants")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter of the others")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the figures to FILE")
    options = parser.parse_args()
    options.isa, options.dtype = "native", "float32"
    rows = [row for row in (QUICK if options.quick else ROWS) if not options.only or options.only in row.title]
    facts = machine()
    print("{date}, {processor}, {cores} cores".format(**facts))
    print(
        "| network | contestant | before the first step | peak | it / the first |\n| --- | --- | ---: | ---: | ---: |"
    )
    figures = []
    for row in rows:
        everyone = (*OURS, "keras_resnet_recompute", *row.contestants[len(OURS) :])
        row = dataclasses.replace(row, contestants=tuple(options.contestants or everyone))
        results = measure(row, options)
        figures.append({"title": row.title, "results": results})
        ours = next((found["peak_mebibytes"] for found in results.values() if "failure" not in found), None)
        for name, result in results.items():
            if "failure" in result:
                print(f"| {row.title} | {name} | failed: {result['failure']} | | |", flush=True)
                continue
            peak = result["peak_mebibytes"]
            ratio = f"{peak / ours:.2f}" if ours else ""
            built = result["built_mebibytes"]
            print(f"| {row.title} | {name} | {built:.0f} MiB | {peak:.0f} MiB | {ratio} |", flush=True)
    if options.json:
        from keras_resnet import files

        files.write_text(options.json, json.dumps({**facts, "rows": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
