"""Networks with weights: what a tag or a path stands for, and what of the network follows from it."""

import dataclasses
import functools
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_resnet import files
from keras_resnet.blocks import Stem
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.builder import build_resnet
from keras_resnet.models.quantization import quantize
from keras_resnet.models.variants import VARIANTS
from keras_resnet.preprocessing import InputNormalization, InputRecord
from keras_resnet.preprocessing.model_record import normalization_of_weights
from keras_resnet.preprocessing.record import INPUTS, as_record
from keras_resnet.weights.adaptation import HEAD, adapt_normalization, architecture_of, check_input
from keras_resnet.weights.files import RECORD, TensorFile, open_tensors
from keras_resnet.weights.loading import architecture_in, load_weights
from keras_resnet.weights.naming import attention_in, naming_of, strip_prefix
from keras_resnet.weights.sources import Source, imagenet_classes, locate

LOGGER = logging.getLogger(__name__)
# What a file says of its network and the constructors call the same.
ARGUMENTS = ("version", "stem", "shortcut", "width", "widths", "groups", "attention")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What a tag or a path of weights stands for.

    Attributes:
        weights: the tag or the path.
        file: that holds them.
        arguments: of the constructor, as the weights need them.
        classes: of their head; None without one.
        channels: of their input.
        rank: axes of space of their input.
        preprocessing: arguments of `InputNormalization` that make of pixels what they were trained on; None if that is
            not known.
        quantized: whether their network rounds to 8 bits.
    """

    weights: str
    file: TensorFile
    arguments: Mapping[str, Any]
    classes: int | None
    channels: int
    rank: int
    preprocessing: dict[str, Any] | None
    quantized: bool = False

    @classmethod
    def of(cls, variant: str, weights: Any) -> "Pretrained":
        """Describes the weights of a variant.

        Args:
            variant: a name from `list_models()`.
            weights: a tag or a path.

        Raises:
            TypeError, ValueError: there are no such weights, or they are not on this machine.
        """
        if not isinstance(weights, (str, os.PathLike)):
            raise BadType(
                f"weights must be None, a tag or a path, got {weights!r} of type {type(weights).__name__}. "
                "Pass weights=None for random initialization."
            )
        path, source = locate(variant, os.fspath(weights))
        file = open_tensors(path)
        architecture = architecture_in(file)
        fields = _of_foreign(file) if architecture is None else _of_ours(variant, path, architecture)
        if architecture is None:
            # Names and shapes do not tell every stem and attention apart; the variant does.
            arguments = {name: value for name, value in fields[0].items() if name not in VARIANTS[variant].defaults}
            fields = (arguments, *fields[1:])
        stored = _stored_in(file) if source is None else _of_source(source)
        quantized = bool(architecture and architecture.get("quantized"))
        return cls(os.fspath(weights), file, *fields, stored, quantized)

    def build(
        self, build: Callable[..., keras.Model], variant: str, given: Mapping[str, Any], class_names: Sequence[str] = ()
    ) -> keras.Model:
        """Returns the network with the weights in it.

        Args:
            build: `build_resnet`.
            variant: a name from `list_models()`.
            given: the arguments that the caller gave, without `weights`.
            class_names: of the outputs that are wanted; others than those of the weights make a new head.

        Raises:
            ValueError: an argument is not what the weights need, or a tensor does not fit.
        """
        defaults = VARIANTS[variant].defaults
        for name, value in self.arguments.items():
            if name in given and given[name] != value:
                raise BadValue(
                    f"{name}={given[name]!r} was given with weights={self.weights!r}, which need {name}={value!r}. It "
                    "follows from the weights. Leave it out."
                )
        has_head = given.get("include_top", True)
        arguments = {**defaults, **self.arguments, **given}
        if has_head and "classes" not in given and self.classes is not None:
            arguments["classes"] = self.classes
        record = self.record
        if has_head and not {"input_shape", "input_tensor"} & set(given) and record is not None and record.image_size:
            arguments["input_shape"] = (*record.image_size, self.channels)
        adapt = bool(arguments.pop("adapt_weights", False))
        names = record.class_names if record is not None else ()
        is_other = bool(class_names) and tuple(class_names) != tuple(names)
        is_new = has_head and (is_other or arguments.get("classes", 1000) != self.classes)
        model = build(variant, **arguments)
        if self.quantized:
            if is_new or not has_head or adapt:
                raise BadValue(
                    f"weights={self.weights!r} are rounded to 8 bits in the ranges of one network, and were to be used "
                    "for another: without its head, for other classes or for other inputs. Allowed is the network as "
                    "it is. Use weights in floats."
                )
            model = quantize(model)
        architecture = architecture_of(model)
        channels, rank = architecture["channels"], architecture["rank"]
        check_input(f"weights={self.weights!r}", (self.channels, self.rank), (channels, rank), adapt)
        is_bgr = self.preprocessing is not None and self.preprocessing["scheme"] == "caffe"
        audit = load_weights(model, self.file, new_head=is_new or not has_head, adapt=adapt, is_bgr=is_bgr)
        if is_new:
            LOGGER.warning(
                "weights=%r have %s classes and %s%s were asked for: the head 'predictions' is new, and random.",
                self.weights,
                self.classes if self.classes is not None else "no",
                arguments.get("classes", 1000),
                " others" if is_other else "",
            )
        LOGGER.info("%s", audit)
        stored = self.preprocessing_for(channels, rank)
        if stored is not None:
            _describe(model, stored, is_new or not has_head)
        return model

    def preprocessing_for(self, channels: int, rank: int) -> dict[str, Any] | None:
        """Returns the configuration of the weights for other channels or axes of space; None if unknown.

        Args:
            channels: of the input.
            rank: its axes of space.
        """
        if self.preprocessing is None or (channels, rank) == (self.channels, self.rank):
            return self.preprocessing
        return adapt_normalization(self.preprocessing, channels, rank)

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of the file, which a run remembers."""
        return files.sha256_of(self.file.path)

    @property
    def record(self) -> InputRecord | None:
        """What the weights take and give; None if it is not known."""
        if self.preprocessing is None:
            return None
        return as_record(self.preprocessing["record"])


