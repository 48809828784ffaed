"""Layers that change training images at random, each a pure function of the images and a seed."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_float, check_fraction, check_int, choose
from keras_resnet.blocks.convolution import DATA_FORMATS
from keras_resnet.errors import BadType, BadValue
from keras_resnet.preprocessing import image_ops
from keras_resnet.preprocessing.record import BYTES, PIXEL_RANGES, check_range
from keras_resnet.preprocessing.transforms import RandomTransform, integers

ERASED_AREA, ERASED_RATIO, ERASING_TRIES = (0.02, 0.33), (0.3, 3.3), 10


@keras.saving.register_keras_serializable(package="keras_resnet")
class PadAndCrop(RandomTransform):
    """Shifts each image by a random whole number of pixels, and fills the border.

    The same as padding by `pixels` on all sides and cropping the original size at random, which is how networks are
    trained on CIFAR. Keras's RandomCrop takes one window for the whole batch, and its RandomTranslation blurs by
    interpolation; here every image has its own window of unchanged pixels.

    Args:
        pixels: the furthest shift along height and width, in pixels, >= 1.
        fill_value: of the border, in the units of the images.
        seed: int, or None for a random one.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        **kwargs: of `RandomTransform`.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` under "channels_first".

    Output shape:
        That of the input, float32.

    Source:
        He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.
    """

    def __init__(
        self,
        pixels: int,
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        self.pixels = check_int("pixels", pixels)
        self.fill_value = check_float("fill_value", fill_value)
        self.data_format = choose("data_format", data_format or keras.config.image_data_format(), DATA_FORMATS)

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns an int32 window origin `(row, column)` for each image, in [0, 2 * pixels]."""
        return integers((shape[0], 2), 2 * self.pixels + 1, draws)

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the window of every image."""
        if self.data_format == "channels_first":
            examples = keras.ops.transpose(examples, (0, 2, 3, 1))
        batch, height, width, channels = keras.ops.shape(examples)
        border = (self.pixels, self.pixels)
        padded = keras.ops.pad(examples, [(0, 0), border, border, (0, 0)], constant_values=self.fill_value)
        padded_height, padded_width = height + 2 * self.pixels, width + 2 * self.pixels
        # One gather over the flattened batch: whole pixels are copied, and nothing is looped over.
        starts = keras.ops.arange(batch, dtype="int32") * padded_height
        rows = (starts + drawn[:, 0])[:, None] + keras.ops.arange(height, dtype="int32")
        columns = drawn[:, 1][:, None] + keras.ops.arange(width, dtype="int32")
        positions = rows[:, :, None] * padded_width + columns[:, None, :]
        pixels = image_ops.pick(keras.ops.reshape(padded, (-1, channels)), positions)
        return keras.ops.transpose(pixels, (0, 3, 1, 2)) if self.data_format == "channels_first" else pixels

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        own = {name: getattr(self, name) for name in ("pixels", "fill_value", "data_format")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Erasing(RandomTransform):
    """Covers a rectangle of some pictures with noise, uniform in [0, 255].

    Keras's RandomErasing draws the two sides one by one, and its noise is normal, cut off at the ends of the range:
    half of it is 0 and a sixth 255.

    Args:
        probability: of a picture to lose a rectangle, in (0, 1].
        seed: int, or None for a random one.
        **kwargs: of `RandomTransform`.

    Input shape:
        `(batch, height, width, channels)` in [0, 255].

    Output shape:
        That of the input, float32.

    Source:
        Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1; area uniform in 2 to 33 % of the picture,
        the logarithm of the ratio of the sides uniform in that of [0.3, 3.3], as in torchvision and timm. A rectangle
        that does not fit is drawn again, up to ten times.
    """

    in_bytes = True

    def __init__(self, probability: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.probability = check_fraction("probability", probability, one_included=True, zero_included=False)

    def draw(self, shape: Any, draws: Any) -> Any:
        """Returns the rectangles, int32 `(batch, 4)` as top, left, height, width, and the noise; no height for none."""
        if len(shape) != 4:
            raise BadValue(
                f"Erasing was given examples of the shape {tuple(shape)}. Allowed are pictures (batch, height, width, "
                "channels). Leave it out."
            )
        count, height, width = shape[0], float(shape[1]), float(shape[2])
        tries = keras.random.uniform((count, ERASING_TRIES, 2), seed=draws)
        area = (ERASED_AREA[0] + tries[..., 0] * (ERASED_AREA[1] - ERASED_AREA[0])) * height * width
        low, high = (math.log(ratio) for ratio in ERASED_RATIO)
        ratio = keras.ops.exp(low + tries[..., 1] * (high - low))
        sides = keras.ops.round(keras.ops.stack([keras.ops.sqrt(area * ratio), keras.ops.sqrt(area / ratio)], axis=-1))
        # As torchvision: a rectangle as high or as wide as the picture does not fit.
        fits = keras.ops.cast((sides[..., 0] < height) & (sides[..., 1] < width), "int32")
        first = keras.ops.argmax(fits, axis=1)
        chosen = keras.ops.take_along_axis(sides, keras.ops.reshape(first, (-1, 1, 1)), axis=1)[:, 0]
        happens = keras.random.uniform((count,), seed=draws) < self.probability
        happens = keras.ops.cast(happens, "int32") * keras.ops.max(fits, axis=1)
        places = keras.random.uniform((count, 2), seed=draws)
        free = keras.ops.convert_to_tensor([height, width]) - chosen
        corner = keras.ops.minimum(keras.ops.floor(places * (free + 1)), free)
        rectangle = keras.ops.cast(keras.ops.concatenate([corner, chosen], axis=1), "int32") * happens[:, None]
        return rectangle, keras.random.uniform(tuple(shape), 0.0, 255.0, seed=draws)

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the pictures with their rectangles."""
        rectangle, noise = drawn
        top, left, height, width = (keras.ops.reshape(rectangle[:, column], (-1, 1, 1, 1)) for column in range(4))
        rows = keras.ops.reshape(keras.ops.arange(examples.shape[1], dtype="int32"), (1, -1, 1, 1))
        columns = keras.ops.reshape(keras.ops.arange(examples.shape[2], dtype="int32"), (1, 1, -1, 1))
        inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
        return keras.ops.where(inside, noise, examples)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "probability": self.probability}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Augmentation(keras.layers.Layer):
    """Applies augmentation layers in turn, as a layer or as a pure function of `(images, seed)`.

    `layer(images, training=True)` draws from its own generator. `apply(images, seed)` draws from nothing but
    the seed it is given, so that a `tf.data` map gives the same images whatever its parallelism, and a resumed
    run the same as an uninterrupted one.

    Args:
        layers: Keras's RandomFlip, RandomRotation, RandomZoom, RandomTranslation, this package's PadAndCrop, or any
            layer with the methods `get_random_transformation` and `transform_images`.
        seed: int, or None for a random one; `apply` does not use it.
        pixel_range: the values of black and of white in the images, (0, 255) by default. Layers that are made for
            [0, 255], such as color policies, are given that; None if the range is not known, which they refuse.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)` in `pixel_range`, any dtype.

    Output shape:
        That of the input, in the compute dtype (float32 unless the layers say otherwise), in the input's range.

    Raises:
        TypeError, ValueError: a layer lacks one of the two methods, or there is none.

    Example:
        >>> import keras
        >>> from keras_resnet.preprocessing import Augmentation, PadAndCrop
        >>> layer = Augmentation([keras.layers.RandomFlip("horizontal"), PadAndCrop(4)])
        >>> images = keras.ops.ones((2, 32, 32, 3))
        >>> tuple(layer.apply(images, [7, 1]).shape)
        (2, 32, 32, 3)
    """

    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        seed: int | None = None,
        pixel_range: tuple[float, float] | None = BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pixel_range = check_range(pixel_range)
        if not layers:
            raise BadValue("layers is empty. Expected at least one augmentation layer. Use None for no augmentation.")
        for layer in layers:
            if not (hasattr(layer, "get_random_transformation") and hasattr(layer, "transform_images")):
                raise BadType(
                    f"layers holds {layer!r}, which has no get_random_transformation() and transform_images(). "
                    "Allowed are Keras's Random* image layers and PadAndCrop. Use one of them."
                )
        in_bytes = [layer.name for layer in layers if getattr(layer, "in_bytes", False)]
        if in_bytes and self.pixel_range is None:
            raise BadValue(
                f"layers holds {', '.join(in_bytes)}, made for pixels in [0, 255], and pixel_range=None was given. "
                f"Ranges that can be brought there are {', '.join(PIXEL_RANGES)}. Pass the range of the images (in a "
                "recipe data.pixel_range), or leave these layers out."
            )
        self.layers = list(layers)
        self.seed = seed if seed is None else check_int("seed", seed, minimum=0)
        self.generator = keras.random.SeedGenerator(self.seed)

    def apply(self, images: Any, seed: Any) -> Any:
        """Returns augmented images: a pure function of both arguments.

        Args:
            images: `(batch, height, width, channels)`.
            seed: two integers, a list or an int32 or uint32 tensor of shape `(2,)`; for instance a seed and a step.
        """
        draws = Draws(seed)
        for layer in self.layers:
            transformation = layer.get_random_transformation(images, training=True, seed=draws)
            if not getattr(layer, "in_bytes", False) or self.pixel_range == BYTES:
                images = layer.transform_images(images, transformation, training=True)
                continue
            black, white = self.pixel_range or BYTES
            scale = BYTES[1] / (white - black)
            in_bytes = (keras.ops.cast(images, "float32") - black) * scale
            images = layer.transform_images(in_bytes, transformation, training=True) / scale + black
        return images

    def build(self, input_shape: tuple) -> None:
        """Builds the layers inside; augmentation keeps every shape."""
        for layer in self.layers:
            if not layer.built:
                layer.build(input_shape)

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns augmented images when `training`, and the images themselves otherwise."""
        if not training:
            return keras.ops.cast(images, self.compute_dtype)
        return self.apply(images, self.generator.next())

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns `input_shape`."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        return {**super().get_config(), "layers": layers, "seed": self.seed, "pixel_range": self.pixel_range}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Augmentation":
        """Returns the layer that `get_config` describes."""
        layers = [keras.saving.deserialize_keras_object(layer, custom_objects) for layer in config["layers"]]
        return cls(**{**config, "layers": layers})


