"""One network that answers with the mean of several networks, and of several views of an example."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import preprocessing
from keras_resnet.arguments import choose
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import InputRecord
from keras_resnet.tasks import CLASSIFICATION, MULTILABEL
from keras_resnet.tasks.outputs import SMALLEST, last_activation

View = Callable[[Any], Any]


def _flipped(images: Any) -> Any:
    return keras.ops.flip(images, axis=-2)


def _turns(images: Any) -> list[Any]:
    """Returns the eight ways in which a square picture can lie."""
    turned = [images, keras.ops.flip(images, axis=(1, 2))]
    aside = keras.ops.transpose(images, (0, 2, 1, 3))
    turned += [aside, keras.ops.flip(aside, axis=(1, 2))]
    return [*turned, *(keras.ops.flip(view, axis=2) for view in turned)]


# Name -> the views of an example that are averaged.
VIEWS: dict[str, Callable[[Any], list[Any]]] = {
    "none": lambda images: [images],
    "flip": lambda images: [images, _flipped(images)],
    "quarter-turns": _turns,
}


def mean_of_models(members: Sequence[keras.Model], views: str = "none") -> keras.Model:
    """Returns one network whose probabilities, or values, are the mean over networks and over views of an example.

    It takes what its members take and answers as they do, so it is predicted with, evaluated, saved and exported as
    any model.

    Args:
        members: networks for the same task, with the same input and the same classes; at least one.
        views: "none"; "flip", an example and its mirror image along its last axis of space; "quarter-turns", the eight
            ways in which a square picture can lie, for pictures without an upright position.

    Raises:
        ValueError: the networks differ in what they take or give, or the examples have no such views.
    """
    choose("views", views, VIEWS)
    records = [preprocessing.for_model(member) for member in members]
    record, shape = records[0], members[0].input_shape[1:]
    for member, other in zip(members, records, strict=True):
        _check_alike(members[0], record, member, other)
    if views == "quarter-turns" and (len(shape) != 3 or shape[0] != shape[1]):
        raise BadValue(
            f"views={views!r} was given for examples of shape {shape}. Allowed are square pictures. Use 'flip'."
        )
    image = keras.Input(shape, name="image")
    # Of sigmoids each is an answer by itself: the one of two classes, or those of multi-label targets.
    is_single = members[0].output_shape[-1] == 1 or record.task == MULTILABEL.name
    networks = [_under_a_name_of_its_own(member, f"member_{n}") for n, member in enumerate(members, start=1)]
    views_of = VIEWS[views](image)
    answers = [(network, network(view)) for network in networks for view in views_of]
    if record.activation is None:
        values = [output for _, output in answers]
        mean = keras.layers.Average(dtype="float32")(values) if len(values) > 1 else values[0]
        model = keras.Model(image, keras.layers.Activation("linear", dtype="float32")(mean), name="mean")
        if record.normalization is not None:  # which carries the record; other networks have none
            preprocessing.describe_outputs(model, task=record.task, units=record.units)
        return model
    # In logarithms, and of sigmoids to the end: 1 - 1e-9 is 1 in float32, of which no logit could be read back.
    logits = _log_mean([_log_probabilities(output, network, record, is_single) for network, output in answers])
    if is_single:
        logits -= _log_mean([_log_probabilities(-output, network, record, True, 1.0) for network, output in answers])
    activation = "sigmoid" if is_single else "softmax"
    ends_in = "linear" if is_single and record.normalization is not None else activation
    model = keras.Model(image, keras.layers.Activation(ends_in, dtype="float32")(logits), name="mean")
    cuts = [other.thresholds for other in records]
    thresholds = tuple(np.mean(cuts, axis=0).tolist()) if all(cuts) else ()
    named: dict[str, Any] = {"task": record.task or CLASSIFICATION.name, "activation": activation}
    if record.normalization is not None:
        preprocessing.describe_outputs(model, record.class_names, thresholds=thresholds, **named)
    return model


def _under_a_name_of_its_own(member: keras.Model, name: str) -> keras.Model:
    """Returns a copy of a member, whose record can be another one, under a name that no other member has."""
    copy = keras.models.clone_model(member)
    copy.set_weights(member.get_weights())
    copy.name = name
    return copy


def _log_mean(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return keras.ops.logsumexp(keras.ops.stack(parts), axis=0) - math.log(len(parts))


def _log_probabilities(
    output: Any, member: keras.Model, record: InputRecord, is_single: bool, whole: float = 0.0
) -> Any:
    """Returns the logarithms of the probabilities that an output stands for; of those of the opposite for `-output`.

    Args:
        output: of the member.
        member: the network.
        record: of it.
        is_single: whether each output is an answer by itself.
        whole: 1 for the opposite of an output that is a probability.
    """
    output = keras.ops.cast(output, "float32")
    is_probability = last_activation(member) != "linear"
    if is_probability:
        output = keras.ops.log(keras.ops.maximum(output + whole, SMALLEST))
    elif is_single or record.activation == "sigmoid":  # sigmoids of labels that exclude each other share their sum
        output = keras.ops.log_sigmoid(output)
    return output if is_single else keras.ops.log_softmax(output)


def _check_alike(first: keras.Model, record: InputRecord, member: keras.Model, other: InputRecord) -> None:
    """Raises ValueError where a network takes or gives something else than the first one."""
    said = {
        "takes": (first.input_shape[1:], member.input_shape[1:]),
        "gives": (first.output_shape[1:], member.output_shape[1:]),
        "is for": (record.task, other.task),
        "has the classes": (record.class_names, other.class_names),
        "reads through": (record.activation, other.activation),
        "wants pixels in": (record.pixel_range, other.pixel_range),
        "cuts the share": (record.crop_fraction, other.crop_fraction),
        "resizes by": (record.interpolation, other.interpolation),
        "has the channels": (record.channel_order, other.channel_order),
        "turns photographs upright:": (record.apply_exif, other.apply_exif),
    }
    for what, (one, two) in said.items():
        if one != two:
            raise BadValue(
                f"One model {what} {one}, and another {two}. A mean is of models that take and give the same. Leave "
                "one of them out."
            )
