"""The table of variants: a row for each depth that He et al. 2015 publish in table 1."""

import dataclasses

from keras_resnet.blocks import BottleneckBlock, IdentityBlock


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        block: the class of the residual blocks.
        depths: blocks in stage 2, 3, 4 and 5.
    """

    block: type[IdentityBlock] | type[BottleneckBlock]
    depths: tuple[int, int, int, int]


VARIANTS = {
    "resnet18": Variant(IdentityBlock, (2, 2, 2, 2)),
    "resnet34": Variant(IdentityBlock, (3, 4, 6, 3)),
    "resnet50": Variant(BottleneckBlock, (3, 4, 6, 3)),
    "resnet101": Variant(BottleneckBlock, (3, 4, 23, 3)),
    "resnet152": Variant(BottleneckBlock, (3, 8, 36, 3)),
}


def list_models() -> list[str]:
    """Returns the names of the variants, shallowest first.

    Example:
        >>> import keras_resnet
        >>> keras_resnet.list_models()
        ['resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152']
    """
    return list(VARIANTS)
