"""One small study for each of five fields, beside a baseline of scikit-learn on the same examples.

    python examples/fields.py [--out DIR] [--only NAME] [--seed N]

All five sets are synthetic and made here, so that the script needs no network and the truth is known:

- medical: X-ray-like pictures, two a patient, with any of three findings (several labels); no split divides a patient.
- ecg: heartbeats of two leads at random places under noise: normal, wide, or with a raised segment after them.
- volumes: boxes and balls of equal volume in 16x16x16 voxels under noise.
- driving: a road seen from a car; two numbers, how far the car is from its middle and how much the road turns.
- recommendation: the ratings of 64 items as a signal, and whether the user will like one more. The order of the items
  means nothing, so that a convolution, which looks at neighbors, has nothing to look at: the wrong tool, shown as one.
"""

import argparse
import csv
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet import data, training

FINDINGS = ("nodule", "line", "haze")
Made = tuple[str, dict[str, Any]]


def medical(folder: pathlib.Path) -> Made:
    """Writes pictures and a table of 400 patients with two pictures each."""
    rng, side = np.random.default_rng(0), 32
    rows, columns = np.mgrid[:side, :side]
    with open(folder / "findings.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "patient", *FINDINGS])
        for patient in range(400):
            body = 90 + 25 * np.sin(columns / rng.uniform(3, 8) + rng.uniform(0, 6)) + 20 * rng.normal()
            findings = rng.random(3) < (0.4, 0.3, 0.3)
            for view in range(2):
                picture = body + rng.normal(0, 12, (side, side))
                y, x = rng.uniform(6, side - 6, 2)
                if findings[0]:
                    picture += 90 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 5)
                if findings[1]:
                    slope = rng.uniform(-0.6, 0.6)
                    picture += 70 * (np.abs(rows - y - slope * (columns - x)) < 0.8)
                if findings[2]:
                    picture += 45 * np.exp(-((rows - side + y) ** 2 + (columns - side + x) ** 2) / 120)
                name = f"p{patient:03d}_{view}.png"
                Image.fromarray(np.clip(picture, 0, 255).astype("uint8")).save(folder / name)
                writer.writerow([name, f"p{patient:03d}", *findings.astype(int)])
    settings = {"loss.name": "multilabel_cross_entropy", "data.validation_fraction": 0.15, "data.test_fraction": 0.3}
    return f"csv:{folder / 'findings.csv'}", {**settings, "train.epochs": 25}


def ecg(folder: pathlib.Path) -> Made:
    """Writes 1,200 heartbeats of two leads."""
    rng, length = np.random.default_rng(0), 128
    time = np.arange(length)
    labels = rng.integers(0, 3, 1200)
    signals = rng.normal(0, 0.25, (1200, length, 2))
    for signal, label in zip(signals, labels, strict=True):
        at, width = rng.uniform(40, 80), 6.0 if label == 1 else 2.0
        beat = np.exp(-((time - at) ** 2) / (2 * width**2))
        wave = 0.25 * np.exp(-((time - at - 30) ** 2) / 50)
        raised = 0.35 * ((time > at + 4) & (time < at + 22)) if label == 2 else 0.0
        signal += np.stack([beat + wave + raised, -0.6 * beat + 0.5 * wave + 0.8 * np.asarray(raised)], axis=-1)
    np.savez(folder / "ecg.npz", x=signals.astype("float32"), y=labels, class_names=["normal", "wide", "raised"])
    return f"npz:{folder / 'ecg.npz'}", {"train.epochs": 12, "data.normalization": "dataset", "augment.flip": False}


def volumes(folder: pathlib.Path) -> Made:
    """Writes 500 volumes."""
    rng, side = np.random.default_rng(0), 16
    places = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    labels = rng.integers(0, 2, 500)
    noise = rng.normal(0, 0.4, (500, side, side, side, 1))
    for volume, label in zip(noise, labels, strict=True):
        radius = rng.uniform(3, 4.5)
        offset = places - rng.uniform(6, side - 7, 3)
        half = radius * (np.pi / 6) ** (1 / 3)  # a box of the volume of the ball
        inside = (np.abs(offset).max(axis=-1) < half) if label else ((offset**2).sum(axis=-1) < radius**2)
        volume[inside] += 1.0
    np.savez(folder / "volumes.npz", x=noise.astype("float32"), y=labels, class_names=["ball", "box"])
    return f"npz:{folder / 'volumes.npz'}", {"train.epochs": 15, "data.normalization": "dataset"}


