"""What a search finds: its winner against the recipe it starts from, algorithm against algorithm, seed by seed.

Hyperband's trials are shorter, so that it gets twice as many; the table has the epochs that each spent. Overhead is the
share of a trial's time outside `training.fit`; with the start it is that of the whole search, processes and the final
score included. `--workers 1 2` adds the speed-up.

    python -m benchmarks.search --data digits --seeds 0 1 2 --trials 10 --epochs 10 --json FILE
"""

import argparse
import json
import pathlib
import tempfile
import time
from typing import Any

from benchmarks.contest import machine
from keras_resnet import files, training, tuning


def searched(
    options: argparse.Namespace, algorithm: str, seed: int, workers: int, folder: pathlib.Path
) -> dict[str, Any]:
    """Runs one search and returns its figures."""
    # Hyperband's trials are shorter: of the same epochs it makes more of them.
    trials = options.trials * 2 if algorithm == "hyperband" else options.trials
    start = time.perf_counter()
    result = tuning.search(
        options.recipe,
        space=options.space,
        data=options.data,
        algorithm=algorithm,
        trials=trials,
        out=folder / f"{algorithm}-{seed}-{workers}",
        epochs=options.epochs,
        workers=workers,
        seed=seed,
        overrides=dict(word.split("=", 1) for word in options.set),
    )
    seconds = time.perf_counter() - start
    spent = sum(trial.seconds for trial in result.trials)
    inside = sum(trial.training_seconds for trial in result.trials)
    return {
        "what": f"{algorithm}, {workers} worker{'s' * (workers > 1)}",
        "seed": seed,
        "trials": len(result.trials),
        "epochs": sum(trial.epochs - trial.values.get("tuner/initial_epoch", 0) for trial in result.trials),
        "validation": result.best.score if result.best else None,
        "test": (result.metrics or {}).get("accuracy"),
        "seconds": seconds,
        "overhead": 1 - inside / spent,
        "with_start": 1 - inside / workers / seconds,
    }


def default(options: argparse.Namespace, seed: int, folder: pathlib.Path) -> dict[str, Any]:
    """Trains the recipe as it is, at the epochs of a trial."""
    start = time.perf_counter()
    overrides = {**dict(word.split("=", 1) for word in options.set), "train.epochs": options.epochs}
    overrides = {key: value for key, value in overrides.items() if not key.startswith("search.")}
    run = training.fit(
        options.recipe, data=options.data, seed=seed, overrides=overrides, out=folder / f"default-{seed}", verbose=0
    )
    return {
        "what": "the recipe as it is",
        "seed": seed,
        "trials": 1,
        "epochs": options.epochs,
        "validation": run.metrics["validation"]["accuracy"],
        "test": run.metrics["test"]["accuracy"],
        "seconds": time.perf_counter() - start,
        "overhead": None,
        "with_start": None,
    }


def main() -> None:
    """Runs everything and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", metavar="SPEC")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--space", default="default", help="a name or a TOML file")
    parser.add_argument("--algorithms", nargs="+", default=["random", "bayesian", "hyperband"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", nargs="+", type=int, default=[1])
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="search-"))
    rows = []
    for seed in options.seeds:
        rows.append(default(options, seed, folder))
        for algorithm in options.algorithms:
            rows += [searched(options, algorithm, seed, workers, folder) for workers in options.workers]
    print("| what | seed | trials | epochs | validation | test | seconds | overhead | with the start |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        shares = [f"{row[name]:.1%}" if row[name] is not None else "" for name in ("overhead", "with_start")]
        print(
            f"| {row['what']} | {row['seed']} | {row['trials']} | {row['epochs']} | {row['validation']:.4f} "
            f"| {row['test']:.4f} | {row['seconds']:.0f} | {shares[0]} | {shares[1]} |"
        )
    if options.json:
        files.write_text(options.json, json.dumps({**machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
