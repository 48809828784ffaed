"""How outputs are read: the last activation of a model, its logits, and the probabilities that they stand for."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import choose

SMALLEST = np.finfo("float32").tiny


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, SMALLEST))


# The last activation of a model -> its outputs to logits.
LOGITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda outputs: outputs,
    "softmax": _log,
    "sigmoid": lambda outputs: _log(outputs) - _log(1 - outputs),
}
# The function that turns logits into probabilities -> logits to scores, whose softmax are the probabilities. Sigmoids
# that were trained one by one for labels that exclude each other are divided by their sum.
LOG_SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": lambda logits: logits,
    "sigmoid": lambda logits: -np.logaddexp(0.0, -logits),
}
# These hand on what they are given, in inference; the activation is the one before them.
TRANSPARENT = (keras.layers.Identity, keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)


def _last_layers(model: keras.Model) -> Any:
    """Yields the layers of a model from the last one backwards, as long as each has one input; models are entered."""
    layer: Any = model
    while True:
        if isinstance(layer, keras.Model):
            if not layer.layers:
                return
            outputs = getattr(layer, "outputs", None)
            layer = outputs[0]._keras_history.operation if outputs else layer.layers[-1]
            continue
        yield layer
        try:
            before = layer.input
        except (AttributeError, ValueError):  # a layer that was never called, or has several calls
            return
        if not hasattr(before, "_keras_history") or before._keras_history.operation is layer:
            return
        layer = before._keras_history.operation


def last_activation(model: keras.Model) -> str | None:
    """Returns the name of the activation that a model ends in, "linear" for none."""
    for layer in _last_layers(model):
        if isinstance(layer, TRANSPARENT):
            continue
        if isinstance(layer, keras.layers.Softmax):
            return "softmax"
        if isinstance(layer, keras.layers.Rescaling):  # brings regression targets into the units of the data
            return "linear"
        activation = getattr(layer, "activation", None)
        return None if activation is None else str(keras.activations.serialize(activation))
    return None


def head_of(model: keras.Model) -> str | None:
    """Returns the name of the last layer with weights, which gives a model its outputs; None where none is found."""
    return next((layer.name for layer in _last_layers(model) if getattr(layer, "weights", None)), None)


def gives_predictions(model: keras.Model) -> bool:
    """Returns whether a model ends in one row of outputs per example, and not in feature maps or pooled features."""
    outputs = getattr(model, "outputs", None) or []
    return len(outputs) == 1 and len(outputs[0].shape) == 2 and last_activation(model) is not None


def logits_of(outputs: np.ndarray, ends_in: str) -> np.ndarray:
    """Returns `(examples, classes)` logits in float64, whatever the last activation is; one output is two classes."""
    logits = to_logits(outputs, ends_in)
    return np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits


def to_logits(outputs: np.ndarray, ends_in: str) -> np.ndarray:
    """Returns logits in float64, as many as there are outputs."""
    return choose("The last activation of the model", ends_in, LOGITS)(outputs.astype("float64"))


def scores_of(logits: np.ndarray, activation: str) -> np.ndarray:
    """Returns `(examples, classes)` scores whose softmax are the probabilities of a classifier."""
    return choose("activation", activation, LOG_SCORES)(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of `(examples, classes)` logits, in their dtype."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns the probability of each class by itself, in float64."""
    return np.exp(-np.logaddexp(0.0, -logits))


def class_logits(model: keras.Model, outputs: np.ndarray, activation: str | None) -> tuple[np.ndarray, str]:
    """Returns `(examples, classes)` logits in float64, and the activation that makes probabilities of them."""
    activation = "softmax" if outputs.shape[1] == 1 else activation or "softmax"
    return logits_of(outputs, last_activation(model) or "linear"), activation


def best_classes(probabilities: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
    """Returns the most probable classes of an example, the most probable first: name, index, probability."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [{"name": names[i], "index": int(i), "probability": float(probabilities[i])} for i in order]
