"""Several devices of one machine in one process: each takes its part of every batch, and the step is that of one."""

import contextlib
import dataclasses
import functools
from typing import Any

import keras

from keras_resnet.distribution.step import DRAWS, Gradients, GradientStep, check_plain_step
from keras_resnet.errors import BadValue


@dataclasses.dataclass(frozen=True, eq=False)
class Devices:
    """Devices that train together.

    Attributes:
        names: of the devices, as TensorFlow or Keras call them.
        strategy: TensorFlow's MirroredStrategy, or Keras's DataParallel on JAX.
    """

    names: tuple[str, ...]
    strategy: Any

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.names)

    def __str__(self) -> str:
        """Returns a one-line summary."""
        return f"{self.count} devices of this machine: {', '.join(self.names)}"

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context in which Keras divides batches by itself, on JAX; on TensorFlow it changes nothing."""
        return self.strategy.scope() if keras.config.backend() == "jax" else contextlib.nullcontext()


@functools.cache
def mirrored() -> Devices | None:
    """Returns the devices that TensorFlow sees, its GPUs or else its processors; None for a single one.

    Raises:
        ValueError: Keras does not run on TensorFlow.
    """
    _check_backend("mirrored", "tensorflow", "data_parallel")
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = tuple(device.name.removeprefix("/device:") for device in devices)
    return Devices(names, tf.distribute.MirroredStrategy(names)) if len(names) > 1 else None


@functools.cache
def data_parallel() -> Devices | None:
    """Returns the devices that JAX sees; None for a single one.

    Raises:
        ValueError: Keras does not run on JAX, or JAX runs in several processes.
    """
    _check_backend("data_parallel", "jax", "mirrored")
    import jax

    if jax.process_count() > 1:
        raise BadValue(
            f"distribution.kind='data_parallel' was given in one of {jax.process_count()} processes of JAX, and "
            "nothing names them. Allowed are the variable TF_CONFIG or a start by srun, or one process. Set TF_CONFIG."
        )
    names = tuple(keras.distribution.list_devices())
    if len(names) == 1:
        return None

    class DataParallel(keras.distribution.DataParallel):
        def get_data_layout(self, data_shape: Any) -> Any:
            """Returns how a batch lies on the devices: whole on each where it cannot be divided, as a last one may."""
            if data_shape and data_shape[0] % len(names):
                return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
            return super().get_data_layout(data_shape)

    return Devices(names, DataParallel(devices=list(names)))


def _check_backend(kind: str, wanted: str, other: str) -> None:
    backend = keras.config.backend()
    if backend != wanted:
        advice = f", or set distribution.kind={other!r}" * (backend in ("tensorflow", "jax"))
        raise BadValue(
            f"distribution.kind={kind!r} was given, and Keras runs on {backend!r}. Allowed is the backend {wanted!r}. "
            f"Set KERAS_BACKEND{advice}."
        )


class DeviceSteps(GradientStep):
    """The steps of a model on several devices; `on_devices` makes a class of them."""

    devices: Devices | None = None

    def gradients_of(self: Any, data: Any) -> Gradients:
        """Returns the gradients of the whole batch, of which each device computes its part."""
        import tensorflow as tf

        devices = self.devices
        assert devices is not None
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        parts = [None if part is None else tf.split(part, devices.count) for part in (images, labels, weights)]
        variables = [variable.value for variable in self.trainable_variables]
        state = [variable.value for variable in self.non_trainable_variables]
        is_float = [variable.dtype.startswith("float") for variable in self.non_trainable_variables]
        seeds = _places_of_seeds(self)

        def take() -> Any:
            index = _index()
            mine = [None if part is None else part[index] for part in parts]
            # The first device has the draws that it would have alone.
            own = [value + _shift(index, value) if i in seeds else value for i, value in enumerate(state)]
            with tf.GradientTape() as tape:
                tape.watch(variables)
                with keras.StatelessScope(_mapping(self, variables, own)) as scope:
                    outputs = self(mine[0], training=True)
                    # Inside a strategy Keras divides it by the number of devices: their sum is that of the batch.
                    loss = self._compute_loss(
                        x=mine[0], y=mine[1], y_pred=outputs, sample_weight=mine[2], training=True
                    )
                scaled = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            after = [_after(scope, variable) for variable in self.non_trainable_variables]
            # Of their changes, so that what does not move keeps its very bits.
            moved = [
                (now - old) / devices.count for now, old, floats in zip(after, state, is_float, strict=True) if floats
            ]
            sums = _replica().all_reduce("SUM", [*gradients, loss, *moved])
            return list(sums), outputs, [now for now, floats in zip(after, is_float, strict=True) if not floats]

        sums, outputs, counters = devices.strategy.run(take)
        sums = [_first(devices, value) for value in sums]
        gradients, loss, moved = sums[: len(variables)], sums[len(variables)], sums[len(variables) + 1 :]
        changes, counted = iter(moved), iter(counters)
        for variable, old, floats in zip(self.non_trainable_variables, state, is_float, strict=True):
            variable.assign(old + next(changes) if floats else _first(devices, next(counted)))
        return Gradients(gradients, loss, images, labels, _joined(devices, outputs), weights)

    def test_step(self: Any, data: Any) -> Any:
        """Returns the metrics of the whole batch."""
        import tensorflow as tf

        devices = self.devices
        assert devices is not None
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        size = tf.shape(images)[0]
        part = -(-size // devices.count)
        mapping = [variable.value for variable in self.trainable_variables]
        state = [variable.value for variable in self.non_trainable_variables]

        def take() -> Any:
            # Where a batch cannot be divided, its last example fills the last parts up.
            rows = tf.minimum(_index() * part + tf.range(part), size - 1)
            with keras.StatelessScope(_mapping(self, mapping, state)):
                return self(tf.gather(images, rows), training=False)

        outputs = _joined(devices, devices.strategy.run(take))[:size]
        loss = self._compute_loss(x=images, y=labels, y_pred=outputs, sample_weight=weights, training=False)
        self._loss_tracker.update_state(loss, sample_weight=size)
        return self.compute_metrics(images, labels, outputs, weights)


@functools.cache
def on_devices(model_class: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass of a model class whose steps several devices of this machine take together.

    The weights lie on the first device, from which the others get them in each step. Gradients are summed before
    anything is done with them, so that clipping, accumulation, loss scales and every optimizer see those of the whole
    batch. Moving means and variances become the mean over the devices. Set `devices`. For TensorFlow.

    Args:
        model_class: `keras.Model`, or a subclass that leaves its steps as they are.

    Raises:
        ValueError: the class has its own training step.
    """
    check_plain_step(model_class, "mirrored")
    return type("OnDevices", (DeviceSteps, model_class), {})


