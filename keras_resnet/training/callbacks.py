"""Callbacks of a run: checks, figures of speed, the best model, history.csv, curves.png, TensorBoard."""

import csv
import math
import os
import pathlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_resnet import files
from keras_resnet.errors import BadValue
from keras_resnet.training.losses import check_outputs
from keras_resnet.training.optimizers import inner_optimizer
from keras_resnet.training.plots import draw_curves

# Keras's LossScaleOptimizer starts at 2**15 and halves at every overflow without a floor; 50 in a row are no accident.
SMALLEST_LOSS_SCALE = 2.0 ** (15 - 50)


class TrainingDiverged(BadValue):
    """The loss is not finite, or the loss scale of 16-bit floats has collapsed."""


class ModelChecks(keras.callbacks.Callback):
    """Refuses a model whose last activation does not fit its loss, before the first step."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks the compiled model."""
        check_outputs(self.model)


class FiniteLoss(keras.callbacks.Callback):
    """Stops at the first step whose loss is not finite, before anything is written.

    Raises:
        TrainingDiverged: with step, learning rate and the last finite loss.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last_finite: float | None = None
        self.steps = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Checks the mean loss of the epoch so far, which a single NaN makes NaN."""
        self.steps += 1
        loss = float((logs or {}).get("loss", math.nan))
        if math.isfinite(loss):
            self.last_finite = loss
        else:
            self._stop(f"The loss is {loss}")
        scale = getattr(self.model.optimizer, "dynamic_scale", None)
        if scale is not None and float(scale) < SMALLEST_LOSS_SCALE:
            self._stop(f"The gradients overflow float16 in every step (loss scale {float(scale):.1e})")

    def _stop(self, what: str) -> None:
        optimizer = self.model.optimizer
        last = "none" if self.last_finite is None else f"{self.last_finite:.4g}"
        raise TrainingDiverged(
            f"{what} at optimizer step {int(optimizer.iterations)}, learning rate "
            f"{float(optimizer.learning_rate):.3g}; the last finite mean loss of an epoch was {last}. A loss must be "
            "finite; files of earlier epochs are as they were. Lower optimizer.learning_rate or set "
            "optimizer.clip_norm, and look at the data."
        )


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Puts the optimizer's averages of the weights into the model while the block runs.

    Without averages nothing changes. Values are copied, not added and subtracted as Keras's SwapEMAWeights does,
    so that training goes on with the very same bits.

    Args:
        model: compiled, with a built optimizer.
    """
    optimizer = inner_optimizer(model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    averages = optimizer._model_variables_moving_average
    raw = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables]
    for weight, average in zip(model.trainable_variables, averages, strict=True):
        weight.assign(average)
    try:
        yield
    finally:
        for weight, value in zip(model.trainable_variables, raw, strict=True):
            weight.assign(value)


def save_model(model: keras.Model, path: pathlib.Path) -> None:
    """Writes a model without its optimizer, which a run keeps in `last/`.

    Keras forgets which weights an optimizer spares from decay when it saves one: a model saved with it would decay
    norms and biases in later training, in silence. The file is also a half to two thirds smaller.

    Args:
        model: a functional or sequential model; another kind is saved as it is.
        path: ends in `.keras`.
    """
    if getattr(model, "inputs", None):
        policy = model.dtype_policy
        model = keras.Model(model.input, model.output, name=model.name)
        model.dtype_policy = policy
    model.save(path)


class ValidateAveraged(keras.callbacks.Callback):
    """Validates with averaged weights, where the optimizer keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self._block: Any = None

    def on_test_begin(self, logs: Any = None) -> None:
        """Puts the averages in."""
        self._block = averaged_weights(self.model)
        self._block.__enter__()

    def on_test_end(self, logs: Any = None) -> None:
        """Puts the weights back."""
        self._block.__exit__(None, None, None)


