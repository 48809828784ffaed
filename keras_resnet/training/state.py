"""Saved states of a training: their format, when they are written, and how a run is restored from them."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import signal
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from keras_resnet import files
from keras_resnet.distribution import ALONE, Group
from keras_resnet.errors import BadValue

# Ctrl-C; what a scheduler sends before it kills; what Slurm sends with --signal=USR1; a terminal that was closed.
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Interrupted(KeyboardInterrupt):
    """A signal during `fit`: what was trained is saved, and the message says how to go on.

    Args:
        message: which says it.
        status: with which a program should exit: 130 for Ctrl-C, 143 for the others.
    """

    def __init__(self, message: str = "", status: int = INTERRUPTED) -> None:
        super().__init__(message)
        self.status = status


class StopRequest:
    """Whether a signal asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def status(self) -> int:
        """With which a program should exit."""
        return INTERRUPTED if self.signal in (None, signal.SIGINT) else TERMINATED

    def raise_if_asked(self) -> None:
        """Raises Interrupted after a signal."""
        if self.signal is not None:
            raise Interrupted(status=self.status)


@contextmanager
def stop_after_batch(is_running: Callable[[Any], bool] = lambda frame: True) -> Iterator[StopRequest]:
    """Yields an object that says whether a signal came; the second one has its usual effect.

    Handlers that a program has set itself stay in place, and so do all outside of the main thread: Python allows none.
    """
    stop_request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop_request
        return
    earlier: dict[int, Any] = {}

    def put_back() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    def handle(number: int, frame: Any) -> None:
        put_back()
        if not is_running(frame):
            signal.raise_signal(number)
            return
        stop_request.signal = number

    for name in SIGNALS:
        number = getattr(signal, name, None)  # Windows has two of them
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            earlier[number] = signal.signal(number, handle)
    try:
        yield stop_request
    finally:
        if stop_request.signal is None:
            put_back()


SUFFIX = ".safetensors"
DESCRIPTION = "keras_resnet.state"
_DIGEST = b'"sha256":"'
_ZEROS = b"0" * 64
# What the first versions wrote: a line with the sha256 of the rest, and an .npz.
_EARLIER_SUFFIX, _EARLIER_MAGIC = ".state", b"keras_resnet state 1 "
_NAME = re.compile(rf"epoch-\d{{6,9}}(-\d{{8,12}})?({re.escape(SUFFIX)}|{re.escape(_EARLIER_SUFFIX)})", re.ASCII)

# Path of a variable, its row in the description of a state, and a copy of its value.
Values = list[tuple[str, tuple[str, str, str], np.ndarray]]


class CheckpointError(BadValue):
    """No saved state can be used."""


def row_of(variable: Any) -> tuple[str, str, str]:
    """Returns name, shape and dtype of a variable, by which a resume compares.

    Not its path, in which Keras numbers the second optimizer or layer of a process.
    """
    return (variable.name, str(tuple(variable.shape)), str(variable.dtype))


def copy_values(variables: Sequence[Any]) -> Values:
    """Returns copies: what is trained meanwhile does not change them."""
    return [
        (variable.path, row_of(variable), np.array(keras.ops.convert_to_numpy(variable), copy=True))
        for variable in variables
    ]


def write_state(path: pathlib.Path, values: Values, description: dict[str, Any]) -> None:
    """Writes a state, whole or not at all."""
    tensors: dict[str, np.ndarray] = {}
    for variable_path, _, value in values:
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise CheckpointError(
                f"The variable {variable_path!r} is not finite. Such a state is never saved; earlier files are as they "
                "were. Lower optimizer.learning_rate."
            )
        # Two optimizers or averages may hold variables of one path.
        tensors[variable_path if variable_path not in tensors else f"{variable_path}#{len(tensors)}"] = value
    text = json.dumps({**description, "variables": [row for _, row, _ in values], "tensors": list(tensors)})
    content = safetensors.numpy.save(tensors, {DESCRIPTION: text, "sha256": _ZEROS.decode()})
    place = _place_of_digest(content)
    digest = hashlib.sha256(content).hexdigest().encode()

    def write(where: pathlib.Path) -> None:
        with open(where, "wb") as file:
            file.write(content[:place])
            file.write(digest)
            file.write(memoryview(content)[place + len(digest) :])

    files.write_atomically(path, write)


