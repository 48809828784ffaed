"""Sharpness-aware minimization: gradients are taken where the loss is highest nearby."""

import functools
from typing import Any

import keras

from keras_resnet.distribution.gradient_step import Gradients, GradientStep, has_plain_step
from keras_resnet.errors import BadValue


class SharpnessAwareSteps(GradientStep):
    """The steps of a model that climbs; `sharpness_aware` makes a class of them."""

    radius: float = 0.05

    def gradients_of(self: Any, data: Any) -> Gradients:
        """Returns the gradients at the end of the climb; all else is that of its beginning."""
        import tensorflow as tf

        found = super().gradients_of(data)
        variables = [variable.value for variable in self.trainable_variables]
        averages = [variable.value for variable in self.non_trainable_variables]
        kept = [tf.identity(variable) for variable in (*variables, *averages)]
        # The scale of 16-bit losses cancels: the climb has the length of the radius whatever the slopes' unit.
        length = self.radius / tf.maximum(tf.linalg.global_norm(found.slopes), 1e-12)
        for variable, slope in zip(variables, found.slopes, strict=True):
            variable.assign_add(tf.cast(slope * length, variable.dtype))
        slopes = super().gradients_of(data).slopes
        for variable, value in zip((*variables, *averages), kept, strict=True):
            variable.assign(value)
        return found._replace(slopes=slopes)


@functools.cache
def sharpness_aware(model_class: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass whose training step climbs by `radius` along the gradient, and takes the gradient there.

    It costs a second forward and backward pass. Metrics and moving averages are those of the first pass, weights are
    put back to the very bits they had. For TensorFlow. The attribute `radius` is that of the climb, in the norm of all
    weights together. Of several processes or devices the gradient is that of the whole batch, in both passes.

    Args:
        model_class: `keras.Model`, or a subclass that leaves its `train_step` as it is, or one of `in_group` or
            `on_devices`.

    Raises:
        ValueError: the class has a training step of its own, or Keras does not run on TensorFlow.

    Source:
        Foret et al. 2021, "Sharpness-Aware Minimization for Efficiently Improving Generalization", algorithm 1.
    """
    if keras.config.backend() != "tensorflow":
        raise BadValue(
            f"optimizer.sam_radius was given under the Keras backend {keras.config.backend()!r}. Its step needs "
            "TensorFlow. Set KERAS_BACKEND=tensorflow, or sam_radius to 0."
        )
    if not has_plain_step(model_class):
        raise BadValue(
            f"optimizer.sam_radius cannot be combined with model_class={model_class.__name__}. Both have a training "
            "step of their own. Leave one of them out."
        )
    return type("SharpnessAware", (SharpnessAwareSteps, model_class), {})
