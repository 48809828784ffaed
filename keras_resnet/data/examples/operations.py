"""What is done to whole batches of training examples: augmentation, and operations that may change the labels."""

from collections.abc import Mapping
from typing import Any, Protocol

import keras
import tensorflow as tf

from keras_resnet.data.examples import order
from keras_resnet.data.examples.pace import PARALLEL_CALLS
from keras_resnet.errors import BadValue


class BatchOperation(Protocol):
    """A pure function of a batch and a seed."""

    def __call__(self, images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """Returns images and labels; `seed` is an int32 tensor of shape (2,)."""


def augmenting(augmentation: Any, image_shape: tuple[int | None, ...]) -> BatchOperation:
    """Returns the operation that changes images by a `keras_resnet.preprocessing.Augmentation`.

    Raises:
        ValueError: it is for pictures and the examples are none, or Keras does not run on TensorFlow.
    """
    layers = getattr(augmentation, "layers", [augmentation])
    unfit = [layer.name for layer in layers if not getattr(layer, "any_rank", False)]
    if len(image_shape) != 3 and unfit:
        raise BadValue(
            f"augmentation was given for examples of shape {image_shape}, and holds {', '.join(unfit)}, which are for "
            "images (height, width, channels). Allowed are FlipAxis, Shift, QuarterTurns, Noise and Gain. Leave the "
            "others out."
        )
    if keras.config.backend() != "tensorflow":
        raise BadValue(
            f"augmentation was given under the Keras backend {keras.config.backend()!r}. Inside a tf.data pipeline it "
            "needs TensorFlow. Set KERAS_BACKEND=tensorflow, or augment the batches yourself with augmentation.apply."
        )

    def augment(images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        return augmentation.apply(images, seed), labels

    return augment


def applied(
    batches: tf.data.Dataset, operations: Mapping[str, BatchOperation], seed: int, start_step: int
) -> tf.data.Dataset:
    """Returns batches after the operations, each drawing from a stream of the run's seed that its name chooses."""
    streams = {name: order.derived_seed(seed, name) for name in operations}

    def apply(step: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        images, labels = batch
        for name, operation in operations.items():
            draw = tf.stack([tf.constant(streams[name], tf.int32), tf.cast(step % 2**31, tf.int32)])
            images, labels = operation(images, labels, draw)
        return images, labels

    return batches.enumerate(start_step).map(apply, num_parallel_calls=PARALLEL_CALLS, deterministic=True)
