"""How fast this machine trains, predicts and reads with one model, and how much of its matrix speed that is.

Example:
    >>> from keras_resnet import benchmark
    >>> found = benchmark.benchmark("resnet18", mode="infer", input_size=8, batch_size=2, width=4, seconds=0.1)
    >>> found.mode, found.images_per_second > 0
    ('infer', True)
"""

import dataclasses
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import (
    models,
    needs_tensorflow,  # noqa: F401
)
from keras_resnet.arguments import check_float, check_int, choose

SMALL_SIDE_PX = 64
PEAK_SIDES, PEAK_CALLS = (1024, 2048), 5
ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        mode: "train", "infer" or "data".
        model: name of the variant.
        input_size: side of the images in pixels.
        batch_size: images per step.
        images_per_second: median of five rounds.
        gflops: 10^9 additions and multiplications a second of convolutions and dense layers; None for "data".
        peak_gflops: of the fastest float32 product of two matrices; None for "data".
        share_of_peak: of the two; above 1 where 16-bit operations are faster than float32's.
        facts: TensorFlow's version, engine, cores and devices.
    """

    mode: str
    model: str
    input_size: int
    batch_size: int
    images_per_second: float
    gflops: float | None
    peak_gflops: float | None
    share_of_peak: float | None
    facts: dict[str, Any]

    def __str__(self) -> str:
        """Returns a human-readable summary."""
        what = {"train": "training", "infer": "inference", "data": "reading"}[self.mode]
        lines = [f"{what:<14}{self.model}, {self.input_size} px, batch {self.batch_size}"]
        lines.append(f"speed         {self.images_per_second:,.1f} images/s")
        if self.gflops is not None:
            lines.append(
                f"              {self.gflops:,.0f} of {self.peak_gflops:,.0f} GFLOP/s: {self.share_of_peak:.0%}"
            )
        lines += [f"{name:<14}{value}" for name, value in self.facts.items()]
        return "\n".join(lines)


def benchmark(
    model: str = "resnet50",
    *,
    mode: str = "train",
    input_size: int = 224,
    batch_size: int = 16,
    seconds: float = 2.0,
    **arguments: Any,
) -> Figures:
    """Measures images per second on this machine, on random images.

    "train" is `model.fit` with SGD, "infer" a compiled call of the network with its norms folded, "data" decoding,
    random crops and flips of JPEG files of 500x375 px made for it.

    Args:
        model: a name from `keras_resnet.list_models()`; "data" does not use it.
        mode: "train", "infer" or "data".
        input_size: side of the images, in pixels.
        batch_size: images per step.
        seconds: of each of five rounds, at least.
        **arguments: of the constructor, such as `width=16` or `dtype="mixed_bfloat16"`.

    Raises:
        TypeError, ValueError: an argument is not what is allowed.
    """
    choose("mode", mode, MODES)
    choose("model", model, models.VARIANTS)
    check_int("input_size", input_size, minimum=8)
    check_int("batch_size", batch_size)
    check_float("seconds", seconds, minimum=0.0, minimum_included=False)
    if mode == "data":
        with tempfile.TemporaryDirectory(prefix="keras-resnet-benchmark-") as folder:
            rate = _rate(_reading(pathlib.Path(folder), input_size, batch_size), batch_size, seconds)
        return Figures(mode, model, input_size, batch_size, rate, None, None, None, _facts())
    arguments = {"stem": "small" if input_size < SMALL_SIDE_PX else "conv7", **arguments}
    network = models.build(model, input_shape=(input_size, input_size, 3), **arguments)
    work = 2 * models.model_info(network).multiply_adds * (3 if mode == "train" else 1)
    step = MODES[mode](network, input_size, batch_size)
    rate = _rate(step, batch_size, seconds)
    peak = _matrix_peak()
    gflops = rate * work / 1e9
    return Figures(mode, model, input_size, batch_size, rate, gflops, peak, gflops / peak, _facts())


def _rate(step: Callable[[], Any], images: int, seconds: float) -> float:
    """Returns images per second: the median of rounds, after two calls that are not counted."""
    step()
    step()
    rates = []
    for _ in range(ROUNDS):
        calls, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < seconds / ROUNDS or not calls:
            step()
            calls += 1
        rates.append(calls * images / spent)
    return statistics.median(rates)


def _training(network: keras.Model, size: int, batch: int) -> Callable[[], Any]:
    draw = np.random.default_rng(0)
    images = draw.random((batch, size, size, 3), dtype="float32") * 255
    labels = draw.integers(0, network.output_shape[-1], batch)
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    images, labels = keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(labels)
    return lambda: network.train_on_batch(images, labels)


def _inference(network: keras.Model, size: int, batch: int) -> Callable[[], Any]:
    import tensorflow as tf

    fused = models.fuse(network)
    images = tf.random.uniform((batch, size, size, 3), maxval=255)
    call = tf.function(lambda images: fused(images, training=False))
    return lambda: call(images).numpy()


def _reading(folder: pathlib.Path, size: int, batch: int) -> Callable[[], Any]:
    """Returns a step that takes the next batch of an endless pipeline over JPEG files, which it makes in a folder."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for index in range(max(2 * batch, 32)):
        place = folder / "train" / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        smooth = Image.fromarray(draw.integers(0, 256, (24, 32, 3), "uint8")).resize((500, 375))
        smooth.save(place / f"{index}.jpg", quality=90)
    dataset = datasets.load(f"folder:{folder}", in_memory_limit=1)
    batches = iter(dataset.training_batches(min(batch, dataset.sizes["train"]), seed=0, image_size=size, crop="random"))
    return lambda: next(batches)


MODES: dict[str, Any] = {"train": _training, "infer": _inference, "data": None}


def _matrix_peak() -> float:
    """Returns the fastest float32 product of two square matrices, in GFLOP/s."""
    import tensorflow as tf

    best = 0.0
    for side in PEAK_SIDES:
        left, right = tf.random.normal((side, side)), tf.random.normal((side, side))
        tf.matmul(left, right).numpy()
        for _ in range(PEAK_CALLS):
            start = time.perf_counter()
            tf.matmul(left, right)[0, 0].numpy()
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def _facts() -> dict[str, Any]:
    import tensorflow as tf

    from keras_resnet.blocks.kernels import enabled, selection

    gpus = ", ".join(device.name for device in tf.config.list_physical_devices("GPU")) or "none"
    engine = selection.engine() if enabled() else "Keras's own operations"
    return {"tensorflow": tf.__version__, "engine": engine, "cores": os.cpu_count(), "gpu": gpus}
