"""`.npz` and `.npy` files, judged by their headers before a number in them is read."""

import math
import os
import pathlib
import zipfile
from typing import IO, Any

import numpy as np

from keras_resnet.memory import SHARE, available_bytes, format_bytes

NPY = b"\x93NUMPY"  # with which a file of one array begins
# Above this size an archive must not be packed more tightly than any picture is.
SURELY_FINE, MAX_PACKED = 2**30, 500


class InvalidArrayFile(ValueError):
    """The file is not read; the message is the reason, for the caller, who knows what is allowed."""


def open_npz(path: str | os.PathLike) -> Any:
    """Returns the open archive of an `.npz` file, whose arrays are whole and fit the memory.

    Args:
        path: of the file.

    Raises:
        InvalidArrayFile: they are not, or the file is none.
        OSError, ValueError, zipfile.BadZipFile: as `numpy.load`.
    """
    check_regular(path)
    with open(path, "rb") as plain:
        if plain.read(len(NPY)) == NPY:
            raise InvalidArrayFile("it holds a single array")
    with zipfile.ZipFile(path) as archive:
        total = packed = 0
        for member in archive.infolist():
            with archive.open(member) as file:
                size = _check_array(member.filename, file, member.file_size)
            total, packed = total + size, packed + member.compress_size
    check_unpacked(total, packed)
    return np.load(path, allow_pickle=False)


def check_unpacked(total: int, packed: int) -> None:
    """Raises InvalidArrayFile for a file that unpacks to far more than real data do, or to more than the memory takes.

    Args:
        total: bytes when unpacked.
        packed: bytes in the file.
    """
    if total > SURELY_FINE and total > MAX_PACKED * packed:
        raise InvalidArrayFile(
            f"its {format_bytes(packed)} unpack to {format_bytes(total)}, more than {MAX_PACKED} times as much"
        )
    check_fits(total)


def check_regular(path: str | os.PathLike) -> None:
    """Raises InvalidArrayFile for a pipe, a device or a folder: some never end.

    Args:
        path: of the file.
    """
    if pathlib.Path(path).exists() and not pathlib.Path(path).is_file():
        raise InvalidArrayFile("it is not a regular file")


def check_fits(size: int) -> None:
    """Raises InvalidArrayFile for arrays that are larger than the memory that is left.

    Args:
        size: of all of them, in bytes.
    """
    free = available_bytes()
    if free is not None and size > SHARE * free:
        raise InvalidArrayFile(f"its arrays need {format_bytes(size)} of memory, and {format_bytes(free)} are free")


def _check_array(name: str, file: IO[bytes], length: int) -> int:
    """Returns the bytes of an array, by its header."""
    try:
        version = np.lib.format.read_magic(file)
        readers: dict[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            return length
        shape, _, dtype = readers[version](file)
    except ValueError as error:
        raise InvalidArrayFile(f"its array {name.removesuffix('.npy')!r} cannot be read ({error})") from None
    if dtype.hasobject:
        raise InvalidArrayFile(f"its array {name.removesuffix('.npy')!r} holds pickled objects")
    size = math.prod(shape) * dtype.itemsize
    if size != length - file.tell():
        raise InvalidArrayFile(
            f"its array {name.removesuffix('.npy')!r} is to have {format_bytes(size)} by its header, and has "
            f"{format_bytes(length - file.tell())}"
        )
    return size
