"""A trained model without some of its channels, and what that does to its size, its speed and its scores."""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import files, models, preprocessing
from keras_resnet.arguments import choose
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.predictor import Predictor, dataset_of, open_predictor
from keras_resnet.evaluation.scoring import throughput
from keras_resnet.models.pruning import CRITERIA, NORM, TAYLOR
from keras_resnet.tasks.outputs import last_activation
from keras_resnet.training.callbacks import save_model
from keras_resnet.training.losses import Loss
from keras_resnet.training.run import Run
from keras_resnet.training.scoring import match_classes

# So many batches of so many examples, evenly from the training split, are measured on.
BATCHES, BATCH_SIZE = 40, 64


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What pruning left.

    Attributes:
        path: of the pruned model.
        model: name of its variant, from `list_models()`; empty for one of another name.
        split: that was scored; None without data.
        metric: whose name it is, such as "accuracy".
        before: parameters, multiply-adds of an example, bytes of the file, milliseconds of an example, and the score.
        after: the same of the pruned model, before it is trained again.
    """

    path: pathlib.Path
    model: str
    split: str | None
    metric: str
    before: dict[str, Any]
    after: dict[str, Any]

    def __str__(self) -> str:
        """Returns a table."""
        shown = {"parameters": ",", "multiply_adds": ",", "bytes": ",", "milliseconds": ".2f", "score": ".4f"}
        titles = {"multiply_adds": "multiply-adds", "milliseconds": "ms for 1", "score": f"{self.split} {self.metric}"}
        lines = [f"{'':<24}{'before':>16}{'after':>16}{'share':>8}"]
        for name, spec in shown.items():
            if name in self.before:
                one, other = self.before[name], self.after[name]
                share = "" if name == "score" else f"{other / one:>8.2f}"
                lines.append(f"{titles.get(name, name):<24}{one:>16{spec}}{other:>16{spec}}{share}")
        return "\n".join([*lines, str(self.path)])


def prune(
    run_or_model: Run | keras.Model | str | os.PathLike,
    out: str | os.PathLike,
    macs: float = 0.5,
    *,
    by: str | None = None,
    data: str | datasets.Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
    multiple: int = 4,
) -> Pruned:
    """Writes a trained model without the channels that matter least, to be trained again.

    The moving statistics of its batch norms are measured again where there are data. Train it on with `weights=out`,
    best with the model that it came from as the teacher (`distill.teacher`). Thresholds and prediction sets are left
    out: they are of the model before.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run`, a `keras.Model`, or NAME:TAG of weights.
        out: the `.keras` file to write; an older one that this package wrote is replaced.
        macs: share of the multiply-adds that may stay, in (0, 1].
        by: "norm" or "taylor", as for `keras_resnet.models.prune`; None for "taylor" where there are data.
        data: a spec or a loaded dataset, on whose training split "taylor" and statistics are measured, and whose
            validation split, else test split, is scored; None for the data of the run, and none for a model alone.
        data_dir: where TFDS finds its prepared data sets.
        multiple: numbers of channels stay multiples of it.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, or the model cannot become so small.

    Source:
        Li et al. 2020, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning" (statistics).
    """
    path = pathlib.Path(out).expanduser()
    if path.suffix != ".keras":
        raise BadValue(f"out={os.fspath(out)!r} does not end in .keras. Expected a path such as small.keras.")
    files.check_parent(path)
    files.check_replaceable(path)
    choose("by", by, {None: None, **CRITERIA})
    predictor = open_predictor(run_or_model)
    dataset, split = None, None
    if data is not None or predictor.run is not None:
        dataset, _ = dataset_of(predictor, data, data_dir, "train")
        split = next((name for name in ("validation", "test") if dataset.sizes.get(name)), "train")
    if by == TAYLOR and dataset is None:
        raise BadValue("by='taylor' was given with a model that has no run. It needs images. Pass a spec as data.")
    by = by or (NORM if dataset is None else TAYLOR)
    model, record = predictor.model, predictor.record
    is_binary = predictor.task.is_exclusive and model.output_shape[-1] == 1
    section = Loss(name="binary_cross_entropy" if is_binary else predictor.task.loss)
    loss = section.build(last_activation(model) in (None, "linear"))[0]
    batches = () if dataset is None else list(_batches(dataset, predictor))
    small = models.prune(model, macs, by=by, batches=batches, loss=loss, multiple=multiple)
    if macs < 1:
        _measure_norms(small, batches)
    if preprocessing.for_model(small).normalization is not None:
        about: dict[str, Any] = {"task": record.task, "activation": record.activation, "units": record.units}
        preprocessing.describe_outputs(small, record.class_names, **about)
    before = _facts(predictor, dataset, split)
    after = _facts(open_predictor(small), dataset, split)
    with files.explaining_no_room(path):
        files.write_atomically(path, lambda where: save_model(small, where))
    after["bytes"] = path.stat().st_size
    before["bytes"] = _bytes(model)
    variant = model.name if predictor.run is None else predictor.run.about.model
    return Pruned(path, variant if variant in models.VARIANTS else "", split, predictor.task.paired[0], before, after)


def _batches(dataset: datasets.Dataset, predictor: Predictor) -> Iterator[Any]:
    """Yields batches evenly from the training split, with labels as the model numbers its classes."""
    sizes = datasets.sizing(predictor.record, dataset.image_shape)
    step = max(1, dataset.sizes["train"] // BATCH_SIZE // BATCHES)
    names, own = predictor.record.class_names, tuple(dataset.class_names)
    for images, labels, *_ in dataset.batches("train", BATCH_SIZE, **sizes).shard(step, 0).take(BATCHES):
        labels = np.asarray(labels)
        if predictor.task.has_classes and names and names != own:
            labels = match_classes(labels, own, names)
        yield images, labels


def _measure_norms(model: keras.Model, batches: Any) -> None:
    """Sets the moving statistics of all batch norms to their means over batches."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for count, (images, *_) in enumerate(batches):
        for norm in norms:
            norm.momentum = count / (count + 1)
        model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _facts(predictor: Predictor, dataset: datasets.Dataset | None, split: str | None) -> dict[str, Any]:
    info = models.model_info(predictor.model)
    facts: dict[str, Any] = {"parameters": info.parameters, "multiply_adds": info.multiply_adds}
    facts["milliseconds"] = 1e3 / throughput(models.fuse(predictor.model), batch_sizes=(1,))[1]
    if dataset is not None and split is not None:
        facts["score"] = predictor.predict(dataset, split).score()[predictor.task.paired[0]]
    return facts


def _bytes(model: keras.Model) -> int:
    """Returns the size of the file of a model."""
    with tempfile.TemporaryDirectory(prefix="keras_resnet-") as folder:
        place = pathlib.Path(folder) / "model.keras"
        save_model(model, place)
        return place.stat().st_size
