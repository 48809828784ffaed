"""Feature maps of a residual network by the names of its stages."""

import math
import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.arguments import check_int, suggestion
from keras_resnet.blocks.convolution import Composite, channel_axis
from keras_resnet.blocks.residual import ResidualBlock
from keras_resnet.blocks.stem import STEMS
from keras_resnet.errors import BadType, BadValue
from keras_resnet.weights.adaptation import architecture_of

BLOCK_NAME = re.compile(r"(stage\d+)_block(\d+)")


def stage_outputs(model: keras.Model) -> dict[str, str]:
    """Returns the name of the last layer of every stage.

    Args:
        model: a model of this package, or one that holds its layers.

    Returns:
        {"stage1": "stem", "stage2": "stage2_block3", ...}, in the order of the network.
    """
    last: dict[str, str] = {}
    for layer in model.layers:
        if layer.name == "stem":
            last["stage1"] = "stem"
        elif match := BLOCK_NAME.fullmatch(layer.name):
            last[match[1]] = layer.name
    return last


def features(model: keras.Model, stages: Sequence[str] | None = None) -> keras.Model:
    """Returns a model that shares the weights of `model` and returns feature maps, as detection heads want them.

    Args:
        model: a model of this package, or one that holds its layers.
        stages: names in the order of the network, "stage1" (the stem) to "stage5"; None for all but the stem. With the
            stems "conv7" and "deep" stages 2 to 5 stand at strides 4, 8, 16 and 32, with "small" at 1, 2, 4 and 8; see
            `feature_info`.

    Output shape:
        A list with `(batch, height / stride, width / stride, channels)` for each name; for a single name, as Keras
        does it, that tensor alone.

    Returns:
        A functional `keras.Model`; training it trains the layers of `model`.

    Raises:
        TypeError: `model` is no Keras model, or `stages` is not a sequence of names.
        ValueError: a stage is unknown, named twice or out of order.

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(include_top=False, input_shape=(64, 64, 3), width=8)
        >>> [output.shape[1:3] for output in keras_resnet.features(model, ("stage3", "stage5")).outputs]
        [(8, 8), (2, 2)]
    """
    if not isinstance(model, keras.Model):
        raise BadType(f"model must be a Keras model, got {type(model).__name__}. Pass for example ResNet50().")
    available = stage_outputs(model)
    if stages is None:
        stages = [name for name in available if name != "stage1"] or ["stage2"]
    if isinstance(stages, str) or not isinstance(stages, Sequence) or not stages:
        raise BadType(
            f"stages must be a sequence of names, got {stages!r}. Allowed are 'stage1' to 'stage5'. "
            "Pass for example ('stage3', 'stage4', 'stage5')."
        )
    for stage in stages:
        if stage not in available:
            names = ", ".join(map(repr, available)) or "none: the model holds no layer of keras_resnet"
            raise BadValue(
                f"stages holds {stage!r}, which model {model.name!r} does not have. {suggestion(stage, available)}"
                f"Use names from: {names}."
            )
    order = [list(available).index(stage) for stage in stages]
    if order != sorted(set(order)):
        raise BadValue(
            f"stages={tuple(stages)} is out of order or names a stage twice. Each stage may stand once, in the order "
            f"of the network. Pass {tuple(list(available)[index] for index in sorted(set(order)))}."
        )
    outputs = [model.get_layer(available[stage]).output for stage in stages]
    return keras.Model(
        model.inputs[0] if len(model.inputs) == 1 else model.inputs, outputs, name=f"{model.name}_features"
    )


