"""The devices or processes that train one network: which they are, and their part of the batch and of the step."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras

from keras_resnet.distribution.devices import Devices, data_parallel, mirrored, on_devices
from keras_resnet.distribution.group import Group, join
from keras_resnet.distribution.jax_group import evaluation_size, join_jax, without_padding
from keras_resnet.distribution.peers import are_named
from keras_resnet.distribution.step import StepPart, in_group
from keras_resnet.errors import BadValue

NONE, MIRRORED, MULTIWORKER, DATA_PARALLEL = "none", "mirrored", "multiworker", "data_parallel"

T = TypeVar("T")


@contextlib.contextmanager
def training_together(kind: str, is_planned: bool) -> Iterator[Group | None]:
    """Gives the processes that train together; None for one alone. An error of another one in the block is named."""
    group = None if is_planned else _group_for(kind)
    if group is not None and group.count > 1:
        with group.translate_peer_errors(lambda: "before the first step"), group.training():
            yield group
        return
    devices = devices_for(kind)
    if kind in (MIRRORED, DATA_PARALLEL):
        print(f"distribution: {devices or 'one device'}", flush=True)
    with contextlib.nullcontext() if devices is None else devices.scope():
        yield None


def _group_for(kind: str) -> Group | None:
    if kind == DATA_PARALLEL and keras.config.backend() == "jax" and are_named():
        return join_jax()
    return join() if kind == MULTIWORKER else None


def devices_for(kind: str) -> Devices | None:
    """Returns the devices of this machine that train together; None for a single one."""
    return mirrored() if kind == MIRRORED else data_parallel() if kind == DATA_PARALLEL else None


def count_of_parts(kind: str, group: Group | None) -> int:
    """Returns into how many parts a batch is divided, 1 for none."""
    if group is not None:
        return group.count
    devices = devices_for(kind)
    return 1 if devices is None else devices.count


def check_parts(kind: str, size: int, group: Group | None) -> None:
    """Raises ValueError where a batch cannot be divided into equal parts."""
    count = count_of_parts(kind, group)
    if size % count:
        near = max(size // count, 1) * count
        raise BadValue(
            f"train.batch_size={size} cannot be divided among {count} {'devices' if group is None else 'processes'}. "
            f"Allowed are multiples of {count}: it is the size of the batch of all of them. Set it to such as {near}."
        )


def parts_of_step(kind: str, group: Group | None, evaluated: int, batch_size: int, is_whole: bool) -> list[StepPart]:
    """Returns the part of the training step that several processes or devices add.

    Args:
        kind: of the distribution.
        group: the processes; None for one alone.
        evaluated: examples of the validation split.
        batch_size: with which they are evaluated.
        is_whole: whether each process is given the whole batch.
    """
    if group is not None and group.joins_parts:
        size = evaluation_size(evaluated, batch_size, group.count)
        real = (min(evaluated, size), evaluated % size)
        rows = {-(-count // group.count) * group.count: count for count in real}
        around: Any = without_padding
        return [StepPart(around, {"rows": rows})]
    # Keras's "auto" takes XLA on a GPU, which has no collective operations.
    values: dict[str, Any] = {"supports_jit": False}
    if group is not None:
        wrap: Any = in_group
        return [StepPart(wrap, {**values, "group": group, "takes_part": is_whole})]
    devices = devices_for(kind)
    if devices is None or kind != MIRRORED:
        return []
    wrap = on_devices
    return [StepPart(wrap, {**values, "devices": devices})]


def shard_of(group: Group | None, in_step: bool) -> tuple[int, int]:
    """Returns which of how many parts of a batch this process makes."""
    return (0, 1) if group is None or (in_step and not group.joins_parts) else (group.index, group.count)


def synchronize_norms(network: keras.Model, kind: str, group: Group | None) -> None:
    """Gives the batch norms of a network the statistics of the whole batch instead of those of their own part."""
    is_mirrored = kind == MIRRORED and count_of_parts(kind, group) > 1
    sees_part = is_mirrored if group is None else not group.joins_parts
    if not sees_part:
        return
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def in_all(group: Group | None, make: Callable[[], T]) -> T:
    """Calls `make` and returns its result if all processes succeed."""
    return make() if group is None else group.together(make)


def is_true(group: Group | None, check: Callable[[], bool]) -> bool:
    """Calls a function in the first process and returns its result in all."""
    return check() if group is None else bool(group.from_first(lambda: "yes" * check()))
