"""The network of a run: its section of a recipe, and images in [0, 255] to logits built from it."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import models
from keras_resnet.blocks.residual import ATTENTION, VERSIONS
from keras_resnet.blocks.stem import STEMS
from keras_resnet.errors import BadValue
from keras_resnet.models.builder import build_resnet
from keras_resnet.models.validation import MODEL_SHORTCUTS
from keras_resnet.tasks import REGRESSION
from keras_resnet.training import fields
from keras_resnet.training.losses import TargetScale
from keras_resnet.weights.adaptation import HEAD
from keras_resnet.weights.sources import weights_at_hand

INITIALIZERS = {
    name: name
    for name in ("he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "lecun_uniform")
}
SMALL_SIDE_PX = 64
AT_HAND = "auto"  # weights that need no download
LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Model(fields.Section):
    """Arguments of the constructor; "auto" is the variant's own.

    But `stem="auto"` is "small" for images under 64 px. `widths` follows from pruned weights.
    """

    title = "model"
    needs = {"adapt_weights": ("model.weights", lambda recipe: bool(recipe.model.weights))}
    weights: str = fields.text("")
    adapt_weights: bool = fields.flag(False)
    stem: str = fields.choice("auto", STEMS, word="auto")
    width: int | str = fields.integer_or("auto", scale="log")
    widths: str = fields.text("")
    version: str = fields.choice("v1.5", VERSIONS)
    shortcut: str = fields.choice("auto", MODEL_SHORTCUTS, word="auto")
    attention: str = fields.choice("auto", {**ATTENTION, "none": None}, word="auto")
    drop_path_rate: float = fields.number(0.0, maximum=1.0, open_above=True)
    dropout_rate: float = fields.number(0.0, maximum=1.0, open_above=True)
    kernel_initializer: str = fields.choice("he_normal", INITIALIZERS)
    l1: float = fields.number(0.0, scale="log")
    l2: float = fields.number(0.0, scale="log")
    zero_init_residual: bool = fields.flag(True)

    def arguments(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """Returns the keyword arguments of `keras_resnet.models.build` for images of `(*space, channels)`."""
        arguments = dataclasses.asdict(self)
        if not arguments.pop("weights"):
            arguments.pop("adapt_weights")
        l1, l2 = arguments.pop("l1"), arguments.pop("l2")
        if self.stem == "auto" and not self.weights and min(image_shape[:-1]) < SMALL_SIDE_PX:
            arguments["stem"] = "small"
        if self.attention == "none":
            arguments["attention"] = None
        arguments["kernel_regularizer"] = keras.regularizers.L1L2(l1, l2) if l1 or l2 else None
        return {name: value for name, value in arguments.items() if value != "auto"}

    def weights_for(self, variant: str, image_shape: tuple[int | None, ...]) -> str:
        """Returns the weights to begin with: for "auto" those that are at hand, and a warning says which."""
        if self.weights != AT_HAND:
            return self.weights
        is_small = len(image_shape) == 3 and min(side or SMALL_SIDE_PX for side in image_shape[:-1]) < SMALL_SIDE_PX
        tag = weights_at_hand(variant, is_small)
        if tag:
            LOGGER.warning("model.weights='auto' takes weights=%r for %s.", tag, variant)
        return tag

    def overrides_of(self, found: models.Pretrained | None) -> dict[str, Any]:
        """Returns the overrides that follow from weights: an absolute path, and the network that they are of.

        What the recipe says otherwise gives way, and a warning says so.
        """
        if found is None:
            return {}
        if found.quantized:
            raise BadValue(
                f"model.weights={self.weights!r} are rounded to 8 bits. A training begins with weights in floats; with "
                "quantize.int8=true (recipe 'quantize') it rounds them. Pass those that they were made of."
            )
        usual = type(self)()
        path = os.path.abspath(os.path.expanduser(self.weights))
        is_path = path in (os.path.abspath(found.file.path), os.path.dirname(os.path.abspath(found.file.path)))
        overrides: dict[str, Any] = {"model.weights": path} if is_path else {}
        for name, value in found.arguments.items():
            if not hasattr(self, name):
                continue
            word, present = "none" if value is None else value, getattr(self, name)
            if present not in (word, getattr(usual, name)):
                LOGGER.warning("model.%s=%r gives way to %r, that of weights=%r.", name, present, word, self.weights)
            overrides[f"model.{name}"] = word
        return overrides

    def normalization_of(
        self, found: models.Pretrained, image_shape: tuple[int | None, ...], pixel_range: tuple[float, float] | None
    ) -> dict[str, Any] | None:
        """Returns scheme, mean and std of weights for pixels of a range; None if they say nothing of them."""
        stored = found.preprocessing_for(image_shape[-1] or 0, len(image_shape) - 1)
        if stored is None:
            return None
        constants = {key: stored[key] for key in ("scheme", "mean", "std") if stored.get(key) is not None}
        if "mean" in constants and pixel_range is not None:
            black, white = pixel_range
            unit = (white - black) / 255  # mean and std are in [0, 255], this scheme has the units of the input
            constants["mean"] = [black + value * unit for value in constants["mean"]]
            constants["std"] = [value * unit for value in constants["std"]]
        return constants

    def build(
        self,
        name: str,
        image_shape: tuple[int, ...],
        outputs: int,
        normalization: keras.layers.Layer,
        precision: str,
        targets: TargetScale | None = None,
        class_names: Sequence[str] = (),
        units: Sequence[str] = (),
        pretrained: models.Pretrained | None = None,
        calibration: Iterable[Any] | None = None,
    ) -> keras.Model:
        """Returns one flat functional model "image" -> "preprocessing" -> network -> logits, in float32 at both ends.

        With `targets` a last layer "targets" brings the outputs into the units of the data. With `calibration`, batches
        of images, the network rounds to 8 bits in the ranges that these have.
        """
        _check_no_strategy()
        inputs = keras.Input(image_shape, name="image", dtype="float32")
        arguments = {
            "input_tensor": normalization(inputs),
            "classes": outputs,
            "classifier_activation": None,
            "dtype": precision,
            **self.arguments(image_shape),
        }
        if pretrained is not None:
            # A regression has no names of classes; it keeps the head of another one of the same units alone.
            record = pretrained.record
            has_values = record is not None and record.task == REGRESSION.name and tuple(record.units) == tuple(units)
            network = pretrained.build(build_resnet, name, arguments, class_names or ("value",) * (not has_values))
            if has_values and targets is not None and pretrained.classes == outputs:
                _to_deviations(network.get_layer(HEAD), targets)
        else:
            network = models.build(name, **arguments)
        if calibration is not None:
            network = models.quantize(network, calibration)
        if targets is None:
            return network
        mean, scale = (list(values) for values in targets)
        in_units = keras.layers.Rescaling(scale, offset=mean, dtype="float32", name="targets")
        model = keras.Model(network.input, in_units(network.output), name=network.name)
        model.dtype_policy = network.dtype_policy
        return model


@dataclasses.dataclass(frozen=True)
class Quantize(fields.Section):
    """Rounding to 8 bits in the network while it trains (`keras_resnet.models.quantize`): for a short fine-tuning.

    With `int8` the norms of the weights are folded, and kernels and feature maps rounded as integer kernels round them;
    `export` then writes files in 8 bits that answer as the network does.
    """

    title = "quantize"
    needs = {"int8": ("model.weights", lambda recipe: bool(recipe.model.weights))}
    int8: bool = fields.flag(False)

    def check(self, recipe: Any) -> None:
        """Raises ValueError where the recipe has another part that does not go with it."""
        if not self.int8:
            return
        wrong = {
            f"train.precision={recipe.train.precision!r}": ("'float32'", recipe.train.precision != "float32"),
            f"distribution.kind={recipe.distribution.kind!r}": ("'none'", recipe.distribution.kind != "none"),
            f"model.weights={recipe.model.weights!r}": ("weights of a trained network", not recipe.model.weights),
        }
        for given, (allowed, is_so) in wrong.items():
            if is_so:
                raise BadValue(
                    f"quantize.int8=true was given with {given}. Allowed is {allowed}. Change it, or train without "
                    "quantize.int8 and export with quantize='int8', which rounds after the training."
                )


def _to_deviations(head: keras.layers.Dense, targets: TargetScale) -> None:
    """Makes a head that gives values, as files of weights hold it, give deviations from the mean of the targets."""
    mean, scale = (np.asarray(values, "float32") for values in targets)
    kernel, bias = (np.asarray(keras.ops.convert_to_numpy(weight)) for weight in head.weights)
    head.set_weights([kernel / scale, (bias - mean) / scale])


def _check_no_strategy() -> None:
    """Raises ValueError inside a scope of tf.distribute, where saved states and averages are not whole yet."""
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    if tf.distribute.has_strategy():
        name = type(tf.distribute.get_strategy()).__name__
        raise BadValue(
            f"Training was begun inside the scope of a {name}. A recipe makes its own. Leave the scope, and set "
            "distribution.kind ('mirrored' for several devices, 'multiworker' for several processes), or call "
            "model.fit on a network yourself."
        )


@contextlib.contextmanager
def any_size(network: keras.Model) -> Iterator[None]:
    """Lets a network take images of other sizes than its own while the block runs."""
    own = network.input_spec
    network.input_spec = [keras.layers.InputSpec(ndim=len(network.input_shape))]
    try:
        yield
    finally:
        network.input_spec = own


def build_metrics(network: keras.Model, batches: Any, outputs: int) -> None:
    """Makes the variables of the metrics, which Keras makes in the first step; values can then be put into them."""
    images, labels, *_ = next(iter(batches))
    network.compute_metrics(images, labels, keras.ops.zeros((len(labels), outputs)))
    network.reset_metrics()


def fit_segments(
    stages: Sequence[tuple[int, Any]], start_epoch: int, start_batch: int, last: int
) -> Iterator[tuple[int, Any]]:
    """Yields the last epoch of each call of Keras's `fit`, and its image size: one call per resolution."""
    for end, size in stages:
        end = min(end, last)
        if start_batch and start_epoch < end:
            start_epoch, start_batch = start_epoch + 1, 0
            yield start_epoch, size
        if start_epoch < end:
            start_epoch = end
            yield end, size
