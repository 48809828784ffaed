"""A smaller network: whole channels removed, with everything that shortcuts and norms tie to them."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_float, check_int, choose
from keras_resnet.blocks import Stem
from keras_resnet.blocks.residual import VERSIONS, ResidualBlock
from keras_resnet.errors import BadType, BadValue
from keras_resnet.models.info import model_info
from keras_resnet.weights.adaptation import HEAD, architecture_of

NORM, TAYLOR = "norm", "taylor"
CRITERIA = {NORM: "the size of the filters that make a channel", TAYLOR: "the change of the loss of data without it"}


@dataclasses.dataclass(eq=False)
class Group:
    """Channels that can only be removed together from every layer that has them.

    Attributes:
        size: how many there are.
        producers: what computes them: a convolution, the norm behind it or None, and the first channel's place in it.
        is_whole: whether all of them stay.
        keep: places of those that stay, rising.
    """

    size: int
    producers: list[tuple[Any, Any, int]] = dataclasses.field(default_factory=list)
    is_whole: bool = False

    def __post_init__(self) -> None:
        """Keeps all."""
        self.keep = np.arange(self.size)


Stream = tuple[Group, ...]


def _width(stream: Stream) -> int:
    return sum(len(group.keep) for group in stream)


def _places(stream: Stream) -> np.ndarray:
    starts = np.cumsum([0, *(group.size for group in stream)])
    return np.concatenate([start + group.keep for start, group in zip(starts, stream, strict=False)])


class Channels:
    """The groups of a network's channels, and which axes of its weights they stand on."""

    def __init__(self, model: keras.Model) -> None:
        self.groups: list[Group] = []
        self.axes: dict[str, dict[int, Stream]] = {}  # path of a variable -> axis -> its channels
        # Path, channels in and channels out, of layers that multiply; None for an axis that stays.
        self.products: list[tuple[str, Stream | None, Stream | None]] = []
        self.widths: dict[str, list[Stream]] = {}  # layer -> channels of each of its convolutions
        self.projections: list[tuple[Stream, Stream]] = []  # of steps of 1, which equal widths would leave out
        (stem,) = (layer for layer in model.layers if isinstance(layer, Stem))
        stream = self._stem(stem)
        blocks = [layer for layer in model.layers if isinstance(layer, ResidualBlock)]
        for block in blocks:
            stream = self._block(block, stream)
        self._head(model, blocks[-1], stream)

    def _new(self, size: int, is_whole: bool = False) -> Group:
        self.groups.append(Group(size, is_whole=is_whole))
        return self.groups[-1]

    def _convolution(self, path: str, conv: Any, inside: Stream | None, outside: Stream, norm: Any = None) -> None:
        self.products.append((path, inside, outside))
        kernel = {-1: outside} if inside is None else {-2: inside, -1: outside}
        self.axes[conv.kernel.path] = kernel
        if conv.use_bias:
            self.axes[conv.bias.path] = {0: outside}
        first = 0
        for group in outside:
            group.producers.append((conv, norm, first))
            first += group.size

    def _norm(self, norm: Any, stream: Stream) -> None:
        for variable in () if norm is None else norm.weights:
            self.axes[variable.path] = {0: stream}

    def _stem(self, stem: Stem) -> Stream:
        stream: Stream | None = None
        count = len(stem.convolutions)
        for index, conv in enumerate(stem.convolutions):
            # The widths of a deep stem follow from its last one.
            inside, stream = stream, (self._new(conv.filters, is_whole=count > 1),)
            norm = stem.norms[index] if index < len(stem.norms) else None
            self._convolution(f"{stem.name}/{conv.name}", conv, inside, stream, norm)
            self._norm(norm, stream)
        assert stream is not None
        self.widths[stem.name] = [stream]
        return stream

    def _block(self, block: ResidualBlock, before: Stream) -> Stream:
        is_preactivated, last = VERSIONS[block.version].preactivation, len(block.convolutions) - 1
        after, shortcut = before, block.shortcut
        if shortcut is not None and shortcut.conv is not None:
            after = (self._new(block.output_filters),)
            self._convolution(f"{block.name}/shortcut/conv", shortcut.conv, before, after, shortcut.norm)
            self._norm(shortcut.norm, after)
            if block.strides == 1:
                self.projections.append((before, after))
        elif shortcut is not None and (added := block.output_filters - sum(group.size for group in before)):
            after = (*before, self._new(added))  # zeros for the new channels
        if block.attention is not None:  # its own widths follow from theirs
            for group in after:
                group.is_whole = True
        inside, widths = before, []
        for index, (conv, norm) in enumerate(zip(block.convolutions, block.norms, strict=True)):
            outside = after if index == last else (self._new(conv.filters, is_whole=block.groups > 1),)
            behind = (block.norms[index + 1] if index < last else None) if is_preactivated else norm
            self._convolution(f"{block.name}/{conv.name}", conv, inside if conv.groups == 1 else None, outside, behind)
            self._norm(norm, inside if is_preactivated else outside)
            inside = outside
            widths.append(outside)
        self.widths[block.name] = widths
        return after

    def _head(self, model: keras.Model, block: ResidualBlock, stream: Stream) -> None:
        names = [layer.name for layer in model.layers]
        after = model.layers[names.index(block.name) + 1 :]
        known = ("head_norm", "head_activation", "head_pool", "head_dropout", HEAD)
        later = [layer.name for layer in after]
        read_by = later[: later.index(HEAD) + 1] if HEAD in later else []
        if not read_by or not set(read_by) <= set(known):  # whoever reads the features expects all of them
            for group in stream:
                group.is_whole = True
            return
        for layer in after:
            if layer.name == "head_norm":
                self._norm(layer, stream)
            if layer.name == HEAD:
                self.axes[layer.kernel.path] = {0: stream}
                self.products.append((HEAD, stream, None))

    def multiply_adds(self, costs: Mapping[str, int]) -> float:
        """Returns those of the network with the channels that stay, given those of its layers as they are."""
        total = float(sum(costs.values()))
        for path, *streams in self.products:
            shares = [_width(stream) / sum(group.size for group in stream) for stream in streams if stream is not None]
            total += costs[path] * (math.prod(shares) - 1)
        return total

    def saved(self, costs: Mapping[str, int]) -> list[float]:
        """Returns the multiply-adds that go with a channel of each group."""
        whole, saved = self.multiply_adds(costs), []
        for group in self.groups:
            kept, group.keep = group.keep, group.keep[:-1]
            saved.append(whole - self.multiply_adds(costs))
            group.keep = kept
        return saved


