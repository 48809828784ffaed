"""What every layer and every model promises, as checks that the tests of each call."""

import inspect
import itertools
import zlib
from typing import Any

import keras
import numpy as np
import pytest

# JAX has float64 only where the user switched it on for the whole process.
# One variant for each kind of block, row of defaults and depth that differ; the zoo test walks the whole table.
VARIANTS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "resnet_rs50",
)
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16") + (("float64",) if keras.backend.backend() != "jax" else ())


def paired(*values: Any, mark: str = "slow") -> Any:
    """Parameters for the product of several lists, of which the default tier takes those that hold every pair.

    Of two lists it takes as many as the longer one has, each of the shorter in turn; of three every pair of the first
    with the second, each of the third in turn.

    Args:
        values: the lists, the longest first.
        mark: for the others.
    """
    found = []
    for places in itertools.product(*(range(len(each)) for each in values)):
        last = len(values[-1])
        kept = sum(places[:-1]) % last == places[-1] % last
        row = [each[place] for each, place in zip(values, places, strict=True)]
        found.append(pytest.param(*row, marks=[] if kept else [getattr(pytest.mark, mark)]))
    return found


def tiers(values: Any, default: Any = (), slow: Any = ()) -> Any:
    """Parameters of which some run by default, some in the slow tier, and the others in the exhaustive one.

    Args:
        values: all of them.
        default: those of the default tier.
        slow: those of the slow tier.
    """
    found = []
    for value in values:
        row = value if isinstance(value, tuple) else (value,)
        mark = [] if value in default else [pytest.mark.slow if value in slow else pytest.mark.exhaustive]
        found.append(pytest.param(*row, marks=mark))
    return found


def to_numpy(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def fill(model: keras.layers.Layer) -> None:
    """Gives every weight values that matter, the same on every backend: each is drawn by the hash of its path."""
    for weight in model.weights:
        draw = np.random.default_rng(zlib.crc32(weight.path.split("/", 1)[-1].encode()))
        kind = weight.path.rsplit("/", 1)[-1]
        if kind == "seed_generator_state":
            continue
        if kind == "kernel":
            values = draw.normal(size=weight.shape) * (2 / np.prod(weight.shape[:-1])) ** 0.5
        elif kind in ("gamma", "moving_variance"):
            values = draw.uniform(0.5, 1.5, size=weight.shape)
        elif kind in ("low", "high"):  # the ends of a range that holds 0
            values = draw.uniform(1, 2, size=weight.shape) * (1 if kind == "high" else -1)
        else:
            values = draw.normal(size=weight.shape) * 0.1
        weight.assign(values.astype("float32"))


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Every layer inside `layer`, as Keras itself tracks them."""
    return [child for child in layer._flatten_layers(include_self=False)]


def arguments_of(cls: type) -> set[str]:
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name for p in parameters if p.name != "self" and p.kind is not inspect.Parameter.VAR_KEYWORD}


def check_config(layer: keras.layers.Layer, inputs: np.ndarray) -> None:
    """The config names every argument, and a layer made from it is the same layer."""
    outputs = layer(inputs)
    fill(layer)
    outputs = to_numpy(layer(inputs, **_inference(layer)))
    config = layer.get_config()
    assert arguments_of(type(layer)) <= set(config), arguments_of(type(layer)) - set(config)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    copy(inputs)
    assert copy.get_config() == config
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(to_numpy(copy(inputs, **_inference(copy))), outputs)


def _inference(layer: keras.layers.Layer) -> dict[str, bool]:
    return {"training": False} if "training" in inspect.signature(layer.call).parameters else {}


def check_static_shape(layer: keras.layers.Layer, inputs: np.ndarray) -> None:
    """The shape said before computing is the shape computed, also where sizes are unknown."""
    outputs = layer(inputs)
    assert tuple(outputs.shape) == tuple(layer.compute_output_shape(inputs.shape))
    unknown = (None,) * (inputs.ndim - 1) + inputs.shape[-1:]
    assert tuple(layer.compute_output_shape(unknown)) == (None,) * (inputs.ndim - 1) + tuple(outputs.shape[-1:])
    symbolic = keras.Model(image := keras.Input(inputs.shape[1:]), layer(image)).output
    assert tuple(symbolic.shape[1:]) == tuple(outputs.shape[1:])


def check_dtypes(layer: keras.layers.Layer, inputs: np.ndarray, policy: str) -> None:
    """Every sublayer, however deep, computes in the policy's dtype and keeps its weights in the policy's."""
    outputs = layer(inputs)
    expected = keras.dtype_policies.get(policy)
    assert keras.backend.standardize_dtype(outputs.dtype) == expected.compute_dtype
    for child in sublayers(layer):
        assert child.compute_dtype == expected.compute_dtype, (child.path, child.compute_dtype)
        assert child.variable_dtype == expected.variable_dtype, (child.path, child.variable_dtype)


def operations_of(call, folder):
    """Returns kind of TensorFlow operation -> how many of them a call runs, its graph once built."""
    import tensorflow as tf

    from benchmarks.profile_step import busy_times

    call()
    tf.profiler.experimental.start(str(folder))
    call()
    tf.profiler.experimental.stop()
    return {kind: count for kind, (count, _) in busy_times(folder).items()}
