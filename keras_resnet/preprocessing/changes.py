"""What a policy may do to a picture: batches in [0, 255] in, batches out, each picture by an amount of its own.

Each change is written with `keras.ops` alone. `by_choice` sends every picture of a batch through the change chosen for
it: on TensorFlow each picture is computed once, on backends with static shapes every change is computed and one kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

Change = Callable[[Any, Any], Any]
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow
GREY_FILL = 128.0  # of what a shifted picture uncovers, as in the authors' code of AutoAugment


def by_choice(images: Any, choices: Any, amounts: Any, changes: Sequence[Change]) -> Any:
    """Returns each picture after the change that was chosen for it.

    Args:
        images: `(batch, height, width, channels)`, float32 in [0, 255].
        choices: int32 `(batch,)`, numbers of `changes`.
        amounts: float32 `(batch, numbers)`, what the changes read.
        changes: functions `(images, amounts) -> images` of a batch.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        count = len(changes)
        places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), choices, count)
        pictures, read = (tf.dynamic_partition(values, choices, count) for values in (images, amounts))
        changed = [change(*part) for change, *part in zip(changes, pictures, read, strict=True)]
        return tf.ensure_shape(tf.dynamic_stitch(places, changed), images.shape)
    result = images
    for number, change in enumerate(changes):
        chosen = keras.ops.reshape(choices == number, (-1, 1, 1, 1))
        result = keras.ops.where(chosen, change(images, amounts), result)
    return result


def nothing(images: Any, amounts: Any) -> Any:
    """Returns the pictures as they are."""
    return images


def affine(images: Any, amounts: Any) -> Any:
    """Shears, shifts and turns about the centre: shear x, shear y, shift x, shift y (pixels) and degrees."""
    height, width = images.shape[1], images.shape[2]
    shear_x, shear_y, right, down, degrees = (amounts[:, column] for column in range(5))
    angle = degrees * (3.141592653589793 / 180)
    cosine, sine = keras.ops.cos(angle), keras.ops.sin(angle)
    # From places in the output to places in the input, about the centre.
    a, b = cosine, -sine + shear_x
    c, d = sine + shear_y, cosine
    x, y = (width - 1) / 2, (height - 1) / 2
    zeros = keras.ops.zeros_like(angle)
    rows = [
        *(a, b, x - a * x - b * y - right),
        *(c, d, y - c * x - d * y - down),
        *(zeros, zeros),
    ]
    return keras.ops.image.affine_transform(
        images,
        keras.ops.stack(rows, axis=1),
        interpolation="bilinear",
        fill_mode="constant",
        fill_value=GREY_FILL,
        data_format="channels_last",
    )


def _blended(images: Any, plain: Any, amounts: Any) -> Any:
    """Returns what lies `factor` of the way from a plainer picture to the picture, or beyond it."""
    factor = keras.ops.reshape(amounts[:, 0], (-1, 1, 1, 1))
    return keras.ops.clip(plain + factor * (images - plain), 0.0, 255.0)


def _grey(images: Any) -> Any:
    if images.shape[-1] != 3:
        return images
    weights = keras.ops.convert_to_tensor(LUMINANCE, dtype="float32")
    return keras.ops.sum(images * weights, axis=-1, keepdims=True)


def brightness(images: Any, amounts: Any) -> Any:
    """Black at factor 0, as it is at 1."""
    return _blended(images, keras.ops.zeros_like(images), amounts)


def color(images: Any, amounts: Any) -> Any:
    """Grey at factor 0, as it is at 1."""
    return _blended(images, _grey(images), amounts)


def contrast(images: Any, amounts: Any) -> Any:
    """The mean of the grey picture at factor 0, as it is at 1."""
    return _blended(images, keras.ops.mean(_grey(images), axis=(1, 2, 3), keepdims=True), amounts)


