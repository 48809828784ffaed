"""The table of random changes of training examples, in their order, and the augmentation that is built from it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras

from keras_resnet.arguments import check_bool, check_float, check_int, choose
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.augmentation import Augmentation, Erasing, PadAndCrop
from keras_resnet.preprocessing.policy_layers import AugMix, AutoAugment, ColorJitter, RandAugment, TrivialAugment
from keras_resnet.preprocessing.record import BYTES
from keras_resnet.preprocessing.transforms import FlipAxis, Gain, Noise, QuarterTurns, Shift

# A policy from its strength, a fraction of the ranges of its paper, the number of its operations, and the deviation of
# the strength.
POLICIES: dict[str | None, Callable[[float, int, float], keras.layers.Layer]] = {
    "rand_augment": lambda strength, count, std: RandAugment(strength, count, std, name="policy"),
    "rand_augment_timm": lambda strength, count, std: RandAugment(strength, count, std, space="timm", name="policy"),
    "rand_augment_tpu": lambda strength, count, std: RandAugment(strength, count, std, space="tpu", name="policy"),
    "trivial_augment": lambda strength, count, std: TrivialAugment(name="policy"),
    "auto_augment_imagenet": lambda strength, count, std: AutoAugment("imagenet", name="policy"),
    "auto_augment_cifar": lambda strength, count, std: AutoAugment("cifar", name="policy"),
    "augmix": lambda strength, count, std: AugMix(strength, name="policy"),
}


@dataclasses.dataclass(frozen=True)
class Operation:
    """A random change of examples, and how far it may go.

    Attributes:
        kind: of the amount: "flag", "integer" or "number"; nothing is done at False or 0.
        layer: from the amount to the layer, for pictures.
        other: the same for signals and volumes; None where it makes sense for pictures alone.
        maximum: of the amount.
        maximum_included: whether it may be reached.
    """

    kind: Literal["flag", "integer", "number"]
    layer: Callable[[Any], keras.layers.Layer]
    other: Callable[[Any], keras.layers.Layer] | None = None
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
    "flip": Operation("flag", lambda _: FlipAxis(name="flip"), lambda _: FlipAxis(name="flip")),
    "quarter_turns": Operation(
        "flag", lambda _: QuarterTurns(name="quarter_turns"), lambda _: QuarterTurns((1, 2), name="quarter_turns")
    ),
    "pad_and_crop": Operation(
        "integer",
        lambda px: PadAndCrop(px, dtype="float32", name="pad_and_crop"),
        lambda steps: Shift(steps, name="pad_and_crop"),
    ),
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
    "color_jitter": Operation("number", lambda amount: ColorJitter(amount, name="color_jitter"), maximum=1.0),
    "gain": Operation(
        "number", lambda amount: Gain(amount, name="gain"), lambda amount: Gain(amount, name="gain"), 1.0, False
    ),
    "noise": Operation(
        "number", lambda stddev: Noise(stddev, name="noise"), lambda stddev: Noise(stddev, name="noise")
    ),
    "erasing": Operation("number", lambda chance: Erasing(chance, name="erasing"), maximum=1.0),
}
# The policy comes before these.
AFTER_POLICY = ("color_jitter", "gain", "noise", "erasing")


def augmentation(
    *,
    policy: str | None = None,
    policy_strength: float = 0.3,
    policy_ops: int = 2,
    policy_std: float = 0.0,
    rank: int = 2,
    pixel_range: tuple[float, float] | None = BYTES,
    **amounts: Any,
) -> Augmentation | None:
    """Builds the augmentation of a recipe.

    Args:
        policy: None, "rand_augment", "rand_augment_timm", "rand_augment_tpu", "trivial_augment",
            "auto_augment_imagenet", "auto_augment_cifar" or "augmix"; for pictures.
        policy_strength: of RandAugment and AugMix, a fraction of the ranges of their papers, in [0, 1].
        policy_ops: operations that RandAugment applies in turn.
        policy_std: standard deviation of the strength of RandAugment from operation to operation.
        rank: axes of space: 1 for signals, 2 for pictures, 3 for volumes.
        pixel_range: the values of black and of white in pictures; None if that is not known, as of other examples.
        **amounts: `flip` (bool): the last axis of space, half of the examples. `quarter_turns` (bool): in the plane of
            a picture, or of the last two axes of a volume. `pad_and_crop` (steps): furthest shift. `rotation`
            (degrees, [0, 180]), `zoom` (fraction, [0, 1)) and `translation` (fraction, [0, 1]): of pictures.
            `color_jitter` (fraction, [0, 1]): of brightness, contrast and color of pictures. `gain` (fraction, [0, 1))
            and `noise` (standard deviation, in units of the data). `erasing` (probability, [0, 1]): of pictures.

    Returns:
        The layers in that order, the policy before what changes colors; None when nothing is asked for.

    Raises:
        TypeError, ValueError: an argument is unknown, out of its range, or not for examples of this rank.

    Example:
        >>> from keras_resnet.preprocessing import augmentation
        >>> [layer.name for layer in augmentation(rotation=15.0, flip=True, policy="trivial_augment").layers]
        ['flip', 'rotation', 'policy']
    """
    for name in amounts:
        choose("augmentation", name, OPERATIONS)
    checked = {name: row.check(name, amounts[name]) for name, row in OPERATIONS.items() if name in amounts}
    layers = {name: _layer(name, amount, rank) for name, amount in checked.items() if amount}
    if policy is not None:
        build = choose("policy", policy, POLICIES)
        if rank != 2:
            raise BadValue(
                f"policy={policy!r} was given for examples with {rank} axes of space. It is made for pictures. Leave "
                "it out, and use gain, noise and pad_and_crop."
            )
        layers["policy"] = build(policy_strength, policy_ops, policy_std)
    order = [*(name for name in OPERATIONS if name not in AFTER_POLICY), "policy", *AFTER_POLICY]
    ordered = [layers[name] for name in order if name in layers]
    for layer in ordered:
        if isinstance(layer, PadAndCrop) and pixel_range is not None:
            layer.fill_value = pixel_range[0]
    return Augmentation(ordered, pixel_range=pixel_range, dtype="float32") if ordered else None


def _layer(name: str, amount: Any, rank: int) -> keras.layers.Layer:
    row = OPERATIONS[name]
    if rank == 2:
        return row.layer(amount)
    able = _other_ranks(OPERATIONS, rank)
    if name not in able:
        raise BadValue(
            f"{name}={amount} was given for examples with {rank} axes of space. Allowed there are {', '.join(able)}. "
            "Leave it out."
        )
    assert row.other is not None
    return row.other(amount)


def _other_ranks(table: Mapping[str, Operation], rank: int) -> list[str]:
    """Returns the names of what signals or volumes may have; a signal has no plane to turn in."""
    return [name for name, row in table.items() if row.other and not (name == "quarter_turns" and rank == 1)]
