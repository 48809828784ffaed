"""A recipe: everything that a training run is made of beside the model's name and the data."""

import dataclasses
import importlib.resources
import os
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

import keras
import tomli_w

from keras_resnet import files
from keras_resnet.arguments import check_int, choose
from keras_resnet.errors import BadType, BadValue
from keras_resnet.training import sections
from keras_resnet.training.callbacks import recording_callbacks
from keras_resnet.training.fields import make, parsed, unknown_key
from keras_resnet.training.losses import build_loss
from keras_resnet.training.optimizers import OPTIMIZERS, build_optimizer
from keras_resnet.training.schedules import build_schedule

# Fields that only some choices read: field -> (the field that decides, the choices under which it has an effect).
EFFECTIVE: dict[str, tuple[str, tuple[str, ...]]] = {
    "loss.label_smoothing": ("loss.name", ("cross_entropy", "binary_cross_entropy")),
    "optimizer.momentum": ("optimizer.name", tuple(n for n, (_, own) in OPTIMIZERS.items() if "momentum" in own)),
    "optimizer.nesterov": ("optimizer.name", tuple(n for n, (_, own) in OPTIMIZERS.items() if "nesterov" in own)),
    "schedule.warmup": ("schedule.name", ("cosine",)),
    "schedule.final_fraction": ("schedule.name", ("cosine", "cosine_restarts")),
    "schedule.milestones": ("schedule.name", ("step",)),
    "schedule.step_factor": ("schedule.name", ("step",)),
    "schedule.first_cycle": ("schedule.name", ("cosine_restarts",)),
    "schedule.cycle_growth": ("schedule.name", ("cosine_restarts",)),
    "schedule.peak_at": ("schedule.name", ("one_cycle",)),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A frozen, validated recipe; every field is a default of its section until a file or `replace` says otherwise.

    Args:
        name: by which runs and folders call it.
        about: source, command, hardware, minutes, expected accuracy, last reproduction.
        model: arguments of the constructor.
        data: size, crop, normalisation, validation split.
        augment: random changes of training images.
        loss: what is minimised.
        optimizer: how weights move.
        schedule: how the learning rate goes.
        train: epochs, batch, precision, seed, early stopping.

    Raises:
        TypeError, ValueError: a value is out of its range.

    Example:
        >>> from keras_resnet import training
        >>> recipe = training.Recipe.load("quick").replace({"model.width": "8", "train.epochs": 2})
        >>> recipe.model.width, recipe.train.epochs
        (8, 2)
    """

    name: str = "recipe"
    about: sections.About = dataclasses.field(default_factory=sections.About)
    model: sections.Model = dataclasses.field(default_factory=sections.Model)
    data: sections.Data = dataclasses.field(default_factory=sections.Data)
    augment: sections.Augment = dataclasses.field(default_factory=sections.Augment)
    loss: sections.Loss = dataclasses.field(default_factory=sections.Loss)
    optimizer: sections.Optimizer = dataclasses.field(default_factory=sections.Optimizer)
    schedule: sections.Schedule = dataclasses.field(default_factory=sections.Schedule)
    train: sections.Train = dataclasses.field(default_factory=sections.Train)

    def __post_init__(self) -> None:
        """Checks the name and the types of the sections."""
        if not isinstance(self.name, str) or not self.name or set(self.name) & set("/\\\0"):
            raise BadValue(
                f"name={self.name!r} is no name of a recipe. Allowed is a string without slashes. Name it like a file."
            )
        for title, section in {"about": sections.About, **sections.SECTIONS}.items():
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
        known = {"about": sections.About, **sections.SECTIONS}
        for key in tables:
            if key != "name" and key not in known:
                raise unknown_key(str(key), ["name", *known])
        made = {title: make(known[title], values) for title, values in tables.items() if title != "name"}
        return cls(name=tables.get("name", name), **made)

    @classmethod
    def load(cls, source: str | os.PathLike) -> "Recipe":
        """Returns a recipe of the package by its name, or reads a TOML file.

        Args:
            source: a name from `list_recipes()`, or a path that ends in `.toml`.

        Raises:
            TypeError, ValueError: there is no such recipe or file, or the file is not a valid recipe.
        """
        if not isinstance(source, (str, os.PathLike)):
            raise BadType(f"recipe must be a name or a path, got {source!r}. Pass such as 'quick' or 'my.toml'.")
        path = pathlib.Path(source)
        if path.suffix != ".toml":
            text = choose("recipe", os.fspath(source), _packaged()).read_text(encoding="utf-8")
            return cls.from_dict(tomllib.loads(text), name=os.fspath(source))
        if not path.is_file():
            raise BadValue(f"recipe={os.fspath(source)!r} is not a file. Allowed is a TOML file. Check the path.")
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadValue(
                f"recipe={os.fspath(source)!r} is not valid TOML: {error}. Allowed are [section] tables of "
                "key = value. Correct that line."
            ) from error
        return cls.from_dict(tables, name=path.stem)

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
        return tomli_w.dumps(self.to_dict())

    def save(self, path: str | os.PathLike) -> None:
        """Writes the recipe as TOML, whole or not at all."""
        files.write_text(path, self.to_toml())

    def replace(self, overrides: Mapping[str, Any]) -> "Recipe":
        """Returns a recipe with other values.

        Args:
            overrides: "section.field" -> value; a string is read as the type of the field.

        Raises:
            TypeError, ValueError: a key is unknown, a value is out of its range, or it would have no effect.
        """
        tables = self.to_dict()
        known = {"about": sections.About, **sections.SECTIONS}
        for key, value in overrides.items():
            title, _, name = str(key).partition(".")
            if title not in known:
                raise unknown_key(str(key), _keys())
            tables[title][name] = parsed(known[title], name, value)
        made = type(self).from_dict(tables)
        for key in overrides:
            made._refuse_without_effect(str(key))
        return made

    def compile_args(self, *, steps_per_epoch: int, from_logits: bool = False) -> dict[str, Any]:
        """Returns the arguments of `model.compile`: optimizer, loss, metrics.

        Args:
            steps_per_epoch: batches an epoch; with `train.epochs` it sets the length of the schedule.
            from_logits: whether the model ends in logits; False for `ResNet18()`, which ends in a softmax.

        Raises:
            TypeError, ValueError: an argument is out of its range.

        Example:
            >>> from keras_resnet import ResNet18, training
            >>> recipe = training.Recipe.load("quick")
            >>> model = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=10)
            >>> model.compile(**recipe.compile_args(steps_per_epoch=20))
        """
        steps = check_int("steps_per_epoch", steps_per_epoch) * self.train.epochs
        learning_rate = build_schedule(self.schedule, self.optimizer.learning_rate, steps)
        loss, metrics = build_loss(self.loss, from_logits)
        return {
            "optimizer": build_optimizer(self.optimizer, learning_rate, self.train.precision),
            "loss": loss,
            "metrics": metrics,
        }

    def callbacks(self, out: str | os.PathLike) -> list[keras.callbacks.Callback]:
        """Returns what records a run of your own `model.fit` in a folder.

        They check that the model's last activation fits the loss, stop at a loss that is not finite, validate with
        averaged weights where the recipe averages, keep `best.keras`, stop early, and write `history.csv`,
        `curves.png` and `logs/`.

        Args:
            out: a folder; made where it is missing.

        Raises:
            ValueError: the folder cannot be written, or holds the history of another run.
        """
        return recording_callbacks(self, out)

    def _refuse_without_effect(self, key: str) -> None:
        if key not in EFFECTIVE:
            return
        decisive, choices = EFFECTIVE[key]
        title, _, name = decisive.partition(".")
        chosen = getattr(getattr(self, title), name)
        if chosen not in choices:
            raise BadValue(
                f"{key} has no effect with {decisive}={chosen!r}. It is read with {', '.join(map(repr, choices))}. "
                f"Leave it out, or set {decisive}."
            )


def list_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(_packaged())


def _packaged() -> dict[str, Any]:
    folder = importlib.resources.files("keras_resnet.training") / "recipes"
    return {entry.name.removesuffix(".toml"): entry for entry in folder.iterdir() if entry.name.endswith(".toml")}


def _keys() -> list[str]:
    return [
        f"{title}.{field.name}" for title, section in sections.SECTIONS.items() for field in dataclasses.fields(section)
    ]
