"""The callbacks of a run: checks, figures of speed, the best model, history, curves, TensorBoard."""

import csv
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import keras

from keras_resnet import files
from keras_resnet.errors import BadValue
from keras_resnet.figures import draw_curves, draw_or_warn
from keras_resnet.training.losses import check_outputs
from keras_resnet.training.scoring import Monitor
from keras_resnet.training.state import Progress

if TYPE_CHECKING:
    from keras_resnet.training.optimizer import WeightAverage

# Keras's LossScaleOptimizer starts at 2**15 and halves at every overflow without a floor; 50 in a row are no accident.
SMALLEST_LOSS_SCALE = 2.0 ** (15 - 50)
# How often a run goes back, and by what its learning rate is multiplied each time.
MAX_ROLLBACKS, RATE_FACTOR = 3, 0.5


class TrainingDiverged(BadValue):
    """The loss is not finite, or the loss scale of 16-bit floats has collapsed.

    Args:
        what: happened.
        step: of the optimizer at which it was seen.
        learning_rate: at that step.
        last_finite: mean loss of an epoch so far; None where there was none.
    """

    def __init__(self, what: str, step: int, learning_rate: float, last_finite: float | None) -> None:
        last = "none" if last_finite is None else f"{last_finite:.4g}"
        super().__init__(
            f"{what} at optimizer step {step}, learning rate {learning_rate:.3g}; the last finite mean loss of an "
            f"epoch was {last}. A loss must be finite; files of earlier epochs are as they were. Lower "
            "optimizer.learning_rate or set optimizer.clip_norm, look at the data, or set train.on_divergence='back'."
        )
        self.what, self.step, self.learning_rate = what, step, learning_rate


class DeviceLogs(keras.callbacks.CallbackList):
    """Calls callbacks after a batch with the metrics as tensors: Keras's list converts them, and waits for the device.

    Callbacks of other libraries that look at batches get numbers as ever.
    """

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the callbacks in their order; of several steps in one call, `batch` is the last that was taken."""
        batch, logs, numbers = min(batch, self.params["steps"] - 1), dict(logs or {}), None
        for callback in self.callbacks:
            if type(callback).__module__.startswith("keras_resnet.") or not _looks_at_batches(callback):
                callback.on_train_batch_end(batch, logs)
            else:
                numbers = {name: float(value) for name, value in logs.items()} if numbers is None else numbers
                callback.on_train_batch_end(batch, numbers)


def _looks_at_batches(callback: keras.callbacks.Callback) -> bool:
    if isinstance(callback, keras.callbacks.TensorBoard) and callback.update_freq == "epoch":
        return False
    names, base = ("on_train_batch_end", "on_batch_end"), keras.callbacks.Callback
    return any(getattr(type(callback), name) is not getattr(base, name) or name in vars(callback) for name in names)


class FiniteLoss(keras.callbacks.Callback):
    """Counts the steps, and stops at the first whose loss is not finite, before anything is written.

    The loss is read every `EVERY` steps, at the end of an epoch, and before a state is written: a device does not wait
    for the host in every step. Where one call takes several steps, `follow` counts them inside the graph.
    """

    EVERY = 16

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.last_finite: float | None = None
        self._unread: list[tuple[Any, list[Any]]] = []  # mean loss so far, and counters of the optimizer

    def on_train_begin(self, logs: Any = None) -> None:
        """Looks for the counters of the optimizer."""
        self._unread.clear()
        self._counters = [variable for variable in self.model.optimizer.variables if variable.name == "iteration"]
        self._first = keras.Variable(0, dtype="int64", trainable=False)  # counter of the first step that was followed
        # Under JAX the variables are not up to date inside an epoch.
        self._every = self.EVERY if keras.config.backend() == "tensorflow" else 1

    def follow(self, model: keras.Model, metrics: Mapping[str, Any]) -> None:
        """Keeps the counter of the first step whose loss is not finite."""
        is_first = keras.ops.logical_and(self._first == 0, ~keras.ops.isfinite(metrics["loss"]))
        iterations = keras.ops.cast(model.optimizer.iterations, "int64")
        self._first.assign(keras.ops.where(is_first, iterations, self._first))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins to count the batches, which Keras numbers from 0."""
        self._batch = self._read = -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keeps the mean loss of the epoch so far, which a single NaN makes NaN."""
        self.progress.steps += batch - self._batch
        self._batch = batch
        counters = [keras.ops.add(counter, 0) for counter in self._counters] if self._every > 1 else []
        self._unread.append(((logs or {}).get("loss", math.nan), counters))
        if batch - self._read >= self._every:
            self._read = batch
            self.check()

    def on_test_begin(self, logs: Any = None) -> None:
        """Comes before the validation of an epoch."""
        self.check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Comes before the callbacks that write."""
        self.check()

    def check(self) -> None:
        """Raises `TrainingDiverged`, which names the first step whose loss was not finite."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        if not math.isfinite(float(unread[-1][0])):
            for loss, counters in unread:
                if not math.isfinite(float(loss)):
                    # As they were after that step, for the message.
                    first = int(self._first)
                    for variable, value in zip(self._counters, counters, strict=False):
                        variable.assign(first or value)
                    self._stop(f"The loss is {float(loss)}")
                self.last_finite = float(loss)
        self.last_finite = float(unread[-1][0])
        scale = getattr(self.model.optimizer, "dynamic_scale", None)
        if scale is not None and float(scale) < SMALLEST_LOSS_SCALE:
            self._stop(f"The gradients overflow float16 in every step (loss scale {float(scale):.1e})")

    def _stop(self, what: str) -> None:
        optimizer = self.model.optimizer
        raise TrainingDiverged(
            what,
            step=int(optimizer.iterations),
            learning_rate=float(optimizer.learning_rate),
            last_finite=self.last_finite,
        )


def rollback_of(error: TrainingDiverged, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the entry of run.json for a divergence after which a run goes back."""
    factor = RATE_FACTOR ** (len(earlier) + 1)
    return {
        "reason": error.what,
        "optimizer_step": error.step,
        "learning_rate": error.learning_rate,
        "rate_factor": factor,
    }


