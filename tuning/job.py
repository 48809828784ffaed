"""The training of one trial, as plain values: in the process of a worker, or on another machine."""

import csv
import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Protocol

import keras

from keras_resnet import data as datasets
from keras_resnet import training
from keras_resnet.tuning.heartbeat import Heartbeat

# The median rule judges from this share of the epochs on, and against that many other trials.
GRACE, FEWEST = 0.2, 4


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained for a trial, and when it ends early.

    Attributes:
        recipe: how it is trained.
        model: name of the variant.
        data: spec of the data.
        data_dir: root of prepared data sets, or None.
        metric: the objective as the history names it.
        direction: of the objective, "max" or "min".
        budget: epochs up to which it is trained.
        others: the objective of whole trials after each epoch, with which it is compared; none where it is not pruned.
    """

    recipe: training.Recipe
    model: str
    data: str
    data_dir: str | None
    metric: str
    direction: str
    budget: int
    others: list[list[float]]

    def load(self) -> datasets.Dataset:
        """Returns the data as the recipe loads them."""
        return self.recipe.data.load(self.data, self.data_dir, self.recipe.loss.choice.task.name)

    def run(
        self, folder: pathlib.Path, dataset: datasets.Dataset, callbacks: Sequence[keras.callbacks.Callback]
    ) -> bool:
        """Trains in a folder, going on where it stands; returns whether the trial was pruned.

        Args:
            folder: of the run.
            dataset: from `load`.
            callbacks: of Keras.
        """
        pruned = False

        def report(epoch: int, figures: Mapping[str, float]) -> bool:
            nonlocal pruned
            if epoch >= max(2, round(GRACE * self.recipe.train.epochs)) and len(self.others) >= FEWEST:
                with open(folder / "history.csv", encoding="utf-8", newline="") as file:
                    curve = [float(row[self.metric]) for row in csv.DictReader(file)]
                pruned = is_to_prune(curve, self.others, self.direction)
            return pruned or epoch >= self.budget

        run = training.fit(
            self.recipe,
            model=self.model,
            data=dataset,
            data_dir=self.data_dir,
            out=folder,
            resume=True,
            report=report,
            callbacks=callbacks,
            score=(),  # the history has the objective, and only the winner is scored on the test split
            verbose=0,
        )
        return pruned and len(run.file.history) < self.budget


class Engine(Protocol):
    """Where a worker trains its jobs."""

    def train(self, job: Job, folder: pathlib.Path, dataset: datasets.Dataset, beats: pathlib.Path, trial: str) -> bool:
        """Trains a job in a folder, going on where it stands; returns whether it was pruned.

        Args:
            job: what is trained.
            folder: of the run, on this machine.
            dataset: as this machine has it.
            beats: the file for signs of life.
            trial: its id.
        """


class LocalEngine:
    """Trains jobs in this process."""

    def train(self, job: Job, folder: pathlib.Path, dataset: datasets.Dataset, beats: pathlib.Path, trial: str) -> bool:
        """Trains a job in a folder, as `Engine` says.

        Args:
            job: what is trained.
            folder: of the run.
            dataset: on which.
            beats: the file for signs of life.
            trial: its id.
        """
        heartbeat = Heartbeat(beats, trial)
        heartbeat.beat()
        return job.run(folder, dataset, [heartbeat])


def is_to_prune(curve: list[float], others: list[list[float]], direction: str) -> bool:
    """Returns whether the best of a curve is worse than the median of what others had reached by then.

    Args:
        curve: the objective, an epoch after the other.
        others: curves of whole trials.
        direction: "max" or "min".

    Source:
        Golovin et al. 2017, "Google Vizier", section 3.2 (median stopping rule).
    """
    best = max if direction == "max" else min
    reached = [best(other[: len(curve)]) for other in others if other]
    median = statistics.median(reached)
    return best(curve) < median if direction == "max" else best(curve) > median