def prune(
    model: keras.Model,
    macs: float = 0.5,
    *,
    by: str = NORM,
    batches: Iterable[Any] = (),
    loss: Callable[[Any, Any], Any] | None = None,
    multiple: int = 4,
) -> keras.Model:
    """Returns a network without the channels that matter least: physically smaller, with the weights that are left.

    Channels that a shortcut adds to one another go together, from every convolution and norm that has them; all groups
    are compared with each other, wherever they stand. Inside blocks each convolution has its own. What stays whole: the
    channels of groups (ResNeXt), those that a block's attention weighs, those of a deep stem, and the feature map of a
    network without our head. The network is worse until it is trained again.

    Args:
        model: a flat functional network of this package, not fused. It stays as it is.
        macs: share of the multiply-adds that may stay, in (0, 1].
        by: "norm" compares the norms of the filters that make a channel, with the scale and shift of the batch norm
            behind them, each relative to the mean of its layer; "taylor" the change of the loss without the channel, to
            first order, for each multiply-add that goes with it, for which `batches` and `loss` are needed.
        batches: `(images, labels)` to measure "taylor" on.
        loss: of labels and outputs, such as a Keras loss.
        multiple: channels are removed in such a way that numbers of this multiple stay, which processors like.

    Returns:
        A functional `keras.Model`, not compiled. The numbers of its channels are in the configuration of its layers, so
        that it is saved, loaded, trained, fused and exported as any other.

    Raises:
        TypeError, ValueError: the model is not such a network, or cannot become so small.

    Source:
        Fang et al. 2023, "DepGraph: Towards Any Structural Pruning" (groups); Molchanov et al. 2019, "Importance
        Estimation for Neural Network Pruning", equation 8 ("taylor").

    Example:
        >>> import keras_resnet
        >>> from keras_resnet.models import prune
        >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), stem="small", width=16, classes=10)
        >>> smaller = prune(model, 0.5)
        >>> smaller.count_params() < 0.6 * model.count_params()
        True
    """
    _check(model)
    share = check_float("macs", macs, minimum=0.0, maximum=1.0, minimum_included=False)
    choose("by", by, CRITERIA)
    check_int("multiple", multiple)
    channels = Channels(model)
    costs = {cost.name: cost.multiply_adds for cost in model_info(model).layers}
    if by == TAYLOR:
        if loss is None:
            raise BadValue("by='taylor' was given without a loss. It needs batches and a loss. Pass both.")
        changes, saved = _taylor(model, channels.groups, batches, loss), channels.saved(costs)
        scores = [change / max(each, 1e-9) for change, each in zip(changes, saved, strict=True)]
    else:
        scores = [_norms(group) for group in channels.groups]
    _choose(channels, scores, costs, share, multiple)
    return _rebuilt(model, channels)


def _check(model: keras.Model) -> None:
    if not isinstance(model, keras.Model):
        raise BadType(f"model must be a Keras model, got {type(model).__name__}. Pass for example ResNet50().")
    architecture_of(model, with_norms=True)  # which refuses other models


