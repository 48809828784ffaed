"""The optimizer of a run: its section of a recipe, its choices, the average of the weights, and sharpness."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_resnet.arguments import check_fraction
from keras_resnet.distribution.step import Gradients, GradientStep, StepPart, has_plain_step
from keras_resnet.errors import BadValue, MissingPackage
from keras_resnet.training import fields
from keras_resnet.weights.adaptation import HEAD


def layer_factors(paths: Sequence[str], layer_decay: float, body_factor: float) -> list[float]:
    """Returns by how much the rate of each variable is multiplied.

    The classifier has the factor 1, the last block `layer_decay`, the one before it its square, and so on down to the
    stem; all but the classifier have `body_factor` too.

    Source:
        Clark et al. 2020, "ELECTRA", section 3.1; blocks are counted as in timm's `param_groups_layer_decay`.

    Example:
        >>> from keras_resnet.training.optimizer import layer_factors
        >>> layer_factors(["stem/conv1/kernel", "stage2_block1/conv1/kernel", "predictions/kernel"], 0.5, 1.0)
        [0.25, 0.5, 1.0]
    """
    layers = [path.partition("/")[0] for path in paths]
    body = list(dict.fromkeys(layer for layer in layers if layer not in (HEAD, "head_norm")))
    # The last norm of pre-activated networks belongs to the last block.
    depths = {**{layer: len(body) - place for place, layer in enumerate(body)}, "head_norm": 1}
    return [1.0 if layer == HEAD else body_factor * layer_decay ** depths[layer] for layer in layers]


@functools.cache
def with_rate_factors(optimizer_class: type[Any]) -> type[Any]:
    """Returns a subclass whose rate, and with it the decay, is multiplied by a factor for each layer.

    The attributes `layer_decay` and `body_factor` are those of `layer_factors`; `head_steps` is the number of steps, as
    the optimizer counts them, in which the classifier alone learns. Norms follow the data meanwhile, and moments the
    gradients.
    """

    class WithRateFactors(optimizer_class):
        layer_decay: float = 1.0
        body_factor: float = 1.0
        head_steps: int = 0
        rate_factor: Any = None

        def build(self, variables: Any) -> None:
            """Makes the moments, and the factors of the rate."""
            super().build(variables)
            paths = [variable.path for variable in variables]
            self.factors = layer_factors(paths, self.layer_decay, self.body_factor)
            self.heads = [path.startswith(f"{HEAD}/") for path in paths]

        def _factor(self, variable: Any) -> Any:
            index = self._get_variable_index(variable)
            factor = self.factors[index]
            if not self.head_steps or self.heads[index]:
                return factor
            return factor * keras.ops.cast(self._iterations >= self.head_steps, "float32")

        def _get_current_learning_rate(self) -> Any:
            rate = super()._get_current_learning_rate()
            return rate if self.rate_factor is None else rate * self.rate_factor

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """Moves one weight and its moments."""
            super().update_step(gradient, variable, learning_rate * self._factor(variable))

        def _apply_weight_decay(self, variables: Any) -> None:
            for variable in variables:
                self.rate_factor = self._factor(variable)
                try:
                    super()._apply_weight_decay([variable])
                finally:
                    self.rate_factor = None

    WithRateFactors.__name__ = optimizer_class.__name__
    return WithRateFactors


# What is not a kernel: biases, and scale and offset of norms. Keras searches these in the name of a variable, which is
# "gamma" on one backend and for Muon, and a path such as "stem/norm/gamma:0" on TensorFlow for the others.
SPARED_NAMES = (r"(^|/)(bias|gamma|beta)(:\d+)?$",)
MOMENTUM = ("momentum", "nesterov")


@keras.saving.register_keras_serializable(package="keras_resnet")
class Lamb(keras.optimizers.Lamb):
    """LAMB as its authors and timm compute it: norms and biases take plain Adam steps.

    `keras.optimizers.Lamb` gives the trust ratio, the norm of a weight over that of its update, to every weight. Where
    it is meant for kernels, a norm's offset that begins at 0 then moves by hundredths of what it should. Here weights
    that are spared from decay are spared from the trust ratio, and decay is a part of the update that the ratio scales.

    Source:
        You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", algorithm 2; the
        authors' code leaves the weights without decay out of the layer adaptation.
    """

    def __init__(self, *args: Any, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(*args, epsilon=epsilon, **kwargs)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Does nothing: decay is a part of the update."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one weight and its moments."""
        ops, dtype = keras.ops, variable.dtype
        gradient, rate = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        first_unbiased = first / (1 - ops.power(ops.cast(self.beta_1, dtype), step))
        second_unbiased = second / (1 - ops.power(ops.cast(self.beta_2, dtype), step))
        update = first_unbiased / (ops.sqrt(second_unbiased) + self.epsilon)
        if self._use_weight_decay(variable):
            update = update + (self.weight_decay or 0.0) * variable
            norm, update_norm = (ops.sqrt(ops.sum(ops.square(value))) for value in (variable, update))
            is_defined = ops.logical_and(norm > 0, update_norm > 0)
            update = update * ops.where(is_defined, norm / ops.where(is_defined, update_norm, 1.0), 1.0)
        self.assign_sub(variable, rate * update)