def feature_info(model: keras.Model) -> list[dict[str, Any]]:
    """Returns the stages of a model with their channels and strides, as detection and segmentation heads need them.

    Args:
        model: a model of this package, or one that holds its layers.

    Returns:
        For each stage, the stem first, `name`, `channels` and `stride`, in pixels of the input along each axis.

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet50(include_top=False, input_shape=(None, None, 3))
        >>> keras_resnet.feature_info(model)[-1]
        {'name': 'stage5', 'channels': 2048, 'stride': 32}
    """
    rows, stride = [], 1
    steps = {layer.name: getattr(layer, "strides", 1) for layer in model.layers if BLOCK_NAME.fullmatch(layer.name)}
    for name, last in stage_outputs(model).items():
        layer = model.get_layer(last)
        if name == "stage1":
            stride = STEMS[layer.kind].strides
        else:
            stride *= math.prod(step for block, step in steps.items() if block.startswith(f"{name}_"))
        channels = layer.output.shape[channel_axis(layer.data_format)]
        rows.append({"name": name, "channels": channels, "stride": stride})
    return rows


def dilate(model: keras.Model, output_stride: int) -> keras.Model:
    """Returns a copy of a network with finer feature maps: dilation takes the place of the last strides.

    Segmentation wants larger maps than the 1/32 of the image that a ResNet ends with. Where a block would step beyond
    the output stride, the copy does not step, and the windows behind it are dilated as much, so that they see what they
    were trained to see: at every pixel where the original has a value, the copy has the same (but for attention, whose
    means are over all pixels). Weights stay as they are, in number and names.

    Args:
        model: a flat functional network of this package, such as `ResNet50(include_top=False)`, whose shortcuts do not
            pool ("conv", "subsample" or "pad"), and that does not round to 8 bits. It stays as it is.
        output_stride: pixels of the input for one of the last feature map, such as 8 or 16.

    Output shape:
        Without the classifier `(batch, *sizes / output_stride, channels)`.

    Returns:
        A functional `keras.Model` named `<name of the model>_stride<output_stride>`, not compiled.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: it is not such a network, or none of its stages has that stride.

    Source:
        Yu et al. 2017, "Dilated Residual Networks"; Chen et al. 2017, "Rethinking Atrous Convolution for Semantic Image
        Segmentation"; the dilation of the block that would step is that of the one before, as in timm and torchvision.

    Example:
        >>> import keras_resnet
        >>> from keras_resnet.models import dilate
        >>> model = keras_resnet.ResNet18(include_top=False, input_shape=(64, 64, 3), width=8)
        >>> dilate(model, 8).output_shape
        (None, 8, 8, 64)
    """
    if not isinstance(model, keras.Model):
        raise BadType(f"model must be a Keras model, got {type(model).__name__}. Pass for example ResNet50().")
    facts = architecture_of(model)  # which refuses other models
    if facts["shortcut"] == "pool" or facts["quantized"]:
        raise BadValue(
            f"model {model.name!r} pools in its shortcuts or rounds to 8 bits. Allowed are networks that do neither. "
            "Use such a network."
        )
    check_int("output_stride", output_stride)
    allowed = sorted({row["stride"] for row in feature_info(model)})
    if output_stride not in allowed:
        raise BadValue(
            f"output_stride={output_stride} is not a stride of model {model.name!r}. Allowed are {allowed}. Use one."
        )
    stride, dilation, changes = STEMS[facts["stem"]].strides, 1, {}
    for layer in model.layers:
        if not isinstance(layer, ResidualBlock):
            continue
        before, steps = dilation, layer.strides
        if stride * steps > output_stride:
            dilation, steps = dilation * steps, 1
        stride *= steps
        if dilation > 1:
            # Up to the convolution that would step, windows read what the block before left.
            strided = layer.strided_convolution
            reach = [before if place <= strided else dilation for place in range(len(layer.branch))]
            windows = zip(layer.branch, reach, strict=True)
            dilations = [each if kernel_size > 1 else 1 for (kernel_size, _), each in windows]
            changes[layer.name] = {"strides": steps, "dilations": dilations}

    def copy(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), **changes.get(layer.name, {})})

    graph = keras.Model(model.input, model.output, name=f"{model.name}_stride{output_stride}")
    dilated = keras.models.clone_model(graph, clone_function=copy)
    dilated.set_weights(model.get_weights())
    return dilated