def _norms(group: Group) -> np.ndarray:
    """Returns the norms of the filters that make each channel, the mean square over all that make it."""
    squares = np.zeros(group.size)
    for conv, norm, first in group.producers:
        kernel = np.asarray(keras.ops.convert_to_numpy(conv.kernel), "float64")
        sizes = np.square(kernel.reshape(-1, kernel.shape[-1])).sum(axis=0)
        if norm is not None:
            scale, shift, _, variance = (np.asarray(keras.ops.convert_to_numpy(value)) for value in norm.weights)
            sizes = sizes * scale**2 / (variance + norm.epsilon) + shift**2
        squares += (sizes / max(sizes.mean(), 1e-30))[first : first + group.size] / len(group.producers)
    return np.sqrt(squares)


def _taylor(
    model: keras.Model, groups: Sequence[Group], batches: Iterable[Any], loss: Callable[[Any, Any], Any]
) -> list[np.ndarray]:
    """Returns the mean absolute change of the loss of a batch without each channel, to first order."""
    if keras.config.backend() != "tensorflow":
        raise BadValue(f"by='taylor' needs TensorFlow, and Keras runs on {keras.config.backend()!r}. Use by='norm'.")
    import tensorflow as tf

    # Behind a norm its scale and shift switch a channel off, elsewhere the filter does.
    switches = [
        [(conv.trainable_weights if norm is None else norm.weights[:2], first) for conv, norm, first in group.producers]
        for group in groups
    ]
    variables = list({id(v): v for group in switches for parts, _ in group for v in parts}.values())
    scores, count = [np.zeros(group.size) for group in groups], 0
    for images, labels, *_ in batches:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            value = tf.reduce_mean(loss(labels, model(images, training=False)))
        gradients = tape.gradient(value, [variable.value for variable in variables])
        changes = {
            id(variable): np.asarray(variable * gradient).reshape(-1, variable.shape[-1]).sum(axis=0)
            for variable, gradient in zip(variables, gradients, strict=True)
        }
        for score, group, parts in zip(scores, groups, switches, strict=True):
            score += np.abs(sum(changes[id(v)][first : first + group.size] for vs, first in parts for v in vs))
        count += 1
    if not count:
        raise BadValue("by='taylor' was given without batches. It needs some. Pass (images, labels).")
    if not all(np.isfinite(score).all() for score in scores):
        raise BadValue("by='taylor' found no finite loss. The labels and the outputs must fit. Check both.")
    return [score / count for score in scores]


def _choose(
    channels: Channels, scores: Sequence[np.ndarray], costs: Mapping[str, int], share: float, multiple: int
) -> None:
    """Sets what each group keeps: the fewest channels under one threshold of the scores for all of them."""
    whole = channels.multiply_adds(costs)

    def keep_above(threshold: float) -> float:
        for group, score in zip(channels.groups, scores, strict=True):
            step = min(multiple, group.size)
            count = max(step, math.ceil(int((score >= threshold).sum()) / step) * step)
            if not group.is_whole and count < group.size:
                group.keep = np.sort(np.argsort(-score, kind="stable")[:count])
            else:
                group.keep = np.arange(group.size)
        for before, after in channels.projections:
            if _width(before) == _width(after):  # the block would take its input for the shortcut
                (group,) = after
                score = scores[channels.groups.index(group)]
                group.keep = np.sort(np.argsort(-score, kind="stable")[: len(group.keep) + min(multiple, group.size)])
        return channels.multiply_adds(costs) / whole

    if share == 1.0:
        return
    thresholds = np.unique(np.concatenate(scores))
    low, high = 0, len(thresholds) - 1  # the first threshold keeps all
    least = keep_above(math.inf)
    if least > share:
        raise BadValue(
            f"macs={share:g} was given, and {least:.3f} of the multiply-adds stay with {multiple} channels in each "
            "layer that can be pruned. Allowed are shares above that. Pass a larger one, or a smaller multiple."
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keep_above(thresholds[middle]) <= share else (middle + 1, high)
    if keep_above(thresholds[low]) > share:
        keep_above(math.inf)


def _rebuilt(model: keras.Model, channels: Channels) -> keras.Model:
    """Returns the network of the channels that stay, with their weights."""
    widths = {name: [_width(stream) for stream in streams] for name, streams in channels.widths.items()}

    def smaller(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, Stem):
            config["filters"] = widths[layer.name][0]
        elif isinstance(layer, ResidualBlock):
            config["widths"] = widths[layer.name]
        return type(layer).from_config(config)

    small = keras.models.clone_model(keras.Model(model.input, model.output, name=model.name), clone_function=smaller)
    small.dtype_policy = model.dtype_policy
    for old, new in zip(model.variables, small.variables, strict=True):
        value = keras.ops.convert_to_numpy(old)
        for axis, stream in channels.axes.get(old.path, {}).items():
            value = np.take(value, _places(stream), axis=axis)
        new.assign(value)
    return small
