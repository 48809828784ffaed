"""What a run is, and what run.json holds: read as if a stranger had written it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.sections import DESCRIPTIVE, Defaults

COMPLETE, RUNNING, STOPPED = "complete", "running", "stopped"
# What must be the same for a resumed run to end as an uninterrupted one.
IDENTITY = ("recipe", "model", "data", "fingerprint")


@dataclasses.dataclass(frozen=True)
class Description:
    """What a run is, known before its first step.

    Attributes:
        recipe: how it is trained.
        model: name of the variant.
        data: spec, with absolute paths.
        data_dir: root of prepared data sets, or None.
        fingerprint: of the data.
        class_names: one per class; empty for a regression.
        sizes: examples of each split.
        image_shape: `(*space, channels)` of the data, None where sizes differ.
        report: what was noticed about the data.
        versions: of the packages that compute.
        parameters: of the network.
        input_shape: of the network, such as "32x32x3".
        steps_per_epoch: training batches per epoch.
        extended: numbers of epochs that were planned before more were asked for.
        weights_sha256: of the file of weights that it began with; empty for random ones.
        setbacks: each time that it diverged and went back: reason, step, rate, and by what rates were multiplied after.
    """

    recipe: Recipe
    model: str
    data: str
    data_dir: str | None
    fingerprint: str
    class_names: tuple[str, ...]
    sizes: Mapping[str, int]
    image_shape: tuple[int | None, ...]
    report: tuple[str, ...] = ()
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parameters: int = 0
    input_shape: str = ""
    steps_per_epoch: int = 0
    extended: tuple[int, ...] = ()
    weights_sha256: str = ""
    setbacks: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**plain, "recipe": self.recipe.to_dict(), "seed": self.recipe.train.seed}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Description":
        """Returns what `to_dict` made plain; fields that an earlier version did not know take their defaults."""
        names = {field.name for field in dataclasses.fields(cls)}
        known: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in names
        }
        return cls(**{**known, "recipe": earlier_recipe(values["recipe"])})

    def recipe_for_others(self) -> Recipe:
        """Returns the recipe with the model and the data that it was used for, as files hold it."""
        defaults = Defaults(model=self.model, data=self.data, data_dir=self.data_dir or "")
        return dataclasses.replace(self.recipe, defaults=defaults)

    def identity(self) -> dict[str, Any]:
        """Returns what a run has in common with itself when it goes on; what its recipe says of itself may change."""
        return {**{name: getattr(self, name) for name in IDENTITY}, "recipe": _identity_of(self.recipe)}


# What runs did whose recipe lacks the field: versions before it was there.
EARLIER = {"data": {"apply_exif": False}}


def earlier_recipe(tables: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of a run or a search that may be older than some of its fields.

    Args:
        tables: as `Recipe.to_dict` of that version made them.
    """
    known = {title: {**EARLIER.get(title, {}), **tables[title]} for title in EARLIER if title in tables}
    return Recipe.from_dict({**tables, **known})