def read_state(path: pathlib.Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Returns `(description, values)` of a state, the values in the order in which they were written."""
    content = path.read_bytes()
    if path.suffix == _EARLIER_SUFFIX:
        with np.load(io.BytesIO(files.verify_payload(content, _EARLIER_MAGIC)), allow_pickle=False) as arrays:
            description = json.loads(arrays["description"].tobytes())
            _check_description(description)
            return description, [arrays[name] for name in sorted(set(arrays.files) - {"description"})]
    place = _place_of_digest(content)
    view = memoryview(content)
    digest = hashlib.sha256(view[:place])
    digest.update(_ZEROS)
    digest.update(view[place + len(_ZEROS) :])
    if digest.hexdigest().encode() != content[place : place + len(_ZEROS)]:
        raise ValueError("its sha256 is not the one it was written with")
    # Whatever follows is as it was written.
    (length,) = struct.unpack("<Q", content[:8])
    description = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][DESCRIPTION])
    _check_description(description)
    tensors = safetensors.numpy.load(content)
    if not set(description["tensors"]) <= set(tensors):
        raise ValueError("it lacks tensors that it names")
    return description, [tensors[name] for name in description["tensors"]]


def _check_description(description: Any) -> None:
    """Raises ValueError for a description that no training wrote: its sha256 may be right all the same."""

    def is_count(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53

    def is_number(value: Any) -> bool:
        return value is None or isinstance(value, (int, float))

    def is_row(value: Any) -> bool:
        return isinstance(value, dict) and all(map(is_number, value.values()))

    def is_list(value: Any, check: Callable[[Any], bool]) -> bool:
        return isinstance(value, list) and all(map(check, value))

    def is_variable(value: Any) -> bool:
        return is_list(value, lambda text: isinstance(text, str)) and len(value) == 3

    is_fit = isinstance(description, dict) and (
        is_count(description.get("epochs"))
        and all(is_count(description.get(name, 0)) for name in ("batches", "metrics"))
        and all(is_number(description.get(name, 1.0)) for name in ("seconds", "rate_factor"))
        and is_list(description.get("history"), is_row)
        and is_row(description.get("best"))
        and set(description["best"]) <= {"best", "best_epoch", "waited", "stopped"}
        and isinstance(description.get("identity"), dict)
        and is_list(description.get("variables"), is_variable)
        and is_list(description.get("tensors", []), lambda text: isinstance(text, str))
        and description.get("metrics", 0) <= len(description["variables"])
    )
    if not is_fit:
        raise ValueError("its description is none that a training wrote")


def _place_of_digest(content: bytes) -> int:
    """Returns the place of the digest in the header; quotes inside of metadata are escaped, so it stands there once."""
    length = int.from_bytes(content[:8], "little")
    place = content.find(_DIGEST, 8, 8 + min(length, len(content)))
    if place < 0 or place + len(_DIGEST) + len(_ZEROS) > len(content):
        raise ValueError("it does not begin as such a file does")
    return place + len(_DIGEST)


def newest_first(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the states by epoch and, inside one, by batch."""
    paths = [path for path in folder.glob("epoch-*") if _NAME.fullmatch(path.name) and path.is_file()]
    return sorted(paths, key=lambda path: [int(part) for part in path.stem.split("-")[1:]], reverse=True)


def name_of(epochs: int, batches: int = 0) -> str:
    """Returns the name of a state's file."""
    return f"epoch-{epochs:06d}{f'-{batches:08d}' * bool(batches)}{SUFFIX}"


@dataclasses.dataclass
class Progress:
    """What has happened in a run, up to the end of its last whole epoch.

    Attributes:
        epochs: that were finished and saved.
        best: the best figure so far, by which the best model is kept.
        best_epoch: in which it was reached, 1-based.
        waited: epochs since then.
        stopped: no better one came for as long as the recipe waits.
        halted: whoever follows the run asked it to stop; it can go on.
        rows: one per epoch, as in history.csv.
        batches: of the epoch after these, that were trained and saved too.
        seconds: that those batches took.
        steps: training batches that this process has run; not saved.
    """

    epochs: int = 0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    stopped: bool = False
    halted: bool = False
    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)
    batches: int = 0
    seconds: float = 0.0
    steps: int = 0

    def to_state(self) -> dict[str, Any]:
        """Returns its part of a saved state."""
        names = ("best", "best_epoch", "waited", "stopped")
        return {"epochs": self.epochs, "best": {name: getattr(self, name) for name in names}, "history": self.rows}

    def take(self, state: Mapping[str, Any]) -> None:
        """Takes over what a saved state holds."""
        self.epochs, self.rows = state["epochs"], list(state["history"])
        self.batches, self.seconds = state.get("batches", 0), state.get("seconds", 0.0)
        for name, value in state["best"].items():
            setattr(self, name, value)


def state_variables(model: keras.Model) -> list[Any]:
    """Returns every variable that training changes: weights, moving statistics, seed generators, optimizer.

    Metrics are left out: they start anew with every epoch.
    """
    of_metrics = {id(variable) for variable in model.metrics_variables}
    variables = [variable for variable in model.variables if id(variable) not in of_metrics]
    seen = {id(variable) for variable in variables}
    return variables + [variable for variable in model.optimizer.variables if id(variable) not in seen]


