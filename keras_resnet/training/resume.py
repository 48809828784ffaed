"""`Resume`: what a run of `training.fit` does against kills, for a plain `model.fit` of any Keras model."""

import contextlib
import hashlib
import inspect
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import files
from keras_resnet.arguments import check_int
from keras_resnet.errors import BadType, BadValue
from keras_resnet.training.run import differences, locked
from keras_resnet.training.state import (
    Interrupted,
    Interval,
    Progress,
    SaveState,
    StopRequest,
    read_newest,
    restore,
    stop_after_batch,
)

# What each folder of this process is held by: a fit that ended in an error has no `on_train_end`.
_HELD: dict[str, contextlib.ExitStack] = {}


class Resume(keras.callbacks.Callback):
    """Saves the state of a plain `model.fit` inside its epochs, and goes on at the batch where a killed one stopped.

    The same script, started again, goes on: with the weights, moving statistics, optimizer, loss scale and seed
    generators of dropout and augmentation layers, the metrics of the epoch so far, and the history. Ctrl-C, SIGTERM and
    SIGUSR1 finish the batch, save, and raise `Interrupted`; a second one ends at once. A state is one safetensors file
    with a sha256, renamed when it is whole; a damaged one gives way to the one before, with a warning.

    What it promises: with data whose order is a function of the epoch, the end has the same bits as without the kill,
    on the same machine and versions, on a CPU (a GPU was not tested). Such data are arrays with `shuffle=False`, a
    `tf.data.Dataset` without its own random order, a `PyDataset` without `shuffle`, and `dataset(...)` of this
    object. Any other order starts anew: every state is right and every epoch has its number of steps, but the rest of
    the epoch that was cut may hold examples that came before.

    What it does not: the state of other callbacks is saved where `follow` names them, and then only their numbers (not
    the weights that `EarlyStopping` keeps); during the batches that are passed over, other callbacks are called with
    the figures so far; random numbers of NumPy, Python or `keras.random` without a seed generator are not saved.

    Args:
        folder: for the states; made if it is missing. Give each training its own.
        save_every: inside an epoch: "auto" is a minute, or longer where saving would take more than 2 % of the time;
            "epoch" for the ends of epochs alone, a number of steps such as "500", or a time such as "5m".
        keep: how many states stay.
        follow: other callbacks, such as `EarlyStopping` and `ReduceLROnPlateau`, whose counters are a part of the
            state; they stand before this one in the list of `fit`.

    Raises:
        TypeError, ValueError: an argument is not fit; the folder is in use, or holds the states of another training;
            the number of steps in an epoch is not known.
        Interrupted: after a signal.

    Source:
        The order of events is that of `model.fit` of Keras 3; what a state has to hold was measured there.

    Example:
        >>> import keras, numpy as np, tempfile
        >>> from keras_resnet.training import Resume
        >>> folder = tempfile.mkdtemp()
        >>> def train(epochs):
        ...     keras.utils.set_random_seed(0)
        ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        ...     model.compile("adam", "mse")
        ...     x = np.arange(16.0).reshape(8, 2)
        ...     words = {"batch_size": 4, "shuffle": False, "callbacks": [Resume(folder)], "verbose": 0}
        ...     return model.fit(x, x[:, :1], epochs=epochs, **words)
        >>> _ = train(2)  # and it is killed here
        >>> len(train(3).history["loss"])
        3
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        save_every: str = "auto",
        keep: int = 2,
        follow: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        super().__init__()
        self.interval = Interval.of(save_every)
        self.keep = check_int("keep", keep, minimum=1)
        self.follow = list(follow)
        for callback in self.follow:
            if not isinstance(callback, keras.callbacks.Callback):
                raise BadType(f"follow holds {callback!r}. Allowed are callbacks of Keras. Pass such objects.")
        self.folder = files.make_writable(folder)
        self._position: tuple[int, int] | None = None

    def dataset(self, make: Callable[[int], Any], steps_per_epoch: int) -> Any:
        """Returns batches without end that begin where the training goes on.

        Args:
            make: from an epoch, counted from 0, to the `tf.data.Dataset` of its batches. To shuffle, give `seed=epoch`
                or the like.
            steps_per_epoch: batches of an epoch, no more than `make` gives; pass the same to `fit`.
        """
        import tensorflow as tf

        steps = check_int("steps_per_epoch", steps_per_epoch)
        newest = read_newest(self.folder)
        epoch, batch = self._position = (0, 0) if newest is None else _place_of(newest[0])

        def batches() -> Iterator[Any]:
            yield from make(epoch).take(steps).skip(batch)
            for later in itertools.count(epoch + 1):
                yield from make(later).take(steps)

        dataset = tf.data.Dataset.from_generator(batches, output_signature=make(epoch).element_spec)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes the folder, and puts the newest state into the model."""
        model = self.model
        if not self.params.get("steps"):
            raise BadValue(
                "The number of steps in an epoch is not known, and Keras 3.15 takes one step too many then. Allowed "
                "are data of known length. Pass steps_per_epoch to fit, or call assert_cardinality on the dataset."
            )
        if not model.built:
            raise BadValue("The model has no weights yet. A state needs them. Give the model an Input, or call build.")
        callbacks = self._arguments_of_fit().get("callbacks")
        others = [*self.follow, *getattr(callbacks, "callbacks", callbacks or ())]
        if any(getattr(callback, "restore_best_weights", False) for callback in others):
            raise BadValue(
                "A callback has restore_best_weights=True. The weights that it keeps are not saved, and a training "
                "that goes on would end with others. Leave it out, and add keras.callbacks.ModelCheckpoint(path, "
                "save_best_only=True) instead."
            )
        locks = _HELD.setdefault(os.path.realpath(self.folder), contextlib.ExitStack())
        locks.close()
        locks.enter_context(locked(self.folder))
        self._held = locks
        try:
            self._begin(locks.enter_context(stop_after_batch(self._is_running)))
        except BaseException:
            locks.close()
            raise

    def _begin(self, stop_request: StopRequest) -> None:
        """Puts the newest state into the model."""
        model = self.model
        files.remove_unfinished(self.folder, ("epoch-*",))
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        progress, identity, metrics = Progress(), self._identity(), []
        newest = read_newest(self.folder)
        place = (0, 0) if newest is None else _place_of(newest[0])
        if self._position not in (None, place):
            raise BadValue(
                f"dataset() was called when {os.fspath(self.folder)!r} held another state. The data must begin where "
                "the training goes on. Call it before each fit."
            )
        if newest is not None:
            saved, values = newest
            comparable = {key: value for key, value in identity.items() if key not in LATER or key in saved["identity"]}
            changed = differences(saved["identity"], comparable)
            if changed:
                raise BadValue(
                    f"{os.fspath(self.folder)!r} holds the state of another training; differing: {'; '.join(changed)}. "
                    "A resume needs the same model, optimizer and data. Give the same as before, or another folder."
                )
            metrics = restore(model, saved, values)
            progress.take(saved)
        self._progress, self._counters = progress, {} if newest is None else newest[0].get("counters", {})
        self._saver = SaveState(
            self.folder,
            progress,
            identity,
            interval=self.interval,
            stop_request=stop_request,
            metrics=metrics,
            max_states=self.keep,
            further_state=self._counted,
        )
        self._saver.set_model(model)
        self._passed = progress.batches
        # The only way in, which Keras's own BackupAndRestore takes. A training that was stopped has no epoch left.
        model._initial_epoch = self.params["epochs"] if progress.stopped else progress.epochs
        for row in progress.rows:
            for name, value in row.items():
                model.history.history.setdefault(name, []).append(value)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins an epoch, or goes on inside it."""
        if self.model._initial_epoch is not None:
            self.model._initial_epoch = None  # the next `fit` of this model begins at its own initial_epoch
            self._go_on(epoch)
            if self._passed:
                self._pass_over()
        self._epoch = epoch
        if not self._passed:
            self._saver.begin_epoch(epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves where it is time, or where a signal came."""
        if batch + 1 > self._passed:
            try:
                self._saver.end_batch(batch + 1, self.params["steps"])
            except Interrupted as interrupt:
                self._tell(interrupt)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves."""
        self._passed = 0
        self._progress.stopped = bool(self.model.stop_training)
        self._progress.rows.append({name: float(value) for name, value in (logs or {}).items()})
        try:
            self._saver.on_epoch_end(epoch)
        except Interrupted as interrupt:
            self._tell(interrupt)

    def on_train_end(self, logs: Any = None) -> None:
        """Waits for the writer, and leaves the folder."""
        self.model._initial_epoch = None
        if not self.model.history.epoch:  # no epoch was left
            self._go_on(self._progress.epochs)
        try:
            self._saver.finish()
        finally:
            self._held.close()

    def _go_on(self, epoch: int) -> None:
        """Gives the history and the callbacks that are followed what they lost when the training began."""
        self.model.history.epoch = list(range(epoch))
        for number, counters in self._counters.items():
            vars(self.follow[int(number)]).update(counters)

    def _tell(self, interrupt: Interrupted) -> None:
        self._saver.finish()
        self._held.close()
        batches = f" and {self._progress.batches} batches" * bool(self._progress.batches)
        raise Interrupted(
            f"Interrupted after {self._progress.epochs} epochs{batches}, which are saved in "
            f"{os.fspath(self.folder)!r}. To go on, run the same program again.",
            interrupt.status,
        ) from None

    def _pass_over(self) -> None:
        """Lets Keras run through the batches that were trained before, without training on them again."""
        model, passed = self.model, self._passed
        train, each = model.train_function, model.steps_per_execution
        random_calls = 0 if self._position is not None else each  # `dataset` begins behind them
        if passed % each:
            raise BadValue(
                f"The state is after {passed} batches, and the model takes {each} in one execution. The number must "
                "divide them. Compile it with the steps_per_execution of before."
            )
        calls = 0

        def train_function(iterator: Any) -> Any:
            nonlocal calls
            if calls == 0:
                _build_metrics(model, iterator.element_spec)
                self._saver.begin_epoch(self._epoch)
            if calls == passed // each:
                model.train_function = train
                return train(iterator)
            calls += 1
            for _ in range(random_calls):
                next(iterator)
            return {name: float(value) for name, value in model.get_metrics_result().items()}

        model.train_function = train_function

    def _is_running(self, frame: Any) -> bool:
        return self._fit_around(frame) is not None

    def _fit_around(self, frame: Any) -> Any:
        """Returns the frame of this model's `fit` around another frame; None for none."""
        while frame is not None:
            if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is self.model:
                return frame
            frame = frame.f_back
        return None

    def _arguments_of_fit(self) -> dict[str, Any]:
        """Returns the arguments of `fit`, which Keras passes to no callback."""
        frame = self._fit_around(sys._getframe())
        return {} if frame is None else dict(frame.f_locals)

    def _counted(self) -> dict[str, Any]:
        """Returns the numbers of the callbacks that are followed, but for what they were made with."""
        plain = (bool, int, float, np.number, type(None))
        counters: dict[str, Any] = {}
        for number, callback in enumerate(self.follow):
            parameters = inspect.signature(type(callback)).parameters
            counters[str(number)] = {
                name: value.item() if isinstance(value, np.number) else value
                for name, value in vars(callback).items()
                if isinstance(value, plain) and not name.startswith("_") and name not in parameters
            }
        return {"counters": counters}

    def _identity(self) -> dict[str, Any]:
        """Returns the settings that must be equal for a resume, beside the variables."""
        model, loss = self.model, self.model.loss
        settings = {
            "optimizer": _unnamed(keras.saving.serialize_keras_object(model.optimizer)),
            "loss": loss
            if isinstance(loss, str)
            else getattr(loss, "name", getattr(loss, "__name__", str(type(loss)))),
            "precision": model.dtype_policy.name,
            "layers": _layers_of(model),
            "compile": _compile_config(model),
            "data": _data_identity(self._arguments_of_fit()),
            "steps_per_epoch": self.params["steps"],
            "followed": [type(callback).__name__ for callback in self.follow],
        }
        return json.loads(json.dumps(settings, default=lambda value: str(type(value))))


