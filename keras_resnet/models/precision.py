"""The precision of a model: which dtype it computes in, a float32 copy, and a warning of slow 16-bit floats."""

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_resnet.errors import BadType, BadValue
from keras_resnet.memory import instructions

HALF_PRECISION = ("bfloat16", "float16")

# Dtype -> the flags of /proc/cpuinfo of processors that compute in it.
INSTRUCTIONS = {"bfloat16": {"avx512_bf16", "amx_bf16"}, "float16": {"avx512_fp16", "amx_fp16"}}


def warn_of_slow_floats(policy: Any) -> None:
    """Warns once a process where a policy computes in a dtype that this processor only emulates, on TensorFlow."""
    if policy.compute_dtype in INSTRUCTIONS and keras.config.backend() == "tensorflow":
        _warn_once(policy.compute_dtype)


def is_fast(dtype: str) -> bool:
    """Returns True if this machine has instructions for a 16-bit dtype, and Keras runs on TensorFlow.

    Args:
        dtype: "bfloat16" or "float16".
    """
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(instructions() & INSTRUCTIONS[dtype]) or bool(tf.config.list_physical_devices("GPU"))


@functools.cache
def _warn_once(dtype: str) -> None:
    if instructions() and not is_fast(dtype):
        warnings.warn(
            f"This processor has no instructions for {dtype} that TensorFlow may use: a policy that computes in it "
            "runs, at less than half the speed of float32. Use float32 here, mixed_bfloat16 on a CPU with BF16 "
            "instructions, or a GPU.",
            stacklevel=5,
        )


def compute_dtype(model: keras.Model) -> str:
    """Returns the dtype in which the layers of a model compute.

    `model.dtype_policy` does not say: Keras does not save the policy of a model, only those of its layers, and a loaded
    model reports the global policy.

    Args:
        model: a Keras model; models nested in it are searched too.

    Returns:
        "bfloat16" or "float16" if any layer computes in it, as under the mixed policies; else the dtype of the first
        layer with weights, such as "float32".

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), width=4, dtype="mixed_bfloat16")
        >>> keras_resnet.models.compute_dtype(model)
        'bfloat16'
    """
    dtypes = [layer.compute_dtype for layer in leaf_layers(model) if layer.weights]
    half = [dtype for dtype in dtypes if dtype in HALF_PRECISION]
    return str([*half, *dtypes, model.compute_dtype][0])


def leaf_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model and of the models nested in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaf_layers(layer)
        else:
            yield layer


def to_float32(model: keras.Model) -> keras.Model:
    """Returns a copy of a model that computes in float32 with the same weights.

    A model trained under a mixed policy holds float32 weights and rounds them in every call; the copy does not round.
    Runtimes without 16-bit arithmetic need it.

    Args:
        model: a functional or sequential model. It stays as it is and shares no variable with the copy.

    Returns:
        A model of the same kind and name, not compiled, in which every layer has the policy "float32".

    Raises:
        TypeError: `model` is not a Keras model.
        ValueError: it is neither functional nor sequential, or not built.

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), width=4, dtype="mixed_float16")
        >>> keras_resnet.models.compute_dtype(keras_resnet.models.to_float32(model))
        'float32'
    """
    if not isinstance(model, keras.Model):
        raise BadType(f"model must be a Keras model, got {type(model).__name__}. Pass for example ResNet50().")
    if not (model.built and getattr(model, "inputs", None)):
        raise BadValue(
            f"model {model.name!r} is not a built functional or sequential model. Only their layers can be copied. "
            "Build it first, or pass the functional model inside it."
        )
    copies: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if not isinstance(layer, keras.layers.Layer):  # a bare operation of keras.ops
            return type(layer).from_config(config)
        counterpart = type(layer).from_config({**config, "dtype": "float32"})
        copies.append((layer, counterpart))
        return counterpart

    graph = model if isinstance(model, keras.Sequential) else keras.Model(model.input, model.output, name=model.name)
    copied = keras.models.clone_model(graph, clone_function=copy, recursive=True)
    for original, counterpart in copies:
        copy_weights(original, counterpart)
    return copied


def copy_weights(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Gives the copy of a layer its weights."""
    copy.set_weights(layer.get_weights())
    # As in a load, for layers that derive from their weights what they compute with (keras.layers.Normalization).
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    copy.load_own_variables(store)
