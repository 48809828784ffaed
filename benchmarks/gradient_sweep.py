"""Convolutions and their gradients, as the kernels choose them, against float64 in NumPy, each case in its own process.

    python -m benchmarks.gradient_sweep [--axes 3] [--random 60] [--cases N] [--json FILE]

Windows of 3, 5 and 7 pixels, strides 1 to 3, every equal side from 1 to 16 pixels and random unequal ones. TensorFlow
is loaded once and every case is a fork of that process, so that one that aborts is counted and the sweep goes on.
Prints what is wrong or aborts and ends with status 1 where there is any.
"""

import argparse
import itertools
import json
import os
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

WINDOWS, STRIDES, SIDES = (3, 5, 7), (1, 2, 3), range(1, 17)
FILTERS, BATCH = 16, 2
# Float32 sums of up to 343 taps and 16 channels, and over up to 2 * 16**3 pixels: a few parts in a million.
TOLERANCE = 1e-4

Case = tuple[int, int, tuple[int, ...], int]


def cases(axes: int, unequal: int) -> Iterator[Case]:
    """Yields `(window, stride, sides, channels)`."""
    draw = random.Random(0)
    for window, stride in itertools.product(WINDOWS, STRIDES):
        for side in SIDES:
            yield window, stride, (side,) * axes, (3, 16)[side % 2]
        for _ in range(unequal // (len(WINDOWS) * len(STRIDES))):
            yield window, stride, tuple(draw.choice(SIDES) for _ in range(axes)), draw.choice((1, 3, 8, 16))


def reference(images: np.ndarray, kernel: np.ndarray, upstream: np.ndarray, stride: int) -> tuple[np.ndarray, ...]:
    """Returns outputs, gradient by the images and gradient by the kernel, tap by tap in float64."""
    axes = images.ndim - 2
    before = kernel.shape[0] // 2
    padded = np.pad(images.astype("float64"), [(0, 0), *[(before, before)] * axes, (0, 0)])
    outputs = np.zeros((*upstream.shape[:-1], kernel.shape[-1]))
    by_padded, by_kernel = np.zeros_like(padded), np.zeros(kernel.shape)
    for tap in itertools.product(range(kernel.shape[0]), repeat=axes):
        window = (
            slice(None),
            *(
                slice(start, start + (size - 1) * stride + 1, stride)
                for start, size in zip(tap, upstream.shape[1:-1], strict=True)
            ),
        )
        outputs += padded[window] @ kernel[tap].astype("float64")
        by_padded[window] += upstream @ kernel[tap].astype("float64").T
        by_kernel[tap] = np.tensordot(padded[window], upstream, axes=(range(axes + 1), range(axes + 1)))
    inner = (slice(None), *(slice(before, before + size) for size in images.shape[1:-1]))
    return outputs, by_padded[inner], by_kernel


def worst_of(case: Case) -> float:
    """Returns the largest difference of a case, relative to the largest value of what differs."""
    import tensorflow as tf

    from keras_resnet.blocks import Convolution

    window, stride, sides, channels = case
    draw = np.random.default_rng(0)
    images = draw.normal(size=(BATCH, *sides, channels)).astype("float32")
    layer = Convolution(FILTERS, window, strides=stride, use_bias=False)
    layer.build(images.shape)

    # Traced, as training does it: static shapes choose the form.
    @tf.function
    def step(pixels: Any, weights: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            outputs = layer(pixels, training=True)
            loss = tf.reduce_sum(outputs * weights)
        return outputs, *tape.gradient(loss, [pixels, layer.kernel.value])

    shape = layer.compute_output_shape(images.shape)
    upstream = draw.normal(size=shape).astype("float32")
    gradients = [np.asarray(part) for part in step(tf.constant(images), tf.constant(upstream))]
    expected = reference(images, np.asarray(layer.kernel), upstream, stride)
    return max(
        float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-9))
        for one, other in zip(gradients, expected, strict=True)
    )


def outcome(case: Case) -> str:
    """Returns "right", or what is wrong with a case that ran in its own process."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the C library prints when it aborts
        try:
            os.write(writing, f"{worst_of(case):.3e}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(process, 0)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    if os.WIFSIGNALED(status):
        return f"aborted by signal {os.WTERMSIG(status)}"
    if not answer:
        return "raised an error"
    return "right" if float(answer) <= TOLERANCE else f"differs by {answer}"


def main() -> None:
    """Runs the cases, prints what is not right and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", type=int, default=3, choices=[1, 2, 3], help="of space")
    parser.add_argument("--random", type=int, default=63, metavar="N", help="cases with unequal sides")
    parser.add_argument("--cases", type=int, metavar="N", help="run only the first N")
    parser.add_argument("--json", metavar="FILE", help="write the outcomes to FILE")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow  # noqa: F401  loaded before the forks, and not used before them

    import keras_resnet  # noqa: F401

    chosen = list(cases(options.axes, options.random))[: options.cases]
    outcomes = {repr(case): outcome(case) for case in chosen}
    wrong = {case: found for case, found in outcomes.items() if found != "right"}
    for case, found in wrong.items():
        print(f"window, stride, sides, channels {case}: {found}")
    print(f"{len(chosen)} cases, {len(chosen) - len(wrong)} right, {len(wrong)} not")
    if options.json:
        from keras_resnet import files

        files.write_text(options.json, json.dumps(outcomes, indent=1) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
