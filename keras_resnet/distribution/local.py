"""Several processes of one training on this machine, each with its place in it and a share of the cores."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from keras_resnet.errors import BadValue
from keras_resnet.standard_error import CHATTER

LAST_LINES = 20
# With -P, what lies in the folder of the user is not a module of ours.
COMMAND = (sys.executable, "-P", "-m", "keras_resnet")
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
# What a scheduler sends to the process that it started; Ctrl-C reaches all processes of a terminal by itself.
PASSED_ON = ("SIGTERM", "SIGUSR1", "SIGHUP")


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nobody listens on.

    Args:
        count: how many.
    """
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def module_paths() -> str:
    """Returns `PYTHONPATH` for a process that is to find this package where this process found it, from any folder."""
    root = pathlib.Path(__file__).resolve().parents[2]
    return os.pathsep.join(filter(None, [str(root), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))


def _end_with_parent() -> None:
    """Asks the system to send this process SIGTERM when the one that started it ends, however it ends (prctl(2))."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run_together(count: int, words: Sequence[str]) -> int:
    """Runs a command of this package in several processes that train together, and waits for them.

    What the first one prints is shown; of the others, the last words of one that ends otherwise than the first.

    Args:
        count: how many, >= 2.
        words: of the command line, after its name.

    Returns:
        The exit status: that of the first process that failed, else 0.

    Raises:
        ValueError: this process has peers already.
    """
    in_step = "SLURM_STEP_NODELIST" in os.environ and os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"
    if os.environ.get("TF_CONFIG") or in_step:  # the only task of a step has no peers
        raise BadValue(
            f"--processes {count} was given to a process that has peers already, by TF_CONFIG or Slurm. Allowed is one "
            "of both. Leave the option out."
        )
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    errors = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(count)]  # noqa: SIM115 - for the processes
    processes = []
    for index in range(count):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {"TF_NUM_INTRAOP_THREADS": threads, **os.environ, "PYTHONPATH": module_paths()}
        processes.append(
            subprocess.Popen(
                [*COMMAND, *words],
                env={**environment, "TF_CONFIG": json.dumps(task)},
                stdout=None if index == 0 else subprocess.DEVNULL,
                stderr=None if index == 0 else errors[index],
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        )

    def pass_on(number: int, frame: Any) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    numbers = [getattr(signal, name) for name in PASSED_ON if hasattr(signal, name)]
    handlers = {number: signal.signal(number, pass_on) for number in numbers}
    handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        statuses = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for index, status in enumerate(statuses):
        if status != statuses[0]:
            errors[index].seek(0)
            lines = [line for line in errors[index] if not CHATTER.match(line)]
            tail = "".join(lines[-LAST_LINES:])
            print(f"Process {index + 1} of {count} ended with status {status}. {tail}", file=sys.stderr, end="")
    failed = [status for status in statuses if status]
    return 0 if not failed else failed[0] if failed[0] > 0 else 128 - failed[0]
