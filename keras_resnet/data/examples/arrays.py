"""Examples held decoded in memory: a batch is one gather."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data.examples.plan import PARALLEL_CALLS, Plan
from keras_resnet.data.images import resizing
from keras_resnet.data.images.headers import BadImageError
from keras_resnet.errors import BadType, BadValue
from keras_resnet.preprocessing.record import BYTES, PIXEL_RANGES


class ArrayExamples:
    """One split, decoded.

    Attributes:
        numbers: of the examples in the source, for messages; None where they are counted in the split.
    """

    numbers: np.ndarray | None = None

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        names: Sequence[str] | None = None,
        weights: np.ndarray | None = None,
        are_decoded: bool = False,
    ) -> None:
        self.labels = labels
        self.are_decoded = are_decoded
        self.names = names
        self.weights = weights
        # On the CPU whatever else there is: a GPU's memory is for the model.
        with tf.device("CPU:0"):
            self._images = tf.constant(images)
            self._labels = tf.constant(labels)

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """The shape of every image."""
        return tuple(self._images.shape[1:])

    @property
    def image_dtype(self) -> str:
        """ "uint8" or "float32"."""
        return str(self._images.dtype.name)

    @property
    def pixel_range(self) -> tuple[float, float] | None:
        """[0, 255] for uint8 and for decoded files; for other numbers the narrowest usual range that holds them all."""
        if self.image_dtype == "uint8" or self.are_decoded:
            return BYTES
        images = self._images.numpy()
        low, high = float(images.min()), float(images.max())
        if low >= 0 and high > BRIGHT and high <= BYTES[1]:
            return BYTES
        scaled_ranges = (PIXEL_RANGES["0..1"], PIXEL_RANGES["-1..1"])
        return next((ends for ends in scaled_ranges if ends[0] <= low < high <= ends[1]), None)

    @property
    def is_deep(self) -> bool:
        """Whether the images were decoded from files of 16 bits."""
        return self.are_decoded and self.image_dtype == "float32"

    def fingerprint(self) -> bytes:
        """Returns a sha256 over all pixels, labels and weights."""
        digest = hashlib.sha256(repr((self._images.shape.as_list(), self._images.dtype.name)).encode())
        digest.update(_bytes_of(self._images.numpy()))
        digest.update(_bytes_of(self.labels))
        if self.weights is not None:
            digest.update(_bytes_of(self.weights))
        return digest.digest()

    @property
    def signatures(self) -> list[bytes]:
        """A digest of every image."""
        return [_digest(image) for image in self._images.numpy()]

    def digest_of(self, index: int) -> bytes:
        """Returns the digest of an image."""
        return _digest(self._images[index].numpy())

    def file_of(self, index: int) -> None:
        """Returns None: the examples stand in memory."""

    def name_of(self, index: int) -> str:
        """Returns the file of the example, or its number in its split."""
        if self.names is not None:
            return self.names[index]
        return f"example {index if self.numbers is None else self.numbers[index]}"

    def take(self, indices: np.ndarray) -> "ArrayExamples":
        """Returns the split that holds these examples, in this order."""
        names = None if self.names is None else [self.names[index] for index in indices]
        weights = None if self.weights is None else self.weights[indices]
        return ArrayExamples(self._images.numpy()[indices], self.labels[indices], names, weights, self.are_decoded)

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels, all or the first `limit`."""
        return self._images.numpy()[:limit], self.labels[:limit]

    def training(self, plan: Plan) -> tf.data.Dataset:
        """Returns infinite batches from `plan.start_step` on."""

        def batch_of(samples: Any, indices: Any) -> tuple[Any, Any]:
            if plan.crop == "none":
                images = plan.resize(tf.gather(self._images, indices))
            else:
                images = self._crop(indices, samples, plan)
            return images, tf.gather(self._labels, indices)

        return plan.indices(len(self)).map(batch_of, num_parallel_calls=PARALLEL_CALLS, deterministic=True)

    def _crop(self, indices: Any, samples: Any, plan: Plan) -> Any:
        """Returns the images at `indices`, each cut by its own window."""
        height, width = plan.image_size or self._images.shape[1:3]
        one_image = tf.TensorSpec((height, width, self._images.shape[-1]), tf.float32)

        def image_of(index_and_sample: tuple[Any, Any]) -> Any:
            image = self._images[index_and_sample[0]]
            top, left, rows, columns = plan.window(image.shape[0], image.shape[1], index_and_sample[1])
            window = image[top : top + rows, left : left + columns]
            return resizing.resize(window, (height, width), plan.antialias_above, plan.interpolation)

        return tf.map_fn(image_of, (indices, samples), fn_output_signature=one_image)

    def finite(self, plan: Plan) -> tf.data.Dataset:
        """Returns every example once, in order."""

        def batch_of(first: Any) -> tuple[Any, Any]:
            window = slice(first, tf.minimum(first + plan.batch_size, len(self)))
            images = self._images[window]
            if plan.crop == "center" and not plan.resizes_first:
                images = resizing.center_crop(images, plan.image_size, plan.crop_fraction)
            return plan.resize(images), self._labels[window]

        return tf.data.Dataset.range(0, len(self), plan.batch_size).map(
            batch_of, num_parallel_calls=PARALLEL_CALLS, deterministic=True
        )

    def explain(self) -> BadImageError | None:
        """Returns None: what is in memory has been read."""
        return None


