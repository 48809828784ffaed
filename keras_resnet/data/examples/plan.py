"""What a pipeline is asked for, checked once: the order of the examples, and the window cut from each image."""

import dataclasses
import os
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol, Self

import numpy as np
import tensorflow as tf

from keras_resnet.arguments import check_fraction, check_int, choose
from keras_resnet.data.images import pillow, resizing
from keras_resnet.data.images.headers import BadImageError
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.batch_transforms import derive_seed
from keras_resnet.preprocessing.record import INTERPOLATIONS

# A pipeline decodes with every core.
PARALLEL_CALLS = os.cpu_count() or 1
# What a caller may ask for -> what is cut; None leaves it to whether the images differ in size.
CROPS: dict[str | None, str | None] = {None: None, "random": "random", "center": "center", "none": "none"}
# How JPEG files are decoded -> whether at a half, a quarter or an eighth where that suffices.
DECODINGS = {"full": False, "scaled": True}


@dataclasses.dataclass(frozen=True)
class Plan:
    """The arguments of `Dataset.training_batches` or `Dataset.batches`, after their checks."""

    batch_size: int
    seed: int = 0
    start_step: int = 0
    image_size: tuple[int, int] | None = None
    crop: str = "none"
    crop_fraction: float = resizing.CROP_FRACTION
    interpolation: str = "bilinear"
    antialias_above: float = 1.0
    decode: str = "full"
    shard: int = 0
    num_shards: int = 1
    repeats: int = 1
    weights: np.ndarray | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Checks that the shards are equal."""
        check_int("num_shards", self.num_shards)
        check_int("shard", self.shard, minimum=0, maximum=self.num_shards - 1)
        if self.batch_size % self.num_shards:
            raise BadValue(
                f"batch_size={self.batch_size} is not a multiple of num_shards={self.num_shards}. Every shard makes an "
                "equal part of a batch. Use another batch size."
            )

    @property
    def cut(self) -> Callable[..., tuple] | None:
        """What cuts an image as it is decoded: `window`; None where whole images are decoded at full size."""
        return None if self.crop == "none" and self.scaled_for is None or self.resizes_first else self.window

    @property
    def resizes_first(self) -> bool:
        """Whether whole images are resized before their center is cut, as timm does it."""
        return self.crop == "center" and pillow.is_pillow(self.interpolation)

    @property
    def scaled_for(self) -> tuple[int, int] | None:
        """The size for which JPEG files may be decoded at a smaller scale; None where they may not."""
        return self.image_size if DECODINGS[self.decode] else None

    @property
    def shard_size(self) -> int:
        """The examples of a batch that are made here."""
        return self.batch_size // self.num_shards

    @property
    def first_of_shard(self) -> int:
        """The place in the whole batch of the first of them."""
        return self.shard * self.shard_size

    def steps_per_epoch(self, size: int) -> int:
        """Returns the number of full batches in `size` examples."""
        return size // self.batch_size

    def indices(self, size: int) -> tf.data.Dataset:
        """Returns which examples each step of training holds, infinitely, from `start_step` on."""
        steps = self.steps_per_epoch(size)
        mine = slice(self.first_of_shard, self.first_of_shard + self.shard_size)

        def epoch_of(epoch: Any) -> tf.data.Dataset:
            places = tf.reshape(tf.range(steps * self.batch_size, dtype=tf.int64), (steps, self.batch_size))[:, mine]
            is_sampled = self.weights is not None
            order = draws(self.weights, epoch, self.seed) if is_sampled else permutation(size, epoch, self.seed)
            samples = epoch * steps * self.batch_size + places
            return tf.data.Dataset.from_tensor_slices((samples, tf.gather(order, places // self.repeats)))

        epochs = tf.data.Dataset.counter(self.start_step // steps)
        batches = epochs.flat_map(epoch_of).skip(self.start_step % steps)
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def window(self, height: Any, width: Any, sample: Any) -> tuple:
        """Returns `(top, left, height, width)` of what is cut from the image of the global `sample`."""
        if self.crop == "random":
            seed = tf.stack([tf.constant(derive_seed(self.seed, "crop"), tf.int64), sample])
            return resizing.random_window(height, width, seed)
        if self.crop == "center":
            return resizing.center_window(height, width, self.image_size or (1, 1), self.crop_fraction)
        return tf.constant(0), tf.constant(0), height, width

    def resize(self, images: Any) -> Any:
        """Returns images in the size of the plan."""
        if self.resizes_first and self.image_size is not None:
            return resizing.resize_for_evaluation(images, self.image_size, self.crop_fraction, self.interpolation)
        return resizing.stretch(images, self.image_size, self.antialias_above, self.interpolation)


def permutation(size: int, epoch: Any, seed: int) -> Any:
    """Returns the order of an epoch: a random permutation that is a pure function of (seed, epoch).

    Sorting random 64-bit keys gives every permutation alike. `tf.random.experimental.index_shuffle`, which finds single
    places without the others, does not: for small sets some of its epochs keep neighbors together, and its epochs
    repeat (TensorFlow 2.21).
    """
    seeds = tf.stack([tf.constant(derive_seed(seed, "order"), tf.int64), tf.cast(epoch, tf.int64)])
    keys = tf.random.stateless_uniform((size,), seeds, minval=None, maxval=None, dtype=tf.int64, alg="philox")
    return tf.cast(tf.argsort(keys), tf.int64)


def draws(weights: Any, epoch: Any, seed: int) -> Any:
    """Returns as many examples as there are, drawn with replacement: a pure function of (seed, epoch)."""
    seeds = tf.stack([tf.constant(derive_seed(seed, "order"), tf.int64), tf.cast(epoch, tf.int64)])
    places = tf.random.stateless_uniform((len(weights),), seeds, dtype=tf.float64, alg="philox")
    ends = tf.constant(np.cumsum(weights)[:-1], tf.float64)
    return tf.searchsorted(ends, places, side="right", out_type=tf.int64)


def check_image_size(image_size: Any, image_shape: tuple[int | None, ...]) -> tuple[int, int] | None:
    """Returns `(height, width)` for an int, a pair or None."""
    if image_size is None:
        if None in image_shape:
            raise BadValue(
                "image_size=None was given, and the images of this dataset differ in size. "
                "Allowed is an int or (height, width) in pixels. Pass one, for instance image_size=224."
            )
        return None
    if len(image_shape) != 3:
        raise BadValue(
            f"image_size={image_size!r} was given for examples of shape {image_shape}. "
            "Only images (height, width, channels) can be resized. Leave image_size out."
        )
    if isinstance(image_size, (tuple, list)):
        if len(image_size) != 2:
            raise BadValue(
                f"image_size={image_size!r} has {len(image_size)} values. Allowed is an int or (height, width). "
                "Pass two values."
            )
        height, width = image_size
    else:
        height = width = image_size
    return check_int("image_size", height), check_int("image_size", width)


def check_crop(crop: Any, image_size: tuple[int, int] | None, image_shape: tuple[int | None, ...], default: str) -> str:
    """Returns the kind of crop; None stands for `default` where images differ in size and "none" elsewhere."""
    choose("crop", crop, CROPS)
    if crop is None:
        return default if None in image_shape else "none"
    if crop != "none" and image_size is None:
        raise BadValue(
            f"crop={crop!r} was given without image_size. A crop is resized to image_size. "
            "Pass image_size, or crop='none'."
        )
    return str(crop)


def check_decode(decode: Any) -> str:
    """Returns how JPEG files are decoded for training: "full" or "scaled"."""
    choose("decode", decode, DECODINGS)
    return str(decode)


def check_fit(crop_fraction: Any, interpolation: Any) -> dict[str, Any]:
    """Returns how a picture is cut and resized for evaluation, as arguments of a `Plan`."""
    choose("interpolation", interpolation, INTERPOLATIONS)
    fraction = check_fraction("crop_fraction", crop_fraction, one_included=True, zero_included=False)
    return {"crop_fraction": fraction, "interpolation": interpolation}


class Examples(Protocol):
    """One split of a source."""

    def __len__(self) -> int:
        """Returns the number of examples."""

    @property
    def labels(self) -> np.ndarray | None:
        """int32 `(examples,)`, or float32 for regression; None where they stand in files that are streamed."""

    @property
    def weights(self) -> np.ndarray | None:
        """How much each example counts, float32 `(examples,)`; None where nothing says it."""

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """`(*space, channels)`, None where sizes differ."""

    @property
    def pixel_range(self) -> tuple[float, float] | None:
        """The values of black and of white, as far as the dtype or the numbers say it; else None."""

    @property
    def is_deep(self) -> bool:
        """Whether images come from files of 16 bits per channel, with fractions between the steps of 8."""

    def fingerprint(self) -> bytes:
        """Returns a digest that changes with the data."""

    @property
    def signatures(self) -> Iterable[Any] | None:
        """A value for each example that equal examples share and others hardly do; None where images are streamed."""

    def digest_of(self, index: int) -> bytes:
        """Returns a digest of one example, which equal examples alone share."""

    def file_of(self, index: int) -> Hashable:
        """Returns the identity of an example's file, the same for all links to it; None without a file."""

    def name_of(self, index: int) -> str:
        """Returns the name of an example in messages: its path, or its number in the split."""

    def take(self, indices: np.ndarray) -> Self:
        """Returns the split that holds these examples, in this order."""

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels, all or the first `limit`."""

    def training(self, plan: Plan) -> tf.data.Dataset:
        """Returns infinite batches from `plan.start_step` on."""

    def finite(self, plan: Plan) -> tf.data.Dataset:
        """Returns every example once, in order."""

    def explain(self) -> BadImageError | None:
        """Returns the error that names what cannot be read, by reading everything; None if all of it can."""
