"""Pillow's resizing in TensorFlow, equal to the last bit: the pixels for which accuracies of weights are published."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

PREFIX = "pil-"
PRECISION = 22  # bits of a weight behind the point
# Both parts of a weight times a pixel, summed over a thousand pixels, are integers that float32 holds.
LOW_BITS = 7
BLOCK = 32  # outputs of one matrix product


def _triangle(x: Any) -> Any:
    return tf.maximum(1.0 - tf.abs(x), 0.0)


def _cubic(x: Any) -> Any:
    x = tf.abs(x)
    inner, outer = (1.5 * x - 2.5) * x * x + 1.0, (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return tf.where(x < 1.0, inner, tf.where(x < 2.0, outer, 0.0))


# Name -> the filter, and where it ends.
FILTERS: dict[str, tuple[Callable[[Any], Any], float]] = {
    f"{PREFIX}bilinear": (_triangle, 1.0),
    f"{PREFIX}bicubic": (_cubic, 2.0),
}


def is_pillow(interpolation: str) -> bool:
    """Returns whether an interpolation is one of Pillow's."""
    return interpolation in FILTERS


def resizes(images: Any, interpolation: str) -> bool:
    """Returns whether images are resized here: those of 8 bits, which Pillow keeps in 8 bits."""
    return is_pillow(interpolation) and images.dtype == tf.uint8


def resize(images: Any, image_size: tuple[int, int], interpolation: str) -> Any:
    """Returns images of `image_size` as `PIL.Image.resize` makes them, columns before rows.

    From version 13 on Pillow begins with the axis that leaves less to do for the second; earlier ones, with which the
    published weights were made, begin with the columns.

    Args:
        images: uint8 `(height, width, channels)` or `(batch, height, width, channels)`.
        image_size: height and width in pixels.
        interpolation: "pil-bilinear" or "pil-bicubic".

    Returns:
        float32 `(..., *image_size, channels)`, whole numbers in [0, 255].
    """
    return _resize(images, image_size, image_size, (0, 0), interpolation)


def resize_shorter_side(images: Any, image_size: tuple[int, int], crop_fraction: float, interpolation: str) -> Any:
    """Returns the center of images whose shorter side is resized to `image_size / crop_fraction`, as timm does it.

    Args:
        images: as for `resize`.
        image_size: height and width of what is returned.
        crop_fraction: part of the shorter side that is kept.
        interpolation: as for `resize`.
    """
    sides = tf.cast(tf.shape(images)[-3:-1], tf.float64)
    rows, columns = (float(math.floor(side / crop_fraction)) for side in image_size)
    if rows == columns:  # the longer side is rounded down, the shorter one is exact
        full = tf.floor(rows * sides / tf.reduce_min(sides))
    else:
        full = tf.round(sides / tf.reduce_min(sides / [rows, columns]))
    corner = tf.cast(tf.round((full - image_size) / 2), tf.int32)
    return _resize(images, tf.cast(full, tf.int32), image_size, corner, interpolation)


def _resize(images: Any, full: Any, kept: tuple[int, int], corner: Any, interpolation: str) -> Any:
    """Returns a window of images resized to the size `full`."""
    shape = tf.shape(images)
    with tf.device("CPU:0"):  # other devices round what they multiply
        rows = _weights(shape[-3], full[0], corner[0], kept[0], interpolation)
        columns = _weights(shape[-2], full[1], corner[1], kept[1], interpolation)
        (top, bottom), (left, right) = (
            (starts[0], tf.reduce_max(starts) + tf.shape(weights)[1]) for starts, weights in (rows, columns)
        )
        images = _along(-2, images[..., top:bottom, left:right, :], columns[0] - left, columns[1])
        images = _along(-3, images, rows[0] - top, rows[1])
    return tf.cast(images, tf.float32)


def _weights(length: Any, size: Any, first: Any, count: int, interpolation: str) -> tuple[Any, Any]:
    """Returns the first input of each output, and the weights of the inputs from there on, in units of 2**-22.

    Args:
        length: of the input.
        size: of the whole output.
        first: of the outputs that are wanted.
        count: how many of them.
        interpolation: the filter.
    """
    function, support = FILTERS[interpolation]
    scale = tf.cast(length, tf.float64) / tf.cast(size, tf.float64)
    stretch = tf.maximum(scale, 1.0)
    centers = (tf.cast(first, tf.float64) + tf.range(count, dtype=tf.float64) + 0.5) * scale
    starts = tf.maximum(tf.cast(centers - support * stretch + 0.5, tf.int32), 0)
    ends = tf.minimum(tf.cast(centers + support * stretch + 0.5, tf.int32), length)
    places = starts[:, None] + tf.range(tf.reduce_max(ends - starts))
    weights = function((tf.cast(places, tf.float64) - centers[:, None] + 0.5) * (1.0 / stretch))
    weights = tf.where(places < ends[:, None], weights, 0.0)
    weights = weights / tf.cumsum(weights, axis=1)[:, -1:] * 2.0**PRECISION  # summed in Pillow's order
    return starts, tf.cast(weights + 0.5 * tf.sign(weights), tf.int32)


def _along(axis: int, images: Any, starts: Any, weights: Any) -> Any:
    """Returns images resized along one axis: sums of integers, as products of matrices in float32.

    Neighboring outputs read nearly the same inputs: the weights of a block of them are one matrix. A weight has more
    bits than float32 keeps of a sum, so that its upper and its lower bits are two rows.
    """
    count, taps, length = starts.shape[0], tf.shape(weights)[1], tf.shape(images)[axis]
    more = -count % BLOCK
    starts = tf.reshape(tf.concat([starts, tf.repeat(starts[-1:], more)], 0), (-1, BLOCK))
    weights = tf.reshape(tf.pad(weights, ((0, more), (0, 0))), (-1, BLOCK, taps))
    firsts = starts[:, :1]
    span = tf.range(tf.reduce_max(starts - firsts) + taps)
    tap = span - (starts - firsts)[..., None]
    matrix = tf.gather(weights, tf.clip_by_value(tap, 0, taps - 1), batch_dims=2)
    matrix = tf.where((tap >= 0) & (tap < taps), matrix, 0)
    high = tf.bitwise.right_shift(matrix + 2 ** (LOW_BITS - 1), LOW_BITS)
    matrix = tf.cast(tf.concat([high, matrix - high * 2**LOW_BITS], 1), tf.float32)

    rank = len(images.shape)
    order = [axis % rank, *(other for other in range(rank) if other != axis % rank)]
    images = tf.transpose(images, order)
    shape = tf.concat([[count], tf.shape(images)[1:]], 0)
    rows = tf.gather(tf.reshape(images, (length, -1)), tf.minimum(firsts + span, length - 1))
    sums = tf.cast(tf.matmul(matrix, tf.cast(rows, tf.float32)), tf.int32)
    sums = sums[:, :BLOCK] * 2**LOW_BITS + sums[:, BLOCK:]
    pixels = tf.clip_by_value(tf.bitwise.right_shift(sums + 2 ** (PRECISION - 1), PRECISION), 0, 255)
    pixels = tf.reshape(tf.reshape(tf.cast(pixels, tf.uint8), (-1, tf.shape(rows)[-1]))[:count], shape)
    return tf.transpose(pixels, [order.index(place) for place in range(rank)])
