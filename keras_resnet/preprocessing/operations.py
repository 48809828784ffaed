"""The table of random changes of training images, in their order, and the augmentation that is built from it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import keras

from keras_resnet.arguments import check_bool, check_float, check_int
from keras_resnet.preprocessing.augmentation import Augmentation, PadAndCrop


@dataclasses.dataclass(frozen=True)
class Operation:
    """A random change of images, and how far it may go.

    Attributes:
        kind: of the amount: "flag", "integer" or "number"; nothing is done at False or 0.
        layer: from the amount to the Keras layer.
        maximum: of the amount.
        maximum_included: whether it may be reached.
    """

    kind: Literal["flag", "integer", "number"]
    layer: Callable[[Any], keras.layers.Layer]
    maximum: float = math.inf
    maximum_included: bool = True

    def check(self, name: str, amount: Any) -> Any:
        """Returns the amount, or raises TypeError or ValueError naming it."""
        if self.kind == "flag":
            return check_bool(name, amount)
        if self.kind == "integer":
            return check_int(name, amount, minimum=0)
        return check_float(name, amount, minimum=0.0, maximum=self.maximum, maximum_included=self.maximum_included)


# In the order in which they are applied, the cheap and exact ones first. float32 under any policy: the pixels of a
# 16-bit policy are rounded by the model, once, and not here.
OPERATIONS: dict[str, Operation] = {
    "flip": Operation("flag", lambda _: keras.layers.RandomFlip("horizontal", dtype="float32", name="flip")),
    "pad_and_crop": Operation("integer", lambda px: PadAndCrop(px, dtype="float32", name="pad_and_crop")),
    "rotation": Operation(
        "number",
        lambda degrees: keras.layers.RandomRotation(degrees / 360, dtype="float32", name="rotation"),
        maximum=180.0,
    ),
    "zoom": Operation(
        "number",
        lambda share: keras.layers.RandomZoom(share, dtype="float32", name="zoom"),
        maximum=1.0,
        maximum_included=False,
    ),
    "translation": Operation(
        "number",
        lambda share: keras.layers.RandomTranslation(share, share, dtype="float32", name="translation"),
        maximum=1.0,
    ),
}


def augmentation(
    *,
    flip: bool = False,
    pad_and_crop: int = 0,
    rotation: float = 0.0,
    zoom: float = 0.0,
    translation: float = 0.0,
) -> Augmentation | None:
    """Builds the augmentation of a recipe.

    Args:
        flip: left-right, half of the images.
        pad_and_crop: furthest shift in whole pixels, 0 for none.
        rotation: furthest turn to either side in degrees, [0, 180].
        zoom: furthest change of size as a fraction, [0, 1): 0.1 is 90 % to 110 %.
        translation: furthest shift as a fraction of height and width, [0, 1].

    Returns:
        The layers in that order, the cheap and exact ones first; None when nothing is asked for.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Example:
        >>> from keras_resnet.preprocessing import augmentation
        >>> [layer.name for layer in augmentation(flip=True, rotation=15.0).layers]
        ['flip', 'rotation']
    """
    amounts = {
        "flip": flip,
        "pad_and_crop": pad_and_crop,
        "rotation": rotation,
        "zoom": zoom,
        "translation": translation,
    }
    checked = {name: row.check(name, amounts[name]) for name, row in OPERATIONS.items()}
    layers = [OPERATIONS[name].layer(amount) for name, amount in checked.items() if amount]
    return Augmentation(layers, dtype="float32") if layers else None
