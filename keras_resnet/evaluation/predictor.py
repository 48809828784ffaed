"""A model with what it takes and the run it comes from, and the data it is to be judged on."""

import dataclasses
import logging
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import files, models, preprocessing, weights
from keras_resnet.arguments import check_path, choose
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.builder import build_resnet
from keras_resnet.preprocessing import InputRecord
from keras_resnet.tasks import CLASSIFICATION, TASKS, Predictions, Task
from keras_resnet.training import Run
from keras_resnet.training.callbacks import save_model
from keras_resnet.training.experiment import absolute_spec
from keras_resnet.training.folds import FOLDS_FILE, MEAN_MODEL, mean_of_models
from keras_resnet.training.scoring import predict
from keras_resnet.weights.files import load_model_file
from keras_resnet.weights.sources import HUB, PUBLISHED_MODEL, fetch_from_hub

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model with the preprocessing that it was trained with: from pixels to predictions.

    Args:
        model: images to logits, probabilities or numbers.
        record: what it takes and gives.
        run: None for a model alone.
        fold: of the mean of a cross-validation one of its runs, which says how other data are read.
    """

    model: keras.Model
    record: InputRecord
    run: Run | None
    fold: Run | None = None

    @property
    def task(self) -> Task:
        """What the model is for."""
        return TASKS[self.record.task or CLASSIFICATION.name]

    def for_task(self, task: str) -> "Predictor":
        """Returns the same model for a task that it does not name itself."""
        if task == self.record.task:
            return self
        activations = TASKS[task].activations
        activation = (
            preprocessing.default_activation(self.model) if len(activations) > 1 else next(iter(activations), None)
        )
        record = dataclasses.replace(self.record, task=task, activation=activation)
        return dataclasses.replace(self, record=record)

    def predict(self, dataset: datasets.Dataset, split: str, batch_size: int = 64) -> Predictions:
        """Returns the predictions for every example of a split, in its order.

        Args:
            dataset: which fits the model.
            split: "train", "validation", "test" or "all".
            batch_size: examples at a time.
        """
        return predict(self.model, dataset, split, self.record, batch_size)

    def read(self, outputs: np.ndarray) -> Predictions:
        """Returns the predictions that outputs stand for, without labels.

        Args:
            outputs: `(examples, outputs)`.
        """
        fields = self.task.read(self.model, outputs, self.record.activation)
        names = self.record.names_for(fields["outputs"].shape[1])
        return Predictions(self.task, class_names=names, thresholds=self.record.thresholds, **fields)


def load_model(path: str | os.PathLike) -> keras.Model:
    """Returns the model of a run folder or of a `.keras` file.

    Args:
        path: the folder or the file.

    Raises:
        ValueError: there is no model.
    """
    return open_predictor(path).model


def open_predictor(run_or_model: Any, task: str | None = None) -> Predictor:
    """Returns the model of a run folder, a `.keras` file, a `Run` or a `keras.Model`, with what it takes and gives.

    "NAME:TAG", such as "resnet18:cifar10", is a network with published weights, from pixels to logits.

    Args:
        run_or_model: one of these.
        task: "classification" or "regression", for a model that carries no record of it; None for what its outputs
            look like.

    Raises:
        TypeError, ValueError: it is something else, or holds no model; or the model is for another task.
    """
    if task is not None:
        choose("task", task, TASKS)
    predictor = open_features(run_or_model)
    record = predictor.record
    if record.task is None:
        raise BadValue(
            f"The model {predictor.model.name!r} gives features, of shape {predictor.model.output_shape}, and no "
            "predictions. Allowed are models that end in logits, probabilities or regression outputs. Pass one with "
            "its head."
        )
    if task is not None:
        if task != record.task and "task" not in record.assumed:
            raise BadValue(
                f"task={task!r} was given, and the model says {record.task!r} of itself. They must agree. Leave it out."
            )
        predictor = predictor.for_task(task)
        stays = tuple(name for name in record.assumed if name != "task")
        predictor = dataclasses.replace(predictor, record=dataclasses.replace(predictor.record, assumed=stays))
    if predictor.record.assumed:
        assumptions = ", ".join(f"{name}={getattr(predictor.record, name)!r}" for name in predictor.record.assumed)
        hint = " Pass task (--task) if it is for another one." * ("task" in predictor.record.assumed)
        LOGGER.warning(
            "The model %r carries no record of what it takes and gives. Defaults were taken: %s.%s",
            predictor.model.name,
            assumptions,
            hint,
        )
    return predictor


def with_views(predictor: Predictor, views: str) -> Predictor:
    """Returns a model whose answers are the mean over views of an example."""
    if views == "none":
        return predictor
    if predictor.record.set_threshold is not None:
        raise BadValue(
            f"views={views!r} was given for a model that answers with prediction sets, whose threshold was found "
            "without views and does not hold with them. Leave the views out, or use the model without sets."
        )
    model = mean_of_models([predictor.model], views)
    config = preprocessing.for_model(model)
    outputs = {name: getattr(config, name) for name in ("activation", "thresholds", "head")}
    return dataclasses.replace(predictor, model=model, record=dataclasses.replace(predictor.record, **outputs))


def average_models(
    runs_or_models: Sequence[Any], views: str = "none", out: str | os.PathLike | None = None
) -> keras.Model:
    """Returns one network whose probabilities, or values, are the mean of those of several.

    Args:
        runs_or_models: run folders, `.keras` files, runs or models, which take and give the same; one or more.
        views: of an example that are averaged too, "none", "flip" (its mirror image) or "quarter-turns" (of a square
            picture without an upright position).
        out: the `.keras` file to write; None for none.

    Raises:
        TypeError, ValueError: a path holds no model, or the models take or give different things.

    Source:
        Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles".

    Example:
        >>> import keras_resnet
        >>> from keras_resnet import evaluation
        >>> model = keras_resnet.ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=10)
        >>> evaluation.average_models([model], views="flip").output_shape
        (None, 10)
    """
    path = None if out is None else pathlib.Path(out).expanduser()
    if path is not None:
        if path.suffix != ".keras":
            raise BadValue(f"out={os.fspath(path)!r} does not end in .keras. Expected a path such as mean.keras.")
        files.check_parent(path)
        files.check_replaceable(path)
    if not runs_or_models:
        raise BadValue("No model was given. A mean takes one or more. Name a run folder.")
    model = mean_of_models([open_predictor(each).model for each in runs_or_models], views)
    if path is not None:
        files.write_atomically(path, lambda where: save_model(model, where))
    return model


def open_classifier(run_or_model: Any) -> Predictor:
    """Opens a model as `open_predictor` does; a model without a task is taken for a classifier."""
    predictor = open_features(run_or_model)
    return open_predictor(run_or_model, CLASSIFICATION.name if "task" in predictor.record.assumed else None)


def open_features(run_or_model: Any) -> Predictor:
    """Returns a model with what it takes, whatever it gives: predictions, or features without a task."""
    if isinstance(run_or_model, keras.Model):
        model = models.with_normalization(run_or_model)
        return Predictor(model, preprocessing.for_model(model), None)
    if isinstance(run_or_model, Run):
        return Predictor(run_or_model.model, run_or_model.record, run_or_model)
    if not isinstance(run_or_model, (str, os.PathLike)):
        raise BadType(
            f"run_or_model must be a path, a Run or a keras.Model, got {type(run_or_model).__name__}. Pass one of them."
        )
    check_path("run_or_model", run_or_model)
    if os.fspath(run_or_model).startswith(HUB):
        run_or_model = fetch_from_hub(os.fspath(run_or_model), PUBLISHED_MODEL)
    path = pathlib.Path(run_or_model).expanduser()
    name, colon, tag = os.fspath(run_or_model).partition(":")
    if colon and name in models.VARIANTS and not path.exists():
        model = models.pretrained_model(name, tag)
        return Predictor(model, preprocessing.for_model(model), None)
    if (path / FOLDS_FILE).is_file():
        first = path / "fold-1"
        fold = Run.load(first) if (first / "run.json").is_file() else None
        return dataclasses.replace(open_features(path / MEAN_MODEL), fold=fold)
    if (path / PUBLISHED_MODEL).is_file() and not (path / "run.json").exists():
        path /= PUBLISHED_MODEL
    if path.is_dir():
        run = Run.load(path)
        return Predictor(run.model, run.record, run)
    if not path.is_file() or not zipfile.is_zipfile(path):  # a pipe or a device would be read for ever
        description = "not there" if not path.exists() else "a file, but not a Keras model"
        raise BadValue(
            f"run_or_model={os.fspath(path)!r} is {description}. Allowed are a run folder, a .keras file and "
            "NAME:TAG of weights. Pass the folder that `train` printed, or a file that `model.save` wrote."
        )
    model = models.with_normalization(load_model_file(path))
    return Predictor(model, preprocessing.for_model(model), None)


def dataset_of(
    predictor: Predictor,
    data: Any = None,
    data_dir: Any = None,
    split: str | None = None,
    on_bad_image: str | None = None,
) -> tuple[datasets.Dataset, str]:
    """Returns the data and the split to score: a run's own, or others, whole unless they bring one or it is named."""
    run, record = predictor.run, predictor.record
    if on_bad_image is not None and (data is None or isinstance(data, datasets.Dataset)):
        raise BadValue(
            f"on_bad_image={on_bad_image!r} was given without other data. A run's own data are read as they were for "
            "its training. Name other data, or leave it out."
        )
    if run is not None and data_dir is None:
        data_dir = run.about.data_dir
    if isinstance(data, datasets.Dataset):
        dataset = data
    elif run is not None and (data is None or absolute_spec(str(data), data_dir)[0] == run.about.data):
        dataset = run.dataset if data_dir == run.about.data_dir else run.load_data(None, data_dir)
    elif data is None:
        raise BadValue("data=None was given with a model that has no run. A run knows its data. Pass a spec as data.")
    else:
        reader = run or predictor.fold
        options: dict[str, Any] = {} if reader is None else reader.recipe.data.load_options()
        if reader is not None and datasets.split_spec(str(data))[0] != datasets.split_spec(reader.about.data)[0]:
            for name in ("label_key", "columns", "group_pattern"):  # of the run's kind of data
                options[name] = None
        options["fold"] = options["validation_fold"] = None
        options |= {"apply_exif": record.apply_exif, "class_names": record.class_names or None}
        options["task"] = CLASSIFICATION.name if "task" in record.assumed else predictor.task.data_task
        options |= {} if on_bad_image is None else {"on_bad_image": on_bad_image}
        if split is None:
            options |= {"validation_fraction": 0.0, "test_fraction": 0.0}
        dataset = datasets.load(str(data), data_dir=data_dir, **options)
        if split is None and "test" not in dataset.sizes:
            split = "all"
    _check_agreement(predictor, dataset)
    return dataset, split or "test"


