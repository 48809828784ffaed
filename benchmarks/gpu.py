"""ResNet-50 in bfloat16 on one GPU: this package on JAX and on PyTorch against timm compiled, and CIFAR-10 to 94 %.

    python -m benchmarks.gpu [--python PYTHON] [--cifar FILE.npz] [--seconds 510] [--json FILE]

For a machine with an NVIDIA GPU, JAX and PyTorch, and without TensorFlow and network: it needs this repository, Keras
and timm. Training at batch 256 by `model.fit`, inference at batch 1, 8 and 256, in turns, each beside the largest
matrix speed and memory speed that any contestant measured. It ends within --seconds; what comes too late is "not
measured".
FILE.npz holds `x_train`, `y_train`, `x_test` and `y_test` of CIFAR-10. `--device cpu --quick` tries the script.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.contest import ROOT, machine

CONTESTANTS = {"keras_jax": "keras", "keras_torch": "keras", "timm_compiled": "timm", "keras_tensorflow": "keras"}
ROWS = [("train", 256, 20), ("infer", 256, 20), ("infer", 8, 50), ("infer", 1, 100)]
QUICK = [("train", 4, 2), ("infer", 2, 2)]
RESERVE_SECONDS = 150  # for CIFAR-10, where it is asked for
TARGET = 0.94


class Process:
    """A contestant, which answers a request per line."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        library = CONTESTANTS[name]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment |= {"KERAS_BACKEND": name.partition("_")[2]} if library == "keras" else {}
        command = [options.python, "-m", "benchmarks.gpu_contestants", library, "--device", options.device]
        if options.quick:
            command += ["--model=resnet18", "--size=16", "--width=4", "--matrix=64", "--values=4096", "--eager"]
        self.failure = ""
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, request: str) -> dict[str, Any]:
        """Returns the answer; nothing once the process has failed."""
        if self.failure:
            return {}
        assert self.process.stdin and self.process.stdout
        try:
            print(request, file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.failure = f"ended with status {self.process.wait()} at {request!r}"
            print(self.failure, file=sys.stderr)
            return {}
        return json.loads(line)


def measured(processes: dict[str, Process], options: argparse.Namespace, end: float) -> dict[str, Any]:
    """Returns the seconds of every row and contestant, and the ceilings."""
    ceilings = {
        word: max((process.ask(word).get(unit, 0.0) for process in processes.values()), default=0.0)
        for word, unit in (("matrix", "tflops"), ("memory", "gigabytes"))
    }
    rows: dict[str, dict[str, list[float]]] = {}
    for mode, batch, steps in QUICK if options.quick else ROWS:
        times = rows.setdefault(f"{mode}, batch {batch}", {name: [] for name in processes})
        for turn in range(options.rounds):
            for name, process in list(processes.items())[:: 1 if turn % 2 == 0 else -1]:
                if time.monotonic() < end:
                    times[name] += process.ask(f"{mode} {batch} {steps}").values()
    return {"ceilings": ceilings, "rows": rows}


def table(figures: dict[str, Any], multiply_adds: int, kept_bytes: int) -> str:
    """Returns the figures as a Markdown table.

    Args:
        figures: of `measured`.
        multiply_adds: of one image.
        kept_bytes: what one image's inference must at least read and write, in bfloat16.
    """
    matrix, memory = figures["ceilings"]["matrix"] * 1e12, figures["ceilings"]["memory"] * 1e9
    lines = ["| ResNet-50, bfloat16 | contestant | images/s | timm's time / its | of matrix speed | of memory speed |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for title, found in figures["rows"].items():
        batch, factor = int(title.rpartition(" ")[2]), 3 if title.startswith("train") else 1
        reference = statistics.median(found.get("timm_compiled") or [float("nan")])
        for name, seconds in found.items():
            if not seconds:
                lines.append(f"| {title} | {name} | not measured | | | |")
                continue
            median = statistics.median(seconds)
            flops, moved = 2 * factor * batch * multiply_adds / median, factor * batch * kept_bytes / median
            lines.append(
                f"| {title} | {name} | {batch / median:.0f} | {reference / median:.2f} "
                f"| {flops / matrix:.0%} | {moved / memory:.0%} |"
            )
    return "\n".join(lines)


def cost(options: argparse.Namespace) -> tuple[int, int]:
    """Returns multiply-adds of one image, and the bytes of its activations, written and read in bfloat16."""
    model, size, width, stem = ("resnet18", 16, 4, "small") if options.quick else ("resnet50", 224, 64, "conv7")
    program = (
        "import json, keras_resnet\n"
        f"info = keras_resnet.model_info({model!r}, input_shape=({size}, {size}, 3), width={width}, stem={stem!r})\n"
        "print(json.dumps([info.multiply_adds, info.activation_bytes]))\n"  # in float32: twice a bfloat16
    )
    backend = next((name.partition("_")[2] for name in options.contestants if name.startswith("keras")), "torch")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
    done = subprocess.run([options.python, "-c", program], env=environment, capture_output=True, text=True, check=True)
    multiply_adds, activation_bytes = json.loads(done.stdout.splitlines()[-1])
    return multiply_adds, activation_bytes


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS)[:3], metavar="NAME")
    parser.add_argument("--python", default=sys.executable, help="interpreter with JAX, PyTorch, Keras and timm")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=float, default=510.0, metavar="N", help="of the whole script")
    parser.add_argument("--cifar", metavar="FILE", help="CIFAR-10 as .npz: time to 94 %%")
    parser.add_argument("--epochs", type=int, default=15, metavar="N", help="of CIFAR-10")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    start = time.monotonic()
    processes = {name: Process(name, options) for name in options.contestants}
    multiply_adds, kept_bytes = cost(options)
    figures = measured(processes, options, start + options.seconds - (RESERVE_SECONDS if options.cifar else 0))
    chip = "cpu" if options.device == "cpu" else _chip()
    print(f"{machine()['date']}, {chip}, largest speeds: {figures['ceilings']}")
    print(table(figures, multiply_adds, kept_bytes))
    keras = next((process for name, process in processes.items() if name.startswith("keras")), None)
    if options.cifar and keras is not None:
        seconds_left = start + options.seconds - time.monotonic()
        answer = keras.ask(f"cifar {os.path.abspath(options.cifar)} {options.epochs} {seconds_left:.0f}")
        figures["cifar"] = answer
        reached = next((i for i, value in enumerate(answer.get("accuracies", ())) if value >= TARGET), None)
        when = "not reached" if reached is None else f"after {sum(answer['seconds'][: reached + 1]):.0f} s"
        print(f"ResNet-18 on CIFAR-10, 94 %: {when}; accuracies {answer.get('accuracies')}")
    for process in processes.values():
        process.process.kill()
        process.process.wait()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({**machine(), "chip": chip, "measured": figures}, file, indent=1)


def _chip() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip() or "GPU"


if __name__ == "__main__":
    main()
