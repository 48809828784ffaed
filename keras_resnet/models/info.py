"""What a model costs, counted on its built graph: parameters, multiply-adds, activation memory."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import choose
from keras_resnet.blocks import Convolution
from keras_resnet.blocks.residual import ResidualBlock
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.constructors import build
from keras_resnet.models.variants import VARIANTS
from keras_resnet.weights.adaptation import HEAD


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a layer, a stage or a model for one example.

    Attributes:
        name: of the layer, the stage or the model.
        output_shape: without the batch axis.
        parameters: all weights, moving statistics included.
        trainable_parameters: those that an optimizer changes.
        multiply_adds: multiplications, each with its addition, of convolutions and dense layers.
        activation_bytes: of the outputs of all convolutions, norms, poolings and dense layers, which a training
            step keeps for its backward pass.
    """

    name: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable_parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclasses.dataclass(frozen=True)
class ModelInfo(Cost):
    """The cost of a model, and of its stages and layers.

    Attributes:
        input_shape: without the batch axis.
        stages: one `Cost` for the stem, each stage and the head.
        layers: one `Cost` for every layer that computes, those inside blocks included.
    """

    input_shape: tuple[int, ...]
    stages: tuple[Cost, ...]
    layers: tuple[Cost, ...]

    def __str__(self) -> str:
        """Returns the table of stages."""
        header = f"{'stage':<10}{'output':>18}{'parameters':>14}{'multiply-adds':>16}{'activations':>14}"
        lines = [f"{self.name}, input {_shape(self.input_shape)}", header]
        lines += [_row(cost) for cost in (*self.stages, dataclasses.replace(self, name="total"))]
        lines.append(f"{self.trainable_parameters:,} of the parameters are trainable. Cost of one example.")
        return "\n".join(lines)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _row(cost: Cost) -> str:
    activations = f"{cost.activation_bytes / 2**20:,.1f} MiB"
    counts = f"{cost.parameters:>14,}{cost.multiply_adds:>16,}{activations:>14}"
    return f"{cost.name:<10}{_shape(cost.output_shape):>18}{counts}"


def model_info(model: str | keras.Model, *, input_shape: tuple[int, ...] | None = None, **arguments: Any) -> ModelInfo:
    """Counts what a model costs, from the built graph.

    Args:
        model: the name of a variant, or a model of this package.
        input_shape: sizes of one input without the batch axis, all known. By default the model's own, for a name
            `(224, 224, 3)`.
        **arguments: for a name: any argument of the constructor, such as `stem="small"`.

    Returns:
        The costs of the model, of its stages and of its layers.

    Raises:
        ValueError: an unknown name, or sizes that are not known.
        TypeError: `model` is neither a name nor a Keras model, or arguments were given with a model.

    Example:
        >>> import keras_resnet
        >>> info = keras_resnet.model_info("resnet18", input_shape=(32, 32, 3), stem="small", width=8)
        >>> info.trainable_parameters, info.stages[0].name, info.stages[0].output_shape
        (240752, 'stem', (32, 32, 8))
    """
    if isinstance(model, str):
        choose("model", model, VARIANTS)
        # Values do not matter for counting, and zeros are the cheapest to make.
        arguments = {"kernel_initializer": "zeros", **arguments}
        model = build(model, input_shape=input_shape, **arguments)
    elif not isinstance(model, keras.Model):
        raise BadType(f"model must be a name or a Keras model, got {type(model).__name__}. Pass e.g. 'resnet50'.")
    elif arguments:
        raise BadType(
            f"{sorted(arguments)} were given with a built model, where they have no effect. "
            "They describe a model to be built from a name. Leave them out."
        )
    elif input_shape is not None and tuple(input_shape) != tuple(model.inputs[0].shape[1:]):
        model = keras.models.clone_model(model, input_tensors=keras.Input(input_shape, dtype=model.inputs[0].dtype))
    shape = tuple(model.inputs[0].shape[1:])
    if any(size is None for size in shape):
        raise BadValue(
            f"The input shape {shape} of model {model.name!r} is not fully known. Costs are counted for known sizes. "
            "Pass input_shape=, for example (224, 224, 3)."
        )
    return _model_info(model, shape)


