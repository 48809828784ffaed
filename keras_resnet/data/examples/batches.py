"""Batches of a split with everything that goes with them: random transforms, parts of several processes, weights."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.examples.plan import PARALLEL_CALLS, Examples, Plan
from keras_resnet.data.examples.streamed import StreamedExamples
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.batch_transforms import BatchOperation, BatchTransforms, Mixing


def finite_part(examples: Examples, plan: Plan, index: int, count: int) -> tf.data.Dataset:
    """Returns the part of one process of every batch, in order.

    Where a batch cannot be divided, its last example fills the last parts up: of the parts together, the first rows
    are the batch.
    """
    if count == 1:
        return examples.finite(plan)
    if isinstance(examples, StreamedExamples):
        return examples.finite_part(plan, index, count)
    rows = rows_of_part(len(examples), plan.batch_size, index, count)
    return examples.take(rows).finite(dataclasses.replace(plan, batch_size=-(-plan.batch_size // count)))


def rows_of_part(size: int, batch_size: int, index: int, count: int) -> np.ndarray:
    """Returns the examples that one process takes of batches in order, of each an equal part.

    Example:
        >>> from keras_resnet.data.examples.batches import rows_of_part
        >>> rows_of_part(7, 4, 1, 2).tolist()
        [2, 3, 6, 6]
    """
    rows = []
    for first in range(0, size, batch_size):
        last = min(first + batch_size, size)
        part = -(-(last - first) // count)
        rows.append(np.minimum(first + index * part + np.arange(part), last - 1))
    return np.concatenate(rows)


# Batches that are ready before they are asked for.
PREFETCHED_BATCHES = 4


def set_pace(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns batches that are made ahead of time, and whose iterators end at once."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(PREFETCHED_BATCHES).with_options(options)


def transforms_of(
    augmentation: Any, operations: Sequence[BatchOperation], image_shape: tuple[int | None, ...], seed: int
) -> BatchTransforms | None:
    """Returns an augmentation and further operations in turn, each with its stream of a seed; None for nothing."""
    options = {} if augmentation is None else {"augmentation": _augmenting(augmentation, image_shape)}
    options |= {f"operation {number}": operation for number, operation in enumerate(operations, start=1)}
    return BatchTransforms(options, seed) if options else None


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
    """Returns batches after their random transforms."""
    if keras.config.backend() != "tensorflow":
        raise BadValue(
            f"augmentation was given under the Keras backend {keras.config.backend()!r}. Inside a tf.data pipeline it "
            "needs TensorFlow. Set KERAS_BACKEND=tensorflow, or transform the batches in the training step "
            "(augment.augment_on='device' in a recipe, else keras_resnet.preprocessing.transform_in_step)."
        )
    return batches.enumerate(start_step).map(
        lambda step, batch: transforms(step, *batch), num_parallel_calls=PARALLEL_CALLS, deterministic=True
    )


def training_of(
    examples: Examples,
    plan: Plan,
    image_shape: tuple[int | None, ...],
    augmentation: Any,
    operations: Sequence[BatchOperation],
    weights: np.ndarray | None,
) -> tf.data.Dataset:
    """Returns infinite training batches after their random transforms: images, labels, and weights if any."""
    mixing = [operation for operation in operations if isinstance(operation, Mixing)]
    if weights is not None and mixing:
        raise mixed_weights(type(mixing[0]).__name__)
    batches = _transformed(examples, plan, image_shape, augmentation, operations)
    if weights is None:
        return batches
    table = tf.constant(weights)
    order = plan.indices(len(examples)).map(lambda samples, indices: tf.gather(table, indices))
    return _with_weights(batches, order)


def mixed_weights(argument: str) -> BadValue:
    """Returns the error for examples that have weights and are to be mixed."""
    return BadValue(
        f"{argument} was given with examples that have weights. A mixed example belongs to two, whose weights differ. "
        "Mix nothing, or leave the weights out (of a table columns='weight=none', in a recipe data.columns)."
    )


def _transformed(
    examples: Examples,
    plan: Plan,
    image_shape: tuple[int | None, ...],
    augmentation: Any,
    operations: Sequence[BatchOperation],
) -> tf.data.Dataset:
    changes = transforms_of(augmentation, operations, image_shape, plan.seed)
    if changes is None:
        return examples.training(plan)
    # Operations see the whole batch, whose examples they may mix, and the shard is cut from what they return.
    whole = dataclasses.replace(plan, shard=0, num_shards=1)
    batches = apply_transforms(examples.training(whole), changes, plan.start_step)
    if plan.num_shards == 1:
        return batches
    mine = slice(plan.first_of_shard, plan.first_of_shard + plan.shard_size)
    return batches.map(lambda images, labels: (images[mine], labels[mine]))


def finite_of(examples: Examples, plan: Plan, shard: tuple[int, int], weights: np.ndarray | None) -> tf.data.Dataset:
    """Returns every example once, in order: images, labels, and weights where there are any."""
    batches = finite_part(examples, plan, *shard)
    if weights is None:
        return batches
    index, count = shard
    rows = rows_of_part(len(examples), plan.batch_size, index, count)
    ordered = tf.data.Dataset.from_tensor_slices(weights[rows]).batch(-(-plan.batch_size // count))
    return _with_weights(batches, ordered)


def _with_weights(batches: tf.data.Dataset, weights: tf.data.Dataset) -> tf.data.Dataset:
    return tf.data.Dataset.zip((batches, weights)).map(lambda batch, weight: (*batch, weight))