def rate_factor_of(rollbacks: Sequence[Mapping[str, Any]]) -> float:
    """Returns the factor of the learning rates of a run after its rollbacks."""
    return float(rollbacks[-1]["rate_factor"]) if rollbacks else 1.0


class ModelChecks(keras.callbacks.Callback):
    """Refuses a model whose last activation does not fit its loss, before the first step."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks the compiled model."""
        check_outputs(self.model)


class TotalEpochs(keras.callbacks.Callback):
    """Has Keras's bar, and every callback after it, count the epochs of the run and not those of one call of `fit`."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def set_params(self, params: dict[str, Any]) -> None:
        """Changes the dict that all callbacks share; the bar is the last of them."""
        params["epochs"] = self.epochs
        super().set_params(params)


class SameFolder(keras.callbacks.Callback):
    """Stops a run whose folder was moved or removed: what is written afterwards would make another one."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__()
        self.folder, self._identity = folder, files.identity_of(os.fspath(folder))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Comes before the callbacks that write."""
        self.check()

    def check(self) -> None:
        """Raises ValueError where the path leads to another folder, or to none."""
        if files.identity_of(os.fspath(self.folder)) != self._identity:
            raise BadValue(
                f"out={os.fspath(self.folder)!r} was moved or removed while the run wrote there. Its folder must stay "
                "where it is. Go on from the last state in the folder's new place: keras-resnet train --out NEW "
                "--resume."
            )


def save_model(model: keras.Model, path: pathlib.Path) -> None:
    """Writes a model without its optimizer, which a run keeps in `last/`.

    Keras forgets which weights an optimizer spares from decay when it saves one: a model saved with it would decay
    norms and biases in later training, in silence. The file is also a half to two thirds smaller.
    """
    if getattr(model, "inputs", None):
        policy = model.dtype_policy
        model = keras.Model(model.input, model.output, name=model.name)
        model.dtype_policy = policy
    model.save(path)


class Speed(keras.callbacks.Callback):
    """Adds learning rate, images/s and seconds of an epoch to what the history shows."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self._end: float | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._start, self._end, self._steps = time.perf_counter(), None, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the step, which a GPU may not have taken yet."""
        self._steps = batch + 1

    def on_test_begin(self, logs: Any = None) -> None:
        """Stops the clock before the validation of an epoch, when `FiniteLoss` has waited for the last step."""
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the figures of the epoch; validation counts for its seconds, not for images/s."""
        if logs is not None:
            now = time.perf_counter()
            end = now if self._end is None else self._end
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
            logs["images_per_second"] = self._steps * self.batch_size / max(end - self._start, 1e-9)
            logs["epoch_seconds"] = now - self._start


class BestModel(keras.callbacks.Callback):
    """Keeps the best model so far in a file, averaged weights where there are any, and stops when none comes.

    By default better is a lower validation loss: on a small split it tells epochs apart that have the same accuracy.
    Without validation it is the training loss.
    """

    def __init__(
        self,
        path: pathlib.Path,
        patience: int,
        progress: Progress,
        monitor: Monitor,
        average: "WeightAverage | None" = None,
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.average = average
        self.path = path
        self.patience = patience
        self.progress = progress

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compares, saves, counts."""
        logs = logs or {}
        loss = float(logs["val_loss"] if "val_loss" in logs else logs["loss"])
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The validation loss of epoch {epoch + 1} is {loss}",
                step=int(self.model.optimizer.iterations),
                learning_rate=float(self.model.optimizer.learning_rate),
                last_finite=float(logs.get("loss", math.nan)),
            )
        progress, value = self.progress, self.monitor.value(logs)
        if self.monitor.is_better(value, progress.best):
            with nullcontext() if self.average is None else self.average.in_place():
                files.write_atomically(self.path, lambda path: save_model(self.model, path))
            progress.best, progress.best_epoch, progress.waited = value, epoch + 1, 0
            return
        progress.waited += 1
        if self.patience and progress.waited >= self.patience:
            progress.stopped = True
            self.model.stop_training = True


