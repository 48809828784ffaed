"""Processes that train together: images/s against their number, and what summing the gradients costs.

    python -m benchmarks.distribution --json figures.json

Each process has one core, and the batch is divided among them; one process with one core and one with as many cores
as there are processes stand beside. Turns A B C A B C, medians. `sums` is the time of summing the gradients alone, for
networks of several sizes, over loopback, and as root on Linux over networks of `--rates` between two network
namespaces. A ring of two sends the gradients once each way: the least time there is their size by the rate.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.contest import machine
from benchmarks.hosts import Host, two_hosts, why_not
from keras_resnet.distribution.launch import free_ports

# What each process runs: a training of `steps` steps that prints the seconds of each.
SCRIPT = """
import json, os, sys
cores, out, words = json.loads(sys.argv[1])
os.sched_setaffinity(0, cores)
import time
import keras, numpy as np
from keras_resnet import training

class Clock(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.times = []
    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())

clock = Clock()
kind = "multiworker" if "TF_CONFIG" in os.environ else "none"
training.fit("quick", out=out, overrides=words, distribution=kind, callbacks=[clock], score=(), verbose=0)
print(json.dumps([later - earlier for earlier, later in zip(clock.times[3:], clock.times[4:])]))
"""
SUMS = """
import json, os, sys, time, statistics
import keras, numpy as np, tensorflow as tf
from keras_resnet import ResNet18, ResNet50
from keras_resnet.distribution import join
group = join()
found = {}
for name, build, width in json.loads(sys.argv[1]):
    model = {"ResNet18": ResNet18, "ResNet50": ResNet50}[build](weights=None, width=width)
    gradients = [tf.ones(weight.shape) for weight in model.trainable_weights]
    total = tf.function(lambda values: group.strategy.run(lambda *parts: group.sum_of(parts), tuple(values)))
    total(gradients)
    took = []
    for _ in range(int(sys.argv[2])):
        started = time.perf_counter()
        total(gradients)
        took.append(time.perf_counter() - started)
    size = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) * 4 / 2**20
    took_agree = []
    for _ in range(int(sys.argv[2])):
        started = time.perf_counter()
        group.agree(None, False, 1)
        took_agree.append(time.perf_counter() - started)
    found[name] = {"MiB": size, "s": statistics.median(took), "agree": statistics.median(took_agree)}
print(json.dumps(found))
"""


def together(count: int, script: str, words: list[list[str]], hosts: Sequence[Host] = ()) -> list[Any]:
    """Returns the last line printed by each of that many processes.

    Args:
        count: of processes.
        script: that each runs.
        words: after it, of each.
        hosts: where each runs; this machine by default.
    """
    hosts = hosts or [("127.0.0.1", [])] * count
    addresses = [f"{host}:{port}" for (host, _), port in zip(hosts, free_ports(count), strict=True)]
    processes = []
    for index in range(count):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("TF_CONFIG", None)
        if count > 1:
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment["TF_CONFIG"] = json.dumps(task)
        command = [*hosts[index][1], sys.executable, "-W", "ignore", "-c", script, *words[index]]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    answers = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("A process failed; its words stand above.")
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def over_networks(rates: Sequence[str], networks: list[Any], repeats: str) -> dict[str, Any]:
    """Returns the output of `SUMS` on two hosts, by the rate of the network between them.

    Args:
        rates: such as "1gbit".
        networks: rows for the script.
        repeats: of each sum.
    """
    rows = {}
    for rate in rates:
        with two_hosts() as (hosts, cable):
            cable.limit(rate)
            rows[rate] = together(2, SUMS, [[json.dumps(networks), repeats]] * 2, hosts)[0]
    return rows


def bits_of(rate: str) -> float:
    """Returns bits a second.

    Args:
        rate: a whole number with "gbit" or "mbit".
    """
    return int(rate[:-4]) * {"gbit": 1e9, "mbit": 1e6}[rate[-4:]]


def main() -> None:
    """Prints the tables and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=16, help="of ResNet-18 on the digits")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=20, help="of each sum")
    parser.add_argument("--rates", default="10gbit 1gbit", help="of networks between two hosts")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    count = min(2, len(cores))
    words = {"model.width": 4 if options.quick else options.width, "train.batch_size": options.batch, "train.epochs": 1}
    layouts = {
        "1 process, 1 core": [cores[:1]],
        f"1 process, {count} cores": [cores[:count]],
        f"{count} processes, 1 core each": [[core] for core in cores[:count]],
    }
    seconds: dict[str, list[float]] = {name: [] for name in layouts}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(1 if options.quick else options.rounds):
            for number, (name, layout) in enumerate(layouts.items()):
                out = f"{folder}/{turn}-{number}"
                arguments = [[json.dumps([mine, out, words])] for mine in layout]
                seconds[name].append(statistics.median(together(len(layout), SCRIPT, arguments)[0]))
    print(f"\nResNet-18 of width {words['model.width']} on the digits, batch {options.batch} in all, {machine()}")
    print("| layout | s a step | images/s | against 1 core |\n| --- | ---: | ---: | ---: |")
    rows = {name: statistics.median(values) for name, values in seconds.items()}
    base = rows["1 process, 1 core"]
    for name, step in rows.items():
        print(f"| {name} | {step:.4f} | {options.batch / step:,.0f} | {base / step:.2f} |")
    networks = [["ResNet-18, width 16", "ResNet18", 16], ["ResNet-18", "ResNet18", 64], ["ResNet-50", "ResNet50", 64]]
    networks = networks[:1] if options.quick else networks
    repeats = "2" if options.quick else str(options.repeats)
    sums = together(2, SUMS, [[json.dumps(networks), repeats]] * 2)[0]
    print("\n| gradients of | MiB | summed over 2 processes, s | MiB/s | agreeing on a batch, s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, row in sums.items():
        print(f"| {name} | {row['MiB']:.1f} | {row['s']:.4f} | {row['MiB'] / row['s']:,.0f} | {row['agree']:.5f} |")
    over = {} if why_not() else over_networks(options.rates.split(), networks[-2:], repeats)
    if over:
        print("\n| gradients of | network | summed over 2 hosts, s | size by rate, s |\n| --- | ---: | ---: | ---: |")
    for rate, found in over.items():
        for name, row in found.items():
            print(f"| {name} | {rate} | {row['s']:.3f} | {row['MiB'] * 2**23 / bits_of(rate):.3f} |")
    if options.json:
        figures = {"machine": machine(), "seconds": seconds, "sums": sums, "words": words, "over networks": over}
        options.json.write_text(json.dumps(figures, indent=2), "utf-8")


if __name__ == "__main__":
    main()
