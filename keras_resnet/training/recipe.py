"""A recipe: everything that a training run is made of beside the model's name and the data."""

import dataclasses
import importlib.resources
import os
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tomli_w

from keras_resnet import files
from keras_resnet.arguments import check_int, choose, suggestion
from keras_resnet.distribution.step import StepPart, several_steps
from keras_resnet.distribution.together import DATA_PARALLEL, MIRRORED, MULTIWORKER, NONE
from keras_resnet.errors import BadType, BadValue
from keras_resnet.training import fields
from keras_resnet.training.callbacks import recording_callbacks
from keras_resnet.training.distill import Distill
from keras_resnet.training.fields import Field, make, parse, unknown_key
from keras_resnet.training.inputs import Augment, Data
from keras_resnet.training.losses import LabelFacts, Loss
from keras_resnet.training.network import Model, Quantize
from keras_resnet.training.optimizer import Optimizer
from keras_resnet.training.schedule import Schedule
from keras_resnet.training.scoring import Monitor, monitor_of

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
    """Model and data for a training that names none: those that a run or a search made the recipe for."""

    title = "defaults"
    model: str = fields.text("")
    data: str = fields.text("")
    data_dir: str = fields.text("")


JIT: dict[str, Any] = {"auto": "auto", "on": True, "off": False}


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

    `steps_per_execution` is how many steps TensorFlow takes in one call, without Python between them: for short steps
    where Python is slow or other work has the cores. `jit_compile` compiles the step with XLA; "auto" leaves it to
    Keras.
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
    steps_per_execution: int = fields.integer(1, minimum=1)
    jit_compile: str = fields.choice("auto", JIT)

    def check(self, recipe: Any) -> None:
        """Raises ValueError where the recipe has another part that does not go with it."""
        kind, backend = recipe.distribution.kind, keras.config.backend()
        if self.steps_per_execution > 1 and (kind != NONE or backend != "tensorflow"):
            raise BadValue(
                f"train.steps_per_execution={self.steps_per_execution} was given with distribution.kind={kind!r} on "
                f"{backend}. Allowed is one device of TensorFlow. Set it to 1."
            )
        if self.jit_compile == "on" and kind != NONE:
            raise BadValue(
                f"train.jit_compile='on' was given with distribution.kind={kind!r}. XLA has no collective operations "
                "there. Set it to 'auto'."
            )

    def step_parts(self, experiment: Any) -> list[StepPart]:
        """Returns the step that is followed inside a call of several."""
        wrap: Any = several_steps
        return [StepPart(wrap, {})] if self.steps_per_execution > 1 else []


@dataclasses.dataclass(frozen=True)
class Distribution(fields.Section):
    """Distribution strategy: "none" is one device.

    "mirrored" is all devices that TensorFlow sees on this machine, in one process; "data_parallel" is those that JAX
    sees. "multiworker" is several processes of TensorFlow, on one machine or on many: all run the same command, and who
    they are is read from `TF_CONFIG` or from Slurm; on JAX "data_parallel" is that too. Each device or process takes
    its part of every batch. A run may go on with another number of them.

    `synchronize_norms` gives batch norms the statistics of the whole batch instead of those of their own part; with
    "data_parallel" they have them in any case.
    """

    title = "distribution"
    kind: str = fields.choice(NONE, {kind: kind for kind in (NONE, MIRRORED, MULTIWORKER, DATA_PARALLEL)})
    synchronize_norms: bool = fields.flag(False)


_SECTIONS = (Model, Data, Augment, Loss, Optimizer, Schedule, Distill, Quantize, Train, Distribution)
SECTIONS: dict[str, type[fields.Section]] = {section.title: section for section in _SECTIONS}
TABLES: dict[str, type[fields.Section]] = {About.title: About, Defaults.title: Defaults, **SECTIONS}
# What does not change a run: whoever goes on with one may have them differ.
DESCRIPTIVE = ("name", About.title, Defaults.title)


def list_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return list(packaged())


