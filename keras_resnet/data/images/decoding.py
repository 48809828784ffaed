"""From the bytes of an image file to RGB, eagerly and inside tf.data alike: uint8, or float32 for files of 16 bits."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.arguments import check_bool, check_int
from keras_resnet.data.images.bad_images import bad_image_error, reason_of
from keras_resnet.data.images.headers import BadHeader, Header, read_header
from keras_resnet.data.options import MAX_PIXELS

# libjpeg's accurate transform gives Pillow's pixels; TensorFlow's default is the fast one.
DCT_METHOD = "INTEGER_ACCURATE"
PNG_START, PNG_BIT_DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24


def read_image(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS, apply_exif: bool = False) -> np.ndarray:
    """Reads one image file.

    JPEG, PNG, GIF (the first frame), BMP and WebP, told apart by their content; grey, palette and CMYK images become
    RGB, and transparency is dropped. A PNG of 16 bits keeps all of them, as fractions of the same range.

    Args:
        path: of the file.
        max_pixels: images with more are refused by their header, before they are decoded.
        apply_exif: turn a photograph upright by its EXIF orientation; False returns the pixels as stored.

    Returns:
        RGB in [0, 255], `(height, width, 3)`: uint8, or float32 for 16 bits, whose 65535 is 255.

    Raises:
        BadImageError: the file is missing, too large, not an image, or damaged; the message names it.
    """
    check_int("max_pixels", max_pixels)
    check_bool("apply_exif", apply_exif)
    header = inspect(path, max_pixels)
    if not isinstance(header, str):
        try:
            orientation = header.orientation if apply_exif else 1
            return oriented_image(path, orientation, is_deep=header.bits == 16).numpy()
        except (tf.errors.OpError, OSError) as error:
            header = reason_of(error)
    raise bad_image_error([(os.fspath(path), header)], 1, "Replace the file.")


def inspect(path: str | os.PathLike, max_pixels: int) -> Header | str:
    """Returns the header of an image file, or the reason why the file cannot be used.

    A file whose end is not where it should be is decoded, once, to find out.
    """
    try:
        if not pathlib.Path(path).is_file():
            # A named pipe would block for ever, and a folder cannot be read.
            return "not a regular file" if pathlib.Path(path).exists() else "no such file"
        with open(path, "rb") as file:
            header = read_header(file)
        if header.format == "webp" and not hasattr(tf.io, "decode_webp"):
            return f"WebP, which TensorFlow {tf.__version__} cannot decode; TensorFlow 2.20 can"
        pixels = header.height * header.width
        if pixels > max_pixels:
            return f"{header.width} x {header.height} pixels, more than max_pixels={max_pixels}"
        if header.is_doubtful:
            oriented_image(path, 1)
        return header
    except (OSError, BadHeader, tf.errors.OpError) as error:
        return reason_of(error)


def oriented_image(path: str | os.PathLike, orientation: int, is_deep: bool = False) -> Any:
    """Returns the decoded file, turned by its EXIF orientation."""
    return decode(tf.io.read_file(os.fspath(path)), orientation, is_deep=is_deep)


def decode(
    contents: Any,
    orientation: Any = 1,
    window: Callable[[Any, Any], tuple] | None = None,
    *,
    is_deep: bool = False,
) -> Any:
    """Decodes the bytes of an image, or of a JPEG only the window that is needed.

    Args:
        contents: scalar string tensor.
        orientation: EXIF orientation 1 to 8 to undo; 1 for none.
        window: from height and width to `(top, left, height, width)`; None for the whole image. libjpeg smooths chroma
            across the borders of a window, so that pixels there may differ by up to 16 from those of the whole image.
        is_deep: keep the 16 bits of PNG files that have them, as fractions; whatever the file, the result is float32.

    Returns:
        `(height, width, 3)` in [0, 255]: uint8, or float32 with `is_deep`.
    """
    if window is None:
        return _oriented(_decode_whole(contents, is_deep), orientation)

    def cut_after() -> Any:
        image = _oriented(_decode_whole(contents, is_deep), orientation)
        shape = tf.shape(image)
        top, left, height, width = window(shape[0], shape[1])
        return image[top : top + height, left : left + width]

    def cut_before() -> Any:
        shape = tf.image.extract_jpeg_shape(contents)
        crop = tf.stack(window(shape[0], shape[1]))
        image = tf.image.decode_and_crop_jpeg(contents, crop, channels=3, dct_method=DCT_METHOD)
        return tf.cast(image, tf.float32) if is_deep else image

    upright_jpeg = tf.logical_and(tf.io.is_jpeg(contents), tf.equal(orientation, 1))
    image = tf.cond(upright_jpeg, cut_before, cut_after)
    image.set_shape((None, None, 3))
    return image


def has_16_bits(contents: Any) -> Any:
    """Returns whether the bytes are those of a PNG file with 16 bits per channel, a scalar bool tensor."""
    # Filled up, because TensorFlow refuses to look behind the end of a string.
    start = tf.strings.join([tf.strings.substr(contents, 0, PNG_BIT_DEPTH_AT + 1), b"\0" * (PNG_BIT_DEPTH_AT + 1)])
    is_png = tf.equal(tf.strings.substr(start, 0, len(PNG_START)), PNG_START)
    return tf.logical_and(is_png, tf.equal(tf.strings.substr(start, PNG_BIT_DEPTH_AT, 1), b"\x10"))


def _decode_whole(contents: Any, is_deep: bool) -> Any:
    def shallow() -> Any:
        image = tf.cond(
            tf.io.is_jpeg(contents),
            lambda: tf.io.decode_jpeg(contents, channels=3, dct_method=DCT_METHOD),
            # Without expand_animations=False a GIF becomes a film with four axes.
            lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
        )
        return tf.cast(image, tf.float32) if is_deep else image

    def deep() -> Any:
        return tf.cast(tf.io.decode_png(contents, channels=3, dtype=tf.uint16), tf.float32) / 257

    image = tf.cond(has_16_bits(contents), deep, shallow) if is_deep else shallow()
    image.set_shape((None, None, 3))
    return image


def _oriented(image: Any, orientation: Any) -> Any:
    """Undoes an EXIF orientation: transposed from 5 on, then mirrored along the axes that the number says."""
    if isinstance(orientation, int) and orientation == 1:
        return image

    def one_of(*orientations: int) -> Any:
        return tf.reduce_any(tf.equal(orientation, tf.constant(orientations)))

    image = tf.cond(one_of(5, 6, 7, 8), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    image = tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)
    image.set_shape((None, None, 3))
    return image
