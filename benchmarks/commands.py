"""How long commands take from nothing to their end: fresh processes in turns, medians.

    python -m benchmarks.commands [--rounds 5] [--model resnet18] [--json FILE]

The run of `compare`, `report` and `predict` is a network of three epochs on scikit-learn's digits. `predict` answers
for one JPEG file: by TensorFlow, and by an ONNX file in the run folder. A worker of a search is timed to its first own
line: as a new process, and as a fork of one that has loaded TensorFlow.
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


def worker_seconds(folder: pathlib.Path, rounds: int) -> dict[str, float]:
    """Returns how long a worker of a search takes to begin: the median of some, the first fork left out."""
    from keras_resnet.distribution.launch import module_paths
    from keras_resnet.tuning.fork_server import ForkServer

    script, mark, log = folder / "worker.py", folder / "mark", folder / "log"
    script.write_text("import sys, time, keras_resnet.tuning.worker\nopen(sys.argv[1], 'w').write(repr(time.time()))\n")
    environment = {**os.environ, "PYTHONPATH": module_paths(), "TF_CPP_MIN_LOG_LEVEL": "3"}
    server = ForkServer(log, environment)
    times: dict[str, list[float]] = {"a worker, a new process": [], "a worker, forked": []}
    for _ in range(rounds + 1):
        for title, begun in times.items():
            start = time.time()
            with open(log, "a", encoding="utf-8") as output:
                if title.endswith("forked"):
                    server.start([os.fspath(script), os.fspath(mark)], output).wait()
                else:
                    command = [sys.executable, "-P", os.fspath(script), os.fspath(mark)]
                    subprocess.run(command, env=environment, stdout=output, stderr=output, check=True)
            begun.append(float(mark.read_text()) - start)
    server.close()
    return {title: statistics.median(begun[1:]) for title, begun in times.items()}


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
        workers = worker_seconds(pathlib.Path(place), options.rounds)
    medians = {**{title: statistics.median(each) for title, each in times.items()}, **workers}
    for title, median in medians.items():
        print(f"{title:<26}{median:>8.2f} s")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "seconds": medians}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
