"""A training that diverges: noticed at the step, and stopped or taken back to its last good state with a lower rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_resnet.errors import BadValue
from keras_resnet.training.checkpoint import Progress

# Keras's LossScaleOptimizer starts at 2**15 and halves at every overflow without a floor; 50 in a row are no accident.
SMALLEST_LOSS_SCALE = 2.0 ** (15 - 50)
# How often a run goes back, and by what its learning rate is multiplied each time.
MAX_SETBACKS, RATE_FACTOR = 3, 0.5


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


class FiniteLoss(keras.callbacks.Callback):
    """Counts the steps, and stops at the first whose loss is not finite, before anything is written.

    Args:
        progress: of the run, which counts.

    Raises:
        TrainingDiverged: with step, learning rate and the last finite loss.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.last_finite: float | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Checks the mean loss of the epoch so far, which a single NaN makes NaN."""
        self.progress.steps += 1
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
        raise TrainingDiverged(
            what,
            step=int(optimizer.iterations),
            learning_rate=float(optimizer.learning_rate),
            last_finite=self.last_finite,
        )


def setback_of(error: TrainingDiverged, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what run.json holds of a divergence after which a run goes back.

    Args:
        error: which says where.
        earlier: those before it.
    """
    factor = RATE_FACTOR ** (len(earlier) + 1)
    return {
        "reason": error.what,
        "optimizer_step": error.step,
        "learning_rate": error.learning_rate,
        "rate_factor": factor,
    }


def rate_factor_of(setbacks: Sequence[Mapping[str, Any]]) -> float:
    """Returns by what the learning rates of a run are multiplied after its setbacks.

    Args:
        setbacks: of the run.
    """
    return float(setbacks[-1]["rate_factor"]) if setbacks else 1.0
