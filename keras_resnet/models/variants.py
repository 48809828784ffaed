"""The table of variants: a row for each depth that He et al. 2015 publish in table 1. Reading it loads no Keras."""

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from keras_resnet.blocks import BottleneckBlock, IdentityBlock


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        kind: of the residual blocks.
        depths: blocks in stage 2, 3, 4 and 5.
        parameters: trainable ones, with 1000 classes and 3 channels, as built without arguments.
        multiply_adds: multiplications, each with its addition, of convolutions and dense layers, for 224x224x3 pixels.
    """

    kind: Literal["identity", "bottleneck"]
    depths: tuple[int, int, int, int]
    parameters: int
    multiply_adds: int

    @property
    def block(self) -> "type[IdentityBlock] | type[BottleneckBlock]":
        """The class of the residual blocks."""
        from keras_resnet import blocks

        return blocks.IdentityBlock if self.kind == "identity" else blocks.BottleneckBlock


# The figures are counted on the built networks by the tests.
VARIANTS = {
    "resnet18": Variant("identity", (2, 2, 2, 2), 11_689_512, 1_814_073_344),
    "resnet34": Variant("identity", (3, 4, 6, 3), 21_797_672, 3_663_761_408),
    "resnet50": Variant("bottleneck", (3, 4, 6, 3), 25_557_032, 4_089_184_256),
    "resnet101": Variant("bottleneck", (3, 4, 23, 3), 44_549_160, 7_801_405_440),
    "resnet152": Variant("bottleneck", (3, 8, 36, 3), 60_192_808, 11_513_626_624),
}


def list_models() -> list[str]:
    """Returns the names of the variants, shallowest first.

    Example:
        >>> import keras_resnet
        >>> keras_resnet.list_models()
        ['resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152']
    """
    return list(VARIANTS)
