"""What is printed: text that cannot steer a terminal, on streams that may be closed, full or of another encoding.

`keras-resnet` reads this file by its path, before it loads the package; it imports nothing of it.
"""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

# Colors, which Keras's progress bar has, are let through; what hides text, moves the cursor, renames the window, fills
# the clipboard or turns the direction of writing is not.
_SHOWN = "(?:0|1|2[2]?|3[1-79]|9[1-7])?"
_COLOUR = rf"\x1b\[{_SHOWN}(?:;{_SHOWN})*m"
_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069"
_STEERING = re.compile(rf"({_COLOUR})|[{_CONTROL}]")
_NOT_IN_A_NAME = re.compile(rf"[{_CONTROL}\t\n]")
_OF_PROGRESS_BARS = "\b\r"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def printable(text: str) -> str:
    r"""Returns a text whose control characters stand as `\x1b` and the like; line breaks, tabs and colors stay.

    Example:
        >>> from keras_resnet.terminal import printable
        >>> print(printable("a\x1b]0;title\x07b"))
        a\x1b]0;title\x07b
    """
    return _STEERING.sub(
        lambda found: found[0] if found[1] or found[0] in _OF_PROGRESS_BARS else _escaped(found[0]), text
    )


def one_line(text: object) -> str:
    r"""Returns a name as it may stand in a line: no line breaks, and no control characters.

    Example:
        >>> from keras_resnet.terminal import one_line
        >>> print(one_line("cat\n99 % dog"))
        cat\n99 % dog
    """
    return _NOT_IN_A_NAME.sub(lambda found: _escaped(found[0]), str(text))


class Guarded:
    """A stream that escapes what would steer a terminal, and whose reader may go away.

    Attributes:
        goes_on: whether writing to a stream that is full or closed is passed over, so that work goes on.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.goes_on = False

    def write(self, text: str) -> int:
        """Writes."""
        with self._passing_over():
            self._stream.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Flushes."""
        with self._passing_over():
            self._stream.flush()

    @contextlib.contextmanager
    def _passing_over(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            if not self.goes_on:
                raise
            # What stays in its buffer is lost, and nothing fails again when the program ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Lets what is printed go through `Guarded` streams while the block runs; streams that are closed lead nowhere."""
    own = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = (_guard(stream) for stream in own)
        yield
    finally:
        sys.stdout, sys.stderr = own


def _guard(stream: Any) -> Any:
    if stream is None or getattr(stream, "closed", False):
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the rest of the process
    if isinstance(stream, io.TextIOWrapper):  # names of files and classes need not fit the terminal's encoding
        stream.reconfigure(errors="backslashreplace")
    return stream if isinstance(stream, Guarded) else Guarded(stream)


def told_of_output(program: str, error: OSError) -> int | None:
    """Returns the exit status after standard output could not be written; None for an error of another file.

    A reader that has seen enough, such as `head`, is not a mistake; a full disk is, and goes to standard error.

    Args:
        program: the name to report it under.
        error: as caught.
    """
    if error.filename is not None:
        return None
    is_mistake = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG)
    if not is_mistake and not isinstance(error, BrokenPipeError):
        return None
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if not is_mistake:
        return 0
    print(f"{program}: what it prints cannot be written: {error.strerror}.", file=sys.stderr)
    return 2


def open_closed_descriptors() -> None:
    """Gives standard input, output and error that were closed a place that leads nowhere.

    The next file that is opened would otherwise be one of them, and libraries would write their lines into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
