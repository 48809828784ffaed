"""Files that appear under their final name whole, or not at all, and never in place of a file of the user's."""

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator

from keras_resnet.errors import BadValue, NoRoom

# Metadata of the PNG files that this package writes, and what the heads of its text files hold.
PNG_METADATA = {"Software": "keras_resnet"}
HTML_MARK = '<meta name="generator" content="keras_resnet">'
SVG_MARK = "<!-- keras_resnet -->"
TOML_MARK = "# A recipe of keras_resnet"
LR_CSV_HEADER = ("learning_rate", "loss", "smoothed_loss")
# What a file of this package begins with, and the mark in its first bytes. A page that shows one of these in its text
# is not one of them.
_MARKS = (
    (b"\x89PNG", b"Software\0keras_resnet"),
    (b"<!DOCTYPE html>", HTML_MARK.encode()),
    (b"<", SVG_MARK.encode()),
    (",".join(LR_CSV_HEADER).encode(), b""),
)
_HEAD_BYTES = 4096
_UMASK_LOCK = threading.Lock()


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well.

    The temporary file keeps the suffix of `path`, because Keras chooses its format by suffix. It is synced to disk
    before the rename, and removed when the block raises, so that an earlier file under `path` stays as it was.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> with replacing(folder / "note.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> (folder / "note.txt").read_text()
        'whole'
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=path.suffix)
    except OSError as error:
        if _is_no_room(error):
            raise _no_room(path, 0) from error
        raise
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        # mkstemp makes files private; a finished file gets the permissions an ordinary open() gives.
        os.chmod(temporary, 0o666 & ~umask())
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        written = temporary.stat().st_size if temporary.exists() else 0
        temporary.unlink(missing_ok=True)
        if _is_no_room(error):
            raise _no_room(path, written) from error
        raise


@contextlib.contextmanager
def explaining_no_room(path: str | os.PathLike) -> Iterator[None]:
    """Turns an error of a library that found the disk full into `NoRoom`."""
    try:
        yield
    except Exception as error:
        if _is_no_room(error):
            raise _no_room(pathlib.Path(path), 0) from error
        raise


# Libraries that write past Python, such as HDF5 and safetensors, tell the system's reason in their message.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_TEXTS = tuple(os.strerror(number) for number in _NO_ROOM)


def _is_no_room(error: BaseException) -> bool:
    if isinstance(error, NoRoom):
        return False
    return getattr(error, "errno", None) in _NO_ROOM or any(text in str(error) for text in _NO_ROOM_TEXTS)


def _no_room(path: pathlib.Path, written: int) -> NoRoom:
    """Returns the error for a file that could not be written whole; what was written of it is removed already."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    inodes = " and no inodes" if status.f_files and not status.f_favail else ""
    return NoRoom(
        f"{os.fspath(path)!r} could not be written: there is no room for it, or a quota or a limit of file sizes was "
        f"reached after {written / 2**20:.1f} MiB. {free / 2**20:.1f} MiB{inodes} are free there. What was there "
        "before is as it was. Make room, and go on."
    )


def write_atomically(path: str | os.PathLike, writer: Callable[[pathlib.Path], object]) -> None:
    """Calls `writer(temporary_path)` and renames what it wrote to `path` (see `replacing`)."""
    with replacing(path) as temporary:
        writer(temporary)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8 to `path`, whole or not at all; what names of files hold beside UTF-8 stands escaped."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def plain_cell(text: str) -> str:
    """Returns a text for a cell of a table, which programs for tables would otherwise compute: `=`, `@`, `+`, `-`."""
    if not text.startswith(("=", "@", "+", "-", "\t", "\r")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def sha256_of(path: str | os.PathLike) -> str:
    """Returns the hash of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checked(path: str | os.PathLike, magic: bytes, payload: bytes) -> None:
    """Writes a file whose first line is `magic` and the sha256 of the rest, whole or not at all."""
    digest = hashlib.sha256(payload).hexdigest().encode()
    write_atomically(path, lambda where: where.write_bytes(magic + digest + b"\n" + payload))


def verify_payload(content: bytes, magic: bytes) -> bytes:
    """Returns the payload of a file that `write_checked` wrote."""
    header, _, payload = content.partition(b"\n")
    if not header.startswith(magic):
        raise ValueError("it does not begin as such a file does")
    if hashlib.sha256(payload).hexdigest().encode() != header.removeprefix(magic):
        raise ValueError("its sha256 is not the one it was written with")
    return payload


