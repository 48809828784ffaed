"""Fine-tuning the weights in the package against training from nothing and against probes, with few labels.

    python -m benchmarks.fine_tuning [--labels 5 20 100] [--seeds 0 1 2] [--epochs N] [--out DIR] [--json FILE]

The data are scikit-learn's handwritten digits, made RGB and 32 px by repeating pixels: real pictures, and unlike those
of CIFAR-10, on which the weights were trained. Each network sees that many labeled digits of each class, for equal
epochs of equal batches, at two learning rates; the test split has 360 digits. Probes take the features of the network
as it is in the package, and fit a linear head or look at the nearest neighbors: no seed, and some seconds.
"""

import argparse
import json
import pathlib
import statistics
import sys
from typing import Any

import numpy as np

from benchmarks.contest import ROOT, machine
from keras_resnet import data, evaluation, files, training

RATES = (0.02, 0.1)
PROBED = "resnet18:cifar10"
# Handwritten digits are neither mirrored nor cut; both ways of training get the same.
RECIPE = {
    "data.validation_fraction": 0.0,
    "model.stem": "small",
    "model.width": 16,
    "train.batch_size": 25,
    "optimizer.weight_decay": 0.0005,
}


def digits(folder: pathlib.Path, labels: int) -> pathlib.Path:
    """Returns an .npz file with that many RGB digits of each class in training, and the whole test split."""
    path = folder / f"digits-{labels}.npz"
    if path.exists():
        return path
    dataset = data.load("digits", validation_fraction=0.0)
    (images, classes), (test_images, test_classes) = dataset.arrays("train"), dataset.arrays("test")
    chosen = np.concatenate([np.flatnonzero(classes == name)[:labels] for name in range(10)])
    arrays = {
        "x_train": _rgb(images[chosen]),
        "y_train": classes[chosen],
        "x_test": _rgb(test_images),
        "y_test": test_classes,
    }

    def write(where: pathlib.Path) -> None:
        with open(where, "wb") as file:
            np.savez(file, **arrays)

    files.write_atomically(path, write)
    return path


def _rgb(images: np.ndarray) -> np.ndarray:
    """Returns gray pictures of 8 px as RGB of 32 px."""
    return np.repeat(images.repeat(4, axis=1).repeat(4, axis=2), 3, axis=-1)


def accuracy(path: pathlib.Path, weights: str | None, rate: float, seed: int, epochs: int, out: pathlib.Path) -> float:
    """Returns the test accuracy of one training."""
    words: dict[str, Any] = {**RECIPE, "optimizer.learning_rate": rate, "train.epochs": epochs}
    run = training.fit(
        "quick", data=f"npz:{path}", out=out, seed=seed, weights=weights, overrides=words, verbose=0, resume=True
    )
    return float(run.metrics["test"]["accuracy"])


def probed(path: pathlib.Path, labels: int) -> dict[str, float]:
    """Returns the test accuracy of a linear head and of nearest neighbors on features of the frozen network.

    Args:
        path: of the digits.
        labels: of each class; at most that many neighbors are asked.
    """
    result = evaluation.probe(PROBED, f"npz:{path}", neighbors=min(20, labels))
    return {"linear head": result["linear_accuracy"], "nearest neighbors": result["knn_accuracy"]}


def main() -> None:
    """Trains, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 20, 100], metavar="N", help="of each class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs/fine-tuning", metavar="DIR")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for labels in options.labels:
        path = digits(options.out, labels)
        rows += [
            {
                "labels": labels,
                "weights": f"cifar10, frozen: {head}",
                "rate": "",
                "accuracies": [value] * len(options.seeds),
            }
            for head, value in probed(path, labels).items()
        ]
        for weights in (None, "cifar10"):
            for rate in RATES:
                accuracies = [
                    accuracy(
                        path, weights, rate, seed, options.epochs, options.out / f"{labels}-{weights}-{rate}-{seed}"
                    )
                    for seed in options.seeds
                ]
                rows.append({"labels": labels, "weights": weights, "rate": rate, "accuracies": accuracies})
                print(rows[-1], file=sys.stderr)
    facts = {**machine(), "command": " ".join(sys.argv), "epochs": options.epochs}
    print("{date}, {processor}, {cores} cores, {epochs} epochs".format(**facts))
    print(f"| labels per class | weights | rate | {' | '.join(f'seed {seed}' for seed in options.seeds)} | mean |")
    print(f"| ---: | --- | ---: |{' ---: |' * (len(options.seeds) + 1)}")
    for row in rows:
        cells = " | ".join(f"{value:.4f}" for value in row["accuracies"])
        mean = statistics.mean(row["accuracies"])
        print(f"| {row['labels']} | {row['weights'] or 'none'} | {row['rate']} | {cells} | {mean:.4f} |")
    if options.json:
        files.write_text(options.json, json.dumps({**facts, "trainings": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