class Speed(keras.callbacks.Callback):
    """Adds learning rate and images/s to what the progress bar and the history show.

    Args:
        batch_size: examples a step.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._start = self._last = time.perf_counter()
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds the figures of the step."""
        self._last = time.perf_counter()
        self._steps = batch + 1
        if logs is not None:
            logs.update(self._figures())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds those of the epoch; validation counts for its seconds, not for images/s."""
        if logs is not None:
            logs.update(self._figures(), epoch_seconds=time.perf_counter() - self._start)

    def _figures(self) -> dict[str, float]:
        return {
            "learning_rate": float(self.model.optimizer.learning_rate),
            "images_per_second": self._steps * self.batch_size / max(self._last - self._start, 1e-9),
        }


class BestModel(keras.callbacks.Callback):
    """Keeps the best model so far in a file, averaged weights where there are any, and stops when none comes.

    Better is a lower validation loss: on a small split it tells epochs apart that have the same accuracy. Without
    validation it is the training loss.

    Args:
        path: of the `.keras` file.
        patience: epochs without a better one before training stops, 0 for never.
    """

    def __init__(self, path: pathlib.Path, patience: int) -> None:
        super().__init__()
        self.path = path
        self.patience = patience
        self.state: dict[str, Any] = {"best": None, "best_epoch": None, "waited": 0, "stopped": False}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compares, saves, counts."""
        logs = logs or {}
        loss = float(logs["val_loss"] if "val_loss" in logs else logs["loss"])
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The validation loss of epoch {epoch + 1} is {loss}. It must be finite; files of earlier epochs are "
                "as they were. Lower optimizer.learning_rate, and look at the data."
            )
        if self.state["best"] is None or loss < self.state["best"]:
            with averaged_weights(self.model):
                files.write_atomically(self.path, lambda path: save_model(self.model, path))
            self.state |= {"best": loss, "best_epoch": epoch + 1, "waited": 0}
            return
        self.state["waited"] += 1
        if self.patience and self.state["waited"] >= self.patience:
            self.state["stopped"] = True
            self.model.stop_training = True


class HistoryFile(keras.callbacks.Callback):
    """Writes history.csv, a row an epoch, and curves.png.

    Args:
        folder: where to.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__()
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds a row and writes the file whole."""
        self.rows.append({"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}})
        self.write()

    def on_train_end(self, logs: Any = None) -> None:
        """Draws the curves."""
        if self.rows:
            files.write_atomically(self.folder / "curves.png", lambda path: draw_curves(self.rows, path))

    def write(self) -> None:
        """Writes all rows."""

        def write_rows(path: pathlib.Path) -> None:
            with open(path, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)

        files.write_atomically(self.folder / "history.csv", write_rows)


def recording_callbacks(recipe: Any, out: str | os.PathLike) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of `Recipe.callbacks`; see there."""
    folder = make_writable(out)
    if (folder / "history.csv").exists():
        raise BadValue(
            f"out={os.fspath(out)!r} holds the history of another run. Allowed is a folder without one. "
            "Choose another folder, or move that run away."
        )
    return run_callbacks(recipe, folder)


def run_callbacks(recipe: Any, folder: pathlib.Path) -> list[keras.callbacks.Callback]:
    """Returns the callbacks in their order: first those that stop or add figures, then those that write."""
    callbacks: list[keras.callbacks.Callback] = [ModelChecks(), FiniteLoss()]
    if recipe.optimizer.ema_momentum:
        callbacks.append(ValidateAveraged())
    return [
        *callbacks,
        Speed(recipe.train.batch_size),
        BestModel(folder / "best.keras", recipe.train.early_stopping_patience),
        keras.callbacks.TensorBoard(str(folder / "logs"), write_graph=False),
        HistoryFile(folder),
    ]


def make_writable(out: str | os.PathLike) -> pathlib.Path:
    """Makes a folder where it is missing, and returns its path.

    Raises:
        ValueError: it cannot be made or written.
    """
    folder = pathlib.Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise BadValue(
            f"out={os.fspath(out)!r} cannot be written: {error.strerror}. A run needs a folder it may write to. "
            "Choose another one, or change its permissions."
        ) from error
    return folder
