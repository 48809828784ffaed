"""`Resume` in plain `model.fit`: killed at any batch, the same script ends with the bits of one that was not.

A script is started once per kill and compiles its network each time, that of keras.applications for half a minute:
up to three minutes of processor time.
"""

import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.training import state  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A script as a user writes it: arguments are the folder, where the data come from, and the network.
SCRIPT = """
import hashlib, sys, time
import keras, numpy as np, tensorflow as tf
from keras_resnet import training

folder, source, network, pause = sys.argv[1:5]
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x, y = rng.uniform(0, 255, (96, 32, 32, 3)).astype("float32"), rng.integers(0, 4, 96)
inputs = keras.Input((32, 32, 3))
h = keras.layers.RandomFlip(seed=1)(inputs)
if network == "keras.applications":
    outputs = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")(h)
else:
    outputs = keras.layers.Flatten()(keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(h)))
outputs = keras.layers.Dense(4)(keras.layers.Dropout(0.3, seed=2)(outputs))
model = keras.Model(inputs, outputs)
optimizer = keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(1e-3, 100), use_ema=True)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer, loss, metrics=["accuracy"], steps_per_execution=2 if source == "executions" else 1)
early = keras.callbacks.EarlyStopping("loss", patience=50)
resume = training.Resume(folder, save_every="2", follow=[early])

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(float(pause))

words = {"epochs": 2 if network == "keras.applications" else 3, "verbose": 0, "callbacks": [early, resume, Slow()]}
if source == "function of the epoch":
    whole = tf.data.Dataset.from_tensor_slices((x, y))
    make = lambda epoch: whole.shuffle(96, seed=epoch).batch(8)
    history = model.fit(resume.dataset(make, 6), steps_per_epoch=6, shuffle=False, **words)
else:
    history = model.fit(x, y, batch_size=8, shuffle=False, validation_data=(x, y), **words)
whole = hashlib.sha256()
for variable in [*model.variables, *model.optimizer.variables]:
    whole.update(np.asarray(keras.ops.convert_to_numpy(variable)).tobytes())
print(whole.hexdigest(), int(model.optimizer.iterations), sorted(history.history.items()), history.epoch, early.wait)
"""


def start(tmp_path, *words):
    (tmp_path / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, "script.py", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def kill_and_resume(tmp_path, source, network, kills, number=signal.SIGKILL):
    """Returns what a script prints that was killed that many times, with each kill after more of it was saved."""
    rng, folder = random.Random(0), tmp_path / "cut"
    for _ in range(kills):
        before = {path.name for path in folder.glob("epoch-*")}
        process = start(tmp_path, "cut", source, network, "0.1")
        while process.poll() is None and not {path.name for path in folder.glob("epoch-*")} - before:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode not in (0, 1) or number != signal.SIGKILL, err
        if number == signal.SIGTERM:
            assert "To go on, run the same program again" in err
    done = start(tmp_path, "cut", source, network, "0")
    out, err = done.communicate()
    assert done.returncode == 0, err
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "network", "kills"),
    [
        ("arrays", "small", 2),
        pytest.param("executions", "small", 1, marks=pytest.mark.exhaustive),
        pytest.param("function of the epoch", "keras.applications", 1, marks=pytest.mark.exhaustive),
    ],
)
def test_a_script_that_is_killed_and_run_again_ends_with_the_same_bits(tmp_path, source, network, kills):
    process = start(tmp_path, "whole", source, network, "0")
    whole, err = process.communicate()
    assert process.returncode == 0, err
    assert kill_and_resume(tmp_path, source, network, kills) == whole
    if source == "arrays":
        assert kill_and_resume(tmp_path, source, network, 0) == whole  # nothing is left to do


@pytest.mark.exhaustive
def test_a_signal_saves_the_batch_and_says_so(tmp_path):
    whole = start(tmp_path, "whole", "arrays", "small", "0").communicate()[0]
    assert kill_and_resume(tmp_path, "arrays", "small", 1, signal.SIGTERM) == whole


