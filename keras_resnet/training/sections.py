"""The sections of a recipe: where it comes from and how long it trains here, the others beside what they build."""

import dataclasses

from keras_resnet.training import fields
from keras_resnet.training.augmentation import Augment
from keras_resnet.training.inputs import Data
from keras_resnet.training.loss import Loss
from keras_resnet.training.network import Model
from keras_resnet.training.optimizer import Optimizer
from keras_resnet.training.schedule import Schedule

MULTIWORKER = "multiworker"
MIRRORED = "mirrored"
DATA_PARALLEL = "data_parallel"
KINDS = {name: name for name in ("none", MIRRORED, MULTIWORKER, DATA_PARALLEL)}
PRECISIONS = {name: name for name in ("float32", "mixed_float16", "mixed_bfloat16")}


@dataclasses.dataclass(frozen=True)
class About(fields.Section):
    """Where a recipe comes from and what to expect of it; text for people.

    A `notice` is shown before each training that begins with random weights.
    """

    title = "about"
    source: str = fields.text("")
    command: str = fields.text("")
    hardware: str = fields.text("")
    minutes: str = fields.text("")
    expected_accuracy: str = fields.text("")
    last_reproduced: str = fields.text("never reproduced")
    notice: str = fields.text("")


@dataclasses.dataclass(frozen=True)
class Defaults(fields.Section):
    """What a training takes that names no model or no data: those that a run or a search made the recipe for."""

    title = "defaults"
    model: str = fields.text("")
    data: str = fields.text("")
    data_dir: str = fields.text("")


@dataclasses.dataclass(frozen=True)
class Train(fields.Section):
    """How long, how many at once, in which precision; `early_stopping_patience` in epochs, 0 for never.

    `monitor` names the figure by which the best epoch is kept and training stops early, of the validation split where
    there is one: "auto" is the loss, weighted as in training with `data.balance`; or a metric of the run,
    "balanced_accuracy", or "recall:CLASS".

    `save_every` is how often a state is saved from which a run goes on, inside an epoch: "auto" is a minute, or longer
    where saving would take more than 2 % of the time; "epoch", a number of steps such as "500", or a time such as "5m".
    `keep_states` is how many of the newest stay, beside that of the best epoch.

    `on_divergence` says what follows a loss that is not finite: "stop", or "back", which goes on from the last good
    state with half the learning rate, three times at most.

    `recompute` saves memory for time: blocks keep their input alone (`keras_resnet.models.recompute`).
    """

    title = "train"
    epochs: int = fields.integer(10, minimum=1)
    batch_size: int = fields.integer(128, minimum=1, scale="log")
    precision: str = fields.choice("float32", PRECISIONS)
    seed: int = fields.integer(0, maximum=2**31 - 1)
    early_stopping_patience: int = fields.integer(0)
    monitor: str = fields.text("auto")
    save_every: str = fields.text("auto")
    keep_states: int = fields.integer(2, minimum=1)
    on_divergence: str = fields.choice("stop", {"stop": "stop", "back": "back"})
    recompute: bool = fields.flag(False)


@dataclasses.dataclass(frozen=True)
class Distribution(fields.Section):
    """Who trains together: "none" is one device.

    "mirrored" is all devices that TensorFlow sees on this machine, in one process; "data_parallel" is those that JAX
    sees. "multiworker" is several processes of TensorFlow, on one machine or on many: all run the same command, and who
    they are is read from `TF_CONFIG` or from Slurm; on JAX "data_parallel" is that too. Each device or process takes
    its part of every batch. A run may go on with another number of them.

    `synchronize_norms` gives batch norms the statistics of the whole batch instead of those of their own part; with
    "data_parallel" they have them in any case.
    """

    title = "distribution"
    kind: str = fields.choice("none", KINDS)
    synchronize_norms: bool = fields.flag(False)


SECTIONS: dict[str, type[fields.Section]] = {
    section.title: section for section in (Model, Data, Augment, Loss, Optimizer, Schedule, Train, Distribution)
}
TABLES: dict[str, type[fields.Section]] = {About.title: About, Defaults.title: Defaults, **SECTIONS}
# What does not change a run: whoever goes on with one may have them differ.
DESCRIPTIVE = ("name", About.title, Defaults.title)
