"""How long commands take from nothing to their end: fresh processes in turns, medians.

    python -m benchmarks.commands [--rounds 5] [--model resnet18] [--json FILE]

The run of `compare`, `report` and `predict` is a network of three epochs on scikit-learn's digits. `predict` answers
for one JPEG file: by TensorFlow, and by an ONNX file in the run folder.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks.contest import ROOT, machine

PROGRAM = "import sys, keras_resnet_command; sys.exit(keras_resnet_command.main())"


def seconds(words: list[str]) -> float:
    """Returns how long a command takes."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 2):
        raise RuntimeError(done.stderr)
    return time.perf_counter() - start


def commands(folder: pathlib.Path, model: str) -> dict[str, list[str]]:
    """Returns title -> words of each command; makes what they need."""
    import keras_resnet
    from keras_resnet import training

    plain, exported = folder / "plain", folder / "exported"
    training.fit("quick", model=model, out=plain, overrides={"train.epochs": 3}, verbose=0)
    shutil.copytree(plain, exported)
    keras_resnet.export(exported, format="onnx", out=exported / "best.onnx")
    picture = folder / "picture.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), "uint8")).save(picture)
    return {
        "--help": ["--help"],
        "list": ["list"],
        "recipes": ["recipes"],
        "a mistyped name": ["predict", str(folder / "plian"), str(picture)],
        "info": ["info", model],
        "compare": ["compare", str(plain), str(exported)],
        "report": ["report", str(plain), "--out", str(folder / "page.html")],
        "predict, TensorFlow": ["predict", str(plain), str(picture)],
        "predict, an export": ["predict", str(exported), str(picture)],
    }


def main() -> None:
    """Prints the table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--model", default="resnet18", metavar="NAME")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = commands(pathlib.Path(place), options.model)
        times: dict[str, list[float]] = {title: [] for title in rows}
        for _ in range(options.rounds):
            for title, words in rows.items():
                times[title].append(seconds(words))
                (pathlib.Path(place) / "page.html").unlink(missing_ok=True)
    medians = {title: statistics.median(each) for title, each in times.items()}
    for title, median in medians.items():
        print(f"{title:<22}{median:>8.2f} s")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "seconds": medians}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
