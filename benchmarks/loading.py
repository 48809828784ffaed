"""Loading the weights of a ResNet-50 from a file: seconds and peak memory, beside keras.applications and timm.

    python -m benchmarks.loading [--peers PYTHON] [--rounds 3] [--quick] [--json FILE]

Each contestant is a fresh process that has imported its library; the clock runs from there until a network holds the
weights of a file. Memory is the growth of the largest resident size (VmHWM) meanwhile, of which the weights themselves
are 98 MiB. All files hold one set of random weights. The peers' interpreter is made by `python -m benchmarks.peers`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.contest import ROOT, machine
from keras_resnet import files

# Contestant -> the file it reads, whether the peers' interpreter runs it, what it imports, and what is timed.
CONTESTANTS = {
    "keras_resnet, our safetensors": (
        "ours.safetensors",
        False,
        "import keras, keras_resnet; keras_resnet.models.build",
        "keras_resnet.models.build(name, weights=path)",
    ),
    "keras_resnet, timm's safetensors": (
        "timm.safetensors",
        False,
        "import keras, keras_resnet; keras_resnet.models.build",
        "keras_resnet.models.build(name, weights=path)",
    ),
    "keras.applications, .weights.h5": (
        "applications.weights.h5",
        False,
        "import keras",
        "keras.applications.ResNet50(weights=None).load_weights(path)",
    ),
    "timm, safetensors": (
        "timm.safetensors",
        True,
        "from benchmarks.peers import without_torchvision; without_torchvision(); import timm, safetensors.torch",
        "timm.create_model(name).load_state_dict(safetensors.torch.load_file(path))",
    ),
}
PROCESS = """
import json, sys, time
path, name = sys.argv[1:]
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
{imports}
before, started = resident(), time.perf_counter()
{load}
print(json.dumps({{"seconds": time.perf_counter() - started, "mebibytes": resident() - before}}))
"""


def make_files(folder: pathlib.Path, name: str) -> None:
    """Writes one set of random weights in each format.

    Args:
        folder: of the files.
        name: of the variant.
    """
    import keras

    import keras_resnet

    model = keras_resnet.models.build(name)
    keras_resnet.weights.save_weights(model, folder / "ours.safetensors")
    keras_resnet.weights.save_weights(model, folder / "timm.safetensors", names="timm")
    keras.applications.ResNet50(weights=None).save_weights(folder / "applications.weights.h5")


def measure(contestant: str, folder: pathlib.Path, name: str, peers: str) -> dict[str, Any]:
    """Returns seconds and MiB of one process, or why it failed.

    Args:
        contestant: a key of `CONTESTANTS`.
        folder: of the files.
        name: of the variant.
        peers: the peers' interpreter.
    """
    file, is_peer, imports, load = CONTESTANTS[contestant]
    python = peers if is_peer else sys.executable
    script = PROCESS.format(imports=imports, load=load)
    try:
        done = subprocess.run([python, "-c", script, folder / file, name], cwd=ROOT, capture_output=True, text=True)
    except OSError as error:
        return {"failure": str(error)}
    if done.returncode:
        return {"failure": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measures in turns, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter of timm")
    parser.add_argument("--quick", action="store_true", help="our contestants with a ResNet-18, to try the script")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the figures to FILE")
    options = parser.parse_args()
    name = "resnet18" if options.quick else "resnet50"
    names = [key for key in CONTESTANTS if not options.quick or key.startswith("keras_resnet")]
    runs: dict[str, list[dict[str, Any]]] = {key: [] for key in names}
    with tempfile.TemporaryDirectory() as folder:
        make_files(pathlib.Path(folder), name)
        for _ in range(options.rounds):
            for key, found in runs.items():
                found.append(measure(key, pathlib.Path(folder), name, options.peers))
    facts = {**machine(), "command": " ".join(sys.argv), "model": name}
    print("{date}, {processor}, {cores} cores, {model}".format(**facts))
    print("| contestant | seconds | MiB |\n| --- | ---: | ---: |")
    results = {}
    for key, found in runs.items():
        failures = [run["failure"] for run in found if "failure" in run]
        if failures:
            results[key] = {"failure": failures[0]}
            print(f"| {key} | {failures[0]} | |")
            continue
        results[key] = {part: statistics.median(run[part] for run in found) for part in ("seconds", "mebibytes")}
        print(f"| {key} | {results[key]['seconds']:.2f} | {results[key]['mebibytes']:.0f} |")
    if options.json:
        files.write_text(options.json, json.dumps({**facts, "contestants": results, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
