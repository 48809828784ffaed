"""The network of a run: images in [0, 255], the normalisation, the residual network, logits."""

from typing import Any

import keras

from keras_resnet import data as datasets
from keras_resnet import models, preprocessing
from keras_resnet.errors import BadValue

DEFAULT_IMAGE_SIZE_PX = 224
STATISTICS_BATCH_SIZE = 256


def image_size_of(recipe: Any, dataset: datasets.Dataset) -> int | None:
    """Returns the side in px that images are resized to, or None where they keep the size they share.

    Raises:
        ValueError: a size was given for signals or volumes, which are not resized.
    """
    space = dataset.image_shape[:-1]
    size = recipe.data.image_size
    if size == "auto":
        return DEFAULT_IMAGE_SIZE_PX if None in space else None
    if len(space) != 2:
        raise BadValue(
            f"data.image_size={size} was given for examples of shape {dataset.image_shape}. Only images can be "
            "resized. Leave it 'auto'."
        )
    return None if space == (size, size) else int(size)


def input_shape_of(recipe: Any, dataset: datasets.Dataset) -> tuple[int, ...]:
    """Returns `(*space, channels)` of what the network takes."""
    size = image_size_of(recipe, dataset)
    shape: Any = dataset.image_shape if size is None else (size, size, dataset.image_shape[-1])
    return tuple(shape)


def steps_of(recipe: Any, dataset: datasets.Dataset) -> int:
    """Returns the training batches of an epoch; a batch larger than the split is refused."""
    return dataset.steps_per_epoch(recipe.train.batch_size)


def build_model(recipe: Any, name: str, dataset: datasets.Dataset) -> keras.Model:
    """Returns one flat functional model "image" -> "preprocessing" -> network -> logits, in float32 at both ends.

    Args:
        recipe: sections `model`, `data`, `loss` and `train.precision` are read.
        name: of the variant.
        dataset: sets the input shape and the number of outputs.

    Raises:
        ValueError: the loss does not fit the number of classes.
    """
    steps_of(recipe, dataset)
    outputs = dataset.num_outputs
    if recipe.loss.name == "binary_cross_entropy":
        if outputs != 2:
            raise BadValue(
                f"loss.name='binary_cross_entropy' was given for data={dataset.spec!r} with {outputs} classes. It "
                "takes two. Use loss.name='cross_entropy'."
            )
        outputs = 1
    elif recipe.loss.name == "cross_entropy" and outputs < 2:
        raise BadValue(
            f"data={dataset.spec!r} has {outputs} class. A classifier needs two. Add another class, or use "
            "loss.name='mean_squared_error' for numbers to predict."
        )
    shape = input_shape_of(recipe, dataset)
    policy = recipe.train.precision
    inputs = keras.Input(shape, name="image", dtype="float32")
    pixels = _normalization(recipe, dataset, policy)(inputs)
    return models.build(
        name,
        input_tensor=pixels,
        classes=outputs,
        classifier_activation=None,
        dtype=policy,
        **recipe.model.arguments(shape),
    )


def record_of(recipe: Any, dataset: datasets.Dataset) -> preprocessing.InputRecord:
    """Returns what the network of a run takes: pictures as training saw them, without their random changes."""
    shape = dataset.image_shape
    is_pictures = len(shape) == 3
    size = image_size_of(recipe, dataset)
    return preprocessing.InputRecord(
        image_size=(size or tuple(shape[:-1])) if is_pictures else None,
        # Images that share a size are trained on whole.
        crop_fraction=datasets.CROP_FRACTION if None in shape else None,
        channel_order=preprocessing.order_of(shape[-1], len(shape) - 1),
        class_names=dataset.class_names,
    )


def _normalization(recipe: Any, dataset: datasets.Dataset, policy: str) -> keras.layers.Layer:
    record, scheme = record_of(recipe, dataset), recipe.data.normalization
    if scheme != "dataset":
        return preprocessing.InputNormalization(scheme, record=record, dtype=policy)
    batches = dataset.batches("train", STATISTICS_BATCH_SIZE, **datasets.sizing(record, dataset.image_shape))
    return preprocessing.InputNormalization.adapted(batches, record=record, dtype=policy)