def open_with_data(
    run_or_model: Any,
    data: Any,
    data_dir: Any,
    split: str | None,
    task: str | None,
    on_bad_image: str | None,
    views: str,
) -> tuple[Predictor, datasets.Dataset, str]:
    """Returns a model that is to be scored, the data and the split; one without a task is for what the labels are."""
    predictor = with_views(open_predictor(run_or_model, task), views)
    dataset, split = dataset_of(predictor, data, data_dir, split, on_bad_image)
    if task is None and "task" in predictor.record.assumed:
        predictor = predictor.for_task(dataset.task)
    return predictor, dataset, split


def check_not_trained_on(run_or_model: Any, dataset: datasets.Dataset) -> None:
    """Raises ValueError where the members of a cross-validation were trained on the examples of a dataset."""
    if not isinstance(run_or_model, (str, os.PathLike)):
        return
    folder = pathlib.Path(run_or_model).expanduser()
    folder = folder.parent if folder.name == MEAN_MODEL else folder
    if not (folder / FOLDS_FILE).is_file():
        return
    member = Run.load(folder / "fold-1")
    if absolute_spec(dataset.spec, None)[0] == member.about.data:
        raise BadValue(
            f"data={dataset.spec!r} was given for the mean of a cross-validation, whose members were trained on these "
            "examples and answer them too well. Pass data that no fold has seen."
        )


