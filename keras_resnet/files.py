"""Files that appear under their final name whole, or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well.

    The temporary file keeps the suffix of `path`, because Keras chooses its format by suffix. It is synced to disk
    before the rename, and removed when the block raises, so that an earlier file under `path` stays as it was.

    Args:
        path: the final name. Its folder must exist.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> with replacing(folder / "note.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> (folder / "note.txt").read_text()
        'whole'
    """
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=path.suffix)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        # mkstemp makes files private; a finished file gets the permissions an ordinary open() gives.
        os.chmod(temporary, 0o666 & ~_umask())
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: str | os.PathLike, writer: Callable[[pathlib.Path], object]) -> None:
    """Calls `writer(temporary_path)` and renames what it wrote to `path` (see `replacing`)."""
    with replacing(path) as temporary:
        writer(temporary)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8 to `path`, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: pathlib.Path) -> None:
    """Syncs the folder entry, without which a power loss can undo the rename; not every file system allows it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
