"""Says where a process was when it ended without a word, as JAX ends one that has lost another.

JAX does so from its own thread, past Python: this file is run as a program too, which outlives the process and
imports nothing but the standard library.
"""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

# How often the program receives the position of the process.
_TOLD_SECONDS = 0.2
_END = "end"


@contextlib.contextmanager
def exit_message(who: str, place: Callable[[], str]) -> Iterator[None]:
    """Has a line written to standard error where this process ends inside the block, past Python."""
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, who],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    is_over = threading.Event()
    assert watcher.stdin is not None
    write = watcher.stdin

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):  # a program that was killed hears nothing
            write.write(f"{line}\n")
            write.flush()

    def follow() -> None:
        while not is_over.wait(_TOLD_SECONDS):
            tell(place())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        tell(_END)
        with contextlib.suppress(OSError):
            write.close()
        watcher.wait()


def _watch(who: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # a group gets them together
        signal.signal(number, signal.SIG_IGN)
    place = ""
    for line in sys.stdin:
        if line.strip() == _END:
            return
        place = line.strip()
    print(
        f"{who} ended {place}: it was killed, or JAX ended it because another process ended, stands still, or cannot "
        "be reached (then JAX names it above as a task, counted from 0). Start all processes again with --resume; they "
        "go on from the last state.",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    _watch(sys.argv[1])