def network():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5, seed=0), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    return model


X = np.arange(64.0).reshape(16, 4) / 64
WORDS = {"batch_size": 2, "shuffle": False, "verbose": 0}


class Fail(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.place, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise RuntimeError("struck")


def digest(model):
    variables = [*model.variables, *model.optimizer.variables]
    return hashlib.sha256(b"".join(np.array(variable).tobytes() for variable in variables)).hexdigest()


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 8

    def __getitem__(self, batch):
        return X[2 * batch : 2 * batch + 2], X[2 * batch : 2 * batch + 2, :2]


@pytest.mark.parametrize("place", [pytest.param((0, 5), marks=pytest.mark.slow), (1, 0), (2, 7)], ids=str)
def test_a_fit_on_a_py_dataset_with_threads_goes_on_at_its_batch(tmp_path, place):
    whole = network()
    expected = whole.fit(X, X[:, :2], epochs=3, **WORDS).history
    words = {"shuffle": False, "verbose": 0, "epochs": 3}
    with pytest.raises(RuntimeError, match="struck"):
        failing = [training.Resume(tmp_path, save_every="2"), Fail(*place)]
        network().fit(Batches(workers=2, max_queue_size=3), callbacks=failing, **words)
    again = network()
    found = again.fit(Batches(workers=2, max_queue_size=3), callbacks=[training.Resume(tmp_path)], **words)
    assert digest(again) == digest(whole) and found.history == expected


@pytest.mark.parametrize("place", [(0, 1), (0, 5), (1, 0), (2, 7)], ids=str)
def test_a_fit_that_failed_goes_on_at_its_batch(tmp_path, place):
    whole = network()
    expected = whole.fit(X, X[:, :2], epochs=3, **WORDS).history
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError, match="struck"):
        failing = [training.Resume(tmp_path, save_every="2"), Fail(*place)]
        network().fit(X, X[:, :2], epochs=3, callbacks=failing, **WORDS)
    again = network()
    history = again.fit(X, X[:, :2], epochs=3, callbacks=[training.Resume(tmp_path, save_every="2")], **WORDS)
    assert digest(again) == digest(whole) and history.history == expected and history.epoch == [0, 1, 2]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    # The next fit of the same model is its own, as far as Keras lets it.
    assert again._initial_epoch is None and again.fit(X, X[:, :2], epochs=1, **WORDS).epoch == [0]


def test_counters_of_other_callbacks_go_on(tmp_path):
    def train(*more):
        early = keras.callbacks.EarlyStopping("loss", patience=3, min_delta=100.0)
        model = network()
        callbacks = [early, training.Resume(tmp_path / "state", follow=[early]), *more]
        return early, model.fit(X, X[:, :2], epochs=9, callbacks=callbacks, **WORDS)

    with pytest.raises(RuntimeError):
        train(Fail(2, 1))
    early, history = train()
    assert early.stopped_epoch == 3 and history.epoch == [0, 1, 2, 3]
    # A training that stopped early has nothing left to do.
    once_more, history = train()
    assert len(history.history["loss"]) == 4 and (once_more.wait, once_more.best) == (early.wait, early.best)


