"""The table of variants, one row for each.

It imports nothing of the package before a block is asked for: the program `keras-resnet` reads this file by its path.
"""

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from keras_resnet.blocks.residual import ResidualBlock


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        constructor: the public name of the function that builds it.
        kind: of the residual blocks, a key of `BLOCKS`.
        depths: blocks in stage 2, 3, 4 and 5; those of the paper for CIFAR-10 have three stages.
        parameters: trainable ones, with 1000 classes and 3 channels, as built without arguments.
        multiply_adds: multiplications, each with its addition, of convolutions and dense layers, for 224x224x3 pixels.
        defaults: arguments of the constructor whose defaults are others than those of ResNet-50.
        source: paper and table, or the model of a peer library.
    """

    constructor: str
    kind: Literal["identity", "bottleneck"]
    depths: tuple[int, ...]
    parameters: int
    multiply_adds: int
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source: str = "He et al. 2015, table 1"

    @property
    def block(self) -> "type[ResidualBlock]":
        """The class of the residual blocks."""
        from keras_resnet import blocks
        from keras_resnet.arguments import choose

        return getattr(blocks, choose("kind", self.kind, BLOCKS))


# Kind of a residual block -> its class in `keras_resnet.blocks`.
BLOCKS = {"identity": "IdentityBlock", "bottleneck": "BottleneckBlock"}
_WIDE = "Zagoruyko and Komodakis 2016; torchvision"
_RESNEXT = "Xie et al. 2017, table 1; torchvision"
_RS = {"stem": "deep_strided", "shortcut": "pool", "attention": "se_quarter"}
_ECA = {"stem": "deep", "shortcut": "pool", "attention": "eca"}
_ECA_SOURCE = "Wang et al. 2020, table 3; timm's ecaresnet"
_RS_SOURCE = "Bello et al. 2021, table 4; timm's resnetrs"


def _rs(depth: int, depths: tuple[int, int, int, int], parameters: int, multiply_adds: int) -> Variant:
    return Variant(f"ResNetRS{depth}", "bottleneck", depths, parameters, multiply_adds, _RS, _RS_SOURCE)


# Section 4.2 of He et al. 2015: images of 32 px, ten classes, three stages of 16, 32 and 64 channels.
_CIFAR = {"stem": "small", "width": 16, "shortcut": "pad", "classes": 10, "zero_init_residual": False}
_CIFAR_SOURCE = "He et al. 2015, section 4.2 and table 6"


def _cifar(depth: int, parameters: int, multiply_adds: int) -> Variant:
    blocks = (depth - 2) // 6
    return Variant(f"ResNet{depth}", "identity", (blocks,) * 3, parameters, multiply_adds, _CIFAR, _CIFAR_SOURCE)


def _grouped(groups: int, width_per_group: int) -> dict[str, int]:
    return {"groups": groups, "width_per_group": width_per_group}


# The figures are counted on the built networks by the tests, and compared with those of torchvision and timm.
VARIANTS = {
    "resnet8": Variant(
        "ResNet8",
        "identity",
        (1, 1, 1),
        78_042,
        612_549_248,
        {**_CIFAR, "shortcut": "conv"},
        "MLPerf Tiny, with batch norm for biases",
    ),
    "resnet14": _cifar(14, 172_506, 1_293_337_216),
    "resnet20": _cifar(20, 269_722, 1_986_970_240),
    "resnet32": _cifar(32, 464_154, 3_374_236_288),
    "resnet44": _cifar(44, 658_586, 4_761_502_336),
    "resnet56": _cifar(56, 853_018, 6_148_768_384),
    "resnet110": _cifar(110, 1_727_962, 12_391_465_600),
    "resnet10": Variant("ResNet10", "identity", (1, 1, 1, 1), 5_418_792, 889_229_312, source="one block per stage"),
    "resnet18": Variant("ResNet18", "identity", (2, 2, 2, 2), 11_689_512, 1_814_073_344),
    "resnet26": Variant("ResNet26", "bottleneck", (2, 2, 2, 2), 15_995_176, 2_342_256_640, source="timm's resnet26"),
    "resnet34": Variant("ResNet34", "identity", (3, 4, 6, 3), 21_797_672, 3_663_761_408),
    "resnet50": Variant("ResNet50", "bottleneck", (3, 4, 6, 3), 25_557_032, 4_089_184_256),
    "resnet101": Variant("ResNet101", "bottleneck", (3, 4, 23, 3), 44_549_160, 7_801_405_440),
    "resnet152": Variant("ResNet152", "bottleneck", (3, 8, 36, 3), 60_192_808, 11_513_626_624),
    "wide_resnet50_2": Variant(
        "WideResNet50_2", "bottleneck", (3, 4, 6, 3), 68_883_240, 11_398_021_120, {"width_per_group": 128}, _WIDE
    ),
    "wide_resnet101_2": Variant(
        "WideResNet101_2", "bottleneck", (3, 4, 23, 3), 126_886_696, 22_753_050_624, {"width_per_group": 128}, _WIDE
    ),
    "resnext50_32x4d": Variant(
        "ResNeXt50_32x4d", "bottleneck", (3, 4, 6, 3), 25_028_904, 4_230_479_872, _grouped(32, 4), _RESNEXT
    ),
    "resnext101_32x8d": Variant(
        "ResNeXt101_32x8d", "bottleneck", (3, 4, 23, 3), 88_791_336, 16_414_015_488, _grouped(32, 8), _RESNEXT
    ),
    "resnext101_64x4d": Variant(
        "ResNeXt101_64x4d", "bottleneck", (3, 4, 23, 3), 83_455_272, 15_460_270_080, _grouped(64, 4), _RESNEXT
    ),
    "ecaresnet50d": Variant("ECAResNet50D", "bottleneck", (3, 4, 6, 3), 25_576_350, 4_328_824_918, _ECA, _ECA_SOURCE),
    "ecaresnet101d": Variant(
        "ECAResNet101D", "bottleneck", (3, 4, 23, 3), 44_568_563, 8_041_046_187, _ECA, _ECA_SOURCE
    ),
    "resnet_rs50": _rs(50, (3, 4, 6, 3), 35_691_912, 4_454_490_112),
    "resnet_rs101": _rs(101, (3, 4, 23, 3), 63_618_696, 8_175_624_192),
    "resnet_rs152": _rs(152, (3, 8, 36, 3), 86_621_576, 11_895_185_408),
    "resnet_rs200": _rs(200, (3, 24, 36, 3), 93_209_992, 15_391_137_792),
    "resnet_rs270": _rs(270, (4, 29, 53, 4), 129_861_448, 20_643_618_816),
    "resnet_rs350": _rs(350, (4, 36, 72, 4), 163_956_168, 26_332_012_544),
    "resnet_rs420": _rs(420, (4, 44, 87, 4), 191_891_656, 31_363_342_336),
}


def table(pattern: str = "*") -> str:
    """Returns the text of `keras-resnet list`, of the names that match a pattern."""
    names = list_models(pattern)
    rows = [f"{name:<18}{VARIANTS[name].parameters:>14,}{VARIANTS[name].multiply_adds:>17,}" for name in names]
    note = (
        "Trainable parameters with 1000 classes (ResNet-8 to -110 of three stages: 10); multiplications, each with its "
        "addition, for one 224x224x3 image."
    )
    return "\n".join([f"{'model':<18}{'parameters':>14}{'multiply-adds':>17}", *rows, note])


def list_models(pattern: str = "*", *, weights: bool = False) -> list[str]:
    """Returns the names of the variants, in the order of the table.

    Args:
        pattern: of names, as file names are matched: "*" is any text, "?" any letter.
        weights: only those for which published weights are known (`keras_resnet.list_weights`).

    Example:
        >>> import keras_resnet
        >>> keras_resnet.list_models("resnet*", weights=True)
        ['resnet8', 'resnet20', 'resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152']
    """
    names = [name for name in VARIANTS if fnmatch.fnmatchcase(name, pattern)]
    if not weights:
        return names
    from keras_resnet.weights import list_weights

    published = {row.model for row in list_weights()}
    return [name for name in names if name in published]
