"""What random changes of examples have in common: Keras's protocol, a seed, and draws of its own for each example."""

from typing import Any

import keras

from keras_resnet.arguments import check_int


class RandomChange(keras.layers.Layer):
    """Changes each example at random; the base of this package's changes.

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
    """Returns `(batch,)` as `(batch, 1, ..., 1)` of so many axes."""
    return keras.ops.reshape(values, (-1, *(1,) * (rank - 1)))


def integers(shape: tuple[Any, ...], end: int, draws: Any) -> Any:
    """Returns int32 in [0, end)."""
    uniform = keras.random.uniform(shape, seed=draws)
    # uniform() excludes 1 but float32 may round up to the end of the range, hence the minimum.
    return keras.ops.cast(keras.ops.minimum(keras.ops.floor(uniform * end), end - 1), "int32")
