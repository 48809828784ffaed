"""What a search is: resolved from what was asked for, and compared with what a folder holds already."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import oracles

from keras_resnet import models, training
from keras_resnet.arguments import check_int, choose
from keras_resnet.errors import BadValue
from keras_resnet.training import Recipe, fields
from keras_resnet.training.experiment import absolute_spec, defaults_of
from keras_resnet.training.recipe import DESCRIPTIVE
from keras_resnet.training.run import EPOCHS, earlier_recipe
from keras_resnet.training.scoring import AUTO, BALANCED, RECALL, direction_of
from keras_resnet.tuning.space import Space

NEVER = 1_000_000_000  # failures are counted by the ledger, which lets every worker know


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A row of the table.

    Attributes:
        oracle: from trials, epochs, factor and the common arguments to an oracle.
        has_rungs: whether trials go on from shorter ones, by KerasTuner's values "tuner/epochs" and "tuner/trial_id".
        extra: further attributes of the oracle's state, which KerasTuner leaves out.
    """

    oracle: Callable[..., Any]
    has_rungs: bool = False
    extra: tuple[str, ...] = ()


def _random(trials: int, epochs: int, factor: int, **common: Any) -> Any:
    return oracles.RandomSearchOracle(max_trials=trials, **common)


def _bayesian(trials: int, epochs: int, factor: int, **common: Any) -> Any:
    # KerasTuner draws three random points a dimension first, more than most searches have trials.
    return oracles.BayesianOptimizationOracle(max_trials=trials, num_initial_points=max(3, trials // 3), **common)


def _hyperband(trials: int, epochs: int, factor: int, **common: Any) -> Any:
    # Iterations without end; the ledger stops at the number of trials.
    return oracles.HyperbandOracle(max_epochs=epochs, factor=factor, hyperband_iterations=NEVER, **common)


def _grid(trials: int, epochs: int, factor: int, **common: Any) -> Any:
    return oracles.GridSearchOracle(max_trials=trials, **common)


ALGORITHMS: dict[str, Algorithm] = {
    "random": Algorithm(_random),
    "bayesian": Algorithm(_bayesian),
    "hyperband": Algorithm(_hyperband, has_rungs=True),
    "grid": Algorithm(_grid, extra=("_populate_next",)),
}


def make_oracle(
    algorithm: str,
    *,
    trials: int,
    epochs: int,
    factor: int,
    seed: int,
    objective: str,
    direction: str,
    hyperparameters: keras_tuner.HyperParameters,
) -> Any:
    """Returns an oracle at its beginning, which writes no files."""
    oracle = ALGORITHMS[algorithm].oracle(
        trials,
        epochs,
        factor,
        seed=seed + 1,
        objective=keras_tuner.Objective(objective, direction),
        hyperparameters=hyperparameters,
        allow_new_entries=False,
        tune_new_entries=True,
        max_consecutive_failed_trials=NEVER,
    )
    oracle.verbose = 0
    oracle.save = lambda: None
    oracle._save_trial = lambda trial: None
    return oracle


def state_of(algorithm: str, oracle: Any) -> dict[str, Any]:
    """Returns the state of an oracle as plain values for JSON."""
    state = oracle.get_state()
    for name in ALGORITHMS[algorithm].extra:
        state[name] = getattr(oracle, name)
    if algorithm == "grid":
        chain = oracle._ordered_ids
        state["_ordered_ids"] = {
            "memory": chain._memory,
            "data_to_index": list(chain._data_to_index.items()),
            "next_index": list(chain._next_index.items()),
            "last_index": chain._last_index,
        }
    return state


def restore_state(algorithm: str, oracle: Any, state: dict[str, Any]) -> None:
    """Puts a state into an oracle whose `trials` are set already."""
    oracle.set_state(state)
    for name in ALGORITHMS[algorithm].extra:
        setattr(oracle, name, state[name])
    if algorithm == "grid":
        chain, kept = oracle._ordered_ids, state["_ordered_ids"]
        chain._memory, chain._last_index = kept["memory"], kept["last_index"]
        chain._data_to_index.update((key, index) for key, index in kept["data_to_index"])
        chain._next_index.update((key, index) for key, index in kept["next_index"])
    if algorithm == "bayesian":
        # Where the search for the best next point starts: another place for every trial, the same after a restart.
        oracle._random_state = np.random.RandomState(oracle.seed + len(oracle.trials))


KEEP = {"best": "the best model alone", "all": "the model of every trial"}

DEFAULT_SPACE = "default"


@dataclasses.dataclass(frozen=True)
class Settings(fields.Section):
    """`--set search.NAME=VALUE`.

    `recipe` and `space` are where a search starts and what it varies: names or TOML files. `objective` is a metric of
    the validation split: "auto" for the accuracy, of regressions the mean absolute error; "loss" (the plain loss of the
    task, without smoothing and regularization), or another that the runs report; "balanced_accuracy" or "recall:CLASS",
    by which the best epoch of a trial is then chosen too. `max_parameters`, `max_multiply_adds` and `max_latency_ms`
    are limits, 0 for none; a trial over a limit is not trained. `prune_trials` ends a trial whose best objective so far
    is worse than the median that other trials had reached at that epoch. `folds` judges a trial by that many folds of
    the training split: it is trained once for each, on the others, and its score is the mean; it takes that many times
    as long, and the differences between trials are less those of one small validation split. 0 for the validation split
    alone. A trial that is pruned is so in its first fold. `max_retries` counts further attempts after a trial that took
    its process down; `max_failures` in a row end the search. A trial stands still, and fails, when no batch ended for
    `stall_minutes`, or for `stall_factor` times its usual step and a minute; 0 for never. `keep` says whose models
    stay; `factor` is that of Hyperband's halving. `trial_cpus` and `trial_gpus` are what a trial takes of a node of
    a Ray cluster.
    """

    title = "search"
    recipe: str = fields.text("quick")
    space: str = fields.text(DEFAULT_SPACE)
    objective: str = fields.text(AUTO)
    max_parameters: int = fields.integer(0)
    max_multiply_adds: int = fields.integer(0)
    max_latency_ms: float = fields.number(0.0)
    prune_trials: bool = fields.flag(True)
    folds: int = fields.integer(0)
    max_retries: int = fields.integer(2)
    max_failures: int = fields.integer(3, minimum=1)
    stall_minutes: float = fields.number(60.0)
    stall_factor: float = fields.number(1000.0)
    keep: str = fields.choice("best", KEEP)
    factor: int = fields.integer(3, minimum=2)
    trial_cpus: float = fields.number(1.0)
    trial_gpus: float = fields.number(0.0)

    def with_objective(self, recipe: Recipe) -> Recipe:
        """Returns the recipe whose runs report the objective; some metrics need `train.monitor` for that."""
        name = self.objective.removeprefix("val_")
        if recipe.train.monitor == AUTO and (name == BALANCED or name.startswith(RECALL)):
            return recipe.replace({"train.monitor": name})
        return recipe

    def metric(self, recipe: Recipe) -> str:
        """Returns the objective as the history names it.

        "loss" is the plain loss of the task: what trials minimize differs with their smoothing and regularization.

        Raises:
            ValueError: runs of the recipe do not report it.
        """
        _, metrics = recipe.loss.build(from_logits=True)
        names = ["loss", *(metric if isinstance(metric, str) else metric.name for metric in metrics)]
        if recipe.train.monitor != AUTO:
            names.append(recipe.train.monitor)
        name = recipe.loss.choice.task.paired[0] if self.objective == AUTO else self.objective.removeprefix("val_")
        if name not in names:
            raise BadValue(
                f"search.objective={self.objective!r} is not reported with loss.name={recipe.loss.name!r}. Allowed are "
                f"{', '.join(map(repr, names))}, for classes {BALANCED!r} and '{RECALL}CLASS'. Choose one of them."
            )
        return f"val_{recipe.loss.plain_metric if name == 'loss' else name}"


REMEMBERED = ("model", "data", "data_dir", "algorithm", "trials")
DEFAULTS: dict[str, Any] = {
    "model": "resnet18",
    "data": "digits",
    "data_dir": None,
    "algorithm": "random",
    "trials": 20,
}
# What would make trials incomparable, or is the search's own to set.
FIXED = (
    "data.validation_fraction",
    "data.validation_fold",
    "data.fold",
    "data.on_bad_image",
    "loss.name",
    "train.seed",
    "train.epochs",
)


@dataclasses.dataclass(frozen=True)
class Definition:
    """What a search is; the same when it goes on."""

    recipe: training.Recipe
    model: str
    data: str
    data_dir: str | None
    algorithm: str
    trials: int
    seed: int
    space: Space
    settings: Settings

    @property
    def direction(self) -> str:
        """Whether a larger objective is better: "max" or "min"."""
        return direction_of(self.metric.removeprefix("val_"))

    @property
    def metric(self) -> str:
        """The objective as the history names it."""
        return self.settings.metric(self.recipe)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        settings = dataclasses.asdict(self.settings)
        return {**plain, "recipe": self.recipe.to_dict(), "space": self.space.rows(), "settings": settings}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Definition":
        """Builds the object from the plain values of `to_dict`."""
        fields = {
            "recipe": earlier_recipe(values["recipe"]),
            "space": Space.from_rows(values["space"]),
            "settings": Settings(**values["settings"]),
        }
        return cls(**{**values, **fields})


def define(
    known: Definition | None,
    recipe: Any,
    space: Any,
    asked: dict[str, Any],
    epochs: int | None,
    seed: int | None,
    overrides: Mapping[str, Any],
) -> Definition:
    """Returns the definition of a search: as given, else as the search in the folder has it, else by default."""
    arguments = {name: value for name, value in asked.items() if value is not None}
    remembered = DEFAULTS if known is None else {name: getattr(known, name) for name in REMEMBERED}
    own = {key.partition(".")[2]: value for key, value in overrides.items() if key.startswith("search.")}
    base = Settings() if known is None else known.settings
    values = {**_plain(base), **{name: fields.parse(Settings, name, value) for name, value in own.items()}}
    settings = fields.make(Settings, values)
    changes = {key: value for key, value in overrides.items() if not key.startswith("search.")}
    changes |= {} if epochs is None else {"train.epochs": epochs}
    changes |= {} if seed is None else {"train.seed": seed}
    if known is None or recipe is not None or "recipe" in own:
        source = settings.recipe if recipe is None else recipe
        if recipe is None and "recipe" not in own:  # what fits the data, as `training.fit` takes it
            named_data = {name: value for name, value in arguments.items() if name in ("model", "data", "data_dir")}
            source = training.resolve(**named_data, overrides=changes).recipe
        recipe = source if isinstance(source, training.Recipe) else training.Recipe.load(source)
    else:
        recipe = known.recipe
    recipe = settings.with_objective(recipe.replace(changes))
    if known is None:
        remembered = {**remembered, **defaults_of(recipe, "data" in arguments)}
    plain = {**remembered, **arguments}
    if known is None or space is not None or "space" in own:
        chosen = settings.space if space is None else space
        space = chosen if isinstance(chosen, Space) else Space.load(chosen)
        if chosen == DEFAULT_SPACE:
            # It is for classifiers and regressions alike; in a space of the user's such a dimension is a mistake.
            space = space.fitting(recipe)
    else:
        space = known.space
    choose("model", plain["model"], models.VARIANTS)
    choose("algorithm", plain["algorithm"], ALGORITHMS)
    settings.metric(recipe)
    if recipe.distribution.kind != "none":
        raise BadValue(
            f"distribution.kind={recipe.distribution.kind!r} was given for a search. A trial is trained in one process."
            " Allowed is 'none'. Set it so; --workers runs trials at the same time."
        )
    recipe = _judged_by_folds(recipe, settings.folds, plain["algorithm"])
    for name in FIXED:
        if name in space.names:
            raise BadValue(
                f"The search space names {name!r}. Trials are compared on one split, by one objective and at one "
                "budget. Take it out, and set it for the whole search instead."
            )
    space.for_recipe(recipe)
    spec, root = absolute_spec(str(plain["data"]), plain["data_dir"])
    return Definition(
        recipe=recipe,
        model=plain["model"],
        data=spec,
        data_dir=root,
        algorithm=plain["algorithm"],
        trials=check_int("trials", plain["trials"]),
        seed=recipe.train.seed,
        space=space,
        settings=settings,
    )


def _judged_by_folds(recipe: training.Recipe, folds: int, algorithm: str) -> training.Recipe:
    """Returns the recipe of the first fold of each trial, where trials are judged by folds."""
    if not folds:
        return recipe
    check_int("search.folds", folds, minimum=2)
    if algorithm == "hyperband":
        raise BadValue(
            f"search.folds={folds} was given with the algorithm 'hyperband', whose trials are trained in pieces. "
            "Allowed are the other algorithms. Leave it out, or choose another."
        )
    return recipe.replace({"data.validation_fold": f"1/{folds}"})


def _plain(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def check_same(folder: pathlib.Path, known: Definition, definition: Definition) -> None:
    """Raises ValueError where a folder holds another search; more trials may be asked for."""
    before, now = known.to_dict(), definition.to_dict()
    for values in (before, now):
        values["trials"] = None
        values["recipe"] = {key: value for key, value in values["recipe"].items() if key not in DESCRIPTIVE}
        values["settings"] = {key: value for key, value in values["settings"].items() if key not in ("recipe", "space")}
        # Data without pictures lost these when the search began.
        values["space"] = {name: rest for name, rest in values["space"] if not name.startswith("augment.")}
    changed = training.differences(before, now)
    if changed and all(line.startswith(EPOCHS) for line in changed):
        raise BadValue(
            f"out={os.fspath(folder)!r} holds a search whose trials have {known.recipe.train.epochs} epochs, and "
            f"{definition.recipe.train.epochs} were asked for. Scores of trials of unequal length would not compare. "
            f"Train the winner for longer (recipe {os.fspath(folder / 'best.toml')!r} with more epochs), or start "
            "another search from that recipe (search.recipe) in its own folder."
        )
    if definition.trials < known.trials:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds a search of {known.trials} trials, and {definition.trials} were asked "
            "for. A search that goes on may have as many or more. Ask for more, or start another one elsewhere."
        )
    if changed:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds another search; differing: {'; '.join(changed)}. Its trials would not "
            "compare with new ones. Give the same as before or nothing, or choose another folder."
        )
