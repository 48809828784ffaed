"""A training, resolved: recipe, model and data, and everything that follows from them before the first step."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import models, preprocessing
from keras_resnet.arguments import choose
from keras_resnet.data import Dataset
from keras_resnet.data.examples.batches import transforms_of
from keras_resnet.distribution import ALONE, Group
from keras_resnet.distribution.step import StepPart, in_executions, with_step_parts
from keras_resnet.distribution.together import check_parts, parts_of_step, shard_of, synchronize_norms
from keras_resnet.preprocessing.batch_transforms import BatchOperation
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.labels import class_counts
from keras_resnet.training.callbacks import DeviceLogs, TotalEpochs
from keras_resnet.training.distill import Teacher
from keras_resnet.training.inputs import evaluation_batches, shrink_to
from keras_resnet.training.losses import LabelFacts
from keras_resnet.training.network import SMALL_SIDE_PX, any_size, fit_segments
from keras_resnet.training.optimizer import WeightAverage
from keras_resnet.training.recipe import SECTIONS, Recipe
from keras_resnet.training.run import Description, RunFile
from keras_resnet.training.scoring import EVALUATION_BATCH_SIZE, Monitor
from keras_resnet.training.state import Interval
from keras_resnet.weights.sources import weights_at_hand

CALIBRATION_BATCHES = 4  # that set the first ranges of a network that rounds to 8 bits


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a training is made of, resolved and checked: what `fit`, `lr_find`, `preview` and searches read.

    Make one with `resolve`, or with `Experiment.of` for a dataset that was loaded already.

    Attributes:
        recipe: how it is trained.
        model: name of the variant.
        data: spec of the data, with absolute paths.
        data_dir: root of prepared data sets, or None.
        dataset: the data.
        outputs: of the network.
        record: the preprocessing configuration that the network will carry.
        facts: statistics of the training labels for the loss.
        class_weights: a weight for each class; None if classes count as they come.
        steps_per_epoch: training batches per epoch.
        pretrained: the weights to begin with; None for random ones.
        teacher: whose answers are learned; None for none.
        group: the processes that train together, of which each takes its part of every batch.

    Example:
        >>> from keras_resnet import training
        >>> experiment = training.resolve("quick", overrides={"model.width": 4, "train.epochs": 1})
        >>> network = experiment.build_model()
        >>> network.compile(**experiment.compile_args())
        >>> history = network.fit(**experiment.fit_args(), verbose=0)
        >>> round(history.history["val_accuracy"][0], 1) > 0.1
        True
    """

    recipe: Recipe
    model: str
    data: str
    data_dir: str | None
    dataset: datasets.Dataset
    outputs: int
    record: preprocessing.InputRecord
    facts: LabelFacts
    class_weights: dict[int, float] | None
    steps_per_epoch: int
    pretrained: models.Pretrained | None = None
    teacher: Teacher | None = None
    group: Group = ALONE

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        dataset: datasets.Dataset,
        model: str = "resnet18",
        data: str | None = None,
        data_dir: str | None = None,
        group: Group = ALONE,
    ) -> "Experiment":
        """Returns the experiment of a recipe for a dataset.

        Args:
            recipe: a `Recipe`.
            dataset: from `keras_resnet.data.load`; the recipe then says how it was loaded.
            model: a name from `keras_resnet.list_models()`.
            data: the spec with absolute paths; None for that of the dataset.
            data_dir: root of prepared data sets, or None.
            group: the processes that train together.

        Raises:
            TypeError, ValueError: the recipe asks for something that the data cannot have.
        """
        choose("model", model, models.VARIANTS)
        recipe = recipe.replace({"model.weights": recipe.model.weights_for(model, recipe.data.shape_for(dataset))})
        pretrained = models.Pretrained.of(model, recipe.model.weights) if recipe.model.weights else None
        recipe = recipe.replace({**recipe.data.loaded_as(dataset), **recipe.model.overrides_of(pretrained)})
        side = None if pretrained is None else recipe.data.side_for_weights(dataset, pretrained)
        if side is not None:
            recipe = recipe.replace({"data.image_size": side})
            dataset.report.append(
                f"images are resized to {side} px, on which the weights were trained; data.image_size says otherwise"
            )
        if pretrained is None:
            recipe = recipe.replace({"data.normalization": recipe.data.normalization_for(dataset)})
        for title in SECTIONS:
            getattr(recipe, title).check(recipe)
        steps = dataset.steps_per_epoch(recipe.train.batch_size)  # which refuses a batch larger than the split
        outputs = recipe.loss.outputs(dataset.spec, dataset.num_outputs, dataset.class_names)
        absent = _absent_labels(dataset) if recipe.loss.choice.task.has_thresholds else []
        warnings = [*absent, *recipe.schedule.cut_cycle(), *([] if pretrained else recipe.data.unit_warning(dataset))]
        dataset.report += [line for line in warnings if line not in dataset.report]
        # What the data cannot have is refused here, before a folder is made.
        recipe.augment.build(len(dataset.image_shape) - 1, recipe.data.range_for(dataset))
        recipe.augment.mixing(len(dataset.class_names), outputs)
        recipe.monitor(dataset.class_names)
        recipe.data.stages(recipe.data.shape_for(dataset), recipe.train.epochs)
        Interval.of(recipe.train.save_every)
        check_parts(recipe.distribution.kind, recipe.train.batch_size, group)
        record = recipe.data.record_for(dataset, recipe.loss.choice.activation, recipe.loss.choice.task.name)
        teacher = recipe.distill.open(record, outputs, recipe.data.shape_for(dataset)[-1])
        if teacher is not None:
            recipe = recipe.replace({"distill.teacher": teacher.source})
        return cls(
            recipe=recipe,
            model=model,
            data=data or dataset.spec,
            data_dir=data_dir,
            dataset=dataset,
            outputs=outputs,
            record=record,
            facts=recipe.label_facts(dataset),
            class_weights=recipe.data.class_weights(dataset, recipe.augment.mixes),
            steps_per_epoch=steps,
            pretrained=pretrained,
            teacher=teacher,
            group=group,
        )

    def for_recipe(self, recipe: Recipe, model: str | None = None) -> "Experiment":
        """Returns the experiment of another recipe, or of another model, for the same data."""
        return Experiment.of(recipe, self.dataset, model or self.model, self.data, self.data_dir, self.group)

    @property
    def monitor(self) -> Monitor:
        """The figure that chooses the best epoch."""
        return self.recipe.monitor(self.dataset.class_names)

    @property
    def stages(self) -> list[tuple[int, tuple[int, int] | None]]:
        """The epoch that ends each stage of a training whose images grow, and its size; None for whole images."""
        return self.recipe.data.stages(self.recipe.data.shape_for(self.dataset), self.recipe.train.epochs)

    def build_model(self, model_class: type[keras.Model] = keras.Model) -> keras.Model:
        """Returns the network with its first weights: images to logits, or to numbers for a regression.

        Args:
            model_class: a subclass of `keras.Model` whose training step takes the place of Keras's.

        Raises:
            ValueError: two parts of the training step exclude each other.
        """
        recipe, precision, constants = self.recipe, self.recipe.train.precision, None
        # Its layers draw seeds from Keras's global one, and the first weights follow them.
        self._augmentation()
        shape = recipe.data.shape_for(self.dataset)
        if self.pretrained is not None:
            constants = recipe.model.normalization_of(self.pretrained, shape, self.record.pixel_range)
        normalization = recipe.data.normalization_layer(self.dataset, self.record, constants, precision)
        network = recipe.model.build(
            self.model,
            shape,
            self.outputs,
            normalization,
            precision,
            self.facts.targets,
            self.dataset.class_names,
            self.dataset.units,
            self.pretrained,
            (images for images, *_ in self.training_batches().take(CALIBRATION_BATCHES))
            if recipe.quantize.int8
            else None,
        )
        if recipe.train.recompute:
            models.recompute(network)
        if recipe.distribution.synchronize_norms:
            synchronize_norms(network, recipe.distribution.kind, self.group)
        # After the network, so that first weights are the same wherever the augmentation is made.
        return with_step_parts(network, model_class, self._step_parts())

    def _step_parts(self) -> list[StepPart]:
        """Returns the parts of the training step that are not Keras's own, innermost first."""
        transforms = self.transforms_in_step()
        kind, evaluated = self.recipe.distribution.kind, self.dataset.sizes.get("validation", 0)
        parts = parts_of_step(kind, self.group, evaluated, EVALUATION_BATCH_SIZE, transforms is not None)
        parts += [part for title in SECTIONS for part in getattr(self.recipe, title).step_parts(self)]
        if transforms is not None:
            wrap: Any = preprocessing.transform_in_step
            parts.append(StepPart(wrap, {"transforms": transforms}))
        return parts

    def compile_args(self, *, steps_per_epoch: int | None = None, learning_rate: Any = None) -> dict[str, Any]:
        """Returns the arguments of `model.compile`.

        Args:
            steps_per_epoch: as Keras's optimizer counts them, where a model takes another number than batches; None for
                the batches of an epoch.
            learning_rate: a number or a schedule in place of the recipe's.
        """
        return self.recipe.compile_args(
            steps_per_epoch=self.steps_per_epoch if steps_per_epoch is None else steps_per_epoch,
            from_logits=True,
            class_names=self.dataset.class_names,
            facts=self.facts,
            learning_rate=learning_rate,
        )

    def training_batches(self, *, start_step: int = 0, size: tuple[int, int] | None = None) -> Any:
        """Returns infinite training batches, augmented and mixed, from a global step on.

        Args:
            start_step: >= 0.
            size: `(height, width)` of smaller images than the network takes, from `stages`; None for whole ones.
        """
        recipe, dataset = self.recipe, self.dataset
        crop, image_size = recipe.data.crop_for(dataset), recipe.data.size_for(dataset)
        if crop != "none" and image_size is None:
            image_size = dataset.image_shape[:-1]  # type: ignore[assignment]  # mypy: sizes are known here
        on_host = recipe.augment.augment_on == "host"
        return dataset.training_batches(
            recipe.train.batch_size,
            seed=recipe.train.seed,
            start_step=start_step,
            image_size=image_size if size is None or image_size is None else size,
            crop=crop,
            crop_fraction=recipe.data.crop_fraction,
            interpolation=recipe.data.interpolation,
            decode=recipe.data.decode,
            augmentation=self._augmentation() if on_host else None,
            operations=self._operations(size) if on_host else (),
            repeats=recipe.augment.repeats,
            shard=shard_of(self.group, not on_host),
            balance=recipe.data.sampling_power,
        )

    def transforms_in_step(self, size: tuple[int, int] | None = None) -> preprocessing.BatchTransforms | None:
        """Returns the random transforms that the training step makes, with `augment_on="device"`; None for none.

        Args:
            size: as for `training_batches`.
        """
        if self.recipe.augment.augment_on == "host":
            return None
        operations = self._operations(size)
        return transforms_of(self._augmentation(), operations, self.dataset.image_shape, self.recipe.train.seed)

    def _augmentation(self) -> preprocessing.Augmentation | None:
        return self.recipe.augment.build(len(self.dataset.image_shape) - 1, self.record.pixel_range)

    def _operations(self, size: tuple[int, int] | None) -> list[BatchOperation]:
        """Returns the layers for whole batches after the augmentation."""
        recipe = self.recipe
        mixing = recipe.augment.mixing(len(self.dataset.class_names), self.outputs)
        # Images of many sizes are cut as they are read; others shrink after their augmentation.
        is_cut = recipe.data.size_for(self.dataset) is not None or recipe.data.crop_for(self.dataset) != "none"
        return [*mixing, *([] if size is None or is_cut else [shrink_to(size)])]

    def describe(self, network: keras.Model | None = None) -> Description:
        """Returns what run.json says of the run before its first step; with a network its size too."""
        import tensorflow as tf

        from keras_resnet import __version__

        dataset = self.dataset
        about = Description(
            recipe=self.recipe,
            model=self.model,
            data=self.data,
            data_dir=self.data_dir,
            fingerprint=dataset.fingerprint,
            class_names=tuple(dataset.class_names),
            sizes=dict(dataset.sizes),
            image_shape=tuple(dataset.image_shape),
            report=tuple(dataset.report),
            versions={"keras_resnet": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
            steps_per_epoch=self.steps_per_epoch,
            weights_sha256="" if self.pretrained is None else self.pretrained.sha256,
            teacher_sha256="" if self.teacher is None else self.teacher.sha256,
        )
        if network is None:
            return about
        shape = "x".join(map(str, network.input_shape[1:]))
        return dataclasses.replace(about, parameters=network.count_params(), input_shape=shape)

    def validation_batches(self) -> Any:
        """Returns the batches of the validation split; None if there is no split.

        Where classes have weights, so have its examples: the loss that chooses the best epoch is the one minimized.
        """
        return evaluation_batches(self.dataset, self.record, self.class_weights, self.group)

    def schedule_callbacks(self, past: Sequence[Mapping[str, float]] = ()) -> list[keras.callbacks.Callback]:
        """Returns the callbacks that change the learning rate after epochs, with `schedule.name="plateau"`.

        Args:
            past: a row of figures for each epoch that was trained before.
        """
        has_validation = bool(self.dataset.sizes.get("validation"))
        return self.recipe.schedule.callbacks(self.recipe.optimizer.learning_rate, self.monitor, has_validation, past)

    def fit_args(
        self,
        *,
        start_epoch: int = 0,
        end_epoch: int | None = None,
        size: tuple[int, int] | None = None,
        start_batch: int = 0,
    ) -> dict[str, Any]:
        """Returns the arguments of `model.fit`, but for callbacks (see `schedule_callbacks`) and verbosity.

        Args:
            start_epoch: where a training goes on, 0-based.
            end_epoch: up to which it is trained; None for the recipe's epochs.
            size: as for `training_batches`.
            start_batch: of the first epoch, which is then the only one.
        """
        first = start_epoch * self.steps_per_epoch + start_batch
        return {
            "x": self.training_batches(start_step=first, size=size),
            "steps_per_epoch": self.steps_per_epoch - start_batch,
            "initial_epoch": start_epoch,
            "epochs": self.recipe.train.epochs if end_epoch is None else end_epoch,
            "validation_data": self.validation_batches(),
            "class_weight": self.class_weights,
            "shuffle": False,
        }

    def fit(
        self,
        network: keras.Model,
        *,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        average: WeightAverage | None = None,
        start_epoch: int = 0,
        end_epoch: int | None = None,
        start_batch: int = 0,
        past: Sequence[Mapping[str, float]] = (),
        **options: Any,
    ) -> dict[str, list[float]]:
        """Calls Keras's `fit`, once for each size of images; returns the history of all epochs.

        Args:
            network: from `build_model`, compiled.
            callbacks: of Keras; `average` is to be among them.
            average: of the weights; it takes their place when the last stage ends, and not before.
            start_epoch: as for `fit_args`.
            end_epoch: as for `fit_args`.
            start_batch: of the first epoch, where it was left in its middle.
            past: as for `schedule_callbacks`.
            **options: further arguments of `model.fit`.
        """
        last = self.recipe.train.epochs if end_epoch is None else end_epoch
        *stages, (end, size) = self.stages
        stages.append((max(last, end), size))  # beyond the recipe's own epochs, as Hyperband may go
        history: dict[str, list[float]] = {}
        callbacks = [TotalEpochs(last), *self.schedule_callbacks(past), *callbacks]
        with any_size(network):
            for end, size in fit_segments(stages, start_epoch, start_batch, last):
                # Compiled anew for each size: shapes that are known make the fastest forms of convolutions possible.
                network.train_function = None
                steps, most = self.steps_per_epoch - start_batch, self.recipe.train.steps_per_execution
                if most > 1:
                    network.steps_per_execution = most
                    network.train_function = in_executions(network, most, steps)
                    network.followers = tuple(each.follow for each in callbacks if hasattr(each, "follow"))
                if hasattr(network, "transforms"):
                    network.transforms = self.transforms_in_step(size)
                    network.next_step.assign(start_epoch * self.steps_per_epoch + start_batch)
                if average is not None:
                    average.takes_place = end == last
                arguments = self.fit_args(start_epoch=start_epoch, end_epoch=end, size=size, start_batch=start_batch)
                shown = {"verbose": options.get("verbose", 0), "add_progbar": options.get("verbose", 0) != 0}
                counts = {"epochs": arguments["epochs"], "steps": arguments["steps_per_epoch"]}
                listed = DeviceLogs(callbacks, add_history=True, model=network, **shown, **counts)
                rows = network.fit(**arguments, callbacks=listed, **options).history
                for name, values in rows.items():
                    history.setdefault(name, []).extend(values)
                start_epoch, start_batch = end, 0
                if network.stop_training:
                    break
        if average is not None and not average.takes_place:
            average.put()
        return history


def _absent_labels(dataset: datasets.Dataset) -> list[str]:
    """Returns a warning for classes of several labels that no validation example has."""
    labels = dataset.split("validation").labels if dataset.sizes.get("validation") else None
    if labels is None:
        return []
    counts = class_counts(labels, len(dataset.class_names))
    absent = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
    if not absent:
        return []
    return [
        f"warning: no validation example has {', '.join(map(repr, absent))}: the threshold of such a class stays 0.5, "
        "and nothing is known of its area under ROC"
    ]


# Training examples below which a network from scratch needs small batches, a strong decay and many epochs.
FEW_EXAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Rule:
    """A recipe and when it is taken.

    Attributes:
        recipe: its name.
        fits: whether it is for a data set, whose examples the network takes with this shape.
        reason: told when it is taken.
        settings: "section.field" -> value, in place of those of the recipe.
    """

    recipe: str
    fits: Callable[[Dataset, tuple[int, ...]], bool]
    reason: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _is_small(dataset: Dataset, shape: tuple[int, ...]) -> bool:
    """Returns True for small color images; gray ones are often characters, which mean another when they are flipped."""
    *space, channels = shape
    return len(space) == 2 and channels == 3 and max(space) < SMALL_SIDE_PX


def _is_large(dataset: Dataset, shape: tuple[int, ...]) -> bool:
    """Returns True for images of at least 64 px with one channel or three."""
    *space, channels = shape
    return len(space) == 2 and channels in (1, 3) and min(space) >= SMALL_SIDE_PX


# Examples by which pictures and their mirror images are compared.
MIRRORED_EXAMPLES = 1000


def _is_small_gray_scene(dataset: Dataset, shape: tuple[int, ...]) -> bool:
    """Returns True for small gray images that are as well recognized when they are mirrored.

    A classifier by the nearest class mean is made from half of some examples, and asked about the other half and its
    mirror images. Characters lose most of their accuracy, scenes none.
    """
    *space, channels = shape
    is_exclusive = TASKS[dataset.task].is_exclusive
    if len(space) != 2 or channels != 1 or max(space) >= SMALL_SIDE_PX or not is_exclusive:
        return False
    count = min(MIRRORED_EXAMPLES, dataset.sizes["train"])
    batches = dataset.training_batches(count, seed=0, image_size=(space[0], space[1]), crop="none")
    images, labels, *_ = next(batches.take(1).as_numpy_iterator())
    images, half = images.astype("float32"), count // 2
    classes = np.unique(labels[:half])
    in_both = np.isin(labels[half:], classes)
    if len(classes) < 2 or not in_both.any():
        return False
    means = np.stack([images[:half][labels[:half] == each].mean(axis=0).ravel() for each in classes])

    def right(pictures: np.ndarray) -> np.ndarray:
        flat = pictures[half:][in_both].reshape(in_both.sum(), -1)
        distances = (means**2).sum(axis=1) - 2 * flat @ means.T
        return classes[distances.argmin(axis=1)] == labels[half:][in_both]

    own, mirrored = right(images), right(images[:, :, ::-1])
    error = 2 * math.sqrt(0.25 / len(own))  # two standard errors of a share, at most
    chance = max(np.unique(labels, return_counts=True)[1]) / len(labels)
    return bool(own.mean() > chance + error and mirrored.mean() > own.mean() - error)


RULES = (
    Rule("quick", lambda dataset, shape: dataset.spec == "digits", "it was made for these digits"),
    Rule("regression", lambda dataset, shape: not TASKS[dataset.task].has_classes, "the labels are numbers"),
    Rule("signals", lambda dataset, shape: len(shape) == 2, "the examples are signals"),
    Rule("volumes", lambda dataset, shape: len(shape) == 4, "the examples are volumes"),
    Rule(
        "few-images",
        lambda dataset, shape: _is_small(dataset, shape) and dataset.sizes["train"] < FEW_EXAMPLES,
        f"there are fewer than {FEW_EXAMPLES:,} color images to train on, of less than {SMALL_SIDE_PX} px",
    ),
    Rule("cifar", _is_small, f"the images have colors and less than {SMALL_SIDE_PX} px"),
    Rule(
        "cifar",
        _is_small_gray_scene,
        f"the images are gray, have less than {SMALL_SIDE_PX} px, and are as well recognized when mirrored",
        {"model.width": 32, "train.batch_size": 64, "train.epochs": 60},
    ),
    Rule(
        "gray-photos",
        lambda dataset, shape: _is_large(dataset, shape) and shape[-1] == 1,
        f"the images are gray and have at least {SMALL_SIDE_PX} px",
    ),
    Rule(
        "few-photos",
        lambda dataset, shape: _is_large(dataset, shape) and dataset.sizes["train"] < FEW_EXAMPLES,
        f"there are fewer than {FEW_EXAMPLES:,} color images to train on, of at least {SMALL_SIDE_PX} px; --weights "
        "imagenet, where they can be fetched, learns more from as many",
    ),
    Rule("photos", _is_large, f"the images have colors and at least {SMALL_SIDE_PX} px"),
)


def rule_for(dataset: Dataset, shape: tuple[int, ...], model: str = "") -> Rule | None:
    """Returns the rule for a data set; None where none fits.

    Published weights of the model, where one is given, are taken for photographs if they are in the cache.
    """
    choice = next((rule for rule in RULES if rule.fits(dataset, shape)), None)
    if choice is not None and choice.recipe in ("few-photos", "photos") and model and weights_at_hand(model, False):
        reason = f"weights='imagenet' of {model} are in the cache, and learn more from as many images"
        return dataclasses.replace(choice, recipe=FOR_WEIGHTS, reason=reason)
    return choice


# The recipe for weights where none is named: a rate for random weights would destroy them.
FOR_WEIGHTS = "finetune"
# Recipes of data whose augmentation and loss that one does not have.
UNLIKE_PICTURES = ("regression", "signals", "volumes")
DEFAULTS: dict[str, Any] = {"recipe": "quick", "model": "resnet18", "data": "digits", "data_dir": None}


def defaults_of(recipe: Recipe, has_data: bool) -> dict[str, str]:
    """Returns the model, the data and the folder of data that a recipe names; nothing for what it does not."""
    values = dataclasses.asdict(recipe.defaults)
    return {name: value for name, value in values.items() if value and not (has_data and name == "data_dir")}


def fill_from_run(
    given: Mapping[str, Any],
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    run_file: RunFile | None = None,
) -> tuple[Recipe, dict[str, Any]]:
    """Returns the recipe, and model, data and folder of data: as given, else as the run has them, else by default.

    A run that goes on has its own; a recipe that a run or a search made names those that it was made for.
    """
    defaults = dict(DEFAULTS) if run_file is None else {name: getattr(run_file.about, name) for name in DEFAULTS}
    if run_file is None and (overrides or {}).get("model.weights"):
        defaults["recipe"] = FOR_WEIGHTS
    recipe = defaults["recipe"] if given.get("recipe") is None else given["recipe"]
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    recipe = recipe.replace({**(overrides or {}), **({} if seed is None else {"train.seed": seed})})
    if run_file is None:
        defaults |= defaults_of(recipe, given.get("data") is not None)
    names = ("model", "data", "data_dir")
    return recipe, {name: defaults[name] if given.get(name) is None else given[name] for name in names}


def absolute_spec(spec: str, data_dir: str | os.PathLike | None) -> tuple[str, str | None]:
    """Returns spec and folder of data with absolute paths, so that a run finds its data from any working directory."""
    spec = datasets.with_source(spec, data_dir)
    if data_dir is not None:
        return spec, os.path.abspath(os.path.expanduser(data_dir))
    if datasets.is_path_spec(spec):
        source, _, path = spec.partition(":")
        return f"{source}:{os.path.abspath(os.path.expanduser(path))}", None
    return spec, None


def resolve(
    recipe: Recipe | str | os.PathLike | None = None,
    *,
    model: str | None = None,
    data: str | datasets.Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    run_file: RunFile | None = None,
    group: Group = ALONE,
) -> Experiment:
    """Returns everything that a training is made of, checked.

    Args:
        recipe: a `Recipe`, a name from `list_recipes()`, or a TOML file; by default what fits the data
            (`keras_resnet.training.experiment.RULES`), with weights "finetune".
        model: a name from `keras_resnet.list_models()`; by default what the recipe was made for, else "resnet18".
        data: a spec, or a loaded dataset; by default what the recipe was made for, else "digits".
        data_dir: where TFDS finds its prepared data sets.
        seed: of weights, order and augmentation; None for the recipe's.
        overrides: "section.field" -> value, as `Recipe.replace` takes them.
        run_file: what run.json of a run that goes on holds, whose recipe, model and data are taken; None for a new run.
        group: the processes that train together.

    Raises:
        TypeError, ValueError: an argument or the data is not fit for training.
    """
    arguments = {"recipe": recipe, "model": model, "data": data, "data_dir": data_dir}
    recipe, asked = fill_from_run(arguments, seed, overrides, run_file)
    model = choose("model", asked["model"], {name: name for name in models.VARIANTS})
    data, root = asked["data"], asked["data_dir"]
    if isinstance(data, datasets.Dataset):
        dataset = data
        spec, root = absolute_spec(data.spec, root)
    else:
        spec, root = absolute_spec(str(data), root)
        dataset = recipe.data.load(spec, root, recipe.loss.choice.task.data_task)
    if arguments["recipe"] is None and run_file is None and recipe.name in (DEFAULTS["recipe"], FOR_WEIGHTS):
        fill = partial(fill_from_run, seed=seed, overrides=overrides)
        # Another width, stem or shortcut is not that of published weights.
        own = "" if any(name.startswith("model.") for name in overrides or ()) else model
        recipe, dataset = _fitting(recipe, dataset, root, fill, may_load=dataset is not data, model=own)
    return Experiment.of(recipe, dataset, model, spec, root, group)


def _fitting(
    recipe: Recipe,
    dataset: datasets.Dataset,
    root: str | None,
    fill: Callable[..., tuple[Recipe, Any]],
    may_load: bool,
    model: str,
) -> tuple[Recipe, datasets.Dataset]:
    """Returns the recipe that fits the data, where none was named, and the data as it takes them."""
    rule = rule_for(dataset, recipe.data.shape_for(dataset), model)
    is_for_weights = recipe.name == FOR_WEIGHTS
    if rule is None or rule.recipe == recipe.name or (is_for_weights and rule.recipe not in UNLIKE_PICTURES):
        return recipe, dataset
    chosen, name = Recipe.load(rule.recipe).replace(rule.settings), rule.recipe
    if is_for_weights:
        chosen = dataclasses.replace(Recipe.load(FOR_WEIGHTS), augment=chosen.augment, loss=chosen.loss)
        name = f"{FOR_WEIGHTS} with the augmentation and the loss of {rule.recipe}"
    fitting = fill({"recipe": chosen})[0]
    if may_load and fitting.data.load_options() != recipe.data.load_options():
        dataset = fitting.data.load(dataset.spec, root, dataset.task)
    note = f"recipe {name}, because {rule.reason}; --recipe names another"
    dataset.report = [*(line for line in dataset.report if line != note), note]
    return fitting, dataset
