"""Examples whose images stay encoded, in files or in memory, and are decoded as they are needed."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data.examples.arrays import ArrayExamples
from keras_resnet.data.examples.plan import PARALLEL_CALLS, Plan
from keras_resnet.data.images.decoding import decode, oriented_image
from keras_resnet.data.images.headers import BadImageError, bad_image_error, read_span, read_span_op, reason_of
from keras_resnet.memory import available_bytes
from keras_resnet.preprocessing.record import BYTES

SEARCHED_AT_ONCE = 256
# A decoded pixel is three bytes, its float32 of the resizing four times as many.
BYTES_OF_PIXEL = 15
# All pictures that are decoded at a time may take this share of the memory that is free.
SHARE_OF_MEMORY = 0.25


@dataclasses.dataclass(frozen=True)
class EncodedExamples:
    """One split, encoded."""

    contents: np.ndarray
    labels: np.ndarray
    orientations: np.ndarray
    image_shape: tuple[int | None, ...]
    identities: np.ndarray
    signatures: np.ndarray
    are_files: bool
    is_deep: bool = False
    largest: int = 0
    spans: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.labels)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """[0, 255], in which image files are decoded."""
        return BYTES

    def fingerprint(self) -> bytes:
        """Returns a sha256 over identities, labels, orientations and weights."""
        digest = hashlib.sha256()
        for identity in self.identities:
            digest.update(f"{identity}\0".encode("utf-8", "surrogateescape"))
        digest.update(self.labels.tobytes() + self.orientations.tobytes())
        if self.weights is not None:
            digest.update(self.weights.tobytes())
        return digest.digest()

    def take(self, indices: np.ndarray) -> "EncodedExamples":
        """Returns the split that holds these examples, in this order."""
        names = (
            "contents",
            "labels",
            "orientations",
            "identities",
            "signatures",
            *(name for name in ("spans", "weights") if getattr(self, name) is not None),
        )
        chosen = {name: getattr(self, name)[indices] for name in names}
        return dataclasses.replace(self, **chosen)

    @property
    def parallel_calls(self) -> int:
        """How many images are decoded at a time: as many as there are cores, and less where they are very large."""
        free = available_bytes()
        if free is None or not self.largest:
            return PARALLEL_CALLS
        return max(1, min(PARALLEL_CALLS, int(free * SHARE_OF_MEMORY) // (self.largest * BYTES_OF_PIXEL)))

    def decode(self) -> ArrayExamples:
        """Returns the same split decoded in memory; all images must share one size."""
        names = [self.name_of(index) for index in range(len(self))]
        return ArrayExamples(*self.arrays(None), names, self.weights, are_decoded=True)

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels, all or the first `limit`."""
        part = self if limit is None else self.take(np.arange(min(limit, len(self))))
        images = np.empty((len(part), *known(self.image_shape)), "float32" if self.is_deep else "uint8")
        first = 0
        for batch, _ in part.finite(Plan(256)):
            images[first : first + len(batch)] = batch
            first += len(batch)
        return images, part.labels

    def training(self, plan: Plan) -> tf.data.Dataset:
        """Returns infinite batches from `plan.start_step` on."""
        image_of = self.image_reader(plan)

        def example_of(sample: Any, index: Any) -> tuple[Any, Any]:
            return image_of(index, sample), index

        examples = plan.indices(len(self)).unbatch().map(example_of, self.parallel_calls, deterministic=True)
        batches = self._batch(examples, plan.shard_size, True)
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def finite(self, plan: Plan) -> tf.data.Dataset:
        """Returns every example once, in order."""
        image_of = self.image_reader(plan)

        def example_of(index: Any) -> tuple[Any, Any]:
            return image_of(index, index), index

        samples = tf.data.Dataset.range(len(self)).map(example_of, self.parallel_calls, deterministic=True)
        return self._batch(samples, plan.batch_size, False)

    def image_reader(self, plan: Plan) -> Callable[[Any, Any], Any]:
        """Returns a function from the index of an example and its place in the run to the image."""
        # Made here, outside the map's graph, which would otherwise hold a copy of all paths or images.
        all_contents, all_orientations = tf.constant(self.contents), tf.constant(self.orientations)
        has_orientations = bool((self.orientations != 1).any())
        all_spans = None if self.spans is None else tf.constant(self.spans)

        def image_of(index: Any, sample: Any) -> Any:
            contents = tf.gather(all_contents, index)
            if self.are_files:
                contents = tf.io.read_file(contents)
            elif all_spans is not None:
                contents = read_span_op(contents, tf.gather(all_spans, index))
            orientation = tf.gather(all_orientations, index) if has_orientations else 1
            window = None if plan.cut is None else functools.partial(plan.cut, sample=sample)
            image = decode(contents, orientation, window, is_deep=self.is_deep, scaled_for=plan.scaled_for)
            return tf.ensure_shape(image, self.image_shape) if plan.image_size is None else plan.resize(image)

        return image_of

    def _batch(self, examples: tf.data.Dataset, batch_size: int, drop_remainder: bool) -> tf.data.Dataset:
        labels = tf.constant(self.labels)
        # Labels are looked up a batch at a time: one gather instead of one per picture.
        return examples.batch(batch_size, drop_remainder=drop_remainder).map(
            lambda images, indices: (images, tf.gather(labels, indices))
        )

    def explain(self) -> BadImageError | None:
        """Returns the error that names files which do not decode, by decoding all of them; None if they do."""
        bad = self.find_bad(stop_at_first=True)
        return bad_image_error(bad, len(self), "Replace or delete them, and load the dataset again.") if bad else None

    def find_bad(self, stop_at_first: bool = False) -> list[tuple[str, str]]:
        """Returns `(path, reason)` of the images that do not decode, by decoding them one by one."""
        bad: list[tuple[str, str]] = []
        with concurrent.futures.ThreadPoolExecutor(self.parallel_calls) as pool:
            for first in range(0, len(self), SEARCHED_AT_ONCE):
                group = range(first, min(first + SEARCHED_AT_ONCE, len(self)))
                bad += [found for found in pool.map(self._fault_of, group) if found]
                if bad and stop_at_first:
                    break
        return bad

    def _fault_of(self, index: int) -> tuple[str, str] | None:
        contents, orientation = self.contents[index], int(self.orientations[index])
        try:
            if self.spans is not None:
                contents = read_span(contents, *self.spans[index])
            image = oriented_image(contents, orientation) if self.are_files else decode(contents, orientation)
        except (tf.errors.OpError, OSError, EOFError) as error:
            return self.name_of(index), reason_of(error)
        if None not in self.image_shape and tuple(image.shape) != tuple(self.image_shape):
            return self.name_of(index), f"its shape changed from {self.image_shape} to {tuple(image.shape)}"
        return None

    def digest_of(self, index: int) -> bytes:
        """Returns a digest of the encoded image, whose file is read for it."""
        contents = self.contents[index]
        if self.are_files:
            with open(contents, "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        if self.spans is not None:
            contents = read_span(contents, *self.spans[index])
        return hashlib.sha256(contents).digest()

    def file_of(self, index: int) -> Hashable:
        """Returns the identity of an example's file, the same for all links to it; None without a file."""
        return files.identity_of(self.contents[index]) if self.are_files else None

    def name_of(self, index: int) -> str:
        """Returns the path of an example, or what else tells it apart."""
        return os.fsdecode(self.contents[index]) if self.are_files else str(self.identities[index])


def known(image_shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Returns a shape without None; only sets of one size come here."""
    return tuple(size for size in image_shape if size is not None)


def common_shape(shapes: Sequence[tuple[int, int]]) -> tuple[int | None, ...]:
    """Returns `(height, width, 3)` with None where the sizes differ."""
    heights, widths = {height for height, _ in shapes}, {width for _, width in shapes}
    return (
        heights.pop() if len(heights) == 1 else None,
        widths.pop() if len(widths) == 1 else None,
        3,
    )
