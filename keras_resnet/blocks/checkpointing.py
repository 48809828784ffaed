"""Gradient checkpointing: what is inside a layer is not kept, but computed again when gradients are due."""

from typing import Any

import keras

from keras_resnet.blocks.composite import Composite, run_layer


def recomputed_call(layer: Composite, inputs: Any, training: bool | None) -> Any:
    """Returns what `layer` computes, by a function without side effects that may run a second time.

    Args:
        layer: whose inside is not kept.
        inputs: of the layer.
        training: as for its `call`.
    """
    generators = [part for part in layer._flatten_layers() if getattr(part, "seed_generator", None) is not None]
    states = [part.seed_generator.state for part in generators]
    # Copies: the second time draws what the first one drew, though the generators have moved on.
    held = [(state, state + 0) for state in states]
    if keras.config.backend() == "jax":
        # Values of a step stand in a scope around it, which the one below hides.
        held += [(variable, variable.value) for variable in layer.variables if not _is_one_of(variable, states)]
    moving = [variable for variable in layer.non_trainable_variables if not _is_one_of(variable, states)]

    def pure(x: Any) -> tuple[Any, ...]:
        with keras.StatelessScope(state_mapping=held) as scope:
            outputs = layer.compute(x, training, run_layer)
            return outputs, *(scope.get_current_value(variable) for variable in moving)

    outputs, *values = keras.remat(pure)(inputs)
    for variable, value in zip(moving, values, strict=True):
        if value is not None:
            variable.assign(value)
    for part in generators:
        part.seed_generator.next()
    return outputs


def _is_one_of(variable: Any, others: list[Any]) -> bool:
    return any(variable is other for other in others)
