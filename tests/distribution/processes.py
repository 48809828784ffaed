"""Several processes on this machine that train together, as `TF_CONFIG` tells them."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

from keras_resnet.distribution.launch import free_ports

ROOT = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def started(count, command, words_of=lambda index: (), hosts=None):
    """Gives that many processes of a command of Python, which are killed in the end; one alone has no peers.

    Each runs on this machine, or on one of `hosts`, pairs of an address and the words before a command that runs there.
    """
    hosts = hosts or [("127.0.0.1", [])] * count
    addresses = [f"{host}:{port}" for (host, _), port in zip(hosts, free_ports(count), strict=True)]
    processes = []
    for index in range(count):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("TF_CONFIG", None)
        if count > 1:
            environment["TF_CONFIG"] = json.dumps(task)
        processes.append(
            subprocess.Popen(
                [*hosts[index][1], sys.executable, "-W", "ignore", *command, *words_of(index)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def ended(processes, status=0):
    """What the processes printed, after all of them ended with a status."""
    answers = [process.communicate(timeout=600) for process in processes]
    for process, (_, err) in zip(processes, answers, strict=True):
        assert process.returncode == status, err[-3000:]
    return answers
