"""Forms of a convolution and of its two gradients; all forms of one thing return the same numbers.

Tensors have rank 4 or 5, channels last: `inputs` is `(batch, *space, channels)`, `kernel` is
`(*window, channels, filters)`, and `upstream`, the gradient of the output, `(batch, *space, filters)`. A gradient is a
function of these three and of a `Geometry`; of the tensor that it differentiates by, only the shape is read.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Steps and zeros of a convolution.

    Attributes:
        strides: step along every axis of space, in pixels.
        pads: zeros before and behind every axis of space, in pixels.
    """

    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def rank(self) -> int:
        """The number of axes of space, 2 or 3."""
        return len(self.strides)

    @property
    def steps(self) -> list[int]:
        """The strides as TensorFlow takes them."""
        return [1, *self.strides, 1]

    @property
    def explicit(self) -> list[list[int]]:
        """The pads as TensorFlow takes them."""
        return [[0, 0], *map(list, self.pads), [0, 0]]

    def is_same(self, sizes: list[int | None], window: list[int]) -> bool:
        """Returns whether TensorFlow's "SAME" pads inputs of `sizes` exactly so, and is right."""
        for size, width, stride, pads in zip(sizes, window, self.strides, self.pads, strict=True):
            if stride == 1:
                total = width - 1
            elif size is None or (total := (-(-size // stride) - 1) * stride + width - size) < 0 and self.rank == 3:
                return False
            if (max(total, 0) // 2, -(-max(total, 0) // 2)) != pads:
                return False
        return True


def convolve(inputs: Any, kernel: Any, geometry: Geometry) -> Any:
    """Returns the convolution."""
    window = kernel.shape[: geometry.rank].as_list()
    if geometry.is_same(inputs.shape[1:-1].as_list(), window):
        return _convolve(inputs, kernel, geometry, "SAME")
    if geometry.rank == 2:
        return tf.nn.conv2d(inputs, kernel, geometry.steps, geometry.explicit)
    return _convolve(_pad(inputs, geometry), kernel, geometry, "VALID")


def convolve_groups(inputs: Any, kernel: Any, geometry: Geometry) -> Any:
    """Returns the convolution of parts of the channels, each with its own filters.

    oneDNN differentiates it unless the padding is that of the operation itself.
    """
    if geometry.is_same(inputs.shape[1:-1].as_list(), kernel.shape[: geometry.rank].as_list()):
        return _convolve(inputs, kernel, geometry, "SAME")
    return _convolve(_pad(inputs, geometry), kernel, geometry, "VALID")


def _convolve(inputs: Any, kernel: Any, geometry: Geometry, padding: str) -> Any:
    operation = tf.nn.conv2d if geometry.rank == 2 else tf.nn.conv3d
    return operation(inputs, kernel, geometry.steps, padding)


def _pad(inputs: Any, geometry: Geometry) -> Any:
    return tf.pad(inputs, geometry.explicit) if any(map(any, geometry.pads)) else inputs


def _rows(tensor: Any) -> Any:
    """Returns the pixels of all samples as rows of a matrix."""
    return tf.reshape(tensor, [-1, tensor.shape[-1]])


def _every(pixels: Any, axis: int, start: int, count: Any, stride: int) -> Any:
    """Returns every stride-th pixel along an axis. TensorFlow 2.21's slice with a step takes 8 times as long."""
    return tf.gather(pixels, start + stride * tf.range(count), axis=axis)


# Gradients of the input.


def input_by_stock(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """TensorFlow's own operation."""
    if geometry.is_same(inputs.shape[1:-1].as_list(), kernel.shape[: geometry.rank].as_list()):
        return _backprop_input(upstream, kernel, geometry, tf.shape(inputs), "SAME")
    padded = tf.shape(inputs) + [0, *map(sum, geometry.pads), 0]
    gradient = _backprop_input(upstream, kernel, geometry, padded, "VALID")
    if not any(map(any, geometry.pads)):
        return gradient
    return tf.slice(gradient, [0, *(before for before, _ in geometry.pads), 0], tf.shape(inputs))


def _backprop_input(upstream: Any, kernel: Any, geometry: Geometry, sizes: Any, padding: str) -> Any:
    if geometry.rank == 2:
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=sizes, filter=kernel, out_backprop=upstream, strides=geometry.steps, padding=padding
        )
    return tf.raw_ops.Conv3DBackpropInputV2(
        input_sizes=sizes, filter=kernel, out_backprop=upstream, strides=geometry.steps, padding=padding
    )


def input_by_matmul(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """For windows of one pixel at stride 1."""
    del geometry
    product = tf.matmul(_rows(upstream), _rows(kernel), transpose_b=True)
    return tf.reshape(product, tf.shape(inputs))


def input_by_scatter(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """For windows of one pixel: the product at every stride-th pixel, zeros between."""
    product = tf.matmul(_rows(upstream), _rows(kernel), transpose_b=True)
    spread = tf.reshape(product, tf.concat([tf.shape(upstream)[:-1], [kernel.shape[-2]]], axis=0))
    for axis, stride in enumerate(geometry.strides, start=1):
        shape = tf.shape(spread)
        # An axis at a time: TensorFlow pads tensors of up to 6 axes.
        lines = tf.reshape(spread, [tf.reduce_prod(shape[: axis + 1]), 1, tf.reduce_prod(shape[axis + 1 :])])
        lines = tf.pad(lines, [[0, 0], [0, stride - 1], [0, 0]])
        spread = tf.reshape(lines, tf.concat([shape[:axis], [shape[axis] * stride], shape[axis + 1 :]], axis=0))
    return tf.slice(spread, [0] * (geometry.rank + 2), tf.shape(inputs))


def _transpose(kernel: Any, rank: int) -> Any:
    return tf.transpose(kernel, [*range(rank), rank + 1, rank])


def input_by_flip(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """For stride 1: a forward convolution with the kernel flipped in space and transposed in channels."""
    del inputs
    flipped = tf.reverse(_transpose(kernel, geometry.rank), list(range(geometry.rank)))
    window = kernel.shape[: geometry.rank].as_list()
    pads = tuple(
        (width - 1 - before, width - 1 - behind) for width, (before, behind) in zip(window, geometry.pads, strict=True)
    )
    return convolve(upstream, flipped, Geometry(geometry.strides, pads))


def input_by_phases(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """For windows not smaller than the stride: a forward convolution for each remainder of a pixel by the stride.

    Pixels of equal remainder meet the same taps of the window.
    """
    turned = _transpose(kernel, geometry.rank)
    plans = [
        _phase_plans(width, stride, *pads)
        for width, stride, pads in zip(
            kernel.shape[: geometry.rank].as_list(), geometry.strides, geometry.pads, strict=True
        )
    ]
    phases = []
    for phase in itertools.product(*plans):
        taps = turned
        for axis, (indices, _) in enumerate(phase):
            taps = tf.gather(taps, indices, axis=axis)
        # A window no larger than the stride may begin behind the first pixel: a negative pad.
        cuts = [slice(max(0, -before), None) for _, (before, _) in phase]
        one = Geometry((1,) * geometry.rank, tuple((max(0, before), behind) for _, (before, behind) in phase))
        phases.append(
            convolve(upstream[(slice(None), *cuts)] if any(cut.start for cut in cuts) else upstream, taps, one)
        )
    return tf.slice(_interleave(phases, geometry), [0] * (geometry.rank + 2), tf.shape(inputs))


def _phase_plans(width: int, stride: int, before: int, behind: int) -> list[tuple[list[int], tuple[int, int]]]:
    """Returns, for every remainder along one axis, the taps in the order of the upstream pixels, and the zeros.

    Pixel `stride * m + remainder` of the input meets tap t of the output pixel m + offset wherever
    offset = (remainder + before - t) / stride is whole.
    """
    if stride == 1:
        return [(list(reversed(range(width))), (width - 1 - before, width - 1 - behind))]
    plans = []
    for remainder in range(stride):
        offsets = {
            (remainder + before - tap) // stride: tap
            for tap in range(width)
            if (remainder + before - tap) % stride == 0
        }
        order = sorted(offsets)
        plans.append(([offsets[offset] for offset in order], (-order[0], order[-1])))
    return plans


def _interleave(phases: list[Any], geometry: Geometry) -> Any:
    """Returns pixels sorted back from phases, the last axis of space varying fastest."""
    shape = tf.shape(phases[0])
    for axis in reversed(range(geometry.rank)):
        stride = geometry.strides[axis]
        groups = [phases[start : start + stride] for start in range(0, len(phases), stride)]
        sizes = [shape[0], *(shape[1 + other] for other in range(geometry.rank)), shape[-1]]
        for done in range(axis, geometry.rank):
            sizes[1 + done] = shape[1 + done] * geometry.strides[done]
        phases = [
            group[0] if stride == 1 else tf.reshape(tf.stack(group, axis=axis + 2), tf.stack(sizes)) for group in groups
        ]
    return phases[0]


# Gradients of the kernel.


def filter_by_stock(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """TensorFlow's own operation, on inputs padded beforehand where "SAME" does not pad so, or does it wrongly.

    In volumes, with a step and a window about as large as the input, the operation with "SAME" returns wrong numbers or
    writes outside its memory (TensorFlow 2.21 with oneDNN, `benchmarks/gradient_sweep.py`).
    """
    shape = kernel.shape.as_list()
    safe = geometry.rank == 2 or set(geometry.strides) == {1}
    if safe and geometry.is_same(inputs.shape[1:-1].as_list(), shape[: geometry.rank]):
        return _backprop_filter(inputs, upstream, geometry, shape, "SAME")
    return _backprop_filter(_pad(inputs, geometry), upstream, geometry, shape, "VALID")


def _backprop_filter(inputs: Any, upstream: Any, geometry: Geometry, shape: list[int], padding: str) -> Any:
    if geometry.rank == 2:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=shape, out_backprop=upstream, strides=geometry.steps, padding=padding
        )
    return tf.raw_ops.Conv3DBackpropFilterV2(
        input=inputs, filter_sizes=shape, out_backprop=upstream, strides=geometry.steps, padding=padding
    )


def filter_by_explicit(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """TensorFlow's own operation, which pads inside; it has that for two axes of space."""
    shape = kernel.shape.as_list()
    if geometry.rank != 2 or geometry.is_same(inputs.shape[1:-1].as_list(), shape[:2]):
        return filter_by_stock(inputs, kernel, upstream, geometry)
    return tf.raw_ops.Conv2DBackpropFilter(
        input=inputs,
        filter_sizes=shape,
        out_backprop=upstream,
        strides=geometry.steps,
        padding="EXPLICIT",
        explicit_paddings=list(itertools.chain(*geometry.explicit)),
    )


def filter_by_matmul(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """For windows of one pixel. The stock form writes outside its memory with a step (benchmarks/strided_pixels.py)."""
    steps = tf.shape(upstream)
    for axis, stride in enumerate(geometry.strides, start=1):
        if stride > 1:
            inputs = _every(inputs, axis, 0, steps[axis], stride)
    return tf.reshape(tf.matmul(_rows(inputs), _rows(upstream), transpose_a=True), kernel.shape)


def filter_by_taps(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """One matrix product a tap of the window."""
    padded, shape = _pad(inputs, geometry), kernel.shape.as_list()
    steps = tf.shape(upstream)
    gradients = []
    for tap in itertools.product(*(range(width) for width in shape[: geometry.rank])):
        pixels = padded
        for axis, (start, stride) in enumerate(zip(tap, geometry.strides, strict=True), start=1):
            window = (*[slice(None)] * axis, slice(start, start + steps[axis]))
            pixels = pixels[window] if stride == 1 else _every(pixels, axis, start, steps[axis], stride)
        gradients.append(tf.matmul(_rows(pixels), _rows(upstream), transpose_a=True))
    return tf.reshape(tf.stack(gradients), shape)


def filter_by_forward(inputs: Any, kernel: Any, upstream: Any, geometry: Geometry) -> Any:
    """For stride 1: a forward convolution over the batch, whose kernel is the upstream gradient."""
    del kernel
    rank = geometry.rank
    space = list(range(1, rank + 1))
    turned = tf.transpose(inputs, [rank + 1, *space, 0])
    taps = tf.transpose(upstream, [*space, 0, rank + 1])
    # The window is the whole output, which is what "SAME" never means here.
    if rank == 2:
        product = tf.nn.conv2d(turned, taps, 1, geometry.explicit)
    else:
        product = tf.nn.conv3d(_pad(turned, geometry), taps, [1] * 5, "VALID")
    return tf.transpose(product, [*space, 0, rank + 1])


Form = Callable[[Any, Any, Any, Geometry], Any]
INPUT_GRADIENTS: dict[str, Form] = {
    "stock": input_by_stock,
    "matmul": input_by_matmul,
    "scatter": input_by_scatter,
    "flip": input_by_flip,
    "phases": input_by_phases,
}
FILTER_GRADIENTS: dict[str, Form] = {
    "stock": filter_by_stock,
    "explicit": filter_by_explicit,
    "matmul": filter_by_matmul,
    "taps": filter_by_taps,
    "forward": filter_by_forward,
}
