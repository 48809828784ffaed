"""The preprocessing configuration of a model: what goes in and what comes out, saved inside the model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_resnet.arguments import check_bool, check_float, check_fraction, check_int, check_names, choose
from keras_resnet.errors import BadType, BadValue
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.outputs import LOG_SCORES

# "pil-": the pixels of Pillow, and so of timm and torchvision, to the last bit.
INTERPOLATIONS = {name: name for name in ("bilinear", "bicubic", "pil-bilinear", "pil-bicubic")}
# Order of the channels -> how many there are. "any" is for examples that are not pictures.
CHANNEL_ORDERS: dict[str, int | None] = {"rgb": 3, "bgr": 3, "grey": 1, "any": None}
# The values of black and of white; image files have those of the last.
PIXEL_RANGES = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}
BYTES = PIXEL_RANGES["0..255"]
# The part of 255 below which pictures of 16 bits use little of their range: 14 bits.
NARROW = 64


@dataclasses.dataclass(frozen=True)
class InputRecord:
    """Preprocessing configuration of a model: how an image file becomes its input, and how its outputs are read.

    Args:
        image_size: int or `(height, width)` in pixels that pictures are brought to, stored as the pair; None to keep
            their size, as for signals and volumes.
        crop_fraction: part of the shorter side that is kept around the center, in (0, 1]; 0.875 is 224 of 256. None
            stretches the whole picture instead, as networks see it whose training images share one size.
        interpolation: of the resizing, with antialiasing: "bilinear" or "bicubic"; "pil-bilinear" or "pil-bicubic" as
            timm and torchvision do it.
        channel_order: "rgb", "bgr", "grey" (one channel, the luminance), or "any": as the data is.
        class_names: one per class, in the order of the outputs; empty if they are not known, and for a regression.
        pixel_range: the values of black and of white in the training images, such as `(0.0, 255.0)`; image files are
            scaled to it. None for examples that are not pictures, and for pictures in other units.
        apply_exif: whether photographs are turned upright by their EXIF orientation.
        task: "classification" (one of several classes), "multilabel" (any number of them) or "regression"; None if it
            is not known.
        activation: what turns logits into probabilities, "softmax" or "sigmoid", whether or not the model ends in it;
            None for a regression, or if it is not known.
        thresholds: of multi-label targets, the probability in (0, 1) from which on it has the class, one per
            class; empty for 0.5.
        coverage: share of new examples whose class is in the set that is predicted, in (0, 1), as conformal prediction
            promises it; None where no sets are predicted.
        set_threshold: the probability from which on a class is in the set; None where no sets are predicted.
        units: of a regression's outputs, one per output, such as `("years",)`; empty if they are not known.
        temperature: by which the logits were divided to calibrate the probabilities; the weights hold it already.
        head: name of the layer whose outputs these are, which tells a new head from the old one; None if it is not
            known.
        normalization: the InputNormalization layer, which turns pixels into what the model was trained on; inside the
            model, or beside it where its weights were loaded without one. None if there is none.
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
    pixel_range: tuple[float, float] | None = BYTES
    apply_exif: bool = True
    task: str | None = None
    activation: str | None = None
    thresholds: tuple[float, ...] = ()
    coverage: float | None = None
    set_threshold: float | None = None
    units: tuple[str, ...] = ()
    temperature: float = 1.0
    head: str | None = None
    normalization: Any = None
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks every field, and stores sizes and names as tuples."""
        size = self.image_size
        if size is not None:
            sizes = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
            if len(sizes) != 2:
                raise BadValue(
                    f"image_size={size!r} has {len(sizes)} values. Allowed is one side, or (height, width). Pass one "
                    "of these, or None for examples that are not pictures."
                )
            object.__setattr__(self, "image_size", tuple(check_int("image_size", side) for side in sizes))
        if self.crop_fraction is not None:
            check_fraction("crop_fraction", self.crop_fraction, one_included=True, zero_included=False)
        choose("interpolation", self.interpolation, INTERPOLATIONS)
        choose("channel_order", self.channel_order, CHANNEL_ORDERS)
        for field in ("class_names", "units"):
            names = getattr(self, field)
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise BadType(f"{field}={names!r} is not a list of strings. Allowed is one per output. Pass a list.")
            check_names(field, names)
            object.__setattr__(self, field, tuple(names))
        object.__setattr__(self, "pixel_range", check_range(self.pixel_range))
        check_bool("apply_exif", self.apply_exif)
        check_float("temperature", self.temperature, minimum=0.0)
        task = None if self.task is None else choose("task", self.task, TASKS)
        if (self.coverage is None) != (self.set_threshold is None):
            raise BadValue(
                f"coverage={self.coverage!r} was given with set_threshold={self.set_threshold!r}. They go together. "
                "Pass both or none."
            )
        for name in ("coverage", "set_threshold"):
            if getattr(self, name) is not None:
                check_fraction(name, getattr(self, name), one_included=name == "set_threshold")
        cuts = tuple(check_fraction("thresholds", value, zero_included=False) for value in self.thresholds)
        object.__setattr__(self, "thresholds", cuts)
        if cuts and (
            task is None or not task.has_thresholds or (self.class_names and len(cuts) != len(self.class_names))
        ):
            raise BadValue(
                f"{len(cuts)} thresholds were given with task={self.task!r} and {len(self.class_names)} class names. "
                "Allowed is one for each class, with task='multilabel'. Leave them out, or give as many."
            )
        if self.activation is not None:
            allowed = task.activations if task is not None and task.has_classes else tuple(LOG_SCORES)
            choose("activation", self.activation, {name: name for name in allowed})
        if task is not None and not task.has_classes and (self.class_names or self.activation):
            raise BadValue(
                f"task={self.task!r} was given with class_names={self.class_names!r} and activation="
                f"{self.activation!r}. Only a classification has them. Leave them out, or pass task='classification'."
            )

    @property
    def side(self) -> int | None:
        """The side in pixels of square inputs; None for others."""
        size = self.image_size
        return size[0] if isinstance(size, tuple) and len(set(size)) == 1 else None

    def to_bytes(self, images: Any) -> Any:
        """Returns pictures of this record's range in [0, 255], in which files and screens have them."""
        black, white = self.pixel_range or BYTES
        return images if (black, white) == BYTES else (images - black) * (BYTES[1] / (white - black))

    def from_bytes(self, images: Any) -> Any:
        """Returns pictures in [0, 255] in the range of this record, in which the model takes them.

        Raises:
            ValueError: the range is not known.
        """
        if self.pixel_range is None:
            raise BadValue(
                "The model was trained on pictures whose pixels are in none of the usual ranges, and image files have "
                f"[0, 255]. Ranges that are known are {', '.join(PIXEL_RANGES)}. Call the model on arrays like those "
                "it was trained on, or train it with data.pixel_range."
            )
        black, white = self.pixel_range
        return images if (black, white) == BYTES else images * ((white - black) / BYTES[1]) + black

    def names_for(self, classes: int) -> tuple[str, ...]:
        """Returns the class names, or the indices of that many classes if they have no names."""
        return self.class_names or tuple(str(index) for index in range(classes))

    def to_dict(self) -> dict[str, Any]:
        """Returns the plain values that a model file stores, without their layer."""
        plain = {name: getattr(self, name) for name in STORED}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    def __str__(self) -> str:
        """Returns a line for each field."""
        lines = []
        for name in STORED:
            value = getattr(self, name)
            value = (", ".join(map(str, value)) or "none") if name in ("class_names", "thresholds", "units") else value
            lines.append(f"{name:<15}{value}{'  (assumed)' if name in self.assumed else ''}")
        scheme = "none" if self.normalization is None else self.normalization.scheme
        return "\n".join([*lines, f"{'normalization':<15}{scheme}"])


