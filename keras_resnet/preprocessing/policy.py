"""What policies of random changes have in common: each picture is sent through operations of its own.

Keras's RandAugment takes the same changes for a whole batch, and it, its AugMix and its RandomColorJitter draw from
generators of their own instead of the seed they are given, so that a resumed run would not see the same pictures (Keras
3.15). These are pure functions of the seed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import changes
from keras_resnet.preprocessing.policies import Operation
from keras_resnet.preprocessing.random_change import RandomChange

CHANGES = (
    *(changes.nothing, changes.affine, changes.brightness, changes.color, changes.contrast, changes.sharpness),
    *(changes.posterize, changes.solarize, changes.invert, changes.autocontrast, changes.equalize),
    *(changes.solarize_add, changes.cutout),
)


class Policy(RandomChange):
    """Changes each picture by operations of its own; the base of the policies.

    Args:
        seed: int, or None for a random one; used where the layer is called, not by `Augmentation.apply`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)` in [0, 255], sizes known.

    Output shape:
        That of the input, in [0, 255], in the compute dtype of the layer (float32 by default).
    """

    in_bytes = True

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns what is to happen to each picture: a list of `(choices, amounts)` that follow one another."""
        if len(shape) != 4 or not all(isinstance(side, int) for side in shape[1:]):
            raise BadValue(
                f"{type(self).__name__} was given examples of the shape {tuple(shape)}. Allowed are pictures (batch, "
                "height, width, channels) of known size. Bring them to one size first."
            )
        return self.draw_for(shape[0], (shape[1], shape[2]), draws)

    def draw_for(self, count: Any, size: tuple[int, int], draws: Any) -> Any:
        """Returns the draws for so many pictures of `(height, width)`."""
        raise NotImplementedError

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the changed pictures."""
        for choices, amounts in drawn:
            examples = changes.by_choice(examples, choices, amounts, CHANGES)
        return examples


def resolved(
    table: Mapping[str, Operation],
    names: Sequence[str],
    size: tuple[int, int],
    which: Any,
    levels: Any,
    sides: Any,
    places: Any = None,
) -> tuple[Any, Any]:
    """Returns the number of the change of each picture, and the amounts that it reads.

    Args:
        table: of the operations.
        names: those that may be chosen.
        size: `(height, width)` in pixels.
        which: int32 `(batch,)`, places in `names`.
        levels: float32 `(batch,)` in [0, 1].
        sides: float32 `(batch,)`, -1 or 1: below or above where the operation changes nothing.
        places: float32 `(batch, 2)` in [0, 1), for operations that happen at a place.
    """
    rows = [table[name] for name in names]
    units = {"": 1, "height": size[0], "width": size[1]}
    spans = np.zeros((len(rows), changes.COLUMNS), "float32")
    starts, signed = np.zeros_like(spans), np.array([row.signed for row in rows], "float32")
    whole, placed = np.zeros((2, len(rows), 1), "float32")
    for index, row in enumerate(rows):
        whole[index], placed[index] = row.whole, row.placed
        starts[index, row.column] = row.start
        spans[index, row.column] = (row.end - row.start) * units[row.unit]
    numbers = np.array([CHANGES.index(row.change) for row in rows], "int32")
    turned = keras.ops.take(keras.ops.convert_to_tensor(signed), which, axis=0)
    factor = levels * (1 - turned + turned * sides)
    start, span = (keras.ops.take(keras.ops.convert_to_tensor(values), which, axis=0) for values in (starts, spans))
    moved = span * factor[:, None]
    if whole.any():
        # int() of code that counts from the start: towards it. A little more, for what float32 puts just below a whole.
        towards = keras.ops.sign(moved) * keras.ops.floor(keras.ops.abs(moved) + 1e-4)
        moved = keras.ops.where(keras.ops.take(keras.ops.convert_to_tensor(whole), which, axis=0) > 0, towards, moved)
    amounts = start + moved
    if placed.any():
        shares = keras.ops.pad(places, ((0, 0), (1, changes.COLUMNS - 3)))
        amounts = amounts + keras.ops.take(keras.ops.convert_to_tensor(placed), which, axis=0) * shares
    return keras.ops.take(keras.ops.convert_to_tensor(numbers), which, axis=0), amounts


def signs(count: Any, draws: Any) -> Any:
    """Returns float32 `(count,)`, -1 or 1 alike."""
    return keras.ops.where(keras.random.uniform((count,), seed=draws) < 0.5, -1.0, 1.0)
