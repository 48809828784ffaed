"""Runs contestants side by side, each in its own process, in turns; medians, a table and JSON.

All processes stay alive, built and warm, and wait for their turn without using the processor. A round asks each for a
few steps, every other round in the opposite order, so that whatever else the machine does falls on all of them.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]


# Contestants on other Keras backends than TensorFlow.
BACKENDS = {"keras_resnet_torch": "torch", "keras_resnet_jax": "jax"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A network and a mode of a contest.

    Attributes:
        title: for the table.
        model: "resnet18" or "resnet50".
        mode: "train" or "infer".
        size: of the square images, in pixels.
        width: channels of the first residual stage.
        batch: images per step.
        contestants: names from `benchmarks.contestants`; the first one that runs is compared with the others.
    """

    title: str
    model: str
    mode: str
    size: int
    width: int
    batch: int
    contestants: tuple[str, ...]

    def multiply_adds(self) -> int:
        """Returns the multiply-adds of one image, from the built graph of this package's network."""
        import keras_resnet

        info = keras_resnet.model_info(
            self.model,
            input_shape=(self.size, self.size, 3),
            width=self.width,
            stem="small" if self.size < 64 else "conv7",
        )
        return info.multiply_adds


class Contestant:
    """A process that answers with the seconds of its steps."""

    def __init__(self, name: str, row: Row, options: argparse.Namespace, warm_up: int = 3) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.failure = ""
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": str(ROOT),
            "KERAS_BACKEND": BACKENDS.get(name, "tensorflow"),
        }
        if options.isa == "avx2":
            environment |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
            if name not in ("keras_resnet", "keras_resnet_fused", "keras_resnet_recompute"):
                environment["TF_ENABLE_ONEDNN_OPTS"] = "0"  # TensorFlow's default on a CPU with AVX2 alone
        if name == "keras_resnet_stock":
            environment["KERAS_RESNET_KERNELS"] = "0"
        ours = name.startswith("keras_resnet") and BACKENDS.get(name) != "torch"  # which the peers have
        command = [options.python if ours else options.peers, "-m", "benchmarks.contestants", name]
        command += ["--warm-up", str(warm_up)]
        for field in ("mode", "model", "size", "width", "batch"):
            command += [f"--{field}", str(getattr(row, field))]
        command += ["--dtype", options.dtype]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        try:
            self.process: subprocess.Popen[str] | None = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
            )
        except OSError as error:
            self.process, self.failure, self.ready = None, f"{command[0]}: {error.strerror}", {}
            return
        self.ready = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process and self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            lines = [text.strip() for text in self.errors.read().splitlines() if text.strip()]
            self.failure = lines[-1] if lines else f"exit status {self.process.returncode}"
            return {}
        return json.loads(line)

    def ask(self, request: str) -> dict[str, Any]:
        """Returns the answer to a request; nothing, once the process has failed."""
        if self.failure or not (self.process and self.process.stdin):
            return {}
        with contextlib.suppress(BrokenPipeError):
            print(request, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        if self.process:
            if self.process.stdin:
                self.process.stdin.close()
            self.process.kill()
            self.process.wait()
        self.errors.close()


def contest(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of one row."""
    contestants: list[Contestant] = []
    try:
        for name in row.contestants:
            contestants.append(Contestant(name, row, options))
            state = contestants[-1].failure or f"ready after {contestants[-1].ready['ready_seconds']:.0f} s"
            print(f"{row.title}: {name} {state}", file=sys.stderr, flush=True)
        peaks: dict[str, list[float]] = {}
        for turn in range(options.rounds):
            for contestant in contestants if turn % 2 == 0 else contestants[::-1]:
                answer = contestant.ask(str(options.steps))
                contestant.seconds += answer.get("seconds", [])
                if contestant.name in (row.contestants[0], "timm_eager", "timm_channels_last") and answer:
                    peaks.setdefault(contestant.name, []).append(contestant.ask("peak")["gflops"])
        return _figures(row, contestants, max((max(values) for values in peaks.values()), default=0.0))
    finally:
        for contestant in contestants:
            contestant.close()


def _figures(row: Row, contestants: list[Contestant], peak: float) -> dict[str, Any]:
    flops = row.multiply_adds() * 2 * row.batch * (3 if row.mode == "train" else 1)
    results = {}
    for contestant in contestants:
        if contestant.failure or not contestant.seconds:
            results[contestant.name] = {"failure": contestant.failure or "no answer"}
            continue
        median = statistics.median(contestant.seconds)
        results[contestant.name] = {
            "median_seconds": median,
            "images_per_second": row.batch / median,
            "gflops": flops / median / 1e9,
            "share_of_peak": flops / median / 1e9 / peak if peak else None,
            "quartiles_seconds": statistics.quantiles(contestant.seconds, n=4) if len(contestant.seconds) > 1 else None,
            "seconds": contestant.seconds,
            **contestant.ready,
        }
    return {**dataclasses.asdict(row), "matrix_peak_gflops": peak, "results": results}


def table(figures: list[dict[str, Any]]) -> str:
    """Returns the figures as a Markdown table; each is compared with the first of its row that did not fail."""
    lines = ["| network | contestant | images/s | reference / it | GFLOP/s | share of the peak |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    failures = []
    for row in figures:
        reference = next((name for name in row["contestants"] if "failure" not in row["results"][name]), None)
        for name, result in row["results"].items():
            if "failure" in result:
                lines.append(f"| {row['title']} | {name} | failed | | | |")
                failures.append(f"{row['title']}, {name}: {result['failure']}")
                continue
            ratio = f"{result['median_seconds'] / row['results'][reference]['median_seconds']:.2f}"
            ratio = "reference" if name == reference else ratio
            share = f"{result['share_of_peak']:.0%}" if result["share_of_peak"] else ""
            lines.append(
                f"| {row['title']} | {name} | {result['images_per_second']:.1f} | {ratio} "
                f"| {result['gflops']:.0f} | {share} |"
            )
    return "\n".join([*lines, *failures])


def machine() -> dict[str, Any]:
    """Returns the machine and versions that the figures depend on."""
    model, flags = platform.processor(), ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            facts = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
        model, flags = facts.get("model name", model), facts.get("flags", "")
    except OSError:
        pass
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "date": str(datetime.date.today()),
        "processor": model,
        "cores": os.cpu_count(),
        "instructions": [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if flag in flags.split()],
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def main(description: str, rows: list[Row], quick: list[Row]) -> None:
    """Reads the options, runs the rows, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, metavar="N")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="steps a turn, at least 2")
    parser.add_argument("--only", metavar="TEXT", help="rows whose title holds TEXT")
    parser.add_argument("--contestants", nargs="+", metavar="NAME", help="these alone, the first one is compared")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: mixed precision")
    parser.add_argument("--isa", choices=("native", "avx2"), default="native", help="avx2: as on an older processor")
    parser.add_argument("--python", default=sys.executable, help="interpreter of this package's contestants")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter of the others")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    if options.steps < 2:
        parser.error(f"--steps {options.steps} leaves nothing to time. The first of a turn starts the clock. Take 2.")
    chosen = [row for row in (quick if options.quick else rows) if not options.only or options.only in row.title]
    if options.contestants:
        from benchmarks.contestants import NAMES

        for name in options.contestants:
            if name not in NAMES:
                parser.error(f"--contestants {name} is not known. Allowed are {', '.join(NAMES)}. Name some of these.")
        chosen = [dataclasses.replace(row, contestants=tuple(options.contestants)) for row in chosen]
    facts = {**machine(), "isa": options.isa, "dtype": options.dtype, "command": " ".join(sys.argv)}
    figures = [contest(row, options) for row in chosen]
    print("{date}, {processor}, {cores} cores ({isa}), {dtype}".format(**facts))
    used = {
        name: text
        for row in figures
        for result in row["results"].values()
        for name, text in result.get("versions", {}).items()
    }
    print(", ".join(f"{name} {text}" for name, text in sorted(used.items())))
    print(table(figures))
    if options.json:
        from keras_resnet import files

        files.write_text(options.json, json.dumps({**facts, "versions": used, "rows": figures}, indent=1) + "\n")


def told_by(code: str, *words: str, **environment: str) -> dict[str, Any]:
    """Returns the JSON object that a process prints last; the script ends where the process fails.

    Args:
        code: Python, run by this interpreter in the root of the checkout.
        words: its arguments.
        environment: variables beside those of this process.
    """
    settings = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