def _plain(optimizer_class: Callable[..., Any], *own: str) -> fields.Choice:
    """Returns the row of an optimizer that takes the common arguments and its `own` fields."""

    def build(optimizer: "Optimizer", **common: Any) -> Any:
        return optimizer_class(**common, **{name: getattr(optimizer, name) for name in own})

    return fields.Choice(build, own)


def _decaying(optimizer_class: Callable[..., Any]) -> fields.Choice:
    """Returns the row of an optimizer that wants a number for its decay, also where it is zero."""

    def build(optimizer: "Optimizer", **common: Any) -> Any:
        return optimizer_class(**common | {"weight_decay": optimizer.weight_decay})

    return fields.Choice(build)


def _muon(optimizer: "Optimizer", **common: Any) -> Any:
    # Keras's Muon moves matrices by Muon and everything else, convolutions included, by AdamW, each with a decay of
    # its own. The classifier is to be moved by AdamW (Jordan et al. 2024).
    if "adam_weight_decay" not in inspect.signature(keras.optimizers.Muon).parameters:
        raise MissingPackage(
            f"optimizer.name='muon' was asked for with Keras {keras.__version__}, whose Muon cannot decay what AdamW "
            "moves. It needs Keras 3.13 or later. Run: pip install --upgrade keras"
        )
    decay = {"weight_decay": optimizer.weight_decay, "adam_weight_decay": optimizer.weight_decay}
    momentum = {name: getattr(optimizer, name) for name in MOMENTUM}
    return keras.optimizers.Muon(**common | decay, **momentum, exclude_layers=[HEAD])


OPTIMIZERS: dict[str, fields.Choice] = {
    "sgd": _plain(keras.optimizers.SGD, *MOMENTUM),
    "adam": _plain(keras.optimizers.Adam),
    "adamw": _decaying(keras.optimizers.AdamW),
    "rmsprop": _plain(keras.optimizers.RMSprop, "momentum"),
    "lamb": _plain(Lamb),
    "lion": _plain(keras.optimizers.Lion),
    "muon": fields.Choice(_muon, MOMENTUM),
}


class WeightAverage(keras.callbacks.Callback):
    """Averages every float variable of a model over the optimizer steps, and validates with the averages.

    The moving means and variances of batch norms belong to the weights that made them: averaged weights with the last
    raw statistics score far below either. So they are averaged alike, as timm and torchvision do; the averages that
    Keras's optimizers keep leave them out. A step that accumulates gradients, or that a loss scale skips, is not a step
    here. The decay of step n is at most (1 + n) / (10 + n), so that first weights are soon forgotten.

    When training ends the averages take the place of the weights.

    Args:
        decay: of the average per optimizer step, in (0, 1).

    Attributes:
        variables: the averages, in the order of the model's variables; empty before `build`.
        takes_place: whether the averages take the place of the weights when `fit` ends; not so between two stages.

    Source:
        Polyak and Juditsky 1992; the bound of the decay is that of `tf.train.ExponentialMovingAverage`.

    Example:
        >>> import keras, numpy as np
        >>> from keras_resnet.training import WeightAverage
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile("sgd", "mse")
        >>> average = WeightAverage(0.99)
        >>> _ = model.fit(np.ones((8, 2)), np.ones(8), callbacks=[average], verbose=0)
        >>> bool(np.array_equal(model.get_weights()[0], average.variables[0]))
        True
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = check_fraction("decay", decay, zero_included=False)
        self.variables: list[Any] = []
        self._sources: list[Any] = []
        self._counted: Any = None  # steps of the optimizer that are in the averages
        self._update: Any = None
        self.takes_place = True

    def build(self, model: keras.Model) -> None:
        """Begins the averages with the weights that a model has.

        Args:
            model: built and compiled.
        """
        of_metrics = {id(variable) for variable in model.metrics_variables}
        self._sources = [
            variable
            for variable in model.variables
            if id(variable) not in of_metrics and keras.backend.is_float_dtype(variable.dtype)
        ]
        # From a copy: a Keras variable made of a TensorFlow variable is that very variable.
        self.variables = [
            keras.Variable(
                keras.ops.convert_to_numpy(variable).copy(), dtype=variable.dtype, trainable=False, name=variable.name
            )
            for variable in self._sources
        ]
        self._counted = keras.Variable(0, dtype="int64", trainable=False, name="counted")
        self._update = _compile(self._sources, self.variables, self.decay, self._counted)

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins, or goes on from the averages that were restored."""
        if not self.variables:
            self.build(self.model)
        self._counted.assign(int(self.model.optimizer.iterations))

    def follow(self, model: keras.Model, metrics: Any) -> None:
        """Takes the weights in inside the graph, where one call takes several steps."""
        self._update(model.optimizer.iterations)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Takes the weights in, if the optimizer took a step."""
        _synchronize(self.model)
        self._update(self.model.optimizer.iterations)

    def on_test_begin(self, logs: Any = None) -> None:
        """Puts the averages in."""
        self._block = self.in_place()
        self._block.__enter__()

    def on_test_end(self, logs: Any = None) -> None:
        """Puts the weights back."""
        self._block.__exit__(None, None, None)

    def on_train_end(self, logs: Any = None) -> None:
        """Puts the averages in for good."""
        if self.takes_place:
            self.put()

    def put(self) -> None:
        """Gives the model the averages."""
        for source, average in zip(self._sources, self.variables, strict=True):
            source.assign(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Gives the model the averages while the block runs, and then its own weights back to the very bits."""
        raw = [keras.ops.convert_to_numpy(source).copy() for source in self._sources]
        self.put()
        try:
            yield
        finally:
            for source, value in zip(self._sources, raw, strict=True):
                source.assign(value)