class HistoryFile(keras.callbacks.Callback):
    """Writes history.csv, one row per epoch, and curves.png."""

    def __init__(self, folder: pathlib.Path, progress: Progress) -> None:
        super().__init__()
        self.folder = folder
        self.progress = progress

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds a row and writes the file whole."""
        self.progress.rows.append({"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}})
        write_history(self.folder, self.progress.rows)

    def on_train_end(self, logs: Any = None) -> None:
        """Draws the curves."""
        if self.progress.rows:
            draw_or_warn(self.folder / "curves.png", lambda path: draw_curves(self.progress.rows, path))


def write_history(folder: pathlib.Path, rows: list[dict[str, float]]) -> None:
    """Writes history.csv, whole or not at all."""

    def write_rows(path: pathlib.Path) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    files.write_atomically(folder / "history.csv", write_rows)


def duration(seconds: float) -> str:
    """Returns a time as a person reads it: "45 s", "3.2 min", "1.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


class EpochLines(keras.callbacks.Callback):
    """Prints one line per epoch, of at most 80 columns; at a terminal, also how far the epoch has come.

    Args:
        progress: of the run, whose last row is printed.
        epochs: of the run.
        figure: a column of the history beside the loss, such as "accuracy".
        has_bar: whether to show the steps of the epoch under way.
        remark: from the images per second of an epoch to a line to print below it, once, or to nothing; asked for the
            first epoch, which compiles the step, and the second.
    """

    def __init__(
        self, progress: Progress, epochs: int, figure: str, has_bar: bool, remark: Callable[[float], str]
    ) -> None:
        super().__init__()
        self.progress, self.epochs, self.figure, self.has_bar, self.remark = progress, epochs, figure, has_bar, remark
        self._seconds: list[float] = []
        self._shown = 0.0
        self._has_header = self._has_remark = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Prints the names of the columns, once."""
        if not self._has_header:
            figure = self.figure.replace("_", " ")
            head = f"{'epoch':>9} {'left':>8} {'loss':>8} {'val loss':>8} {figure:>9} {'val':>8}   {'images/s':>8}"
            print(f"{head}   (* best so far)")
            self._has_header = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Shows the steps, at most five times a second."""
        now = time.perf_counter()
        if self.has_bar and now - self._shown > 0.2:
            self._shown = now
            loss = f", loss {float(logs['loss']):.4f}" if logs and "loss" in logs else ""
            text = f"{self.progress.epochs + 1:>4}/{self.epochs:<4} step {batch + 1} of {self.params['steps']}{loss}"
            print(f"\r{text:<79}", end="", flush=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Prints the line of the epoch, which was saved already."""
        row = self.progress.rows[-1]
        self._seconds.append(row["epoch_seconds"])
        # The first epoch of a process compiles the step.
        recent = self._seconds[1:][-5:] or self._seconds
        seconds_left = (self.epochs - int(row["epoch"])) * sum(recent) / len(recent)

        def cell(name: str) -> str:
            return f"{row[name]:.4f}" if name in row else ""

        figures = [cell("loss"), cell("val_loss"), cell(self.figure), cell(f"val_{self.figure}")]
        mark = "*" if self.progress.best_epoch == int(row["epoch"]) else " "
        line = (
            f"{int(row['epoch']):>4}/{self.epochs:<4} {duration(seconds_left):>8} {figures[0]:>8} {figures[1]:>8} "
            f"{figures[2]:>9} {figures[3]:>8} {mark} {row['images_per_second']:>8.4g}"
        )
        print(f"\r{line:<79}".rstrip() if self.has_bar else line, flush=True)
        if len(self._seconds) <= 2 and not self._has_remark and (remark := self.remark(row["images_per_second"])):
            self._has_remark = True
            print(remark, flush=True)


class Report(keras.callbacks.Callback):
    """Tells a listener of every epoch after it was saved, and stops where the listener says so."""

    def __init__(self, listener: Callable[[int, Mapping[str, float]], Any], progress: Progress) -> None:
        super().__init__()
        self.listener = listener
        self.progress = progress

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Asks the listener."""
        if self.listener(epoch + 1, dict(self.progress.rows[-1])):
            self.progress.halted = True
            self.model.stop_training = True


def recording_callbacks(
    folder: pathlib.Path,
    *,
    batch_size: int,
    patience: int,
    monitor: Monitor,
    average: "WeightAverage | None" = None,
    progress: Progress | None = None,
    finite_loss: FiniteLoss | None = None,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks in their order: first those that stop or add figures, then those that write."""
    progress = Progress() if progress is None else progress
    return [
        ModelChecks(),
        FiniteLoss(progress) if finite_loss is None else finite_loss,
        *([] if average is None else [average]),
        Speed(batch_size),
        BestModel(folder / "best.keras", patience, progress, monitor, average),
        keras.callbacks.TensorBoard(str(folder / "logs"), write_graph=False),
        HistoryFile(folder, progress),
    ]
