"""The two croppings of the ImageNet papers, and resizing."""

import math
from typing import Any

import tensorflow as tf

from keras_resnet.arguments import check_fraction, check_int, choose
from keras_resnet.data.images import pillow
from keras_resnet.preprocessing.record import INTERPOLATIONS

SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
CROP_TRIES = 10
CROP_FRACTION = 0.875
# Antialiasing takes a training pipeline from 1650 to 560 images/s (500 x 375 pixels to 224, 2 cores). A crop that
# shrinks by less than 2 loses little without it; evaluation, where each image counts once, always has it.
TRAINING_ANTIALIAS_ABOVE = 2.0


def resize_for_evaluation(
    image: Any,
    image_size: int | tuple[int, int],
    crop_fraction: float | None = CROP_FRACTION,
    interpolation: str = "bilinear",
) -> Any:
    """Resizes the shorter side to `image_size / crop_fraction` and takes the center.

    The center is cut before it is resized, which gives the same picture to within half an input pixel and resizes
    only what is kept. With antialiasing, as Pillow and torchvision do.

    Args:
        image: `(height, width, channels)` or `(batch, height, width, channels)`, values in [0, 255].
        image_size: side in pixels, or `(height, width)`.
        crop_fraction: part of the shorter side that is kept, in (0, 1]; 0.875 is 224 of 256. None stretches the whole
            image instead.
        interpolation: "bilinear" or "bicubic"; "pil-bilinear" or "pil-bicubic" for the pixels of timm and torchvision,
            to the last bit, for uint8 images (others are resized as by "bilinear" and "bicubic"): first the shorter
            side is resized, as Pillow before version 13 does it, in integers, then the center is cut.

    Returns:
        float32 in [0, 255], `(..., *image_size, channels)`.

    Source:
        Krizhevsky et al. 2012, section 4.1; He et al. 2016, section 3.4: the center 224 pixels of a shorter side of
        256. "pil-": `transforms_imagenet_eval` of timm; `Resize` and `CenterCrop` of torchvision.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.data import resize_for_evaluation
        >>> resize_for_evaluation(np.zeros((300, 400, 3), "uint8"), 224).shape
        TensorShape([224, 224, 3])
    """
    height, width = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    size = (check_int("image_size", height), check_int("image_size", width))
    choose("interpolation", interpolation, INTERPOLATIONS)
    image = tf.convert_to_tensor(image)
    if crop_fraction is not None:
        check_fraction("crop_fraction", crop_fraction, one_included=True, zero_included=False)
        if pillow.resizes(image, interpolation):
            return pillow.resize_shorter_side(image, size, crop_fraction, interpolation)
        image = center_crop(image, size, crop_fraction)
    return resize(image, size, interpolation=interpolation)


def stretch(
    images: Any, image_size: tuple[int, int] | None, antialias_above: float = 1.0, interpolation: str = "bilinear"
) -> Any:
    """Resizes whole images to `image_size`, or leaves them as they are where that is their size or None."""
    if image_size is None or tuple(images.shape[-3:-1]) == tuple(image_size):
        return images
    return resize(images, image_size, antialias_above, interpolation)


def center_crop(images: Any, image_size: tuple[int, int] | None, crop_fraction: float = CROP_FRACTION) -> Any:
    """Cuts the center that `resize_for_evaluation` keeps, at the input's resolution."""
    shape = tf.shape(images)
    top, left, height, width = center_window(shape[-3], shape[-2], image_size or (1, 1), crop_fraction)
    return images[..., top : top + height, left : left + width, :]


def center_window(height: Any, width: Any, image_size: tuple[int, int], crop_fraction: float) -> tuple:
    """Returns `(top, left, height, width)` of the center: the largest window of that shape, times the fraction."""
    scale = tf.minimum(
        tf.cast(height, tf.float32) / image_size[0], tf.cast(width, tf.float32) / image_size[1]
    ) * tf.constant(crop_fraction, tf.float32)
    crop_height = tf.clip_by_value(tf.cast(tf.round(scale * image_size[0]), tf.int32), 1, height)
    crop_width = tf.clip_by_value(tf.cast(tf.round(scale * image_size[1]), tf.int32), 1, width)
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def random_window(height: Any, width: Any, seed: Any) -> tuple:
    """Returns `(top, left, height, width)` of a random resized crop: a pure function of the sizes and the seed.

    The procedure of torchvision's RandomResizedCrop: an area uniform in [0.08, 1] of the image and a ratio of width to
    height whose logarithm is uniform in that of [3/4, 4/3] are drawn until the window fits, ten times at most; its
    place is uniform. Where none fits, the largest window around the center whose ratio lies in that range.
    `tf.image.stateless_sample_distorted_bounding_box` draws smaller areas, and its windows do not reach the bottom.

    Source:
        Szegedy et al. 2015, "Going Deeper with Convolutions", section 6; ten tries and the place as in torchvision.
    """
    draws = tf.random.stateless_uniform((CROP_TRIES + 1, 2), seed, alg="philox")
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    area = (SCALE[0] + draws[:-1, 0] * (SCALE[1] - SCALE[0])) * rows * columns
    low, high = (math.log(ratio) for ratio in RATIO)
    ratio = tf.exp(low + draws[:-1, 1] * (high - low))
    heights, widths = tf.round(tf.sqrt(area / ratio)), tf.round(tf.sqrt(area * ratio))
    fits = (heights >= 1) & (heights <= rows) & (widths >= 1) & (widths <= columns)
    first = tf.argmax(fits)
    # Where nothing fits: the whole of one side, and of the other what the ratio allows.
    own_ratio = tf.clip_by_value(columns / rows, *RATIO)
    central = tf.minimum(rows, tf.round(columns / own_ratio)), tf.minimum(columns, tf.round(rows * own_ratio))
    any_fits = tf.reduce_any(fits)
    crop_height = tf.where(any_fits, heights[first], tf.maximum(central[0], 1))
    crop_width = tf.where(any_fits, widths[first], tf.maximum(central[1], 1))
    free = tf.stack([rows - crop_height, columns - crop_width])
    corner = tf.where(any_fits, tf.minimum(tf.floor(draws[-1] * (free + 1)), free), tf.floor(free / 2))
    window = tf.cast(tf.stack([corner[0], corner[1], crop_height, crop_width]), tf.int32)
    return window[0], window[1], window[2], window[3]


def resize(
    images: Any, image_size: tuple[int, int], antialias_above: float = 1.0, interpolation: str = "bilinear"
) -> Any:
    """Returns float32 images of `image_size`, with antialiasing where they shrink by more than a factor."""
    if pillow.resizes(images, interpolation):
        return pillow.resize(images, image_size, interpolation)
    interpolation = interpolation.removeprefix(pillow.PREFIX)
    shape = tf.shape(images)
    shrinking = tf.maximum(shape[-3] / image_size[0], shape[-2] / image_size[1])
    resized = tf.cond(
        shrinking > antialias_above,
        lambda: tf.image.resize(images, image_size, method=interpolation, antialias=True),
        lambda: tf.image.resize(images, image_size, method=interpolation),
    )
    if interpolation != "bicubic":
        return resized
    # Cubic weights overshoot at edges: Pillow and torchvision cut what leaves the range of pixels too. Floats may have
    # any range: theirs is that of the image.
    if images.dtype == tf.uint8:
        return tf.clip_by_value(resized, 0.0, 255.0)
    axes = (-3, -2, -1)
    low, high = (end(images, axis=axes, keepdims=True) for end in (tf.reduce_min, tf.reduce_max))
    return tf.clip_by_value(resized, tf.cast(low, tf.float32), tf.cast(high, tf.float32))
