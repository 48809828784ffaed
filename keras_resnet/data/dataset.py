"""The one interface behind every source."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.arguments import check_fraction, check_int, check_names, choose
from keras_resnet.data.examples.batches import finite_of, set_pace, training_of
from keras_resnet.data.examples.plan import Examples, Plan, check_crop, check_decode, check_fit, check_image_size
from keras_resnet.data.examples.splits import report_copies
from keras_resnet.data.images.headers import BadImageError
from keras_resnet.data.images.resizing import CROP_FRACTION, TRAINING_ANTIALIAS_ABOVE
from keras_resnet.data.options import LoadOptions
from keras_resnet.data.weighting import (
    LabelWeights,
    class_weights,
    label_weights,
    relative_weights,
    report_imbalance,
    report_weights,
    sampling_weights,
)
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.batch_transforms import BatchOperation
from keras_resnet.preprocessing.record import BYTES
from keras_resnet.tasks import CLASSIFICATION, REGRESSION


@contextlib.contextmanager
def explain_decode_errors(dataset: "Dataset") -> Iterator[None]:
    """Makes an error out of the dataset's batches name the file, for code that iterates over them.

    Files are checked when a dataset is loaded, but they can change, and some damage shows only in decoding. When
    TensorFlow raises out of a pipeline, the files are decoded one by one until the bad ones are found; this takes
    time only then. Errors of other origin pass unchanged.

    Args:
        dataset: whose batches are read within the block.

    Raises:
        BadImageError: an image file or a record cannot be read; the message names it.

    Example:
        >>> from keras_resnet import data
        >>> digits = data.load("digits")
        >>> with data.explain_decode_errors(digits):
        ...     batches = sum(1 for _ in digits.batches("test", 90))
        >>> batches
        4
    """
    try:
        yield
    except tf.errors.OpError as error:
        explained = explain(dataset, error)
        if explained is None:
            raise
        raise explained from error


def explain(dataset: "Dataset", error: tf.errors.OpError) -> BadImageError | None:
    """Returns the error that names the bad files behind `error`, or None where the data is not its cause."""
    # Every error of a pipeline passes through the op that takes the next element.
    if "IteratorGetNext" not in str(error.message):
        return None
    faults = (examples.explain() for examples in dataset.splits.values())
    return next((fault for fault in faults if fault is not None), None)


class Dataset:
    """A dataset with its splits, as `load` returns it.

    Training batches are infinite, full, and a pure function of (seed, step): started at any step they go on exactly
    as an uninterrupted run would. Evaluation batches are finite and hold every example once. Both have a known
    cardinality, because Keras 3.15 takes an extra step for a dataset of unknown cardinality.

    Args:
        spec: what `load` was asked for.
        splits: the examples of "train" and, where present, "validation" and "test".
        class_names: one per class; empty for regression.
        num_outputs: classes, or regression targets per example.
        report: what a user should know: counts, skipped files, ignored extensions.
        units: of regression targets, one per output; empty if they are not known.
        groups: of the examples of each split, which none divides; empty or None where nothing says them.
        task: what the labels are for, a key of `keras_resnet.tasks.TASKS`; None for a classification where there are
            class names, else a regression.

    Attributes: `pixel_range`, the values of black and of white in pictures, None for other examples and unknown units;
    `options`, those that `load` was given, None for a dataset that was made otherwise.
    """

    options: LoadOptions | None = None

    def __init__(
        self,
        spec: str,
        splits: Mapping[str, Examples],
        *,
        class_names: tuple[str, ...],
        num_outputs: int,
        report: list[str],
        units: tuple[str, ...] = (),
        groups: Mapping[str, np.ndarray | None] | None = None,
        task: str | None = None,
    ) -> None:
        check_names(f"data={spec!r}: a class name", class_names)
        check_names(f"data={spec!r}: a unit", units)
        self.spec = spec
        self.splits = splits
        self.class_names = class_names
        self.num_outputs = num_outputs
        self.units = units
        self.task = task or (CLASSIFICATION if class_names else REGRESSION).name
        self._weights = relative_weights(spec, splits)
        self._groups = {split: found for split, found in (groups or {}).items() if found is not None}
        self.report = [*report, *report_weights(splits, self._weights)]
        self.sizes = {name: len(examples) for name, examples in splits.items()}
        self.report += report_imbalance(splits["train"].labels, class_names)
        self.report += report_copies(splits, class_names)
        shapes = [examples.image_shape for examples in splits.values()]
        self.image_shape = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))
        is_picture = len(self.image_shape) == 3
        self.pixel_range = splits["train"].pixel_range if is_picture else None
        if self.pixel_range not in (None, BYTES):
            low, high = self.pixel_range
            self.report.append(
                f"pixels: numbers in [{low:g}, {high:g}], taken for scaled pixels in [0, 255]; image files that the "
                "model is given later are scaled alike"
            )
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

    def groups_of(self, split: str) -> np.ndarray | None:
        """Returns the group of each example of a split, in order, as text; None where nothing says it.

        Args:
            split: "train", "validation" or "test"; "all" for one after the other.
        """
        names = self._names(split)
        return np.concatenate([self._groups[name] for name in names]) if set(names) <= set(self._groups) else None

    def weights_of(self, split: str) -> np.ndarray | None:
        """Returns the weight of each example of a split, float32, with a mean of 1; None where all count alike.

        Keras divides a loss by the number of examples, and so by the sum of these weights.

        Args:
            split: "train", "validation" or "test"; "all" for one after the other.
        """
        if not self._weights:
            return None
        names = self._names(split)
        weights = np.concatenate([self._weights[name] for name in names])
        if names == ["train"]:  # to which they are relative
            return weights
        return (weights / np.mean(weights, dtype="float64")).astype("float32")

    def _names(self, split: str) -> list[str]:
        return list(self.splits) if split == "all" else [choose("split", split, {name: name for name in self.splits})]

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of full training batches per epoch.

        Raises:
            ValueError: the training split is smaller than a batch.
        """
        check_int("batch_size", batch_size)
        if batch_size > self.sizes["train"]:
            raise BadValue(
                f"batch_size={batch_size} is more than the {self.sizes['train']} training examples. "
                "A batch holds an epoch at most. Use a smaller batch, in a recipe train.batch_size."
            )
        return self.sizes["train"] // batch_size

    def class_weights(self, power: float = 1.0) -> dict[int, float]:
        """Returns a weight for each class by which all classes count alike, for `model.fit(class_weight=...)`.

        It is examples / (classes * examples of the class), as scikit-learn's "balanced"; the mean over the training
        split is 1.

        Args:
            power: of the counts; 1/2 goes half the way, by their square roots.

        Raises:
            ValueError: the labels are regression targets, stand in files that are streamed, or a class has no example.

        Example:
            >>> from keras_resnet import data
            >>> round(data.load("digits").class_weights()[0], 3)
            1.01
        """
        return class_weights(self.spec, self.split("train").labels, self.class_names, power)

    def label_weights(self, power: float = 1.0) -> LabelWeights:
        """Returns weights by which yes and no count alike for every class of multi-label targets.

        They are scikit-learn's "balanced", examples / (2 * those with the class) and examples / (2 * those without it);
        1 and 1 for a class that every example has, or none.

        Args:
            power: as for `class_weights`.

        Returns:
            The weights of examples with each class, and of those without it.

        Raises:
            ValueError: the labels are of another kind, or stand in files that are streamed.
        """
        return label_weights(self.spec, self.split("train").labels, power)

    def training_batches(
        self,
        batch_size: int,
        *,
        seed: int,
        start_step: int = 0,
        image_size: int | tuple[int, int] | None = None,
        augmentation: Any = None,
        crop: str | None = None,
        crop_fraction: float = CROP_FRACTION,
        interpolation: str = "bilinear",
        decode: str = "full",
        operations: Sequence[BatchOperation] = (),
        shard: tuple[int, int] = (0, 1),
        repeats: int = 1,
        balance: float = 0.0,
    ) -> tf.data.Dataset:
        """Returns infinite training batches, from any step on.

        Epoch e covers the steps from `e * steps_per_epoch` on; each epoch has its own order, and the examples
        that do not fill its last batch are left out of it.

        Args:
            batch_size: examples per batch, of all shards together.
            seed: of order, crops, augmentation and operations, in [0, 2**31).
            start_step: the first global step, >= 0. Sources with random access start at once.
            image_size: side in pixels or `(height, width)`; None keeps the size that all images share.
            augmentation: a `keras_resnet.preprocessing.Augmentation`, or None.
            crop: "random" (scale 0.08 to 1, ratio 3/4 to 4/3), "center", "none" (the whole image, stretched); None
                for "random" where images differ in size, "none" elsewhere.
            crop_fraction: part of the shorter side that "center" keeps, in (0, 1].
            interpolation: "bilinear", "bicubic", "pil-bilinear" or "pil-bicubic", see `resize_for_evaluation`.
            decode: "scaled" decodes JPEG files at a half, a quarter or an eighth, the smallest that leaves what is cut
                at least twice `image_size`; "full" at full size.
            operations: functions `(images, labels, seed) -> (images, labels)` of a whole batch, such as MixUp, applied
                in turn after the augmentation; `seed` is an int32 tensor of two numbers, another for every operation
                and step.
            shard: `(index, count)`: this process makes the index-th of count equal parts of every batch. What the
                parts hold together is the batch that one process makes.
            repeats: how often an example follows itself in a batch, each time changed otherwise; an epoch then has as
                many steps and sees fewer examples (Berman et al. 2019, "MultiGrain").
            balance: power p of how many examples a class has, by which they are drawn less often, with replacement: 1
                draws all classes as often, 1/2 goes half the way; 0 takes every example once an epoch.

        Returns:
            Batches `(images, labels)`: images uint8 or float32, `(batch, *space, channels)`, in [0, 255] for image
            files; labels int32 `(batch,)`, or float32 for regression and for rows of several labels. Where examples
            have weights `(images, labels, weights)`, the last float32 `(batch,)`.

        Raises:
            TypeError, ValueError: an argument is out of its range.
        """
        self.steps_per_epoch(batch_size)
        size = check_image_size(image_size, self.image_shape)
        index, count = shard
        plan = Plan(
            batch_size=batch_size,
            seed=check_int("seed", seed, minimum=0, maximum=2**31 - 1),
            start_step=check_int("start_step", start_step, minimum=0),
            image_size=size,
            crop=check_crop(crop, size, self.image_shape, default="random"),
            antialias_above=TRAINING_ANTIALIAS_ABOVE,
            decode=check_decode(decode),
            **check_fit(crop_fraction, interpolation),
            shard=index,
            num_shards=count,
            repeats=check_int("repeats", repeats, maximum=batch_size),
            weights=self._sampling_weights(check_fraction("balance", balance, one_included=True)),
        )
        changes = (augmentation, operations, self.weights_of("train"))
        return set_pace(training_of(self.splits["train"], plan, self.image_shape, *changes))

    def _sampling_weights(self, power: float) -> np.ndarray | None:
        if not power:
            return None
        weights = self.weights_of("train")
        return sampling_weights(self.spec, self.split("train").labels, bool(self.class_names), power, weights)

    def class_shares(self, balance: float = 0.0) -> np.ndarray | None:
        """Returns the share of each class in what is trained on: drawn as `balance` says, counted by their weights.

        Each example has one class.

        Args:
            balance: as for `training_batches`.

        Returns:
            `(classes,)`, with a sum of 1; None if the labels are streamed from files.
        """
        labels, weights = self.split("train").labels, self.weights_of("train")
        if labels is None:
            return None
        counts = self._sampling_weights(balance) if balance else np.ones(len(labels))
        counts = counts if weights is None else counts * weights
        shares = np.bincount(labels, weights=counts, minlength=len(self.class_names))
        return shares / shares.sum()

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        image_size: int | tuple[int, int] | None = None,
        crop: str | None = None,
        crop_fraction: float = CROP_FRACTION,
        interpolation: str = "bilinear",
        shard: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Returns every example of a split once, in order; the last batch may be smaller.

        They are `(images, labels)`, or `(images, labels, weights)`, as those of `training_batches`.

        Args:
            split: "train", "validation" or "test"; "all" for one after the other.
            batch_size: examples per batch.
            image_size: side in pixels or `(height, width)`; None keeps the size that all images share.
            crop: "center" (see `resize_for_evaluation`), "none" (the whole image, stretched); None for "center" where
                images differ in size, "none" elsewhere.
            crop_fraction: part of the shorter side that "center" keeps, in (0, 1].
            interpolation: "bilinear", "bicubic", "pil-bilinear" or "pil-bicubic", see `resize_for_evaluation`.
            shard: `(index, count)`: this process makes the index-th of count equal parts of every batch. Where a batch
                cannot be divided, its last example fills the last parts up: what counts are the first rows of all.

        Raises:
            TypeError, ValueError: an argument is out of its range, or there is no such split.
        """
        check_int("batch_size", batch_size)
        parts = self._parts(split)
        index, count = shard
        check_int("shard", index, minimum=0, maximum=count - 1)
        size = check_image_size(image_size, self.image_shape)
        crop = check_crop(crop, size, self.image_shape, default="center")
        if crop == "random":
            raise BadValue(
                "crop='random' was given for evaluation. Allowed are 'center' and 'none'. "
                "Use training_batches for random crops."
            )
        plan = Plan(batch_size, image_size=size, crop=crop, **check_fit(crop_fraction, interpolation))
        weights = self.weights_of(split)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        own = [None] * len(parts) if weights is None else np.split(weights, ends)
        datasets = (finite_of(part, plan, shard, counts) for part, counts in zip(parts, own, strict=True))
        return set_pace(functools.reduce(tf.data.Dataset.concatenate, datasets))

    def _parts(self, split: str) -> list[Examples]:
        """Returns the examples of a split, or of every one for "all"."""
        return [self.splits[name] for name in self._names(split)]

    def size_of(self, split: str) -> int:
        """Returns the number of examples of a split; of all of them for "all"."""
        return sum(map(len, self._parts(split)))

    def name_of(self, split: str, index: int) -> str:
        """Returns the file of an example, or its place in the source, by its number in `batches(split, ...)`."""
        for part in self._parts(split):
            if index < len(part):
                return part.name_of(index)
            index -= len(part)
        raise IndexError(index)

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
