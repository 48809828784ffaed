"""From an image file to what a network takes, by the record that its model carries."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.arguments import choose
from keras_resnet.data.images.decoding import read_image
from keras_resnet.data.images.resizing import resize_for_evaluation
from keras_resnet.data.options import MAX_PIXELS
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import InputRecord
from keras_resnet.preprocessing.record import BYTES

# ITU-R BT.601, as Pillow and the decoders of grey images take the luminance.
LUMINANCE = ((0.299,), (0.587,), (0.114,))
# Order of the channels -> from RGB to it.
CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "rgb": lambda image: image,
    "bgr": lambda image: image[..., ::-1],
    "grey": lambda image: tf.tensordot(tf.cast(image, tf.float64), tf.constant(LUMINANCE, tf.float64), axes=1),
}


def convert_channels(image: Any, order: str, is_deep: Any) -> Any:
    """Returns RGB pixels in another order of the channels, float32, eagerly and inside a graph alike.

    Args:
        image: `(height, width, 3)` in [0, 255].
        order: of the channels, "rgb", "bgr" or "grey".
        is_deep: whether the file has 16 bits per channel, whose luminance keeps its fractions; that of 8 is rounded.

    Raises:
        ValueError: `order` is "any", that of a network that takes no pictures.
    """
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
