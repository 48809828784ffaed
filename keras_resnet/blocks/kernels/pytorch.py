"""PyTorch's batch norm and convolution, in place of several operations of Keras over the whole tensor."""

from typing import Any

import keras


def normalize(layer: keras.layers.BatchNormalization, inputs: Any, *, training: bool) -> Any:
    """Returns the batch norm of `inputs` and moves the layer's averages, as Keras's layer does; None for others.

    16-bit inputs are read and written in 16 bits; the statistics are computed in float32.
    """
    import torch

    inputs = keras.ops.convert_to_tensor(inputs)
    weights = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    gamma, beta, mean, variance = (keras.ops.convert_to_tensor(weight) for weight in weights)
    if gamma.dtype != torch.float32:
        return None
    channels_first = inputs.movedim(layer.axis, 1)  # a view, whose order in memory stays
    if not (training and layer.trainable):
        outputs = torch.nn.functional.batch_norm(channels_first, mean, variance, gamma, beta, eps=layer.epsilon)
        return outputs.movedim(1, layer.axis)
    outputs, batch_mean, inverse = torch.native_batch_norm(
        channels_first, gamma, beta, None, None, True, 0.0, layer.epsilon
    )
    batch_variance = (inverse.detach() ** -2 - layer.epsilon).clamp(min=0.0)
    layer.moving_mean.assign(mean * layer.momentum + batch_mean.detach() * (1.0 - layer.momentum))
    layer.moving_variance.assign(variance * layer.momentum + batch_variance * (1.0 - layer.momentum))
    return outputs.movedim(1, layer.axis)


def convolve(inputs: Any, kernel: Any, bias: Any, strides: int, axis: int) -> Any:
    """Returns the symmetrically padded convolution of `inputs`, whose channels are on an axis, in their own order.

    Keras copies inputs with their channels last into the other order, and pads them by a copy.
    """
    import torch

    inputs, kernel = keras.ops.convert_to_tensor(inputs), keras.ops.convert_to_tensor(kernel)
    rank = inputs.ndim - 2
    weights = kernel.permute(rank + 1, rank, *range(rank))
    if axis == -1 and rank == 2:  # in the order of the inputs, once for the pass forward and the one back
        weights = weights.contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else keras.ops.convert_to_tensor(bias)
    groups = inputs.shape[axis] // kernel.shape[-2]
    convolution = getattr(torch.nn.functional, f"conv{rank}d")
    outputs = convolution(
        inputs.movedim(axis, 1), weights, bias, stride=strides, padding=kernel.shape[0] // 2, groups=groups
    )
    return outputs.movedim(1, axis)
