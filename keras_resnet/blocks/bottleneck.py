"""The block of the deep variants: a bottleneck of 1x1, 3x3 and 1x1 convolutions."""

import keras

from keras_resnet.blocks.residual import ResidualBlock


@keras.saving.register_keras_serializable(package="keras_resnet")
class BottleneckBlock(ResidualBlock):
    """The block of ResNet-50, -101 and -152: 1x1, 3x3 and 1x1 convolutions beside a shortcut.

    Under "v1" the first convolution carries the stride, otherwise the 3x3.
    The shortcut is the identity where input and branch agree in shape, and a projection where they do not.
    It returns `4 * filters` channels: `output_filters` below.

    Source:
        He et al. 2015, "Deep Residual Learning for Image Recognition", figure 5 right.

    Example:
        >>> import keras
        >>> from keras_resnet import BottleneckBlock
        >>> BottleneckBlock(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape == (1, 4, 4, 64)
        True
    """

    branch = ((1, 1), (3, 1), (1, 4))
