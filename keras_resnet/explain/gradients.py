"""Gradients of a model's outputs by its inputs, on every backend, and a network cut in two at a stage."""

import functools
from typing import Any

import keras
import numpy as np

from keras_resnet.errors import BadValue
from keras_resnet.models.stages import stage_outputs


def gradients(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a model's outputs in inference, and the gradient of each example's output by its input.

    Args:
        model: one input, one output `(batch, outputs)`.
        inputs: float32.
        classes: which output of each example.

    Returns:
        `(outputs, gradients)`, the latter like `inputs`.
    """
    return GRADIENTS[keras.config.backend()](model, inputs.astype("float32"), classes)


@functools.lru_cache(maxsize=2)
def _compile(model: keras.Model) -> Any:
    """Returns the gradient as a graph, for the models used last.

    TensorFlow 2.21 with oneDNN corrupts its memory in eager gradients of convolutions of 1 or 3 examples, with this
    package's forms or its own; as a graph it does not.
    """
    import tensorflow as tf

    @tf.function
    def compute(watched: Any, places: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = model(watched, training=False)
            chosen = tf.reduce_sum(tf.gather(outputs, places, batch_dims=1))
        return outputs, tape.gradient(chosen, watched)

    return compute


def _tensorflow(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    outputs, found = _compile(model)(tf.convert_to_tensor(inputs), tf.convert_to_tensor(classes))
    return outputs.numpy(), found.numpy()


def _torch(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import torch

    watched = keras.ops.convert_to_tensor(inputs).detach().requires_grad_(True)
    outputs = model(watched, training=False)
    places = torch.as_tensor(classes, device=outputs.device).long()[:, None]
    (found,) = torch.autograd.grad(outputs.gather(1, places).sum(), watched)
    return outputs.detach().cpu().numpy(), found.cpu().numpy()


def _jax(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import jax

    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]

    def chosen(values: Any) -> tuple[Any, Any]:
        outputs, _ = model.stateless_call(trainable, others, values, training=False)
        return outputs[np.arange(len(classes)), classes].sum(), outputs

    (_, outputs), found = jax.value_and_grad(chosen, has_aux=True)(inputs)
    return np.asarray(outputs), np.asarray(found)


GRADIENTS = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}


# Of the networks cut last, so that their gradients stay compiled from one call to the next. Layers are shared, so that
# a cut network follows the weights of its model.
@functools.lru_cache(maxsize=2)
def map_layers(model: keras.Model) -> dict[str, str]:
    """Returns the layers whose feature maps methods may look at: those of the stages, or of another network the last.

    Args:
        model: a flat network of this package, or any functional or sequential model with a feature map before its head.

    Raises:
        ValueError: it has no feature map of its own.
    """
    stages = stage_outputs(model)
    if stages:
        return stages
    rank, learned, last = len(model.input_shape), False, None
    for layer in model.layers:
        learned = learned or bool(layer.weights) and not hasattr(layer, "adapt")
        shape = getattr(_output_of(model, layer), "shape", ())
        if learned and len(shape) == rank:
            last = layer.name
    if last is None or last == model.layers[-1].name:
        nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
        hint = f"Pass the network inside it, model.get_layer({nested[0]!r})." if nested else "Pass a network with one."
        raise BadValue(
            f"model {model.name!r} has no feature map between its input and its outputs. Methods look at the last "
            f"feature map before the head. {hint}"
        )
    return {"last": last}


def _output_of(model: keras.Model, layer: keras.layers.Layer) -> Any:
    """Returns what a layer gives inside a model; a nested model has an output of its own beside it."""
    if not isinstance(layer, keras.Model):
        return layer.output
    index = model.layers.index(layer)
    return model.layers[index + 1].input if index + 1 < len(model.layers) else model.output


def cut(model: keras.Model, stage: str) -> tuple[keras.Model, keras.Model]:
    """Returns the network up to a stage, and from there to the output; both share its weights.

    Args:
        model: a network whose layers behind the stage are a chain.
        stage: a key of `map_layers`.

    Raises:
        ValueError: the layers behind the stage are not a chain.
    """
    name = map_layers(model)[stage]
    middle = _output_of(model, model.get_layer(name))
    index = [layer.name for layer in model.layers].index(name)
    x = entry = keras.Input(middle.shape[1:], dtype=middle.dtype)
    before = middle
    for layer in model.layers[index + 1 :]:
        if layer.input is not before:
            raise BadValue(
                f"The layer {layer.name!r} of model {model.name!r} does not follow the one before it. Maps are drawn "
                "for networks that are a chain behind their stages, as those of this package are. Pass such a network."
            )
        x, before = layer(x), layer.output
    return keras.Model(model.inputs[0], middle), keras.Model(entry, x)
