"""What a run is, and what has happened in it: two records that are saved, compared and read back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

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
        class_names: one a class; empty for a regression.
        sizes: examples of each split.
        image_shape: `(*space, channels)` of the data, None where sizes differ.
        report: what was noticed about the data.
        versions: of the packages that compute.
        parameters: of the network.
        input_shape: of the network, such as "32x32x3".
        steps_per_epoch: training batches an epoch.
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
        recipe = {key: value for key, value in self.recipe.to_dict().items() if key not in DESCRIPTIVE}
        return {**{name: getattr(self, name) for name in IDENTITY}, "recipe": recipe}


# What runs did whose recipe lacks the field: versions before it was there.
EARLIER = {"data": {"apply_exif": False}}


def earlier_recipe(tables: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of a run or a search that may be older than some of its fields.

    Args:
        tables: as `Recipe.to_dict` of that version made them.
    """
    known = {title: {**EARLIER.get(title, {}), **tables[title]} for title in EARLIER if title in tables}
    return Recipe.from_dict({**tables, **known})


@dataclasses.dataclass
class Progress:
    """What has happened in a run, up to the end of its last whole epoch.

    Attributes:
        epochs: that were finished and saved.
        best: the best figure so far, by which the best model is kept.
        best_epoch: in which it was reached, 1-based.
        waited: epochs since then.
        stopped: no better one came for as long as the recipe waits.
        halted: whoever follows the run asked it to stop; it can go on.
        rows: one an epoch, as in history.csv.
        steps: training batches that this process has run; not saved.
    """

    epochs: int = 0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    stopped: bool = False
    halted: bool = False
    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)
    steps: int = 0

    def to_state(self) -> dict[str, Any]:
        """Returns what a saved state holds of it."""
        names = ("best", "best_epoch", "waited", "stopped")
        return {"epochs": self.epochs, "best": {name: getattr(self, name) for name in names}, "history": self.rows}

    def take(self, state: Mapping[str, Any]) -> None:
        """Takes over what a saved state holds."""
        self.epochs, self.rows = state["epochs"], list(state["history"])
        for name, value in state["best"].items():
            setattr(self, name, value)


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
