"""From the bytes of an image file to RGB, eagerly and inside tf.data alike: uint8, or float32 for files of 16 bits."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf

from keras_resnet.arguments import check_bool, check_int, choose
from keras_resnet.data.images.headers import (
    EXIF_ORIENTATION,
    MAX_SEGMENTS,
    BadHeader,
    Header,
    bad_image_error,
    read_header,
    reason_of,
)
from keras_resnet.data.images.resizing import resize_for_evaluation
from keras_resnet.data.options import MAX_PIXELS
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import InputRecord
from keras_resnet.preprocessing.image_ops import LUMINANCE
from keras_resnet.preprocessing.record import BYTES

# Order of the channels -> from RGB to it.
CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "rgb": lambda image: image,
    "bgr": lambda image: image[..., ::-1],
    "grey": lambda image: tf.tensordot(tf.cast(image, tf.float64), tf.constant(LUMINANCE, tf.float64)[:, None], axes=1),
}


def convert_channels(image: Any, order: str, is_deep: Any) -> Any:
    """Returns RGB pixels in another order of the channels, float32, eagerly and inside a graph alike."""
    if order == "any":
        raise BadValue(
            "channel_order='any' is that of a network which takes no pictures. Image files are read as 'rgb', 'bgr' or "
            "'grey'. Pass an array (.npy or .npz), or train the model with a record that says the order."
        )
    converted = choose("channel_order", order, CONVERSIONS)(image)
    if order == "grey":
        converted = tf.where(is_deep, converted, tf.round(converted))
    return tf.cast(converted, tf.float32)


def read_for_network(path: str | os.PathLike, record: InputRecord, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads one image file as a network takes it: channels, crop and size.

    The same pixels as `Dataset.batches` gives for this file with the sizes of the record.

    Args:
        path: of the file.
        record: what the network takes, from `preprocessing.for_model(model)`.
        max_pixels: as for `read_image`.

    Returns:
        `(height, width, channels)` in the record's `pixel_range`: uint8, or float32 if it was resized or scaled, or
        has 16 bits per channel.

    Raises:
        BadImageError: the file cannot be read; the message names it.
        ValueError: the network takes no pictures, or its pixels are in units that are not known.

    Example:
        >>> import keras_resnet
        >>> from keras_resnet import data, preprocessing
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), width=4)
        >>> preprocessing.for_model(model).side
        32
    """
    image = read_image(path, max_pixels=max_pixels, apply_exif=record.apply_exif)
    if record.channel_order != "rgb":  # which costs four bytes a value for a while
        image = convert_channels(image, record.channel_order, image.dtype != np.uint8).numpy().astype(image.dtype)
    image = image if record.image_size is None else np.asarray(resize_by_record(image, record))
    return image if record.pixel_range == BYTES else np.asarray(record.from_bytes(image.astype("float32")))


def resize_by_record(image: Any, record: InputRecord) -> Any:
    """Returns a picture cut and resized by a record that has a size; as it is where nothing is to be done."""
    if tuple(image.shape[-3:-1]) == record.image_size and record.crop_fraction in (None, 1.0):
        return image
    return resize_for_evaluation(image, record.image_size or 1, record.crop_fraction, record.interpolation)


def sizing(record: InputRecord, image_shape: tuple[int | None, ...]) -> dict[str, Any]:
    """Returns the arguments of `Dataset.batches` that cut and resize images of `image_shape` by a record."""
    whole = record.crop_fraction in (None, 1.0)
    if record.image_size is None or (tuple(image_shape[:-1]) == record.image_size and whole):
        return {}
    arguments: dict[str, Any] = {"image_size": record.image_size, "interpolation": record.interpolation}
    if record.crop_fraction is None:
        return {**arguments, "crop": "none"}
    return {**arguments, "crop": "center", "crop_fraction": record.crop_fraction}


# libjpeg's accurate transform gives Pillow's pixels; TensorFlow's default is the fast one.
DCT_METHOD = "INTEGER_ACCURATE"
SCALES = (1, 2, 4, 8)  # libjpeg decodes at 1/1, 1/2, 1/4 or 1/8 of each side
OVERSAMPLING = 2
# EXIF orientations that are undone by transposing, and then by mirroring left and right, top and bottom.
TRANSPOSED, MIRRORED, UPSIDE_DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
PNG_START, PNG_BIT_DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24
MAX_EXIF_ENTRIES = 1000  # a camera writes some twenty
# The most that a file has to have: four channels of 16 bits, and previews, profiles and a phone's film beside them.
BYTES_PER_PIXEL, ANNOTATIONS = 8, 256 * 2**20


