"""The first and the last bytes of an image file: enough for its size, and to see that it was written whole."""

import dataclasses
import io
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import tensorflow as tf

from keras_resnet.data.options import LoadOptions
from keras_resnet.errors import BadValue


class Part(io.RawIOBase):
    """A part of an open file, as its own file to read."""

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
        """Moves, and returns the new place."""
        self._place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer and returns how many bytes."""
        size = max(0, min(len(buffer), self._size - self._place))
        content = os.pread(self._number, size, self._offset + self._place)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def read_span(path: bytes, offset: int, size: int) -> bytes:
    """Returns a part of a file."""
    with open(path, "rb", buffering=0) as file:
        content = os.pread(file.fileno(), int(size), int(offset))
    if len(content) < size:
        raise EOFError(f"{os.fsdecode(path)} ends within an image")
    return content


def read_span_op(path: Any, span: Any) -> Any:
    """Returns a part of a file inside a graph: a scalar string tensor."""
    content = tf.numpy_function(lambda path, span: read_span(path, *span), [path, span], tf.string, stateful=False)
    return tf.ensure_shape(content, ())


NAMED_AT_MOST = 20


class BadImageError(BadValue):
    """Image files, or records of a dataset, cannot be used.

    Args:
        message: what a user sees; it names the files.
        files: pairs of path and reason, all of them.
    """

    def __init__(self, message: str, files: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.files = tuple(files)


def bad_image_error(files: Sequence[tuple[str, str]], total: int, advice: str) -> BadImageError:
    """Returns the error for these `(path, reason)` pairs, of `total` files that were looked at."""
    names = "; ".join(f"{path} ({reason})" for path, reason in files[:NAMED_AT_MOST])
    more = f"; and {len(files) - NAMED_AT_MOST} more" if len(files) > NAMED_AT_MOST else ""
    count = "1 image file" if total == 1 else f"{len(files)} of {total} image files"
    return BadImageError(
        f"{count} cannot be used: {names}{more}. "
        f"Allowed are whole JPEG, PNG, GIF, BMP and WebP files below the limit of pixels. {advice}",
        files,
    )


def unreadable(name: str, reason: str) -> BadImageError:
    """Returns the error of a split whose records cannot be read."""
    return BadImageError(
        f"{name} cannot be read: {reason}. Allowed is a set whose files are as TFDS wrote them. "
        "Delete its folder and prepare it again.",
        [(name, reason)],
    )


def apply_bad_image_policy(
    files: Sequence[tuple[str, str]], total: int, options: LoadOptions, report: list[str]
) -> None:
    """Applies `on_bad_image` to these `(path, reason)` pairs: raises, or adds what is skipped to the report."""
    if not files:
        return
    if options.on_bad_image == "error":
        advice = (
            "Replace or delete them, or leave them out by on_bad_image='skip' (of train --set data.on_bad_image=skip, "
            "of evaluate --on-bad-image skip)."
        )
        raise bad_image_error(files, total, advice)
    if len(files) > options.max_skipped_fraction * total:
        raise bad_image_error(
            files,
            total,
            f"on_bad_image='skip' leaves out at most max_skipped_fraction={options.max_skipped_fraction:g} of the "
            "files: look into what made these, or raise that fraction.",
        )
    report.append(f"skipped {len(files)} of {total} image files")
    report.extend(f"skipped {path}: {reason}" for path, reason in files)


# How TensorFlow's decoders begin their messages -> what it means for the file.
DECODERS_WORDS = {
    "jpeg::Uncompress failed": "its JPEG data are truncated or damaged",
    "Invalid JPEG data": "its JPEG data are truncated or damaged",
    "Invalid PNG data": "its PNG data are truncated or damaged",
    "Invalid GIF data": "its GIF data are truncated or damaged",
}


def reason_of(error: BaseException) -> str:
    """Returns the first useful line of a decoder's or the system's error."""
    if isinstance(error, OSError) and error.strerror:
        return os.strerror(error.errno) if error.errno else error.strerror
    text = str(getattr(error, "message", None) or error)
    # TensorFlow prefixes where it happened and appends which op: neither helps to find the file.
    if text.startswith("{{"):
        text = text.partition("}} ")[2] or text
    line = text.partition(" [Op:")[0].splitlines()[0].strip().rstrip(".")
    return next((told for start, told in DECODERS_WORDS.items() if line.startswith(start)), line)


PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
EXIF_ORIENTATION = 0x0112
FORMATS = ("jpeg", "png", "gif", "bmp", "webp")
MAX_SEGMENTS = 10_000  # of a header, where a camera writes some dozens
SIGNED_BYTES = 256  # from the end: compressed pixels differ there where pictures do


class BadHeader(ValueError):
    """The file is not an image that can be read; the message is the reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What an image file says about itself."""

    format: str
    height: int
    width: int
    orientation: int = 1
    is_animated: bool = False
    is_doubtful: bool = False
    bits: int = 8
    signature: str = ""


def read_header(file: BinaryIO, size: int | None = None) -> Header:
    """Returns the header of an open image file, by its content and not by its name.

    A few kilobytes are read, whatever the image's size.
    """
    if size is None:
        size = os.fstat(file.fileno()).st_size
    start = file.read(32)
    if not start:
        raise BadHeader("the file is empty")
    for magic, reader in _READERS.items():
        if start.startswith(magic):
            try:
                header = reader(file, start, size)
            except (struct.error, IndexError):
                raise BadHeader("the file ends within its header") from None
            if header.height < 1 or header.width < 1:
                raise BadHeader(f"the header says {header.width} x {header.height} pixels")
            file.seek(max(0, size - SIGNED_BYTES))
            return dataclasses.replace(header, signature=f"{size} {zlib.crc32(file.read()):08x}")
    raise BadHeader(_what_it_is(start))


def _what_it_is(start: bytes) -> str:
    if start[:4] in (b"II*\0", b"MM\0*"):
        return "a TIFF file, which a table (csv:) may name and a class folder may not"
    if start[4:8] == b"ftyp":
        return "a HEIF or AVIF file, which TensorFlow cannot decode"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "a web page or XML file, not an image"
    return "not a JPEG, PNG, GIF, BMP or WebP file"


def _read_jpeg(file: BinaryIO, start: bytes, size: int) -> Header:
    file.seek(2)
    orientation, shape, is_usual, steps = 1, None, True, 0
    while True:
        code = _next_marker(file)
        if code == 0xDA or code == 0xD9:
            break
        if code == 0x01 or 0xD0 <= code <= 0xD7:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        steps += 1
        if length < 2 or steps > MAX_SEGMENTS:
            raise BadHeader("a JPEG file with a damaged header")
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            precision, height, width, components = struct.unpack(">BHHB", file.read(6))
            shape = height, width
            # Baseline, extended and progressive with Huffman coding, 8 bits: what libjpeg surely decodes.
            is_usual = precision == 8 and code in (0xC0, 0xC1, 0xC2) and components in (1, 3, 4)
            file.seek(length - 8, os.SEEK_CUR)
        elif code == 0xE1:
            orientation = _exif_orientation(file.read(length - 2))
        else:
            file.seek(length - 2, os.SEEK_CUR)
    if shape is None:
        raise BadHeader("a JPEG file without a frame header")
    file.seek(max(0, size - 2))
    return Header("jpeg", *shape, orientation=orientation, is_doubtful=not is_usual or file.read(2) != b"\xff\xd9")


def _next_marker(file: BinaryIO) -> int:
    byte = file.read(1)
    if byte != b"\xff":
        raise BadHeader("the file ends within its header" if not byte else "a JPEG file with a damaged header")
    for _ in range(MAX_SEGMENTS):  # a marker may be filled up
        if byte != b"\xff":
            break
        byte = file.read(1)
    else:
        raise BadHeader("a JPEG file with a damaged header")
    if not byte:
        raise BadHeader("the file ends within its header")
    return byte[0]


def _exif_orientation(segment: bytes) -> int:
    """Returns the orientation in an APP1 segment, 1 where it holds none or is damaged."""
    if not segment.startswith(b"Exif\0\0"):
        return 1
    tiff = segment[6:]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if tag == EXIF_ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass  # EXIF is an annotation: a damaged one leaves the picture as it is stored
    return 1


def _read_png(file: BinaryIO, start: bytes, size: int) -> Header:
    if start[12:16] != b"IHDR":
        raise BadHeader("a PNG file without an IHDR chunk")
    width, height = struct.unpack(">II", start[16:24])
    file.seek(max(0, size - len(PNG_END)))
    return Header("png", height, width, is_doubtful=file.read() != PNG_END, bits=16 if start[24] == 16 else 8)


def _read_gif(file: BinaryIO, start: bytes, size: int) -> Header:
    width, height, flags = struct.unpack("<HHB", start[6:11])
    file.seek(13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0))
    frames = blocks = 0
    most_blocks = MAX_SEGMENTS + 2 * height * width // 254
    while frames < 2:
        kind = file.read(1)
        if kind == b"\x21":
            file.seek(1, os.SEEK_CUR)
        elif kind == b"\x2c":
            frames += 1
            local = struct.unpack("<HHHHB", file.read(9))[-1]
            file.seek((3 << ((local & 7) + 1) if local & 0x80 else 0) + 1, os.SEEK_CUR)
        else:
            break
        while length := ord(file.read(1) or b"\0"):
            file.seek(length, os.SEEK_CUR)
            blocks += 1
            if blocks > most_blocks:  # hardly one that an encoder wrote; decoding tells
                return Header("gif", height, width, is_doubtful=True)
    if not frames:
        raise BadHeader("a GIF file without a frame")
    is_ended = frames == 2 or kind == b"\x3b"
    return Header("gif", height, width, is_animated=frames > 1, is_doubtful=not is_ended)


def _read_bmp(file: BinaryIO, start: bytes, size: int) -> Header:
    (declared,) = struct.unpack("<I", start[2:6])
    width, height, _, bits, compression = struct.unpack("<iiHHI", (start + file.read(8))[18:34])
    if bits not in (24, 32) or compression not in (0, 3):
        # TensorFlow takes the palette's indices for gray values and returns a wrong picture without an error.
        raise BadHeader(f"a BMP file with {bits} bits a pixel and compression {compression}; save it as PNG")
    needed = (width * bits + 31) // 32 * 4 * abs(height)
    return Header("bmp", abs(height), width, is_doubtful=size < max(declared, needed))


def _read_webp(file: BinaryIO, start: bytes, size: int) -> Header:
    if start[8:12] != b"WEBP":
        raise BadHeader("a RIFF file that is not WebP")
    (declared,) = struct.unpack("<I", start[4:8])
    is_doubtful = size < declared + 8
    kind = start[12:16]
    if kind == b"VP8X":
        if start[20] & 0x02:
            raise BadHeader("an animated WebP file, which TensorFlow cannot decode; save its first frame")
        width = int.from_bytes(start[24:27], "little") + 1
        height = int.from_bytes(start[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack("<HH", start[26:30]))
    else:
        raise BadHeader("a WebP file of an unknown kind")
    return Header("webp", height, width, is_doubtful=is_doubtful)


_READERS = {
    b"\xff\xd8": _read_jpeg,
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"GIF87a": _read_gif,
    b"GIF89a": _read_gif,
    b"BM": _read_bmp,
    b"RIFF": _read_webp,
}
