"""Random transforms of whole batches as pure functions of (seed, step), in a data pipeline or in the training step."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import keras

from keras_resnet.arguments import check_float, check_fraction, check_int
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.augmentation import Draws
from keras_resnet.preprocessing.transforms import column

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
        """Returns the transformed batch."""
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
        model_class: `keras.Model`, or a subclass with a `train_step` defined by itself.

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


class Mixing:
    """Mixes each example of a batch with another one, by MixUp or by CutMix, and the labels in the same shares.

    A pure function of a batch and a seed, as `Dataset.training_batches(operations=[...])` takes it. Keras's MixUp and
    CutMix are for images alone. Where both are asked for, a batch has one of them, each as often.

    Args:
        classes: of the labels.
        mixup: parameter of the Beta distribution of the shares of MixUp; 0 for none. 0.2 is usual, 1 is strong.
        cutmix: the same for CutMix; 0 for none, 1 in the paper.
        probability: share of the examples that are mixed, in (0, 1].

    Raises:
        TypeError, ValueError: an argument is out of its range, or neither is asked for.

    Source:
        Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"; Yun et al. 2019, "CutMix".

    Example:
        >>> import numpy as np
        >>> from keras_resnet.preprocessing import Mixing
        >>> images, labels = Mixing(3, mixup=0.2)(np.zeros((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 0]), [7, 1])
        >>> tuple(labels.shape), [float(total) for total in np.round(labels.numpy().sum(axis=1), 5)]
        ((4, 3), [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(self, classes: int, mixup: float = 0.0, cutmix: float = 0.0, probability: float = 1.0) -> None:
        self.classes = check_int("classes", classes, minimum=1)
        self.mixup = check_float("mixup", mixup, minimum=0.0)
        self.cutmix = check_float("cutmix", cutmix, minimum=0.0)
        self.probability = check_fraction("probability", probability, one_included=True, zero_included=False)
        if not mixup and not cutmix:
            raise BadValue("mixup=0 and cutmix=0 mix nothing. Allowed is a positive value of one of them. Pass it.")

    def __call__(self, images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """Returns mixed examples, float32, and rows of shares `(batch, classes)`."""
        draws = Draws(seed)
        images = keras.ops.cast(images, "float32")
        if len(labels.shape) == 2 and labels.shape[-1] == self.classes:  # multi-label targets
            rows = keras.ops.cast(labels, "float32")
        else:
            rows = keras.ops.one_hot(keras.ops.cast(labels, "int32"), self.classes, dtype="float32")
        count = keras.ops.shape(images)[0]
        partners = keras.ops.argsort(keras.random.uniform((count,), seed=draws))
        mixed = keras.random.uniform((count,), seed=draws) < self.probability
        others = keras.ops.take(images, partners, axis=0)
        if self.mixup and self.cutmix:
            which = keras.random.uniform((), seed=draws) < 0.5
            alternatives = [method(images, others, draws) for method in (self._mixed_up, self._cut)]
            images_of, shares_of = zip(*alternatives, strict=True)
            new, share = keras.ops.where(which, *images_of), keras.ops.where(which, *shares_of)
        else:
            new, share = (self._mixed_up if self.mixup else self._cut)(images, others, draws)
        share = keras.ops.where(mixed, share, 1.0)
        new = keras.ops.where(column(mixed, len(images.shape)), new, images)
        own = keras.ops.expand_dims(share, 1)
        return new, own * rows + (1 - own) * keras.ops.take(rows, partners, axis=0)

    def _mixed_up(self, images: Any, others: Any, draws: Any) -> tuple[Any, Any]:
        share = keras.random.beta((keras.ops.shape(images)[0],), self.mixup, self.mixup, seed=draws)
        own = column(share, len(images.shape))
        return own * images + (1 - own) * others, share

    def _cut(self, images: Any, others: Any, draws: Any) -> tuple[Any, Any]:
        count, rank = keras.ops.shape(images)[0], len(images.shape) - 2
        share = keras.random.beta((count,), self.cutmix, self.cutmix, seed=draws)
        side = keras.ops.power(1 - share, 1 / rank)
        inside = keras.ops.ones_like(column(share, rank + 2)) > 0
        replaced = keras.ops.ones_like(share)
        for axis in range(1, rank + 1):
            size = images.shape[axis]
            # As in the paper the middle is anywhere, and what lies outside of the picture is cut off.
            middle = keras.random.uniform((count,), seed=draws) * size
            low = keras.ops.round(keras.ops.clip(middle - side * size / 2, 0, size))
            high = keras.ops.round(keras.ops.clip(middle + side * size / 2, 0, size))
            places = keras.ops.reshape(
                keras.ops.arange(size, dtype="float32"), [-1 if other == axis else 1 for other in range(rank + 2)]
            )
            within = keras.ops.logical_and(places >= column(low, rank + 2), places < column(high, rank + 2))
            inside = keras.ops.logical_and(inside, within)
            replaced = replaced * (high - low) / size
        return keras.ops.where(inside, others, images), 1 - replaced