def _describe(model: keras.Model, preprocessing: dict[str, Any], without_outputs: bool) -> None:
    """Writes what the weights take into the stem, where it is saved with the network."""
    stored = dict(preprocessing)
    if without_outputs:
        stored["record"] = {name: stored["record"][name] for name in INPUTS if name in stored["record"]}
    (stem,) = (layer for layer in model.layers if isinstance(layer, Stem))
    stem.preprocessing = stored


def pretrained_model(variant: str, weights: str | os.PathLike) -> keras.Model:
    """Returns a network with weights that takes pixels as files have them, and gives logits: one flat model.

    Args:
        variant: a name from `list_models()`.
        weights: as for the constructors.

    Raises:
        ValueError: as the constructors; or what the weights take is not known.
    """
    pretrained = Pretrained.of(variant, weights)
    if pretrained.preprocessing is None or pretrained.record is None:
        raise BadValue(
            f"weights={pretrained.weights!r} do not say how images are to be normalized. Published weights and those "
            "that `convert` writes from a trained model do. Build the model, and put InputNormalization before it."
        )
    image = keras.Input(
        (*(pretrained.record.image_size or (None, None)), pretrained.channels), name="image", dtype="float32"
    )
    scaled = InputNormalization(**pretrained.preprocessing)(image)
    return pretrained.build(build_resnet, variant, {"input_tensor": scaled, "classifier_activation": None})


def with_normalization(model: keras.Model) -> keras.Model:
    """Returns a network that takes pixels as files have them; the model itself if it does already.

    A network of the constructors with weights takes what these were trained on, and carries how to make that of pixels.

    Args:
        model: a Keras model.
    """
    layer = normalization_of_weights(model)
    if layer is None:
        return model
    image = keras.Input(model.input_shape[1:], name="image", dtype="float32")
    x = layer(image)
    if all(after.input is before.output for before, after in itertools.pairwise(model.layers)):
        copy = keras.models.clone_model(model)
        for child in copy.layers[1:]:
            x = child(x)
    else:
        copy = model
        x = model(x)
    # Once more, so that every layer has been called once.
    flat = keras.models.clone_model(keras.Model(image, x, name=model.name))
    flat.set_weights(model.get_weights())
    return flat


