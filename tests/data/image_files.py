"""Image files as people have them: bad ones, each with what the error must say, and odd ones that must read right."""

import io
import os
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 64, 48


def picture() -> Image.Image:
    """A smooth picture, so that lossy formats keep its mean."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = [columns * 4, rows * 3, 250 - (rows + columns) * 2]
    return Image.fromarray(np.stack(channels, axis=-1).astype("uint8"))


def encoded(kind: str, image: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind: str) -> bytes:
    return encoded(kind, save_all=True, append_images=[Image.fromarray(np.asarray(picture())[::-1].copy())])


def cut(content: bytes, part: float) -> bytes:
    return content[: int(len(content) * part)]


def with_jpeg_size(content: bytes, height: int, width: int) -> bytes:
    """Changes what the frame header says about the size."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def png(height: int, width: int, depth: int = 8, color: int = 2, data: bytes = b"") -> bytes:
    """A PNG whose header says what we want and whose pixels are not there."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def flipped_bit(content: bytes, at: float) -> bytes:
    position = int(len(content) * at)
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


def without_end(content: bytes) -> bytes:
    return content[:-5]


# name of the file -> (content, what the reason must say)
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut_at_30.jpg": (lambda: cut(encoded("jpeg"), 0.3), "ends within its header"),
    "cut_at_70.jpg": (lambda: cut(encoded("jpeg"), 0.7), "JPEG"),
    "cut_at_95.jpg": (lambda: cut(encoded("jpeg"), 0.95), "JPEG"),
    "last_5_bytes.jpg": (lambda: without_end(encoded("jpeg")), "JPEG"),
    "progressive_cut.jpg": (lambda: cut(encoded("jpeg", progressive=True), 0.7), "JPEG"),
    "cmyk_cut.jpg": (lambda: cut(encoded("jpeg", picture().convert("CMYK")), 0.7), "JPEG"),
    "three_bytes.jpg": (lambda: b"\xff\xd8\xff", "ends within its header"),
    "damaged_header.jpg": (lambda: b"\xff\xd8" + b"\0" * 200 + b"\xff\xd9", "damaged header"),
    "no_frame.jpg": (lambda: b"\xff\xd8\xff\xd9", "without a frame header"),
    "no_height.jpg": (lambda: with_jpeg_size(encoded("jpeg"), 0, 48), "48 x 0 pixels"),
    "cut.png": (lambda: cut(encoded("png"), 0.7), "PNG"),
    "last_5_bytes.png": (lambda: without_end(encoded("png")), "PNG"),
    "signature_only.png": (lambda: encoded("png")[:8], "IHDR"),
    "no_width.png": (lambda: png(48, 0), "0 x 48 pixels"),
    "no_pixels.png": (lambda: png(64, 48)[:-12], "PNG"),
    "cut.gif": (lambda: cut(encoded("gif"), 0.7), "GIF"),
    "no_frame.gif": (lambda: encoded("gif")[:13] + b";", "without a frame"),
    "cut.bmp": (lambda: cut(encoded("bmp"), 0.7), "differ"),
    "last_5_bytes.bmp": (lambda: without_end(encoded("bmp")), "differ"),
    "palette.bmp": (lambda: encoded("bmp", picture().convert("P")), "8 bits a pixel"),
    "one_bit.bmp": (lambda: encoded("bmp", picture().convert("1")), "1 bits a pixel"),
    "cut.webp": (lambda: cut(encoded("webp"), 0.7), "WebP"),
    "lossless_cut.webp": (lambda: cut(encoded("webp", lossless=True), 0.7), "WebP"),
    "animated.webp": (lambda: frames("webp"), "animated WebP"),
    "sound.webp": (lambda: b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 24, "not WebP"),
    "empty.jpg": (lambda: b"", "empty"),
    "empty.png": (lambda: b"", "empty"),
    "zeros.jpg": (lambda: b"\0" * 4096, "not a JPEG, PNG, GIF, BMP or WebP"),
    "text.jpg": (lambda: b"This is not a picture.\n", "not a JPEG, PNG, GIF, BMP or WebP"),
    "page.jpg": (lambda: b"<!DOCTYPE html><html>404 Not Found</html>", "web page"),
    "drawing.png": (lambda: b"<?xml version='1.0'?><svg></svg>", "XML"),
    "tiff.jpg": (lambda: encoded("tiff"), "TIFF"),
    "photo.heic.jpg": (lambda: b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIF or AVIF"),
    "bomb_65500.jpg": (lambda: with_jpeg_size(encoded("jpeg"), 65500, 65500), "65500 x 65500 pixels"),
    "bomb_20000.jpg": (lambda: with_jpeg_size(encoded("jpeg"), 20000, 20000), "20000 x 20000 pixels"),
    "bomb_30000.png": (lambda: png(30000, 30000, 1, 0), "30000 x 30000 pixels, more than max_pixels"),
    "bomb.webp": (
        lambda: b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\0" * 2 + b"\0" * 10,
        "65536 x 65536 pixels, more than max_pixels",
    ),
}  # fmt: skip

# Files whose damage a look at both ends cannot show; decoding does.
BAD_INSIDE: dict[str, Callable[[], bytes]] = {
    "bit_flip.png": lambda: flipped_bit(encoded("png", noise()), 0.5),
    "wrong_pixels.png": lambda: png(64, 48, data=b"\0" * 10),
    "no_scan.jpg": lambda: (
        cut(encoded("jpeg"), encoded("jpeg").index(b"\xff\xda") / len(encoded("jpeg"))) + b"\xff\xd9"
    ),
}


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype="uint8"))


def sixteen_bit() -> Image.Image:
    gray = np.asarray(picture().convert("L")).astype("uint16")
    return Image.fromarray(gray * 257)


def with_orientation(orientation: int, order: str = "II") -> bytes:
    exif = Image.Exif()
    exif.endian = {"II": "<", "MM": ">"}[order]
    exif[0x0112] = orientation
    return encoded("jpeg", exif=exif, quality=95)


# name of the file -> (content, the picture it must give)
ODD: dict[str, tuple[Callable[[], bytes], Callable[[], Image.Image]]] = {
    "plain.jpg": (lambda: encoded("jpeg", quality=95), picture),
    "progressive.jpg": (lambda: encoded("jpeg", progressive=True, quality=95), picture),
    "cmyk.jpg": (lambda: encoded("jpeg", picture().convert("CMYK"), quality=95), picture),
    "grey.jpg": (lambda: encoded("jpeg", picture().convert("L"), quality=95), lambda: picture().convert("L")),
    "trailing_bytes.jpg": (lambda: encoded("jpeg", quality=95) + b"\0" * 100, picture),
    "exif_6.jpg": (lambda: with_orientation(6), lambda: picture().transpose(Image.Transpose.ROTATE_270)),
    "plain.png": (lambda: encoded("png"), picture),
    "palette.png": (lambda: encoded("png", picture().convert("P")), lambda: picture().convert("P").convert("RGB")),
    "grey_alpha.png": (lambda: encoded("png", picture().convert("LA")), lambda: picture().convert("L")),
    "alpha.png": (lambda: encoded("png", picture().convert("RGBA")), picture),
    "one_bit.png": (lambda: encoded("png", picture().convert("1")), lambda: picture().convert("1")),
    "sixteen_bit.png": (lambda: encoded("png", sixteen_bit()), lambda: picture().convert("L")),
    "png_named.jpg": (lambda: encoded("png"), picture),
    "gif_named.jpg": (lambda: encoded("gif"), picture),
    "bmp_named.jpg": (lambda: encoded("bmp"), picture),
    "webp_named.jpg": (lambda: encoded("webp", lossless=True), picture),
    "jpeg_named.png": (lambda: encoded("jpeg", quality=95), picture),
    "still.gif": (lambda: encoded("gif"), picture),
    "animated.gif": (lambda: frames("gif"), picture),
    "plain.bmp": (lambda: encoded("bmp"), picture),
    "lossy.webp": (lambda: encoded("webp", quality=95), picture),
    "alpha.webp": (lambda: encoded("webp", picture().convert("RGBA"), lossless=True), picture),
}


def class_folders(root: os.PathLike, per_class: int = 8, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    """Writes folders of small PNG files, each picture of one color."""
    for label, name in enumerate(classes):
        folder = os.path.join(root, name)
        os.makedirs(folder)
        for index in range(per_class):
            image = Image.new("RGB", (12, 10), (label * 60, index * 20 % 256, 128))
            image.save(os.path.join(folder, f"{index:03d}.png"))