def read_tables(path: pathlib.Path, seen: tuple[pathlib.Path, ...] = ()) -> dict[str, Any]:
    """Returns the tables of a recipe, with those of the recipe that it extends below them."""
    if path.suffix != ".toml":
        tables = tomllib.loads(choose("recipe", os.fspath(path), packaged()).read_text(encoding="utf-8"))
    else:
        tables = _read_file(path, seen)
    base = tables.pop("extends", None)
    if base is None:
        return tables
    if not isinstance(base, str):
        raise BadType(f"extends={base!r} in {os.fspath(path)!r} is not a string. Pass such as 'cifar' or 'my.toml'.")
    below = read_tables(path.parent / base if base.endswith(".toml") else pathlib.Path(base), (*seen, path.resolve()))
    for title, values in below.items():
        if title in TABLES and title != About.title and isinstance(tables.get(title, {}), dict):
            tables[title] = {**values, **tables.get(title, {})}
    return tables


def _read_file(path: pathlib.Path, seen: tuple[pathlib.Path, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise BadValue(f"recipe={os.fspath(path)!r} is not a file. Allowed is a TOML file. Check the path.")
    if path.resolve() in seen:
        raise BadValue(f"recipe={os.fspath(path)!r} extends itself. Allowed is another recipe. Correct `extends`.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadValue(
            f"recipe={os.fspath(path)!r} is not valid TOML: {error}. Allowed are [section] tables of "
            "key = value. Correct that line."
        ) from error


def packaged() -> dict[str, Any]:
    """Returns the name and the file of each recipe that comes with the package."""
    folder = importlib.resources.files("keras_resnet.training") / "recipes"
    recipes = {entry.name.removesuffix(".toml"): entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
    return dict(sorted(recipes.items()))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A frozen, validated recipe; every field is a default of its section until a file or `replace` says otherwise.

    Args:
        name: by which runs and folders call it.
        about: source, command, hardware, minutes, expected accuracy, last reproduction, notice.
        defaults: model and data where a training names none.
        model: arguments of the constructor.
        data: size, crop, normalization, validation split.
        augment: random changes of training images.
        loss: what is minimized.
        optimizer: how weights move.
        schedule: how the learning rate goes.
        distill: a teacher, whose answers are learned beside the labels.
        quantize: rounding to 8 bits while it trains.
        train: epochs, batch, precision, seed, early stopping.
        distribution: who trains together.

    Raises:
        TypeError, ValueError: a value is out of its range.

    Example:
        >>> from keras_resnet import training
        >>> recipe = training.Recipe.load("quick").replace({"model.width": "8", "train.epochs": 2})
        >>> recipe.model.width, recipe.train.epochs
        (8, 2)
    """

    name: str = "recipe"
    about: About = dataclasses.field(default_factory=About)
    defaults: Defaults = dataclasses.field(default_factory=Defaults)
    model: Model = dataclasses.field(default_factory=Model)
    data: Data = dataclasses.field(default_factory=Data)
    augment: Augment = dataclasses.field(default_factory=Augment)
    loss: Loss = dataclasses.field(default_factory=Loss)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    distill: Distill = dataclasses.field(default_factory=Distill)
    quantize: Quantize = dataclasses.field(default_factory=Quantize)
    train: Train = dataclasses.field(default_factory=Train)
    distribution: Distribution = dataclasses.field(default_factory=Distribution)

    def __post_init__(self) -> None:
        """Checks the name and the types of the sections."""
        if not isinstance(self.name, str) or not self.name or set(self.name) & set("/\\\0"):
            raise BadValue(
                f"name={self.name!r} is not a name of a recipe. Allowed is a string without slashes. Name it so."
            )
        for title, section in TABLES.items():
            if not isinstance(getattr(self, title), section):
                raise BadType(
                    f"{title} must be a {section.__name__}, got {getattr(self, title)!r}. Recipe.from_dict takes "
                    "plain tables. Use it, or Recipe.load."
                )

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any], name: str = "recipe") -> "Recipe":
        """Returns the recipe that nested tables describe, as `to_dict` makes them.

        Args:
            tables: section -> field -> value; what is missing takes its default.
            name: where the tables have none.

        Raises:
            TypeError, ValueError: a key is unknown or a value is out of its range; the message names it.
        """
        for key in tables:
            if key != "name" and key not in TABLES:
                raise unknown_key(str(key), ["name", *TABLES])
        sections = {title: make(TABLES[title], values) for title, values in tables.items() if title != "name"}
        return cls(name=tables.get("name", name), **sections)

    @classmethod
    def load(cls, source: str | os.PathLike) -> "Recipe":
        """Returns a recipe of the package by its name, or reads a TOML file.

        A file that begins with `extends = "cifar"` has the fields of that recipe but for those that it names itself;
        `about` says where a recipe comes from, and is not taken over. A path is relative to the file.

        Args:
            source: a name from `list_recipes()`, or a path that ends in `.toml`.

        Raises:
            TypeError, ValueError: there is no such recipe or file, or the file is not a valid recipe.
        """
        if not isinstance(source, (str, os.PathLike)):
            raise BadType(f"recipe must be a name or a path, got {source!r}. Pass such as 'quick' or 'my.toml'.")
        path = pathlib.Path(source)
        return cls.from_dict(read_tables(path), name=path.stem if path.suffix == ".toml" else os.fspath(source))

    def to_dict(self) -> dict[str, Any]:
        """Returns nested tables of plain values."""
        return {
            key: {name: list(v) if isinstance(v, tuple) else v for name, v in value.items()}
            if isinstance(value, dict)
            else value
            for key, value in dataclasses.asdict(self).items()
        }

    def to_toml(self) -> str:
        """Returns the recipe as TOML, every field included."""
        return files.with_toml_mark(tomli_w.dumps(self.to_dict()))

    def save(self, path: str | os.PathLike) -> None:
        """Writes the recipe as TOML, whole or not at all.

        Args:
            path: of the file; an older recipe that this package wrote is replaced.

        Raises:
            ValueError: `path` is a file of another origin.
        """
        files.check_replaceable(path, "path")
        files.write_text(path, self.to_toml())

    def replace(self, overrides: Mapping[str, Any]) -> "Recipe":
        """Returns a recipe with other values.

        Args:
            overrides: "section.field" -> value; a string is read as the type of the field.

        Raises:
            TypeError, ValueError: a key is unknown, a value is out of its range, or it would have no effect.
        """
        tables = self.to_dict()
        for key, value in overrides.items():
            title, _, name = str(key).partition(".")
            if title not in TABLES:
                names = list(recipe_fields())
                hint = suggestion(str(key), names)
                raise BadValue(
                    f"The recipe key {str(key)!r} is not known. {hint}"
                    f"Use one of: a field of {', '.join(sorted(TABLES))}."
                )
            tables[title][name] = parse(TABLES[title], name, value)
        recipe = type(self).from_dict(tables)
        for key in overrides:
            recipe._refuse_without_effect(str(key))
        return recipe

    def compile_args(
        self,
        *,
        steps_per_epoch: int,
        from_logits: bool = False,
        class_names: Sequence[str] = (),
        facts: LabelFacts | None = None,
        learning_rate: Any = None,
    ) -> dict[str, Any]:
        """Returns the arguments of `model.compile`: optimizer, loss, metrics.

        Args:
            steps_per_epoch: batches per epoch; with `train.epochs` it sets the length of the schedule.
            from_logits: whether the model ends in logits; False for `ResNet18()`, which ends in a softmax.
            class_names: of the data, which metrics that `train.monitor` names need; of multi-label targets the
                area under ROC.
            facts: statistics of the training labels for the loss; None for none.
            learning_rate: a number or a schedule in place of the recipe's.

        Raises:
            TypeError, ValueError: an argument is out of its range.

        Example:
            >>> from keras_resnet import ResNet18, training
            >>> recipe = training.Recipe.load("quick")
            >>> model = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=10)
            >>> model.compile(**recipe.compile_args(steps_per_epoch=20))
        """
        steps = check_int("steps_per_epoch", steps_per_epoch) * self.train.epochs
        if learning_rate is None:
            learning_rate = self.schedule.build(self.optimizer.learning_rate, steps)
        if facts is None and self.loss.choice.task.has_thresholds:
            facts = LabelFacts(num_classes=len(class_names))
        loss, metrics = self.loss.build(from_logits, facts)
        _, further = monitor_of(self.train.monitor, metrics, self._classes_of(class_names))
        for metric in further:
            metric.threshold = 0.0 if from_logits else 0.5
        return {
            "optimizer": self.optimizer.build(learning_rate, self.train.precision, steps_per_epoch),
            "loss": loss,
            "jit_compile": JIT[self.train.jit_compile],
            "weighted_metrics" if facts is not None and facts.are_weighted else "metrics": [*metrics, *further],
        }

    def label_facts(self, dataset: Any) -> LabelFacts:
        """Returns the statistics of the training labels that the loss of this recipe uses.

        Args:
            dataset: from `keras_resnet.data.load`.

        Raises:
            ValueError: the loss asks for something that the labels do not have.
        """
        labels, weights = dataset.split("train").labels, dataset.weights_of("train")
        return LabelFacts(
            targets=self.loss.scale_of(labels, weights),
            class_shares=self._class_shares(dataset) if self.loss.logit_adjustment else None,
            label_weights=self.data.label_weights(dataset),
            num_classes=dataset.num_outputs if self.loss.choice.task.has_thresholds else 0,
            are_weighted=weights is not None,
        )

    def _class_shares(self, dataset: Any) -> tuple[float, ...]:
        """Returns the share of each class in what is trained on, after sampling and weights."""
        shares = dataset.class_shares(self.data.sampling_power)
        of_classes = self.data.class_weights(dataset, self.augment.mixes)
        if shares is not None and of_classes is not None:
            shares = shares * np.array([of_classes[label] for label in range(len(shares))])
            shares = shares / shares.sum()
        return self.loss.check_shares(shares)

    def _classes_of(self, class_names: Sequence[str]) -> Sequence[str]:
        """Returns the classes of which an example has one, for metrics that count these."""
        return class_names if self.loss.choice.task.is_exclusive else ()

    def monitor(self, class_names: Sequence[str] = ()) -> Monitor:
        """Returns the figure that chooses the best epoch.

        Args:
            class_names: of the data.

        Raises:
            ValueError: `train.monitor` names no figure of such a run.
        """
        return monitor_of(self.train.monitor, self.loss.build(True)[1], self._classes_of(class_names))[0]

    def callbacks(self, out: str | os.PathLike, class_names: Sequence[str] = ()) -> list[keras.callbacks.Callback]:
        """Returns callbacks that record a run of your own `model.fit` in a folder.

        They check that the model's last activation fits the loss, stop at a loss that is not finite, validate with
        averaged weights where the recipe averages, keep `best.keras`, stop early, and write `history.csv`,
        `curves.png` and `logs/`.

        Args:
            out: a folder; made where it is missing.
            class_names: of the data, which `train.monitor` may name.

        Raises:
            ValueError: the folder cannot be written, or holds the history of another run.
        """
        folder = files.make_writable(out)
        files.check_folder_free(folder, ("history.csv", "best.keras", "curves.png", "logs"))
        return recording_callbacks(
            folder,
            batch_size=self.train.batch_size,
            patience=self.train.early_stopping_patience,
            monitor=self.monitor(class_names),
            average=self.optimizer.weight_average(),
        )

    def _refuse_without_effect(self, key: str) -> None:
        title, _, name = key.partition(".")
        needed, is_there = TABLES[title].needs.get(name, ("", lambda recipe: True))
        if getattr(getattr(self, title), name) != recipe_fields()[key].default and not is_there(self):
            raise BadValue(f"{key} has no effect without {needed}. Leave it out, or set {needed}.")
        readers = TABLES[title].readers(name)
        chosen = getattr(getattr(self, title), "name", None)
        if readers is not None and chosen not in readers:
            raise BadValue(
                f"{key} has no effect with {title}.name={chosen!r}. It is read with {', '.join(map(repr, readers))}. "
                f"Leave it out, or set {title}.name."
            )


def compare_recipes(one: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """Returns the fields in which two recipes differ, with the value of each; what they say of themselves is left out.

    Args:
        one: a recipe.
        other: another.

    Example:
        >>> from keras_resnet import training
        >>> quick = training.Recipe.load("quick")
        >>> training.compare_recipes(quick, quick.replace({"train.epochs": 3}))
        [('train.epochs', 30, 3)]
    """
    return [
        (name, before, after)
        for name in recipe_fields()
        for title, _, field in [name.partition(".")]
        for before, after in [(getattr(getattr(one, title), field), getattr(getattr(other, title), field))]
        if before != after
    ]


def recipe_fields() -> dict[str, Field]:
    """Returns the allowed values of each recipe field: kind, range, scale, choices, default.

    Returns:
        "section.field" -> its description, in the order of the sections.

    Example:
        >>> from keras_resnet import training
        >>> rate = training.recipe_fields()["optimizer.learning_rate"]
        >>> rate.kind, rate.scale, rate.minimum, rate.open_below
        ('number', 'log', 0.0, True)
    """
    return {
        f"{title}.{field.name}": field.metadata["about"]
        for title, section in SECTIONS.items()
        for field in dataclasses.fields(section)  # type: ignore[arg-type]
    }
