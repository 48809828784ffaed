"""The one interface behind every source."""

import hashlib
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from keras_resnet.arguments import check_int, choose
from keras_resnet.data import order
from keras_resnet.data.plan import TrainingPlan, check_crop, check_image_size
from keras_resnet.data.resizing import TRAINING_ANTIALIAS_ABOVE


class Examples(Protocol):
    """One split of a source."""

    def __len__(self) -> int:
        """Returns the number of examples."""

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """`(*space, channels)`, None where sizes differ."""

    def fingerprint(self) -> bytes:
        """Returns a digest that changes with the data."""

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels, all or the first `limit`."""

    def training(self, plan: TrainingPlan) -> tf.data.Dataset:
        """Returns infinite batches from `plan.start_step` on."""

    def finite(self, batch_size: int, image_size: tuple[int, int] | None, crop: str) -> tf.data.Dataset:
        """Returns every example once, in order."""


class Dataset:
    """A dataset with its splits, as `load` returns it.

    Training batches are infinite, full, and a pure function of (seed, step): started at any step they go on exactly
    as an uninterrupted run would. Evaluation batches are finite and hold every example once. Both have a known
    cardinality, because Keras 3.15 takes an extra step for a dataset of unknown cardinality.

    Args:
        spec: what `load` was asked for.
        splits: the examples of "train" and, where present, "validation" and "test".
        class_names: one a class; empty for regression.
        num_outputs: classes, or values to predict.
        report: what a user should know: counts, skipped files, ignored extensions.
    """

    def __init__(
        self,
        spec: str,
        splits: dict[str, Examples],
        *,
        class_names: tuple[str, ...],
        num_outputs: int,
        report: list[str],
    ) -> None:
        self.spec = spec
        self.splits = splits
        self.class_names = class_names
        self.num_outputs = num_outputs
        self.report = report
        self.sizes = {name: len(examples) for name, examples in splits.items()}
        shapes = [examples.image_shape for examples in splits.values()]
        self.image_shape = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))
        digest = hashlib.sha256(repr((class_names, num_outputs, sorted(self.sizes.items()))).encode())
        for name in sorted(splits):
            digest.update(name.encode() + splits[name].fingerprint())
        self.fingerprint = digest.hexdigest()

    def __repr__(self) -> str:
        """Returns the spec, the sizes and the shape."""
        return f"Dataset({self.spec!r}, sizes={self.sizes}, image_shape={self.image_shape})"

    def split(self, name: str) -> Examples:
        """Returns the examples of a split.

        Raises:
            ValueError: there is no such split; the message lists those that exist.
        """
        return choose("split", name, self.splits)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of full training batches an epoch.

        Raises:
            ValueError: the training split is smaller than a batch.
        """
        check_int("batch_size", batch_size)
        if batch_size > self.sizes["train"]:
            raise ValueError(
                f"batch_size={batch_size} is more than the {self.sizes['train']} training examples. "
                "Allowed is at most one epoch. Use a smaller batch."
            )
        return self.sizes["train"] // batch_size

    def training_batches(
        self,
        batch_size: int,
        *,
        seed: int,
        start_step: int = 0,
        image_size: int | tuple[int, int] | None = None,
        augmentation: Any = None,
        crop: str | None = None,
    ) -> tf.data.Dataset:
        """Returns infinite training batches, from any step on.

        Epoch e covers the steps from `e * steps_per_epoch` on; each epoch has an order of its own, and the examples
        that do not fill its last batch are left out of it.

        Args:
            batch_size: examples a batch.
            seed: of order, crops and augmentation, in [0, 2**31).
            start_step: the first global step, >= 0. Sources with random access start at once.
            image_size: side in pixels or `(height, width)`; None keeps the size that all images share.
            augmentation: a `keras_resnet.preprocessing.Augmentation`, or None.
            crop: "random" (scale 0.08 to 1, ratio 3/4 to 4/3), "center", "none" (the whole image, stretched); None
                for "random" where images differ in size, "none" elsewhere.

        Returns:
            Batches `(images, labels)`: images uint8 or float32, `(batch, *space, channels)`, in [0, 255] for image
            files; labels int32 `(batch,)`, or float32 for regression.

        Raises:
            TypeError, ValueError: an argument is out of its range.
        """
        self.steps_per_epoch(batch_size)
        size = check_image_size(image_size, self.image_shape)
        plan = TrainingPlan(
            batch_size=batch_size,
            seed=check_int("seed", seed, minimum=0, maximum=2**31 - 1),
            start_step=check_int("start_step", start_step, minimum=0),
            image_size=size,
            crop=check_crop(crop, size, self.image_shape, default="random"),
            antialias_above=TRAINING_ANTIALIAS_ABOVE,
        )
        batches = self.splits["train"].training(plan)
        if augmentation is not None:
            batches = _augmented(batches, augmentation, plan, self.image_shape)
        return batches.prefetch(tf.data.AUTOTUNE)

    def batches(
        self, split: str, batch_size: int, *, image_size: int | tuple[int, int] | None = None, crop: str | None = None
    ) -> tf.data.Dataset:
        """Returns every example of a split once, in order; the last batch may be smaller.

        Args:
            split: "train", "validation" or "test".
            batch_size: examples a batch.
            image_size: side in pixels or `(height, width)`; None keeps the size that all images share.
            crop: "center" (see `resize_for_evaluation`), "none" (the whole image, stretched); None for "center" where
                images differ in size, "none" elsewhere.

        Raises:
            TypeError, ValueError: an argument is out of its range, or there is no such split.
        """
        check_int("batch_size", batch_size)
        examples = self.split(split)
        size = check_image_size(image_size, self.image_shape)
        crop = check_crop(crop, size, self.image_shape, default="center")
        if crop == "random":
            raise ValueError(
                "crop='random' was given for evaluation. Allowed are 'center' and 'none'. "
                "Use training_batches for random crops."
            )
        return examples.finite(batch_size, size, crop).prefetch(tf.data.AUTOTUNE)

    def arrays(self, split: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels of a split as arrays, for sets that fit in memory.

        Args:
            split: "train", "validation" or "test".
            limit: how many examples at most, from the first on; None for all.

        Raises:
            ValueError: there is no such split, or its images differ in size.
        """
        examples = self.split(split)
        check_image_size(None, self.image_shape)
        return examples.arrays(limit if limit is None else check_int("limit", limit))


def _augmented(
    batches: tf.data.Dataset, augmentation: Any, plan: TrainingPlan, image_shape: tuple[int | None, ...]
) -> tf.data.Dataset:
    import keras

    if len(image_shape) != 3:
        raise ValueError(
            f"augmentation was given for examples of shape {image_shape}. Only images (height, width, channels) can be "
            "augmented. Leave it out."
        )
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"augmentation was given under the Keras backend {keras.config.backend()!r}. Inside a tf.data pipeline it "
            "needs TensorFlow. Set KERAS_BACKEND=tensorflow, or augment the batches yourself with augmentation.apply."
        )
    stream = order.derived_seed(plan.seed, "augmentation")

    def augment(step: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        images, labels = batch
        seed = tf.stack([tf.constant(stream, tf.int32), tf.cast(step % 2**31, tf.int32)])
        return augmentation.apply(images, seed), labels

    return batches.enumerate(plan.start_step).map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