def _model_info(model: keras.Model, shape: tuple[int, ...]) -> ModelInfo:
    leaves: list[Cost] = []
    groups: dict[str, list[Cost]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if hasattr(layer, "sublayers"):
            costs = [_leaf_cost(leaf, path, _built_output(leaf)) for leaf, path in _leaves(layer, layer.name)]
        else:
            costs = [_leaf_cost(layer, layer.name, tuple(layer.output.shape[1:]))]
        leaves += costs
        group = _group(layer.name)
        groups.setdefault(group, []).extend(costs)
        shapes[group] = tuple(layer.output.shape[1:])
    stages = tuple(_total(name, shapes[name], costs) for name, costs in groups.items())
    total = _total(model.name, tuple(model.outputs[0].shape[1:]), leaves)
    return ModelInfo(
        **{field.name: getattr(total, field.name) for field in dataclasses.fields(Cost)},
        input_shape=shape,
        stages=stages,
        layers=tuple(leaves),
    )


def _group(layer_name: str) -> str:
    """Returns the stage that a layer of the model belongs to."""
    if match := re.fullmatch(r"(stage\d+)_block\d+", layer_name):
        return match[1]
    return "head" if layer_name.startswith("head_") or layer_name == HEAD else layer_name


def _leaves(layer: keras.layers.Layer, path: str) -> Iterator[tuple[keras.layers.Layer, str]]:
    """Yields the layers that compute, with their paths; blocks and stems name theirs by `sublayers`."""
    if not hasattr(layer, "sublayers"):
        yield layer, path
        return
    for child in layer.sublayers():
        yield from _leaves(child, f"{path}/{child.name}")


def _built_output(layer: keras.layers.Layer) -> tuple[int, ...]:
    """Returns the output shape, without the batch axis, for the input that the layer was built for."""
    built_for = layer.get_build_config()
    if not built_for:  # a drop path has nothing to build, and keeps nothing
        return ()
    return tuple(layer.compute_output_shape(tuple(built_for["input_shape"])))[1:]


def _leaf_cost(layer: keras.layers.Layer, path: str, output_shape: tuple[int, ...]) -> Cost:
    kernel = getattr(layer, "kernel", None)
    multiply_adds = math.prod(kernel.shape) if kernel is not None else 0
    if isinstance(layer, Convolution):
        channels = layer.filters
        multiply_adds *= math.prod(output_shape) // channels  # each kernel is applied at every pixel
    keeps_output = not isinstance(layer, keras.layers.Dropout)
    itemsize = np.dtype("float16" if "16" in layer.compute_dtype else layer.compute_dtype).itemsize
    return Cost(
        name=path,
        output_shape=output_shape,
        parameters=sum(math.prod(weight.shape) for weight in layer.weights),
        trainable_parameters=sum(math.prod(weight.shape) for weight in layer.trainable_weights),
        multiply_adds=multiply_adds,
        activation_bytes=math.prod(output_shape) * itemsize if keeps_output else 0,
    )


def _total(name: str, output_shape: tuple[int, ...], costs: list[Cost]) -> Cost:
    columns = ("parameters", "trainable_parameters", "multiply_adds", "activation_bytes")
    return Cost(name, output_shape, *(sum(getattr(cost, field) for cost in costs) for field in columns))


def recompute(model: keras.Model, on: bool = True) -> keras.Model:
    """Makes the residual blocks of a model recompute their inside in the backward pass, which saves memory for time.

    A training step then keeps one output a block instead of all outputs inside it, and takes about a forward pass
    longer. Its gradients, moving statistics and random draws stay the same; Keras's own `RematScope` would update the
    statistics twice. The choice is not saved with the model. Call it before `fit`, or `compile` again after it.

    Args:
        model: with residual blocks of this package, also in models nested in it.
        on: False to keep everything again.

    Returns:
        The model.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: it has no residual block.

    Source:
        Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".

    Example:
        >>> from keras_resnet import ResNet18
        >>> from keras_resnet.models import recompute
        >>> model = recompute(ResNet18(input_shape=(32, 32, 3), width=8, classes=10))
        >>> model.get_layer("stage2_block1").recomputed
        True
    """
    if not isinstance(model, keras.Model):
        raise BadType(
            f"model must be a Keras model, got {type(model).__name__}. Only models hold blocks. Pass a model."
        )
    blocks = [layer for layer in model._flatten_layers() if isinstance(layer, ResidualBlock)]
    if not blocks:
        raise BadValue(
            f"model {model.name!r} has no residual block of keras_resnet. Allowed are models of this package. Pass "
            "ResNet50() or another one."
        )
    for block in blocks:
        block.recomputed = bool(on)
    return model
