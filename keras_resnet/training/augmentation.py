"""The random changes of training examples: their section of a recipe, and what is built from it."""

import dataclasses
from typing import Any

from keras_resnet import preprocessing
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import OPERATIONS
from keras_resnet.preprocessing.operations import POLICIES
from keras_resnet.preprocessing.record import BYTES
from keras_resnet.training import fields

PLACES = {name: name for name in ("host", "device")}


def _amount(name: str) -> Any:
    """Returns the field for an operation of the table, with its range."""
    row = OPERATIONS[name]
    if row.kind == "flag":
        return fields.flag(False)
    if row.kind == "integer":
        return fields.integer(0)
    return fields.number(0.0, maximum=row.maximum, open_above=not row.maximum_included)


@dataclasses.dataclass(frozen=True)
class Augment(fields.Section):
    """Random changes of training examples, in this order: pixels or steps, degrees, and fractions.

    `policy` is for pictures. `mixup` and `cutmix` are the parameters of their Beta distributions, 0 for none; where
    both are positive, batches have one or the other. `repeats` puts that many differently changed copies of an example
    into a batch, so that an epoch sees fewer examples. `augment_on="device"` makes the changes inside the training
    step, on the accelerator, and "host" in the pipeline before it; batches are the same. `policy_std` is the standard
    deviation of the strength of RandAugment from operation to operation: 0 in the paper, 0.05 in timm's recipes.
    """

    title = "augment"
    flip: bool = _amount("flip")
    quarter_turns: bool = _amount("quarter_turns")
    pad_and_crop: int = _amount("pad_and_crop")
    rotation: float = _amount("rotation")
    zoom: float = _amount("zoom")
    translation: float = _amount("translation")
    policy: str = fields.choice("none", POLICIES, word="none")
    policy_strength: float = fields.number(0.3, maximum=1.0)
    policy_ops: int = fields.integer(2, minimum=1)
    policy_std: float = fields.number(0.0)
    color_jitter: float = _amount("color_jitter")
    gain: float = _amount("gain")
    noise: float = _amount("noise")
    erasing: float = _amount("erasing")
    mixup: float = fields.number(0.0)
    cutmix: float = fields.number(0.0)
    mix_probability: float = fields.number(1.0, maximum=1.0, open_below=True)
    repeats: int = fields.integer(1, minimum=1)
    augment_on: str = fields.choice("host", PLACES)

    def build(
        self, rank: int = 2, pixel_range: tuple[float, float] | None = BYTES
    ) -> preprocessing.Augmentation | None:
        """Returns the layers of what is asked for, in the order of the table; None where nothing is.

        Args:
            rank: axes of space of an example.
            pixel_range: the values of black and of white in pictures; None if that is not known.

        Raises:
            ValueError: something is asked for that examples of this rank cannot have.
        """
        amounts = {name: getattr(self, name) for name in OPERATIONS}
        return preprocessing.augmentation(
            **amounts,
            policy=None if self.policy == "none" else self.policy,
            policy_strength=self.policy_strength,
            policy_ops=self.policy_ops,
            policy_std=self.policy_std,
            rank=rank,
            pixel_range=pixel_range,
        )

    @property
    def mixes(self) -> bool:
        """Whether labels are mixed."""
        return bool(self.mixup or self.cutmix)

    def mixing(self, classes: int, outputs: int) -> list[preprocessing.Mixing]:
        """Returns what mixes examples and labels; nothing where that is not asked for.

        Args:
            classes: of the data.
            outputs: of the network.

        Raises:
            ValueError: the labels cannot be mixed.
        """
        if not self.mixes:
            return []
        if not classes or outputs != classes:
            what = "regression targets" if not classes else f"{classes} classes and {outputs} output"
            raise BadValue(
                f"augment.mixup={self.mixup} and augment.cutmix={self.cutmix} were given for {what}. Labels are mixed "
                "as rows of one share per class. Set both to 0, or use a loss with one output per class."
            )
        return [preprocessing.Mixing(classes, self.mixup, self.cutmix, self.mix_probability)]
