"""What the network of a run sees: its section of a recipe, the data as it wants it, sizes, and the normalization."""

import bisect
import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import models, preprocessing
from keras_resnet.data.examples.batches import mixed_weights
from keras_resnet.data.examples.plan import CROPS, DECODINGS
from keras_resnet.data.options import BAD_IMAGE_POLICIES, IN_MEMORY_LIMIT, MAX_PIXELS, UNCERTAIN
from keras_resnet.data.weighting import LabelWeights
from keras_resnet.distribution import Group, evaluation_size
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import OPERATIONS
from keras_resnet.preprocessing.batch_transforms import BatchOperation
from keras_resnet.preprocessing.normalization import SCHEMES
from keras_resnet.preprocessing.operations import POLICIES
from keras_resnet.preprocessing.record import BYTES, INTERPOLATIONS, NARROW, PIXEL_RANGES
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.labels import class_counts
from keras_resnet.training import fields
from keras_resnet.training.scoring import EVALUATION_BATCH_SIZE
from keras_resnet.weights.adaptation import HEAD

PLACES = {name: name for name in ("host", "device")}


def _amount(name: str) -> Any:
    """Returns the field for an operation of the table, with its range."""
    row = OPERATIONS[name]
    if row.kind == "flag":
        return fields.flag(False)
    if row.kind == "integer":
        return fields.integer(0)
    return fields.number(0.0, maximum=row.maximum, open_above=not row.maximum_included)


@dataclasses.dataclass(frozen=True)
class Augment(fields.Section):
    """Random changes of training examples, in this order: pixels or steps, degrees, and fractions.

    `policy` is for pictures. `mixup` and `cutmix` are the parameters of their Beta distributions, 0 for none; where
    both are positive, batches have one or the other. `repeats` puts that many differently changed copies of an example
    into a batch, so that an epoch sees fewer examples. `augment_on="device"` makes the changes inside the training
    step, on the accelerator, and "host" in the pipeline before it; batches are the same. `policy_std` is the standard
    deviation of the strength of RandAugment from operation to operation: 0 in the paper, 0.05 in timm's recipes.
    """

    title = "augment"
    needs = {
        **dict.fromkeys(
            ("policy_strength", "policy_ops", "policy_std"),
            ("augment.policy", lambda recipe: recipe.augment.policy != "none"),
        ),
        "mix_probability": ("augment.mixup or augment.cutmix", lambda recipe: recipe.augment.mixes),
    }
    flip: bool = _amount("flip")
    quarter_turns: bool = _amount("quarter_turns")
    pad_and_crop: int = _amount("pad_and_crop")
    rotation: float = _amount("rotation")
    zoom: float = _amount("zoom")
    translation: float = _amount("translation")
    policy: str = fields.choice("none", POLICIES, word="none")
    policy_strength: float = fields.number(0.3, maximum=1.0)
    policy_ops: int = fields.integer(2, minimum=1)
    policy_std: float = fields.number(0.0)
    color_jitter: float = _amount("color_jitter")
    gain: float = _amount("gain")
    noise: float = _amount("noise")
    erasing: float = _amount("erasing")
    mixup: float = fields.number(0.0)
    cutmix: float = fields.number(0.0)
    mix_probability: float = fields.number(1.0, maximum=1.0, open_below=True)
    repeats: int = fields.integer(1, minimum=1)
    augment_on: str = fields.choice("host", PLACES)

    def build(
        self, rank: int = 2, pixel_range: tuple[float, float] | None = BYTES
    ) -> preprocessing.Augmentation | None:
        """Returns the layers of what is asked for, in the order of the table; None where nothing is."""
        amounts = {name: getattr(self, name) for name in OPERATIONS}
        return preprocessing.augmentation(
            **amounts,
            policy=None if self.policy == "none" else self.policy,
            policy_strength=self.policy_strength,
            policy_ops=self.policy_ops,
            policy_std=self.policy_std,
            rank=rank,
            pixel_range=pixel_range,
        )

    @property
    def mixes(self) -> bool:
        """Whether labels are mixed."""
        return bool(self.mixup or self.cutmix)

    def mixing(self, classes: int, outputs: int) -> list[preprocessing.Mixing]:
        """Returns the layers that mix examples and labels; none where the recipe does not ask for it."""
        if not self.mixes:
            return []
        if not classes or outputs != classes:
            what = "regression targets" if not classes else f"{classes} classes and {outputs} output"
            raise BadValue(
                f"augment.mixup={self.mixup} and augment.cutmix={self.cutmix} were given for {what}. Labels are mixed "
                "as rows of one share per class. Set both to 0, or use a loss with one output per class."
            )
        return [preprocessing.Mixing(classes, self.mixup, self.cutmix, self.mix_probability)]


