"""Learning rates that differ from layer to layer, for networks that begin with pretrained weights."""

import functools
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.models.builder import HEAD


def layer_factors(paths: Sequence[str], layer_decay: float, body_factor: float) -> list[float]:
    """Returns by how much the rate of each variable is multiplied.

    The classifier has the factor 1, the last block `layer_decay`, the one before it its square, and so on down to the
    stem; all but the classifier have `body_factor` too.

    Args:
        paths: of the variables, such as "stage2_block1/conv1/kernel", in the order of the network.
        layer_decay: factor from a block to the one before it, in (0, 1].
        body_factor: of all but the classifier, in (0, 1].

    Source:
        Clark et al. 2020, "ELECTRA", section 3.1; blocks are counted as in timm's `param_groups_layer_decay`.

    Example:
        >>> from keras_resnet.training.rate_factors import layer_factors
        >>> layer_factors(["stem/conv1/kernel", "stage2_block1/conv1/kernel", "predictions/kernel"], 0.5, 1.0)
        [0.25, 0.5, 1.0]
    """
    layers = [path.partition("/")[0] for path in paths]
    body = list(dict.fromkeys(layer for layer in layers if layer not in (HEAD, "head_norm")))
    # The last norm of pre-activated networks belongs to the last block.
    depths = {**{layer: len(body) - place for place, layer in enumerate(body)}, "head_norm": 1}
    return [1.0 if layer == HEAD else body_factor * layer_decay ** depths[layer] for layer in layers]


@functools.cache
def with_rate_factors(optimizer_class: type[Any]) -> type[Any]:
    """Returns a subclass whose rate, and with it the decay, is multiplied by a factor for each layer.

    The attributes `layer_decay` and `body_factor` are those of `layer_factors`; `head_steps` is the number of steps, as
    the optimizer counts them, in which the classifier alone learns. Norms follow the data meanwhile, and moments the
    gradients.

    Args:
        optimizer_class: of Keras.
    """

    class WithRateFactors(optimizer_class):
        layer_decay: float = 1.0
        body_factor: float = 1.0
        head_steps: int = 0
        rate_factor: Any = None

        def build(self, variables: Any) -> None:
            """Makes the moments, and the factors of the rate."""
            super().build(variables)
            paths = [variable.path for variable in variables]
            self.factors = layer_factors(paths, self.layer_decay, self.body_factor)
            self.heads = [path.startswith(f"{HEAD}/") for path in paths]

        def _factor(self, variable: Any) -> Any:
            index = self._get_variable_index(variable)
            factor = self.factors[index]
            if not self.head_steps or self.heads[index]:
                return factor
            return factor * keras.ops.cast(self._iterations >= self.head_steps, "float32")

        def _get_current_learning_rate(self) -> Any:
            rate = super()._get_current_learning_rate()
            return rate if self.rate_factor is None else rate * self.rate_factor

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """Moves one weight and its moments."""
            super().update_step(gradient, variable, learning_rate * self._factor(variable))

        def _apply_weight_decay(self, variables: Any) -> None:
            for variable in variables:
                self.rate_factor = self._factor(variable)
                try:
                    super()._apply_weight_decay([variable])
                finally:
                    self.rate_factor = None

    WithRateFactors.__name__ = optimizer_class.__name__
    return WithRateFactors
