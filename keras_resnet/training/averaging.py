"""An exponential moving average of the weights of a run, the statistics of its batch norms included."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_resnet.arguments import check_fraction


class WeightAverage(keras.callbacks.Callback):
    """Averages every float variable of a model over the optimizer steps, and validates with the averages.

    The moving means and variances of batch norms belong to the weights that made them: averaged weights with the last
    raw statistics score far below either. So they are averaged alike, as timm and torchvision do; the averages that
    Keras's optimizers keep leave them out. A step that accumulates gradients, or that a loss scale skips, is not a step
    here. The decay of step n is at most (1 + n) / (10 + n), so that first weights are soon forgotten.

    When training ends the averages take the place of the weights.

    Args:
        decay: of the average per optimizer step, in (0, 1).

    Attributes:
        variables: the averages, in the order of the model's variables; empty before `build`.
        takes_place: whether the averages take the place of the weights when `fit` ends; not so between two stages.

    Source:
        Polyak and Juditsky 1992; the bound of the decay is that of `tf.train.ExponentialMovingAverage`.

    Example:
        >>> import keras, numpy as np
        >>> from keras_resnet.training import WeightAverage
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile("sgd", "mse")
        >>> average = WeightAverage(0.99)
        >>> _ = model.fit(np.ones((8, 2)), np.ones(8), callbacks=[average], verbose=0)
        >>> bool(np.array_equal(model.get_weights()[0], average.variables[0]))
        True
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = check_fraction("decay", decay, zero_included=False)
        self.variables: list[Any] = []
        self._sources: list[Any] = []
        self._counted: Any = None  # steps of the optimizer that are in the averages
        self._update: Any = None
        self.takes_place = True

    def build(self, model: keras.Model) -> None:
        """Begins the averages with the weights that a model has.

        Args:
            model: built and compiled.
        """
        of_metrics = {id(variable) for variable in model.metrics_variables}
        self._sources = [
            variable
            for variable in model.variables
            if id(variable) not in of_metrics and keras.backend.is_float_dtype(variable.dtype)
        ]
        # From a copy: a Keras variable made of a TensorFlow variable is that very variable.
        self.variables = [
            keras.Variable(
                keras.ops.convert_to_numpy(variable).copy(), dtype=variable.dtype, trainable=False, name=variable.name
            )
            for variable in self._sources
        ]
        self._counted = keras.Variable(0, dtype="int64", trainable=False, name="counted")
        self._update = _compile(self._sources, self.variables, self.decay, self._counted)

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins, or goes on from the averages that were restored."""
        if not self.variables:
            self.build(self.model)
        self._counted.assign(int(self.model.optimizer.iterations))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Takes the weights in, if the optimizer took a step."""
        _synchronize(self.model)
        self._update(self.model.optimizer.iterations)

    def on_test_begin(self, logs: Any = None) -> None:
        """Puts the averages in."""
        self._block = self.in_place()
        self._block.__enter__()

    def on_test_end(self, logs: Any = None) -> None:
        """Puts the weights back."""
        self._block.__exit__(None, None, None)

    def on_train_end(self, logs: Any = None) -> None:
        """Puts the averages in for good."""
        if self.takes_place:
            self.put()

    def put(self) -> None:
        """Gives the model the averages."""
        for source, average in zip(self._sources, self.variables, strict=True):
            source.assign(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Gives the model the averages while the block runs, and then its own weights back to the very bits."""
        raw = [keras.ops.convert_to_numpy(source).copy() for source in self._sources]
        self.put()
        try:
            yield
        finally:
            for source, value in zip(self._sources, raw, strict=True):
                source.assign(value)


def _synchronize(model: keras.Model) -> None:
    """Brings the variables of a model up to date under JAX, whose trainer keeps them elsewhere during an epoch."""
    synchronize = getattr(model, "jax_state_sync", None)
    if synchronize is not None:
        synchronize()


def _compile(sources: list[Any], averages: list[Any], decay: float, counted: Any) -> Any:
    """Returns a function of the optimizer's steps, which moves all averages towards their sources if there are new."""

    def move(share: Any) -> None:
        for source, average in zip(sources, averages, strict=True):
            average.assign(average + keras.ops.cast(share, average.dtype) * (source - average))

    if keras.config.backend() != "tensorflow":

        def update(iterations: Any) -> None:
            first, last = int(counted) + 1, int(iterations)
            if last >= first:
                move(1 - math.prod(min(decay, (1 + n) / (10 + n)) for n in range(first, last + 1)))
                counted.assign(last)

        return update
    import tensorflow as tf

    # Inside the graph, so that no step waits until the host has read how many the optimizer took.
    def update_in_graph(iterations: Any) -> None:
        iterations, before = tf.cast(iterations, "int64"), tf.cast(counted.value, "int64")

        def take_in() -> Any:
            n = tf.cast(tf.range(before + 1, iterations + 1), "float64")
            move(1 - tf.reduce_prod(tf.minimum(tf.constant(decay, "float64"), (1 + n) / (10 + n))))
            counted.assign(iterations)
            return tf.constant(0)

        tf.cond(iterations > before, take_in, lambda: tf.constant(0))

    compiled = tf.function(update_in_graph, autograph=False)
    return lambda iterations: compiled(tf.convert_to_tensor(iterations))