def driving(folder: pathlib.Path) -> Made:
    """Writes 1,000 pictures of a road, with the car's offset in metres and the curvature in 1/km."""
    rng, height, width = np.random.default_rng(0), 24, 32
    targets = np.stack([rng.uniform(-1.5, 1.5, 1000), rng.uniform(-8, 8, 1000)], axis=-1)
    depth = np.linspace(1, 0.15, height)[::-1]  # from the horizon to the wheels
    pictures = np.empty((1000, height, width, 1))
    for picture, (offset, curvature) in zip(pictures, targets, strict=True):
        ahead = (1 - depth) ** 2
        middle = width / 2 - offset * 6 * depth + curvature * 1.2 * ahead
        edges = np.abs(np.arange(width)[None] - middle[:, None]) - 9 * depth[:, None]
        picture[..., 0] = np.where(edges < 0, 90, 150 + 20 * rng.normal()) + 90 * (np.abs(edges) < 1)
        picture[..., 0] += rng.normal(0, 20, (height, width)) + rng.uniform(-30, 30)
    pictures = np.clip(pictures, 0, 255).astype("uint8")
    # What moves or turns the road would change the answer.
    unmoved = {"augment.rotation": 0.0, "augment.zoom": 0.0, "augment.translation": 0.0}
    settings = {"loss.name": "mean_squared_error", "train.epochs": 30, "optimizer.learning_rate": 0.03, **unmoved}
    np.savez(folder / "driving.npz", x=pictures, y=targets, units=["m", "1/km"])
    return f"npz:{folder / 'driving.npz'}", settings


def recommendation(folder: pathlib.Path) -> Made:
    """Writes the ratings of 1,500 users, most of them missing, and whether they like one more item."""
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(1500, 4)), rng.normal(size=(65, 4))
    liking = users @ items.T + rng.normal(0, 0.7, (1500, 65))
    ratings = np.where(rng.random((1500, 64)) < 0.4, np.clip(np.round(liking[:, :64]), -2, 2), 0.0)
    labels = (liking[:, 64] > 0).astype(int)
    np.savez(folder / "ratings.npz", x=ratings[..., None].astype("float32"), y=labels, class_names=["no", "yes"])
    return f"npz:{folder / 'ratings.npz'}", {"train.epochs": 12, "data.normalization": "dataset", "augment.flip": False}


def _linear(features: Any, labels: Any, others: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=2000).fit(features, labels).predict(others)


def _accuracy(features: Any, labels: Any, others: Any, truth: Any) -> float:
    return float((_linear(features, labels, others) == truth).mean())


def _area(features: Any, labels: Any, others: Any, truth: Any) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.multiclass import OneVsRestClassifier

    fitted = OneVsRestClassifier(LogisticRegression(max_iter=2000)).fit(features, labels)
    return float(roc_auc_score(truth, fitted.predict_proba(others)))


def _error(features: Any, labels: Any, others: Any, truth: Any) -> float:
    from sklearn.linear_model import RidgeCV

    return float(np.abs(RidgeCV(np.logspace(-3, 4, 15)).fit(features, labels).predict(others) - truth).mean())


# Name -> how its data are made, the recipe, the figure that counts, and its baseline.
CASES: dict[str, tuple[Callable[[pathlib.Path], Made], str, str, Callable[..., float], str]] = {
    "medical": (medical, "quick", "roc_auc", _area, "logistic regression"),
    "ecg": (ecg, "signals", "accuracy", _accuracy, "logistic regression"),
    "volumes": (volumes, "volumes", "accuracy", _accuracy, "logistic regression"),
    "driving": (driving, "quick", "mae", _error, "ridge regression"),
    "recommendation": (recommendation, "signals", "accuracy", _accuracy, "logistic regression"),
}


def main() -> None:
    """Trains each case and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/fields"), metavar="DIR")
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    options = parser.parse_args()
    print("| field | figure | ResNet-18, width 16 | baseline |\n| --- | --- | ---: | --- |")
    for name, (make, recipe, figure, baseline, told) in CASES.items():
        if options.only not in (None, name):
            continue
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        spec, settings = make(folder)
        run = training.fit(
            recipe,
            data=spec,
            out=folder / f"run-{options.seed}",
            seed=options.seed,
            overrides={"model.width": 16, **settings},
            resume=True,
            verbose=0,
        )
        dataset: data.Dataset = run.dataset
        (features, labels), (others, truth) = dataset.arrays("train"), dataset.arrays("test")
        scale = 255.0 if features.dtype == np.uint8 else 1.0
        flat, other = (part.reshape(len(part), -1) / scale for part in (features, others))
        best = baseline(flat, labels, other, truth)
        print(f"| {name} | {figure} | {run.metrics['test'][figure]:.3f} | {told} {best:.3f} |", flush=True)


if __name__ == "__main__":
    main()