def test_what_cannot_go_on_is_refused(tmp_path):
    def fit(model, x=X, y=X[:, :2], resume=None, **words):
        resume = training.Resume(tmp_path / "state") if resume is None else resume
        return model.fit(x, y, **{**WORDS, **words}, callbacks=[resume])

    fit(network(), epochs=1)
    other = network()
    other.compile("adam", "mse", metrics=["mae"])
    with pytest.raises(ValueError, match=r"another training; differing: optimizer"):
        fit(other, epochs=2)
    with pytest.raises(ValueError, match=r"steps_per_epoch: 8 in the folder, 4 now"):
        fit(network(), epochs=2, batch_size=4)
    endless = tf.data.Dataset.from_generator(lambda: iter([(X, X[:, :2])] * 3), output_types=("float32", "float32"))
    with pytest.raises(ValueError, match="number of steps in an epoch is not known"):
        network().fit(endless, shuffle=False, callbacks=[training.Resume(tmp_path / "other")], verbose=0)
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    unbuilt.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has no weights yet"):
        fit(unbuilt, epochs=1, resume=training.Resume(tmp_path / "third"))
    with pytest.raises(ValueError, match="not an interval"):
        training.Resume(tmp_path / "x", save_every="often")
    with pytest.raises(TypeError, match="follow holds 'early'"):
        training.Resume(tmp_path / "x", follow=["early"])
    stale = training.Resume(tmp_path / "state")
    data = stale.dataset(lambda epoch: tf.data.Dataset.from_tensor_slices((X, X[:, :2])).batch(2), 8)
    fit(network(), epochs=2)
    with pytest.raises(ValueError, match="Call it before each fit"):
        network().fit(data, steps_per_epoch=8, epochs=3, callbacks=[stale], shuffle=False, verbose=0)


def changed_network(dropout=0.5, activation=None, loss="mse", metrics=("mae",), rate=0.1):
    keras.utils.set_random_seed(3)
    dense = keras.layers.Dense(2, activation=activation)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(dropout, seed=0), dense])
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss, metrics=list(metrics))
    return model


@pytest.mark.parametrize(
    ("model", "fit", "named"),
    [
        ({"dropout": 0.3}, {}, r"Dropout\.rate: 0\.5 in the folder, 0\.3 now"),
        ({"activation": "relu"}, {}, r"Dense\.activation"),
        ({"loss": "mae"}, {}, "loss: 'mse' in the folder, 'mae' now"),
        ({"metrics": ("mse",)}, {}, r"compile\.metrics"),
        ({"rate": 0.2}, {}, r"optimizer\.config\.learning_rate"),
        ({}, {"y": X[:, 2:]}, r"data\.y 0"),
        ({}, {"x": X[::-1].copy()}, r"data\.x 0"),
        ({}, {"class_weight": {0: 2.0, 1: 1.0}}, r"data\.class_weight\.0"),
        ({}, {"sample_weight": np.ones(16)}, r"data\.sample_weight 0"),
        ({}, {"batch_size": 4}, "steps_per_epoch"),
    ],
    ids=["dropout", "activation", "loss", "metrics", "rate", "labels", "data", "classes", "weights", "batch"],
)
def test_a_training_that_is_another_one_is_refused_by_name(tmp_path, model, fit, named):
    def train(model, epochs, x=X, y=X[:, :2], **words):
        words = {**WORDS, "callbacks": [training.Resume(tmp_path)], **words}
        return changed_network(**model).fit(x, y, epochs=epochs, **words)

    train({}, 1)
    with pytest.raises(ValueError, match=f"another training; differing: .*{named}"):
        train(model, 2, **fit)
    assert len(train({}, 2).history["loss"]) == 2  # and the same one goes on


def test_a_callback_that_keeps_weights_of_its_own_is_refused(tmp_path):
    early = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    for callbacks in ([early, training.Resume(tmp_path)], [early, training.Resume(tmp_path, follow=[early])]):
        with pytest.raises(ValueError, match="restore_best_weights=True.*ModelCheckpoint"):
            network().fit(X, X[:, :2], callbacks=callbacks, **WORDS)


def test_two_fits_cannot_share_a_folder(tmp_path):
    held = training.run.locked(tmp_path)
    with held, pytest.raises(ValueError, match="in use by process"):
        network().fit(X, X[:, :2], callbacks=[training.Resume(tmp_path)], **WORDS)


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path):
    whole = network()
    whole.fit(X, X[:, :2], epochs=3, **WORDS)
    network().fit(X, X[:, :2], epochs=2, callbacks=[training.Resume(tmp_path)], **WORDS)
    newest = state.newest_first(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-7])
    again = network()
    with pytest.warns(UserWarning, match="Not usable"):
        again.fit(X, X[:, :2], epochs=3, callbacks=[training.Resume(tmp_path)], **WORDS)
    assert digest(again) == digest(whole)
