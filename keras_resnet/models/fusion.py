"""A network for inference: every batch norm that follows a convolution folded into that convolution."""

import itertools
from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.blocks import Convolution, QuantizedDense, Shortcut, Stem
from keras_resnet.blocks.convolution import fold
from keras_resnet.blocks.residual import VERSIONS, ResidualBlock
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.precision import copy_weights, leaf_layers

FOLDABLE = (Stem, ResidualBlock, Shortcut)
# A subclass that leaves these as they are, such as a block with another `branch`, folds as its base does.
COMPUTING = ("build", "call", "compute", "sublayers")


def fuse(model: keras.Model) -> keras.Model:
    """Returns a copy of `model` for inference that computes the same with fewer operations.

    In inference a batch norm multiplies and shifts each channel by constants. Where it follows a convolution, the
    copy holds them in that convolution's kernel and bias (computed in float64, stored in the weights' dtype) and has
    no norm there. Under "v1" and "v1.5" that is every norm. Under "v2" the first norm of a block, and `head_norm`,
    read a sum of branch and shortcut and stay; `norm2` and `norm3` are folded into the convolution before them.

    The copy is for inference. It is not compiled and all of it is frozen (`trainable=False`), because the folded
    norms can neither take the statistics of a batch nor learn: called with `training=True`, as `fit` does, it
    computes with the constants, and warns. Train the original, then fuse again.

    Args:
        model: a functional or sequential Keras model with layers of this package, also in models nested in it; what
            `ResNet50()`, `features()` or `keras.saving.load_model` return. It stays as it is and shares no variable
            with the copy. Other layers are copied as they are.

    Input shape:
        That of `model`.

    Output shape:
        That of `model`.

    Returns:
        A functional `keras.Model` named `<name of the model>_fused`, whose layers have the names and dtype policies
        of the original's; but under a 16-bit policy stem and blocks of "v1" and "v1.5" keep their kernels in 16 bits,
        rounded once instead of in every call, which halves the file and is faster. In float64 its outputs differ by
        less than 1e-11 of the largest output. In float32 they are as near as rounding allows: within 1e-5 where each
        block adds a small branch to its shortcut, as trained blocks do, and farther (1e-3) only where random weights
        make the original's own float32 outputs differ as much from its float64 ones. It is saved and loaded as any
        model of this package.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: it is not built, is neither functional nor sequential, holds no stem, block or shortcut of this
            package, or a subclass of one that computes something else, or is fused already.

    Source:
        Jacob et al. 2018, "Quantization and Training of Neural Networks", section 3.2.

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), width=8, classes=10)
        >>> fused = keras_resnet.fuse(model)
        >>> fused.name, len(fused.weights), len(model.weights)
        ('resnet18_fused', 42, 102)
    """
    fused = fold_norms(model, "_fused", without_norms)
    fused.trainable = False
    return fused


def fold_norms(
    model: keras.Model, suffix: str, copy_layer: Callable[[Any], Any], call_function: Callable[..., Any] | None = None
) -> keras.Model:
    """Returns a copy of a model with norms folded into the convolutions before them.

    Args:
        model: as for `fuse`.
        suffix: of the name of the copy.
        copy_layer: from a layer to its counterpart, not built yet, of the same variables but for norms and biases.
        call_function: as `keras.models.clone_model` takes it.
    """
    _check(model)
    copies: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []

    def copy(node: Any) -> Any:
        counterpart = copy_layer(node)
        if isinstance(node, keras.layers.Layer):  # and not a bare operation of keras.ops
            copies.append((node, counterpart))
        return counterpart

    # Its own model on the same graph: it has the new name and no optimizer, losses and metrics to copy.
    is_sequential = isinstance(model, keras.Sequential)
    inputs, outputs = (model.inputs[0], model.outputs[0]) if is_sequential else (model.input, model.output)
    graph = keras.Model(inputs, outputs, name=f"{model.name}{suffix}")
    fused = keras.models.clone_model(graph, clone_function=copy, call_function=call_function, recursive=True)
    for original, counterpart in copies:
        if isinstance(original, FOLDABLE):
            _fold_weights(original, counterpart)
        elif isinstance(counterpart, QuantizedDense):
            weights = original.get_weights()
            counterpart.set_weights([*weights, *counterpart.get_weights()[len(weights) :]])
        else:
            copy_weights(original, counterpart)
    fused.dtype_policy = model.dtype_policy
    return fused


