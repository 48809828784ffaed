"""Image operations of the policies: batches in [0, 255] in, batches out, each picture by its own amount.

Each change is written with `keras.ops` alone. `by_choice` sends every picture of a batch through the change chosen for
it: on TensorFlow each picture is computed once, on backends with static shapes every change is computed and one kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

ImageOp = Callable[[Any, Any], Any]
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and the decoders of gray images take it
COLUMNS = 5  # of the amounts that a change reads
SOLARIZE_ADD_BELOW = 128.0
GREY_FILL = 128.0  # of what a shifted picture uncovers, as in the authors' code of AutoAugment


def by_choice(images: Any, choices: Any, amounts: Any, changes: Sequence[ImageOp]) -> Any:
    """Returns each picture after the change that was chosen for it."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        count = len(changes)
        places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), choices, count)
        pictures, read = (tf.dynamic_partition(values, choices, count) for values in (images, amounts))
        changed = [change(*part) for change, *part in zip(changes, pictures, read, strict=True)]
        return tf.ensure_shape(tf.dynamic_stitch(places, changed), images.shape)
    result = images
    for number, change in enumerate(changes):
        chosen = keras.ops.reshape(choices == number, (-1, *(1,) * (len(images.shape) - 1)))
        result = keras.ops.where(chosen, change(images, amounts), result)
    return result


def nothing(images: Any, amounts: Any) -> Any:
    """Returns the pictures as they are."""
    return images


def affine(images: Any, amounts: Any) -> Any:
    """Shears about the first corner, shifts, and turns about the center: shear x, y, shift x, y (pixels) and degrees.

    As Pillow's affine transform and so the code of AutoAugment, RandAugment, AugMix and timm. Each pixel is the nearest
    one of the picture; gray comes from outside.
    """
    height, width, channels = images.shape[1:]
    shear_x, shear_y, right, down, degrees = (
        keras.ops.reshape(amounts[:, column], (-1, 1, 1)) for column in range(COLUMNS)
    )
    angle = degrees * (3.141592653589793 / 180)
    cosine, sine = keras.ops.cos(angle), keras.ops.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    columns = keras.ops.reshape(keras.ops.arange(width, dtype="float32"), (1, 1, -1)) - x
    rows = keras.ops.reshape(keras.ops.arange(height, dtype="float32"), (1, -1, 1)) - y
    # From places in the output to places in the input, in a picture with a border of one gray pixel; 0.5 to round.
    from_left = cosine * columns + ((shear_x - sine) * rows + (x - right + 1.5 + shear_x * (height / 2)))
    from_top = (sine + shear_y) * columns + (cosine * rows + (y - down + 1.5 + shear_y * (width / 2)))
    from_left = keras.ops.clip(keras.ops.floor(from_left), 0.0, width + 1.0)
    from_top = keras.ops.clip(keras.ops.floor(from_top), 0.0, height + 1.0)
    within = keras.ops.cast(from_top * (width + 2) + from_left, "int32")
    first = keras.ops.arange(keras.ops.shape(images)[0], dtype="int32") * ((height + 2) * (width + 2))
    bordered = keras.ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=GREY_FILL)
    pixels = keras.ops.reshape(bordered, (-1, channels))
    return pick(pixels, within + keras.ops.reshape(first, (-1, 1, 1)))


def _rows(values: Any, width: int) -> Any:
    """Returns one value per picture and channel, `(batch, channels)`, as a row of that many pixels.

    TensorFlow adds it to whole rows in a quarter of the time that it takes to add it to each pixel.
    """
    return keras.ops.tile(keras.ops.reshape(values, (-1, 1, values.shape[-1])), (1, 1, width))


def _blend(images: Any, plain: Any, amounts: Any) -> Any:
    """Interpolates from a plainer picture to the picture by `factor`, or extrapolates beyond it."""
    factor = keras.ops.reshape(amounts[:, 0], (-1, 1, 1, 1))
    return keras.ops.clip(plain + factor * (images - plain), 0.0, 255.0)


def brightness(images: Any, amounts: Any) -> Any:
    """Black at factor 0, as it is at 1."""
    return _blend(images, 0.0, amounts)