def differences(saved: Any, present: Any, name: str = "") -> list[str]:
    """Returns a line for every value that differs between two nested tables.

    Args:
        saved: as a folder has it.
        present: as it is now.
        name: of the tables, before the names of their keys.
    """
    if isinstance(saved, dict) and isinstance(present, dict):
        keys = sorted({*saved, *present})
        return [
            line
            for key in keys
            for line in differences(saved.get(key), present.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if saved == present else [f"{name}: {saved!r} in the folder, {present!r} now"]


# Fields of [train] that leave the weights of a run as they are, as long as it does not diverge.
OF_STATES = ("save_every", "keep_states", "on_divergence")


def with_defaults(identity: dict[str, Any]) -> dict[str, Any]:
    """Returns the identity of a run of an earlier version with the recipe fields that it did not know."""
    return {**identity, "recipe": _identity_of(earlier_recipe(identity["recipe"]))}


def _identity_of(recipe: Recipe) -> dict[str, Any]:
    """Returns what must be the same: not what a recipe says of itself, when states are saved, nor who trains."""
    tables = {key: value for key, value in recipe.to_dict().items() if key not in DESCRIPTIVE}
    return {
        **tables,
        "train": {key: value for key, value in tables["train"].items() if key not in OF_STATES},
        # How many processes train may change; what their batch norms see may not.
        "distribution": {"synchronize_norms": recipe.distribution.synchronize_norms},
    }


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _table_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _is_history(value: Any) -> bool:
    return _list_of(_table_of(_or_none(_is_number)))(value) and all(row.keys() == value[0].keys() for row in value)


def _are_scores(value: Any) -> bool:
    return _table_of(lambda figures: isinstance(figures, dict) and _is_count(figures.get("examples")))(value)


def _is_setback(value: Any) -> bool:
    factor: Any = value.get("rate_factor") if isinstance(value, dict) else None
    return _is_number(factor) and 0 < factor <= 1


# Field of run.json -> its check, and what is allowed.
STRINGS, COUNT = (_list_of(_is_string), "a list of strings"), (_is_count, "a whole number >= 0")
TEXT, MAYBE_COUNT = (_is_string, "a string"), (_or_none(_is_count), "a whole number >= 0, or null")
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "status": (lambda value: value in (COMPLETE, RUNNING, STOPPED), f"{COMPLETE!r}, {RUNNING!r} or {STOPPED!r}"),
    "recipe": (_table_of(lambda _: True), "a table"),
    "model": TEXT,
    "data": TEXT,
    "data_dir": (_or_none(_is_string), "a string, or null"),
    "fingerprint": TEXT,
    "class_names": STRINGS,
    "sizes": (_table_of(_is_count), "a table of whole numbers"),
    "image_shape": (_list_of(_or_none(_is_count)), "a list of whole numbers or null"),
    "report": STRINGS,
    "versions": (_table_of(_is_string), "a table of strings"),
    "parameters": COUNT,
    "input_shape": TEXT,
    "steps_per_epoch": COUNT,
    "weights_sha256": TEXT,
    "setbacks": (_list_of(_is_setback), "a list of tables with a rate_factor above 0 and up to 1"),
    "extended": (_list_of(_is_count), "a list of whole numbers"),
    "epochs_trained": MAYBE_COUNT,
    "best_epoch": MAYBE_COUNT,
    "optimizer_steps": MAYBE_COUNT,
    "skipped_steps": MAYBE_COUNT,
    "metrics": (_are_scores, "a table of scores, each with its number of examples"),
    "history": (_is_history, "a list of tables of numbers with the same names"),
}
NEEDED = ("status", "recipe", "model", "data", "data_dir", "fingerprint", "class_names", "sizes", "image_shape")


@dataclasses.dataclass(frozen=True)
class RunFile:
    """What run.json holds.

    Attributes:
        about: what the run is.
        status: `COMPLETE`, `RUNNING` or `STOPPED`.
        epochs_trained: fewer than planned where the run stopped early; None while it runs.
        best_epoch: whose model is in best.keras, 1-based.
        optimizer_steps: that were taken.
        skipped_steps: whose 16-bit gradients overflowed.
        metrics: split -> its scores.
        history: a row per epoch, name -> value.
    """

    about: Description
    status: str
    epochs_trained: int | None = None
    best_epoch: int | None = None
    optimizer_steps: int | None = None
    skipped_steps: int | None = None
    metrics: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        own = {name: getattr(self, name) for name in OUTCOME}
        told = {name: value for name, value in own.items() if value is not None}
        rows = [dict(row) for row in self.history]
        return {"status": self.status, **self.about.to_dict(), **told, "history": rows}

    @classmethod
    def from_dict(cls, values: Any) -> "RunFile":
        """Returns what `to_dict` made plain.

        Raises:
            ValueError: a field is missing, or holds what a training does not write.
        """
        if not isinstance(values, dict):
            raise BadValue("it is not a table.")
        missing = [name for name in NEEDED if name not in values]
        if missing:
            raise BadValue(f"it lacks {', '.join(missing)}.")
        for name, (check, allowed) in CHECKS.items():
            if name in values and not check(values[name]):
                raise BadValue(f"{name} is {str(values[name])[:60]!r}, and must be {allowed}.")
        own = {name: values[name] for name in OUTCOME if name in values}
        own["history"] = tuple(own.get("history", ()))
        return cls(Description.from_dict(values), values["status"], **own)


OUTCOME = tuple(field.name for field in dataclasses.fields(RunFile) if field.name not in ("about", "status"))
