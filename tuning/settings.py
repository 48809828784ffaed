"""What a search is told beside its space: the objective, its limits, and what to do with pruned and failed trials."""

import dataclasses

from keras_resnet.errors import BadValue
from keras_resnet.training import Recipe, fields
from keras_resnet.training.monitor import AUTO, BALANCED, RECALL

KEEP = {"best": "the best model alone", "all": "the model of every trial"}

DEFAULT_SPACE = "default"


@dataclasses.dataclass(frozen=True)
class Settings(fields.Section):
    """`--set search.NAME=VALUE`.

    `recipe` and `space` are where a search starts and what it varies: names or TOML files. `objective` is a metric of
    the validation split: "accuracy", "loss" (the plain loss of the task, without smoothing and regularization), or
    another that the runs report, "balanced_accuracy" or "recall:CLASS", by which the best epoch of a trial is then
    chosen too. `max_parameters`, `max_multiply_adds` and `max_latency_ms` are limits, 0 for none; a
    trial over a limit is not trained. `prune_trials` ends a trial whose best objective so far is worse than the median
    that other trials had reached at that epoch. `folds` judges a trial by that many folds of the training split: it is
    trained once for each, on the others, and its score is the mean; it takes that many times as long, and the
    differences between trials are less those of one small validation split. 0 for the validation split alone. A
    trial that is pruned is so in its first fold. `max_retries` counts further attempts after a trial that took its
    process down; `max_failures` in a row end the search. A trial stands still, and fails, when no batch ended for
    `stall_minutes`, or for `stall_factor` times its usual step and a minute; 0 for never. `keep` says whose models
    stay; `factor` is that of Hyperband's halving. `trial_cpus` and `trial_gpus` are what a trial takes of a node of
    a Ray cluster.
    """

    title = "search"
    recipe: str = fields.text("quick")
    space: str = fields.text(DEFAULT_SPACE)
    objective: str = fields.text("accuracy")
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
        known = ["loss", *(metric if isinstance(metric, str) else metric.name for metric in metrics)]
        if recipe.train.monitor != AUTO:
            known.append(recipe.train.monitor)
        name = self.objective.removeprefix("val_")
        if name not in known:
            raise BadValue(
                f"search.objective={self.objective!r} is not reported with loss.name={recipe.loss.name!r}. Allowed are "
                f"{', '.join(map(repr, known))}, for classes {BALANCED!r} and '{RECALL}CLASS'. Choose one of them."
            )
        return f"val_{recipe.loss.plain_metric if name == 'loss' else name}"