def cache_home() -> pathlib.Path:
    """Returns the folder of what can be fetched or made again: `$KERAS_RESNET_HOME`, or below the user's cache."""
    home = os.environ.get("KERAS_RESNET_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "keras_resnet"
    )
    return pathlib.Path(home).expanduser()


def identity_of(path: str | bytes) -> Hashable:
    """Returns the identity of a file, shared by all links to it; the path where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def is_replaceable(path: str | os.PathLike) -> bool:
    """Returns whether nothing of the user's is lost when `path` is written: it is free, or this package wrote it.

    What this package writes on request (pictures, pages, diagrams, recipes, range tests) carries a mark in its first
    bytes. A folder, a file that cannot be read, and a recipe that was edited are not replaceable.
    """
    if not os.path.lexists(path):
        return True
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            if head.startswith(TOML_MARK.encode()):
                return _is_unedited(head + file.read())
    except OSError:
        return False
    head = head.partition(b"<body")[0]
    return any(head.startswith(begin) and mark in head for begin, mark in _MARKS)


def with_toml_mark(body: str) -> str:
    """Returns the text of a TOML file that says what wrote it, and by a hash whether it was edited since."""
    return f"{TOML_MARK} {hashlib.sha256(body.encode()).hexdigest()[:16]}\n{body}"


def _is_unedited(content: bytes) -> bool:
    first, _, body = content.partition(b"\n")
    digest = first.removeprefix(TOML_MARK.encode()).strip()
    return not digest or digest == hashlib.sha256(body).hexdigest()[:16].encode()  # earlier versions wrote none


def check_replaceable(path: str | os.PathLike, argument: str = "out") -> None:
    """Raises ValueError where writing `path` would replace something that this package did not write."""
    if not is_replaceable(path):
        raise BadValue(
            f"{argument}={os.fspath(path)!r} exists, and keras_resnet did not write it, or it was edited since. Only "
            "files that keras_resnet wrote are replaced. Choose another name, or move that file away."
        )


def check_parent(path: str | os.PathLike, argument: str = "out") -> None:
    """Raises ValueError if the folder of a file to be written can neither be written nor made."""
    folder = pathlib.Path(path).expanduser().absolute().parent
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        what = "is a file" if not existing.is_dir() else "cannot be written"
        raise BadValue(
            f"{argument}={os.fspath(path)!r} lies below {os.fspath(existing)!r}, which {what}. Allowed is a path in a "
            "folder that can be written; folders that are missing are made. Choose another."
        )


def check_folder_free(folder: str | os.PathLike, names: tuple[str, ...]) -> None:
    """Raises ValueError where a folder holds something under the names that are to be written into it."""
    for name in names:
        path = pathlib.Path(folder) / name
        if path.is_dir() and not any(path.iterdir()):
            continue
        if os.path.lexists(path):
            raise BadValue(
                f"out={os.fspath(folder)!r} holds {name!r} already, which would be replaced. Allowed is a folder "
                "without it. Choose another folder, or move that away."
            )


def make_writable(out: str | os.PathLike) -> pathlib.Path:
    """Makes a folder where it is missing, and returns its path."""
    folder = pathlib.Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadValue(
            f"out={os.fspath(out)!r} cannot be written: {error.strerror}. A run needs a folder it may write to. "
            "Choose another one, or change its permissions."
        ) from error
    return folder


def check_no_links(folder: str | os.PathLike, names: Iterable[str]) -> None:
    """Raises ValueError where a link stands in a folder in the place of what is written there.

    Whoever made the folder could otherwise have any file overwritten that the user may write.
    """
    for name in names:
        path = pathlib.Path(folder) / name
        if path.is_symlink():
            raise BadValue(
                f"{os.fspath(path)!r} is a link, and would be written through. Allowed are real files and "
                "folders. Replace the link by a copy of its target, or choose another folder."
            )


def remove_unfinished(folder: pathlib.Path, names: tuple[str, ...]) -> None:
    """Removes temporary files of killed writers from a folder; the caller holds the lock of that folder."""
    if not folder.is_dir():
        return
    pattern = "|".join(re.escape(name).replace(r"\*", ".*") for name in names)
    # As `replacing` names them: a dot, the name, eight characters, and the suffix again.
    unfinished = re.compile(rf"\.(?:{pattern})\.[a-z0-9_]{{8}}(?:\.\w+)?")
    for path in folder.iterdir():
        if unfinished.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def umask() -> int:
    """Returns which permissions new files do not get.

    Linux says it. Elsewhere it must be set to be read, and two threads at once would leave it set.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return int(next(line for line in file if line.startswith("Umask:")).split()[1], 8)
    except (OSError, StopIteration):
        with _UMASK_LOCK:
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
