"""Several devices or processes that train one run: what they check first, and the folder each process works in."""

import contextlib
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import data as datasets
from keras_resnet import preprocessing
from keras_resnet.data import Dataset
from keras_resnet.distribution import (
    Devices,
    Group,
    are_named,
    data_parallel,
    evaluation_size,
    in_group,
    join,
    join_jax,
    mirrored,
    on_devices,
    without_padding,
)
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.batch_transforms import BatchOperation
from keras_resnet.training.folder import RunFile, differences
from keras_resnet.training.network import StepPart
from keras_resnet.training.recipe import DATA_PARALLEL, MIRRORED, MULTIWORKER, Recipe
from keras_resnet.training.scoring import EVALUATION_BATCH_SIZE
from keras_resnet.training.state import newest_first


def evaluation_batches(
    dataset: datasets.Dataset,
    record: preprocessing.InputRecord,
    weights: Mapping[int, float] | None,
    group: Group | None,
) -> Any:
    """Returns the batches of the validation split; None if there is no split."""
    size = dataset.sizes.get("validation")
    if not size:
        return None
    shard = (0, 1) if group is None else (group.index, group.count)
    sizes = datasets.sizing(record, dataset.image_shape)
    joins = group is not None and group.joins_parts
    most = evaluation_size(size, EVALUATION_BATCH_SIZE, shard[1]) if joins else EVALUATION_BATCH_SIZE
    batches = dataset.batches("validation", most, shard=shard, **sizes)
    if weights is None and (group is None or joins):
        return batches
    table = None
    if weights is not None:
        table = tf.constant([weights[label] for label in range(len(weights))], tf.float32)
    counts = _which_count(size, shard)

    def weighted(step: Any, batch: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        images, labels, *own = batch
        weight = own[0] if own else tf.ones(tf.shape(labels)[:1])
        weight = weight if table is None else tf.gather(table, labels)
        if group is not None and not joins:
            weight = tf.where(counts[step][: tf.shape(labels)[0]], weight, -1.0)
        return images, labels, weight

    return batches.enumerate().map(weighted)


def _which_count(size: int, shard: tuple[int, int]) -> Any:
    """Returns for each row of each of a process's validation batches whether it is its own."""
    index, count = shard
    part = -(-EVALUATION_BATCH_SIZE // count)
    mask = np.zeros((-(-size // EVALUATION_BATCH_SIZE), part), bool)
    for step in range(len(mask)):
        rows = min(EVALUATION_BATCH_SIZE, size - step * EVALUATION_BATCH_SIZE)
        mine = -(-rows // count)
        mask[step, :mine] = index * mine + np.arange(mine) < rows
    return tf.constant(mask)


def shrink_to(size: tuple[int, int]) -> BatchOperation:
    """Returns the layer that shrinks the images of a batch, after they were augmented at full size."""

    def shrink(images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        images = keras.ops.cast(images, "float32")
        return keras.ops.image.resize(images, size, antialias=True, data_format="channels_last"), labels

    return shrink


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


def count_of_parts(recipe: Recipe, group: Group | None) -> int:
    """Returns into how many parts a batch is divided, 1 for none."""
    if group is not None:
        return group.count
    devices = devices_for(recipe.distribution.kind)
    return 1 if devices is None else devices.count


def check_parts(recipe: Recipe, group: Group | None) -> None:
    """Raises ValueError where a batch cannot be divided into equal parts."""
    size, count = recipe.train.batch_size, count_of_parts(recipe, group)
    if size % count:
        near = max(size // count, 1) * count
        raise BadValue(
            f"train.batch_size={size} cannot be divided among {count} {'devices' if group is None else 'processes'}. "
            f"Allowed are multiples of {count}: it is the size of the batch of all of them. Set it to such as {near}."
        )


def parts_of_step(recipe: Recipe, group: Group | None, dataset: Dataset, is_whole: bool) -> list[StepPart]:
    """Returns the part of the training step that several processes or devices add."""
    if group is not None and group.joins_parts:
        evaluated = dataset.sizes.get("validation", 0)
        size = evaluation_size(evaluated, EVALUATION_BATCH_SIZE, group.count)
        real = (min(evaluated, size), evaluated % size)
        rows = {-(-count // group.count) * group.count: count for count in real}
        around: Any = without_padding
        return [StepPart(around, {"rows": rows})]
    # Keras's "auto" takes XLA on a GPU, which has no collective operations.
    values: dict[str, Any] = {"supports_jit": False}
    if group is not None:
        wrap: Any = in_group
        return [StepPart(wrap, {**values, "group": group, "takes_part": is_whole})]
    devices = devices_for(recipe.distribution.kind)
    if devices is None or recipe.distribution.kind != MIRRORED:
        return []
    wrap = on_devices
    return [StepPart(wrap, {**values, "devices": devices})]


def shard_of(group: Group | None, in_step: bool) -> tuple[int, int]:
    """Returns which of how many parts of a batch this process makes."""
    return (0, 1) if group is None or (in_step and not group.joins_parts) else (group.index, group.count)


def synchronize_norms(network: keras.Model, recipe: Recipe, group: Group | None) -> None:
    """Gives the batch norms of a network the statistics of the whole batch, where the recipe says so."""
    is_mirrored = recipe.distribution.kind == MIRRORED and count_of_parts(recipe, group) > 1
    sees_part = is_mirrored if group is None else not group.joins_parts
    if not recipe.distribution.synchronize_norms or not sees_part:
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


def check_all_same(group: Group | None, identity: Mapping[str, Any]) -> None:
    """Raises ValueError, in every process, where one would train another run than the first."""
    if group is None:
        return

    def compare(first: str, other: str) -> str:
        lines = differences(json.loads(first), json.loads(other))
        return "; ".join(lines).replace(" in the folder, ", " in the first, ").replace(" now", " in this one")

    settings = {name: value for name, value in identity.items() if name != "data"}
    group.check_same(json.dumps(settings, sort_keys=True), "a run", compare)


def find_together(group: Group | None, check: Callable[[], RunFile | None]) -> RunFile | None:
    """Checks the folder of the run in the first process, and returns the result in all."""
    if group is None:
        return check()

    def find() -> str:
        result = check()
        return "" if result is None else json.dumps(result.to_dict())

    text = group.from_first(find)
    return RunFile.from_dict(json.loads(text)) if text else None


@contextlib.contextmanager
def working_folder(
    group: Group | None, hold: Callable[[], contextlib.AbstractContextManager[pathlib.Path]]
) -> Iterator[pathlib.Path]:
    """Gives the first process the folder of the run, and the others one for the time, with the files to go on from.

    The folder of the run need not be there on the machines of the others.
    """
    with contextlib.ExitStack() as stack:
        if group is None:
            yield stack.enter_context(hold())
            return
        temporary = tempfile.TemporaryDirectory(prefix="keras_resnet-", ignore_cleanup_errors=True)
        mine: Any = hold() if group.is_first else temporary
        folder = pathlib.Path(group.together(lambda: stack.enter_context(mine)))
        states = [f"last/{path.name}" for path in newest_first(folder / "last")]
        names = [name for name in ("run.json", "best.keras", *states) if (folder / name).is_file()]
        group.send_files(folder, names)
        yield folder
