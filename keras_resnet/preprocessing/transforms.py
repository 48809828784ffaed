"""Random transforms: their base, and those of signals, pictures and volumes alike."""

from typing import Any

import keras

from keras_resnet.arguments import check_float, check_fraction, check_int, choose
from keras_resnet.blocks.convolution import DATA_FORMATS
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import image_ops


class RandomTransform(keras.layers.Layer):
    """Transforms each example at random; the base of this package's augmentation layers.

    Args:
        seed: int, or None for a random one; used where the layer is called, not by `Augmentation.apply`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, *space, channels)` with one to three axes of space.

    Output shape:
        That of the input, in the compute dtype of the layer, which is float32 unless `dtype` says otherwise; inside
        everything is computed in float32.
    """

    # Whether examples must be in [0, 255]; `Augmentation` brings pixels of other ranges there and back.
    in_bytes = False
    # Whether it is made for signals and volumes too.
    is_rank_agnostic = False

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.seed = seed if seed is None else check_int("seed", seed, minimum=0)
        self.generator = keras.random.SeedGenerator(self.seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws what is to happen to each example."""
        if not training:
            return None
        return self.draw(keras.ops.shape(data), self.generator if seed is None else seed)

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns the draws for examples of `(batch, *space, channels)`."""
        raise NotImplementedError

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the changed examples."""
        raise NotImplementedError

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the changed examples; the name is that of Keras's protocol."""
        images = keras.ops.cast(images, "float32")
        if training and transformation is not None:
            images = self.change(images, transformation)
        return keras.ops.cast(images, self.compute_dtype)

    def call(self, examples: Any, training: bool | None = None) -> Any:
        """Returns changed examples when `training`, and the examples themselves otherwise."""
        training = bool(training)
        return self.transform_images(examples, self.get_random_transformation(examples, training), training)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns `input_shape`."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "seed": self.seed}


def column(values: Any, rank: int) -> Any:
    """Returns `(batch,)` as `(batch, 1, ..., 1)` of that many axes."""
    return keras.ops.reshape(values, (-1, *(1,) * (rank - 1)))


def integers(shape: tuple[Any, ...], end: int, draws: Any) -> Any:
    """Returns int32 in [0, end)."""
    uniform = keras.random.uniform(shape, seed=draws)
    # uniform() excludes 1 but float32 may round up to the end of the range, hence the minimum.
    return keras.ops.cast(keras.ops.minimum(keras.ops.floor(uniform * end), end - 1), "int32")


class RankAgnostic(RandomTransform):
    """A transform of examples of every rank."""

    is_rank_agnostic = True


@keras.saving.register_keras_serializable(package="keras_resnet")
class FlipAxis(RankAgnostic):
    """Reverses half of the examples along one axis of space.

    Along the width of pictures it does what Keras's RandomFlip does from the same seed, in a fifth of the time on a
    CPU: only the examples that are reversed are computed.

    Args:
        axis: of space, counted from 0; -1 for the last: the width of pictures and volumes, the time of signals.
        seed: int, or None for a random one.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        **kwargs: of `RankAgnostic`.
    """

    def __init__(self, axis: int = -1, seed: int | None = None, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.axis = check_int("axis", axis, minimum=-3, maximum=2)
        self.data_format = choose("data_format", data_format or keras.config.image_data_format(), DATA_FORMATS)

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns which examples are reversed."""
        return keras.random.uniform((shape[0],), seed=draws) <= 0.5

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the examples, some reversed."""
        rank = len(examples.shape)
        place = self.axis if self.axis >= 0 else rank - 2 + self.axis
        if not 0 <= place <= rank - 3:
            raise BadValue(
                f"axis={self.axis} was given for examples with {rank - 2} axes of space. Allowed are -{rank - 2} to "
                f"{rank - 3}. Choose one of these."
            )
        first = 2 if self.data_format == "channels_first" else 1
        ways = (image_ops.nothing, lambda chosen, _: keras.ops.flip(chosen, axis=first + place))
        choices = keras.ops.cast(drawn, "int32")
        return image_ops.by_choice(examples, choices, choices, ways)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "axis": self.axis, "data_format": self.data_format}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Shift(RankAgnostic):
    """Shifts each example by whole steps along every axis of space, and fills with zeros.

    Args:
        steps: the furthest shift, in samples, pixels or voxels, >= 1.
        seed: int, or None for a random one.
        **kwargs: of `RankAgnostic`.
    """

    def __init__(self, steps: int, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.steps = check_int("steps", steps)

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns a shift for each axis, int32 `(batch, axes)`."""
        return integers((shape[0], len(shape) - 2), 2 * self.steps + 1, draws) - self.steps

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the shifted examples."""
        rank = len(examples.shape)
        for axis in range(1, rank - 1):
            size = examples.shape[axis]
            indices_wanted = keras.ops.arange(size, dtype="int32")[None] - drawn[:, axis - 1, None]
            inside = keras.ops.logical_and(indices_wanted >= 0, indices_wanted < size)
            shape = [-1, *(size if other == axis else 1 for other in range(1, rank))]
            indices = keras.ops.reshape(keras.ops.clip(indices_wanted, 0, size - 1), shape)
            shifted = keras.ops.take_along_axis(
                examples, keras.ops.broadcast_to(indices, keras.ops.shape(examples)), axis
            )
            examples = keras.ops.where(keras.ops.reshape(inside, shape), shifted, 0.0)
        return examples

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable(package="keras_resnet")
class QuarterTurns(RankAgnostic):
    """Turns each example by 0, 90, 180 or 270 degrees in the plane of two axes of equal size.

    Args:
        axes: of space, counted from 0, two that differ; (0, 1) is the plane of a picture.
        seed: int, or None for a random one.
        **kwargs: of `RankAgnostic`.
    """

    def __init__(self, axes: tuple[int, int] = (0, 1), seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        first, second = (check_int("axes", axis, minimum=0, maximum=2) for axis in axes)
        if first == second:
            raise BadValue(f"axes={tuple(axes)} names an axis twice. Allowed are two that differ. Pass such as (0, 1).")
        self.axes = (first, second)

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns the number of quarter turns, int32 `(batch,)`."""
        return integers((shape[0],), 4, draws)

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the turned examples."""
        rank = len(examples.shape)
        first, second = (axis + 1 for axis in self.axes)
        if max(first, second) > rank - 2 or examples.shape[first] != examples.shape[second]:
            raise BadValue(
                f"axes={self.axes} was given for examples of the shape {tuple(examples.shape[1:])}. Allowed are two "
                "axes of space of equal size. Choose others."
            )
        order = list(range(rank))
        order[first], order[second] = second, first

        def turned(times: int) -> image_ops.ImageOp:
            def change(chosen: Any, _: Any) -> Any:
                for _ in range(times):
                    chosen = keras.ops.flip(keras.ops.transpose(chosen, order), axis=first)
                return chosen

            return change

        return image_ops.by_choice(examples, drawn, drawn, [turned(times) for times in range(4)])

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "axes": list(self.axes)}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Noise(RankAgnostic):
    """Adds normal noise to every value.

    Args:
        stddev: of the noise, in the units of the examples, > 0.
        seed: int, or None for a random one.
        **kwargs: of `RankAgnostic`.
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.stddev = check_float("stddev", stddev, minimum=0.0, minimum_included=False)

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns the noise."""
        return keras.random.normal(tuple(shape), seed=draws) * self.stddev

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the examples with the noise."""
        return examples + drawn

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "stddev": self.stddev}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Gain(RankAgnostic):
    """Multiplies each example by its own factor.

    Args:
        amount: furthest change of the factor from 1, in (0, 1): 0.2 draws from [0.8, 1.2].
        seed: int, or None for a random one.
        **kwargs: of `RankAgnostic`.
    """

    def __init__(self, amount: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.amount = check_fraction("amount", amount, zero_included=False)

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns the factors."""
        return keras.random.uniform((shape[0],), 1 - self.amount, 1 + self.amount, seed=draws)

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the examples times their factors."""
        return examples * column(drawn, len(examples.shape))

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "amount": self.amount}
