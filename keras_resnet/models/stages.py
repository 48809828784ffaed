"""Feature maps of a residual network by the names of its stages."""

import re
from collections.abc import Sequence

import keras

from keras_resnet.arguments import suggestion
from keras_resnet.errors import BadType, BadValue

BLOCK_NAME = re.compile(r"(stage\d+)_block(\d+)")


def stage_outputs(model: keras.Model) -> dict[str, str]:
    """Returns the name of the last layer of every stage.

    Args:
        model: a model of this package, or one that holds its layers.

    Returns:
        {"stage1": "stem", "stage2": "stage2_block3", ...}, in the order of the network.
    """
    last: dict[str, str] = {}
    for layer in model.layers:
        if layer.name == "stem":
            last["stage1"] = "stem"
        elif match := BLOCK_NAME.fullmatch(layer.name):
            last[match[1]] = layer.name
    return last


def features(model: keras.Model, stages: Sequence[str] = ("stage2", "stage3", "stage4", "stage5")) -> keras.Model:
    """Returns a model that shares the weights of `model` and returns feature maps, as detection heads want them.

    Args:
        model: a model of this package, or one that holds its layers.
        stages: names in the order of the network, "stage1" (the stem) to "stage5". With the stems "conv7" and "deep"
            stages 2 to 5 stand at strides 4, 8, 16 and 32, with "small" at 1, 2, 4 and 8.

    Output shape:
        A list with `(batch, height / stride, width / stride, channels)` for each name; for a single name, as Keras
        does it, that tensor alone.

    Returns:
        A functional `keras.Model`; training it trains the layers of `model`.

    Raises:
        TypeError: `model` is no Keras model, or `stages` is not a sequence of names.
        ValueError: a stage is unknown, named twice or out of order.

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(include_top=False, input_shape=(64, 64, 3), width=8)
        >>> [output.shape[1:3] for output in keras_resnet.features(model, ("stage3", "stage5")).outputs]
        [(8, 8), (2, 2)]
    """
    if not isinstance(model, keras.Model):
        raise BadType(f"model must be a Keras model, got {type(model).__name__}. Pass for example ResNet50().")
    if isinstance(stages, str) or not isinstance(stages, Sequence) or not stages:
        raise BadType(
            f"stages must be a sequence of names, got {stages!r}. Allowed are 'stage1' to 'stage5'. "
            "Pass for example ('stage3', 'stage4', 'stage5')."
        )
    known = stage_outputs(model)
    for stage in stages:
        if stage not in known:
            names = ", ".join(map(repr, known)) or "none: the model holds no layer of keras_resnet"
            raise BadValue(
                f"stages holds {stage!r}, which model {model.name!r} does not have. {suggestion(stage, known)}"
                f"Use names from: {names}."
            )
    order = [list(known).index(stage) for stage in stages]
    if order != sorted(set(order)):
        raise BadValue(
            f"stages={tuple(stages)} is out of order or names a stage twice. Each stage may stand once, in the order "
            f"of the network. Pass {tuple(list(known)[index] for index in sorted(set(order)))}."
        )
    outputs = [model.get_layer(known[stage]).output for stage in stages]
    return keras.Model(
        model.inputs[0] if len(model.inputs) == 1 else model.inputs, outputs, name=f"{model.name}_features"
    )
