"""Random changes of whole batches as pure functions of (seed, step), in a data pipeline or in the training step."""

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import keras

STEPS = 2**31 - 1


class BatchOperation(Protocol):
    """A pure function of a batch and a seed."""

    def __call__(self, images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """Returns images and labels; `seed` is an int32 tensor of shape (2,)."""


def derived_seed(seed: int, use: str) -> int:
    """Returns a seed in [0, 2**31) for one `use` of a run's seed, unlike that of any other use."""
    digest = hashlib.sha256(f"{seed}/{use}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Changes:
    """Operations on a batch in turn, each of which draws from a stream of the seed that its name chooses.

    Args:
        operations: name -> `(images, labels, seed) -> (images, labels)`, in their order.
        seed: of the run, an int in [0, 2**31).

    Example:
        >>> import keras
        >>> from keras_resnet.preprocessing import Changes, Noise, augmentation
        >>> noise = augmentation(noise=1.0)
        >>> changes = Changes({"noise": lambda images, labels, seed: (noise.apply(images, seed), labels)}, seed=0)
        >>> images, labels = changes(7, keras.ops.zeros((2, 8, 8, 1)), keras.ops.zeros(2))
        >>> tuple(images.shape)
        (2, 8, 8, 1)
    """

    def __init__(self, operations: Mapping[str, BatchOperation], seed: int) -> None:
        self.operations = dict(operations)
        self.streams = {name: derived_seed(seed, name) for name in operations}

    def __call__(self, step: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        """Returns the changed batch.

        Args:
            step: the number of the batch in the run, >= 0; an int or an integer tensor.
            images: `(batch, *space, channels)`.
            labels: as the operations take them.
        """
        number = keras.ops.cast(keras.ops.bitwise_and(keras.ops.convert_to_tensor(step), STEPS), "int32")
        for name, operation in self.operations.items():
            draw = keras.ops.stack([keras.ops.convert_to_tensor(self.streams[name], "int32"), number])
            images, labels = operation(images, labels, draw)
        return images, labels
