"""One command without a recipe: candidates compared on the validation split, the best trained long, a page."""

import dataclasses
import json
import math
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from keras_resnet import evaluation, files, report, training
from keras_resnet.arguments import check_path
from keras_resnet.errors import BadValue
from keras_resnet.training.scoring import Monitor
from keras_resnet.weights.sources import weights_at_hand

# Shares of the time: of all candidates together, and of the long training; the rest is for scores and the page.
CANDIDATES_SHARE, LONG_SHARE = 0.35, 0.55
# What the plan is compared with: the learning rate matters most, and the plan knows it least.
CHANGES: dict[str, float] = {"planned": 1.0, "low-rate": 1 / 3, "high-rate": 3.0}
FINE_TUNED = "fine-tuned"
NOTICE = (
    "notice     the weights of the candidate fine-tuned learned from CIFAR-10. If your pictures are of that set, what "
    "they score on the validation split says nothing of new pictures."
)
# What a plan fits to the minutes, beside epochs and precision.
FITTED = ("model.width", "augment.policy", "augment.policy_strength", "augment.policy_ops", "augment.policy_std")
AUTO_FILE = "auto.json"
CIFAR10 = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What `train_best` found.

    Attributes:
        path: the folder, with a run for each candidate, `best/`, `report.html` and `auto.json`.
        candidates: name -> the figure of the validation split by which candidates were compared.
        chosen: the name of the best one.
        run: the long training of it.
    """

    path: pathlib.Path
    candidates: Mapping[str, float]
    chosen: str
    run: training.Run

    def __str__(self) -> str:
        """Returns a human-readable summary."""
        name, width = self.run.recipe.loss.choice.task.paired[0], max(map(len, self.candidates))
        rows = [f"{key:<{width}}  validation {name} {value:.4f}" for key, value in self.candidates.items()]
        marked = [
            f"{row}   chosen" if key == self.chosen else row for row, key in zip(rows, self.candidates, strict=True)
        ]
        return "\n".join([f"{self.path}", *marked, evaluation.summary(self.run)])


def train_best(
    data: str,
    out: str | os.PathLike,
    *,
    minutes: float = 60.0,
    model: str | None = None,
    data_dir: str | os.PathLike | None = None,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    verbose: Any = "auto",
) -> Outcome:
    """Finds a good training of the data in the time that there is, and trains it.

    The recipe that fits the data is tried at three learning rates, and where weights need no download, fine-tuning
    them; each for a part of a third of the time. The one whose validation split is best is trained anew for half of the
    time, calibrated where that helps, and described by a page. The test split is looked at once, at the end. Called
    again with the same folder it goes on where it was stopped.

    Args:
        data: a spec, such as "folder:photos".
        out: the folder.
        minutes: that it may take, > 0.
        model: a name from `list_models()`; None for the plan's.
        data_dir: where TFDS finds its prepared data sets.
        seed: of weights, order and augmentation; None for the recipe's.
        overrides: "section.field" -> value, for all candidates.
        verbose: as for `training.fit`.

    Raises:
        TypeError, ValueError: an argument or the data is not fit for training, or the data have no validation split.
        Interrupted: on Ctrl-C; the same call goes on.
    """
    check_path("out", out)
    if not isinstance(minutes, (int, float)) or not 0 < minutes < math.inf:
        raise BadValue(f"minutes={minutes!r} is not a time. Allowed is a number above 0. Pass one.")
    for name in ("train.epochs", "optimizer.learning_rate"):
        if name in (overrides or {}):
            raise BadValue(f"{name} was given, which is what is looked for. Leave it out, or use training.fit.")
    folder = files.make_writable(pathlib.Path(out).expanduser())
    if not _is_outcome(folder / AUTO_FILE):
        files.check_folder_free(folder, (AUTO_FILE,))
    files.check_replaceable(folder / "report.html")
    shared: dict[str, Any] = {"model": model, "data": data, "data_dir": data_dir, "seed": seed, "verbose": verbose}
    planned = training.resolve(model=model, data=data, data_dir=data_dir, seed=seed, overrides=overrides)
    if not planned.dataset.sizes.get("validation"):
        raise BadValue(f"data={data!r} has no validation split, on which candidates are compared. Add one.")
    settings = _settings(planned, dict(overrides or {}))
    notice = NOTICE if settings.get(FINE_TUNED, ("", {}))[1].get("model.weights") == "cifar10" else ""
    if verbose and notice:
        print(notice)
    start = time.monotonic()
    values: dict[str, float] = {}
    settled: dict[str | None, dict[str, Any]] = {}
    for name, (recipe, words) in settings.items():
        if verbose:
            print(f"candidate  {name}")
        # The candidates of a recipe are compared as the first of them fits its time and this machine.
        share = None if recipe in settled else minutes * CANDIDATES_SHARE / len(settings)
        run = training.fit(
            recipe,
            out=folder / name,
            resume=True,
            minutes=share,
            overrides={**words, **settled.get(recipe, {})},
            score=("validation",),
            **shared,
        )
        if recipe not in settled:
            settled[recipe] = {"train.epochs": run.recipe.train.epochs, "train.precision": run.recipe.train.precision}
            if recipe is None:
                changed = {field: after for field, _, after in training.compare_recipes(planned.recipe, run.recipe)}
                settled[recipe] |= {field: changed[field] for field in FITTED if field in changed}
        values[name] = _figure(run)
    best = (min if _monitor(planned).direction == "min" else max)(values, key=values.__getitem__)
    recipe, words = settings[best]
    # Candidates that were done before this start took no time of it; what they left is not more than their share.
    left = min(minutes * LONG_SHARE, max(minutes * 0.9 - (time.monotonic() - start) / 60, minutes * 0.1))
    if verbose:
        print(f"candidate  {best} is best on the validation split, and is trained anew")
    words = {**words, "train.precision": settled[recipe]["train.precision"]}
    run = training.fit(recipe, out=folder / "best", resume=True, minutes=left, overrides=words, **shared)
    _calibrate(run)
    outcome = Outcome(folder, values, best, run)
    report.write_report(run.path, folder / "report.html")
    content = {"candidates": values, "chosen": best, "minutes": minutes, "notice": notice, "scores": run.metrics}
    files.write_text(folder / AUTO_FILE, json.dumps(content, indent=1) + "\n")
    return outcome


def _is_outcome(path: pathlib.Path) -> bool:
    """Returns whether a file is what `train_best` wrote."""
    try:
        return "chosen" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _settings(planned: training.Experiment, overrides: dict[str, Any]) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """Returns name -> recipe, None for the planned one, and overrides of the candidates."""
    rate = planned.recipe.optimizer.learning_rate
    settings: dict[str, tuple[str | None, dict[str, Any]]] = {
        name: (None, {**overrides, "optimizer.learning_rate": rate * factor}) for name, factor in CHANGES.items()
    }
    shape = planned.dataset.image_shape
    is_small = len(shape) == 3 and all(side is not None and side < 64 for side in shape[:-1])
    tag = weights_at_hand(planned.model, is_small) if len(shape) == 3 and shape[-1] == 3 else ""
    # The packaged weights were trained on CIFAR-10: of its pictures they would know the test split.
    if tag and not (tag == "cifar10" and {*planned.dataset.class_names} <= CIFAR10):
        settings[FINE_TUNED] = ("finetune", {**overrides, "model.weights": tag})
    return settings


def _monitor(experiment: training.Experiment) -> Monitor:
    return Monitor("accuracy", "max") if experiment.recipe.loss.choice.task.has_classes else Monitor("mae", "min")


def _figure(run: training.Run) -> float:
    name = run.recipe.loss.choice.task.paired[0]
    return float(run.metrics["validation"][name])


def _calibrate(run: training.Run) -> None:
    """Writes the calibrated model into the run folder, where a temperature lowers the loss of held-out examples."""
    if not run.recipe.loss.choice.task.has_classes or (run.path / "calibrated.keras").exists():
        return
    try:
        evaluation.calibrate(run)
    except BadValue as error:
        print(f"calibrated nothing: {error}")
