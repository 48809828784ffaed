"""What is done to whole batches of training examples: augmentation, and operations that may change the labels."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.data.examples.pace import PARALLEL_CALLS
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.streams import BatchOperation, Changes


def changes_of(
    augmentation: Any, operations: Sequence[BatchOperation], image_shape: tuple[int | None, ...], seed: int
) -> Changes | None:
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
    return Changes(named, seed) if named else None


def _augmenting(augmentation: Any, image_shape: tuple[int | None, ...]) -> BatchOperation:
    layers = getattr(augmentation, "layers", [augmentation])
    unfit = [layer.name for layer in layers if not getattr(layer, "any_rank", False)]
    if len(image_shape) != 3 and unfit:
        raise BadValue(
            f"augmentation was given for examples of shape {image_shape}, and holds {', '.join(unfit)}, which are for "
            "images (height, width, channels). Allowed are FlipAxis, Shift, QuarterTurns, Noise and Gain. Leave the "
            "others out."
        )

    def augment(images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        return augmentation.apply(images, seed), labels

    return augment


def changed(batches: tf.data.Dataset, changes: Changes, start_step: int) -> tf.data.Dataset:
    """Returns batches after their changes.

    Raises:
        ValueError: Keras does not run on TensorFlow.
    """
    if keras.config.backend() != "tensorflow":
        raise BadValue(
            f"augmentation was given under the Keras backend {keras.config.backend()!r}. Inside a tf.data pipeline it "
            "needs TensorFlow. Set KERAS_BACKEND=tensorflow, or change the batches in the training step "
            "(keras_resnet.preprocessing.in_step)."
        )
    return batches.enumerate(start_step).map(
        lambda step, batch: changes(step, *batch), num_parallel_calls=PARALLEL_CALLS, deterministic=True
    )