def _of_ours(
    variant: str, path: pathlib.Path, architecture: Mapping[str, Any]
) -> tuple[dict[str, Any], int | None, int, int]:
    row = VARIANTS[variant]
    kind = {"IdentityBlock": "identity", "BottleneckBlock": "bottleneck"}.get(architecture["block"])
    if kind != row.kind or list(architecture["depths"]) != list(row.depths):
        expected = (kind, list(architecture["depths"]))
        fits = [name for name, other in VARIANTS.items() if (other.kind, list(other.depths)) == expected]
        raise BadValue(
            f"weights={os.fspath(path)!r} are of {architecture['block']} {architecture['depths']}, and {variant!r} has "
            f"{row.kind} blocks {list(row.depths)}. Models that fit are {', '.join(fits) or 'none'}. Build one of them."
        )
    return (
        {name: architecture[name] for name in ARGUMENTS if name != "widths" or architecture.get(name)},
        architecture["classes"],
        architecture["channels"],
        architecture["rank"],
    )


def _of_foreign(file: TensorFile) -> tuple[dict[str, Any], int | None, int, int]:
    """Returns arguments, classes and channels of a file of another library, by its names and shapes."""
    names = strip_prefix(file.shapes)
    shapes = {name: file.shapes[original] for name, original in names.items()}
    key = naming_of(shapes)
    if key == "torch":
        is_deep = "conv1.0.weight" in shapes
        first = shapes["conv1.0.weight" if is_deep else "conv1.weight"]
        last = shapes["conv1.6.weight" if is_deep else "conv1.weight"]
        pooled = len(shapes.get("layer2.0.downsample.1.weight", ())) == 4
        arguments = {
            "version": "v1.5",
            "stem": "deep" if is_deep else "conv7",
            "shortcut": "pool" if pooled else "conv",
            "attention": attention_in(shapes),
            "width": last[0],
        }
        return arguments, shapes["fc.weight"][0] if "fc.weight" in shapes else None, first[1], len(first) - 2
    if key == "keras":
        first = shapes["conv1_conv/kernel"]
        version = "v2-keras" if any("_preact_bn/" in name for name in shapes) else "v1"
        head = shapes.get("predictions/kernel")
        arguments = {"version": version, "stem": "conv7", "shortcut": "conv", "width": first[-1]}
        return arguments, None if head is None else head[1], first[-2], len(first) - 2
    raise BadValue(
        f"weights={os.fspath(file.path)!r} name tensors like {list(shapes)[:3]}. Known are names of keras_resnet with "
        "its metadata, of timm and torchvision, and of keras.applications. Convert the file."
    )


def _stored_in(file: TensorFile) -> dict[str, Any] | None:
    """Returns the preprocessing that a file declares; None if it declares none."""
    text = file.metadata.get(RECORD)
    if not text:
        return None
    try:
        config = json.loads(text)
        stored = {name: config[name] for name in ("scheme", "mean", "std", "record") if config.get(name) is not None}
        as_record(stored["record"])
        InputNormalization(**stored)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadValue(
            f"weights={os.fspath(file.path)!r} say damaged things of the images that they take: {error!r}. Write the "
            "file again, with `convert`."
        ) from error
    return stored


def _of_source(row: Source) -> dict[str, Any]:
    """Returns the preprocessing that a publisher states for its weights."""
    size = row.measured_at or row.input_size
    record = {
        "image_size": [size, size],
        "crop_fraction": row.crop or None,
        # Published accuracies hold for the pixels of Pillow; keras.applications states none.
        "interpolation": f"pil-{row.interpolation}" if row.interpolation else "bilinear",
        "channel_order": "rgb",
        "apply_exif": True,
        "task": "classification" if row.classes else None,
        "activation": "softmax" if row.classes else None,
        "head": HEAD if row.classes else None,
        "class_names": list(imagenet_classes()) if row.classes == 1000 else [],
    }
    if row.mean.startswith("BGR"):
        return {"scheme": "caffe", "record": record}
    if row.mean.startswith("scaled"):
        return {"scheme": "tf", "record": record}
    mean, std = ([float(part) * 255 for part in text.split()] for text in (row.mean, row.std))
    return {"scheme": "dataset", "mean": mean, "std": std, "record": record}