# Parts of the identity that states of earlier versions lack.
LATER = ("layers", "compile", "data")
# Rows of an array that stand for it: a hash of all would take seconds.
HASHED_ROWS = 256


def _unnamed(config: Any) -> Any:
    """Returns a configuration without names and seeds, which differ from process to process."""
    if isinstance(config, (list, tuple)):
        return [_unnamed(value) for value in config]
    if not isinstance(config, dict):
        return config
    left_out = ("name", "shared_object_id", "seed", "inbound_nodes", "build_config")
    return {key: _unnamed(value) for key, value in config.items() if key not in left_out}


def _layers_of(model: keras.Model) -> dict[str, Any]:
    """Returns the configuration of every layer, by its place and kind; nested models are entered."""
    layers: dict[str, Any] = {}
    for number, layer in enumerate(getattr(model, "layers", ())):
        if isinstance(layer, keras.Model):
            layers |= {f"{number}.{key}": config for key, config in _layers_of(layer).items()}
            continue
        try:
            config = layer.get_config()
        except Exception:  # of a layer of the user's own that has none
            config = {}
        layers[f"{number} {type(layer).__name__}"] = _unnamed(config)
    return layers


def _compile_config(model: keras.Model) -> Any:
    """Returns losses, metrics and their weights as `compile` was given them."""
    try:
        config = model.get_compile_config() or {}
    except Exception:  # of objects that Keras cannot serialize
        return {}
    return _unnamed({key: value for key, value in config.items() if key != "optimizer"})