def _replica() -> Any:
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def _index() -> int:
    """Returns which device is traced, 0-based."""
    import tensorflow as tf

    return int(tf.get_static_value(_replica().replica_id_in_sync_group))


def _first(devices: Devices, value: Any) -> Any:
    return devices.strategy.experimental_local_results(value)[0]


def _joined(devices: Devices, value: Any) -> Any:
    import tensorflow as tf

    return tf.concat(devices.strategy.experimental_local_results(value), axis=0)


def _mapping(model: keras.Model, trainable: Any, others: Any) -> list[tuple[Any, Any]]:
    pairs = (
        zip(model.trainable_variables, trainable, strict=True),
        zip(model.non_trainable_variables, others, strict=True),
    )
    return [pair for each in pairs for pair in each]


def _after(scope: Any, variable: Any) -> Any:
    value = scope.get_current_value(variable)
    return variable.value if value is None else value


def _places_of_seeds(model: Any) -> set[int]:
    """Returns which of a model's non-trainable variables are states of its seed generators."""
    states = {id(seed.state) for layer in model._flatten_layers() for seed in layer._seed_generators}
    return {place for place, variable in enumerate(model.non_trainable_variables) if id(variable) in states}


def _shift(index: int, value: Any) -> Any:
    return keras.ops.convert_to_tensor([0, index * DRAWS], value.dtype)
