"""One thing that a search varies, checked against the field of a recipe that it varies."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras_tuner

from keras_resnet import models, training
from keras_resnet.arguments import check_float, choose, suggestion
from keras_resnet.errors import BadType, BadValue
from keras_resnet.training.fields import Field
from keras_resnet.training.recipe import SECTIONS

SCALES = {"linear": "linear", "log": "log"}
VARIANT = "variant"  # of the model, which is not a field of a recipe
KEYS = ("low", "high", "step", "scale", "choices", "why")


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One thing that a search varies.

    Args:
        name: "section.field" of a recipe, such as "optimizer.learning_rate", or "variant" for the model.
        low: the smallest value, for numbers.
        high: the largest value, for numbers.
        step: between values; None for any value in between.
        scale: "linear", or "log" where factors matter rather than differences.
        choices: the values, instead of `low` and `high`.
        why: a word for the reader.

    Raises:
        TypeError, ValueError: no recipe has such a field, or it does not allow a value.

    Example:
        >>> from keras_resnet.tuning import Dimension
        >>> Dimension("optimizer.learning_rate", low=0.01, high=0.5, scale="log").values(3)
        [0.01, 0.0707107, 0.5]
    """

    name: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    scale: str = "linear"
    choices: tuple[Any, ...] = ()
    why: str = ""

    def __post_init__(self) -> None:
        """Checks the dimension against the field that it varies."""
        about = self.about
        choose(f"{self.name}.scale", self.scale, SCALES)
        if isinstance(self.choices, str) or not isinstance(self.choices, Iterable):
            raise BadType(f"{self.name}.choices={self.choices!r} is not a list. Pass such as [32, 64].")
        object.__setattr__(self, "choices", tuple(self.choices))
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise BadValue(f"{self.name} needs either choices or low and high, got {self}. Give one of the two.")
        for value in self.choices or self._ends(about):
            self.check(value)

    @property
    def about(self) -> Field:
        """What the field may hold."""
        if self.name == VARIANT:
            return Field("choice", "resnet18", choices=tuple(models.VARIANTS))
        known = training.recipe_fields()
        if self.name not in known:
            raise BadValue(
                f"The search space names {self.name!r}, which no recipe has. {suggestion(self.name, known)}"
                f"Use a field of a recipe, such as 'optimizer.learning_rate', or {VARIANT!r}."
            )
        return known[self.name]

    @property
    def is_integer(self) -> bool:
        """Whether values between `low` and `high` are whole numbers."""
        return self.about.kind == "integer"

    def _ends(self, about: Field) -> tuple[float, float]:
        if about.kind not in ("integer", "number"):
            raise BadValue(
                f"{self.name} is not a number and has no low and high. Allowed are choices: {about.choices}. Use those."
            )
        low = check_float(f"{self.name}.low", self.low)
        high = check_float(f"{self.name}.high", self.high)
        if not low < high or (self.scale == "log" and low <= 0):
            raise BadValue(
                f"{self.name} goes from {low:g} to {high:g} on a {self.scale} scale. low must be less than high, and "
                "on a log scale more than 0. Correct them."
            )
        if self.step is not None:
            check_float(f"{self.name}.step", self.step, minimum=0, minimum_included=False)
        return low, high

    def check(self, value: Any) -> None:
        """Raises TypeError or ValueError where the field does not allow a value."""
        if self.name == VARIANT:
            choose("variant", value, models.VARIANTS)
            return
        section, _, field = self.name.partition(".")
        SECTIONS[section](**{field: int(value) if self.is_integer and float(value).is_integer() else value})

    def check_within(self, value: Any) -> None:
        """Raises TypeError or ValueError for a value that is not one of the choices, or outside low to high."""
        self.check(value)
        low, high = float(self.low or 0), float(self.high or 0)
        rounding = 1e-9 * (high - low)
        if value not in self.choices if self.choices else not low - rounding <= value <= high + rounding:
            raise BadValue(f"{self.name}={value!r} is outside of its dimension.")

    def values(self, count: int = 10) -> list[Any]:
        """Returns the choices, or at most that many values from `low` to `high`, evenly on the scale."""
        if self.choices:
            return list(self.choices)
        low, high = float(self.low or 0), float(self.high or 0)
        shares = [index / (count - 1) for index in range(count)]
        spread = [low * (high / low) ** s if self.scale == "log" else low + (high - low) * s for s in shares]
        return sorted({round(value) for value in spread}) if self.is_integer else [float(f"{v:.6g}") for v in spread]

    def declare(self, hp: keras_tuner.HyperParameters, default: Any) -> Any:
        """Registers the dimension with KerasTuner, and returns the value that it has there."""
        if self.choices:
            default = default if default in self.choices else self.choices[0]
            if all(isinstance(value, bool) for value in self.choices) and len(self.choices) == 2:
                return hp.Boolean(self.name, default)
            return hp.Choice(self.name, list(self.choices), default=default, ordered=self._order())
        low, high = float(self.low or 0), float(self.high or 0)
        usable = isinstance(default, (int, float)) and low <= default <= high
        # KerasTuner takes a step on a log scale for a factor.
        options: dict[str, Any] = {"sampling": self.scale, "step": self.step, "default": default if usable else None}
        if self.is_integer:
            step = {} if self.step is None else {"step": int(self.step)}
            return hp.Int(self.name, int(low), int(high), **{**options, **step} if step else _without_step(options))
        return hp.Float(self.name, low, high, **options)

    def _order(self) -> bool | None:
        return True if all(isinstance(value, (int, float)) for value in self.choices) else None

    def to_dict(self) -> dict[str, Any]:
        """Returns what is not a default, as TOML holds it."""
        plain = {key: getattr(self, key) for key in KEYS}
        plain["choices"] = list(self.choices)
        return {key: value for key, value in plain.items() if value not in (None, [], "", "linear")}


def _without_step(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "step"}
