"""How much each hyperparameter of a search mattered."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.tuning import Dimension, Trial

FEWEST_TRIALS = 10
TREES, REPEATS, FOLDS = 200, 10, 5


@dataclasses.dataclass(frozen=True)
class Importance:
    """Permutation importance, on trials that the model was not fitted to.

    Attributes:
        explained: R squared of the forest on held-out trials; near or below 0 the importances mean nothing.
        drops: name -> how much of it is lost when the values of that hyperparameter are shuffled, the largest first.
        spreads: name -> standard deviation over folds and shuffles.
    """

    explained: float
    drops: dict[str, float]
    spreads: dict[str, float]


def importance_of(dimensions: Sequence[Dimension], trials: Sequence[Trial], seed: int = 0) -> Importance | None:
    """Returns how much each dimension mattered for the score, by permutation importance of a random forest.

    A forest of 200 trees learns the score from the values in 5 folds. On each held-out fold the values of one dimension
    are shuffled ten times; the importance is the mean loss of R squared.

    Args:
        dimensions: of the search.
        trials: those with a score count.
        seed: of folds, forests and shuffles.

    Returns:
        None with fewer than 10 scored trials, or where all scores are equal.

    Source:
        Breiman 2001, "Random Forests", section 10.
    """
    scored = [trial for trial in trials if trial.score is not None]
    scores = np.array([trial.score for trial in scored], dtype=float)
    if len(scored) < FEWEST_TRIALS or np.ptp(scores) == 0:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    values = np.array([[encoded(dimension, trial.values) for dimension in dimensions] for trial in scored])
    drops, predicted = [], np.empty_like(scores)
    for train, held_out in KFold(FOLDS, shuffle=True, random_state=seed).split(values):
        forest = RandomForestRegressor(TREES, random_state=seed).fit(values[train], scores[train])
        predicted[held_out] = forest.predict(values[held_out])
        found = permutation_importance(
            forest,
            values[held_out],
            scores[held_out],
            n_repeats=REPEATS,
            random_state=seed,
            scoring="neg_mean_squared_error",
        )
        drops.append(found.importances / scores.var())
    together = np.concatenate(drops, axis=1)
    order = sorted(range(len(dimensions)), key=lambda index: -together[index].mean())
    names = [dimensions[index].name for index in order]
    return Importance(
        explained=float(1 - np.mean((predicted - scores) ** 2) / scores.var()),
        drops=dict(zip(names, (float(together[index].mean()) for index in order), strict=True)),
        spreads=dict(zip(names, (float(together[index].std()) for index in order), strict=True)),
    )


def encoded(dimension: Dimension, values: dict[str, Any]) -> float:
    """Returns the place of a trial's value in its dimension, from 0 to 1; -1 where the dimension was not active."""
    if dimension.name not in values:
        return -1.0
    value = values[dimension.name]
    if dimension.choices:
        return dimension.choices.index(value) / max(len(dimension.choices) - 1, 1)
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.scale == "log":
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def unexplored(dimensions: Sequence[Dimension], trials: Sequence[Trial], parts: int = 5) -> dict[str, list[str]]:
    """Returns what no scored trial has tried: choices, and fifths of the range on its scale.

    Args:
        dimensions: of the search.
        trials: those with a score count.
        parts: into which the range of a number is divided.

    Returns:
        name -> descriptions; names with nothing left out are missing.
    """
    scored = [trial.values for trial in trials if trial.score is not None]
    found: dict[str, list[str]] = {}
    for dimension in dimensions:
        if dimension.choices:
            tried = {values.get(dimension.name) for values in scored}
            left = [str(choice) for choice in dimension.choices if choice not in tried]
        else:
            places = [encoded(dimension, values) for values in scored if dimension.name in values]
            filled = {min(int(place * parts), parts - 1) for place in places}
            edges = dimension.values(parts + 1) if not dimension.is_integer else None
            low, high = float(dimension.low or 0), float(dimension.high or 0)
            edges = edges or [low + (high - low) * part / parts for part in range(parts + 1)]
            left = [f"{edges[part]:.3g} to {edges[part + 1]:.3g}" for part in range(parts) if part not in filled]
        if left:
            found[dimension.name] = left
    return found
