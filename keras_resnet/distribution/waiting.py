"""Says which processes of a training are late, while TensorFlow waits for them without a word.

TensorFlow holds Python's lock while it waits, so no thread of the process could: this file is run as a program too,
which imports nothing but the standard library.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

# Seconds from one line about late processes to the next, of which the first is the earliest.
FIRST_SECONDS, THEN_SECONDS = 10.0, 60.0
_ANSWER_SECONDS, _LOOK_SECONDS = 1.0, 0.5


@contextlib.contextmanager
def report_late_peers(addresses: Sequence[str], index: int) -> Iterator[None]:
    """Names on standard error the processes that do not listen yet, after 10 s and each minute from then on.

    Inside the block Ctrl-C ends this process at once: TensorFlow would keep Python from seeing it.

    Args:
        addresses: "host:port" of each process.
        index: of this process, 0-based.
    """
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(index), *addresses],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if in_main else None
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)
        watcher.kill()
        watcher.wait()


def late(addresses: Sequence[str], index: int) -> list[int]:
    """Returns the numbers of the processes that do not listen on their address, 0-based.

    Args:
        addresses: "host:port" of each process.
        index: of this process, which is left out.
    """
    return [other for other, address in enumerate(addresses) if other != index and not _listens(address)]


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _watch(parent: int, index: int, addresses: Sequence[str]) -> None:
    begun = time.monotonic()
    due = begun + FIRST_SECONDS
    while os.getppid() == parent:  # it may be killed, and its output is to end with it
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() < due:
            continue
        missing, due = late(addresses, index), time.monotonic() + THEN_SECONDS
        if missing:
            named = ", ".join(f"process {other + 1} at {addresses[other]}" for other in missing)
            print(
                f"distribution: process {index + 1} of {len(addresses)} has waited {time.monotonic() - begun:.0f} s "
                f"for {named}. It has not begun, or cannot be reached from here. Ctrl-C ends the wait.",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _watch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
