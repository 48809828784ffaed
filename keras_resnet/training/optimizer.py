"""The optimizer of a run: its section of a recipe, its choices, and weight decay that spares norms and biases."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.errors import MissingPackage
from keras_resnet.training import fields

# What is not a kernel: biases, and scale and offset of norms. Keras searches these in the name of a variable, which is
# "gamma" on one backend and for Muon, and a path such as "stem/norm/gamma:0" on TensorFlow for the others.
SPARED_NAMES = (r"(^|/)(bias|gamma|beta)(:\d+)?$",)

MOMENTUM = ("momentum", "nesterov")


def _plain(optimizer_class: Callable[..., Any], *own: str) -> fields.Choice:
    """Returns the row of an optimizer that takes the common arguments and its `own` fields."""

    def build(optimizer: "Optimizer", **common: Any) -> Any:
        return optimizer_class(**common, **{name: getattr(optimizer, name) for name in own})

    return fields.Choice(build, own)


def _decaying(optimizer_class: Callable[..., Any]) -> fields.Choice:
    """Returns the row of an optimizer that wants a number for its decay, also where it is zero."""

    def build(optimizer: "Optimizer", **common: Any) -> Any:
        return optimizer_class(**common | {"weight_decay": optimizer.weight_decay})

    return fields.Choice(build)


def _muon(optimizer: "Optimizer", **common: Any) -> Any:
    # Keras's Muon moves matrices by Muon and everything else, convolutions included, by AdamW, each with a decay of
    # its own. The classifier is to be moved by AdamW (Jordan et al. 2024).
    if "adam_weight_decay" not in inspect.signature(keras.optimizers.Muon).parameters:
        raise MissingPackage(
            f"optimizer.name='muon' was asked for with Keras {keras.__version__}, whose Muon cannot decay what AdamW "
            "moves. It needs Keras 3.13 or later. Run: pip install --upgrade keras"
        )
    decay = {"weight_decay": optimizer.weight_decay, "adam_weight_decay": optimizer.weight_decay}
    momentum = {name: getattr(optimizer, name) for name in MOMENTUM}
    return keras.optimizers.Muon(**common | decay, **momentum, exclude_layers=["predictions"])


OPTIMIZERS: dict[str, fields.Choice] = {
    "sgd": _plain(keras.optimizers.SGD, *MOMENTUM),
    "adam": _plain(keras.optimizers.Adam),
    "adamw": _decaying(keras.optimizers.AdamW),
    "rmsprop": _plain(keras.optimizers.RMSprop, "momentum"),
    "lamb": _plain(keras.optimizers.Lamb),
    "lion": _plain(keras.optimizers.Lion),
    "muon": fields.Choice(_muon, MOMENTUM),
}


@dataclasses.dataclass(frozen=True)
class Optimizer(fields.Section):
    """How weights move. 0 switches decay, clipping, averaging and sharpness-aware minimisation off.

    `accumulation` is the number of batches whose gradients make a step. `sam_radius` is how far, in the norm of all
    weights together, a step first climbs to where the loss is higher, to take the gradient there; it costs a second
    pass (Foret et al. 2021, "Sharpness-Aware Minimization", who take 0.05).

    `weight_decay` is decoupled: each step takes `learning_rate * weight_decay` of every kernel away. Under momentum m
    this is as strong as an L2 term of `weight_decay * (1 - m)` in the gradient.
    """

    title = "optimizer"
    table = OPTIMIZERS
    name: str = fields.choice("sgd", OPTIMIZERS)
    learning_rate: float = fields.number(0.1, open_below=True, scale="log")
    momentum: float = fields.number(0.9, maximum=1.0, open_above=True)
    nesterov: bool = fields.flag(True)
    weight_decay: float = fields.number(0.0, scale="log")
    clip_norm: float = fields.number(0.0, scale="log")
    ema_momentum: float = fields.number(0.0, maximum=1.0, open_above=True)
    accumulation: int = fields.integer(1, minimum=1)
    sam_radius: float = fields.number(0.0, scale="log")

    def build(self, learning_rate: Any, precision: str = "float32") -> keras.optimizers.Optimizer:
        """Returns the optimizer.

        Args:
            learning_rate: a float or a schedule.
            precision: "mixed_float16" wraps it in Keras's LossScaleOptimizer.
        """
        built = OPTIMIZERS[self.name].build(
            self,
            learning_rate=learning_rate,
            weight_decay=self.weight_decay or None,
            global_clipnorm=self.clip_norm or None,
            use_ema=self.ema_momentum > 0,
            ema_momentum=self.ema_momentum or 0.99,
            gradient_accumulation_steps=self.accumulation if self.accumulation > 1 else None,
        )
        built.exclude_from_weight_decay(var_names=list(SPARED_NAMES))
        return keras.optimizers.LossScaleOptimizer(built) if precision == "mixed_float16" else built


def inner_optimizer(optimizer: Any) -> Any:
    """Returns the optimizer inside a LossScaleOptimizer, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)
