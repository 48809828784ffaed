"""Keras's optimizers from a recipe, with weight decay that spares norms and biases."""

from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.arguments import choose

# What is not a kernel: biases, and scale and offset of norms. Keras searches these in the name of a variable, which is
# "gamma" on one backend and for Muon, and a path such as "stem/norm/gamma:0" on TensorFlow for the others.
SPARED_NAMES = (r"(^|/)(bias|gamma|beta)(:\d+)?$",)

MOMENTUM = ("momentum", "nesterov")
# Name -> (class, the fields that it has beside the common ones).
OPTIMIZERS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "sgd": (keras.optimizers.SGD, MOMENTUM),
    "adam": (keras.optimizers.Adam, ()),
    "adamw": (keras.optimizers.AdamW, ()),
    "rmsprop": (keras.optimizers.RMSprop, ("momentum",)),
    "lamb": (keras.optimizers.Lamb, ()),
    "lion": (keras.optimizers.Lion, ()),
    "muon": (keras.optimizers.Muon, MOMENTUM),
}


def build_optimizer(optimizer: Any, learning_rate: Any, precision: str = "float32") -> keras.optimizers.Optimizer:
    """Returns the optimizer of a recipe.

    Args:
        optimizer: the section of a recipe.
        learning_rate: a float or a schedule.
        precision: "mixed_float16" wraps it in Keras's LossScaleOptimizer.
    """
    optimizer_class, own_fields = choose("optimizer.name", optimizer.name, OPTIMIZERS)
    arguments: dict[str, Any] = {name: getattr(optimizer, name) for name in own_fields}
    if optimizer.name == "muon":
        # Keras's Muon moves matrices by Muon and everything else, convolutions included, by AdamW, each with a decay of
        # its own. The classifier is to be moved by AdamW (Jordan et al. 2024).
        arguments |= {"adam_weight_decay": optimizer.weight_decay, "exclude_layers": ["predictions"]}
    decays = optimizer.weight_decay > 0 or optimizer.name in ("adamw", "muon")
    built = optimizer_class(
        learning_rate=learning_rate,
        weight_decay=optimizer.weight_decay if decays else None,
        global_clipnorm=optimizer.clip_norm or None,
        use_ema=optimizer.ema_momentum > 0,
        ema_momentum=optimizer.ema_momentum or 0.99,
        **arguments,
    )
    built.exclude_from_weight_decay(var_names=list(SPARED_NAMES))
    return keras.optimizers.LossScaleOptimizer(built) if precision == "mixed_float16" else built


def inner_optimizer(optimizer: Any) -> Any:
    """Returns the optimizer inside a LossScaleOptimizer, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)
