"""Accuracy of ResNet-18 on CIFAR-10: the recipe against stock Keras and timm, what each ingredient adds, few labels.

    python -m benchmarks.accuracy TABLE --data-dir DIR [--peers PYTHON] [--seeds 0 1 2] [--epochs N] [--json FILE]

TABLE is `proof` (the recipe `cifar`, Keras's defaults, timm's defaults in PyTorch), `ablation` (an ingredient after the
other), `labels` (50 labeled images per class), `precision` (float32 against bfloat16) or `rate` (learning rates,
compared on a tenth of the training images, after the last epoch). DIR is a prepared TFDS folder.
Every run is a process and keeps its folder under --out: a second call goes on where the first one stopped. With
`--workers 2` two runs go side by side, each on its own core.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks.contest import ROOT, machine

LABELS_A_CLASS = 50
PLAIN = {
    "schedule.name": "constant",
    "augment.flip": "false",
    "augment.pad_and_crop": "0",
    "optimizer.weight_decay": "0",
    "loss.label_smoothing": "0",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to train.

    Attributes:
        title: for the table.
        trainer: "recipe", or a name of `benchmarks.accuracy_peers`.
        settings: of the recipe `cifar`, "section.field" -> value.
        labels: training images per class; 0 for all.
        split: whose accuracy is read, "test" or "validation".
    """

    title: str
    trainer: str = "recipe"
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    labels: int = 0
    split: str = "test"


def _ablation() -> list[Case]:
    """Returns the plain training, and after it the same with one ingredient more in each row."""
    cases, remaining = [Case("plain: SGD at a constant rate", settings=dict(PLAIN))], dict(PLAIN)
    for title, names in {
        "+ one-cycle schedule": ("schedule.name",),
        "+ flip, crop": ("augment.flip", "augment.pad_and_crop"),
        "+ weight decay": ("optimizer.weight_decay",),
        "+ label smoothing: the recipe": ("loss.label_smoothing",),
    }.items():
        remaining = {name: value for name, value in remaining.items() if name not in names}
        cases.append(Case(title, settings=dict(remaining)))
    return [
        *cases,
        Case("the recipe, rate 0.1", settings={"optimizer.learning_rate": "0.1"}),
        Case("the recipe, images growing from 0.75", settings={"data.progressive_from": "0.75"}),
    ]


FEW = {"train.batch_size": "50", "data.validation_fraction": "0"}
TABLES = {
    "proof": [
        # The others train on all images too.
        Case("recipe cifar, no validation split", settings={"data.validation_fraction": "0"}),
        Case("Keras's defaults", trainer="keras"),
        Case("timm's defaults, PyTorch", trainer="timm"),
    ],
    "ablation": _ablation(),
    "labels": [
        Case("none: SGD at a constant rate", settings={**PLAIN, **FEW}, labels=LABELS_A_CLASS),
        Case("the recipe cifar", settings=FEW, labels=LABELS_A_CLASS),
        Case(
            "the recipe, TrivialAugment, CutMix",
            settings={**FEW, "augment.policy": "trivial_augment", "augment.cutmix": "1"},
            labels=LABELS_A_CLASS,
        ),
    ],
    "precision": [
        Case("float32", settings={"train.precision": "float32"}),
        Case("mixed_bfloat16", settings={"train.precision": "mixed_bfloat16"}),
    ],
    "rate": [
        Case(
            f"the recipe, rate {rate}",
            settings={"optimizer.learning_rate": rate, "data.validation_fraction": "0.1"},
            split="validation",
        )
        for rate in ("0.1", "0.2", "0.3", "0.5")
    ],
}


def arrays(options: argparse.Namespace, labels: int) -> pathlib.Path:
    """Returns an .npz file of the training and test images, with that many of each class (0: all) in training."""
    path = options.out / f"images-{labels or 'all'}.npz"
    if path.exists():
        return path
    import numpy as np

    from keras_resnet import data, files

    dataset = data.load(options.data, data_dir=options.data_dir, validation_fraction=0.0)
    (images, classes), (test_images, test_classes) = dataset.arrays("train"), dataset.arrays("test")
    if labels:
        chosen = np.concatenate([np.flatnonzero(classes == name)[:labels] for name in range(len(dataset.class_names))])
        images, classes = images[chosen], classes[chosen]
    arrays_by_name = {"x_train": images, "y_train": classes, "x_test": test_images, "y_test": test_classes}
    files.write_atomically(
        path, lambda where: _savez(where, {**arrays_by_name, "class_names": np.array(dataset.class_names)})
    )
    return path


def _savez(path: pathlib.Path, held: dict[str, Any]) -> None:
    import numpy as np

    with open(path, "wb") as file:
        np.savez(file, **held)


