"""Tries to break runs, and counts: kills, damaged states, full disks; and what saving costs, in time and over time.

    python -m benchmarks.reliability kills --runs 10 --kills 50
    python -m benchmarks.reliability writer --kills 200
    python -m benchmarks.reliability damage
    python -m benchmarks.reliability disk
    python -m benchmarks.reliability cost
    python -m benchmarks.reliability fits --fits 60
    python -m benchmarks.reliability epochs --epochs 300

`kills` strikes real trainings with SIGKILL and compares all their variables with those of one that was left alone;
`writer` strikes a process that does nothing but save, slowed down between its system calls; `damage` flips, cuts and
empties a state; `disk` trains on a file system of a few MiB (root alone may mount one) and under limits of file sizes;
`fits` and `epochs` follow memory, threads and open files of one process.
"""

import argparse
import contextlib
import gc
import hashlib
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from benchmarks.contest import machine
from keras_resnet import ResNet18, ResNet50, files, training
from keras_resnet.errors import NoRoom
from keras_resnet.training import state as state_files
from keras_resnet.training.state import Progress, SaveState, read_newest, state_variables

ROOT = pathlib.Path(__file__).resolve().parents[1]
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Everything that draws random numbers or has its own state.
RANDOM = {
    "model.width": 4,
    "model.dropout_rate": 0.2,
    "model.drop_path_rate": 0.1,
    "augment.erasing": 0.3,
    "augment.mixup": 0.2,
    "optimizer.ema_momentum": 0.9,
    "schedule.name": "cosine",
    "train.epochs": 3,
    "train.batch_size": 128,
    "train.save_every": "2",
}
TRAINING = """
import json, sys, time, keras
from keras_resnet import training
class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("step", flush=True); time.sleep(float(sys.argv[3]))
training.fit("quick", out=sys.argv[1], resume=True, overrides=json.loads(sys.argv[2]), callbacks=[Slow()], verbose=0)
"""


