r"""What `train` gives without a recipe, against the old default, a linear classifier and a random forest.

    python -m benchmarks.defaults --cifar FOLDER [--minutes 3] [--seeds 0] [--rows NAME ...] [--columns NAME ...] \
        [--peers PYTHON] [--json FILE]

FOLDER holds CIFAR-10 as class folders in `train/` and `test/`. Rows: 500 and 5,000 of its pictures; digits, 100 of them
and all; 2,000 pictures made gray with 16 bits, between 200 and 8,000; classes from 500 pictures down to 10; pictures of
patients, of whom none is in two splits, each with its own brightness; digits read as signals of 64 values, and as
volumes. Columns: `quick`, the default of earlier versions, and `default`, today's, both by `train --minutes`; `auto` in
as many minutes; `linear` and `forest`, scikit-learn's logistic regression and random forest on the pixels of the
training and validation splits; `timm`, a ResNet-18 of width 16 in PyTorch by the defaults of timm's script, for images
(with PyTorch and timm in the interpreter of `--peers`). The figure is the accuracy on the same test split. With
`--json` what was measured is kept after every cell, and a second start goes on.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.contest import ROOT, machine
from keras_resnet import data, files, training
from keras_resnet.auto import train_best

COLUMNS = ("quick", "default", "auto", "linear", "forest", "timm")
TEST_PER_CLASS = 200
Arrays = dict[str, np.ndarray]


def pictures(folder: pathlib.Path, split: str, per_class: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 pictures and labels of CIFAR-10, the first of each class.

    Args:
        folder: of CIFAR-10.
        split: "train" or "test".
        per_class: how many of each.
    """
    images, labels = [], []
    classes = sorted(path for path in (folder / split).iterdir() if path.is_dir())
    for label, (place, count) in enumerate(zip(classes, per_class, strict=True)):
        for path in sorted(place.iterdir())[:count]:
            images.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    return np.stack(images), np.array(labels)


def cifar(folder: pathlib.Path, per_class: list[int]) -> Arrays:
    """Returns arrays of CIFAR-10 with a part of its test split."""
    x, y = pictures(folder, "train", per_class)
    x_test, y_test = pictures(folder, "test", [TEST_PER_CLASS] * 10)
    return {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}


def gray(folder: pathlib.Path) -> Arrays:
    """Returns pictures of 16 bits that use the values 200 to 8,000."""
    arrays = cifar(folder, [200] * 10)

    def changed(images: np.ndarray) -> np.ndarray:
        luminance = images @ np.array([0.299, 0.587, 0.114])
        return np.round(200 + luminance / 255 * 7800).astype("uint16")[..., None]

    return {name: changed(value) if name.startswith("x") else value for name, value in arrays.items()}


def digits(count: int | None, shape: Callable[[np.ndarray], np.ndarray] = lambda images: images) -> Arrays:
    """Returns scikit-learn's digits, some of them in training, in another shape."""
    whole = data.load("digits", validation_fraction=0.0)
    (x, y), (x_test, y_test) = (whole.arrays(split) for split in ("train", "test"))
    return {"x_train": shape(x[:count]), "y_train": y[:count], "x_test": shape(x_test), "y_test": y_test}


def as_signal(images: np.ndarray) -> np.ndarray:
    """Returns pictures row by row, `(examples, 64, 1)`."""
    return images.reshape(len(images), 64, 1)


def as_volume(images: np.ndarray) -> np.ndarray:
    """Returns pictures that move by a pixel from slice to slice, `(examples, 8, 8, 8, 1)`."""
    return np.stack([np.roll(images, place - 4, axis=2) for place in range(8)], axis=1)


def patients(folder: pathlib.Path, out: pathlib.Path) -> str:
    """Writes pictures of 300 patients, each of one class, with five pictures and its own brightness.

    Args:
        folder: of CIFAR-10.
        out: where the class folders go.
    """
    images, labels = pictures(folder, "train", [150] * 10)
    draw = np.random.default_rng(0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        if index % 5 == 0:
            factor = draw.uniform(0.5, 1.5, 3)
        place = out / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * factor).clip(0, 255).astype("uint8")).save(
            place / f"p{index // 5:03d}_{index % 5}.png"
        )
    return f"folder:{out}"


ROWS = {
    "CIFAR-10, 500": lambda folder: cifar(folder, [50] * 10),
    "digits, 100": lambda folder: digits(100),
    "digits": lambda folder: digits(None),
    "gray, 16 bits": gray,
    "rare classes": lambda folder: cifar(folder, [500, 324, 210, 136, 88, 57, 37, 24, 16, 10]),
    "patients": None,
    "signals": lambda folder: digits(None, as_signal),
    "volumes": lambda folder: digits(None, as_volume),
    "CIFAR-10, 5,000": lambda folder: cifar(folder, [500] * 10),
}


# Rows that need no other data.
OFFLINE = {"digits, 100", "digits", "signals", "volumes"}