STORED = tuple(
    field.name for field in dataclasses.fields(InputRecord) if field.name not in ("normalization", "assumed")
)
INPUTS = ("image_size", "crop_fraction", "interpolation", "channel_order", "pixel_range", "apply_exif")
OUTPUTS = tuple(name for name in STORED if name not in INPUTS)
# What a model of an earlier version did, whose record lacks the field.
EARLIER = {"apply_exif": False}


def check_range(value: Any) -> tuple[float, float] | None:
    """Returns a pair of numbers, black and white, or None."""
    if value is None:
        return None
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2:
        raise BadType(
            f"pixel_range={value!r} is not a pair of numbers. Expected something like (0, 255). Pass one, or None."
        )
    black, white = (check_float("pixel_range", number) for number in pair)
    if not black < white:
        raise BadValue(
            f"pixel_range={value!r} does not rise. Allowed are black and white, such as (0, 255). Pass these."
        )
    return black, white


def as_record(value: Any) -> InputRecord | None:
    """Returns a record from one, from the dict that `to_dict` makes, or None."""
    if value is None or isinstance(value, InputRecord):
        return value
    if not isinstance(value, Mapping) or not set(value) <= set(STORED):
        raise BadType(
            f"record={value!r} is not a record. Allowed are an InputRecord and a dict of {', '.join(STORED)}. Pass one."
        )
    return InputRecord(**{**EARLIER, **value})


def order_of(channels: int | None, num_axes: int = 2) -> str:
    """Returns the usual order of that many channels.

    Args:
        channels: how many; None if that is not known.
        num_axes: of space; pictures have two.

    Returns:
        "rgb", "grey" or "any".
    """
    if num_axes != 2:
        return "any"
    return {3: "rgb", 1: "grey"}.get(channels or 0, "any")
