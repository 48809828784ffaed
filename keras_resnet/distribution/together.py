"""The devices or processes that train one network: which they are, and their part of the batch and of the step."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_resnet.distribution.devices import Devices, data_parallel, mirrored, on_devices
from keras_resnet.distribution.group import ALONE, Group, join
from keras_resnet.distribution.jax_group import evaluation_size, join_jax, without_padding
from keras_resnet.distribution.peers import are_named
from keras_resnet.distribution.step import StepPart, in_group
from keras_resnet.errors import BadValue

NONE, MIRRORED, MULTIWORKER, DATA_PARALLEL = "none", "mirrored", "multiworker", "data_parallel"


@contextlib.contextmanager
def training_together(kind: str, is_planned: bool) -> Iterator[Group]:
    """Gives the processes that train together. An error of another one in the block is named."""
    group = ALONE if is_planned else _group_for(kind)
    if group.count > 1:
        with group.translate_peer_errors(lambda: "before the first step"), group.training():
            yield group
        return
    devices = devices_for(kind)
    if kind in (MIRRORED, DATA_PARALLEL):
        print(f"distribution: {devices or 'one device'}", flush=True)
    with contextlib.nullcontext() if devices is None else devices.scope():
        yield ALONE


def _group_for(kind: str) -> Group:
    if kind == DATA_PARALLEL and keras.config.backend() == "jax" and are_named():
        return join_jax()
    return join() if kind == MULTIWORKER else ALONE


def devices_for(kind: str) -> Devices | None:
    """Returns the devices of this machine that train together; None for a single one."""
    return mirrored() if kind == MIRRORED else data_parallel() if kind == DATA_PARALLEL else None


def count_of_parts(kind: str, group: Group) -> int:
    """Returns into how many parts a batch is divided, 1 for none."""
    if group.count > 1:
        return group.count
    devices = devices_for(kind)
    return 1 if devices is None else devices.count


def check_parts(kind: str, size: int, group: Group) -> None:
    """Raises ValueError where a batch cannot be divided into equal parts."""
    count = count_of_parts(kind, group)
    if size % count:
        near, parts = max(size // count, 1) * count, "devices" if group.count == 1 else "processes"
        raise BadValue(
            f"train.batch_size={size} cannot be divided among {count} {parts}. "
            f"Allowed are multiples of {count}: it is the size of the batch of all of them. Set it to such as {near}."
        )


def parts_of_step(kind: str, group: Group, evaluated: int, batch_size: int, is_whole: bool) -> list[StepPart]:
    """Returns the part of the training step that several processes or devices add.

    Args:
        kind: of the distribution.
        group: the processes.
        evaluated: examples of the validation split.
        batch_size: with which they are evaluated.
        is_whole: whether each process is given the whole batch.
    """
    if group.count > 1 and group.joins_parts:
        size = evaluation_size(evaluated, batch_size, group.count)
        real = (min(evaluated, size), evaluated % size)
        rows = {-(-count // group.count) * group.count: count for count in real}
        around: Any = without_padding
        return [StepPart(around, {"rows": rows})]
    # Keras's "auto" takes XLA on a GPU, which has no collective operations.
    values: dict[str, Any] = {"supports_jit": False}
    if group.count > 1:
        wrap: Any = in_group
        return [StepPart(wrap, {**values, "group": group, "takes_part": is_whole})]
    devices = devices_for(kind)
    if devices is None or kind != MIRRORED:
        return []
    wrap = on_devices
    return [StepPart(wrap, {**values, "devices": devices})]


def shard_of(group: Group, in_step: bool) -> tuple[int, int]:
    """Returns which of how many parts of a batch this process makes."""
    return (0, 1) if in_step and not group.joins_parts else (group.index, group.count)


def synchronize_norms(network: keras.Model, kind: str, group: Group) -> None:
    """Gives the batch norms of a network the statistics of the whole batch instead of those of their own part."""
    is_mirrored = kind == MIRRORED and count_of_parts(kind, group) > 1
    if not is_mirrored and group.joins_parts:
        return
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
