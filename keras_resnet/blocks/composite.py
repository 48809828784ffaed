"""A layer made of layers that can be watched from outside while it computes."""

from collections.abc import Callable
from typing import Any

import keras

Run = Callable[..., Any]


def run_layer(layer: keras.layers.Layer, inputs: Any, **options: Any) -> Any:
    """Returns `layer(inputs)`: how a composite calls a layer inside it, unless someone watches."""
    return layer(inputs, **options)


class Composite(keras.layers.Layer):
    """Calls each layer inside through a function that is given, so that someone may record or change what it returns.

    A subclass writes `walk` and `sublayers`.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns what the layer computes."""
        return self.walk(inputs, training, run_layer)

    def walk(self, inputs: Any, training: bool | None, run: Run) -> Any:
        """Returns what the layer computes.

        Args:
            inputs: of the layer.
            training: as for `call`.
            run: `(layer, inputs, **options)`, called in the place of every layer inside.
        """
        raise NotImplementedError

    def sublayers(self) -> list[keras.layers.Layer]:
        """Returns the layers inside, in the order of the computation."""
        raise NotImplementedError
