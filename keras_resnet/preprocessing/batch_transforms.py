"""Random transforms of whole batches as pure functions of (seed, step), in a data pipeline or in the training step."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import keras

STEPS = 2**31 - 1


class BatchOperation(Protocol):
    """A pure function of a batch and a seed."""

    def __call__(self, images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """Returns images and labels; `seed` is an int32 tensor of shape (2,)."""


def derive_seed(seed: int, use: str) -> int:
    """Returns a seed in [0, 2**31) for one `use` of a run's seed, unlike that of any other use."""
    digest = hashlib.sha256(f"{seed}/{use}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class BatchTransforms:
    """Operations on a batch in turn, each of which draws from a stream of the seed that its name chooses.

    Args:
        operations: name -> `(images, labels, seed) -> (images, labels)`, in their order.
        seed: of the run, an int in [0, 2**31).

    Example:
        >>> import keras
        >>> from keras_resnet.preprocessing import BatchTransforms, Noise, augmentation
        >>> noise = augmentation(noise=1.0)
        >>> transforms = BatchTransforms({"noise": lambda x, y, seed: (noise.apply(x, seed), y)}, seed=0)
        >>> images, labels = transforms(7, keras.ops.zeros((2, 8, 8, 1)), keras.ops.zeros(2))
        >>> tuple(images.shape)
        (2, 8, 8, 1)
    """

    def __init__(self, operations: Mapping[str, BatchOperation], seed: int) -> None:
        self.operations = dict(operations)
        self.streams = {name: derive_seed(seed, name) for name in operations}

    def __call__(self, step: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        """Returns the transformed batch.

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


@functools.cache
def transform_in_step(model_class: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass of a model class whose training step transforms each batch first.

    The pipeline then delivers plain batches, and the device that trains does the augmentation; it is the one that the
    pipeline would have made, from the same seed and step. Set `transforms`, a `BatchTransforms`, before `fit`;
    `next_step`, a weight, counts the batches. Works on every Keras backend. To save, take the network alone:
    `keras.Model(model.inputs, model.outputs)`.

    Args:
        model_class: `keras.Model`, or a subclass with a `train_step` of its own.

    Returns:
        A class with the constructor of `model_class`.

    Example:
        >>> import keras
        >>> from keras_resnet import ResNet18, preprocessing
        >>> network = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=10)
        >>> flip = preprocessing.augmentation(flip=True)
        >>> model = preprocessing.transform_in_step(keras.Model)(network.inputs, network.outputs)
        >>> flips = {"flip": lambda x, y, seed: (flip.apply(x, seed), y)}
        >>> model.transforms = preprocessing.BatchTransforms(flips, seed=0)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> _ = model.fit(keras.ops.zeros((4, 8, 8, 1)), keras.ops.zeros(4), batch_size=2, verbose=0)
        >>> int(model.next_step)
        2
    """

    class TransformedInStep(model_class):
        transforms: BatchTransforms | None = None

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.next_step = self.add_weight(
                shape=(), initializer="zeros", dtype="int32", trainable=False, name="next_step"
            )

        def train_step(self, *arguments: Any) -> Any:
            *state, data = arguments
            images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
            if state:
                # JAX: variables come and go as values, in (trainable, non-trainable, optimizer, metrics).
                trainable, others, *rest = state[0]
                place = next(i for i, v in enumerate(self.non_trainable_variables) if v is self.next_step)
                others = list(others)
                step, others[place] = others[place], others[place] + 1
                state = [(trainable, others, *rest)]
            else:
                step = self.next_step + 0  # a copy: the variable itself would be read again after the assignment
                self.next_step.assign(step + 1)
            if self.transforms is not None:
                images, labels = self.transforms(step, images, labels)
            return super().train_step(*state, keras.utils.pack_x_y_sample_weight(images, labels, weights))

    return TransformedInStep