def color(images: Any, amounts: Any) -> Any:
    """Grey at factor 0, as it is at 1."""
    if images.shape[-1] != 3:
        return images
    # As a product of matrices: a sum over three channels takes TensorFlow four times as long.
    gray = keras.ops.convert_to_tensor([[share] * 3 for share in LUMINANCE], dtype="float32")
    return _blend(images, keras.ops.matmul(images, gray), amounts)


def contrast(images: Any, amounts: Any) -> Any:
    """The mean of the gray picture at factor 0, as it is at 1."""
    means = keras.ops.mean(keras.ops.mean(images, axis=1, keepdims=True), axis=2, keepdims=True)
    if images.shape[-1] == 3:
        means = means * keras.ops.convert_to_tensor(LUMINANCE, dtype="float32") * 3
    return _blend(images, keras.ops.mean(means, axis=-1, keepdims=True), amounts)


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
    # 255 - x, or x. A choice between two tensors takes TensorFlow three times as long.
    return images + keras.ops.cast(images >= threshold, "float32") * (255.0 - 2 * images)


def solarize_add(images: Any, amounts: Any) -> Any:
    """Adds an amount to values below 128, up to 255."""
    added = keras.ops.minimum(images + keras.ops.reshape(amounts[:, 0], (-1, 1, 1, 1)), 255.0)
    return keras.ops.where(images < SOLARIZE_ADD_BELOW, added, images)


def cutout(images: Any, amounts: Any) -> Any:
    """Covers a square with gray, cut off at the border: half its side in pixels, and its center as shares of the sides.

    Source:
        DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".
    """
    height, width = images.shape[1:3]
    half, x, y = (keras.ops.reshape(amounts[:, column], (-1, 1, 1, 1)) for column in range(3))
    rows = keras.ops.reshape(keras.ops.arange(height, dtype="float32"), (1, -1, 1, 1))
    columns = keras.ops.reshape(keras.ops.arange(width, dtype="float32"), (1, 1, -1, 1))
    beside_row = rows - keras.ops.floor(y * height)
    beside_column = columns - keras.ops.floor(x * width)
    inside = (beside_row >= -half) & (beside_row < half) & (beside_column >= -half) & (beside_column < half)
    return keras.ops.where(inside, GREY_FILL, images)


def invert(images: Any, amounts: Any) -> Any:
    """Turns every value into its opposite."""
    return 255.0 - images


def autocontrast(images: Any, amounts: Any) -> Any:
    """Spreads each channel over [0, 255]; a channel of one value stays."""
    # By columns first: TensorFlow is five times as fast as with both axes at once.
    low = keras.ops.min(keras.ops.min(images, axis=1, initial=255.0), axis=1, initial=255.0)
    high = keras.ops.max(keras.ops.max(images, axis=1, initial=0.0), axis=1, initial=0.0)
    able = high > low
    factor = keras.ops.where(able, 255.0 / keras.ops.where(able, high - low, 1.0), 1.0)
    height, width, channels = images.shape[1:]
    lines = keras.ops.reshape(images, (-1, height, width * channels))
    lines = (lines - _rows(keras.ops.where(able, low, 0.0), width)) * _rows(factor, width)
    return keras.ops.reshape(lines, keras.ops.shape(images))


def equalize(images: Any, amounts: Any) -> Any:
    """Spreads the values of each channel so that all are about as frequent, as Pillow does."""
    shape = keras.ops.shape(images)
    height, width, channels = images.shape[1:]
    lines = keras.ops.reshape(images, (-1, height, width * channels))
    values = keras.ops.cast(keras.ops.round(lines), "int32")
    # A histogram a picture and channel, as sums over one long line of bins.
    first = keras.ops.reshape(keras.ops.arange(shape[0] * channels, dtype="int32") * 256, (-1, channels))
    bins = keras.ops.reshape(values + _rows(first, width), (-1,))
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
    return keras.ops.reshape(pick(table, bins), shape)


def _sums(values: Any, bins: Any, count: Any) -> Any:
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.math.unsorted_segment_sum(values, bins, count)  # whose count may be known at run time alone
    return keras.ops.segment_sum(values, bins, count)


def pick(values: Any, places: Any) -> Any:
    """Returns the rows of `values` at `places`, none of them negative."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(values, places)  # which does not look for negative places first, as Keras does
    return keras.ops.take(values, places, axis=0)
