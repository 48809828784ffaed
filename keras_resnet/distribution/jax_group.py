"""Several processes of JAX that train one model: Keras divides the work, and here is what they tell each other."""

import contextlib
import dataclasses
import functools
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.distribution.exit_message import exit_message
from keras_resnet.distribution.group import ALONE, LOST, Group, could_not_begin, report_late_peers, too_late
from keras_resnet.distribution.peers import find_peers
from keras_resnet.errors import BadValue

# JAX ends a process that has not heard of the others for so long.
HEARTBEAT_SECONDS = 10
# TensorFlow waits without end, and names who is late meanwhile.
MAX_WAITING_SECONDS = 7 * 24 * 3600


@dataclasses.dataclass(frozen=True, eq=False)
class JaxGroup(Group):
    """Processes whose parts of a batch Keras's `DataParallel` puts together to one array, of which each has one device.

    `strategy` is that `DataParallel`. The step is that of one process, on the whole batch.
    """

    joins_parts = True
    _places: list[Callable[[], str]] = dataclasses.field(default_factory=list)

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Returns the rows of all processes, those of the first process first."""
        from jax.experimental import multihost_utils

        # JAX cuts numbers of 64 bits to 32, so they go as two halves.
        halves = values.dtype.itemsize == 8
        sent = np.ascontiguousarray(values)[..., None].view("int32") if halves else values
        gathered = np.ascontiguousarray(multihost_utils.process_allgather(sent, tiled=True))
        return gathered.view(values.dtype)[..., 0] if halves else gathered

    def sum_of_arrays(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum over all processes."""
        return self.gather(values[None]).sum(axis=0, dtype=values.dtype)

    @contextlib.contextmanager
    def translate_peer_errors(self, place: Callable[[], str]) -> Iterator[None]:
        """Raises `PeerLost` for an error of JAX in the block, and leaves a message where JAX ends this process."""
        self._places.append(place)
        try:
            with contextlib.ExitStack() as stack:
                if len(self._places) == 1:  # one program says it for this process, whatever is inside
                    who = f"Process {self.index + 1} of {self.count}"
                    stack.enter_context(exit_message(who, lambda: self._places[-1]()))
                stack.enter_context(super().translate_peer_errors(place))
                yield
        finally:
            self._places.pop()

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Lets Keras make variables that all processes have, and divide batches, while the block runs."""
        with self.strategy.scope():
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lets Keras compute in this process alone while the block runs."""
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)


@functools.cache
def join_jax() -> Group:
    """Returns the processes of JAX that the environment names, this one among them.

    They wait for each other here, unless the program has called `keras.distribution.initialize` before.

    Raises:
        ValueError: JAX has computed already, or a process has several devices.
    """
    import jax

    peers = find_peers()
    if peers.count == 1:
        return ALONE
    print(f"distribution: {peers}", flush=True)
    if not jax.distributed.is_initialized():
        listening: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if not peers.is_first:  # the first one looks who is there, and JAX listens in that one alone
            listening = socket.create_server(("", int(peers.addresses[peers.index].rpartition(":")[2])))
        try:
            with report_late_peers(peers.addresses, peers.index), listening:
                jax.distributed.initialize(
                    peers.addresses[0],
                    peers.count,
                    peers.index,
                    initialization_timeout=MAX_WAITING_SECONDS,
                    heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                )
        except RuntimeError as error:
            if type(error).__name__ in LOST:
                raise could_not_begin(peers, error) from error
            raise too_late(error) from error
    devices = keras.distribution.list_devices()
    if len(devices) != peers.count or jax.process_count() != peers.count:
        raise BadValue(
            f"{peers.count} processes of JAX have {len(devices)} devices. Allowed is one device a process. Give each "
            "its own, on GPUs by CUDA_VISIBLE_DEVICES."
        )
    group = JaxGroup(peers, keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False))
    # Keras asks that every process draws the same seeds, those of layers that are made before a seed is set too.
    keras.utils.set_random_seed(int(group.gather(np.random.default_rng().integers(2**31, size=1))[0]))
    return group


class UnpaddedEvaluation:
    """The evaluation of a model whose batches have rows that fill them up; `without_padding` makes a class of them."""

    rows: Mapping[int, int] = {}

    def test_step(self: Any, state: Any, data: Any) -> Any:
        """Returns the metrics of the rows that count, which are the first ones."""

        def cut(values: Any) -> Any:
            return values[: self.rows.get(values.shape[0], values.shape[0])]

        return super().test_step(state, keras.tree.map_structure(cut, data))  # type: ignore[misc]


@functools.cache
def without_padding(model_class: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass of a model class whose evaluation leaves out the rows that fill batches up. For JAX.

    Args:
        model_class: `keras.Model`, or a subclass. Set `rows`: how many count, by the rows of a batch.
    """
    return type("UnpaddedEvaluation", (UnpaddedEvaluation, model_class), {})


def evaluation_size(size: int, most: int, count: int) -> int:
    """Returns how many examples a batch of evaluation has, so that its filled length says how many of them count.

    Args:
        size: examples of the split.
        most: examples in a batch.
        count: into how many equal parts each batch is divided.

    Example:
        >>> from keras_resnet.distribution.jax_group import evaluation_size
        >>> evaluation_size(1000, 256, 2), evaluation_size(1023, 256, 4), evaluation_size(100, 256, 3)
        (256, 252, 256)
    """
    if size <= most:
        return most
    # A last batch that is filled up to the length of the others would not be told from them.
    fits = (batch for batch in range(most - most % count, 0, -count) if size % batch <= batch - count)
    return next(fits, count)