def start(folder: pathlib.Path, words: dict[str, Any], pause: float) -> subprocess.Popen:
    """Starts a training in its own process."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", "-c", TRAINING, str(folder), json.dumps(words), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def digest(folder: pathlib.Path) -> str:
    """Returns a hash over all variables of the newest state."""
    state = read_newest(folder / "last")
    assert state is not None
    description, values = state
    whole = hashlib.sha256(repr((description["variables"], description["epochs"])).encode())
    for value in values:
        whole.update(value.tobytes())
    return whole.hexdigest()


def kills(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """R1: SIGKILL at random moments of trainings."""
    rng, equal, struck, lost = random.Random(options.seed), 0, 0, []
    for run in range(options.runs):
        words = {**RANDOM, "train.precision": PRECISIONS[run % len(PRECISIONS)], "train.seed": run}
        whole, cut = folder / f"whole-{run}", folder / f"cut-{run}"
        assert start(whole, words, 0).wait() == 0
        for _ in range(options.kills // options.runs):
            process = start(cut, words, 0.05)
            assert process.stdout is not None
            steps = 0
            if process.stdout.readline():
                deadline = time.monotonic() + rng.uniform(0, 0.4)
                steps = 1
                while time.monotonic() < deadline and process.poll() is None:
                    time.sleep(0.005)
            struck += process.poll() is None
            process.kill()
            steps += process.stdout.read().count("step")
            process.wait()
            lost.append(steps)
        assert start(cut, words, 0).wait() == 0
        equal += digest(cut) == digest(whole)
        print(f"  run {run}: {'equal' if digest(cut) == digest(whole) else 'DIFFERENT'}", flush=True)
    return {"runs": options.runs, "kills": struck, "runs that ended with the same bits": equal}


def writer(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """R3: SIGKILL inside of the writer of states."""
    rng, recovered, behind = random.Random(options.seed), 0, 0
    values = [("kernel", ("kernel", "(512, 512)", "float32"), np.ones((512, 512), "float32"))]
    number = 0
    for _ in range(options.kills):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            for name in ("fsync", "replace", "unlink", "chmod"):
                real = getattr(os, name)
                setattr(os, name, lambda *words, real=real: (time.sleep(0.002), real(*words))[1])
            saver = SaveState(folder, Progress(), {})
            for epoch in range(number + 1, number + 1000):
                state = {**Progress(epochs=epoch).to_state(), "identity": {}}
                saver._write(state_files.name_of(epoch), values, state)
                os.write(writing, epoch.to_bytes(4, "little"))
            os._exit(0)
        os.close(writing)
        time.sleep(rng.uniform(0.01, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as told:
            content = told.read()
        committed = int.from_bytes(content[-4:], "little") if content else number
        files.remove_unfinished(folder, ("epoch-*",))
        stored = read_newest(folder)
        number = 0 if stored is None else stored[0]["epochs"]
        recovered += number >= committed
        behind = max(behind, committed - number)
        # One that was killed between its rename and the removal of old states leaves one more, until the next save.
        assert all(path.name.startswith("epoch-") for path in folder.iterdir()), sorted(folder.iterdir())
    return {"kills": options.kills, "recovered": recovered, "most states lost": behind}


def damage(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """R7: a damaged newest state beside a good one."""
    words = {**RANDOM, "train.epochs": 2, "train.save_every": "epoch"}
    training.fit("quick", out=folder / "run", overrides=words, verbose=0)
    newest, before = state_files.newest_first(folder / "run" / "last")[:2]
    content, rng = newest.read_bytes(), np.random.default_rng(options.seed)
    changed = {"cut": [content[:place] for place in rng.integers(0, len(content), 40)], "flip": [], "zeros": []}
    for place in rng.integers(0, len(content), 150):
        changed["flip"].append(
            content[:place] + bytes([content[place] ^ (1 << rng.integers(8))]) + content[place + 1 :]
        )
    for place in rng.integers(0, len(content) - 4096, 60):
        changed["zeros"].append(content[:place] + bytes(4096) + content[place + 4096 :])
    expected = state_files.read_state(before)[0]["epochs"]
    tried = detected = 0
    for made in (bytes_ for group in changed.values() for bytes_ in group):
        if made == content:
            continue
        newest.write_bytes(made)
        tried += 1
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            state = read_newest(folder / "run" / "last")
        detected += (
            state is not None and state[0]["epochs"] == expected and any("Not usable" in str(w.message) for w in told)
        )
    return {"tried": tried, "found, and the one before used": detected, "loaded in silence": tried - detected}


@contextlib.contextmanager
def small_disk(path: pathlib.Path, kib: int) -> Iterator[Callable[[int], None]]:
    """Mounts a file system of that many KiB; yields what changes its size."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", path], check=True)
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", path], check=True) and None
    finally:
        subprocess.run(["umount", path], check=True)


