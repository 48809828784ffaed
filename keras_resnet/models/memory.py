"""Memory for time: blocks that compute their inside again in the backward pass."""

import keras

from keras_resnet.blocks.residual import ResidualBlock
from keras_resnet.errors import BadType, BadValue


def recompute(model: keras.Model, on: bool = True) -> keras.Model:
    """Makes the residual blocks of a model recompute their inside in the backward pass, which saves memory for time.

    A training step then keeps one output a block instead of all outputs inside it, and takes about a forward pass
    longer. Its gradients, moving statistics and random draws stay the same; Keras's own `RematScope` would update the
    statistics twice. The choice is not saved with the model. Call it before `fit`, or `compile` again after it.

    Args:
        model: with residual blocks of this package, also in models nested in it.
        on: False to keep everything again.

    Returns:
        The model.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: it has no residual block.

    Source:
        Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".

    Example:
        >>> from keras_resnet import ResNet18
        >>> from keras_resnet.models import recompute
        >>> model = recompute(ResNet18(input_shape=(32, 32, 3), width=8, classes=10))
        >>> model.get_layer("stage2_block1").recomputed
        True
    """
    if not isinstance(model, keras.Model):
        raise BadType(
            f"model must be a Keras model, got {type(model).__name__}. Only models hold blocks. Pass a model."
        )
    blocks = [layer for layer in model._flatten_layers() if isinstance(layer, ResidualBlock)]
    if not blocks:
        raise BadValue(
            f"model {model.name!r} has no residual block of keras_resnet. Allowed are models of this package. Pass "
            "ResNet50() or another one."
        )
    for block in blocks:
        block.recomputed = bool(on)
    return model
