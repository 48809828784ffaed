"""The algorithms of a search: KerasTuner's oracles, whose whole state can be written as JSON and made again."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import oracles

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
    """Returns an oracle at its beginning, which writes no files.

    Args:
        algorithm: a key of the table.
        trials: at most that many.
        epochs: of a whole trial.
        factor: of successive halving.
        seed: >= 0. KerasTuner takes 0 for none, so that seeds are shifted by one.
        objective: as the history names it.
        direction: "max" or "min".
        hyperparameters: the space.
    """
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
