"""The recipes `regression`, `signals` and `volumes` on data whose best possible answer is known.

    python examples/known_answers.py [--out DIR] [--epochs N] [--seeds 0 1 2] [--only NAME]

- regression: 442 patients of scikit-learn's diabetes data, which is real: 10 measurements as a signal, and the progress
  of the disease a year later. Beside it stands ridge regression on the same split.
- signals: synthetic. A sine of one of four frequencies, of random phase, on two channels under noise. No detector beats
  the largest value of the periodogram at the four frequencies, whose accuracy is given.
- volumes: synthetic. A ball, a hollow ball or a box of random size and place under noise; the truth is how it was made.
"""

import argparse
import json
import pathlib

import numpy as np

from keras_resnet import training

FREQUENCIES = (10, 12, 14, 16)
SHAPES = ("ball", "hollow ball", "box")


def regression(path: pathlib.Path) -> float:
    """Writes the diabetes data; returns the mean absolute error of ridge regression on the test split."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import RidgeCV

    features, progress = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(features))
    features, targets = features[order], progress[order].astype("float32") / 100
    train, val, test = slice(0, 310), slice(310, 354), slice(354, None)
    np.savez(
        path,
        **{f"x_{name}": features[part][..., None] for name, part in (("train", train), ("val", val), ("test", test))},
        **{f"y_{name}": targets[part] for name, part in (("train", train), ("val", val), ("test", test))},
    )
    ridge = RidgeCV(np.logspace(-4, 2, 25)).fit(features[train], targets[train])
    return float(np.abs(ridge.predict(features[test]) - targets[test]).mean())


def signals(path: pathlib.Path) -> float:
    """Writes sines under noise; returns the accuracy of the best detector on the test split."""
    draw, length, deviation = np.random.default_rng(0), 256, 2.0
    time = np.arange(length) / length
    splits = {}
    for name, count in (("train", 2000), ("val", 400), ("test", 1000)):
        classes = draw.integers(0, len(FREQUENCIES), count)
        phases = draw.uniform(0, 2 * np.pi, (count, 1, 2))
        turns = 2 * np.pi * np.array(FREQUENCIES)[classes][:, None, None] * time[None, :, None]
        examples = np.sin(turns + phases) + draw.normal(0, deviation, (count, length, 2))
        splits |= {f"x_{name}": examples.astype("float32"), f"y_{name}": classes}
    np.savez(path, **splits, class_names=np.array([f"{frequency} cycles" for frequency in FREQUENCIES]))
    power = np.abs(np.fft.rfft(splits["x_test"], axis=1)[:, list(FREQUENCIES)]) ** 2
    # Phases are unknown and independent: the best detector compares sums of ln I0, for which large values are linear.
    amplitudes = np.sqrt(power) / deviation**2
    scores = np.log(np.i0(np.minimum(amplitudes, 300))).sum(axis=2)
    return float((scores.argmax(axis=1) == splits["y_test"]).mean())


def volumes(path: pathlib.Path) -> float:
    """Writes balls, hollow balls and boxes under noise; returns 1, the accuracy of who made them."""
    draw, side = np.random.default_rng(0), 20
    places = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    splits = {}
    for name, count in (("train", 600), ("val", 120), ("test", 300)):
        classes = draw.integers(0, len(SHAPES), count)
        examples = draw.normal(0, 0.5, (count, side, side, side, 1)).astype("float32")
        for example, kind in zip(examples, classes, strict=True):
            radius = draw.uniform(4, 6)
            offset = np.abs(places - draw.uniform(radius + 1, side - radius - 2, 3))
            distance = np.sqrt((offset**2).sum(axis=-1))
            inside = (offset.max(axis=-1) if SHAPES[kind] == "box" else distance) < radius
            if SHAPES[kind] == "hollow ball":
                inside &= distance > radius * 0.6
            example[inside] += 1.0
        splits |= {f"x_{name}": examples, f"y_{name}": classes}
    np.savez(path, **splits, class_names=np.array(SHAPES))
    return 1.0


# Recipe -> how its data are made, the figure that counts, and what it is compared with.
CASES = {
    "regression": (regression, "mae", "ridge regression"),
    "signals": (signals, "accuracy", "best detector"),
    "volumes": (volumes, "accuracy", "truth"),
}


def main() -> None:
    """Trains each recipe, prints the table and leaves run folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/known-answers"), metavar="DIR")
    parser.add_argument("--epochs", type=int, metavar="N", help="by default those of the recipes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    parser.add_argument("--width", type=int, metavar="N", help="by default those of the recipes, 16 for regression")
    parser.add_argument("--only", choices=CASES)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print("| recipe | figure | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " | to compare |")
    print("| --- | --- |" + " ---: |" * (len(options.seeds) + 1))
    for name, (make, figure, other) in CASES.items():
        if options.only not in (None, name):
            continue
        best = make(options.out / f"{name}.npz")
        words = {"model.width": options.width or (16 if name == "regression" else None), "train.epochs": options.epochs}
        accuracies = []
        for seed in options.seeds:
            run = training.fit(
                name,
                data=f"npz:{options.out / name}.npz",
                out=options.out / f"{name}-{seed}",
                seed=seed,
                overrides={key: value for key, value in words.items() if value is not None},
                resume=True,
                verbose=0,
            )
            accuracies.append(json.loads((run.path / "run.json").read_text("utf-8"))["metrics"]["test"][figure])
        cells = " | ".join(f"{value:.4f}" for value in accuracies)
        print(f"| {name} | {figure} | {cells} | {other} {best:.4f} |", flush=True)


if __name__ == "__main__":
    main()
