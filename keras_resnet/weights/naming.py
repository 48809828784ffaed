"""What other libraries call the variables of a network, and in which order of axes they keep them."""

import dataclasses
import re
from collections.abc import Callable, Iterable

import numpy as np

from keras_resnet.blocks.attention import ATTENTION

# Name of a layer inside an attention layer -> its name in timm, below `se.`.
ATTENTION_NAMES = {ours: theirs for row in ATTENTION.values() if row for ours, theirs in row.timm_names.items()}
NORM_TO_TORCH = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# What PyTorch counts and no network computes with.
IGNORED_SUFFIXES = ("num_batches_tracked", "n_averaged")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the names in a file depend on.

    Attributes:
        stem: kind of the stem: three convolutions have other names than one.
        shortcut: "pool" puts a pooling before the convolution of a projection.
        preactivation: whether norms stand before convolutions, as in version 2.
    """

    stem: str = "conv7"
    shortcut: str = "conv"
    preactivation: bool = False


@dataclasses.dataclass(frozen=True)
class Naming:
    """How a library names the variables of a residual network.

    Attributes:
        name: of the library, for messages.
        rename: from our path of a variable, such as "stage2_block1/conv1/kernel", to its name there.
        to_ours: from an array as the library keeps it, and our path, to ours.
        from_ours: the other way round.
    """

    name: str
    rename: Callable[[str, Layout], str]
    to_ours: Callable[[np.ndarray, str], np.ndarray]
    from_ours: Callable[[np.ndarray, str], np.ndarray]


def _place_of(layer_name: str) -> tuple[int, int]:
    """Returns the numbers of stage and block in the name of a block's layer."""
    matched = re.fullmatch(r"stage(\d+)_block(\d+)", layer_name)
    assert matched is not None, layer_name
    return int(matched[1]), int(matched[2])


def _torch_name(path: str, layout: Layout) -> str:
    """Returns the name in timm and torchvision."""
    *parts, kind = path.split("/")
    if parts == ["predictions"]:
        return f"fc.{'weight' if kind == 'kernel' else 'bias'}"
    if parts == ["head_norm"]:
        return f"norm.{NORM_TO_TORCH[kind]}"
    leaf = NORM_TO_TORCH.get(kind) or {"kernel": "weight", "bias": "bias"}[kind]
    if parts[0] == "stem":
        return f"{_torch_stem(parts[1], layout)}.{leaf}"
    stage, block = _place_of(parts[0])
    prefix = f"layer{stage - 1}.{block - 1}"
    if parts[1] == "shortcut":
        place = (1 if layout.shortcut == "pool" else 0) + (parts[2] == "norm")
        return f"{prefix}.downsample.{place}.{leaf}"
    if parts[1] == "attention":
        return f"{prefix}.se.{ATTENTION_NAMES[parts[2]]}.{leaf}"
    return f"{prefix}.{parts[1].replace('norm', 'bn')}.{leaf}"


def _torch_stem(name: str, layout: Layout) -> str:
    if layout.stem not in ("deep", "deep_strided"):
        return name.replace("norm", "bn")
    # timm's deep stem is a sequence: convolution, norm, activation, three times; its last norm is called bn1.
    # The pool of ResNet-RS is a strided convolution with a norm.
    kind, number = name[:-1], int(name[-1])
    if number == 4:
        return f"maxpool.{int(kind == 'norm')}"
    if kind == "norm" and number == 3:
        return "bn1"
    return f"conv1.{3 * (number - 1) + (kind == 'norm')}"


def _keras_name(path: str, layout: Layout) -> str:
    """Returns the name in keras.applications: the layer and the variable."""
    *parts, kind = path.split("/")
    if parts == ["predictions"]:
        return f"predictions/{kind}"
    if parts == ["head_norm"]:
        return f"post_bn/{kind}"
    if parts[0] == "stem":
        return f"conv1_{'conv' if parts[1] == 'conv1' else 'bn'}/{kind}"
    stage, block = _place_of(parts[0])
    prefix = f"conv{stage}_block{block}"
    if parts[1] == "shortcut":
        return f"{prefix}_0_{'conv' if parts[2] == 'conv' else 'bn'}/{kind}"
    number = int(parts[1][-1])
    if parts[1].startswith("conv"):
        return f"{prefix}_{number}_conv/{kind}"
    if layout.preactivation:
        return f"{prefix}_preact_bn/{kind}" if number == 1 else f"{prefix}_{number - 1}_bn/{kind}"
    return f"{prefix}_{number}_bn/{kind}"


def _same(array: np.ndarray, path: str) -> np.ndarray:
    return array


def _from_torch(array: np.ndarray, path: str) -> np.ndarray:
    """Returns a kernel with its outputs last; PyTorch keeps (outputs, inputs, *space)."""
    if not path.endswith("/kernel"):
        return array
    if "/attention/" in path and array.ndim == 4:  # timm computes these dense layers as 1x1 convolutions
        array = array.reshape(array.shape[:2])
    return np.ascontiguousarray(np.transpose(array, (*range(2, array.ndim), 1, 0)))


def _to_torch(array: np.ndarray, path: str) -> np.ndarray:
    if not path.endswith("/kernel"):
        return array
    moved = np.transpose(array, (array.ndim - 1, array.ndim - 2, *range(array.ndim - 2)))
    return np.ascontiguousarray(moved[..., None, None] if "/attention/" in path and moved.ndim == 2 else moved)


NAMINGS = {
    "keras_resnet": Naming("keras_resnet", lambda path, layout: path, _same, _same),
    "torch": Naming("timm and torchvision", _torch_name, _from_torch, _to_torch),
    "keras": Naming("keras.applications", _keras_name, _same, _same),
}


def strip_prefix(names: Iterable[str]) -> dict[str, str]:
    """Returns names of a checkpoint without what wrappers put before them: name -> name in the file.

    `torch.nn.DataParallel` writes "module.", Lightning "model.", `torch.compile` "_orig_mod."; all names must have it.
    """
    originals = {name: name for name in names if not name.endswith(IGNORED_SUFFIXES)}
    for prefix in ("module.", "_orig_mod.", "model.", "backbone.", "net.") * 2:
        if originals and all(name.startswith(prefix) for name in originals):
            originals = {name[len(prefix) :]: original for name, original in originals.items()}
    return originals


def attention_in(names: Iterable[str]) -> str | None:
    """Returns the kind of attention that the names of a timm file show; the first of those that share their names."""
    leaves = {name.partition(".se.")[2].partition(".")[0] for name in names if ".se." in name}
    return next(
        (kind for kind, row in ATTENTION.items() if row and set(row.timm_names.values()) <= leaves and leaves), None
    )


def naming_of(names: Iterable[str]) -> str:
    """Returns the key of `NAMINGS` that fits the names in a file; "keras_resnet" where no other does."""
    name_set = set(names)
    if any(name.startswith("layer1.0.") for name in name_set):
        return "torch"
    if any(name.startswith("conv2_block1_") for name in name_set):
        return "keras"
    return "keras_resnet"
