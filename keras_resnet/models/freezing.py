"""Which stages of a network train, by the names of the stages: for fine-tuning."""

import keras

from keras_resnet.arguments import choose
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.stages import stage_outputs


def freeze(model: keras.Model, until: str = "stage5") -> None:
    """Freezes a network from its input up to a stage, that stage included.

    The weights there no longer train, and the norms there use their moving averages and keep them, as in inference,
    whatever `training` says; those inside blocks too, which a loop over `model.layers` does not reach. Compile the
    model afterwards: Keras decides at `compile` what trains.

    Args:
        model: a model of this package, or one that holds its layers.
        until: the last stage that is frozen, "stage1" (the stem) to "stage5" (all but the head).

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: the model has no such stage.

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), stem="small", width=8, classes=10)
        >>> keras_resnet.freeze(model, until="stage5")
        >>> [weight.path for weight in model.trainable_weights]
        ['predictions/kernel', 'predictions/bias']
    """
    stages = _stages(model)
    choose("until", until, stages)
    last = [layer.name for layer in model.layers].index(stages[until])
    for layer in model.layers[: last + 1]:
        layer.trainable = False


def unfreeze(model: keras.Model, start: str = "stage1") -> None:
    """Lets a stage and everything behind it train again; what stands before it stays as it is.

    Args:
        model: as for `freeze`. Compile it afterwards, with a lower learning rate as a rule.
        start: the first stage that trains, "stage1" (everything) to "stage5".

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: the model has no such stage.

    Example:
        >>> import keras_resnet
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), stem="small", width=8, classes=10)
        >>> keras_resnet.freeze(model)
        >>> keras_resnet.unfreeze(model, start="stage5")
        >>> sorted({weight.path.split("/")[0] for weight in model.trainable_weights})
        ['predictions', 'stage5_block1', 'stage5_block2']
    """
    stages = _stages(model)
    choose("start", start, stages)
    first = [_stage_of(layer.name) for layer in model.layers].index(start)
    before = [layer.trainable for layer in model.layers[:first]]
    # The model too: one that was frozen whole hides what trains inside it.
    model.trainable = True
    for layer, trainable in zip(model.layers, [*before, *[True] * (len(model.layers) - first)], strict=True):
        layer.trainable = trainable


def _stages(model: keras.Model) -> dict[str, str]:
    if not isinstance(model, keras.Model):
        raise BadType(f"model must be a Keras model, got {type(model).__name__}. Pass for example ResNet50().")
    stages = stage_outputs(model)
    if not stages:
        inside = [layer.name for layer in model.layers if isinstance(layer, keras.Model) and stage_outputs(layer)]
        inner = f"; in this model that is model.get_layer({inside[0]!r})" if inside else ""
        raise BadValue(
            f"model {model.name!r} holds no layer of keras_resnet. Its stages are found by their names. Pass the "
            f"network itself{inner}."
        )
    return stages


def _stage_of(layer_name: str) -> str:
    return "stage1" if layer_name == "stem" else layer_name.partition("_block")[0]