def _synchronize(model: keras.Model) -> None:
    """Brings the variables of a model up to date under JAX, whose trainer keeps them elsewhere during an epoch."""
    synchronize = getattr(model, "jax_state_sync", None)
    if synchronize is not None:
        synchronize()


def _compile(sources: list[Any], averages: list[Any], decay: float, counted: Any) -> Any:
    """Returns a function of the optimizer's steps, which moves all averages towards their sources if there are new."""

    def move(share: Any) -> None:
        for source, average in zip(sources, averages, strict=True):
            average.assign(average + keras.ops.cast(share, average.dtype) * (source - average))

    if keras.config.backend() != "tensorflow":

        def update(iterations: Any) -> None:
            first, last = int(counted) + 1, int(iterations)
            if last >= first:
                move(1 - math.prod(min(decay, (1 + n) / (10 + n)) for n in range(first, last + 1)))
                counted.assign(last)

        return update
    import tensorflow as tf

    # Inside the graph, so that no step waits until the host has read how many the optimizer took.
    def update_in_graph(iterations: Any) -> None:
        iterations, before = tf.cast(iterations, "int64"), tf.cast(counted.value, "int64")

        def take_in() -> Any:
            n = tf.cast(tf.range(before + 1, iterations + 1), "float64")
            move(1 - tf.reduce_prod(tf.minimum(tf.constant(decay, "float64"), (1 + n) / (10 + n))))
            counted.assign(iterations)
            return tf.constant(0)

        tf.cond(iterations > before, take_in, lambda: tf.constant(0))

    compiled = tf.function(update_in_graph, autograph=False)
    return lambda iterations: compiled(tf.convert_to_tensor(iterations))


