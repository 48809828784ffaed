"""The training step and its parts, and one that several processes take together, each its part of the batch."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_resnet.distribution.group import ALONE, Group
from keras_resnet.errors import BadValue


class Gradients(NamedTuple):
    """What a batch says.

    Attributes:
        gradients: the gradient of the scaled loss by each trainable variable.
        loss: of the batch.
        images: what the metrics get as the input.
        labels: of the batch.
        outputs: of the network.
        weights: of the examples; None where all count alike.
    """

    gradients: list[Any]
    loss: Any
    images: Any
    labels: Any
    outputs: Any
    weights: Any


class GradientStep:
    """Keras's training step on TensorFlow, for classes that stand before a model class."""

    def gradients_of(self: Any, data: Any) -> Gradients:
        """Returns the gradients of a batch; the network's moving averages and seeds move on."""
        import tensorflow as tf

        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self(images, training=True)
            loss = self.compute_loss(x=images, y=labels, y_pred=outputs, sample_weight=weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in self.trainable_variables])
        return Gradients(gradients, loss, images, labels, outputs, weights)

    def train_step(self: Any, data: Any) -> Any:
        """Takes one step and returns the metrics of the whole batch."""
        import tensorflow as tf

        result = self.gradients_of(data)
        self.optimizer.apply_gradients(zip(result.gradients, self.trainable_variables, strict=True))
        self._loss_tracker.update_state(result.loss, sample_weight=tf.shape(result.labels)[0])
        return self.compute_metrics(result.images, result.labels, result.outputs, result.weights)


class SeveralSteps:
    """The steps of a model of which one call takes several; `several_steps` makes a class of them.

    Attributes:
        followers: called inside the graph after every step, with the model and the metrics.
    """

    followers: tuple[Callable[[keras.Model, Mapping[str, Any]], None], ...] = ()

    def train_step(self: Any, data: Any) -> Any:
        """Takes one step, and lets the followers look at it."""
        metrics = super().train_step(data)  # type: ignore[misc]
        for follow in self.followers:
            follow(self, metrics)
        return metrics


