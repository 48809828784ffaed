"""What a search has found so far: its trials, the best recipe, and the files that say so."""

import csv
import dataclasses
import datetime
import os
import pathlib
import shlex
from typing import Any

from keras_resnet import files, training
from keras_resnet.errors import BadValue
from keras_resnet.training.recipe import Defaults
from keras_resnet.tuning.definition import Definition
from keras_resnet.tuning.ledger import COMPLETE, ENDED, SCORED, Ledger, Trial
from keras_resnet.tuning.space import VARIANT

FIGURES = ("id", "status", "score", "epochs", "parameters", "attempts", "worker", "seconds", "training_seconds")


def recipe_of(definition: Definition, values: dict[str, Any]) -> training.Recipe:
    """Returns the recipe of a trial."""
    return definition.recipe.replace(definition.space.overrides(values))


def variant_of(definition: Definition, values: dict[str, Any]) -> str:
    """Returns the name of the model of a trial."""
    return values.get(VARIANT, definition.model)


def best_of(definition: Definition, trials: list[Trial]) -> Trial | None:
    """Returns the best trial: of those that were trained to the end, where there is one; of equals the first."""
    sign = 1 if definition.direction == "max" else -1
    scored = [trial for trial in trials if trial.status in SCORED and trial.score is not None]
    whole = [trial for trial in scored if trial.status == COMPLETE and trial.epochs >= definition.recipe.train.epochs]
    # max() keeps the first of equals.
    return max(whole or scored, key=lambda trial: sign * (trial.score or 0.0), default=None)


@dataclasses.dataclass(frozen=True)
class Search:
    """A search in its folder.

    Attributes:
        path: of the folder.
        definition: what was searched, and how.
        trials: in the order of their start.
        best: the winner; None where no trial has a score.
        recipe: of the winner, as best.toml has it.
        metrics: its scores on the test split, once the search is over.
        stopped: why the search ended early; None where it did not.
        tests: how often the test split was scored: once, and again each time the search was extended.
        facts: of the data: fingerprint, sizes, shape, class names.
    """

    path: pathlib.Path
    definition: Definition
    trials: tuple[Trial, ...]
    best: Trial | None
    recipe: training.Recipe | None
    metrics: dict[str, Any] | None
    stopped: str | None
    tests: int
    facts: dict[str, Any] | None

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Search":
        """Reads the folder of a search.

        Raises:
            ValueError: it holds none, or its record cannot be read.
        """
        folder = pathlib.Path(path).expanduser()
        record, definition, trials = Ledger(folder).read()
        best = best_of(definition, trials)
        final = record["final"] or {}
        return cls(
            path=folder,
            definition=definition,
            trials=tuple(trials),
            best=best,
            recipe=None if best is None else _described(definition, best, folder),
            metrics=final.get("test"),
            stopped=record["stopped"],
            tests=len([*record.get("earlier_finals", []), *filter(None, [record["final"]])]),
            facts=record["facts"],
        )

    @property
    def model(self) -> Any:
        """The model of the winner, from images in [0, 255] to logits."""
        if self.best is None:
            raise BadValue(
                f"The search in {os.fspath(self.path)!r} has no trial with a score, and no model. Go on with it."
            )
        return training.Run.load(self.path / "trials" / self.best.id).model

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.metrics is not None or (
            len(self.trials) >= self.definition.trials and all(trial.status in ENDED for trial in self.trials)
        )

    def write(self) -> None:
        """Writes trials.csv, and best.toml once there is a winner."""
        names = self.definition.space.names
        extra = sorted({name for trial in self.trials for name in trial.values if name.startswith("tuner/")})

        def write_rows(path: pathlib.Path) -> None:
            # Messages name files as they are; what is no UTF-8 in them stands escaped.
            with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*FIGURES, *names, *extra, "message"])
                for trial in self.trials:
                    figures = [getattr(trial, name) for name in FIGURES]
                    writer.writerow(
                        [
                            *figures,
                            *(trial.values.get(name, "") for name in (*names, *extra)),
                            files.plain_cell(trial.message),
                        ]
                    )

        files.write_atomically(self.path / "trials.csv", write_rows)
        if self.recipe is not None:
            files.write_text(self.path / "best.toml", self.recipe.to_toml())

    def __str__(self) -> str:
        """Returns a human-readable summary."""
        counts = {status: sum(trial.status == status for trial in self.trials) for status in ENDED}
        summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        lines = [
            f"search     {self.path}",
            f"trials     {len(self.trials)} of {self.definition.trials}: {summary or 'none ended'}",
        ]
        if self.best is not None:
            metric, about = self.definition.metric, self.definition
            lines.append(
                f"best       trial {self.best.id}, {metric} {self.best.score:.4f} after {self.best.epochs} epochs"
            )
            values = {
                **about.space.overrides(self.best.values),
                **({VARIANT: self.best.values[VARIANT]} if VARIANT in self.best.values else {}),
            }
            lines += [f"           {name} = {_short(value)}" for name, value in values.items()]
        if self.metrics:
            metrics = (f"{name} {value:.4f}" for name, value in self.metrics.items() if isinstance(value, float))
            lines.append(f"test       {', '.join(metrics)} ({self.metrics['examples']} examples, {_times(self.tests)})")
        if self.best is not None:
            lines.append(f"recipe     {self.path / 'best.toml'}")
        return "\n".join(lines)


def _times(count: int) -> str:
    return "seen once" if count == 1 else f"seen {count} times: once each time the search was extended"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _described(definition: Definition, best: Trial, folder: pathlib.Path) -> training.Recipe:
    """Returns the winner's recipe with where it comes from."""
    # Whoever trains it has a validation split as usual, not the first of the search's folds.
    recipe = recipe_of(definition, best.values).replace({"data.validation_fold": "none"})
    about = dataclasses.replace(
        recipe.about,
        source=f"keras-resnet tune, {definition.algorithm} search of {definition.trials} trials from the recipe "
        f"{definition.recipe.name!r}, seed {definition.seed}; trial {best.id}",
        command=shlex.join(["keras-resnet", "train", "--recipe", os.fspath(folder / "best.toml")]),
        notice="",
        hardware="",
        minutes=f"{best.training_seconds / 60:.1f}",
        expected_accuracy=f"{definition.metric} {best.score:.4f}",
        last_reproduced=f"{datetime.date.today()}, by the search",
    )
    made_for = Defaults(
        model=variant_of(definition, best.values), data=definition.data, data_dir=definition.data_dir or ""
    )
    return dataclasses.replace(recipe, name=f"{definition.recipe.name}-tuned", about=about, defaults=made_for)