def _check(model: keras.Model) -> None:
    if not isinstance(model, keras.Model):
        raise BadType(
            f"model must be a Keras model, got {type(model).__name__}. Only models hold layers to fuse. "
            "Pass for example ResNet50(), or what keras.saving.load_model returns."
        )
    if not model.built:
        raise BadValue(
            f"model {model.name!r} is not built. Only a built model has weights to fold. Build it, train it or load "
            "its weights first."
        )
    if not getattr(model, "inputs", None):
        raise BadValue(
            f"model {model.name!r} is a {type(model).__name__}, whose graph is not known. Allowed are functional and "
            "sequential models. Fuse the functional model inside it."
        )
    layers = [layer for layer in leaf_layers(model) if isinstance(layer, FOLDABLE) and getattr(layer, "norm", True)]
    if not layers:
        raise BadValue(
            f"model {model.name!r} holds no layer of keras_resnet with norms to fold. Allowed are models with its "
            "stem and blocks. Pass for example ResNet50()."
        )
    for layer in layers:
        _check_computes_as_its_base(layer)
    fused = [layer.name for layer in layers if getattr(layer, "fused", False)]
    if fused:
        raise BadValue(
            f"model {model.name!r} is fused already: its layer {fused[0]!r} has no norms left to fold. A model is "
            "fused once. Use it as it is, or fuse the original again."
        )


def _check_computes_as_its_base(layer: keras.layers.Layer) -> None:
    base = next(base for base in FOLDABLE if isinstance(layer, base))
    own = [name for name in COMPUTING if getattr(type(layer), name) is not getattr(base, name)]
    if own:
        raise BadValue(
            f"layer {layer.name!r} is a {type(layer).__name__}, whose {own[0]}() is not that of {base.__name__}. "
            "Allowed are subclasses that set `branch` alone: what the norms of others compute is not known here. Use "
            "the model as it is."
        )


def without_norms(layer: keras.layers.Layer, **arguments: Any) -> keras.layers.Layer:
    """Returns a new layer, not built yet, of the same configuration but for its norms and further arguments."""
    config = {**layer.get_config(), **arguments}
    if isinstance(layer, (Stem, ResidualBlock)):
        config["fused"] = True
        if not VERSIONS[layer.version].preactivation:
            # No norm is left, whose statistics need 32 bits: what would be rounded in every call is rounded once.
            config["dtype"] = layer.compute_dtype
    elif isinstance(layer, Shortcut):
        config.update(norm_epsilon=None, use_bias=True)
    return type(layer).from_config(config)


def _fold_weights(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Gives the copy of a stem, block or shortcut its weights; the norms that it lacks go into its convolutions."""
    targets = {child.name: child for child in copy.sublayers()}
    for child, following in itertools.pairwise([*layer.sublayers(), None]):
        if isinstance(child, Convolution):
            is_folded = following is not None and following.name not in targets
            kernel, bias = fold(child, following if is_folded else None)
            targets[child.name].kernel.assign(kernel)
            targets[child.name].bias.assign(bias)
        elif isinstance(child, Shortcut):
            _fold_weights(child, targets[child.name])
        elif child.name in targets:
            targets[child.name].set_weights(child.get_weights())


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
        example_shape = tuple(examples.shape)
        if len(example_shape) != len(shape) or any(
            None not in (have, want) and have != want for have, want in zip(example_shape, shape, strict=True)
        ):
            raise BadValue(
                f"examples have the shape {example_shape}. Allowed is {shape}, None for any size. Bring them to it."
            )
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