@functools.cache
def several_steps(model_class: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass of a model class whose steps can be followed inside the graph."""
    return type("SeveralSteps", (SeveralSteps, model_class), {})


def in_executions(model: keras.Model, most: int, steps: int) -> Callable[[Any], Any]:
    """Returns a train function for epochs of `steps` steps, that takes up to `most` of them in a call.

    Keras takes as many in every call: in the last one of an epoch those of the next epoch too.
    """
    functions: dict[int, Callable[[Any], Any]] = {}
    steps_left = steps

    def train_function(iterator: Any) -> Any:
        nonlocal steps_left
        count = min(most, steps_left)
        steps_left = steps_left - count or steps
        model.steps_per_execution = count  # which is read when the function is traced
        try:
            if count not in functions:
                model.make_train_function(force=True)
                functions[count], model.train_function = model.train_function, train_function
            return functions[count](iterator)
        finally:
            model.steps_per_execution = most

    return train_function


def has_plain_step(model_class: type[keras.Model]) -> bool:
    """Returns whether the training step of a class is Keras's, or one of those here."""
    return model_class.train_step in (keras.Model.train_step, GradientStep.train_step)


@dataclasses.dataclass(frozen=True)
class StepPart:
    """A part of a training step that is not Keras's own: a subclass of any model class, and what it needs to know.

    The next one, such as distillation, is one more of these; parts are put around one another.

    Attributes:
        wrap: from a model class to a subclass with another `train_step`; it refuses one that it cannot go around.
        values: attribute -> value, set on the model.
    """

    wrap: Callable[[type[keras.Model]], type[keras.Model]]
    values: Mapping[str, Any]


def with_step_parts(network: keras.Model, model_class: type[keras.Model], parts: Sequence[StepPart]) -> keras.Model:
    """Returns a network whose training step is that of `model_class` inside the parts, the last one outermost."""
    if model_class is keras.Model and not parts:
        return network
    for part in parts:
        model_class = part.wrap(model_class)
    own = model_class(network.input, network.output, name=network.name)
    own.dtype_policy = network.dtype_policy
    for name, value in (pair for part in parts for pair in part.values.items()):
        setattr(own, name, value)
    return own


# Far more than a run draws: the streams of two processes do not meet.
DRAWS = 2**24


class GroupSteps(GradientStep):
    """The steps of a model in a group; `in_group` makes a class of them."""

    group: Group = ALONE
    takes_part = False

    def gradients_of(self: Any, data: Any) -> Gradients:
        """Returns the gradients of the whole batch, of which this process computes its part."""
        import tensorflow as tf

        group = self.group
        if self.takes_part:
            data = keras.tree.map_structure(lambda rows: tf.split(rows, group.count)[group.index], data)
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        variables = [variable.value for variable in self.trainable_variables]
        moving = [variable for variable in self.non_trainable_variables if variable.dtype.startswith("float")]

        def take(images: Any, labels: Any, weights: Any) -> Any:
            before = [tf.identity(variable.value) for variable in moving]
            with tf.GradientTape() as tape:
                with own_draws(group.index):
                    outputs = self(images, training=True)
                # Inside a strategy Keras divides it by the number of processes: their sum is that of the batch.
                loss = self._compute_loss(x=images, y=labels, y_pred=outputs, sample_weight=weights, training=True)
                scaled = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            # Of their changes, so that what does not move keeps its very bits.
            moved = [(now.value - old) / group.count for now, old in zip(moving, before, strict=True)]
            sums = group.sum_of([*gradients, loss, *moved])
            rows = group.rows_of([outputs, labels, *([] if weights is None else [weights])])
            return sums, rows, before

        sums, (outputs, labels, *weighted), before = group.strategy.run(take, (images, labels, weights))
        gradients, loss, moved = sums[: len(variables)], sums[len(variables)], sums[len(variables) + 1 :]
        for variable, old, change in zip(moving, before, moved, strict=True):
            variable.assign(old + change)
        return Gradients(gradients, loss, images, labels, outputs, weighted[0] if weighted else None)

    def test_step(self: Any, data: Any) -> Any:
        """Returns the metrics of the whole batch; rows of a negative weight fill up the parts, and do not count."""
        import tensorflow as tf

        group = self.group

        def take(images: Any, labels: Any, weights: Any) -> Any:
            return group.rows_of([self(images, training=False), labels, weights])

        outputs, labels, weights = group.strategy.run(take, keras.utils.unpack_x_y_sample_weight(data))
        outputs, labels, weights = (tf.boolean_mask(rows, weights >= 0) for rows in (outputs, labels, weights))
        loss = self._compute_loss(x=None, y=labels, y_pred=outputs, sample_weight=weights, training=False)
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(labels)[0])
        return self.compute_metrics(None, labels, outputs, weights)


@functools.cache
def in_group(model_class: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass of a model class whose steps are taken by all processes of a group together.

    Gradients are summed before anything is done with them, so that clipping, accumulation, loss scales and every
    optimizer see those of the whole batch. Moving means and variances become the mean over the processes. Losses and
    metrics are those of the whole batch, in every process. Set `group`; the weights must be equal at the beginning.

    Args:
        model_class: `keras.Model`, or a subclass that leaves its steps as they are.

    Raises:
        ValueError: the class has its own training step.
    """
    check_plain_step(model_class, "multiworker")
    return type("InGroup", (GroupSteps, model_class), {})


def check_plain_step(model_class: type[keras.Model], kind: str) -> None:
    """Raises ValueError where a model class has its own training step, which several cannot take together."""
    if model_class.train_step is not keras.Model.train_step:
        raise BadValue(
            f"distribution.kind={kind!r} cannot be combined with model_class={model_class.__name__}, whose training "
            "step is its own. Allowed is Keras's. Leave one of them out."
        )


@contextlib.contextmanager
def own_draws(index: int) -> Iterator[None]:
    """Gives the layers of a network draws of this process's own while the block runs; their seeds move on alike."""
    if not index:
        yield
        return
    generator = keras.random.SeedGenerator
    next_of_all = generator.next

    def next_of_mine(self: Any, ordered: bool = True) -> Any:
        state = next_of_all(self, ordered)
        return state + keras.ops.convert_to_tensor([0, index * DRAWS], state.dtype)

    generator.next = next_of_mine
    try:
        yield
    finally:
        generator.next = next_of_all
