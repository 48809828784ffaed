"""What the ways to treat rare classes do to accuracy and to probabilities, on digits of which some are made rare.

    python -m benchmarks.rare_classes [--seeds 0 1 2] [--epochs 20] [--width 16] [--json FILE]

Of digit k 0.7^k as many examples are kept for training and validation as of digit 0. The test split has all digits
alike. Its balanced accuracy is reported, and on the same examples, weighted to the shares of training, the expected
calibration error and how much probability the five rare digits get, as a multiple of their share: 1 is right.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
from typing import Any

import keras
import numpy as np

from benchmarks.contest import machine
from keras_resnet import data, files, training
from keras_resnet.evaluation import scores
from keras_resnet.tasks.outputs import softmax

WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "data.balance=weights": {"data.balance": "weights"},
    "data.balance=sqrt_weights": {"data.balance": "sqrt_weights"},
    "data.balance=sampling": {"data.balance": "sampling"},
    "data.balance=sqrt_sampling": {"data.balance": "sqrt_sampling"},
    "loss.logit_adjustment=1": {"loss.logit_adjustment": 1.0},
    "loss.name=focal": {"loss.name": "focal"},
}
FALL, RARE = 0.7, 5
FIGURES = ("balanced_accuracy", "calibration_error", "rare_mass")


def make_set(path: pathlib.Path) -> np.ndarray:
    """Writes digits of which some are rare; returns the share of each in training.

    Args:
        path: of the .npz file.
    """
    digits = data.load("digits")
    arrays: dict[str, np.ndarray] = {}
    for suffix, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        images, labels = digits.arrays(split)
        if split != "test":
            most = np.bincount(labels).min()
            chosen = [np.flatnonzero(labels == digit)[: max(1, round(most * FALL**digit))] for digit in range(10)]
            images, labels = images[np.concatenate(chosen)], labels[np.concatenate(chosen)]
        arrays |= {f"x_{suffix}": images, f"y_{suffix}": labels}
    np.savez(path, **arrays)
    counts = np.bincount(arrays["y_train"], minlength=10)
    return counts / counts.sum()


def measure(path: pathlib.Path, out: pathlib.Path, shares: np.ndarray, overrides: dict[str, Any]) -> dict[str, float]:
    """Returns the figures of one training.

    Args:
        path: of the data.
        out: folder of the run.
        shares: of the digits in training.
        overrides: of the recipe "quick".
    """
    run = training.fit("quick", data=f"npz:{path}", out=out, overrides=overrides, verbose=0)
    labels = run.dataset.split("test").labels
    outputs = run.model.predict(run.dataset.batches("test", 256), verbose=0)
    weights = (shares / np.bincount(labels, minlength=10))[labels]
    figures = scores.classification(outputs, labels, run.dataset.class_names)
    as_they_come = scores.classification(outputs, labels, run.dataset.class_names, weights)
    mass = np.average(softmax(outputs)[:, -RARE:].sum(axis=1), weights=weights)
    return {
        "balanced_accuracy": statistics.fmean(row["recall"] for row in figures["per_class"]),
        "calibration_error": as_they_come["expected_calibration_error"],
        "rare_mass": float(mass / shares[-RARE:].sum()),
    }


def main() -> None:
    """Prints the table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    print(f"{'':<28}" + "".join(f"{name:>20}" for name in FIGURES))
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        shares = make_set(folder / "rare.npz")
        for way, overrides in WAYS.items():
            rows = results[way] = []
            for seed in options.seeds:
                words = {"train.epochs": options.epochs, "model.width": options.width, "train.seed": seed, **overrides}
                rows.append(measure(folder / "rare.npz", folder / f"{way}-{seed}", shares, words))
                keras.backend.clear_session()
            means = (statistics.fmean(row[name] for row in rows) for name in FIGURES)
            print(f"{way:<28}" + "".join(f"{mean:>20.3f}" for mean in means), flush=True)
    if options.json:
        report = {"machine": machine(), "shares": shares.tolist(), "ways": results}
        files.write_text(options.json, json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
