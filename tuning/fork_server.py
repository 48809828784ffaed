"""Workers that begin at once: a process that has loaded TensorFlow forks them (`python -P fork_server.py SOCKET`).

A fork has the modules, which take a new process seconds to load, and shares their memory. The server never runs an
operation: it would start threads, which a fork does not have.
"""

import contextlib
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, Any

DEVICES = pathlib.Path("/dev")
PACKET_BYTES = 1 << 16
POLL_SECONDS = 0.02


def can_fork() -> bool:
    """Returns whether workers are forked: on Linux with TensorFlow, and without a GPU, whose driver survives no fork.

    `KERAS_RESNET_FORK=0` turns it off.
    """
    import keras

    has_gpu = any(DEVICES.glob("nvidia[0-9]*")) or (DEVICES / "kfd").exists()
    is_on = os.environ.get("KERAS_RESNET_FORK") != "0"
    return is_on and sys.platform == "linux" and keras.config.backend() == "tensorflow" and not has_gpu


class ForkServer:
    """The server, seen from the process that asks it for workers.

    Args:
        log: file for what the server writes to standard output and error.
        environment: of the server and of its workers.
    """

    def __init__(self, log: pathlib.Path, environment: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with open(log, "a", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        theirs.close()
        self._workers: list[Forked] = []
        self.is_alive = True

    def start(self, words: Sequence[str], output: IO) -> "Forked":
        """Returns a worker that runs a script.

        Args:
            words: the path of the script and its arguments.
            output: open file for its standard output and error.
        """
        end, stdin = os.pipe()
        worker = Forked(self, len(self._workers), os.fdopen(stdin, "wb", 0))
        self._workers.append(worker)
        with contextlib.suppress(OSError):  # `read` says what became of the server
            request = json.dumps({"number": worker.number, "words": list(words)}).encode()
            socket.send_fds(self._socket, [request], [end, output.fileno()])
        os.close(end)
        self.read()
        return worker

    def send(self, number: int, signal_number: int) -> None:
        """Sends a signal to a worker that has not ended."""
        with contextlib.suppress(OSError):
            self._socket.send(json.dumps({"number": number, "signal": signal_number}).encode())

    def read(self) -> None:
        """Takes in what the server has written: the process of a worker, or its exit status."""
        while self.is_alive:
            try:
                packet = self._socket.recv(PACKET_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lose()
                return
            for name, value in (event := json.loads(packet)).items():
                if name != "number":
                    setattr(self._workers[event["number"]], name, value)

    def _lose(self) -> None:
        """Ends the workers of a server that has ended: nobody would say how they end."""
        self.is_alive = False
        for worker in self._workers:
            if worker.returncode is None:
                with contextlib.suppress(OSError):
                    if worker.pid is not None:
                        os.kill(worker.pid, signal.SIGKILL)
                worker.returncode = -signal.SIGKILL

    def close(self) -> None:
        """Ends the server."""
        self._socket.close()
        for worker in self._workers:
            with contextlib.suppress(OSError):  # nobody reads any more
                worker.stdin.close()
        self._process.kill()
        self._process.wait()


class Forked:
    """A worker: what `subprocess.Popen` has that a supervisor needs."""

    def __init__(self, server: ForkServer, number: int, stdin: IO[bytes]) -> None:
        self._server, self.number, self.stdin = server, number, stdin
        self.pid: int | None = None
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Returns the exit status; None while it runs."""
        self._server.read()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal; nothing where it has ended."""
        if self.poll() is None:
            self._server.send(self.number, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit status when it has ended; raises `subprocess.TimeoutExpired` where that takes longer."""
        last = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if last is not None and timeout is not None and time.monotonic() > last:
                raise subprocess.TimeoutExpired(f"worker {self.number}", timeout)
            time.sleep(POLL_SECONDS)
        return status


def _serve(connection: socket.socket) -> list[str] | None:
    """Forks a worker for each request, until the other end closes.

    Returns:
        In a worker the path of its script and its arguments; None at the end of the server.
    """
    awake, wake = os.pipe()
    sources: list[Any] = [connection, awake]
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    while True:
        ready, _, _ = select.select(sources, [], [])
        if awake in ready:
            os.read(awake, PACKET_BYTES)
        for pid, number in list(children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del children[pid]
                _send(connection, {"number": number, "returncode": os.waitstatus_to_exitcode(status)})
        if connection not in ready:
            continue
        packet, descriptors, _, _ = socket.recv_fds(connection, PACKET_BYTES, 2)
        if not packet:
            return None
        request = json.loads(packet)
        if "signal" in request:
            for pid in [pid for pid, number in children.items() if number == request["number"]]:
                os.kill(pid, request["signal"])
            continue
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            for target, source in enumerate((descriptors[0], descriptors[1], descriptors[1])):
                os.dup2(source, target)
            for number in (*descriptors, awake, wake):
                os.close(number)
            connection.close()
            return list(request["words"])
        children[pid] = request["number"]
        _send(connection, {"number": request["number"], "pid": pid})
        for number in descriptors:
            os.close(number)


def _send(connection: socket.socket, event: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the other end has closed, which the next read tells
        connection.send(json.dumps(event).encode())


if __name__ == "__main__":
    import keras_resnet.tuning.worker  # noqa: F401  # what every worker needs

    words = _serve(socket.socket(fileno=int(sys.argv[1])))
    if words is not None:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