def run(case: Case, seed: int, options: argparse.Namespace, core: int | None) -> dict[str, Any]:
    """Returns accuracy and seconds of one training; of one that is complete already, what it left."""
    name = "".join(letter if letter.isalnum() else "-" for letter in case.title)
    folder = options.out / f"{options.table}-{name}-{options.epochs}-{seed}"
    images = arrays(options, case.labels)
    words = [f"--epochs={options.epochs}", f"--seed={seed}"]
    if case.trainer == "recipe":
        settings = {"train.precision": options.precision, "model.width": str(options.width), **case.settings}
        command = [sys.executable, "-m", "keras_resnet", "train", "--recipe", "cifar", "--model", "resnet18"]
        command += ["--data", f"npz:{images}", "--out", str(folder), "--resume", *words]
        command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    else:
        interpreter = options.peers if case.trainer == "timm" else sys.executable
        if not pathlib.Path(interpreter).exists():
            return {
                "failure": f"{interpreter} does not exist: make it with python -m benchmarks.peers, or give --peers"
            }
        folder.mkdir(exist_ok=True)
        command = [interpreter, "-m", "benchmarks.accuracy_peers", case.trainer, "--images", str(images), *words]
        command += ["--width", str(options.width), "--precision", options.precision, "--json", str(folder / "run.json")]
    if not _outcome(folder, case.split):
        pinned = ["taskset", "--cpu-list", str(core)] if core is not None else []
        with open(f"{folder}.log", "a", encoding="utf-8") as log:
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
            start = time.monotonic()
            done = subprocess.run([*pinned, *command], cwd=ROOT, env=environment, stdout=log, stderr=log)
        print(f"{case.title}, seed {seed}: status {done.returncode}, {time.monotonic() - start:.0f} s", file=sys.stderr)
    return _outcome(folder, case.split) or {"failure": f"see {folder}.log"}


def _outcome(folder: pathlib.Path, split: str) -> dict[str, Any]:
    try:
        run_file = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except OSError:
        return {}
    if run_file["status"] != "complete":
        return {}
    rows = run_file.get("history")
    seconds = sum(row["epoch_seconds"] for row in rows) if rows else run_file["seconds"]
    accuracy = rows[-1]["val_accuracy"] if split == "validation" else run_file["metrics"]["test"]["accuracy"]
    return {"accuracy": accuracy, "seconds": seconds}


def measured(cases: list[Case], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the outcomes of all cases and seeds, in turns or side by side."""
    for case in cases:
        arrays(options, case.labels)
    cores = list(range(options.workers)) if options.workers > 1 else [None]
    free, guard = list(cores), threading.Lock()

    def go(case: Case, seed: int) -> dict[str, Any]:
        with guard:
            core = free.pop()
        try:
            return run(case, seed, options, core)
        finally:
            with guard:
                free.append(core)

    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        waiting = {(case.title, seed): pool.submit(go, case, seed) for seed in options.seeds for case in cases}
    return [
        {
            "title": case.title,
            "settings": case.settings,
            "runs": {seed: waiting[case.title, seed].result() for seed in options.seeds},
        }
        for case in cases
    ]


def table(rows: list[dict[str, Any]], seeds: list[int]) -> str:
    """Returns the rows as a Markdown table."""
    lines = [f"| training | {' | '.join(f'seed {seed}' for seed in seeds)} | mean | minutes a run |"]
    lines.append("| --- |" + " ---: |" * (len(seeds) + 2))
    for row in rows:
        runs = [row["runs"][seed] for seed in seeds]
        cells = [f"{one['accuracy']:.4f}" if "accuracy" in one else "failed" for one in runs]
        whole = [one for one in runs if "accuracy" in one]
        mean = f"{statistics.mean(one['accuracy'] for one in whole):.4f}" if whole else ""
        minutes = f"{statistics.median(one['seconds'] for one in whole) / 60:.1f}" if whole else ""
        lines.append(f"| {row['title']} | {' | '.join(cells)} | {mean} | {minutes} |")
    return "\n".join(lines)


def main() -> None:
    """Trains, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", default="tfds:cifar10", metavar="SPEC")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    parser.add_argument("--width", type=int, default=16, metavar="N")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument("--only", metavar="TEXT", help="rows whose title holds TEXT")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="runs side by side, a core each")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter of PyTorch")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs/accuracy", metavar="DIR")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    cases = [case for case in TABLES[options.table] if not options.only or options.only in case.title]
    facts = {**machine(), "command": " ".join(sys.argv), "epochs": options.epochs, "precision": options.precision}
    rows = measured(cases, options)
    print("{date}, {processor}, {cores} cores, {epochs} epochs, {precision}".format(**facts))
    print(table(rows, options.seeds))
    if options.json:
        from keras_resnet import files

        # Not "rows": a peer that is not installed is no fault of the script.
        files.write_text(options.json, json.dumps({**facts, "trainings": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
