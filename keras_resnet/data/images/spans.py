"""Images that are parts of larger files: a shard of a data set holds thousands."""

import io
import os
from typing import Any

import tensorflow as tf


class Part(io.RawIOBase):
    """A part of an open file, as a file of its own to read.

    Args:
        file: open for reading; its position is not used.
        offset: of the first byte.
        size: in bytes.
    """

    def __init__(self, file: Any, offset: int, size: int) -> None:
        super().__init__()
        self._number = file.fileno()
        self._offset, self._size, self._place = offset, size, 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Moves, and returns the new place.

        Args:
            place: bytes from where `whence` says.
            whence: as for files.
        """
        self._place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer and returns how many bytes.

        Args:
            buffer: to fill.
        """
        wanted = max(0, min(len(buffer), self._size - self._place))
        content = os.pread(self._number, wanted, self._offset + self._place)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def read_span(path: bytes, offset: int, size: int) -> bytes:
    """Returns a part of a file.

    Args:
        path: of the file.
        offset: of the first byte.
        size: in bytes.

    Raises:
        OSError, EOFError: it cannot be read, or is shorter.
    """
    with open(path, "rb", buffering=0) as file:
        content = os.pread(file.fileno(), int(size), int(offset))
    if len(content) < size:
        raise EOFError(f"{os.fsdecode(path)} ends within an image")
    return content


def read_span_op(path: Any, span: Any) -> Any:
    """Returns a part of a file inside a graph: a scalar string tensor.

    Args:
        path: scalar string tensor.
        span: int64 `(2,)`, offset and size.
    """
    content = tf.numpy_function(lambda path, span: read_span(path, *span), [path, span], tf.string, stateful=False)
    return tf.ensure_shape(content, ())