@dataclasses.dataclass(frozen=True)
class Optimizer(fields.Section):
    """How weights move. 0 switches decay, clipping, averaging and sharpness-aware minimization off.

    `accumulation` is the number of batches whose gradients make a step. `sam_radius` is how far, in the norm of all
    weights together, a step first climbs to where the loss is higher, to take the gradient there; it costs a second
    pass (Foret et al. 2021, "Sharpness-Aware Minimization", who take 0.05).

    `ema_momentum` is the decay per step of a moving average of the weights and of the batch norms' statistics
    (`WeightAverage`).

    For networks that begin with weights: `layer_decay` is the factor of the rate from a block to the one before it,
    `body_factor` that of all but the classifier, and in the first `head_epochs` the classifier alone learns.

    `weight_decay` is decoupled: each step takes `learning_rate * weight_decay` of every kernel away. Under momentum m
    this is as strong as an L2 term of `weight_decay * (1 - m)` in the gradient. "lamb" scales the decay with the rest
    of its update, and spares norms and biases from both.
    """

    title = "optimizer"
    table = OPTIMIZERS
    name: str = fields.choice("sgd", OPTIMIZERS)
    learning_rate: float = fields.number(0.1, open_below=True, scale="log")
    momentum: float = fields.number(0.9, maximum=1.0, open_above=True)
    nesterov: bool = fields.flag(True)
    weight_decay: float = fields.number(0.0, scale="log")
    clip_norm: float = fields.number(0.0, scale="log")
    ema_momentum: float = fields.number(0.0, maximum=1.0, open_above=True)
    accumulation: int = fields.integer(1, minimum=1)
    sam_radius: float = fields.number(0.0, scale="log")
    layer_decay: float = fields.number(1.0, maximum=1.0, open_below=True)
    body_factor: float = fields.number(1.0, maximum=1.0, open_below=True)
    head_epochs: int = fields.integer(0, minimum=0)

    def build(
        self, learning_rate: Any, precision: str = "float32", steps_per_epoch: int | None = None
    ) -> keras.optimizers.Optimizer:
        """Returns the optimizer."""
        built: Any = OPTIMIZERS[self.name].build(
            self,
            learning_rate=learning_rate,
            weight_decay=self.weight_decay or None,
            global_clipnorm=self.clip_norm or None,
            gradient_accumulation_steps=self.accumulation if self.accumulation > 1 else None,
        )
        if (self.layer_decay, self.body_factor, self.head_epochs) != (1.0, 1.0, 0):
            # The class alone is another: arguments and variables are those of the optimizer.
            built.__class__ = with_rate_factors(type(built))  # type: ignore[arg-type]
            built.layer_decay, built.body_factor = self.layer_decay, self.body_factor
            built.head_steps = self.head_epochs * (steps_per_epoch or 0)
        built.exclude_from_weight_decay(var_names=list(SPARED_NAMES))
        return keras.optimizers.LossScaleOptimizer(built) if precision == "mixed_float16" else built

    def step_parts(self, experiment: Any) -> list[StepPart]:
        """Returns the climb of `sam_radius`."""
        wrap: Any = sharpness_aware
        return [StepPart(wrap, {"radius": self.sam_radius})] if self.sam_radius else []

    def weight_average(self, model: keras.Model | None = None) -> WeightAverage | None:
        """Returns the callback that averages the weights; None where they are not averaged."""
        average = WeightAverage(self.ema_momentum) if self.ema_momentum else None
        if average is not None and model is not None:
            average.build(model)
        return average


class SharpnessAwareSteps(GradientStep):
    """The steps of a model that climbs; `sharpness_aware` makes a class of them."""

    radius: float = 0.05

    def gradients_of(self: Any, data: Any) -> Gradients:
        """Returns the gradients at the end of the climb; all else is that of its beginning."""
        import tensorflow as tf

        result = super().gradients_of(data)
        variables = [variable.value for variable in self.trainable_variables]
        averages = [variable.value for variable in self.non_trainable_variables]
        saved = [tf.identity(variable) for variable in (*variables, *averages)]
        # The scale of 16-bit losses cancels: the climb has the length of the radius whatever the gradients' unit.
        length = self.radius / tf.maximum(tf.linalg.global_norm(result.gradients), 1e-12)
        for variable, slope in zip(variables, result.gradients, strict=True):
            variable.assign_add(tf.cast(slope * length, variable.dtype))
        gradients = super().gradients_of(data).gradients
        for variable, value in zip((*variables, *averages), saved, strict=True):
            variable.assign(value)
        return result._replace(gradients=gradients)


@functools.cache
def sharpness_aware(model_class: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass whose training step climbs by `radius` along the gradient, and takes the gradient there.

    It costs a second forward and backward pass. Metrics and moving averages are those of the first pass, weights are
    put back to the very bits they had. For TensorFlow. The attribute `radius` is that of the climb, in the norm of all
    weights together. Of several processes or devices the gradient is that of the whole batch, in both passes.

    Source:
        Foret et al. 2021, "Sharpness-Aware Minimization for Efficiently Improving Generalization", algorithm 1.
    """
    if keras.config.backend() != "tensorflow":
        raise BadValue(
            f"optimizer.sam_radius was given under the Keras backend {keras.config.backend()!r}. Its step needs "
            "TensorFlow. Set KERAS_BACKEND=tensorflow, or sam_radius to 0."
        )
    if not has_plain_step(model_class):
        raise BadValue(
            f"optimizer.sam_radius cannot be combined with model_class={model_class.__name__}. Both have a training "
            "step of their own. Leave one of them out."
        )
    return type("SharpnessAware", (SharpnessAwareSteps, model_class), {})
