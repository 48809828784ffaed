"""What policies of random changes choose from, as tables: operations with their ranges, and AutoAugment's pairs."""

import dataclasses

from keras_resnet.preprocessing import changes


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

    change: changes.Change
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
        "identity": Operation(changes.nothing),
        "shear_x": Operation(changes.affine, 0.0, shear, 0, signed=True),
        "shear_y": Operation(changes.affine, 0.0, shear, 1, signed=True),
        "translate_x": Operation(changes.affine, 0.0, shift, 2, signed=True, unit=sides[0]),
        "translate_y": Operation(changes.affine, 0.0, shift, 3, signed=True, unit=sides[1]),
        "rotate": Operation(changes.affine, 0.0, turn, 4, signed=True),
        "brightness": Operation(changes.brightness, 1.0, 1.0 + blend, signed=True),
        "color": Operation(changes.color, 1.0, 1.0 + blend, signed=True),
        "contrast": Operation(changes.contrast, 1.0, 1.0 + blend, signed=True),
        "sharpness": Operation(changes.sharpness, 1.0, 1.0 + blend, signed=True),
        "posterize": Operation(changes.posterize, 8.0, 8.0 - bits),
        "solarize": Operation(changes.solarize, 255.0, 0.0),
        "autocontrast": Operation(changes.autocontrast),
        "equalize": Operation(changes.equalize),
        "invert": Operation(changes.invert),
    }


# Ranges of AutoAugment and RandAugment (Cubuk et al. 2019, table 6, shifts as shares of 331 px), of TrivialAugment's
# "wide" space (Müller and Hutter 2021, table 6, shifts in pixels), and of AugMix (Hendrycks et al. 2020, appendix C).
USUAL = _table(shear=0.3, shift=150 / 331, turn=30.0, blend=0.9, bits=4.0)
WIDE = _table(shear=0.99, shift=32.0, turn=135.0, blend=0.99, bits=6.0, in_pixels=True)
MILD = _table(shear=0.3, shift=1 / 3, turn=30.0, blend=0.9, bits=4.0)
# All but "invert", as in both papers; of AugMix without the corruptions that networks are later judged on.
FOURTEEN = tuple(name for name in USUAL if name != "invert")
NINE = tuple(name for name in FOURTEEN if name not in ("identity", "brightness", "color", "contrast", "sharpness"))

# RandAugment as timm computes it with "inc1": ranges of its `rand-m*-inc1` for magnitudes of 10, increasing with the
# magnitude; each operation happens with probability 0.5.
TIMM: dict[str, Operation] = {
    **_table(shear=0.3, shift=0.45, turn=30.0, blend=0.9, bits=4.0),
    "posterize": Operation(changes.posterize, 4.0, 0.0, whole=True),
    "solarize": Operation(changes.solarize, 256.0, 0.0, whole=True),
    "solarize_add": Operation(changes.solarize_add, 0.0, 110.0, whole=True),
}
# RandAugment as its authors computed it for EfficientNet and ResNet-RS (autoaugment.py of tpu/models/official/
# efficientnet), for magnitudes of 10: enhancements run from 0.1 to 1.9 in one direction, posterize and solarize grow
# weaker.
TPU: dict[str, Operation] = {
    **_table(shear=0.3, shift=100.0, turn=30.0, blend=0.9, bits=4.0, in_pixels=True),
    **{
        name: Operation(change, 0.1, 1.9)
        for name, change in (
            ("brightness", changes.brightness),
            ("color", changes.color),
            ("contrast", changes.contrast),
            ("sharpness", changes.sharpness),
        )
    },
    "posterize": Operation(changes.posterize, 0.0, 4.0, whole=True),
    "solarize": Operation(changes.solarize, 0.0, 256.0, whole=True),
    "solarize_add": Operation(changes.solarize_add, 0.0, 110.0, whole=True),
    "cutout": Operation(changes.cutout, 0.0, 40.0, whole=True, placed=True),
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
    "paper": RandAugmentSpace(USUAL, FOURTEEN),
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
