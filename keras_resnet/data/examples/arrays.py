"""Examples held decoded in memory: a batch is one gather."""

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data.examples.pace import PARALLEL_CALLS
from keras_resnet.data.examples.plan import Plan
from keras_resnet.data.images import resizing
from keras_resnet.data.images.bad_images import BadImageError
from keras_resnet.errors import BadType, BadValue


class ArrayExamples:
    """One split, decoded.

    Args:
        images: `(examples, *space, channels)`, uint8 or float32.
        labels: int32 `(examples,)`, or float32 `(examples,)` or `(examples, outputs)` for regression.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.labels = labels
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

    def fingerprint(self) -> bytes:
        """Returns a sha256 over all pixels and labels."""
        digest = hashlib.sha256(repr((self._images.shape.as_list(), self._images.dtype.name)).encode())
        digest.update(_bytes_of(self._images.numpy()))
        digest.update(_bytes_of(self.labels))
        return digest.digest()

    def take(self, indices: np.ndarray) -> "ArrayExamples":
        """Returns the split that holds these examples, in this order."""
        return ArrayExamples(self._images.numpy()[indices], self.labels[indices])

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels, all or the first `limit`."""
        return self._images.numpy()[:limit], self.labels[:limit]

    def training(self, plan: Plan) -> tf.data.Dataset:
        """Returns infinite batches from `plan.start_step` on."""

        def batch_of(samples: Any, indices: Any) -> tuple[Any, Any]:
            if plan.crop == "none":
                images = plan.resized(tf.gather(self._images, indices))
            else:
                images = self._cropped(indices, samples, plan)
            return images, tf.gather(self._labels, indices)

        return plan.indices(len(self)).map(batch_of, num_parallel_calls=PARALLEL_CALLS, deterministic=True)

    def _cropped(self, indices: Any, samples: Any, plan: Plan) -> Any:
        """Returns the images at `indices`, each cut by a window of its own."""
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
            if plan.crop == "center":
                images = resizing.center_crop(images, plan.image_size, plan.crop_fraction)
            return plan.resized(images), self._labels[window]

        return tf.data.Dataset.range(0, len(self), plan.batch_size).map(
            batch_of, num_parallel_calls=PARALLEL_CALLS, deterministic=True
        )

    def explain(self) -> BadImageError | None:
        """Returns None: what is in memory has been read."""
        return None


def as_images(images: Any, where: str) -> np.ndarray:
    """Returns images as uint8 or float32 with 3 to 5 axes; a missing channel axis of plain pictures is added.

    Raises:
        TypeError: the array does not hold numbers.
        ValueError: the number of axes is not 3 to 5, a size is zero, or a value is not finite.
    """
    array = np.asarray(images)
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


def check_same_length(images: np.ndarray, labels: np.ndarray, where: str) -> None:
    """Raises ValueError when there are not as many labels as images."""
    if len(images) != len(labels):
        raise BadValue(
            f"{where} holds {len(images)} images and {len(labels)} labels. "
            "Allowed is one label an image. Check how the arrays were made."
        )


def _bytes_of(array: np.ndarray) -> memoryview:
    """Returns the values of an array as bytes, without a copy where they lie in a row."""
    return np.ascontiguousarray(array).reshape(-1).view("uint8").data
