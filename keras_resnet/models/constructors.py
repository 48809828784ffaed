"""The public functions: the builder for one row of the table each."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import keras
import numpy as np

from keras_resnet.arguments import check_int, choose, suggestion
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.builder import build_resnet
from keras_resnet.models.pretrained import Pretrained
from keras_resnet.models.variants import VARIANTS
from keras_resnet.preprocessing import for_model
from keras_resnet.tasks.outputs import best_classes
from keras_resnet.weights.sources import imagenet_classes, imagenet_synsets


def preprocess_input(images: Any, model: keras.Model) -> Any:
    """Returns pixels as a network with weights takes them; the caller's array is never changed.

    Which constants they are follows from the weights, and not from the module that a function is imported from.

    Args:
        images: `(batch, *space, channels)` in the range of the record, [0, 255] for published weights, RGB.
        model: of `ResNet50(weights=...)` and the like. A network that holds an InputNormalization layer normalizes
            pixels itself, and gets them as they are.

    Raises:
        ValueError: the network does not say what it takes.

    Example:
        >>> import numpy as np
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(weights="cifar10")
        >>> tuple(keras_resnet.preprocess_input(np.zeros((1, 32, 32, 3), "uint8"), model).shape)
        (1, 32, 32, 3)
    """
    layer = for_model(model).normalization
    if layer is None:
        raise BadValue(
            f"model {model.name!r} does not say how its pixels are normalized. Networks with published weights do. Put "
            "keras_resnet.preprocessing.InputNormalization(scheme) before it."
        )
    return images if any(layer is inner for inner in model._flatten_layers()) else layer(images)


def decode_predictions(
    predictions: Any, model: keras.Model | None = None, top: int = 5
) -> list[list[tuple[str, str, float]]]:
    """Returns the most probable classes of each example, as `keras.applications` does.

    Args:
        predictions: probabilities `(batch, classes)`.
        model: whose classes these are, numbers where it does not name them; None for the 1000 classes of ImageNet.
        top: classes for each example, the most probable first.

    Returns:
        For each example tuples of identifier, name and probability. The identifier is that of WordNet for the classes
        of ImageNet, else the number of the class.

    Raises:
        ValueError: the predictions are not those of that many classes.

    Example:
        >>> import numpy as np
        >>> from keras_resnet import decode_predictions
        >>> decode_predictions(np.eye(1000)[:1], top=1)
        [[('n01440764', 'tench', 1.0)]]
    """
    check_int("top", top)
    scores = np.asarray(keras.ops.convert_to_numpy(predictions))
    names = () if model is None else for_model(model).class_names
    if not names:
        is_own_head = model is not None and scores.ndim == 2 and scores.shape[1] != len(imagenet_classes())
        names = tuple(map(str, range(scores.shape[1]))) if is_own_head else imagenet_classes()
    if scores.ndim != 2 or scores.shape[1] != len(names):
        raise BadValue(
            f"predictions have the shape {scores.shape}, and there are {len(names)} classes. Allowed is (batch, "
            f"{len(names)}). Pass what the network gives{'' if model is not None else ', or the network as model'}."
        )
    is_imagenet = names == imagenet_classes()
    keys = [key for key, _ in imagenet_synsets()] if is_imagenet else [str(index) for index in range(len(names))]
    best = [best_classes(row, names, top) for row in scores]
    return [[(keys[row["index"]], row["name"], row["probability"]) for row in rows] for rows in best]


Arguments = ParamSpec("Arguments")


def _constructor(
    build: Callable[Concatenate[str, Arguments], keras.Model], variant: str
) -> Callable[Arguments, keras.Model]:
    """Returns `build` for one row of the table, under its public name and with its defaults."""
    row = VARIANTS[variant]
    signature = inspect.signature(build)
    parameters = [
        parameter.replace(default=row.defaults.get(key, parameter.default))
        for key, parameter in signature.parameters.items()
        if key != "variant"
    ]
    names = [parameter.name for parameter in parameters]

    @functools.wraps(build)
    def construct(*args: Arguments.args, **kwargs: Arguments.kwargs) -> keras.Model:
        for key in kwargs:
            if key not in names:
                raise BadType(
                    f"{row.constructor}() got an unexpected keyword {key!r}. {suggestion(key, names)}"
                    f"Use one of: {', '.join(names)}."
                )
        if kwargs.get("weights") is None and len(args) <= names.index("weights"):
            return build(variant, *args, **{**row.defaults, **kwargs})
        arguments = dict(signature.bind(variant, *args, **kwargs).arguments)
        del arguments["variant"]
        weights = arguments.pop("weights")
        if weights is None:
            return build(variant, **{**row.defaults, **arguments})  # type: ignore[call-arg]
        return Pretrained.of(variant, weights).build(build, variant, arguments)

    construct.__name__ = construct.__qualname__ = row.constructor
    construct.__module__ = "keras_resnet"
    first_line, rest = str(build.__doc__).split("\n", 1)
    spoken = re.sub(r"(?=\d)", "-", row.constructor, count=1)
    construct.__doc__ = (
        f"{first_line.replace('a residual network', spoken)}\n"
        f"{rest.replace('Source:', f'Source:{chr(10)}        The variant: {row.source}.{chr(10)}       ', 1)}"
    )
    construct.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    del construct.__wrapped__
    return construct


CONSTRUCTORS = {variant: _constructor(build_resnet, variant) for variant in VARIANTS}
# `ResNet50` and its siblings.
globals().update({function.__name__: function for function in CONSTRUCTORS.values()})


def build(variant: str, **arguments: Any) -> keras.Model:
    """Builds the variant of that name.

    Args:
        variant: a name from `list_models()`.
        **arguments: those of `ResNet50` and its siblings.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError, ValueError: an unknown name, or an argument that the constructor refuses.

    Example:
        >>> from keras_resnet import models
        >>> models.build("resnet18", input_shape=(32, 32, 3), stem="small", width=8, classes=10).name
        'resnet18'
    """
    return choose("variant", variant, CONSTRUCTORS)(**arguments)