def read_image(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS, apply_exif: bool = True) -> np.ndarray:
    """Reads one image file.

    JPEG, PNG, GIF (the first frame), BMP and WebP, told apart by their content; gray, palette and CMYK images become
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
            header, size = read_header(file), os.fstat(file.fileno()).st_size
        unusable = why_unusable(header, size, max_pixels)
        if unusable:
            return unusable
        if header.is_doubtful:
            oriented_image(path, 1)
        return header
    except (OSError, BadHeader, tf.errors.OpError) as error:
        return reason_of(error)


def inspect_part(file: BinaryIO, size: int, max_pixels: int) -> Header | str:
    """Returns the header of an image that is part of a file, or the reason why it cannot be used."""
    try:
        header = read_header(file, size)
        unusable = why_unusable(header, size, max_pixels)
        if unusable:
            return unusable
        if header.is_doubtful:
            file.seek(0)
            decode(file.read(size))
        return header
    except (OSError, BadHeader, tf.errors.OpError) as error:
        return reason_of(error)


def why_unusable(header: Header, size: int, max_pixels: int) -> str:
    """Returns why a picture is not used, by its header; nothing where it is."""
    if header.format == "webp" and not hasattr(tf.io, "decode_webp"):
        return f"WebP, which TensorFlow {tf.__version__} cannot decode; TensorFlow 2.20 can"
    pixels = header.height * header.width
    if pixels > max_pixels:
        return f"{header.width} x {header.height} pixels, more than max_pixels={max_pixels}"
    most = BYTES_PER_PIXEL * pixels + ANNOTATIONS
    if size > most:
        return f"{size} bytes for {header.width} x {header.height} pixels; no more than {most} are read"
    return ""


def oriented_image(path: str | os.PathLike, orientation: int, is_deep: bool = False) -> Any:
    """Returns the decoded file, turned by its EXIF orientation."""
    # As bytes: a name need not be UTF-8.
    return decode(tf.io.read_file(os.fsencode(path)), orientation, is_deep=is_deep)


def decode(
    contents: Any,
    orientation: Any = 1,
    window: Callable[[Any, Any], tuple] | None = None,
    *,
    is_deep: bool = False,
    scaled_for: tuple[int, int] | None = None,
) -> Any:
    """Decodes the bytes of an image, or of a JPEG only the window that is needed.

    Args:
        contents: the bytes of a file.
        orientation: of EXIF, 1 to 8; it is undone.
        window: `(height, width)` of the upright image to the `(top, left, height, width)` that is kept.
        is_deep: whether files may have 16 bits.
        scaled_for: the size to which the window will be resized; a JPEG is decoded at 1/2, 1/4 or 1/8, the smallest
            that leaves the window at least `OVERSAMPLING` times that size. The window's edges are rounded to the
            scaled pixels. None decodes at full size.

    Returns:
        `(height, width, 3)` in [0, 255]: uint8, or float32 with `is_deep`.
    """
    if window is None:
        return _orient(_decode_whole(contents, is_deep), orientation)

    def cut_after() -> Any:
        image = _orient(_decode_whole(contents, is_deep), orientation)
        shape = tf.shape(image)
        top, left, height, width = window(shape[0], shape[1])
        return image[top : top + height, left : left + width]

    def cut_before() -> Any:
        image = _orient(_decode_window(contents, orientation, window, scaled_for), orientation)
        return tf.cast(image, tf.float32) if is_deep else image

    image = tf.cond(tf.io.is_jpeg(contents), cut_before, cut_after)
    image.set_shape((None, None, 3))
    return image


def _decode_window(
    contents: Any, orientation: Any, window: Callable[[Any, Any], tuple], scaled_for: tuple[int, int] | None
) -> Any:
    """Returns the window of a JPEG as it is stored, not yet upright, at the smallest scale that suffices."""
    shape = tf.image.extract_jpeg_shape(contents)[:2]
    is_turned = _may_be_turned(orientation)
    upright = tf.where(_is_any(orientation, TRANSPOSED), shape[::-1], shape) if is_turned else shape
    place = tf.stack(window(upright[0], upright[1]))
    stored = _as_stored(place, upright, orientation) if is_turned else place
    if scaled_for is None:
        return tf.image.decode_and_crop_jpeg(contents, stored, channels=3, dct_method=DCT_METHOD)
    scale = tf.reduce_min(place[2:] // (OVERSAMPLING * tf.constant(scaled_for)))

    def at(ratio: int) -> Any:
        start, extent = stored[:2], stored[2:]
        first, last = (tf.cast(tf.round(edge / ratio), tf.int32) for edge in (start, start + extent))
        crop = tf.concat([first, last - first], 0)
        return tf.image.decode_and_crop_jpeg(contents, crop, channels=3, ratio=ratio, dct_method=DCT_METHOD)

    branches = [functools.partial(at, ratio) for ratio in SCALES]
    return tf.switch_case(tf.reduce_sum(tf.cast(scale >= tf.constant(SCALES[1:]), tf.int32)), branches)


def _as_stored(place: Any, upright: Any, orientation: Any) -> Any:
    """Returns the `(top, left, height, width)` that a window of the upright image has in the image as it is stored."""
    start, extent = place[:2], place[2:]
    is_mirrored = tf.stack([_is_any(orientation, UPSIDE_DOWN), _is_any(orientation, MIRRORED)])
    start = tf.where(is_mirrored, upright - start - extent, start)
    return tf.where(
        _is_any(orientation, TRANSPOSED), tf.concat([start[::-1], extent[::-1]], 0), tf.concat([start, extent], 0)
    )


def exif_orientation(contents: Any) -> Any:
    """Returns the EXIF orientation of the bytes of an image, a scalar int32 tensor: 1 to 8, and 1 if there is none.

    It is read inside the graph, for served models that are given bytes; of files the header says it.
    """
    return tf.cond(tf.io.is_jpeg(contents), lambda: _jpeg_orientation(contents), lambda: tf.constant(1))


def _jpeg_orientation(contents: Any) -> Any:
    data = tf.cast(tf.io.decode_raw(contents, tf.uint8), tf.int32)
    size = tf.size(data)

    def byte(place: Any) -> Any:
        # 0 behind the end: a damaged annotation leaves the picture as it is stored.
        return tf.where(place < size, data[tf.minimum(place, size - 1)], 0)

    def number(place: Any, count: int, little: Any) -> Any:
        values = [byte(place + offset) for offset in range(count)]
        forward = backward = tf.constant(0)
        for value in values:
            forward = forward * 256 + value
        for value in reversed(values):
            backward = backward * 256 + value
        return tf.where(little, backward, forward)

    def segment_goes_on(place: Any, found: Any) -> Any:
        # Markers without EXIF are stepped over up to the start of the scan (DA) or the end of the image (D9).
        code = byte(place + 1)
        stops = tf.logical_or(tf.equal(code, 0xDA), tf.equal(code, 0xD9))
        return (place + 3 < size) & tf.equal(byte(place), 0xFF) & ~stops & tf.equal(found, 0)

    def next_segment(place: Any, found: Any) -> Any:
        code, length = byte(place + 1), number(place + 2, 2, False)
        is_fill, has_no_length = tf.equal(code, 0xFF), tf.equal(code, 0x01) | ((code >= 0xD0) & (code <= 0xD7))
        is_exif = tf.equal(code, 0xE1) & tf.reduce_all(
            tf.equal(tf.stack([byte(place + 4 + i) for i in range(6)]), tf.constant(list(b"Exif\0\0")))
        )
        step = tf.where(is_fill, 1, tf.where(has_no_length, 2, 2 + length))
        return place + step, tf.where(is_exif, place + 10, 0)

    _, tiff = tf.while_loop(
        segment_goes_on, next_segment, (tf.constant(2), tf.constant(0)), maximum_iterations=MAX_SEGMENTS
    )
    little = tf.equal(byte(tiff), ord("I"))
    directory = tiff + number(tiff + 4, 4, little)
    entries = tf.minimum(number(directory, 2, little), MAX_EXIF_ENTRIES)
    places = directory + 2 + 12 * tf.range(entries)
    tags = tf.map_fn(lambda place: number(place, 2, little), places)
    values = tf.map_fn(lambda place: number(place + 8, 2, little), places)
    matches = tf.boolean_mask(values, tf.equal(tags, EXIF_ORIENTATION))
    value = tf.concat([matches, [1]], 0)[0]
    is_valid = (tiff > 0) & (value >= 1) & (value <= 8) & tf.equal(byte(tiff), byte(tiff + 1))
    return tf.where(is_valid, value, 1)


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


def _orient(image: Any, orientation: Any) -> Any:
    """Undoes an EXIF orientation: transposed from 5 on, then mirrored along the axes that the number says."""
    if not _may_be_turned(orientation):
        return image

    image = tf.cond(_is_any(orientation, TRANSPOSED), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(_is_any(orientation, MIRRORED), lambda: tf.reverse(image, [1]), lambda: image)
    image = tf.cond(_is_any(orientation, UPSIDE_DOWN), lambda: tf.reverse(image, [0]), lambda: image)
    image.set_shape((None, None, 3))
    return image


def _may_be_turned(orientation: Any) -> bool:
    """Returns False where no picture is, which is known before a graph is made and spares its operations."""
    return not isinstance(orientation, int) or orientation != 1


def _is_any(orientation: Any, of: tuple[int, ...]) -> Any:
    return tf.reduce_any(tf.equal(orientation, tf.constant(of)))