def _data_identity(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fingerprint of the data of a `fit`: arrays by their first rows, datasets by their elements."""
    weights = arguments.get("class_weight") or {}
    identity: dict[str, Any] = {"class_weight": {str(label): float(weight) for label, weight in weights.items()}}
    for name in ("x", "y", "sample_weight"):
        value = arguments.get(name)
        spec = getattr(value, "element_spec", None)
        if spec is not None:
            identity[name] = str(spec)
        for number, array in enumerate(keras.tree.flatten(value)):
            if isinstance(array, np.ndarray):
                digest = hashlib.sha256(np.ascontiguousarray(array[:HASHED_ROWS]).tobytes()).hexdigest()[:16]
                identity[f"{name} {number}"] = f"{array.dtype} {array.shape}, rows {digest}"
    return identity


def _place_of(saved: dict[str, Any]) -> tuple[int, int]:
    return int(saved["epochs"]), int(saved.get("batches", 0))


def _build_metrics(model: keras.Model, spec: Any) -> None:
    """Makes the variables of losses and metrics, which Keras makes in the first step."""

    def zeros(shape: Any, dtype: Any) -> Any:
        return keras.ops.zeros([1 if side is None else side for side in shape], dtype)

    batch = keras.tree.map_structure(lambda part: zeros(part.shape, part.dtype.name), spec)
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    shapes = model.compute_output_spec(images, training=False)
    outputs = keras.tree.map_structure(lambda part: zeros(part.shape, part.dtype), shapes)
    model.compute_loss(images, labels, outputs, weights)
    model.compute_metrics(images, labels, outputs, weights)
    model.reset_metrics()
