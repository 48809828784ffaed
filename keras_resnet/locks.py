"""Locks between processes, on file systems that have them and on those that do not."""

import contextlib
import errno
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator

import filelock

from keras_resnet.errors import NoLock

# What `flock` answers on network file systems that were mounted without locks. ENOSYS filelock knows itself.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


def acquire(path: str | os.PathLike, timeout: float) -> filelock.BaseFileLock:
    """Returns a lock that this process holds now; the system frees it when the process ends.

    Where the file system has no locks, a file beside it that says who made it takes their place.

    Args:
        path: of the lock.
        timeout: s to wait for another process; 0 for none.

    Raises:
        filelock.Timeout: another process holds it.
        NoLock: the file cannot be made or locked; the message has the reason of the system.
    """
    lock: filelock.BaseFileLock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=timeout)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            lock = filelock.SoftFileLock(pathlib.Path(path).with_suffix(".held"))
            lock.acquire(timeout=timeout)
    except filelock.Timeout:  # an OSError too
        raise
    except OSError as error:
        raise NoLock(
            f"{os.fspath(path)!r} could not be locked: {error.strerror or error}. A folder is needed that can be "
            "written, on a disk without errors. Check its permissions and the disk, or choose another folder."
        ) from error
    return lock


@contextlib.contextmanager
def temporary_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a new folder beside `path`, to be renamed from; removes it, and those that killed processes left there.

    Args:
        path: what is made in it; its parent is there.
    """
    path = pathlib.Path(path).absolute()
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    for left in path.parent.iterdir():
        if pattern.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
            with contextlib.suppress(OSError, filelock.Timeout):
                acquire(left / ".lock", timeout=0).release()  # who works in it holds it
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        lock = acquire(pathlib.Path(name) / ".lock", timeout=0)
        try:
            yield pathlib.Path(name)
        finally:
            lock.release()