def spec_of(row: str, folder: pathlib.Path, out: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """Writes the data of a row; returns its spec and what a recipe says of it.

    Args:
        row: a key of `ROWS`.
        folder: of CIFAR-10.
        out: where they go.
    """
    make = ROWS[row]
    if make is None:
        return patients(folder, out / "patients"), {"data.group_pattern": "(p[0-9]+)_", "data.test_fraction": 0.2}
    np.savez(out / "set.npz", **make(folder))
    return f"npz:{out / 'set.npz'}", {}


def by_pixels(column: str, dataset: data.Dataset, seed: int) -> float:
    """Returns the test accuracy of a classifier of scikit-learn.

    Args:
        column: "linear" or "forest".
        dataset: of a run, whose splits are taken.
        seed: of the forest.
    """
    train, test = learned_and_tested(dataset)
    classifier = (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        if column == "linear"
        else RandomForestClassifier(500, n_jobs=-1, random_state=seed)
    )
    (x, y), (x_test, y_test) = ((images.reshape(len(images), -1).astype("float32"), y) for images, y in (train, test))
    return float(classifier.fit(x, y).score(x_test, y_test))


def learned_and_tested(dataset: data.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns images and labels of the training and validation splits together, and those of the test split."""
    batches: dict[bool, list[tuple[np.ndarray, np.ndarray]]] = {False: [], True: []}
    for split in dataset.sizes:
        for images, labels, *_ in dataset.batches(split, 256).as_numpy_iterator():
            batches[split == "test"].append((images, labels.reshape(-1)))
    pairs = (zip(*part, strict=True) for part in batches.values())
    return [(np.concatenate(images), np.concatenate(labels)) for images, labels in pairs]


def by_timm(dataset: data.Dataset, seed: int, options: argparse.Namespace, out: pathlib.Path) -> tuple[float, int]:
    """Returns the test accuracy and the epochs of timm's defaults; NaN where examples are not images.

    Args:
        dataset: of a run, whose splits are taken.
        seed: of the network.
        options: those of the command line.
        out: a folder for the images and the result.
    """
    train, test = learned_and_tested(dataset)
    if train[0].ndim != 4:
        return float("nan"), 0
    np.savez(out / "images.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    command = [options.peers, "-m", "benchmarks.accuracy_peers", "timm", "--images", out / "images.npz"]
    command += ["--minutes", str(options.minutes), "--seed", str(seed), "--json", out / "timm.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    result = json.loads((out / "timm.json").read_text("utf-8"))
    return result["metrics"]["test"]["accuracy"], result["epochs"]


def measure(row: str, column: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the accuracy of a column on a row, and the minutes that it took."""
    with tempfile.TemporaryDirectory() as place:
        out = pathlib.Path(place)
        spec, words = spec_of(row, options.cifar, out)
        start = time.perf_counter()
        recipe, epochs = "", 0
        if column in ("linear", "forest", "timm"):
            dataset = training.resolve(data=spec, overrides=words).dataset
            if column == "timm":
                accuracy, epochs = by_timm(dataset, seed, options, out)
            else:
                accuracy = by_pixels(column, dataset, seed)
        elif column == "auto":
            run = train_best(spec, out / "auto", minutes=options.minutes, overrides=words, seed=seed, verbose=0).run
            accuracy, recipe, epochs = run.metrics["test"]["accuracy"], run.recipe.name, run.recipe.train.epochs
        else:
            recipe_name = "quick" if column == "quick" else None
            run = training.fit(
                recipe_name, data=spec, out=out / "run", overrides=words, seed=seed, minutes=options.minutes, verbose=0
            )
            accuracy, recipe, epochs = run.metrics["test"]["accuracy"], run.recipe.name, run.recipe.train.epochs
            keras.backend.clear_session()
        minutes = (time.perf_counter() - start) / 60
        return {"accuracy": accuracy, "minutes": minutes, "recipe": recipe, "epochs": epochs}


def main() -> None:
    """Prints the table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=["quick", "default", "linear", "forest"])
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers" / "bin" / "python"), metavar="PYTHON")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    if options.cifar is None and not {*options.rows} <= OFFLINE:
        parser.error(f"--cifar FOLDER is needed for other rows than {', '.join(sorted(OFFLINE))}")
    report: dict[str, Any] = {"machine": machine(), "minutes": options.minutes, "cells": {}}
    if options.json and options.json.is_file():
        report = json.loads(options.json.read_text("utf-8"))
    print(f"{'':<18}" + "".join(f"{name:>10}" for name in options.columns))
    for row in options.rows:
        means = []
        for column in options.columns:
            for seed in options.seeds:
                key = f"{row}|{column}|{seed}"
                if key not in report["cells"]:
                    report["cells"][key] = measure(row, column, seed, options)
                if options.json:
                    files.write_text(options.json, json.dumps(report, indent=1) + "\n")
            means.append(
                statistics.fmean(report["cells"][f"{row}|{column}|{seed}"]["accuracy"] for seed in options.seeds)
            )
        print(f"{row:<18}" + "".join(f"{mean:>10.4f}" for mean in means), flush=True)


if __name__ == "__main__":
    main()
