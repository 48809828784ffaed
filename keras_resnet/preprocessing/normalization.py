"""Normalization of images that travels with the weights."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import choose
from keras_resnet.blocks.convolution import DATA_FORMATS, channel_axis
from keras_resnet.errors import BadType, BadValue
from keras_resnet.preprocessing.record import BYTES, InputRecord, as_record

# (mean, standard deviation) a channel in units of [0, 255], in the order in which the network sees the channels.
# "caffe" sees BGR. None stands for the values given to the constructor.
SCHEMES: dict[str, tuple[tuple[float, ...], tuple[float, ...]] | None] = {
    "unit": ((0.0,), (255.0,)),
    "imagenet": ((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "tf": ((127.5,), (127.5,)),
    "dataset": None,
}


@keras.saving.register_keras_serializable(package="keras_resnet")
class InputNormalization(keras.layers.Layer):
    """Turns pixels, in [0, 255] if the record does not say otherwise, into what the network was trained on.

    Put it first in the model: it is saved with it, so that training, evaluation, export and serving agree. It
    returns a new tensor and never changes the caller's array, and it computes in float32 (float64 under a float64
    policy) before it rounds to the compute dtype, so that 16-bit policies lose nothing on the way.

    | scheme | output | trained like this |
    | --- | --- | --- |
    | "unit" | `x / 255`, in [0, 1] | networks trained from nothing on images |
    | "imagenet" | `(x / 255 - mean) / std`, RGB | torchvision, timm |
    | "caffe" | BGR, minus the channel means | ResNet 50, 101, 152 of keras.applications |
    | "tf" | `x / 127.5 - 1`, in [-1, 1] | ResNet V2 of keras.applications |
    | "dataset" | `(x - mean) / std` of the training split | signals, volumes, images unlike photographs |

    Args:
        scheme: a row of the table.
        mean: "dataset" only: one value per channel, in the units of the input.
        std: "dataset" only: one value per channel, > 0, in the units of the input.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        record: what else the network takes and gives, as an `InputRecord` or the dict that it stores; None if it is not
            known. Pixels of another `pixel_range` are brought to [0, 255] first, but for "dataset", which has the units
            of the input. It is saved with the layer.
        name: of the layer; the default is the name that `for_model` and other tools show.
        **kwargs: `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, *space, channels)` with one to three axes of space, any dtype; channels second under
        "channels_first". "imagenet" and "caffe" need 3 channels, RGB.

    Output shape:
        That of the input, in the compute dtype.

    Raises:
        TypeError, ValueError: an unknown scheme; `mean` or `std` missing, not finite, or given to a scheme that has
            its own; an input with the wrong number of channels.

    Source:
        "imagenet" and "caffe": the constants of `keras.applications.imagenet_utils.preprocess_input`.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.preprocessing import InputNormalization
        >>> white = np.full((1, 2, 2, 3), 255, "uint8")
        >>> float(InputNormalization("tf")(white)[0, 0, 0, 0])
        1.0
    """

    def __init__(
        self,
        scheme: str = "unit",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        data_format: str | None = None,
        record: InputRecord | dict[str, Any] | None = None,
        name: str | None = "preprocessing",
        **kwargs: Any,
    ) -> None:
        # Keras would round the pixels to a 16-bit compute dtype before this layer sees them.
        kwargs["autocast"] = False
        super().__init__(name=name, **kwargs)
        constants = choose("scheme", scheme, SCHEMES)
        self.record = as_record(record)
        self.scheme = scheme
        self.data_format = choose("data_format", data_format or keras.config.image_data_format(), DATA_FORMATS)
        if constants is not None:
            for argument, value in (("mean", mean), ("std", std)):
                if value is not None:
                    raise BadValue(
                        f"{argument}={value!r} was given with scheme={scheme!r}, which has its own. "
                        f"Only scheme='dataset' takes {argument}. Leave it out, or use scheme='dataset'."
                    )
            self.mean = self.std = None
            self._mean, self._std = constants
        else:
            self.mean = self._mean = _per_channel("mean", mean)
            self.std = self._std = _per_channel("std", std)
            if min(self._std) <= 0:
                raise BadValue(
                    f"std={std!r} holds a value that is not positive. Allowed are values > 0, one per channel. "
                    "Use 1 for a channel that never varies."
                )
            if len(self._mean) != len(self._std):
                raise BadValue(
                    f"mean has {len(self._mean)} values and std has {len(self._std)}. "
                    "Allowed is one value per channel in both. Give both the same length."
                )

    @classmethod
    def from_data(cls, images: Any, **kwargs: Any) -> "InputNormalization":
        """Returns a "dataset" layer with the mean and standard deviation of `images`.

        Args:
            images: an array `(examples, *space, channels)`, or an iterable of batches, each an array or an
                `(images, labels)` pair: `dataset.batches("train", 256)`. It must end.
            **kwargs: the other constructor arguments.

        Raises:
            ValueError: there are no images, or a value is not finite.

        Example:
            >>> import numpy as np
            >>> from keras_resnet.preprocessing import InputNormalization
            >>> InputNormalization.from_data(np.array([[[[1.0]]], [[[3.0]]]])).mean
            (2.0,)
        """
        data_format = choose("data_format", kwargs.get("data_format") or keras.config.image_data_format(), DATA_FORMATS)
        batches = [images] if hasattr(images, "shape") else images
        mean, std = _moments(batches, channel_axis(data_format))
        return cls("dataset", mean=mean, std=std, **kwargs)

    def build(self, input_shape: tuple) -> None:
        """Checks the number of channels."""
        if len(input_shape) not in (3, 4, 5):
            raise BadValue(
                f"{self.name!r} received an input of shape {tuple(input_shape)}. Expected 3 to 5 axes: batch, one to "
                "three axes of space, and channels. Add the axis that is missing, for one image `image[None]`."
            )
        channels = input_shape[channel_axis(self.data_format)]
        if len(self._mean) > 1 and channels != len(self._mean):
            raise BadValue(
                f"{self.name!r} received an input of shape {tuple(input_shape)} with {channels} channels. "
                f"scheme={self.scheme!r} here needs {len(self._mean)} channels. "
                "Convert the images, or use scheme='unit', which takes any number."
            )
        # The number of axes is left open: the channels alone decide what fits.
        if channels is not None:
            self.input_spec = keras.layers.InputSpec(axes={channel_axis(self.data_format): channels})

    def call(self, inputs: Any) -> Any:
        """Returns the normalized images."""
        working_dtype = "float64" if self.compute_dtype == "float64" else "float32"
        pixels = keras.ops.cast(inputs, working_dtype)
        axis = channel_axis(self.data_format)
        if self.scheme == "caffe":
            # Split and concatenate, because exporters know these better than a reversed slice.
            pixels = keras.ops.concatenate(keras.ops.split(pixels, 3, axis=axis)[::-1], axis=axis)
        black, white = BYTES if self.record is None or self.scheme == "dataset" else self.record.pixel_range or BYTES
        if (black, white) != BYTES:
            pixels = (pixels - black) * (BYTES[1] / (white - black))
        shape = [1] * len(pixels.shape)
        shape[axis] = len(self._mean)
        if any(self._mean):
            pixels = pixels - keras.ops.reshape(keras.ops.convert_to_tensor(self._mean, working_dtype), shape)
        if any(value != 1 for value in self._std):
            pixels = pixels / keras.ops.reshape(keras.ops.convert_to_tensor(self._std, working_dtype), shape)
        return keras.ops.cast(pixels, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns `input_shape`."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {
            **super().get_config(),
            "scheme": self.scheme,
            "mean": self.mean if self.mean is None else list(self.mean),
            "std": self.std if self.std is None else list(self.std),
            "data_format": self.data_format,
            "record": self.record if self.record is None else self.record.to_dict(),
        }


def _per_channel(argument: str, values: Any) -> tuple[float, ...]:
    if values is None:
        raise BadValue(
            f"{argument}=None was given with scheme='dataset'. Expected one value per channel. "
            "Pass it, or use InputNormalization.from_data(training_images), which computes it."
        )
    try:
        numbers = tuple(float(value) for value in np.atleast_1d(np.asarray(values)))
    except (TypeError, ValueError):
        raise BadType(
            f"{argument}={values!r} is not a list of numbers. Expected one float per channel. "
            "Pass a list such as [120.0, 115.0, 104.0]."
        ) from None
    if not numbers or not np.isfinite(numbers).all():
        raise BadValue(
            f"{argument}={values!r} is empty or not finite. Expected one finite float a channel. "
            "Look for NaN in the training data."
        )
    return numbers


def _moments(batches: Iterable[Any], axis: int) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation a channel, in float64, merged batch by batch (Chan et al. 1979)."""
    count = 0
    mean: Any = 0.0
    squares: Any = 0.0
    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        pixels = np.moveaxis(np.asarray(keras.ops.convert_to_numpy(images)), axis, -1)
        pixels = pixels.reshape(-1, pixels.shape[-1]).astype("float64")
        if not len(pixels):
            continue
        batch_mean = pixels.mean(axis=0)
        shift = batch_mean - mean
        total = count + len(pixels)
        squares = squares + ((pixels - batch_mean) ** 2).sum(axis=0) + shift**2 * (count * len(pixels) / total)
        mean = mean + shift * (len(pixels) / total)
        count = total
    if not count:
        raise BadValue(
            "images holds no example to adapt to. Expected an array or an iterable of batches with at least one image. "
            "Pass the training split."
        )
    std = np.sqrt(squares / count)
    # A channel that never varies would divide by zero; after the mean is taken off it is zero whatever the divisor.
    std = np.where(std == 0, 1.0, std)
    return [float(value) for value in mean], [float(value) for value in std]
