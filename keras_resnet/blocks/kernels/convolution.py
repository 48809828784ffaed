"""The convolution that layers call: windows cut to what they can reach, gradients by the form that is fastest."""

import math
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.blocks.kernels import gradients, selection
from keras_resnet.blocks.kernels.gradients import Geometry


def convolve(inputs: Any, kernel: Any, strides: int, *, training: bool) -> Any:
    """Returns the convolution of `inputs`, padded by `window // 2` zeros on both sides."""
    inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
    rank = len(inputs.shape) - 2
    if rank == 1:
        outputs = _convolve(inputs[:, tf.newaxis], kernel[tf.newaxis], (1, strides), training)
        return tf.squeeze(outputs, axis=1)
    return _convolve(inputs, kernel, (strides,) * rank, training)


def _convolve(inputs: Any, kernel: Any, strides: tuple[int, ...], training: bool) -> Any:
    kernel, geometry = live_part(kernel, inputs.shape[1:-1].as_list(), strides)
    groups = inputs.shape[-1] // kernel.shape[-2]
    if groups > 1 and not _has_groups(inputs, geometry, training):
        parts = zip(tf.split(inputs, groups, axis=-1), tf.split(kernel, groups, axis=-1), strict=True)
        return tf.concat([gradients.convolve(*part, geometry) for part in parts], axis=-1)
    if groups > 1:
        return gradients.convolve_groups(inputs, kernel, geometry)
    if training:
        return _with_fast_gradients(inputs, kernel, geometry)
    if _is_differentiated_wrongly(kernel, geometry):
        down, right = geometry.strides
        return gradients.convolve(inputs[:, ::down, ::right], kernel, Geometry((1, 1), geometry.pads))
    return gradients.convolve(inputs, kernel, geometry)


def _is_differentiated_wrongly(kernel: Any, geometry: Geometry) -> bool:
    """Returns whether the gradient of the filters by oneDNN writes outside its memory, and ends the process.

    TensorFlow 2.21 on AVX-512, for an odd number of images: a window of one pixel that takes steps, below 16 channels.
    A gradient of this package would not be saved with a SavedModel.
    """
    window, channels = kernel.shape[: geometry.rank].as_list(), kernel.shape[-2]
    is_narrow = math.prod(window) == 1 < max(geometry.strides) and channels < 16 and geometry.rank == 2
    return is_narrow and selection.engine().startswith("onednn")


def _has_groups(inputs: Any, geometry: Geometry, training: bool) -> bool:
    """Returns whether TensorFlow 2.21 convolves in groups here: never in 3-D, and backwards on a CPU by oneDNN alone.

    Keras compiles such convolutions with XLA, whose gradients of the filters are slower by two orders of magnitude on a
    CPU (`benchmarks/grouped_convolution.py`).
    """
    if geometry.rank == 3:
        return False
    engine = selection.engine()
    by_onednn = engine.startswith("onednn") and inputs.dtype.name in ("float32", "bfloat16")
    return not training or engine == "gpu" or by_onednn


def live_part(kernel: Any, sizes: list[int | None], strides: tuple[int, ...]) -> tuple[Any, Geometry]:
    """Returns the part of the kernel that ever meets a pixel, and the padding that is left for it.

    On feature maps of 1 or 2 pixels most of a window lies over padding: at 1x1 pixels only the middle of a 3x3 window
    does not, which is a ninth of the work.
    """
    window = kernel.shape[: len(strides)].as_list()
    starts, window_left, pads, steps = [], [], [], []
    for size, width, stride in zip(sizes, window, strides, strict=True):
        before = width // 2
        if size is None:
            starts.append(0)
            window_left.append(width)
            pads.append((before, before))
            steps.append(stride)
            continue
        last = (-(-size // stride) - 1) * stride  # where the last window starts, in padded pixels
        first_tap = max(0, before - last)
        last_tap = min(width - 1, size - 1 + before)
        before -= first_tap
        num_taps = last_tap - first_tap + 1
        starts.append(first_tap)
        window_left.append(num_taps)
        pads.append((before, max(0, last + num_taps - before - size)))
        steps.append(1 if sum(pads[-1]) + size == num_taps else stride)  # a single window takes no step
    if window_left != window:
        # Not kernel[...]: the gradient of that operation is several times slower.
        kernel = tf.slice(kernel, [*starts, 0, 0], [*window_left, *kernel.shape[-2:]])
    return kernel, Geometry(tuple(steps), tuple(pads))


def _with_fast_gradients(inputs: Any, kernel: Any, geometry: Geometry) -> Any:
    window, channels = tuple(kernel.shape[: geometry.rank].as_list()), kernel.shape[-2]

    @tf.custom_gradient
    def convolution(inputs: Any, kernel: Any) -> tuple[Any, Any]:
        outputs = gradients.convolve(inputs, kernel, geometry)
        sizes = outputs.shape[1:-1].as_list()
        side = math.inf if None in sizes else math.sqrt(math.prod(sizes))

        def gradient(upstream: Any) -> tuple[Any, Any]:
            chosen = window, geometry.strides, side, channels, inputs.dtype.name
            by_input = gradients.INPUT_GRADIENTS[selection.choose_form(selection.INPUT_FORMS, *chosen)]
            by_filter = gradients.FILTER_GRADIENTS[selection.choose_form(selection.FILTER_FORMS, *chosen)]
            tensors = inputs, kernel, upstream, geometry
            return by_input(*tensors), by_filter(*tensors)

        return outputs, gradient

    return convolution(inputs, kernel)


def normalize(layer: keras.layers.BatchNormalization, inputs: Any, *, training: bool) -> Any:
    """Returns the batch norm of `inputs` and moves the layer's averages, as Keras's layer does.

    16-bit inputs are read and written in 16 bits; the statistics are computed in float32.
    """
    inputs = tf.convert_to_tensor(inputs)
    rank = len(inputs.shape)
    if layer.axis not in (-1, rank - 1):
        return None
    gamma, beta, mean, variance = (
        tf.convert_to_tensor(weight) for weight in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    if gamma.dtype != tf.float32:
        return None
    # Two axes of space, as the operation wants them; joining axes moves no data.
    shape = tf.shape(inputs)
    pixels = tf.reshape(inputs, [shape[0], -1, 1, inputs.shape[-1]]) if rank != 4 else inputs
    if not (training and layer.trainable):
        outputs, *_ = tf.raw_ops.FusedBatchNormV3(
            x=pixels, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=layer.epsilon, is_training=False
        )
        return tf.reshape(outputs, shape) if rank != 4 else outputs
    outputs, batch_mean, batch_variance = _of_the_batch(pixels, gamma, beta, layer.epsilon)
    layer.moving_mean.assign(mean * layer.momentum + batch_mean * (1.0 - layer.momentum))
    layer.moving_variance.assign(variance * layer.momentum + batch_variance * (1.0 - layer.momentum))
    return tf.reshape(outputs, shape) if rank != 4 else outputs


def _of_the_batch(pixels: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Returns the outputs and the statistics of the batch."""
    nothing = tf.zeros([0])
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=pixels, scale=gamma, offset=beta, mean=nothing, variance=nothing, epsilon=epsilon, is_training=True
    )
    # The operation divides the squares by one less than their count; Keras divides by their count.
    count = tf.cast(tf.size(pixels) // tf.shape(pixels)[-1], tf.float32)
    return outputs, mean, variance * ((count - 1.0) / count)
