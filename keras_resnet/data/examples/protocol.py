"""What one split of a source offers, whatever form its examples are held in."""

from collections.abc import Hashable, Iterable
from typing import Any, Protocol, Self

import numpy as np
import tensorflow as tf

from keras_resnet.data.examples.plan import Plan
from keras_resnet.data.images.headers import BadImageError


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
