"""The block of the shallow variants: two 3x3 convolutions."""

import keras

from keras_resnet.blocks.residual import ResidualBlock


@keras.saving.register_keras_serializable(package="keras_resnet")
class IdentityBlock(ResidualBlock):
    """The block of ResNet-18 and -34: two 3x3 convolutions beside a shortcut.

    The first convolution carries the stride.
    The shortcut is the identity where input and branch agree in shape, and a projection where they do not.
    It returns `filters` channels: `output_filters` below.

    Source:
        He et al. 2015, "Deep Residual Learning for Image Recognition", figure 5 left.

    Example:
        >>> import keras
        >>> from keras_resnet import IdentityBlock
        >>> IdentityBlock(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape == (1, 4, 4, 16)
        True
    """

    branch = ((3, 1), (3, 1))
