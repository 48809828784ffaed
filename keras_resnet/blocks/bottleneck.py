"""The block of the deep variants: a bottleneck of 1x1, 3x3 and 1x1 convolutions."""

import keras

from keras_resnet.blocks.residual import ResidualBlock


@keras.saving.register_keras_serializable(package="keras_resnet")
class BottleneckBlock(ResidualBlock):
    """The block of ResNet-50, -101 and -152: 1x1, 3x3 and 1x1 convolutions beside a shortcut.

    It steps, where it does, in the first convolution under "v1" and in the 3x3 otherwise.
    The shortcut is the identity where input and branch agree in shape, and a projection where they do not.

    Args:
        filters: width of the branch, >= 1; the block returns `4 * filters` channels.
        strides: step in pixels along every axis, >= 1.
        version: "v1", "v1.5" or "v2": where the stride, the norms and the biases stand (`VERSIONS`).
        shortcut: projection where one is needed: "conv", "pool" (ResNet-D) or "subsample" (see `Shortcut`).
        attention: None, or "se" for squeeze-and-excitation at the end of the branch.
        drop_path_rate: probability in [0, 1) of dropping the branch of a sample in training; the branches kept are
            scaled by 1 / (1 - rate).
        kernel_initializer: any Keras initialiser, or its name. Every kernel draws from a stream of its own.
        kernel_regularizer: any Keras regulariser, its name, or None; for kernels, never for biases and norms.
        zero_init_residual: start as the identity: the last norm's gamma, under "v2" or fused the last kernel, is zero.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        seed: of the drop path, an int >= 0, or None to draw one from Keras's global seed.
        fused: without the norms that follow a convolution, and with a bias on every convolution to hold what they
            did; made by `keras_resnet.fuse`, for inference (see there).
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, length, channels)`, `(batch, height, width, channels)` or `(batch, depth, height, width, channels)`;
        channels second under "channels_first".

    Output shape:
        Each size n becomes `ceil(n / strides)`, channels become `4 * filters`.

    Raises:
        TypeError, ValueError: an argument is out of its range, or the input's rank is not 1 to 3.

    Source:
        He et al. 2015, "Deep Residual Learning for Image Recognition", figure 5 right.

    Example:
        >>> import keras
        >>> from keras_resnet import BottleneckBlock
        >>> BottleneckBlock(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape == (1, 4, 4, 64)
        True
    """

    branch = ((1, 1), (3, 1), (1, 4))