def sharpness(images: Any, amounts: Any) -> Any:
    """Smoothed by a 3x3 window at factor 0, as it is at 1; the border stays."""
    # The window 1 1 1, 1 5 1, 1 1 1 over 13 as sums of rows and columns. Not a convolution: TensorFlow's has the wrong
    # shape for no pictures, which is how many some changes are chosen for.
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = images[:, 1:-1, 1:-1]
    smooth = (box + 4 * inner) / 13
    factor = keras.ops.reshape(amounts[:, 0], (-1, 1, 1, 1))
    difference = (factor - 1) * (inner - smooth)
    padded = keras.ops.pad(difference, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return keras.ops.clip(images + padded, 0.0, 255.0)


def posterize(images: Any, amounts: Any) -> Any:
    """Keeps the highest bits of each value: `amounts` holds how many, 0 to 8."""
    bits = keras.ops.round(keras.ops.reshape(amounts[:, 0], (-1, 1, 1, 1)))
    step = keras.ops.power(keras.ops.ones_like(bits) * 2.0, 8.0 - bits)
    return keras.ops.floor(keras.ops.round(images) / step) * step


def solarize(images: Any, amounts: Any) -> Any:
    """Turns values from the threshold on into their opposites."""
    threshold = keras.ops.reshape(amounts[:, 0], (-1, 1, 1, 1))
    return keras.ops.where(images >= threshold, 255.0 - images, images)


def invert(images: Any, amounts: Any) -> Any:
    """Turns every value into its opposite."""
    return 255.0 - images


def autocontrast(images: Any, amounts: Any) -> Any:
    """Spreads each channel over [0, 255]; a channel of one value stays."""
    low = keras.ops.min(images, axis=(1, 2), keepdims=True, initial=255.0)
    high = keras.ops.max(images, axis=(1, 2), keepdims=True, initial=0.0)
    spread = high - low
    scaled = (images - low) * (255.0 / keras.ops.where(spread > 0, spread, 1.0))
    return keras.ops.where(spread > 0, scaled, images)


def equalize(images: Any, amounts: Any) -> Any:
    """Spreads the values of each channel so that all are about as frequent, as Pillow does."""
    shape = keras.ops.shape(images)
    height, width, channels = images.shape[1:]
    values = keras.ops.cast(keras.ops.round(images), "int32")
    # A histogram a picture and channel, as sums over one long line of bins.
    first = keras.ops.reshape(keras.ops.arange(shape[0] * channels, dtype="int32"), (-1, 1, 1, channels)) * 256
    bins = keras.ops.reshape(values + first, (-1,))
    ones = keras.ops.ones_like(bins, dtype="float32")
    counts = keras.ops.reshape(_sums(ones, bins, shape[0] * channels * 256), (-1, 256))
    # Pillow takes the pixels below the brightest as the whole, and rounds down twice.
    places = keras.ops.cumsum(keras.ops.cast(counts > 0, "int32"), axis=1)
    last = keras.ops.cast(places == places[:, -1:], "int32") * keras.ops.cast(counts > 0, "int32")
    step = keras.ops.floor((height * width - keras.ops.sum(counts * keras.ops.cast(last, "float32"), axis=1)) / 255)
    step = keras.ops.expand_dims(step, 1)
    below = keras.ops.cumsum(counts, axis=1) - counts
    table = keras.ops.clip(
        keras.ops.floor((keras.ops.floor(step / 2) + below) / keras.ops.where(step > 0, step, 1.0)), 0.0, 255.0
    )
    same = keras.ops.expand_dims(keras.ops.arange(256, dtype="float32"), 0)
    table = keras.ops.reshape(keras.ops.where(step > 0, table, same), (-1,))
    return keras.ops.reshape(keras.ops.take(table, bins, axis=0), shape)


def _sums(values: Any, bins: Any, count: Any) -> Any:
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.math.unsorted_segment_sum(values, bins, count)  # whose count may be known at run time alone
    return keras.ops.segment_sum(values, bins, count)
