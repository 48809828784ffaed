"""The learning rate range test: a short training with a rising rate, to see where the loss falls fastest."""

import csv
import dataclasses
import math
import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import files
from keras_resnet.arguments import check_float, check_int
from keras_resnet.data.inspection import shown_range
from keras_resnet.errors import BadValue
from keras_resnet.figures import draw_examples, draw_range_test
from keras_resnet.training.experiment import Experiment, resolve
from keras_resnet.training.inputs import Augment
from keras_resnet.training.network import any_size
from keras_resnet.training.recipe import Recipe

COLUMNS = 8


def preview(
    recipe: Recipe | str | os.PathLike | None = None,
    *,
    data: str | datasets.Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
    out: str | os.PathLike,
    count: int = 40,
    seed: int | None = None,
    overrides: Any = None,
) -> pathlib.Path:
    """Draws the first training examples as a recipe changes them: the very ones that `fit` would see first.

    Above them stand the same examples unchanged, where the batch holds as many. Mixed labels are written with their
    shares.

    Args:
        recipe: a `Recipe`, a name from `list_recipes()`, or a TOML file; None for one that fits the data, as `fit`.
        data: a spec, or a loaded dataset; by default what the recipe was made for, else "digits".
        data_dir: where TFDS finds its prepared data sets.
        out: a PNG file; an older one that this package wrote is replaced.
        count: examples at most.
        seed: of order and changes; None for the recipe's.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.

    Returns:
        The path of the picture.

    Raises:
        TypeError, ValueError: an argument or the data is not fit for training, or `out` is not a PNG file that may be
            written.
    """
    check_int("count", count)
    path = pathlib.Path(out).expanduser()
    if path.suffix != ".png":
        raise BadValue(f"out={os.fspath(out)!r} is not a PNG file. Expected a path such as grid.png.")
    files.check_parent(path)
    files.check_replaceable(path)
    experiment = resolve(recipe, data=data, data_dir=data_dir, seed=seed, overrides=overrides)
    plan = experiment.recipe.replace({"augment.augment_on": "host"})
    count = min(count, plan.train.batch_size)
    with datasets.explain_decode_errors(experiment.dataset):
        shown, labels = _first_examples(experiment.for_recipe(plan), count)
        bare = dataclasses.replace(plan, augment=Augment(repeats=plan.augment.repeats))
        plain, _ = _first_examples(experiment.for_recipe(bare), count)
    titles = [_title(label, experiment.dataset.class_names) for label in labels]
    files.write_atomically(path, lambda where: draw_examples(plain, shown, titles, COLUMNS, where))
    return path


