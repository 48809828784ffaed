"""What differs between the published versions of the residual network, as data."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Version:
    """A published arrangement of convolution, norm and activation.

    Attributes:
        preactivation: norm and ReLU stand before each convolution, not after it.
        bottleneck_stride: which convolution of a strided bottleneck steps, 0-based.
        bias: which convolutions have one: "none", "all", or "unnormalized", those that no norm follows.
        norm_epsilon: added to the variance by every batch norm.
        pool_fill: the value around the feature map that the stem's max pool sees beyond its border.
        strided_block: which block of a stage steps: the first of stages 3 to 5, or the last of stages 2 to 4, whose
            shortcut then takes every second pixel.
    """

    preactivation: bool
    bottleneck_stride: int
    bias: Literal["none", "all", "unnormalized"]
    norm_epsilon: float
    pool_fill: float
    strided_block: Literal["first", "last"] = "first"

    def has_bias(self, *, normalized: bool) -> bool:
        """Returns whether a convolution has a bias, given that a norm follows it directly or not."""
        return self.bias == "all" or (self.bias == "unnormalized" and not normalized)


VERSIONS = {
    # He et al. 2015, figure 5 and section 4.1; biases and epsilon as in keras.applications. Behind a ReLU a border of
    # zeros gives the maxima that one of -inf does, which PyTorch pads.
    "v1": Version(preactivation=False, bottleneck_stride=0, bias="all", norm_epsilon=1.001e-5, pool_fill=0.0),
    # The stride moved to the 3x3 (Goyal et al. 2017, section 5.1), as in torchvision and timm.
    "v1.5": Version(preactivation=False, bottleneck_stride=1, bias="none", norm_epsilon=1e-5, pool_fill=0.0),
    # He et al. 2016, figure 4(e); biases, epsilon and the border as in keras.applications' V2. No ReLU stands before
    # the pool: zeros win over negative values at the border. keras-hub pads -inf there; its weights would not fit.
    "v2": Version(preactivation=True, bottleneck_stride=1, bias="unnormalized", norm_epsilon=1.001e-5, pool_fill=0.0),
    # The same with the stride where keras.applications' V2 has it, for its weights.
    "v2-keras": Version(
        preactivation=True,
        bottleneck_stride=1,
        bias="unnormalized",
        norm_epsilon=1.001e-5,
        pool_fill=0.0,
        strided_block="last",
    ),
}