DEFAULT_IMAGE_SIZE_PX = 224
# Times the side that weights of small images were trained on, above which images are resized to it.
MAX_ENLARGED = 1.5
# What `data.load` is given.
LOADING = (
    "validation_fraction",
    "test_fraction",
    "split_seed",
    "on_bad_image",
    "max_skipped_fraction",
    "max_pixels",
    "in_memory_limit",
    "apply_exif",
    "rank",
    "label_key",
    "uncertain",
    "group_pattern",
)
FOLDS = ("fold", "validation_fold")  # of which "none" is none
AUTO = "auto"
TEXTS = ("label_key", "columns", "group_pattern")  # of which "auto" is none
# How classes are balanced -> the power of their counts by which rare ones gain: 1 makes all alike, 1/2 is between.
WEIGHTINGS = {"weights": 1.0, "sqrt_weights": 0.5}
SAMPLINGS = {"sampling": 1.0, "sqrt_sampling": 0.5}
BALANCES = {name: name for name in ("none", *WEIGHTINGS, *SAMPLINGS)}
STATISTICS_BATCH_SIZE = 256
# Sides of smaller images are eighths of the whole one: few sizes, for each of which the step is compiled anew.
PROGRESSIVE_PARTS = 8


@dataclasses.dataclass(frozen=True)
class Data(fields.Section):
    """What becomes of images before the network sees them.

    `image_size` is a side in px, or height and width as in [192, 256]; "auto" keeps the size that all images share, and
    is 224 where they differ. Where training images are cut (`crop` is "random" or "center"), evaluation and prediction
    take the center whose share of the shorter side is `crop_fraction`; where they are not, the whole image.
    `decode="scaled"` decodes the JPEG files that are trained on at a half, a quarter or an eighth, the smallest that
    leaves what is cut at least twice the image size; evaluation and prediction always decode at full size.
    `rank` is the number of axes of space of an array's examples: 1 for signals, 2 for pictures, 3 for volumes; "auto"
    takes the last axis for the channels. `label_key` names the label: a feature of a TFDS set, or a column of a
    parquet file. `class_order` is the order of the classes, as "low,medium,high", for grades that are words; "auto"
    takes that of the source. `columns` names those of a table, as "path=image,label=diagnosis,group=patient";
    `group_pattern` is a regular expression that finds the group of a path, which no split divides; "auto" for usual
    names, and no groups.
    `fold`, as "2/5", makes one of that many parts of the training split the test split, `validation_fold` the
    validation split.
    `validation_fraction`, `test_fraction`, `split_seed`, `on_bad_image`, `max_skipped_fraction`, `max_pixels`,
    `in_memory_limit` (bytes), `apply_exif` and `uncertain` are those of `data.load`; a run trained on a loaded dataset
    has that one's. `pixel_range` is the values of black and of white in an array of pictures: "0..255", "0..1",
    "-1..1", or "other" for what is in none of these; "auto" looks at the training split.
    `balance="weights"` counts examples of rare classes more, so that all classes count alike; "sampling" draws them
    more often, with replacement. "sqrt_weights" and "sqrt_sampling" go half the way, by the square roots of the counts.
    Of multi-label targets weights make yes and no count alike for each class, and sampling goes by the rarest
    one.
    `progressive_from` is the side of the first epoch's training images, as a fraction of the whole side; it grows until
    the fraction `progressive_until` of the epochs is over (Tan and Le 2021, EfficientNetV2, section 4). 1 for images of
    one size.
    """

    title = "data"
    needs = {
        "progressive_until": ("data.progressive_from", lambda recipe: recipe.data.progressive_from < 1.0),
        "crop_fraction": ("data.crop", lambda recipe: recipe.data.crop != "none"),
    }
    image_size: int | tuple[int, int] | str = fields.size_or("auto")
    crop: str = fields.choice("auto", CROPS, word="auto")
    crop_fraction: float = fields.number(datasets.CROP_FRACTION, maximum=1.0, open_below=True)
    interpolation: str = fields.choice("bilinear", INTERPOLATIONS)
    decode: str = fields.choice("full", DECODINGS)
    normalization: str = fields.choice("unit", SCHEMES)
    validation_fraction: float = fields.number(0.1, maximum=1.0, open_above=True)
    test_fraction: float = fields.number(0.1, maximum=1.0, open_above=True)
    split_seed: int = fields.integer(0)
    on_bad_image: str = fields.choice("error", BAD_IMAGE_POLICIES)
    max_skipped_fraction: float = fields.number(0.01, maximum=1.0)
    max_pixels: int = fields.integer(MAX_PIXELS, minimum=1)
    in_memory_limit: int = fields.integer(IN_MEMORY_LIMIT)
    apply_exif: bool = fields.flag(True)
    pixel_range: str = fields.choice("auto", {**PIXEL_RANGES, "other": None}, word="auto")
    rank: int | str = fields.integer_or("auto")
    label_key: str = fields.text("auto")
    uncertain: str = fields.choice("error", UNCERTAIN)
    class_order: str = fields.text(AUTO)
    columns: str = fields.text("auto")
    group_pattern: str = fields.text("auto")
    fold: str = fields.text("none")
    validation_fold: str = fields.text("none")
    balance: str = fields.choice("none", BALANCES)
    progressive_from: float = fields.number(1.0, maximum=1.0, open_below=True)
    progressive_until: float = fields.number(0.7, maximum=1.0, open_below=True)

    def load(self, spec: str, data_dir: str | None, task: str) -> datasets.Dataset:
        """Returns the dataset as this section wants it; `task` is what the labels are for."""
        options = self.load_options()
        dataset = datasets.load(spec, data_dir=data_dir, task=task, **options)
        self._check_order(dataset, options.get("class_names"))
        return dataset

    def _check_order(self, dataset: datasets.Dataset, names: tuple[str, ...] | None) -> None:
        if names is None or not dataset.class_names:
            return
        labels = dataset.split("train").labels
        counts = [1] * len(dataset.class_names) if labels is None else class_counts(labels, len(dataset.class_names))
        used = [name for name, count in zip(dataset.class_names, counts, strict=True) if count]
        if dataset.class_names != names or set(used) != set(names):
            raise BadValue(
                f"data.class_order={self.class_order!r} was given for {dataset.spec}, whose training examples have the "
                f"classes {used}. Allowed is each of them once, divided by commas, for folders, tables, shards and "
                "parquet files. Correct it, or leave it out for the order of names."
            )

    def load_options(self) -> dict[str, Any]:
        """Returns the arguments of `data.load` that this section holds."""
        rank = None if self.rank == "auto" else int(self.rank)
        texts = {name: None if (text := getattr(self, name)) == "auto" else text for name in TEXTS}
        folds = {name: None if (text := getattr(self, name)) == "none" else text for name in FOLDS}
        order = {} if self.class_order == AUTO else {"class_names": tuple(map(str.strip, self.class_order.split(",")))}
        return {**{name: getattr(self, name) for name in LOADING}, "rank": rank, **folds, **texts, **order}

    def loaded_as(self, dataset: datasets.Dataset) -> dict[str, Any]:
        """Returns the overrides that say how a dataset was loaded, so that it can be loaded so again."""
        if dataset.options is None:
            return {}
        options: dict[str, Any] = {f"data.{name}": getattr(dataset.options, name) for name in LOADING}
        for name in FOLDS:
            fold = getattr(dataset.options, name)
            options[f"data.{name}"] = "none" if fold is None else f"{fold[0]}/{fold[1]}"
        columns = dataset.options.columns
        names = dataset.options.class_names
        options["data.class_order"] = None if names is None or any("," in name for name in names) else ",".join(names)
        options["data.columns"] = ",".join(f"{role}={'+'.join(names)}" for role, names in columns.items()) or None
        return {name: "auto" if value is None else value for name, value in options.items()}

    def range_for(self, dataset: datasets.Dataset) -> tuple[float, float] | None:
        """Returns the values of black and of white in the pictures; None for other examples and unknown units."""
        if len(dataset.image_shape) != 3:
            return None
        return dataset.pixel_range if self.pixel_range == "auto" else PIXEL_RANGES.get(self.pixel_range)

    def size_for(self, dataset: datasets.Dataset) -> tuple[int, int] | None:
        """Returns height and width in px that images are resized to, or None where they keep their size."""
        space = dataset.image_shape[:-1]
        if self.image_size == "auto":
            return (DEFAULT_IMAGE_SIZE_PX, DEFAULT_IMAGE_SIZE_PX) if None in space else None
        if len(space) != 2:
            raise BadValue(
                f"data.image_size={self.image_size} was given for examples of shape {dataset.image_shape}. Only images "
                "can be resized. Leave it 'auto'."
            )
        size: Any = self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)
        return None if tuple(space) == size else size

    def side_for_weights(self, dataset: datasets.Dataset, pretrained: models.Pretrained) -> int | None:
        """Returns the side in px to which large images are resized for weights of small ones; None to leave them.

        A network with a stem for small images takes long for large ones, and knows no shapes of their size.
        """
        if self.image_size != AUTO or len(dataset.image_shape) != 3 or pretrained.arguments.get("stem") != "small":
            return None
        side = None if pretrained.record is None else pretrained.record.side
        shape = self.shape_for(dataset)
        return side if side is not None and min(shape[:-1]) > MAX_ENLARGED * side else None

    def crop_for(self, dataset: datasets.Dataset) -> str:
        """Returns the crop of training images: "random", "center" or "none"."""
        if self.crop == "auto":
            return "random" if None in dataset.image_shape else "none"
        return self.crop

    def shape_for(self, dataset: datasets.Dataset) -> tuple[int, ...]:
        """Returns `(*space, channels)` of what the network takes."""
        size = self.size_for(dataset)
        shape: Any = dataset.image_shape if size is None else (*size, dataset.image_shape[-1])
        return tuple(shape)

    def record_for(
        self, dataset: datasets.Dataset, activation: str | None = None, task: str | None = None
    ) -> preprocessing.InputRecord:
        """Returns the preprocessing configuration of the network: training's own, without augmentation."""
        shape = dataset.image_shape
        return preprocessing.InputRecord(
            image_size=self.shape_for(dataset)[:-1] if len(shape) == 3 else None,
            crop_fraction=None if self.crop_for(dataset) == "none" else self.crop_fraction,
            interpolation=self.interpolation,
            channel_order=preprocessing.order_of(shape[-1], len(shape) - 1),
            class_names=dataset.class_names,
            pixel_range=self.range_for(dataset),
            apply_exif=self.apply_exif,
            task=task or dataset.task,
            units=dataset.units,
            activation=activation,
            head=HEAD,
        )

    def normalization_for(self, dataset: datasets.Dataset) -> str:
        """Returns the normalization: "dataset" where files of 16 bits use little of their range and none was chosen."""
        if not dataset.splits["train"].is_deep or self.normalization != type(self)().normalization:
            return self.normalization
        images = next(iter(dataset.batches("train", 16, **self._sizing(dataset)).take(1)))[0].numpy()
        return "dataset" if np.percentile(images, 99.9) < NARROW else self.normalization

    def _sizing(self, dataset: datasets.Dataset) -> dict[str, Any]:
        return datasets.sizing(self.record_for(dataset), dataset.image_shape)

    def unit_warning(self, dataset: datasets.Dataset) -> list[str]:
        """Returns a warning where values that are not pixels would be divided by 255."""
        if self.normalization == "dataset" or self.range_for(dataset) is not None:
            return []
        values = next(iter(dataset.batches("train", 16, **self._sizing(dataset)).take(1)))[0].numpy()
        low, high = float(values.min()), float(values.max())
        if values.dtype == np.uint8 or (low >= 0 and 1.5 < high <= 255):
            return []
        return [
            f"warning: values from {low:.4g} to {high:.4g} are divided by 255, as pixels are: data.normalization="
            f"{self.normalization!r}. data.normalization='dataset' takes their mean and standard deviation instead"
        ]

    def normalization_layer(
        self,
        dataset: datasets.Dataset,
        record: preprocessing.InputRecord,
        constants: Mapping[str, Any] | None,
        precision: str,
    ) -> preprocessing.InputNormalization:
        """Returns the first layer of the network, which carries the record."""
        common: dict[str, Any] = {"record": record, "dtype": precision}
        if constants is not None and self.normalization == type(self)().normalization:
            return preprocessing.InputNormalization(**constants, **common)
        if self.normalization != "dataset":
            return preprocessing.InputNormalization(self.normalization, **common)
        sizing = datasets.sizing(record, dataset.image_shape)
        batches = dataset.batches("train", STATISTICS_BATCH_SIZE, **sizing)
        example_batches = (
            images if not own else images[own[0] > 0] for images, _, *own in batches
        )  # 0 leaves an example out
        return preprocessing.InputNormalization.from_data(example_batches, **common)

    def class_weights(self, dataset: datasets.Dataset, mixed: bool) -> dict[int, float] | None:
        """Returns a weight for each class, for `model.fit`; None where classes count as they come."""
        has_weights = dataset.weights_of("train") is not None
        if mixed and has_weights:
            raise mixed_weights("augment.mixup or augment.cutmix")
        if self.balance not in WEIGHTINGS:
            return None
        if has_weights:
            raise BadValue(
                f"data.balance={self.balance!r} was given with examples that have weights. Allowed is one of the two, "
                "or data.balance='sampling' beside the weights. Set it, or multiply the weights of rare classes."
            )
        if TASKS[dataset.task].has_thresholds:
            return None
        if mixed:
            raise BadValue(
                f"data.balance={self.balance!r} was given with augment.mixup or augment.cutmix, whose labels belong to "
                "more than one class. Set data.balance='none' or 'sampling', or mix nothing."
            )
        return dataset.class_weights(WEIGHTINGS[self.balance])

    def label_weights(self, dataset: datasets.Dataset) -> LabelWeights | None:
        """Returns weights of yes and of no for each class of multi-label targets; None where all count alike."""
        if self.balance not in WEIGHTINGS or not TASKS[dataset.task].has_thresholds:
            return None
        return dataset.label_weights(WEIGHTINGS[self.balance])

    @property
    def sampling_power(self) -> float:
        """The power of the counts by which examples of rare classes are drawn more often; 0 for each once an epoch."""
        return SAMPLINGS.get(self.balance, 0.0)

    def stages(self, shape: tuple[int, ...], epochs: int) -> list[tuple[int, tuple[int, int] | None]]:
        """Returns the stages of a training whose images grow: the epoch that ends each, and its size."""
        if self.progressive_from == 1.0:
            return [(epochs, None)]
        space = shape[:-1]
        if len(space) != 2:
            raise BadValue(
                f"data.progressive_from={self.progressive_from} was given for examples of shape {shape}. Only images "
                "can be resized. Leave it 1."
            )

        def part_of(epoch: int) -> int:
            return self._parts(epoch / (self.progressive_until * epochs))

        stages: list[tuple[int, tuple[int, int] | None]] = []
        end = 0
        while end < epochs:
            part = part_of(end)
            end = bisect.bisect_right(range(epochs), part, lo=end, key=part_of)  # sizes never fall
            height, width = (max(1, side * part // PROGRESSIVE_PARTS) for side in space)
            stages.append((end, None if part == PROGRESSIVE_PARTS else (height, width)))
        return stages

    def _parts(self, done: float) -> int:
        """Returns how many parts of the whole side images have when a fraction of their growth is over."""
        fraction = self.progressive_from + (1 - self.progressive_from) * min(1.0, done)
        return max(1, round(PROGRESSIVE_PARTS * fraction))


def evaluation_batches(
    dataset: datasets.Dataset,
    record: preprocessing.InputRecord,
    weights: Mapping[int, float] | None,
    group: Group,
) -> Any:
    """Returns the batches of the validation split; None if there is no split."""
    import tensorflow as tf

    size = dataset.sizes.get("validation")
    if not size:
        return None
    shard = (group.index, group.count)
    sizes = datasets.sizing(record, dataset.image_shape)
    is_joined = group.count > 1 and group.joins_parts
    most = evaluation_size(size, EVALUATION_BATCH_SIZE, group.count) if is_joined else EVALUATION_BATCH_SIZE
    batches = dataset.batches("validation", most, shard=shard, **sizes)
    if weights is None and group.joins_parts:
        return batches
    table = None
    if weights is not None:
        table = tf.constant([weights[label] for label in range(len(weights))], tf.float32)
    counts = _which_count(size, shard)

    def weighted(step: Any, batch: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        images, labels, *own = batch
        weight = own[0] if own else tf.ones(tf.shape(labels)[:1])
        weight = weight if table is None else tf.gather(table, labels)
        if not group.joins_parts:
            weight = tf.where(counts[step][: tf.shape(labels)[0]], weight, -1.0)
        return images, labels, weight

    return batches.enumerate().map(weighted)


def _which_count(size: int, shard: tuple[int, int]) -> Any:
    """Returns for each row of each of a process's validation batches whether it is its own."""
    import tensorflow as tf

    index, count = shard
    part = -(-EVALUATION_BATCH_SIZE // count)
    mask = np.zeros((-(-size // EVALUATION_BATCH_SIZE), part), bool)
    for step in range(len(mask)):
        rows = min(EVALUATION_BATCH_SIZE, size - step * EVALUATION_BATCH_SIZE)
        mine = -(-rows // count)
        mask[step, :mine] = index * mine + np.arange(mine) < rows
    return tf.constant(mask)


def shrink_to(size: tuple[int, int]) -> BatchOperation:
    """Returns the layer that shrinks the images of a batch, after they were augmented at full size."""

    def shrink(images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        images = keras.ops.cast(images, "float32")
        return keras.ops.image.resize(images, size, antialias=True, data_format="channels_last"), labels

    return shrink
