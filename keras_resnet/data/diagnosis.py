"""Which file was it: TensorFlow's errors out of a pipeline name an operation, not the image."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from keras_resnet.data.dataset import Dataset
from keras_resnet.data.images.bad_images import BadImageError


@contextlib.contextmanager
def explain_decode_errors(dataset: Dataset) -> Iterator[None]:
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
        named = explain(dataset, error)
        if named is None:
            raise
        raise named from error


def explain(dataset: Dataset, error: tf.errors.OpError) -> BadImageError | None:
    """Returns the error that names the bad files behind `error`, or None where the data is not its cause."""
    # Every error of a pipeline passes through the op that takes the next element.
    if "IteratorGetNext" not in str(error.message):
        return None
    faults = (examples.explain() for examples in dataset.splits.values())
    return next((fault for fault in faults if fault is not None), None)
