"""Networks that round as integer kernels do, for quantization-aware training and for exports in 8 bits."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_resnet.blocks import FakeQuantization, QuantizedDense, Stem
from keras_resnet.blocks.residual import VERSIONS, ResidualBlock
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.fusion import fold_norms, without_norms
from keras_resnet.models.precision import compute_dtype
from keras_resnet.weights.adaptation import HEAD, POOLED, architecture_of


def quantize(model: keras.Model, batches: Iterable[Any] = ()) -> keras.Model:
    """Returns a copy of a network that rounds to 8 bits what integer kernels round, and can be trained so.

    Batch norms are folded into the convolutions before them. Kernels are rounded to 255 levels around 0, of
    convolutions with a scale for each filter; the images behind the preprocessing, the outputs of every convolution
    behind its ReLU, of every sum, of the pooling and of the last layer to the 256 levels of a range of their own.
    Gradients pass through the rounding unchanged. `keras_resnet.export.export` writes such a network as a file in 8
    bits that rounds at the same places.

    Args:
        model: a flat functional network of this package that computes in float32, of version "v1" or "v1.5", without
            attention and grouped convolutions. It stays as it is.
        batches: images, as the model takes them, that set the ranges: the means of the smallest and of the largest
            values of each batch. Without any they are those of the first batch of a training, and NaN until then.

    Returns:
        A functional `keras.Model`, not compiled, whose layers have the names of the original's.

    Raises:
        TypeError, ValueError: the model is not such a network, or an argument is out of its range.

    Source:
        Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference", sections 2 and 3; Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient
        inference" (a scale for each filter).

    Example:
        >>> import numpy as np
        >>> import keras_resnet
        >>> from keras_resnet.models import is_quantized, quantize
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), stem="small", width=16, classes=10)
        >>> images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")
        >>> rounded = quantize(model, [images])
        >>> rounded.output_shape, is_quantized(rounded)
        ((None, 10), True)
    """
    _check(model)

    def copy_layer(layer: Any) -> Any:
        if layer.name == HEAD:
            return QuantizedDense.from_config(layer.get_config())
        return without_norms(layer, **({"quantized": True} if isinstance(layer, (Stem, ResidualBlock)) else {}))

    def call_layer(layer: Any, *inputs: Any, **options: Any) -> Any:
        if layer.name == POOLED:
            inputs = (FakeQuantization(name=f"{POOLED}_range")(*inputs),)
        return layer(*inputs, **options)

    rounded = fold_norms(model, "", copy_layer, call_layer)
    ranges = [layer for layer in rounded._flatten_layers() if isinstance(layer, FakeQuantization)]
    for count, images in enumerate(batches):
        for layer in ranges:
            layer.measuring, layer.momentum = True, count / (count + 1)
        rounded(images, training=False)
    for layer in ranges:
        layer.measuring, layer.momentum = False, FakeQuantization.momentum
    return rounded


def is_quantized(model: keras.Model) -> bool:
    """Returns whether a network rounds to 8 bits, as `quantize` returns it.

    Args:
        model: a Keras model.
    """
    return any(getattr(layer, "quantized", False) for layer in model.layers)


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise BadType(f"model must be a Keras model, got {type(model).__name__}. Pass for example ResNet50().")
    facts = architecture_of(model, with_norms=True)  # which refuses other models
    wrong = {
        f"computes in {compute_dtype(model)}": compute_dtype(model) != "float32",
        f"is of version {facts['version']!r}": VERSIONS[facts["version"]].preactivation,
        f"has attention={facts['attention']!r}": facts["attention"] is not None,
        f"has groups={facts['groups']}": facts["groups"] != 1,
        f"has shortcut={facts['shortcut']!r}": facts["shortcut"] == "pool",
    }
    if reasons := [reason for reason, is_so in wrong.items() if is_so]:
        raise BadValue(
            f"model {model.name!r} {' and '.join(reasons)}. Allowed are networks in float32 of version 'v1' or 'v1.5', "
            "without attention, groups and pooling in their shortcuts. Use such a network, or export this one with "
            "quantize='int8', which rounds after the training."
        )
