"""What the network of a run sees: its section of a recipe, the data as it wants it, sizes, and the normalisation."""

import dataclasses
from typing import Any

import keras

from keras_resnet import data as datasets
from keras_resnet import preprocessing
from keras_resnet.data.examples.plan import CROPS
from keras_resnet.data.options import BAD_IMAGE_POLICIES
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.normalization import SCHEMES
from keras_resnet.training import fields

DEFAULT_IMAGE_SIZE_PX = 224
BALANCES = {name: name for name in ("none", "weights")}
STATISTICS_BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Data(fields.Section):
    """What becomes of images before the network sees them.

    `image_size` is a side in px; "auto" keeps the size that all images share, and is 224 where they differ.
    `balance="weights"` counts examples of rare classes more, so that all classes count alike.
    """

    title = "data"
    image_size: int | str = fields.integer_or("auto")
    crop: str = fields.choice("auto", CROPS, word="auto")
    normalization: str = fields.choice("unit", SCHEMES)
    validation_fraction: float = fields.number(0.1, maximum=1.0, open_above=True)
    on_bad_image: str = fields.choice("error", BAD_IMAGE_POLICIES)
    balance: str = fields.choice("none", BALANCES)

    def load(self, spec: str, data_dir: str | None, task: str) -> datasets.Dataset:
        """Returns the dataset as this section wants it; `task` is what the labels are for."""
        return datasets.load(
            spec,
            data_dir=data_dir,
            task=task,
            validation_fraction=self.validation_fraction,
            on_bad_image=self.on_bad_image,
        )

    def size_for(self, dataset: datasets.Dataset) -> int | None:
        """Returns the side in px that images are resized to, or None where they keep the size they share.

        Raises:
            ValueError: a size was given for signals or volumes, which are not resized.
        """
        space = dataset.image_shape[:-1]
        if self.image_size == "auto":
            return DEFAULT_IMAGE_SIZE_PX if None in space else None
        if len(space) != 2:
            raise BadValue(
                f"data.image_size={self.image_size} was given for examples of shape {dataset.image_shape}. Only images "
                "can be resized. Leave it 'auto'."
            )
        return None if space == (self.image_size, self.image_size) else int(self.image_size)

    def shape_for(self, dataset: datasets.Dataset) -> tuple[int, ...]:
        """Returns `(*space, channels)` of what the network takes."""
        size = self.size_for(dataset)
        shape: Any = dataset.image_shape if size is None else (size, size, dataset.image_shape[-1])
        return tuple(shape)

    def record_for(self, dataset: datasets.Dataset) -> preprocessing.InputRecord:
        """Returns what the network takes: pictures as training sees them, without their random changes."""
        shape = dataset.image_shape
        return preprocessing.InputRecord(
            image_size=self.shape_for(dataset)[:-1] if len(shape) == 3 else None,
            # Images that share a size are trained on whole.
            crop_fraction=datasets.CROP_FRACTION if None in shape else None,
            channel_order=preprocessing.order_of(shape[-1], len(shape) - 1),
            class_names=dataset.class_names,
        )

    def normalization_for(self, dataset: datasets.Dataset, precision: str) -> keras.layers.Layer:
        """Returns the first layer of the network, which carries the record."""
        record = self.record_for(dataset)
        if self.normalization != "dataset":
            return preprocessing.InputNormalization(self.normalization, record=record, dtype=precision)
        batches = dataset.batches("train", STATISTICS_BATCH_SIZE, **datasets.sizing(record, dataset.image_shape))
        return preprocessing.InputNormalization.adapted(batches, record=record, dtype=precision)

    def class_weights(self, dataset: datasets.Dataset, mixed: bool) -> dict[int, float] | None:
        """Returns a weight for each class, for `model.fit`; None where classes count as they come.

        Args:
            dataset: whose training split is counted.
            mixed: whether labels are mixed, which Keras cannot weigh.

        Raises:
            ValueError: the labels cannot be weighed.
        """
        if self.balance == "none":
            return None
        if mixed:
            raise BadValue(
                "data.balance='weights' was given with augment.mixup or augment.cutmix, whose labels belong to more "
                "than one class. Set data.balance='none', or mix nothing."
            )
        return dataset.class_weights()

    def training_batches(self, dataset: datasets.Dataset, batch_size: int, **options: Any) -> Any:
        """Returns infinite training batches; `options` are further arguments of `Dataset.training_batches`."""
        crop = None if self.crop == "auto" else self.crop
        return dataset.training_batches(batch_size, image_size=self.size_for(dataset), crop=crop, **options)
