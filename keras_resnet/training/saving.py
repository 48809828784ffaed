"""When a state is saved: after every epoch, every so often inside it, and after a signal."""

import dataclasses
import pathlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.distribution import Group
from keras_resnet.errors import BadValue
from keras_resnet.training.checkpoint import Progress, state_variables
from keras_resnet.training.interruption import StopRequest
from keras_resnet.training.state_file import Values, copy_values, name_of, newest_first, write_state

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
        """Returns what `train.save_every` says.

        Args:
            text: "auto", "epoch", a number of steps such as "500", or a time such as "30s", "5m", "2h".

        Raises:
            ValueError: it is none of these.
        """
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

    Args:
        folder: `last/` of the run.
        progress: of the run; part of the state.
        identity: what must be the same for a resume.
        further: variables beside those of the model, such as averages of its weights.
        interval: how often inside an epoch.
        asked: says whether a signal came; None where none is looked for.
        metrics: values of the metrics of an epoch that goes on.
        kept: how many of the newest stay, beside that of the best epoch.
        further_state: what a state holds beside that, made when it is saved.
        group: processes that save at the same steps, and stop together; None for one alone.
        check: raises where nothing can be written; None for no check.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        progress: Progress,
        identity: dict[str, Any],
        further: Sequence[Any] = (),
        interval: Interval | None = None,
        asked: StopRequest | None = None,
        metrics: Sequence[np.ndarray] = (),
        kept: int = 2,
        further_state: Callable[[], dict[str, Any]] = dict,
        group: Group | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.further = further
        self.folder = folder
        self.progress = progress
        self.identity = identity
        self.interval = Interval() if interval is None else interval
        self.asked = StopRequest() if asked is None else asked
        self.metrics = metrics
        self.kept = kept
        self.further_state = further_state
        self.group = group
        self.check = check
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
        """Puts in the metrics of an epoch that was left in its middle, and starts the clock.

        Args:
            epoch: 0-based.
        """
        self._epoch, self._before = epoch, self.progress.seconds
        self._begun = time.perf_counter()
        if self.metrics:
            for variable, value in zip(self.model.metrics_variables, self.metrics, strict=True):
                variable.assign(value)
            self.metrics = ()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves where it is time, or where a signal came."""
        self.end_batch(self._first + batch + 1, self._first + self.params["steps"])

    def end_batch(self, done: int, steps: int) -> None:
        """Saves where it is time, or where a signal came.

        Args:
            done: batches of this epoch.
            steps: of a whole epoch; its end is saved after its validation.
        """
        if done >= steps:
            return
        is_due, is_to_stop = self._decide(done)
        if is_to_stop:
            self._save_inside(done)
            self.finish()
            self.asked.raise_if_asked()
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
        if self.group is None or self._agree(self.group, False)[1]:
            self.asked.raise_if_asked()

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
        if self.group is None:
            return is_due, self.asked.signal is not None
        self._left -= 1
        if self._left > 0:  # a number of steps is the same for all, a time and a signal are not
            return is_due and self.interval.steps is not None, False
        return self._agree(self.group, is_due)

    def _agree(self, group: Group, is_due: bool) -> tuple[bool, bool]:
        """Returns what the first process finds due, and whether any of them had a signal."""
        now = time.perf_counter()
        step = (now - self._agreed) / self._pause
        pause = max(1, min(MAX_BATCHES, int(AGREE_SECONDS / max(step, 1e-6))))
        agreed, is_due, self._pause = group.agree(self.asked.signal, is_due, pause)
        self._left, self._agreed = self._pause, now
        if agreed is not None:  # else one that came meanwhile is told the others the next time
            self.asked.signal = agreed
        return is_due, agreed is not None

    def _is_due(self, done: int) -> bool:
        interval = self.interval
        if interval.steps is not None:
            return done % interval.steps == 0
        if interval.seconds is None:
            return False
        least = interval.seconds if interval.share is None else max(interval.seconds, self._cost / interval.share)
        return time.perf_counter() - self._saved >= least

    def _save_inside(self, done: int) -> None:
        """Copies the state, and leaves it to a thread to write."""
        self.finish()
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
        for old in newest_first(self.folder)[self.kept :]:
            if old.name != best:
                old.unlink(missing_ok=True)
