"""Several processes that train one run: what they check before the first step, and the folder each works in."""

import contextlib
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import keras

from keras_resnet.distribution import Group, in_group, join
from keras_resnet.errors import BadValue
from keras_resnet.training.description import RunFile, differences
from keras_resnet.training.network import StepPart
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.sections import MULTIWORKER
from keras_resnet.training.state_file import newest_first

T = TypeVar("T")


def group_for(kind: str) -> Group | None:
    """Returns the processes that train together; None for one alone.

    Args:
        kind: of `Distribution`.

    Raises:
        ValueError: as for `distribution.join`.
    """
    group = join() if kind == MULTIWORKER else None
    return None if group is None or group.count == 1 else group


def check_parts(recipe: Recipe, group: Group | None) -> None:
    """Raises ValueError where a batch cannot be divided into equal parts.

    Args:
        recipe: of the training.
        group: the processes that train together; None for one alone.
    """
    size = recipe.train.batch_size
    if group is not None and size % group.count:
        near = max(size // group.count, 1) * group.count
        raise BadValue(
            f"train.batch_size={size} cannot be divided among {group.count} processes. Allowed are multiples of "
            f"{group.count}: it is the size of the batch of all of them. Set it to such as {near}."
        )


def parts_of_group(group: Group | None, is_whole: bool) -> list[StepPart]:
    """Returns the part of the training step that a group adds.

    Args:
        group: the processes that train together; None for one alone.
        is_whole: whether each process is given whole batches, and takes its part in the step. Transforms in the step
            may mix a whole batch.
    """
    wrap: Any = in_group
    return [] if group is None else [StepPart(wrap, {"group": group, "takes_part": is_whole})]


def shard_of(group: Group | None) -> tuple[int, int]:
    """Returns which of how many parts of a batch this process makes."""
    return (0, 1) if group is None else (group.index, group.count)


def synchronize_norms(network: keras.Model, recipe: Recipe, group: Group | None) -> None:
    """Gives the batch norms of a network the statistics of the whole batch, where the recipe says so.

    Args:
        network: whose batch norms they are.
        recipe: of the training.
        group: the processes that train together; None for one alone.
    """
    if group is None or not recipe.distribution.synchronize_norms:
        return
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def in_all(group: Group | None, make: Callable[[], T]) -> T:
    """Returns what `make` returns, if it does in every process.

    Args:
        group: the processes that train together; None for one alone.
        make: raises a `UserError` where something is wrong here.
    """
    return make() if group is None else group.together(make)


def is_true(group: Group | None, check: Callable[[], bool]) -> bool:
    """Returns what the first process finds.

    Args:
        group: the processes that train together; None for one alone.
        check: looks there.
    """
    return check() if group is None else bool(group.from_first(lambda: "yes" * check()))


def check_all_same(group: Group | None, identity: Mapping[str, Any]) -> None:
    """Raises ValueError, in every process, where one would train another run than the first.

    Args:
        group: the processes that train together; None for one alone.
        identity: of the run of this process. The place of the data may differ, the data may not.
    """
    if group is None:
        return

    def compare(first: str, other: str) -> str:
        lines = differences(json.loads(first), json.loads(other))
        return "; ".join(lines).replace(" in the folder, ", " in the first, ").replace(" now", " in this one")

    told = {name: value for name, value in identity.items() if name != "data"}
    group.check_same(json.dumps(told, sort_keys=True), "a run", compare)


def find_together(group: Group | None, check: Callable[[], RunFile | None]) -> RunFile | None:
    """Returns what the first process finds in the folder of the run.

    Args:
        group: the processes that train together; None for one alone.
        check: looks there.
    """
    if group is None:
        return check()

    def find() -> str:
        found = check()
        return "" if found is None else json.dumps(found.to_dict())

    text = group.from_first(find)
    return RunFile.from_dict(json.loads(text)) if text else None


@contextlib.contextmanager
def working_folder(
    group: Group | None, hold: Callable[[], contextlib.AbstractContextManager[pathlib.Path]]
) -> Iterator[pathlib.Path]:
    """Gives the first process the folder of the run, and the others one for the time, with the files to go on from.

    The folder of the run need not be there on the machines of the others.

    Args:
        group: the processes that train together; None for one alone.
        hold: makes the folder of the run, and holds it.
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
