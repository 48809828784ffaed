"""What a network takes, as one record that is saved inside its model."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras

from keras_resnet.arguments import check_fraction, check_int, choose
from keras_resnet.errors import BadType, BadValue

if TYPE_CHECKING:
    from keras_resnet.preprocessing.normalization import InputNormalization

INTERPOLATIONS = {"bilinear": "bilinear", "bicubic": "bicubic"}
# Order of the channels -> how many there are. "any" is for what is no picture.
CHANNEL_ORDERS: dict[str, int | None] = {"rgb": 3, "bgr": 3, "grey": 1, "any": None}


@dataclasses.dataclass(frozen=True)
class InputRecord:
    """What a network takes: how a picture becomes its input, and what its outputs are called.

    Args:
        image_size: int or `(height, width)` in pixels that pictures are brought to, stored as the pair; None to keep
            their size, as for signals and volumes.
        crop_fraction: part of the shorter side that is kept around the centre, in (0, 1]; 0.875 is 224 of 256. None
            stretches the whole picture instead, as networks see it whose training images share one size.
        interpolation: of the resizing, "bilinear" or "bicubic", with antialiasing.
        channel_order: "rgb", "bgr", "grey" (one channel, the luminance), or "any": as the data is.
        class_names: one a class, in the order of the outputs; empty for a regression.
        normalization: the layer inside the model that turns [0, 255] into what the network was trained on, None where
            there is none.
        assumed: the fields that the model does not carry, whose defaults were taken.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Example:
        >>> from keras_resnet.preprocessing import InputRecord
        >>> InputRecord(image_size=224, crop_fraction=0.875, class_names=("cat", "dog")).side
        224
    """

    image_size: Any = None
    crop_fraction: float | None = 1.0
    interpolation: str = "bilinear"
    channel_order: str = "rgb"
    class_names: tuple[str, ...] = ()
    normalization: "InputNormalization | None" = None
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks every field, and stores sizes and names as tuples."""
        size = self.image_size
        if size is not None:
            sizes = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
            if len(sizes) != 2:
                raise BadValue(
                    f"image_size={size!r} has {len(sizes)} values. Allowed is one side, or (height, width). Pass one "
                    "of these, or None for what is no picture."
                )
            object.__setattr__(self, "image_size", tuple(check_int("image_size", side) for side in sizes))
        if self.crop_fraction is not None:
            check_fraction("crop_fraction", self.crop_fraction, one_included=True, zero_included=False)
        choose("interpolation", self.interpolation, INTERPOLATIONS)
        choose("channel_order", self.channel_order, CHANNEL_ORDERS)
        names = self.class_names
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise BadType(f"class_names={names!r} is not a list of strings. Allowed is a name a class. Pass a list.")
        object.__setattr__(self, "class_names", tuple(names))

    @property
    def side(self) -> int | None:
        """The side in pixels of square inputs; None for others."""
        size = self.image_size
        return size[0] if isinstance(size, tuple) and len(set(size)) == 1 else None

    def stored(self) -> dict[str, Any]:
        """Returns what a model file holds: plain values, without the layer that holds them."""
        plain = {name: getattr(self, name) for name in STORED}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    def __str__(self) -> str:
        """Returns a line for each field."""
        lines = []
        for name in STORED:
            value = getattr(self, name)
            value = (", ".join(value) or "none") if name == "class_names" else value
            lines.append(f"{name:<15}{value}{'  (assumed)' if name in self.assumed else ''}")
        scheme = "none" if self.normalization is None else self.normalization.scheme
        return "\n".join([*lines, f"{'normalization':<15}{scheme}"])


STORED = ("image_size", "crop_fraction", "interpolation", "channel_order", "class_names")


def as_record(value: Any) -> InputRecord | None:
    """Returns a record from one, from the dict that `stored` makes, or None.

    Raises:
        TypeError, ValueError: anything else.
    """
    if value is None or isinstance(value, InputRecord):
        return value
    if not isinstance(value, Mapping) or not set(value) <= set(STORED):
        raise BadType(
            f"record={value!r} is no record. Allowed are an InputRecord and a dict of {', '.join(STORED)}. Pass one."
        )
    return InputRecord(**value)


def for_model(model: keras.Model) -> InputRecord:
    """Returns what a model takes: the record that was saved in it, or defaults where it carries none.

    The sizes and the number of channels of the model's own input come before those of the record.

    Args:
        model: a Keras model; models nested in it are searched too.

    Returns:
        A record whose `assumed` names the fields that are defaults: the whole picture but for what its aspect ratio
        costs (`crop_fraction=1.0`), bilinear, RGB or grey by the number of channels, no class names.

    Raises:
        ValueError: `model` holds no InputNormalization layer and takes neither signals, images nor volumes.
    """
    layer = next(_normalizations(model), None)
    shape = tuple(model.inputs[0].shape) if getattr(model, "inputs", None) else ()
    if layer is None and len(shape) not in (3, 4, 5):
        raise BadValue(
            f"model {model.name!r} holds no InputNormalization layer. Only models that were built or trained with one "
            "carry their preprocessing. Put keras_resnet.preprocessing.InputNormalization(scheme) first in the model."
        )
    stored = None if layer is None else layer.record
    record = stored or InputRecord(assumed=STORED)
    data_format = keras.config.image_data_format() if layer is None else layer.data_format
    *sizes, channels = shape[1:] if data_format == "channels_last" else (*shape[2:], shape[1])
    if len(sizes) == 2 and None not in sizes:
        record = dataclasses.replace(
            record, image_size=tuple(sizes), assumed=tuple(name for name in record.assumed if name != "image_size")
        )
    if channels != CHANNEL_ORDERS[record.channel_order] or len(sizes) != 2:
        record = dataclasses.replace(record, channel_order=order_of(channels, len(sizes)))
    return dataclasses.replace(record, normalization=layer)


def order_of(channels: int | None, num_axes: int = 2) -> str:
    """Returns the usual order of so many channels.

    Args:
        channels: how many; None where that is not known.
        num_axes: of space; pictures have two.

    Returns:
        "rgb", "grey" or "any".
    """
    if num_axes != 2:
        return "any"
    return {3: "rgb", 1: "grey"}.get(channels or 0, "any")


def _normalizations(model: keras.Model) -> Iterator[Any]:
    from keras_resnet.preprocessing.normalization import InputNormalization

    for layer in model.layers:
        if isinstance(layer, InputNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _normalizations(layer)
