"""The learning rate of a run: its section of a recipe and its schedules, Keras's where Keras has them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_resnet.arguments import check_float, check_int
from keras_resnet.training import fields
from keras_resnet.training.scoring import Monitor

# Smith & Topin 2017 as PyTorch's OneCycleLR sets it: where the cycle starts and ends, as fractions of its peak.
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


@keras.saving.register_keras_serializable(package="keras_resnet")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises to a peak and falls far below the start, both along a half cosine.

    Args:
        peak: the highest learning rate, > 0.
        steps: optimizer steps of the whole cycle, >= 2; the last value holds afterwards.
        peak_at: where the peak stands, as a fraction of the steps, in (0, 1).
        name: of the schedule.

    Source:
        Smith and Topin 2017, "Super-Convergence"; the shape and the constants are those of PyTorch's OneCycleLR.

    Example:
        >>> from keras_resnet.training import OneCycle
        >>> schedule = OneCycle(peak=1.0, steps=101, peak_at=0.3)
        >>> round(float(schedule(0)), 4), round(float(schedule(29)), 3), round(float(schedule(100)), 7)
        (0.04, 1.0, 4e-06)
    """

    def __init__(self, peak: float, steps: int, peak_at: float = 0.3, name: str = "OneCycle") -> None:
        super().__init__()
        self.peak = check_float("peak", peak, minimum=0.0, minimum_included=False)
        self.steps = check_int("steps", steps, minimum=2)
        self.peak_at = check_float(
            "peak_at", peak_at, minimum=0.0, maximum=1.0, minimum_included=False, maximum_included=False
        )
        self.name = name

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of an optimizer step, counted from 0."""
        # As PyTorch counts: the peak falls on step `peak_at * steps - 1`, the end on step `steps - 1`.
        rise = max(self.peak_at * self.steps - 1, 0.5)
        position = keras.ops.minimum(keras.ops.cast(step, "float32"), self.steps - 1.0)
        rising = _half_cosine(ONE_CYCLE_START, 1.0, position / rise)
        falling = _half_cosine(1.0, ONE_CYCLE_END, (position - rise) / (self.steps - 1 - rise))
        return self.peak * keras.ops.where(position <= rise, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {"peak": self.peak, "steps": self.steps, "peak_at": self.peak_at, "name": self.name}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Raises the learning rate of another schedule step by step from nearly nothing to its full height.

    Source:
        Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2.
    """

    def __init__(self, schedule: Any, steps: int, name: str = "Warmup") -> None:
        super().__init__()
        self.schedule = schedule
        self.steps = check_int("steps", steps)
        self.name = name

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of an optimizer step, counted from 0."""
        share = (keras.ops.cast(step, "float32") + 1) / self.steps
        return self.schedule(step) * keras.ops.minimum(share, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "steps": self.steps, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Warmup":
        """Returns the schedule that `get_config` describes."""
        return cls(**{**config, "schedule": keras.optimizers.schedules.deserialize(config["schedule"])})


def _half_cosine(start: float, end: float, fraction: Any) -> Any:
    return end + (start - end) * 0.5 * (1 + keras.ops.cos(math.pi * fraction))


def _constant(schedule: "Schedule", peak: float, steps: int) -> Any:
    return peak


def _step(schedule: "Schedule", peak: float, steps: int) -> Any:
    # Keras keeps a value up to and including its boundary; the lower rate is to begin with the step itself.
    boundaries = [max(round(milestone * steps) - 1, 0) for milestone in schedule.milestones]
    values = [peak * schedule.step_factor**power for power in range(len(boundaries) + 1)]
    built = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    warmup_steps = round(schedule.warmup * steps)
    return Warmup(built, warmup_steps) if warmup_steps else built


def _cosine(schedule: "Schedule", peak: float, steps: int) -> Any:
    warmup_steps = round(schedule.warmup * steps)
    decay_steps = max(steps - warmup_steps, 1)
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(peak, decay_steps, alpha=schedule.final_fraction)
    # The first step already moves: at 0 it would be a step for nothing.
    return keras.optimizers.schedules.CosineDecay(
        peak / warmup_steps,
        decay_steps,
        alpha=schedule.final_fraction,
        warmup_target=peak,
        warmup_steps=warmup_steps,
    )


def _cosine_restarts(schedule: "Schedule", peak: float, steps: int) -> Any:
    return keras.optimizers.schedules.CosineDecayRestarts(
        peak,
        max(round(schedule.first_cycle * steps), 1),
        t_mul=schedule.cycle_growth,
        alpha=schedule.final_fraction,
    )


def _one_cycle(schedule: "Schedule", peak: float, steps: int) -> Any:
    return OneCycle(peak, max(steps, 2), schedule.peak_at)


def _polynomial(schedule: "Schedule", peak: float, steps: int) -> Any:
    return keras.optimizers.schedules.PolynomialDecay(peak, steps, peak * schedule.final_fraction, schedule.power)


class RateOnPlateau(keras.callbacks.ReduceLROnPlateau):
    """Keras's own, which knows the epochs before a resume: its counters follow from them."""

    def __init__(self, past: Sequence[Mapping[str, float]] = (), **options: Any) -> None:
        super().__init__(**options)
        self.past = list(past)
        self.is_begun = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Counts the epochs before; later, in a training of several sizes of images, nothing."""
        if self.is_begun:
            return
        self.is_begun = True
        super().on_train_begin(logs)
        rate = float(self.model.optimizer.learning_rate)
        for epoch, row in enumerate(self.past):
            super().on_epoch_end(epoch, dict(row))
        self.model.optimizer.learning_rate = rate  # as it was saved


SCHEDULES: dict[str, fields.Choice] = {
    "constant": fields.Choice(_constant),
    "step": fields.Choice(_step, ("warmup", "milestones", "step_factor")),
    "cosine": fields.Choice(_cosine, ("warmup", "final_fraction")),
    "cosine_restarts": fields.Choice(_cosine_restarts, ("final_fraction", "first_cycle", "cycle_growth")),
    "one_cycle": fields.Choice(_one_cycle, ("peak_at",)),
    "plateau": fields.Choice(_constant, ("final_fraction", "step_factor", "patience")),
    "polynomial": fields.Choice(_polynomial, ("final_fraction", "power")),  # "poly" of Chen et al. 2018, DeepLab
}


@dataclasses.dataclass(frozen=True)
class Schedule(fields.Section):
    """How the learning rate goes; all places are fractions of the whole run, so that they follow `train.epochs`.

    "plateau" multiplies the rate by `step_factor` after `patience` epochs without a better figure of `train.monitor`,
    down to `final_fraction` of the first rate.
    """

    title = "schedule"
    table = SCHEDULES
    name: str = fields.choice("cosine", SCHEDULES)
    warmup: float = fields.number(0.0, maximum=1.0, open_above=True)
    final_fraction: float = fields.number(0.0, maximum=1.0)
    milestones: tuple[float, ...] = fields.fractions((0.5, 0.75))
    step_factor: float = fields.number(0.1, maximum=1.0, open_below=True)
    first_cycle: float = fields.number(0.25, maximum=1.0, open_below=True)
    cycle_growth: float = fields.number(1.0, minimum=1.0)
    patience: int = fields.integer(5, minimum=1)
    peak_at: float = fields.number(0.3, maximum=1.0, open_below=True, open_above=True)
    power: float = fields.number(1.0, open_below=True)

    def cut_cycle(self) -> list[str]:
        """Returns a warning where the run ends in the middle of a cycle of restarts, at a rate that is still high."""
        if self.name != "cosine_restarts":
            return []
        length, begin, count = self.first_cycle, 0.0, 1
        while begin + length < 1 - 1e-6:
            begin, length, count = begin + length, length * self.cycle_growth, count + 1
        done = (1 - begin) / length
        if done > 1 - 1e-3:
            return []
        whole = sum(self.cycle_growth**cycle for cycle in range(count))
        return [
            f"warning: the last of {count} cosine cycles is cut at {done:.0%} of its length; "
            f"schedule.first_cycle={1 / whole:.4g} ends with a whole one"
        ]

    def build(self, peak: float, steps: int) -> Any:
        """Returns the learning rate for a Keras optimizer."""
        return SCHEDULES[self.name].build(self, peak, check_int("steps", steps))

    def callbacks(
        self, peak: float, monitor: Monitor, has_validation: bool, past: Sequence[Mapping[str, float]] = ()
    ) -> list[keras.callbacks.Callback]:
        """Returns the callbacks that change the rate after epochs: one for "plateau", none for the others."""
        if self.name != "plateau":
            return []
        return [
            RateOnPlateau(
                past,
                monitor=f"val_{monitor.name}" if has_validation else monitor.name,
                mode=monitor.direction,
                factor=self.step_factor,
                patience=self.patience,
                min_delta=0.0,
                min_lr=peak * self.final_fraction,
            )
        ]
