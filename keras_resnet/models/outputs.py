"""What the outputs of a model mean: its last activation, its logits, and its outputs for every example of a split."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import choose
from keras_resnet.errors import BadValue

# The activations that turn logits into probabilities, and what undoes each: the logarithm of a probability is a logit.
SMALLEST = np.finfo("float32").tiny
PROBABILITIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": lambda outputs: np.log(np.maximum(outputs, SMALLEST)),
    "sigmoid": lambda outputs: np.log(np.maximum(outputs, SMALLEST)) - np.log(np.maximum(1 - outputs, SMALLEST)),
}
LOGITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"linear": lambda outputs: outputs, **PROBABILITIES}
# These hand on what they are given, in inference; the activation is the one before them.
TRANSPARENT = (keras.layers.Identity, keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)


def last_activation(model: keras.Model) -> str | None:
    """Returns the name of the activation that a model ends in, "linear" for none.

    Args:
        model: a Keras model; a model nested at its end is looked into.

    Returns:
        None where the last layer has no say, such as a pooling.
    """
    layer: Any = model
    while isinstance(layer, (keras.Model, *TRANSPARENT)):
        if isinstance(layer, keras.Model):
            if not layer.layers:
                return None
            outputs = getattr(layer, "outputs", None)
            layer = outputs[0]._keras_history.operation if outputs else layer.layers[-1]
        else:
            layer = layer.input._keras_history.operation
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return None if activation is None else str(keras.activations.serialize(activation))


def logits_of(model: keras.Model, outputs: np.ndarray) -> np.ndarray:
    """Returns `(examples, classes)` logits in float64, whatever the last activation is; one output is two classes.

    Args:
        model: a classifier.
        outputs: what it returned, `(examples, classes)`.

    Raises:
        ValueError: it ends in neither logits nor probabilities.
    """
    activation = last_activation(model) or "linear"
    logits = choose("The last activation of the model", activation, LOGITS)(outputs.astype("float64"))
    return np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of `(examples, classes)` logits, in their dtype."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def predict_all(model: keras.Model, batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns a model's outputs and the labels for every example of finite batches, each once and in order.

    Args:
        model: takes images as the batches hold them.
        batches: `(images, labels)` pairs, such as `dataset.batches("test", 64)`.

    Returns:
        `(outputs, labels)`: float32 `(examples, outputs)`, and the labels as they come.

    Raises:
        ValueError: there is no example.
    """
    outputs, labels = [], []
    size = 0
    for images, batch_labels in batches:
        images, batch_labels = np.asarray(images), np.asarray(batch_labels)
        examples = len(images)
        size = size or examples
        if examples < size:
            # A smaller last batch is filled up and cut again: one shape means one compiled function.
            images = np.concatenate([images, np.repeat(images[:1], size - examples, axis=0)])
        outputs.append(np.asarray(model.predict_on_batch(images))[:examples].astype("float32"))
        labels.append(batch_labels)
    if not outputs:
        raise BadValue("batches holds no example. A score needs at least one. Choose another split.")
    return np.concatenate(outputs), np.concatenate(labels)
