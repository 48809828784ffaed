"""Starting the processes of a training: on this machine, under Slurm, or by Ray."""

import contextlib
import ctypes
import json
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from keras_resnet.errors import BadValue, require
from keras_resnet.standard_error import CHATTER

LAST_LINES = 20
# With -P, what lies in the folder of the user is not a module of ours.
COMMAND = (sys.executable, "-P", "-m", "keras_resnet")
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
# What a scheduler sends to the process that it started; Ctrl-C reaches all processes of a terminal by itself.
PASSED_ON = ("SIGTERM", "SIGUSR1", "SIGHUP")


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def module_paths() -> str:
    """Returns `PYTHONPATH` for a process that is to find this package where this process found it, from any folder."""
    root = pathlib.Path(__file__).resolve().parents[2]
    return os.pathsep.join(filter(None, [str(root), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))


def _terminate_with_parent() -> None:
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
                preexec_fn=_terminate_with_parent if sys.platform == "linux" else None,
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


# A training whose node died begins again so often, on the nodes that are left.
RESTARTS = 2
_PDEATHSIG = 1


def connect(address: str | None) -> Any:
    """Returns the module `ray`, joined to a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = require("ray", "A cluster", "ray")
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=True, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BadValue(
                f"--address {address!r} leads to no Ray cluster ({str(error).splitlines()[0]}). Allowed is 'auto' on a "
                "machine of one, or the address that `ray start` prints. Start it, or correct the address."
            ) from error
    return ray


def on_this_node(ray: Any) -> Any:
    """Returns the scheduling strategy that keeps an actor on the machine of this process."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def check_resources(ray: Any, cpus: float, gpus: float) -> None:
    """Raises ValueError where no node of the cluster has what a process asks for, which would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise BadValue(
            f"A process asks for {cpus:g} CPUs and {gpus:g} GPUs, and no node of the Ray cluster has them. Its nodes "
            f"have: {there}. Ask for less, or add a node."
        )


def _kill_with_parent() -> None:
    """Has the system end this process when the one that started it ends, as it does with its node."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


class Member:
    """An actor: one process of a training, on its node."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def send(self, number: int) -> None:
        """Sends a signal to the process."""
        if self.process is not None:
            self.process.send_signal(number)

    def address(self) -> str:
        """Returns the address at which the process will listen."""
        import ray

        return f"{ray.util.get_node_ip_address()}:{free_ports(1)[0]}"

    def run(self, words: Sequence[str], task: str, folder: str, threads: int, is_shown: bool) -> tuple[int, str]:
        """Runs the command and returns its status and last words."""
        environment = {"TF_NUM_INTRAOP_THREADS": str(threads), **os.environ, "TF_CONFIG": task}
        environment["PYTHONPATH"] = module_paths()
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            process = subprocess.Popen(
                [*COMMAND, *words],
                env=environment,
                cwd=folder if os.path.isdir(folder) else None,
                stdout=None if is_shown else subprocess.DEVNULL,
                stderr=errors,
                preexec_fn=_kill_with_parent if sys.platform == "linux" else None,
            )
            self.process = process
            status = process.wait()
            errors.seek(0)
            return status, "".join(errors.readlines()[-LAST_LINES:])


def run_on_ray(count: int, words: Sequence[str], address: str | None = None) -> int:
    """Runs a command of this package in several processes that train together on a Ray cluster, and waits for them.

    Each has a GPU where the cluster has enough, and its share of the cores of its node. The first one works on this
    machine, where the run folder is. When a node dies, the training begins again on the
    nodes that are left, from its last state, if the words name its folder (--out).

    Args:
        count: how many processes, >= 1.
        words: of the command line, after its name.
        address: as for `connect`.

    Returns:
        The exit status: that of the first process that failed, else 0.

    Raises:
        MissingPackage, ValueError: there is no Ray, no cluster, or too little in it.
    """
    ray = connect(address)
    can_go_on = any(word == "--out" or word.startswith("--out=") for word in words)
    for attempt in range(RESTARTS + 1):
        statuses, tail = _run_once(ray, count, words, *_shares(ray, count))
        if None not in statuses or not can_go_on or attempt == RESTARTS:
            break
        print("A node of the training was lost. It begins again from its last state.", file=sys.stderr)
        words = words if "--resume" in words else [*words, "--resume"]
    failed = [1 if status is None else status for status in statuses if status != 0]
    if failed:
        print(tail, file=sys.stderr, end="")
    return 0 if not failed else failed[0] if failed[0] > 0 else 128 - failed[0]


def _shares(ray: Any, count: int) -> tuple[int, int]:
    """Returns the cores and GPUs of each process."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = sorted((int(node.get("CPU", 0)) for node in nodes), reverse=True)
    # Of as many nodes as are needed for one process a core, and no more.
    shares = [share for share in range(cores[0], 0, -1) if sum(core // share for core in cores) >= count]
    if not shares:
        raise BadValue(
            f"--workers {count} asks for a core each, and the Ray cluster has {sum(cores)} on {len(nodes)} nodes. Ask "
            "for fewer, or add a node."
        )
    return shares[0], int(sum(node.get("GPU", 0) for node in nodes) >= count)


def _run_once(ray: Any, count: int, words: Sequence[str], cpus: int, gpus: int) -> tuple[list[int | None], str]:
    """Returns the status of each process, None for one whose node was lost, and the last words of one that failed."""
    member_class = ray.remote(num_cpus=cpus, num_gpus=gpus, max_concurrency=2)(Member)
    members = [member_class.options(scheduling_strategy=on_this_node(ray)).remote()]
    members += [member_class.options(scheduling_strategy="SPREAD").remote() for _ in range(count - 1)]
    statuses: list[int | None] = []
    tail = ""

    def pass_on(number: int, frame: Any) -> None:
        for member in members:
            member.send.remote(signal.SIGTERM if number == signal.SIGINT else number)

    numbers = [getattr(signal, name) for name in ("SIGINT", *PASSED_ON) if hasattr(signal, name)]
    handlers = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        addresses = ray.get([member.address.remote() for member in members])
        running = []
        for index, member in enumerate(members):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            threads, is_first = cpus, index == 0
            running.append(member.run.remote(list(words), json.dumps(task), os.getcwd(), threads, is_first))
        for one in running:
            try:
                status, told = ray.get(one)
            except ray.exceptions.RayActorError as error:
                status, told = None, f"{str(error).splitlines()[0]}\n"
            statuses.append(status)
            tail = told if status != 0 else tail
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for member in members:
            with contextlib.suppress(Exception):
                ray.kill(member)
    return statuses, tail
