"""Headers of the pictures of a folder; those of a large one are kept, so that its files are opened once."""

import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.data.images.decoding import inspect, why_unusable
from keras_resnet.data.images.headers import FORMATS, Header
from keras_resnet.data.sources.listing import map_threaded, names_below
from keras_resnet.errors import NoRoom

SCANNING_THREADS = 16  # more than cores: a scan waits for the disk more than it computes
# A smaller folder is read again in about a second.
LEAST_KEPT = 20_000
# Name in the file -> its type. One row per picture; names stand in one text, with NUL between them.
COLUMNS = {
    "names": "uint8",
    "modified": "int64",
    "sizes": "int64",
    "checksums": "uint32",
    "formats": "uint8",
    "heights": "int32",
    "widths": "int32",
    "orientations": "uint8",
    "animated": "bool",
    "bits": "uint8",
}


def headers_of(root: pathlib.Path, paths: Sequence[str], max_pixels: int) -> list[Header | str]:
    """Returns the header of each picture, or why it cannot be used.

    Headers of a folder of many pictures are kept in the user's cache, and taken from there for files whose size and
    time of change are the same.

    Args:
        root: of the data.
        paths: of the pictures, below it.
        max_pixels: as for `read_image`.
    """
    if len(paths) < LEAST_KEPT:
        return _opened(paths, max_pixels)
    stats = np.array(map_threaded(paths, _stat, SCANNING_THREADS), "int64")
    names = names_below(root, paths)
    place = listing_of(root)
    table = _read(place)
    headers: list[Any] = [None] * len(paths) if table is None else _kept(table, names, stats, max_pixels)
    missing = [index for index, header in enumerate(headers) if header is None]
    for index, header in zip(missing, _opened([paths[index] for index in missing], max_pixels), strict=True):
        headers[index] = header
    # What had to be decoded to be believed, or is not usable, is looked at anew each time.
    if any(isinstance(headers[index], Header) and not headers[index].is_doubtful for index in missing):
        _write(place, names, stats, headers)
    return headers


def listing_of(root: pathlib.Path) -> pathlib.Path:
    """Returns the path of the stored headers of a folder: below `$KERAS_RESNET_HOME/listings`, or the user's cache.

    Args:
        root: of the data.
    """
    return files.cache_home() / "listings" / f"{hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()}.npz"


def _opened(paths: Sequence[str], max_pixels: int) -> list[Header | str]:
    return map_threaded(paths, lambda path: inspect(path, max_pixels), SCANNING_THREADS)


def _stat(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read(place: pathlib.Path) -> dict[str, np.ndarray] | None:
    """Returns the columns that were kept; None where there are none, or they are not what was written."""
    try:
        with open(place, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            table = {name: arrays[name] for name in COLUMNS}
    except Exception:  # a cache that cannot be read, for whatever reason, is made again
        return None
    rows = len(table["sizes"])
    is_whole = all(array.dtype == COLUMNS[name] and array.ndim == 1 for name, array in table.items())
    is_whole = is_whole and all(len(array) == rows for name, array in table.items() if name != "names")
    return table if is_whole and bool((table["formats"] < len(FORMATS)).all()) else None


def _kept(
    table: dict[str, np.ndarray], names: list[str], stats: np.ndarray, max_pixels: int
) -> list[Header | str | None]:
    """Returns the kept header of each file that has not changed, or why it is not usable; None for the others."""
    stored_names = table["names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
    if len(stored_names) != len(table["sizes"]):
        return [None] * len(names)
    row_of = None if stored_names == names else {name: row for row, name in enumerate(stored_names)}
    columns = [table[name].tolist() for name in COLUMNS if name != "names"]
    rows = list(zip(*columns, strict=True))
    headers: list[Header | str | None] = []
    for index, (name, (size, modified)) in enumerate(zip(names, stats.tolist(), strict=True)):
        row = index if row_of is None else row_of.get(name)
        if row is None or rows[row][:2] != (modified, size):
            headers.append(None)
            continue
        _, _, checksum, kind, height, width, orientation, is_animated, bits = rows[row]
        signature = f"{size} {checksum:08x}"
        header = Header(FORMATS[kind], height, width, orientation, is_animated, False, bits, signature)
        headers.append(why_unusable(header, size, max_pixels) or header)
    return headers


def _write(place: pathlib.Path, names: list[str], stats: np.ndarray, found: list[Header | str]) -> None:
    """Keeps the headers, if there is room: a listing that is not kept is made again."""
    rows = [index for index, header in enumerate(found) if isinstance(header, Header) and not header.is_doubtful]
    headers: list[Any] = [found[index] for index in rows]
    values = {
        "names": np.frombuffer("\0".join(names[row] for row in rows).encode("utf-8", "surrogateescape"), "uint8"),
        "modified": stats[rows, 1],
        "sizes": stats[rows, 0],
        "checksums": [int(header.signature.split()[1], 16) for header in headers],
        "formats": [FORMATS.index(header.format) for header in headers],
        "heights": [header.height for header in headers],
        "widths": [header.width for header in headers],
        "orientations": [header.orientation for header in headers],
        "animated": [header.is_animated for header in headers],
        "bits": [header.bits for header in headers],
    }
    arrays: Any = {name: np.asarray(values[name], COLUMNS[name]) for name in COLUMNS}

    def write(path: pathlib.Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(place, write)
    except (OSError, NoRoom):
        return
