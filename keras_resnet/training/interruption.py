"""Signals that end a training: the batch is finished and saved first, and a second one ends at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Ctrl-C; what a scheduler sends before it kills; what Slurm sends with --signal=USR1; a terminal that was closed.
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Interrupted(KeyboardInterrupt):
    """A signal during `fit`: what was trained is saved, and the message says how to go on.

    Args:
        message: which says it.
        status: with which a program should exit: 130 for Ctrl-C, 143 for the others.
    """

    def __init__(self, message: str = "", status: int = INTERRUPTED) -> None:
        super().__init__(message)
        self.status = status


class StopRequest:
    """Whether a signal asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def status(self) -> int:
        """With which a program should exit."""
        return INTERRUPTED if self.signal in (None, signal.SIGINT) else TERMINATED

    def raise_if_asked(self) -> None:
        """Raises Interrupted after a signal."""
        if self.signal is not None:
            raise Interrupted(status=self.status)


@contextmanager
def stop_after_batch(is_running: Callable[[Any], bool] = lambda frame: True) -> Iterator[StopRequest]:
    """Yields an object that says whether a signal came; the second one has its usual effect.

    Handlers that a program has set itself stay in place, and so do all outside of the main thread: Python allows none.

    Args:
        is_running: whether the training goes on in a frame that a signal struck; if not, it has its usual effect.
    """
    asked = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    earlier: dict[int, Any] = {}

    def put_back() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    def handle(number: int, frame: Any) -> None:
        put_back()
        if not is_running(frame):
            signal.raise_signal(number)
            return
        asked.signal = number

    for name in SIGNALS:
        number = getattr(signal, name, None)  # Windows has two of them
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            earlier[number] = signal.signal(number, handle)
    try:
        yield asked
    finally:
        if asked.signal is None:
            put_back()