def _unnumbered(row: tuple[str, ...]) -> tuple[str, ...]:
    return (re.sub(r"_\d+(?=_|$)", "", row[0]), *row[1:])


def read_newest(folder: pathlib.Path) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Returns the newest whole state as `(description, values)`, or None where no epoch was ever committed."""
    paths = newest_first(folder)
    broken: list[str] = []
    for path in paths:
        try:
            description, values = read_state(path)
        except (ValueError, OSError) as error:
            broken.append(f"{os.fspath(path)} ({error})")
            continue
        if broken:
            warnings.warn(
                f"Not usable: {'; '.join(broken)}. Going on from {os.fspath(path)}, after epoch "
                f"{description['epochs']} and {description.get('batches', 0)} batches.",
                stacklevel=2,
            )
        return description, values
    if not paths:
        return None
    raise CheckpointError(
        f"No saved state is whole: {'; '.join(broken)}. A resume needs one. Start again in another folder; best.keras "
        "in this one may still be good."
    )


def restore(
    model: keras.Model, description: dict[str, Any], values: list[np.ndarray], further: Sequence[Any] = ()
) -> list[np.ndarray]:
    """Puts saved values into the variables of a model, and into `further` ones.

    Returns:
        The values of the metrics of an epoch that was left in its middle, for when it goes on; none after whole epochs.
    """
    variables = [*state_variables(model), *further]
    count = len(values) - int(description.get("metrics", 0))
    saved = [tuple(row) for row in description["variables"]][:count]
    present = [row_of(variable) for variable in variables]
    # Keras numbers the layers without a name that a process makes: "dense_3" may be "dense_4" the next time.
    if [_unnumbered(row) for row in saved] != [_unnumbered(row) for row in present]:
        differing = [f"{old} is now {new}" for old, new in zip(saved, present, strict=False) if old != new][:3]
        raise CheckpointError(
            f"The saved state has {len(saved)} variables and the model {len(present)}; differing: "
            f"{'; '.join(differing) or 'their number'}. They must be the same. Resume with the code and the versions "
            "that wrote it."
        )
    for variable, value in zip(variables, values[:count], strict=True):
        variable.assign(value)
    return values[count:]


# Processes that train together agree about so often on whether to save or to stop, and after that many batches at most.
AGREE_SECONDS, MAX_BATCHES = 0.5, 1000


@dataclasses.dataclass(frozen=True)
class Interval:
    """How often a state is saved inside an epoch.

    Attributes:
        steps: every that many; None for a time.
        seconds: every that many; None for steps. Neither: at the end of epochs alone.
        share: of the time that saving may take, which lengthens an interval in seconds; None for any.
    """

    steps: int | None = None
    seconds: float | None = None
    share: float | None = None

    @classmethod
    def of(cls, text: str) -> "Interval":
        """Parses `train.save_every`."""
        if text == "auto":
            return cls(seconds=60.0, share=0.02)
        if text == "epoch":
            return cls()
        matched = re.fullmatch(r"([1-9]\d{0,8})([smh]?)", text, re.ASCII)
        if matched is None:
            raise BadValue(
                f"train.save_every={text!r} is not an interval. Allowed are 'auto' (a minute, or longer where saving "
                "would take more than 2 % of the time), 'epoch', a number of steps such as '500', and a time such as "
                "'30s', '5m' or '2h'. Give one of these."
            )
        number, unit = int(matched[1]), matched[2]
        return cls(steps=number) if not unit else cls(seconds=number * {"s": 1.0, "m": 60.0, "h": 3600.0}[unit])


class SaveState(keras.callbacks.Callback):
    """Commits the state at the end of every epoch and every so often inside it, and after a signal.

    Inside an epoch the training stops for the copy alone; a thread writes it, one at a time, and a failure is raised at
    the next one. It is the last of the callbacks that change anything.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        progress: Progress,
        identity: dict[str, Any],
        *,
        further: Sequence[Any] = (),
        interval: Interval | None = None,
        stop_request: StopRequest | None = None,
        metrics: Sequence[np.ndarray] = (),
        max_states: int = 2,
        further_state: Callable[[], dict[str, Any]] = dict,
        group: Group = ALONE,
        check: Callable[[], None] | None = None,
        check_values: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.further = further
        self.folder = folder
        self.progress = progress
        self.identity = identity
        self.interval = Interval() if interval is None else interval
        self.stop_request = StopRequest() if stop_request is None else stop_request
        self.metrics = metrics
        self.max_states = max_states
        self.further_state = further_state
        self.group = group
        self.check = check  # before a file is written, in whatever thread
        self.check_values = check_values  # before the values are copied
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._saved = self._agreed = time.perf_counter()
        self._pause = self._left = 1  # batches until the processes of a group agree again
        self._cost = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Goes on with the metrics of an epoch that was left in its middle; Keras has just reset them."""
        self._first = self.progress.batches  # Keras counts what is left of an epoch from 0
        self.begin_epoch(epoch)

    def begin_epoch(self, epoch: int) -> None:
        """Puts in the metrics of an epoch that was left in its middle, and starts the clock."""
        self._epoch, self._before = epoch, self.progress.seconds
        self._begun, self._done = time.perf_counter(), self.progress.batches
        if self.metrics:
            for variable, value in zip(self.model.metrics_variables, self.metrics, strict=True):
                variable.assign(value)
            self.metrics = ()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves where it is time, or where a signal came."""
        self.end_batch(self._first + batch + 1, self._first + self.params["steps"])

    def end_batch(self, done: int, steps: int) -> None:
        """Saves where it is time, or where a signal came."""
        if done >= steps:
            return
        is_due, is_to_stop = self._decide(done)
        self._done = done
        if is_to_stop:
            self._save_inside(done)
            self.finish()
            self.stop_request.raise_if_asked()
        if is_due:
            self._save_inside(done)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the new state, then removes all but the newest and the best epoch's."""
        self.finish()
        self.progress.batches, self.progress.seconds = 0, 0.0
        state = {**self.progress.to_state(), "epochs": epoch + 1, "identity": self.identity, **self.further_state()}
        self._write(name_of(epoch + 1), copy_values([*state_variables(self.model), *self.further]), state)
        self.progress.epochs = epoch + 1
        self._saved = time.perf_counter()
        if self.group.count == 1 or self._agree(False)[1]:
            self.stop_request.raise_if_asked()

    def on_train_end(self, logs: Any = None) -> None:
        """Waits for the writer."""
        self.finish()

    def wait(self) -> None:
        """Waits for the writer: whoever holds the folder must not leave it before."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def finish(self) -> None:
        """Waits for the writer, and raises what failed in it."""
        self.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _decide(self, done: int) -> tuple[bool, bool]:
        """Returns whether a state is due and whether to stop, the same in all processes of a group."""
        is_due = self._is_due(done)
        if self.group.count == 1:
            return is_due, self.stop_request.signal is not None
        self._left -= 1
        if self._left > 0:  # a number of steps is the same for all, a time and a signal are not
            return is_due and self.interval.steps is not None, False
        return self._agree(is_due)

    def _agree(self, is_due: bool) -> tuple[bool, bool]:
        """Returns whether a save is due in the first process, and whether any process had a signal."""
        now = time.perf_counter()
        step = (now - self._agreed) / self._pause
        pause = max(1, min(MAX_BATCHES, int(AGREE_SECONDS / max(step, 1e-6))))
        agreed, is_due, self._pause = self.group.agree(self.stop_request.signal, is_due, pause)
        self._left, self._agreed = self._pause, now
        if agreed is not None:  # else one that came meanwhile reaches the others the next time
            self.stop_request.signal = agreed
        return is_due, agreed is not None

    def _is_due(self, done: int) -> bool:
        interval = self.interval
        if interval.steps is not None:
            return done // interval.steps > self._done // interval.steps  # one call may have taken several
        if interval.seconds is None:
            return False
        least = interval.seconds if interval.share is None else max(interval.seconds, self._cost / interval.share)
        return time.perf_counter() - self._saved >= least

    def _save_inside(self, done: int) -> None:
        """Copies the state, and leaves it to a thread to write."""
        self.finish()
        if self.check_values is not None:
            self.check_values()
        started = time.perf_counter()
        progress = self.progress
        progress.batches, progress.seconds = done, self._before + started - self._begun
        metrics = list(self.model.metrics_variables)
        state = {**progress.to_state(), "epochs": self._epoch, "identity": self.identity, "metrics": len(metrics)}
        state |= {"batches": done, "seconds": progress.seconds, **self.further_state()}
        values = copy_values([*state_variables(self.model), *self.further, *metrics])

        def write() -> None:
            try:
                self._write(name_of(self._epoch, done), values, state)
            except BaseException as error:  # raised where the training can hear it
                self._failure = error
            self._cost = time.perf_counter() - started

        self._writer = threading.Thread(target=write, name="keras_resnet state")
        self._writer.start()
        self._saved = started

    def _write(self, name: str, values: Values, state: dict[str, Any]) -> None:
        if self.check is not None:
            self.check()
        write_state(self.folder / name, values, state)
        best = name_of(self.progress.best_epoch or 0)
        for old in newest_first(self.folder)[self.max_states :]:
            if old.name != best:
                old.unlink(missing_ok=True)
