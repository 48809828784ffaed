"""MixUp and CutMix: training examples mixed with one another, and their labels likewise, for any rank."""

from typing import Any

import keras

from keras_resnet.arguments import check_float, check_fraction, check_int
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.augmentation import Draws
from keras_resnet.preprocessing.transforms import column


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
        """Returns mixed examples, float32, and rows of shares `(batch, classes)`.

        Args:
            images: `(batch, *space, channels)`.
            labels: integers `(batch,)`, or rows of 0 and 1 `(batch, classes)` for multi-label targets.
            seed: two integers.
        """
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
            found = [method(images, others, draws) for method in (self._mixed_up, self._cut)]
            images_of, shares_of = zip(*found, strict=True)
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