def _check_agreement(predictor: Predictor, dataset: datasets.Dataset) -> None:
    """Raises ValueError if the model and the data disagree on the task, the classes or the channels."""
    if dataset.task != predictor.task.data_task and "task" not in predictor.record.assumed:
        raise BadValue(
            f"The model is for a {predictor.record.task}, and data={dataset.spec!r} has labels for a {dataset.task}. "
            "They must agree. Evaluate on data for the same task."
        )
    num_outputs = predictor.model.output_shape[-1]
    has_classes = TASKS[dataset.task].has_classes
    is_binary = num_outputs == 1 and dataset.num_outputs == 2 and TASKS[dataset.task].is_exclusive
    # Classes with names are matched by these, and some may be missing.
    is_named = bool(predictor.record.class_names) and has_classes
    if num_outputs != dataset.num_outputs and not is_binary and not is_named:
        what = "classes" if has_classes else "values per example"
        raise BadValue(
            f"The model has {num_outputs} outputs, and data={dataset.spec!r} has {dataset.num_outputs} {what}. "
            "They must be equal. Evaluate on the data that the model was trained for, or train one with that head."
        )
    check_channels(predictor, dataset)
    trained_on = predictor.record.class_names
    unknown = [name for name in dataset.class_names if name not in trained_on] if trained_on else []
    if unknown:
        raise BadValue(
            f"data={dataset.spec!r} has the classes {unknown}, and the model was trained on {list(trained_on)}. The "
            "names must be among these. Rename the folders or the classes."
        )


