"""The random changes of training images: their section of a recipe, and what is built from it."""

import dataclasses

from keras_resnet import preprocessing
from keras_resnet.preprocessing import OPERATIONS
from keras_resnet.training import fields


def _amount(name: str) -> object:
    """Returns the field for an operation of the table, with its range."""
    row = OPERATIONS[name]
    if row.kind == "flag":
        return fields.flag(False)
    if row.kind == "integer":
        return fields.integer(0)
    return fields.number(0.0, maximum=row.maximum, open_above=not row.maximum_included)


@dataclasses.dataclass(frozen=True)
class Augment(fields.Section):
    """Random changes of training images, in this order: pixels, degrees, and fractions of size."""

    title = "augment"
    flip: bool = _amount("flip")  # type: ignore[assignment]
    pad_and_crop: int = _amount("pad_and_crop")  # type: ignore[assignment]
    rotation: float = _amount("rotation")  # type: ignore[assignment]
    zoom: float = _amount("zoom")  # type: ignore[assignment]
    translation: float = _amount("translation")  # type: ignore[assignment]

    def build(self) -> preprocessing.Augmentation | None:
        """Returns the layers of what is asked for, in the order of the table; None where nothing is."""
        return preprocessing.augmentation(**dataclasses.asdict(self))
