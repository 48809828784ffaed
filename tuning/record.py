"""The file of a search: whole or not at all, with a sha256 in its first line, and the one before it kept."""

import contextlib
import json
import pathlib
import time
import warnings
from collections.abc import Iterator
from typing import Any

import filelock

from keras_resnet import files, locks
from keras_resnet.errors import BadValue

MAGIC = b"keras_resnet search 1 "
LOCK_SECONDS = 60


class RecordFile:
    """A record of plain values in the folder of a search, changed by one process at a time.

    Args:
        path: of the folder.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.file = path / "search.json"
        self.previous = path / "search.previous.json"

    @property
    def exists(self) -> bool:
        """Whether there is a record, whole or not."""
        return self.file.exists() or self.previous.exists()

    def read(self) -> dict[str, Any]:
        """Returns the record; that before it, with a warning, where the newest is damaged.

        Raises:
            ValueError: there is none, or none is whole.
        """
        broken = []
        for path in (self.file, self.previous):
            try:
                record = _parse(path.read_bytes())
            except (OSError, ValueError) as error:
                broken.append(f"{path.name} ({error})")
                continue
            if broken:
                warnings.warn(
                    f"Not usable: {broken[0]}. Going on from {path.name}: a trial may be run again.", stacklevel=2
                )
            return record
        if not self.exists:
            raise BadValue(f"{str(self.path)!r} holds no search: there is no search.json. Check the path.")
        raise BadValue(
            f"The record of the search in {str(self.path)!r} cannot be read: {'; '.join(broken)}. A search goes on "
            "from a whole one. Start again in another folder; the runs under trials/ may still be good."
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from changing the record while the block runs."""
        try:
            lock = locks.acquire(self.path / "search.lock", LOCK_SECONDS)
        except filelock.Timeout:
            raise BadValue(
                f"The record in {str(self.path)!r} was held by another process for {LOCK_SECONDS} s. Each change takes "
                "less than a second. Look for a process that hangs, and go on with resume=True."
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yields the record, and writes it afterwards where the block changed it."""
        with self.locked():
            record = self.read()
            before = json.dumps(record)
            yield record
            if json.dumps(record) != before:
                self.write(record)

    def write(self, record: dict[str, Any]) -> None:
        """Writes the record, and keeps the one before it."""
        record["written"] = time.time()
        text = json.dumps(record, indent=1)
        if self.file.exists():
            with contextlib.suppress(ValueError, OSError):
                before = self.file.read_bytes()
                _parse(before)  # a damaged one never takes the place of a good one
                files.write_atomically(self.previous, lambda path: path.write_bytes(before))
        files.write_checked(self.file, MAGIC, text.encode())


def _parse(content: bytes) -> dict[str, Any]:
    # Earlier versions wrote an end of line that their sha256 leaves out.
    return json.loads(files.verify_payload(content.removesuffix(b"\n"), MAGIC))