def _first_examples(experiment: Experiment, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first examples and their labels, pictures in [0, 255]."""
    images, labels, *_ = next(iter(experiment.training_batches(size=experiment.stages[0][1]).take(1)))
    pictures = experiment.record.to_bytes(np.asarray(images, dtype="float32")[:count])
    dataset = experiment.dataset
    if len(dataset.image_shape) == 3 and dataset.pixel_range is not None:  # 16 bits may use little of their range
        low, high = experiment.record.to_bytes(np.array(shown_range(dataset), "float32"))
        pictures = (pictures - low) * (255 / (high - low))
    return pictures, np.asarray(labels)[:count]


def _title(label: Any, names: tuple[str, ...]) -> str:
    """Returns a class, the shares of mixed classes, or regression targets."""
    if not names:
        return ", ".join(f"{value:.3g}" for value in np.atleast_1d(label))
    if np.ndim(label) == 0:
        return names[int(label)]
    order = np.argsort(-label)
    return " + ".join(f"{label[index]:.0%} {names[index]}" for index in order[:2] if label[index] > 0.005)


LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 150
SMOOTHING = 0.9  # of the mean of losses so far, corrected for its start
SETTLING = 10  # steps until the smoothed loss means something
DIVERGED = 4.0  # times the lowest smoothed loss so far


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes:
        path: of the folder with `lr.csv` and `lr.png`.
        rates: learning rate of each step.
        losses: of each step.
        smoothed: the same, smoothed.
        suggestion: the rate at which the smoothed loss falls fastest, a safe one; None where it never falls.
        rate_at_lowest_loss: of the smoothed loss; as a peak of a schedule take a third of it or less.
    """

    path: pathlib.Path
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    rate_at_lowest_loss: float

    def __str__(self) -> str:
        """Returns a human-readable summary."""
        suggestion = "none: the loss never falls" if self.suggestion is None else f"{self.suggestion:.2g}"
        return (
            f"{self.path / 'lr.csv'}\n{self.path / 'lr.png'}\n"
            f"steps          {len(self.rates)}, from {self.rates[0]:.2g} to {self.rates[-1]:.2g}\n"
            f"suggestion     {suggestion} (the loss falls fastest)\n"
            f"lowest loss    at {self.rate_at_lowest_loss:.2g}; a peak of a schedule is a third of that or less"
        )


def lr_find(
    recipe: Recipe | str | os.PathLike | None = None,
    *,
    model: str | None = None,
    data: str | datasets.Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
    out: str | os.PathLike,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    seed: int | None = None,
    overrides: Any = None,
) -> RangeTest:
    """Trains for a few steps with a learning rate that rises exponentially, and says where the loss falls fastest.

    Everything but the learning rate is the recipe's. The test stops where the loss is not finite, or four times its
    lowest.

    Args:
        recipe: a `Recipe`, a name from `list_recipes()`, or a TOML file; None for one that fits the data, as `fit`.
        model: a name from `keras_resnet.list_models()`; by default what the recipe was made for, else "resnet18".
        data: a spec, or a loaded dataset; by default what the recipe was made for, else "digits".
        data_dir: where TFDS finds its prepared data sets.
        out: the folder of `lr.csv` and `lr.png`, made where it is missing; those of an earlier test are
            replaced.
        lowest: learning rate of the first step, > 0.
        highest: of the last step, above `lowest`.
        steps: how many, at least 10.
        seed: of weights, order and augmentation; None for the recipe's.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.

    Raises:
        TypeError, ValueError: an argument or the data is not fit for training.

    Source:
        Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3.
    """
    check_int("steps", steps, minimum=10)
    check_float("lowest", lowest, minimum=0.0, minimum_included=False)
    check_float("highest", highest, minimum=lowest, minimum_included=False)
    for name in ("lr.csv", "lr.png"):
        files.check_replaceable(pathlib.Path(out).expanduser() / name)
    experiment = resolve(recipe, model=model, data=data, data_dir=data_dir, seed=seed, overrides=overrides)
    keras.utils.set_random_seed(experiment.recipe.train.seed)
    network = experiment.build_model()
    folder = files.make_writable(out)
    rising = keras.optimizers.schedules.ExponentialDecay(lowest, steps - 1, highest / lowest)
    network.compile(**experiment.compile_args(learning_rate=rising))
    watch = _Watch()
    # The size of the first images, where they grow.
    arguments = experiment.fit_args(end_epoch=1, size=experiment.stages[0][1]) | {"steps_per_epoch": steps}
    del arguments["validation_data"]
    with datasets.explain_decode_errors(experiment.dataset), any_size(network):
        network.fit(**arguments, callbacks=[watch], verbose=0)
    rates = [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(len(watch.losses))]
    return _write(folder, rates, watch.losses, watch.smoothed)


class _Watch(keras.callbacks.Callback):
    """Notes the loss of each batch, and stops where it has gone too high."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.mean = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the metrics anew: Keras reports means over the epoch so far."""
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds the loss of the batch."""
        loss = float((logs or {}).get("loss", math.nan))
        if not math.isfinite(loss):
            self.model.stop_training = True
            return
        self.mean = SMOOTHING * self.mean + (1 - SMOOTHING) * loss
        self.losses.append(loss)
        self.smoothed.append(self.mean / (1 - SMOOTHING ** len(self.losses)))
        if self.smoothed[-1] > DIVERGED * min(self.smoothed):
            self.model.stop_training = True


def _write(folder: pathlib.Path, rates: list[float], losses: list[float], smoothed: list[float]) -> RangeTest:
    if len(losses) < 5:
        raise BadValue(
            f"The loss was not finite after {len(losses)} steps. A test needs steps that train. Look at the data, or "
            "set lowest further down."
        )
    gradients = np.gradient(np.array(smoothed), np.log(np.array(rates)))
    best = int(np.argmin(smoothed))
    # Not among the first steps, whose mean is one of few losses; not behind the lowest, where it falls from a height.
    inner = gradients[min(SETTLING, best) : best + 1]
    steepest = min(SETTLING, best) + int(np.argmin(inner))
    suggestion = rates[steepest] if gradients[steepest] < 0 else None
    rows = [files.LR_CSV_HEADER, *zip(rates, losses, smoothed, strict=True)]

    def write(path: pathlib.Path) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)

    files.write_atomically(folder / "lr.csv", write)
    result = RangeTest(folder, tuple(rates), tuple(losses), tuple(smoothed), suggestion, rates[best])
    files.write_atomically(folder / "lr.png", lambda path: draw_range_test(result, path))
    return result