def disk(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """R6: no room in a training, and limits of file sizes."""
    words = {**RANDOM, "train.save_every": "epoch"}
    whole = training.fit("quick", out=folder / "whole", overrides=words, verbose=0)
    size = state_files.newest_first(whole.path / "last")[0].stat().st_size
    tried = num_errors = num_kept = equal = 0
    for share in (0.25, 0.5, 0.75):  # of a state, as a limit of file sizes
        path = folder / f"epoch-{round(100 * share):06d}.safetensors"
        path.write_bytes(b"good")
        earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * size), earlier[1]))
        try:
            values = [("x", ("x", "", ""), np.zeros(size // 4, "float32"))]
            state_files.write_state(path, values, {})
        except NoRoom as error:
            num_errors += str(path) in str(error) and "free" in str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
        tried, num_kept = tried + 1, num_kept + (path.read_bytes() == b"good")
    if os.geteuid() == 0:
        for share in (1.2, 1.8, 2.4):  # of the states of three epochs, as a disk
            place = folder / f"disk-{share}"
            with small_disk(place, int(share * size / 1024) + 300) as resize:
                tried += 1
                try:
                    training.fit("quick", out=place / "run", overrides=words, verbose=0)
                except NoRoom as error:
                    num_errors += "free" in str(error)
                state = read_newest(place / "run" / "last")
                num_kept += state is not None
                resize(64 * 1024)
                again = training.fit(out=place / "run", resume=True, verbose=0)
                equal += digest(again.path) == digest(whole.path)
    return {
        "tried": tried,
        "one error with the path": num_errors,
        "earlier files whole": num_kept,
        "resumed to the same bits": equal,
    }


def cost(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Time of a save: the copy, for which the training stops, and the writing in the background."""
    rows: dict[str, Any] = {}
    for make, width in ((ResNet18, 64), (ResNet50, 64))[: 1 if options.quick else 2]:
        model = make(weights=None, classes=1000, width=4 if options.quick else width)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
        copies, writes = [], []
        for _ in range(5):
            start = time.perf_counter()
            values = state_files.copy_values(state_variables(model))
            copied = time.perf_counter()
            state_files.write_state(folder / "epoch-000001.safetensors", values, {"epochs": 1})
            copies.append(copied - start)
            writes.append(time.perf_counter() - copied)
        rows[model.name] = {
            "MiB": round((folder / "epoch-000001.safetensors").stat().st_size / 2**20, 1),
            "copy s": round(float(np.median(copies)), 3),
            "write s": round(float(np.median(writes)), 3),
            "share of a minute, copy": f"{np.median(copies) / 60:.3%}",
            "interval for 2 %, s": round(max(60.0, (np.median(copies) + np.median(writes)) / 0.02), 1),
        }
    return rows


def observed() -> tuple[float, int, int]:
    """Returns MiB of resident memory, threads and open files of this process."""
    status = pathlib.Path("/proc/self/status").read_text("ascii")
    values = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if len(line.split()) > 1}
    return int(values["VmRSS"]) / 1024, int(values["Threads"]), len(os.listdir("/proc/self/fd"))


def trends(rows: list[tuple[float, int, int]]) -> dict[str, Any]:
    """Returns how much each figure grows from one row to the next, over the second half."""
    later = np.array(rows[len(rows) // 2 :], float)
    fitted = np.polyfit(np.arange(len(later)), later, 1)[0]
    names = ("MiB of memory", "threads", "open files")
    return {f"{name}, slope": round(float(slope), 4) for name, slope in zip(names, fitted, strict=True)}


def stock_fit(number: int) -> None:
    """Trains the same network a little with Keras alone."""
    keras.utils.set_random_seed(number)
    model = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=10)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(number)
    x, y = rng.uniform(size=(256, 8, 8, 1)).astype("float32"), rng.integers(0, 10, 256)
    model.fit(x, y, batch_size=128, epochs=1, validation_data=(x, y), verbose=0)


def fits(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Many trainings in one process: this package's, and Keras's own beside it in another process."""
    if options.stock:
        one: Callable[[int], object] = stock_fit
    else:
        words = {"model.width": 4, "train.epochs": 1, "train.batch_size": 512}
        one = lambda number: training.fit("quick", out=folder / str(number), overrides=words, verbose=0)  # noqa: E731
    rows = []
    for number in range(options.fits):
        one(number)
        if options.clear:
            keras.backend.clear_session()
        gc.collect()
        rows.append(observed())
    return {"fits": options.fits, "kind": "stock" if options.stock else "training.fit", **trends(rows)}


def epochs(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """One training of many short epochs with validation."""
    rows: list[tuple[float, int, int]] = []
    words = {"model.width": 4, "train.epochs": options.epochs, "train.batch_size": 512}
    look = lambda epoch, figures: rows.append(observed())  # noqa: E731
    training.fit("quick", out=folder / "run", overrides=words, verbose=0, report=look)
    return {"epochs": options.epochs, **trends(rows)}


TRIALS = {f.__name__: f for f in (kills, writer, damage, disk, cost, fits, epochs)}


def main() -> None:
    """Runs one kind of trial and prints its counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=TRIALS)
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="of `kills`")
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="of `kills`, over its runs, and `writer`")
    parser.add_argument("--fits", type=int, default=60, metavar="N")
    parser.add_argument("--epochs", type=int, default=300, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stock", action="store_true", help="`fits` of Keras alone")
    parser.add_argument("--clear", action="store_true", help="clear_session after each of `fits`")
    parser.add_argument("--quick", action="store_true", help="a small network for `cost`")
    parser.add_argument("--json", metavar="FILE", help="write the counts to FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = TRIALS[options.trial](options, pathlib.Path(folder))
    print(f"{options.trial}, seed {options.seed}")
    for name, value in result.items():
        print(f"  {name:<40}{value}")
    if options.json:
        text = json.dumps(
            {"machine": machine(), "seed": options.seed, "trial": options.trial, "found": result}, indent=2
        )
        files.write_text(options.json, text + "\n")


if __name__ == "__main__":
    main()