# Pixels in [0, 255] of a whole training split reach this; numbers that do not may be of any kind.
BRIGHT = 128
KINDS = {1: "signals", 2: "pictures", 3: "volumes"}
# Two equal sides up to here may well be a length and its channels.
LARGEST_CHANNELS_BY_CHANCE = 4
# More than pictures of several bands and recordings of several leads commonly have.
MAX_CHANNELS = 16
# Signals have up to about that many channels, such as those of an electroencephalogram.
MAX_LEADS_BY_CHANCE = 64


def as_images(images: Any, where: str, rank: int | None = None) -> np.ndarray:
    """Returns images as uint8 or float32 with 3 to 5 axes."""
    array = np.asarray(images)
    if rank is not None:
        if array.ndim == rank + 1:
            array = array[..., None]
        if array.ndim != rank + 2:
            raise BadValue(
                f"{where} has shape {array.shape}, and rank={rank} was given, for {KINDS[rank]}. Allowed are "
                f"{rank + 2} axes, or {rank + 1} without channels. Pass another rank, or reshape the array."
            )
    elif array.ndim in (3, 4, 5) and _looks_swapped(array.shape):
        space = " x ".join(map(str, array.shape[1:-1]))
        raise BadValue(
            f"{where} has shape {array.shape}: {KINDS[array.ndim - 2]} of {space} with {array.shape[-1]} channels, or "
            f"with {array.shape[1]} channels that stand before the other axes, as in PyTorch. The last axis is for the "
            f"channels. Pass numpy.moveaxis(array, 1, -1), or rank={array.ndim - 2} (in a recipe data.rank) where the "
            "shape is meant so."
        )
    elif array.ndim in (3, 4) and _may_lack_channels(array.shape):
        guess = array.ndim - 1
        raise BadValue(
            f"{where} has shape {array.shape}: {KINDS[guess]} without an axis for channels, or {KINDS[guess - 1]} with "
            f"{array.shape[-1]} channels. Both are allowed. Pass rank={guess} for {KINDS[guess]} or rank={guess - 1} "
            f"for {KINDS[guess - 1]} (in a recipe data.rank), or add the axis with array[..., None]."
        )
    if array.dtype.kind not in "iufb":
        raise BadType(
            f"{where} has dtype {array.dtype}. Allowed are numbers: uint8 in [0, 255], or floats. Convert the array."
        )
    if array.ndim not in (3, 4, 5):
        raise BadValue(
            f"{where} has shape {array.shape}. Allowed are (examples, length, channels), (examples, height, width, "
            "channels) and (examples, depth, height, width, channels). Add the channel axis with array[..., None]."
        )
    if 0 in array.shape:
        raise BadValue(
            f"{where} has shape {array.shape}. Allowed is at least one example and one value along each axis. "
            "Check how the array was made."
        )
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinity, which is refused
        array = array.astype("float32")
    finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise BadValue(
            f"{where}[{index}] holds NaN or infinity ({int((~finite).sum())} such examples). "
            "Allowed are finite numbers. Correct or drop these examples."
        )
    return array


def _may_lack_channels(shape: tuple[int, ...]) -> bool:
    """Returns whether the last axis may as well be one of space."""
    return shape[-1] > MAX_CHANNELS or (len(set(shape[1:])) == 1 and shape[-1] > LARGEST_CHANNELS_BY_CHANCE)


def _looks_swapped(shape: tuple[int, ...]) -> bool:
    """Returns whether the axis of the channels seems to be the first of an example and not the last."""
    first, last = shape[1], shape[-1]
    if len(shape) == 3:  # signals: fewer steps than channels
        return last > MAX_LEADS_BY_CHANCE and last > 4 * first
    return first <= LARGEST_CHANNELS_BY_CHANCE < last and shape[2] > LARGEST_CHANNELS_BY_CHANCE


def check_same_length(images: np.ndarray, labels: np.ndarray, where: str) -> None:
    """Raises ValueError when there are not as many labels as images."""
    if len(images) != len(labels):
        raise BadValue(
            f"{where} holds {len(images)} images and {len(labels)} labels. "
            "Allowed is one label per image. Check how the arrays were made."
        )


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(_bytes_of(image), digest_size=16).digest()


def _bytes_of(array: np.ndarray) -> memoryview:
    """Returns the values of an array as bytes, without a copy where they lie in a row."""
    return np.ascontiguousarray(array).reshape(-1).view("uint8").data
