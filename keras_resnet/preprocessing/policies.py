"""Augmentation policies: their operations as tables, and the base that sends each picture through some of them.

Keras's RandAugment takes the same operations for a whole batch, and it, its AugMix and its RandomColorJitter draw from
generators of their own instead of the seed they are given, so that a resumed run would not see the same pictures (Keras
3.15). These are pure functions of the seed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import image_ops
from keras_resnet.preprocessing.transforms import RandomTransform


@dataclasses.dataclass(frozen=True)
class Operation:
    """A change with the range of its amount.

    Attributes:
        change: what is done.
        start: the amount at level 0, which for most changes nothing.
        end: the amount at level 1.
        column: of the amounts, where the change reads it.
        signed: whether the amount lies on either side of `start` at random.
        unit: of the amount: "" as it is, "width" or "height" for shares of that side.
        whole: whether the amount is brought to a whole number in the direction of `start`, as `int()` does in code
            that counts from there.
        placed: whether columns 1 and 2 of the amounts hold a place, as shares of the sides.
    """

    change: image_ops.ImageOp
    start: float = 0.0
    end: float = 0.0
    column: int = 0
    signed: bool = False
    unit: str = ""
    whole: bool = False
    placed: bool = False


def _table(
    *, shear: float, shift: float, turn: float, blend: float, bits: float, in_pixels: bool = False
) -> dict[str, Operation]:
    sides = ("", "") if in_pixels else ("width", "height")
    return {
        "identity": Operation(image_ops.nothing),
        "shear_x": Operation(image_ops.affine, 0.0, shear, 0, signed=True),
        "shear_y": Operation(image_ops.affine, 0.0, shear, 1, signed=True),
        "translate_x": Operation(image_ops.affine, 0.0, shift, 2, signed=True, unit=sides[0]),
        "translate_y": Operation(image_ops.affine, 0.0, shift, 3, signed=True, unit=sides[1]),
        "rotate": Operation(image_ops.affine, 0.0, turn, 4, signed=True),
        "brightness": Operation(image_ops.brightness, 1.0, 1.0 + blend, signed=True),
        "color": Operation(image_ops.color, 1.0, 1.0 + blend, signed=True),
        "contrast": Operation(image_ops.contrast, 1.0, 1.0 + blend, signed=True),
        "sharpness": Operation(image_ops.sharpness, 1.0, 1.0 + blend, signed=True),
        "posterize": Operation(image_ops.posterize, 8.0, 8.0 - bits),
        "solarize": Operation(image_ops.solarize, 255.0, 0.0),
        "autocontrast": Operation(image_ops.autocontrast),
        "equalize": Operation(image_ops.equalize),
        "invert": Operation(image_ops.invert),
    }


# Ranges of AutoAugment and RandAugment (Cubuk et al. 2019, table 6, shifts as shares of 331 px), of TrivialAugment's
# "wide" space (Müller and Hutter 2021, table 6, shifts in pixels), and of AugMix (Hendrycks et al. 2020, appendix C).
RANDAUGMENT_RANGES = _table(shear=0.3, shift=150 / 331, turn=30.0, blend=0.9, bits=4.0)
TRIVIALAUGMENT_RANGES = _table(shear=0.99, shift=32.0, turn=135.0, blend=0.99, bits=6.0, in_pixels=True)
AUGMIX_RANGES = _table(shear=0.3, shift=1 / 3, turn=30.0, blend=0.9, bits=4.0)
# All but "invert", as in both papers; of AugMix without the corruptions that networks are later judged on.
RANDAUGMENT_OPS = tuple(name for name in RANDAUGMENT_RANGES if name != "invert")
AUGMIX_OPS = tuple(
    name for name in RANDAUGMENT_OPS if name not in ("identity", "brightness", "color", "contrast", "sharpness")
)

# RandAugment as timm computes it with "inc1": ranges of its `rand-m*-inc1` for magnitudes of 10, increasing with the
# magnitude; each operation happens with probability 0.5.
TIMM: dict[str, Operation] = {
    **_table(shear=0.3, shift=0.45, turn=30.0, blend=0.9, bits=4.0),
    "posterize": Operation(image_ops.posterize, 4.0, 0.0, whole=True),
    "solarize": Operation(image_ops.solarize, 256.0, 0.0, whole=True),
    "solarize_add": Operation(image_ops.solarize_add, 0.0, 110.0, whole=True),
}
# RandAugment as its authors computed it for EfficientNet and ResNet-RS (autoaugment.py of tpu/models/official/
# efficientnet), for magnitudes of 10: enhancements run from 0.1 to 1.9 in one direction, posterize and solarize grow
# weaker.
TPU: dict[str, Operation] = {
    **_table(shear=0.3, shift=100.0, turn=30.0, blend=0.9, bits=4.0, in_pixels=True),
    **{
        name: Operation(change, 0.1, 1.9)
        for name, change in (
            ("brightness", image_ops.brightness),
            ("color", image_ops.color),
            ("contrast", image_ops.contrast),
            ("sharpness", image_ops.sharpness),
        )
    },
    "posterize": Operation(image_ops.posterize, 0.0, 4.0, whole=True),
    "solarize": Operation(image_ops.solarize, 0.0, 256.0, whole=True),
    "solarize_add": Operation(image_ops.solarize_add, 0.0, 110.0, whole=True),
    "cutout": Operation(image_ops.cutout, 0.0, 40.0, whole=True, placed=True),
}


@dataclasses.dataclass(frozen=True)
class RandAugmentSpace:
    """A published form of RandAugment.

    Attributes:
        table: of its operations.
        names: those that are drawn, all alike.
        probability: with which a drawn operation happens.
    """

    table: dict[str, Operation]
    names: tuple[str, ...]
    probability: float = 1.0


RANDAUGMENT_SPACES = {
    "paper": RandAugmentSpace(RANDAUGMENT_RANGES, RANDAUGMENT_OPS),
    "timm": RandAugmentSpace(TIMM, tuple(name for name in TIMM if name != "identity"), 0.5),
    "tpu": RandAugmentSpace(TPU, tuple(name for name in TPU if name != "identity")),
}

Step = tuple[str, float, int]
# Sub-policies (operation, probability, magnitude of 9) of Cubuk et al. 2019, "AutoAugment", appendix, as published with
# the code of the paper.
IMAGENET: tuple[tuple[Step, Step], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)
CIFAR: tuple[tuple[Step, Step], ...] = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)
SUB_POLICIES = {"imagenet": IMAGENET, "cifar": CIFAR}


IMAGE_OPS = (
    *(image_ops.nothing, image_ops.affine, image_ops.brightness, image_ops.color, image_ops.contrast),
    *(image_ops.sharpness, image_ops.posterize, image_ops.solarize, image_ops.invert, image_ops.autocontrast),
    *(image_ops.equalize, image_ops.solarize_add, image_ops.cutout),
)


class Policy(RandomTransform):
    """Changes each picture by its own operations; the base of the policies.

    Args:
        seed: int, or None for a random one; used where the layer is called, not by `Augmentation.apply`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)` in [0, 255], sizes known.

    Output shape:
        That of the input, in [0, 255], in the compute dtype of the layer (float32 by default).
    """

    in_bytes = True

    def draw(self, shape: Any, draws: Any) -> Any:
        """Draws the operations for each picture: a list of `(choices, amounts)` that follow one another."""
        if len(shape) != 4 or not all(isinstance(side, int) for side in shape[1:]):
            raise BadValue(
                f"{type(self).__name__} was given examples of the shape {tuple(shape)}. Allowed are pictures (batch, "
                "height, width, channels) of known size. Bring them to one size first."
            )
        return self.draw_for(shape[0], (shape[1], shape[2]), draws)

    def draw_for(self, count: Any, size: tuple[int, int], draws: Any) -> Any:
        """Returns the draws for that many pictures of `(height, width)`."""
        raise NotImplementedError

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the changed pictures."""
        for choices, amounts in drawn:
            examples = image_ops.by_choice(examples, choices, amounts, IMAGE_OPS)
        return examples


def resolve_operations(
    table: Mapping[str, Operation],
    names: Sequence[str],
    size: tuple[int, int],
    which: Any,
    levels: Any,
    sides: Any,
    places: Any = None,
) -> tuple[Any, Any]:
    """Returns the number of the change of each picture, and the amounts that it reads."""
    rows = [table[name] for name in names]
    units = {"": 1, "height": size[0], "width": size[1]}
    spans = np.zeros((len(rows), image_ops.COLUMNS), "float32")
    starts, signed = np.zeros_like(spans), np.array([row.signed for row in rows], "float32")
    whole, placed = np.zeros((2, len(rows), 1), "float32")
    for index, row in enumerate(rows):
        whole[index], placed[index] = row.whole, row.placed
        starts[index, row.column] = row.start
        spans[index, row.column] = (row.end - row.start) * units[row.unit]
    numbers = np.array([IMAGE_OPS.index(row.change) for row in rows], "int32")
    turned = keras.ops.take(keras.ops.convert_to_tensor(signed), which, axis=0)
    factor = levels * (1 - turned + turned * sides)
    start, span = (keras.ops.take(keras.ops.convert_to_tensor(values), which, axis=0) for values in (starts, spans))
    moved = span * factor[:, None]
    if whole.any():
        # int() of code that counts from the start: towards it. A little more, for what float32 puts just below a whole.
        towards = keras.ops.sign(moved) * keras.ops.floor(keras.ops.abs(moved) + 1e-4)
        moved = keras.ops.where(keras.ops.take(keras.ops.convert_to_tensor(whole), which, axis=0) > 0, towards, moved)
    amounts = start + moved
    if placed.any():
        shares = keras.ops.pad(places, ((0, 0), (1, image_ops.COLUMNS - 3)))
        amounts = amounts + keras.ops.take(keras.ops.convert_to_tensor(placed), which, axis=0) * shares
    return keras.ops.take(keras.ops.convert_to_tensor(numbers), which, axis=0), amounts


def signs(count: Any, draws: Any) -> Any:
    """Returns float32 `(count,)`, -1 or 1 alike."""
    return keras.ops.where(keras.random.uniform((count,), seed=draws) < 0.5, -1.0, 1.0)
