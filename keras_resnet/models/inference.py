"""A model as a function for inference, with its weights as constants."""

from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.errors import BadType, BadValue


def inference_function(model: keras.Model) -> Callable[[Any], Any]:
    """Returns a model in inference as a compiled function whose weights are constants.

    On TensorFlow it is the fastest way to call a model in Python, most of all for one example: a convolution brings a
    constant kernel into the order of the processor once, and a variable in every call. What is trained later does not
    reach the function. `fuse` the model first.

    Args:
        model: with one input; what `ResNet50()`, `features()`, `fuse()` or `keras.saving.load_model` return.

    Returns:
        A function from examples `(batch, *model.input_shape[1:])`, an array or tensor of any number type, to what
        `model(examples, training=False)` returns, tensors of the backend. On TensorFlow it is a frozen graph for every
        batch size, on JAX `jax.jit` compiles anew for each batch size, on PyTorch it runs eagerly in inference mode.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: it is not built or has several inputs; from the function: examples of another shape.

    Example:
        >>> import numpy as np
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), width=8, classes=10)
        >>> classify = keras_resnet.models.inference_function(keras_resnet.fuse(model))
        >>> tuple(classify(np.zeros((4, 32, 32, 3), "uint8")).shape)
        (4, 10)
    """
    if not isinstance(model, keras.Model):
        raise BadType(
            f"model must be a Keras model, got {type(model).__name__}. Allowed is what ResNet50() or fuse() return. "
            "Pass one of these."
        )
    inputs = model.inputs if model.built and getattr(model, "inputs", None) else []
    if len(inputs) != 1:
        raise BadValue(
            f"model {model.name!r} has {len(inputs)} known inputs. Allowed are built models with one. Call it once "
            "with examples, or pass the part that takes them."
        )
    shape, dtype = (None, *inputs[0].shape[1:]), inputs[0].dtype
    run = COMPILERS[keras.config.backend()](model, shape, dtype)

    def infer(examples: Any) -> Any:
        examples = keras.ops.cast(keras.ops.convert_to_tensor(examples), dtype)
        given = tuple(examples.shape)
        if len(given) != len(shape) or any(
            None not in (have, want) and have != want for have, want in zip(given, shape, strict=True)
        ):
            raise BadValue(f"examples have the shape {given}. Allowed is {shape}, None for any size. Bring them to it.")
        return run(examples)

    return infer


def _by_tensorflow(model: keras.Model, shape: tuple[int | None, ...], dtype: str) -> Callable[[Any], Any]:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec(shape, dtype, name="images")
    traced = tf.function(lambda examples: model(examples, training=False), input_signature=[spec])
    concrete = traced.get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    outputs = concrete.structured_outputs
    return lambda examples: tf.nest.pack_sequence_as(outputs, tf.nest.flatten(frozen(examples)))


def _by_jax(model: keras.Model, shape: tuple[int | None, ...], dtype: str) -> Callable[[Any], Any]:
    import jax

    # As values, which later training does not change; JAX arrays are never written to.
    weights = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    call = jax.jit(lambda *state: model.stateless_call(*state, training=False)[0])
    return lambda examples: call(weights, others, examples)


def _by_torch(model: keras.Model, shape: tuple[int | None, ...], dtype: str) -> Callable[[Any], Any]:
    import torch

    # Keras would read the variables as they are at the time of the call.
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())

    def run(examples: Any) -> Any:
        with torch.inference_mode():
            return copy(examples, training=False)

    return run


# Keras backend -> what makes a function of a model, the shape and the dtype of its input.
COMPILERS = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}