class Draws(keras.random.SeedGenerator):
    """A seed generator without state: the n-th draw is a function of the seed given and n.

    Keras's layers accept nothing but an int or a SeedGenerator, and its own keeps a variable that parallel calls
    would race for.
    """

    # Odd multipliers near 2**32 times the golden ratio and similar irrationals, as in Weyl sequences: neighboring
    # seeds and steps, and the draws of one step, land far apart. PyTorch's generator sees only the sum of the pair.
    _MULTIPLIERS = np.array([0x9E3779B1, 0x85EBCA77], "uint32").view("int32")
    _STRIDES = np.array([0xC2B2AE3D, 0x27D4EB2F], "uint32")

    def __init__(self, seed: Any) -> None:
        # The parent's constructor makes the variable that this class is there to avoid.
        self._seed = keras.ops.cast(keras.ops.convert_to_tensor(seed), "int32")
        self._draws = 0

    def next(self, ordered: bool = True) -> Any:
        """Returns the next seed, int32 or uint32, of shape `(2,)`; sums and products wrap around."""
        self._draws += 1
        offset = (self._STRIDES.astype("uint64") * self._draws).astype("uint32").view("int32")
        seed = self._seed * keras.ops.convert_to_tensor(self._MULTIPLIERS) + keras.ops.convert_to_tensor(offset)
        return keras.ops.cast(seed, "uint32") if keras.config.backend() == "jax" else seed
