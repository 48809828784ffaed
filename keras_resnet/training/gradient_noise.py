"""Noise on the gradients: a section of a recipe and its part of the training step."""

import dataclasses
from typing import Any

import keras

from keras_resnet.distribution.step import Gradients, GradientStep, StepPart, has_plain_step
from keras_resnet.errors import BadValue
from keras_resnet.training import fields


@dataclasses.dataclass(frozen=True)
class GradientNoise(fields.Section):
    """Gaussian noise that falls with the steps, added to every gradient.

    Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", equation 1.
    """

    title = "gradient_noise"
    eta: float = fields.number(0.0)
    gamma: float = fields.number(0.55)

    def step_parts(self, experiment: Any) -> list[StepPart]:
        """Returns the part that adds the noise."""
        return [StepPart(self._noisy, {})] if self.eta else []

    def _noisy(self, model_class: type[keras.Model]) -> type[keras.Model]:
        if not has_plain_step(model_class):
            raise BadValue(
                f"gradient_noise.eta={self.eta:g} cannot be combined with another training step. Set it to 0."
            )
        section = self

        class Noisy(GradientStep, model_class):
            def gradients_of(self, data: Any) -> Gradients:
                """Returns the gradients of a batch with their noise."""
                result = super().gradients_of(data)
                steps = keras.ops.cast(self.optimizer.iterations, "float32")
                deviation = keras.ops.sqrt(section.eta / (1 + steps) ** section.gamma)
                noisy = [g + deviation * keras.random.normal(g.shape, dtype=g.dtype) for g in result.gradients]
                return result._replace(gradients=noisy)

        return Noisy
