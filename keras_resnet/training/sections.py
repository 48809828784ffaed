"""The tables of a recipe, with every default and every range.

Each name of a choice stands in one dictionary, next to what it selects or beside the code that does.
"""

import dataclasses
from typing import Any

import keras

from keras_resnet.data.options import BAD_IMAGE_POLICIES
from keras_resnet.training import fields
from keras_resnet.training.losses import LOSSES
from keras_resnet.training.optimizers import OPTIMIZERS
from keras_resnet.training.schedules import SCHEDULES

STEMS = {"auto": None, "conv7": "conv7", "deep": "deep", "small": "small"}
VERSIONS = {"v1": "v1", "v1.5": "v1.5", "v2": "v2"}
SHORTCUTS = {"conv": "conv", "pool": "pool"}
ATTENTIONS = {"none": None, "se": "se"}
INITIALIZERS = {
    name: name
    for name in ("he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "lecun_uniform")
}
CROPS: dict[str, str | None] = {"auto": None, "random": "random", "center": "center", "none": "none"}
NORMALIZATIONS = {name: name for name in ("unit", "imagenet", "caffe", "tf", "dataset")}
PRECISIONS = {name: name for name in ("float32", "mixed_float16", "mixed_bfloat16")}
SMALL_SIDE_PX = 64


@dataclasses.dataclass(frozen=True)
class About(fields.Section):
    """Where a recipe comes from and what to expect of it; text for people, nothing reads it."""

    title = "about"
    source: str = fields.text("")
    command: str = fields.text("")
    hardware: str = fields.text("")
    minutes: str = fields.text("")
    expected_accuracy: str = fields.text("")
    last_reproduced: str = fields.text("never reproduced")


@dataclasses.dataclass(frozen=True)
class Model(fields.Section):
    """Arguments of the constructor; `stem="auto"` is "small" for images under 64 px, else "conv7"."""

    title = "model"
    stem: str = fields.choice("auto", STEMS)
    width: int = fields.integer(64, minimum=1)
    version: str = fields.choice("v1.5", VERSIONS)
    shortcut: str = fields.choice("conv", SHORTCUTS)
    attention: str = fields.choice("none", ATTENTIONS)
    drop_path_rate: float = fields.number(0.0, maximum=1.0, open_above=True)
    dropout_rate: float = fields.number(0.0, maximum=1.0, open_above=True)
    kernel_initializer: str = fields.choice("he_normal", INITIALIZERS)
    l1: float = fields.number(0.0)
    l2: float = fields.number(0.0)
    zero_init_residual: bool = fields.flag(True)

    def arguments(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """Returns the keyword arguments of `keras_resnet.models.build` for images of `(*space, channels)`."""
        stem = STEMS[self.stem] or ("small" if min(image_shape[:-1]) < SMALL_SIDE_PX else "conv7")
        return {
            "stem": stem,
            "width": self.width,
            "version": self.version,
            "shortcut": self.shortcut,
            "attention": ATTENTIONS[self.attention],
            "drop_path_rate": self.drop_path_rate,
            "dropout_rate": self.dropout_rate,
            "kernel_initializer": self.kernel_initializer,
            "kernel_regularizer": keras.regularizers.L1L2(self.l1, self.l2) if self.l1 or self.l2 else None,
            "zero_init_residual": self.zero_init_residual,
        }


@dataclasses.dataclass(frozen=True)
class Data(fields.Section):
    """What becomes of images before the network sees them.

    `image_size` is a side in px; "auto" keeps the size that all images share, and is 224 where they differ.
    """

    title = "data"
    image_size: int | str = fields.integer_or("auto")
    crop: str = fields.choice("auto", CROPS)
    normalization: str = fields.choice("unit", NORMALIZATIONS)
    validation_fraction: float = fields.number(0.1, maximum=1.0, open_above=True)
    on_bad_image: str = fields.choice("error", BAD_IMAGE_POLICIES)


@dataclasses.dataclass(frozen=True)
class Augment(fields.Section):
    """Random changes of training images: pixels, degrees, and fractions of size."""

    title = "augment"
    flip: bool = fields.flag(False)
    pad_and_crop: int = fields.integer(0)
    rotation: float = fields.number(0.0, maximum=180.0)
    zoom: float = fields.number(0.0, maximum=1.0, open_above=True)
    translation: float = fields.number(0.0, maximum=1.0)


@dataclasses.dataclass(frozen=True)
class Loss(fields.Section):
    """What is minimised; "mean_squared_error" makes the run a regression."""

    title = "loss"
    name: str = fields.choice("cross_entropy", LOSSES)
    label_smoothing: float = fields.number(0.0, maximum=1.0, open_above=True)


@dataclasses.dataclass(frozen=True)
class Optimizer(fields.Section):
    """How weights move. 0 switches decay, clipping and averaging off.

    `weight_decay` is decoupled: each step takes `learning_rate * weight_decay` of every kernel away. Under momentum m
    this is as strong as an L2 term of `weight_decay * (1 - m)` in the gradient.
    """

    title = "optimizer"
    name: str = fields.choice("sgd", OPTIMIZERS)
    learning_rate: float = fields.number(0.1, open_below=True)
    momentum: float = fields.number(0.9, maximum=1.0, open_above=True)
    nesterov: bool = fields.flag(True)
    weight_decay: float = fields.number(0.0)
    clip_norm: float = fields.number(0.0)
    ema_momentum: float = fields.number(0.0, maximum=1.0, open_above=True)


@dataclasses.dataclass(frozen=True)
class Schedule(fields.Section):
    """How the learning rate goes; all places are fractions of the whole run, so that they follow `train.epochs`."""

    title = "schedule"
    name: str = fields.choice("cosine", SCHEDULES)
    warmup: float = fields.number(0.0, maximum=1.0, open_above=True)
    final_fraction: float = fields.number(0.0, maximum=1.0)
    milestones: tuple[float, ...] = fields.fractions((0.5, 0.75))
    step_factor: float = fields.number(0.1, maximum=1.0, open_below=True)
    first_cycle: float = fields.number(0.25, maximum=1.0, open_below=True)
    cycle_growth: float = fields.number(1.0, minimum=1.0)
    peak_at: float = fields.number(0.3, maximum=1.0, open_below=True, open_above=True)


@dataclasses.dataclass(frozen=True)
class Train(fields.Section):
    """How long, how many at once, in which precision; `early_stopping_patience` in epochs, 0 for never."""

    title = "train"
    epochs: int = fields.integer(10, minimum=1)
    batch_size: int = fields.integer(128, minimum=1)
    precision: str = fields.choice("float32", PRECISIONS)
    seed: int = fields.integer(0, maximum=2**31 - 1)
    early_stopping_patience: int = fields.integer(0)


SECTIONS: dict[str, type] = {
    section.title: section for section in (Model, Data, Augment, Loss, Optimizer, Schedule, Train)
}