def check_channels(predictor: Predictor, dataset: datasets.Dataset) -> None:
    """Raises ValueError where the model and the data disagree on the number of channels."""
    channels, given = predictor.model.input_shape[-1], dataset.image_shape[-1]
    if channels is not None and channels != given:
        raise BadValue(
            f"The model takes {channels} channels, and data={dataset.spec!r} has {given}. They must be equal. "
            "Evaluate on data with as many channels."
        )


def convert(
    source: str | os.PathLike, out: str | os.PathLike, *, model: str | None = None, names: str = "keras_resnet"
) -> pathlib.Path:
    """Reads weights of keras_resnet, timm, torchvision or keras.applications and writes them as ours or as timm's.

    Example:
        >>> from keras_resnet.evaluation.predictor import convert
        >>> convert("nowhere.safetensors", "out.safetensors", model="resnet18")
        Traceback (most recent call last):
        ...
        keras_resnet.errors.BadValue: weights='nowhere.safetensors' is not a file. ...
    """
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        run = Run.load(path)
        path, model = path / "best.keras", model or run.about.model
    if model is None:
        raise BadValue("A file of weights does not say which model it is for. Pass a name that `list` prints as model.")
    choose("model", model, models.VARIANTS)
    pretrained = models.Pretrained.of(model, path)
    # Of any size: nothing that is stored follows from the size of the images.
    arguments: dict[str, Any] = {
        "include_top": pretrained.classes is not None,
        "input_shape": (*(None,) * pretrained.rank, pretrained.channels),
        "classifier_activation": None,
    }
    network = pretrained.build(build_resnet, model, arguments)
    return weights.save_weights(network, out, names=names, preprocessing=pretrained.preprocessing)
