"""The record that a model carries: found in its layers, checked against its outputs, rewritten for a new head."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_resnet.blocks import Stem
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.normalization import InputNormalization
from keras_resnet.preprocessing.record import CHANNEL_ORDERS, INPUTS, OUTPUTS, InputRecord, order_of
from keras_resnet.tasks import CLASSIFICATION, REGRESSION, TASKS
from keras_resnet.tasks.outputs import LOG_SCORES, gives_predictions, head_of, last_activation


def for_model(model: keras.Model) -> InputRecord:
    """Returns the preprocessing configuration saved in a model, or defaults if it carries none.

    The sizes and the number of channels of the model's own input come before those of the record. What the record says
    of the outputs is checked against the model: a new head needs its own names, from `describe_outputs`. A model
    that ends in feature maps or pooled features has no task.

    Args:
        model: a Keras model; models nested in it are searched too.

    Returns:
        A record whose `assumed` names the fields that are defaults: the whole picture but for what its aspect ratio
        costs (`crop_fraction=1.0`), bilinear, RGB or gray by the number of channels, [0, 255], no class names; a
        regression if the model has one output without activation, else a classification.

    Raises:
        ValueError: `model` holds no InputNormalization layer and takes neither signals, images nor volumes; or its
            outputs are not those that its record describes.
    """
    layer = next(_normalizations(model), None) or _of_weights(model)
    shape = tuple(model.inputs[0].shape) if getattr(model, "inputs", None) else ()
    if layer is None and len(shape) not in (3, 4, 5):
        raise BadValue(
            f"model {model.name!r} holds no InputNormalization layer. Only models that were built or trained with one "
            "carry their preprocessing. Put keras_resnet.preprocessing.InputNormalization(scheme) first in the model."
        )
    stored = None if layer is None else layer.record
    record = stored or InputRecord(assumed=(*INPUTS, "class_names"))
    data_format = keras.config.image_data_format() if layer is None else layer.data_format
    *sizes, channels = shape[1:] if data_format == "channels_last" else (*shape[2:], shape[1])
    if len(sizes) == 2 and None not in sizes:
        record = dataclasses.replace(
            record, image_size=tuple(sizes), assumed=tuple(name for name in record.assumed if name != "image_size")
        )
    if channels != CHANNEL_ORDERS[record.channel_order] or len(sizes) != 2:
        record = dataclasses.replace(record, channel_order=order_of(channels, len(sizes)))
    return dataclasses.replace(_with_outputs(record, model), normalization=layer)


def _with_outputs(record: InputRecord, model: keras.Model) -> InputRecord:
    """Returns a record with the outputs of a model, checked against what it says of them, and completed."""
    if not gives_predictions(model):
        return dataclasses.replace(record, **_empty_outputs())
    outputs, ends_in = model.outputs[0].shape[-1], last_activation(model)
    task = record.task or (CLASSIFICATION.name if record.class_names or record.activation else None)
    assumed = list(record.assumed)
    if task is None:
        is_scaled = isinstance(model.layers[-1], keras.layers.Rescaling)
        is_regression = is_scaled or (outputs == 1 and ends_in not in LOG_SCORES)
        task = (REGRESSION if is_regression else CLASSIFICATION).name
        assumed.append("task")
    activation = record.activation
    if TASKS[task].activations and activation is None:
        activation = default_activation(model) if len(TASKS[task].activations) > 1 else TASKS[task].activations[0]
    _check_outputs(dataclasses.replace(record, task=task, activation=activation), model, outputs, ends_in)
    return dataclasses.replace(
        record, task=task, activation=activation, head=record.head or head_of(model), assumed=tuple(assumed)
    )


def _empty_outputs() -> dict[str, Any]:
    """Returns the defaults of the fields that say what comes out."""
    return {field.name: field.default for field in dataclasses.fields(InputRecord) if field.name in OUTPUTS}


def default_activation(model: keras.Model) -> str:
    """Returns the activation that makes probabilities of a classifier's logits: the one it ends in, or a softmax.

    Args:
        model: with one row of outputs per example.
    """
    ends_in = last_activation(model)
    if ends_in in LOG_SCORES:
        return str(ends_in)
    return "sigmoid" if model.outputs[0].shape[-1] == 1 else "softmax"


def _check_outputs(record: InputRecord, model: keras.Model, outputs: int | None, ends_in: str | None) -> None:
    """Raises ValueError if a model does not give what its record says."""
    head, names = head_of(model), record.class_names
    wrong = ""
    if record.head is not None and head is not None and record.head != head:
        wrong = f"describes the outputs of the layer {record.head!r}, and the model ends in {head!r}"
    elif (
        names
        and outputs != len(names)
        and not (outputs == 1 and len(names) == 2 and not (record.task and TASKS[record.task].has_thresholds))
    ):
        wrong = f"names {len(names)} classes, and the model has {outputs} output{'s' if outputs != 1 else ''}"
    elif record.units and outputs != len(record.units):
        wrong = f"names units of {len(record.units)} outputs, and the model has {outputs}"
    elif record.task and not TASKS[record.task].activations and ends_in in LOG_SCORES:
        wrong = f"says {record.task}, and the model ends in {ends_in!r}"
    elif ends_in in LOG_SCORES and record.activation not in (None, ends_in) and outputs != 1:
        wrong = f"says {record.activation!r}, and the model ends in {ends_in!r}"
    if wrong:
        raise BadValue(
            f"The record of the model {model.name!r} {wrong}. It must describe the outputs that the model has now. "
            "After putting on a new head, say what comes out: keras_resnet.preprocessing.describe_outputs(model, "
            "class_names=[...]), or task='regression'."
        )


def describe_outputs(
    model: keras.Model,
    class_names: Sequence[str] = (),
    *,
    task: str | None = None,
    activation: str | None = None,
    units: Sequence[str] = (),
    thresholds: Sequence[float] = (),
) -> None:
    """Writes into the record of a model what its outputs are, as after a new head was put on an old network.

    The record lies in the model's InputNormalization layer; another model that shares the layer shares the record.

    Args:
        model: a Keras model with an InputNormalization layer.
        class_names: one per class, in the order of the outputs; two for one output. Empty for a regression, or for
            classes without names.
        task: "classification", "multilabel" or "regression"; None for a classification.
        activation: "softmax" or "sigmoid", which turns logits into probabilities; None for that of the model, and for
            logits "softmax" (one output: "sigmoid").
        units: of a regression's outputs, one per output.
        thresholds: of multi-label targets, the probability from which on it has each class; empty for 0.5.

    Raises:
        TypeError, ValueError: the model has no such layer, or its outputs are not those described.

    Example:
        >>> import keras
        >>> from keras_resnet import ResNet18, preprocessing
        >>> image = keras.Input((32, 32, 3))
        >>> model = ResNet18(input_tensor=preprocessing.InputNormalization()(image), width=4, classes=2)
        >>> preprocessing.describe_outputs(model, ["cat", "dog"])
        >>> preprocessing.for_model(model).class_names
        ('cat', 'dog')
    """
    layer = next(_normalizations(model), None)
    if layer is None:
        raise BadValue(
            f"model {model.name!r} holds no InputNormalization layer, which carries the record. Put "
            "keras_resnet.preprocessing.InputNormalization(scheme) first in the model."
        )
    if not gives_predictions(model):
        raise BadValue(
            f"model {model.name!r} gives {[tuple(output.shape) for output in model.outputs]}, and no row of outputs "
            "per example. Only predictions have a task. Put a head on it."
        )
    outputs = {**_empty_outputs(), "task": task or CLASSIFICATION.name, "class_names": class_names}
    outputs |= {"activation": activation, "units": units, "thresholds": thresholds}
    record = dataclasses.replace(layer.record or InputRecord(), **outputs)
    layer.record = dataclasses.replace(_with_outputs(record, model), normalization=None, assumed=())


def _of_weights(model: keras.Model) -> InputNormalization | None:
    """Returns the layer that makes of pixels what loaded weights were trained on; it is not part of the model."""
    for layer in model.layers:
        if isinstance(layer, Stem) and layer.preprocessing:
            return InputNormalization(**layer.preprocessing)
    return None


def normalization_of_weights(model: keras.Model) -> InputNormalization | None:
    """Returns the layer that a network with loaded weights needs before it; None where it holds one, or needs none."""
    first = next((layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)), None)
    # Whatever else stands before the stem takes its place.
    return _of_weights(model) if isinstance(first, Stem) else None


def _normalizations(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, InputNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _normalizations(layer)
