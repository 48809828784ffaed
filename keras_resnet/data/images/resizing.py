"""The two croppings of the ImageNet papers, and resizing."""

from typing import Any

import tensorflow as tf

from keras_resnet.arguments import check_fraction, check_int, choose
from keras_resnet.preprocessing.record import INTERPOLATIONS

SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
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
    """Resizes the shorter side to `image_size / crop_fraction` and takes the centre.

    The centre is cut before it is resized, which gives the same picture to within half an input pixel and resizes
    only what is kept. With antialiasing, as Pillow and torchvision do.

    Args:
        image: `(height, width, channels)` or `(batch, height, width, channels)`, values in [0, 255].
        image_size: side in pixels, or `(height, width)`.
        crop_fraction: part of the shorter side that is kept, in (0, 1]; 0.875 is 224 of 256. None stretches the whole
            image instead.
        interpolation: "bilinear" or "bicubic".

    Returns:
        float32 in [0, 255], `(..., *image_size, channels)`.

    Source:
        Krizhevsky et al. 2012, section 4.1; He et al. 2016, section 3.4: the centre 224 pixels of a shorter side of
        256.

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
    """Cuts the centre that `resize_for_evaluation` keeps, at the input's resolution."""
    shape = tf.shape(images)
    top, left, height, width = center_window(shape[-3], shape[-2], image_size or (1, 1), crop_fraction)
    return images[..., top : top + height, left : left + width, :]


def center_window(height: Any, width: Any, image_size: tuple[int, int], crop_fraction: float) -> tuple:
    """Returns `(top, left, height, width)` of the centre: the largest window of that shape, times the fraction."""
    scale = tf.minimum(
        tf.cast(height, tf.float32) / image_size[0], tf.cast(width, tf.float32) / image_size[1]
    ) * tf.constant(crop_fraction, tf.float32)
    crop_height = tf.clip_by_value(tf.cast(tf.round(scale * image_size[0]), tf.int32), 1, height)
    crop_width = tf.clip_by_value(tf.cast(tf.round(scale * image_size[1]), tf.int32), 1, width)
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def random_window(height: Any, width: Any, seed: Any) -> tuple:
    """Returns `(top, left, height, width)` of a random resized crop: a pure function of the sizes and the seed.

    The area is uniform in [0.08, 1] of the image, the ratio of width to height in [3/4, 4/3]; ten tries to fit the
    window, then the whole image.

    Args:
        height: int32 scalar, pixels.
        width: int32 scalar, pixels.
        seed: int64 tensor of shape (2,).

    Source:
        Szegedy et al. 2015, "Going Deeper with Convolutions", section 6; ten tries as in torchvision.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]),
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=RATIO,
        area_range=SCALE,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return begin[0], begin[1], size[0], size[1]


def resize(
    images: Any, image_size: tuple[int, int], antialias_above: float = 1.0, interpolation: str = "bilinear"
) -> Any:
    """Returns float32 images of `image_size`, with antialiasing where they shrink by more than a factor."""
    shape = tf.shape(images)
    shrinking = tf.maximum(shape[-3] / image_size[0], shape[-2] / image_size[1])
    return tf.cond(
        shrinking > antialias_above,
        lambda: tf.image.resize(images, image_size, method=interpolation, antialias=True),
        lambda: tf.image.resize(images, image_size, method=interpolation),
    )
