"""A layer made of layers that can be watched from outside while it computes."""

from collections.abc import Callable
from typing import Any

import keras

CallLayer = Callable[..., Any]


def run_layer(layer: keras.layers.Layer, inputs: Any, **options: Any) -> Any:
    """Returns `layer(inputs)`: how a composite calls a layer inside it, unless someone watches."""
    return layer(inputs, **options)


class Composite(keras.layers.Layer):
    """Calls each layer inside through a function that is given, so that someone may record or change what it returns.

    A subclass writes `compute` and `sublayers`.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns what the layer computes."""
        return self.compute(inputs, training, run_layer)

    def compute(self, inputs: Any, training: bool | None, call_layer: CallLayer) -> Any:
        """Returns what the layer computes.

        Args:
            inputs: of the layer.
            training: as for `call`.
            call_layer: `(layer, inputs, **options)`, called in the place of every layer inside.
        """
        raise NotImplementedError

    def sublayers(self) -> list[keras.layers.Layer]:
        """Returns the layers inside, in the order of the computation."""
        raise NotImplementedError