@keras.saving.register_keras_serializable(package="keras_resnet", name="Opened")  # its name in saved models
class WithIntermediates(keras.layers.Layer):
    """A composite layer that returns, beside its own output, those of layers inside it."""

    def __init__(self, layer: Composite, paths: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.paths = list(paths)

    def call(self, inputs: Any, training: bool | None = None) -> list[Any]:
        """Returns the outputs."""
        outputs: dict[str, Any] = {}

        def run_below(prefix: str) -> Any:
            def run(layer: keras.layers.Layer, inputs: Any, **options: Any) -> Any:
                path = f"{prefix}{layer.name}"
                if isinstance(layer, Composite):
                    outputs[path] = layer.compute(inputs, options.get("training"), run_below(f"{path}/"))
                else:
                    outputs[path] = layer(inputs, **options)
                return outputs[path]

            return run

        output = self.layer.compute(inputs, training, run_below(""))
        return [output, *(outputs[path] for path in self.paths)]

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "paths": self.paths}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "WithIntermediates":
        """Returns the layer that `get_config` describes."""
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"], custom_objects)})


def activations(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """Returns a model that shares the weights of `model` and returns the outputs of layers, those inside blocks too.

    Args:
        model: a functional model of this package, or one that holds its layers.
        names: of stages ("stage3"), of layers ("stem", "stage3_block2", "predictions"), or of layers inside them
            ("stage3_block2/conv2", "stage3_block1/shortcut/conv"); `model_info(model).layers` lists them.

    Output shape:
        A list with the output of each name, in the order of the names; for a single name that tensor alone.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: `model` is not a functional model, or `names` is not a sequence of strings.
        ValueError: a name is unknown.

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), stem="small", width=8, classes=10)
        >>> keras_resnet.activations(model, ["stage3_block2/conv2", "stage5"]).output_shape
        [(None, 16, 16, 16), (None, 4, 4, 64)]
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise BadType(f"model must be a functional Keras model, got {type(model).__name__}. Pass e.g. ResNet50().")
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise BadType(f"names must be a sequence of names, got {names!r}. Pass for example ['stage3_block2/conv2'].")
    stages = stage_outputs(model)
    layer_names = {*stages, *_names(model)}
    for name in names:
        if name not in layer_names:
            raise BadValue(
                f"names holds {name!r}, which model {model.name!r} does not have. "
                f"{suggestion(name, sorted(layer_names))}"
                "model_info(model).layers lists those that compute. Use names from there."
            )
    layers = [stages.get(name, name) for name in names]
    inputs, found = _run(model, layers)
    return keras.Model(inputs, found if len(found) > 1 else found[0], name=f"{model.name}_activations")


def _names(model: keras.Model) -> list[str]:
    """Returns the name of every layer, and the paths of those inside."""

    def below(layer: keras.layers.Layer, path: str) -> list[str]:
        inner = layer.sublayers() if isinstance(layer, Composite) else []
        return [path, *(name for child in inner for name in below(child, f"{path}/{child.name}"))]

    return [name for layer in model.layers for name in below(layer, layer.name)]


def _run(model: keras.Model, asked: list[str]) -> tuple[Any, list[Any]]:
    """Runs the layers of a functional model on new symbolic inputs; returns these, and the outputs asked for."""
    outputs: dict[str, Any] = {}

    def call(layer: keras.layers.Layer, *arguments: Any, **options: Any) -> Any:
        paths = [name.partition("/")[2] for name in asked if name.startswith(f"{layer.name}/")]
        if not paths:
            outputs[layer.name] = layer(*arguments, **options)
            return outputs[layer.name]
        # float32 or not, it computes nothing itself, and must not cast.
        opened = WithIntermediates(layer, paths, name=layer.name, dtype=layer.dtype_policy)
        outputs[layer.name], *inner = opened(*arguments, **options)
        outputs.update(zip((f"{layer.name}/{path}" for path in paths), inner, strict=True))
        return outputs[layer.name]

    copy = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    inputs = copy.inputs[0] if len(copy.inputs) == 1 else copy.inputs
    outputs.update(zip((tensor._keras_history.operation.name for tensor in model.inputs), copy.inputs, strict=True))
    return inputs, [outputs[name] for name in asked]
