"""The methods, each from images and classes to maps of the input's size."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_int, choose
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.stages import stage_outputs
from keras_resnet.preprocessing import for_model
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.outputs import LOG_SCORES, last_activation, softmax


def class_gradients(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a model's outputs in inference, and the gradient of each example's output by its input."""
    return GRADIENTS[keras.config.backend()](model, inputs.astype("float32"), classes)


@functools.lru_cache(maxsize=2)
def _compile(model: keras.Model) -> Any:
    """Returns the gradient as a graph, for the models used last.

    TensorFlow 2.21 with oneDNN corrupts its memory in eager gradients of convolutions of 1 or 3 examples, with this
    package's forms or its own; as a graph it does not.
    """
    import tensorflow as tf

    @tf.function
    def compute(watched: Any, places: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = model(watched, training=False)
            chosen = tf.reduce_sum(tf.gather(outputs, places, batch_dims=1))
        return outputs, tape.gradient(chosen, watched)

    return compute


def _tensorflow(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    outputs, found = _compile(model)(tf.convert_to_tensor(inputs), tf.convert_to_tensor(classes))
    return outputs.numpy(), found.numpy()


def _torch(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import torch

    watched = keras.ops.convert_to_tensor(inputs).detach().requires_grad_(True)
    outputs = model(watched, training=False)
    places = torch.as_tensor(classes, device=outputs.device).long()[:, None]
    (found,) = torch.autograd.grad(outputs.gather(1, places).sum(), watched)
    return outputs.detach().cpu().numpy(), found.cpu().numpy()


def _jax(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import jax

    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]

    def chosen(values: Any) -> tuple[Any, Any]:
        outputs, _ = model.stateless_call(trainable, others, values, training=False)
        return outputs[np.arange(len(classes)), classes].sum(), outputs

    (_, outputs), found = jax.value_and_grad(chosen, has_aux=True)(inputs)
    return np.asarray(outputs), np.asarray(found)


GRADIENTS = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}


# Of the networks cut last, so that their gradients stay compiled from one call to the next. Layers are shared, so that
# a cut network follows the weights of its model.
@functools.lru_cache(maxsize=2)
def map_layers(model: keras.Model) -> dict[str, str]:
    """Returns the layers whose feature maps can be explained: the stages', or of other networks the last."""
    stages = stage_outputs(model)
    if stages:
        return stages
    rank, learned, last = len(model.input_shape), False, None
    for layer in model.layers:
        learned = learned or bool(layer.weights) and not hasattr(layer, "adapt")
        shape = getattr(_output_of(model, layer), "shape", ())
        if learned and len(shape) == rank:
            last = layer.name
    if last is None or last == model.layers[-1].name:
        nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
        hint = f"Pass the network inside it, model.get_layer({nested[0]!r})." if nested else "Pass a network with one."
        raise BadValue(
            f"model {model.name!r} has no feature map between its input and its outputs. Methods look at the last "
            f"feature map before the head. {hint}"
        )
    return {"last": last}


def _output_of(model: keras.Model, layer: keras.layers.Layer) -> Any:
    """Returns the output of a layer inside a model; a nested model has its own output beside it."""
    if not isinstance(layer, keras.Model):
        return layer.output
    index = model.layers.index(layer)
    return model.layers[index + 1].input if index + 1 < len(model.layers) else model.output


def cut(model: keras.Model, stage: str) -> tuple[keras.Model, keras.Model]:
    """Returns the network up to a stage, and from there to the output; both share its weights."""
    name = map_layers(model)[stage]
    middle = _output_of(model, model.get_layer(name))
    index = [layer.name for layer in model.layers].index(name)
    x = entry = keras.Input(middle.shape[1:], dtype=middle.dtype)
    before = middle
    for layer in model.layers[index + 1 :]:
        if layer.input is not before:
            raise BadValue(
                f"The layer {layer.name!r} of model {model.name!r} does not follow the one before it. Maps are drawn "
                "for networks that are a chain behind their stages, as those of this package are. Pass such a network."
            )
        x, before = layer(x), layer.output
    return keras.Model(model.inputs[0], middle), keras.Model(entry, x)


INTEGRATION_STEPS = 32
OCCLUSION_SHARE = 8  # of the longest side is a window
BATCH = 64
FEWEST_CELLS = 4  # of a feature map along an axis; below, a map says no more than "here"


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a method found.

    Attributes:
        maps: `(batch, *space)` of the input, in [0, 1], at most 1; all 0 where nothing speaks for the
            class.
        classes: `(batch,)`, what was explained.
        outputs: of the model.
        method: its name.
    """

    maps: np.ndarray
    classes: np.ndarray
    outputs: np.ndarray
    method: str


def explain(
    model: keras.Model,
    images: Any,
    *,
    method: str = "grad-cam",
    classes: Any = None,
    stage: str = "auto",
) -> Explanation:
    """Returns heat maps: the places of each example that speak for a class.

    Args:
        model: a network of this package, of any rank, channels last; or another functional or sequential classifier,
            whose last feature map is taken. Its statistics stay as they are.
        images: `(batch, *space, channels)` as the network takes them.
        method: "grad-cam", "grad-cam++", "score-cam", "integrated-gradients" or "occlusion".
        classes: an index for each example, or one for all; None for the most probable. A model whose record names two
            classes, and which has one output, has both.
        stage: whose feature map the first three methods look at: "stage5" is the safest choice, earlier ones are finer.
            "auto" is the last one whose map has at least 4 cells along every axis: "stage5" for images of usual size.

    Raises:
        TypeError, ValueError: an argument is not what is allowed.

    Source:
        Selvaraju et al. 2017 (Grad-CAM); Chattopadhay et al. 2018 (Grad-CAM++); Wang et al. 2020 (Score-CAM);
        Sundararajan et al. 2017 (integrated gradients); Zeiler and Fergus 2014 (occlusion).
    """
    choose("method", method, METHODS)
    if not isinstance(model, keras.Model):
        raise BadType(f"model must be a Keras model, got {type(model).__name__}. Pass a network of this package.")
    stage = _with_cells(model) if stage == "auto" else stage
    choose("stage", stage, map_layers(model))
    images = np.asarray(images, dtype="float32")
    if images.ndim != len(model.input_shape) or images.shape[-1] != model.input_shape[-1] or not len(images):
        raise BadValue(
            f"images has the shape {images.shape}, and the model takes {model.input_shape}. Allowed is a batch of at "
            "least one example of that shape. Pass images[None] for a single one."
        )
    record = for_model(model)  # which is checked against the outputs
    logits = _without_activation(model)
    if record.task is not None and TASKS[record.task].is_exclusive and logits.output_shape[-1] == 1:
        logits = _with_two_logits(logits)
    outputs, scores = _in_batches(model, images), _in_batches(logits, images)
    targets = scores.argmax(axis=1) if classes is None else np.broadcast_to(np.asarray(classes), (len(images),))
    for index in targets:
        check_int("classes", index, minimum=0, maximum=scores.shape[1] - 1)
    maps = METHODS[method](logits, images, targets.astype(int), stage)
    return Explanation(_normalize(maps), targets.astype(int), outputs, method)


def _with_cells(model: keras.Model) -> str:
    """Returns the last stage whose map has enough cells to show a place; the first where none has."""
    stages = map_layers(model)
    sizes = {stage: model.get_layer(name).output.shape[1:-1] for stage, name in stages.items()}
    fine = [stage for stage, cells in sizes.items() if min(size or FEWEST_CELLS for size in cells) >= FEWEST_CELLS]
    return [*list(stages)[:1], *fine][-1]


def _without_activation(model: keras.Model) -> keras.Model:
    """Returns a network that ends in logits: a softmax hides how much speaks for a class once it is sure."""
    last = model.layers[-1]
    if last_activation(model) not in LOG_SCORES or not isinstance(last, keras.layers.Dense):
        return model
    plain = keras.layers.Dense.from_config({**last.get_config(), "activation": None, "name": "logits"})
    logits = plain(last.input)
    plain.set_weights(last.get_weights())
    return keras.Model(model.inputs[0], logits)


def _with_two_logits(logits: keras.Model) -> keras.Model:
    """Returns a network of two logits of the same probabilities, for a model of two classes and one output.

    They are minus and plus half of the one: what speaks for the first class speaks against the second.
    """
    halves = keras.layers.Dense(2, use_bias=False, dtype="float32", name="two_logits")
    outputs = halves(logits.output)
    halves.set_weights([np.array([[-0.5, 0.5]], "float32")])
    return keras.Model(logits.inputs[0], outputs)


def _in_batches(model: keras.Model, images: np.ndarray) -> np.ndarray:
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    return np.concatenate([keras.ops.convert_to_numpy(model(part, training=False)) for part in parts]).astype("float32")


def _space(array: np.ndarray) -> tuple[int, ...]:
    return tuple(range(1, array.ndim - 1))


def _grad_cam(model: keras.Model, images: np.ndarray, classes: np.ndarray, stage: str) -> np.ndarray:
    before, behind = cut(model, stage)
    features = _in_batches(before, images)
    _, gradients = class_gradients(behind, features, classes)
    weights = gradients.mean(axis=_space(gradients), keepdims=True)
    return resize_maps(np.maximum((features * weights).sum(axis=-1), 0), images.shape[1:-1])


def _grad_cam_plus(model: keras.Model, images: np.ndarray, classes: np.ndarray, stage: str) -> np.ndarray:
    before, behind = cut(model, stage)
    features = _in_batches(before, images)
    _, gradients = class_gradients(behind, features, classes)
    # Equation 19: the score is taken through an exponential, whose higher derivatives are powers of the first.
    sums = features.sum(axis=_space(features), keepdims=True)
    below = 2 * gradients**2 + sums * gradients**3
    alpha = gradients**2 / np.where(below != 0, below, 1)
    weights = (alpha * np.maximum(gradients, 0)).sum(axis=_space(gradients), keepdims=True)
    return resize_maps(np.maximum((features * weights).sum(axis=-1), 0), images.shape[1:-1])


def _score_cam(model: keras.Model, images: np.ndarray, classes: np.ndarray, stage: str) -> np.ndarray:
    before, _ = cut(model, stage)
    features = _in_batches(before, images)
    baseline = softmax(_in_batches(model, np.zeros_like(images)))
    maps = []
    for image, feature, index, nothing in zip(images, features, classes, baseline, strict=True):
        channels = resize_maps(np.moveaxis(feature, -1, 0), image.shape[:-1])
        masked = image[None] * _stretch(channels)[..., None]
        scores = softmax(_in_batches(model, masked))[:, index] - nothing[index]
        maps.append(np.maximum(np.tensordot(softmax(scores[None])[0], channels, 1), 0))
    return np.stack(maps)


def _stretch(maps: np.ndarray) -> np.ndarray:
    """Returns maps with their values spread over [0, 1], as equation 6 of Wang et al. 2020; constant ones become 0."""
    axes = tuple(range(1, maps.ndim))
    low, high = (end(axis=axes, keepdims=True) for end in (maps.min, maps.max))
    return (maps - low) / np.where(high > low, high - low, 1)


def _integrated(model: keras.Model, images: np.ndarray, classes: np.ndarray, stage: str) -> np.ndarray:
    total = np.zeros_like(images)
    for step in range(INTEGRATION_STEPS):
        _, gradients = class_gradients(model, images * ((step + 0.5) / INTEGRATION_STEPS), classes)
        total += gradients / INTEGRATION_STEPS
    # What speaks against the class is left out, as in the other maps.
    return np.maximum((images * total).sum(axis=-1), 0)


def _occlusion(model: keras.Model, images: np.ndarray, classes: np.ndarray, stage: str) -> np.ndarray:
    space = images.shape[1:-1]
    side = max(1, round(max(space) / OCCLUSION_SHARE))
    stride = max(1, side // 2)
    starts = [range(0, max(size - side, 0) + 1, stride) for size in space]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, len(space))
    windows = [tuple(slice(start, start + side) for start in corner) for corner in corners]
    maps = []
    for image, index in zip(images, classes, strict=True):
        hidden = np.repeat(image[None], len(windows), axis=0)
        for row, window in zip(hidden, windows, strict=True):
            row[window] = image.mean(axis=tuple(range(len(space))))
        lost = _in_batches(model, image[None])[0, index] - _in_batches(model, hidden)[:, index]
        drops, counts = np.zeros(space, "float32"), np.zeros(space, "float32")
        for drop, window in zip(lost, windows, strict=True):
            drops[window] += drop
            counts[window] += 1
        maps.append(np.maximum(drops / np.maximum(counts, 1), 0))
    return np.stack(maps)


METHODS: dict[str, Callable[[keras.Model, np.ndarray, np.ndarray, str], np.ndarray]] = {
    "grad-cam": _grad_cam,
    "grad-cam++": _grad_cam_plus,
    "score-cam": _score_cam,
    "integrated-gradients": _integrated,
    "occlusion": _occlusion,
}


def resize_maps(maps: np.ndarray, space: tuple[int, ...]) -> np.ndarray:
    """Returns `(batch, *space)` maps, linearly between the centers of their cells, one axis after the other."""
    for axis, size in enumerate(space, start=1):
        cells = maps.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, cells - 1)
        share = (places - low).reshape(-1, *(1,) * (maps.ndim - axis - 1)).astype("float32")
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps


def _normalize(maps: np.ndarray) -> np.ndarray:
    maps = np.maximum(maps, 0)
    most = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    return (maps / np.where(most > 0, most, 1)).astype("float32")
