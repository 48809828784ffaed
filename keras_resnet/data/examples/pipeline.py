"""What every pipeline does to its batches: random transforms, and a pace without TensorFlow's autotuner.

The thread that tunes a pipeline sleeps 10 ms, then twice as long each time, up to a minute, and an iterator that is let
go often waits for it to wake: `fit`, `evaluate` and `predict` then end up to twice as late as their work did
(TensorFlow 2.21; `benchmarks/loop_ends.py`).
"""

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.batch_transforms import BatchOperation, BatchTransforms

# A pipeline decodes with every core, and has a few batches ready before they are asked for.
PARALLEL_CALLS = os.cpu_count() or 1
PREFETCHED_BATCHES = 4


def set_pace(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns batches that are made ahead of time, and whose iterators end at once."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(PREFETCHED_BATCHES).with_options(options)


def transforms_of(
    augmentation: Any, operations: Sequence[BatchOperation], image_shape: tuple[int | None, ...], seed: int
) -> BatchTransforms | None:
    """Returns an augmentation and further operations in turn, each with its stream of a seed; None for nothing.

    Args:
        augmentation: a `keras_resnet.preprocessing.Augmentation`, or None.
        operations: which follow it.
        image_shape: `(*space, channels)` of the examples.
        seed: of the run.

    Raises:
        ValueError: the augmentation is for pictures and the examples are none.
    """
    named = {} if augmentation is None else {"augmentation": _augmenting(augmentation, image_shape)}
    named |= {f"operation {number}": operation for number, operation in enumerate(operations, start=1)}
    return BatchTransforms(named, seed) if named else None


def _augmenting(augmentation: Any, image_shape: tuple[int | None, ...]) -> BatchOperation:
    layers = getattr(augmentation, "layers", [augmentation])
    unfit = [layer.name for layer in layers if not getattr(layer, "is_rank_agnostic", False)]
    if len(image_shape) != 3 and unfit:
        raise BadValue(
            f"augmentation was given for examples of shape {image_shape}, and holds {', '.join(unfit)}, which are for "
            "images (height, width, channels). Allowed are FlipAxis, Shift, QuarterTurns, Noise and Gain. Leave the "
            "others out."
        )

    def augment(images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        return augmentation.apply(images, seed), labels

    return augment


def apply_transforms(batches: tf.data.Dataset, transforms: BatchTransforms, start_step: int) -> tf.data.Dataset:
    """Returns batches after their random transforms.

    Raises:
        ValueError: Keras does not run on TensorFlow.
    """
    if keras.config.backend() != "tensorflow":
        raise BadValue(
            f"augmentation was given under the Keras backend {keras.config.backend()!r}. Inside a tf.data pipeline it "
            "needs TensorFlow. Set KERAS_BACKEND=tensorflow, or transform the batches in the training step "
            "(augment.augment_on='device' in a recipe, else keras_resnet.preprocessing.transform_in_step)."
        )
    return batches.enumerate(start_step).map(
        lambda step, batch: transforms(step, *batch), num_parallel_calls=PARALLEL_CALLS, deterministic=True
    )
