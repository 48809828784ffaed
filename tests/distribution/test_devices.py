"""Several devices of one machine in a recipe: the run of one, on TensorFlow and on JAX.

Two and four devices are made of one processor, in a process of their own. The step is compiled for each of them, beside
the run of one with which it is compared: one to two minutes of processor time.
"""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.distribution import Devices, devices, on_devices  # noqa: E402
from keras_resnet.distribution.launch import free_ports  # noqa: E402
from keras_resnet.training.optimizer import sharpness_aware  # noqa: E402
from tests.distribution.test_recipes import IN_THE_STEP, MIXED, SHARP, SMALL  # noqa: E402

SCRIPT = """
import json, sys
import keras

out, overrides, kind, count, callbacks = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4]), []
if kind == "mirrored":
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)

from keras_resnet import training

class Losses(keras.callbacks.Callback):
    found = []
    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(logs["loss"]))
        if len(self.found) == int(sys.argv[5]):
            raise KeyboardInterrupt

try:
    run = training.fit(
        "quick", out=out, overrides=overrides, distribution=kind, resume=True, callbacks=[Losses()], verbose=0
    )
    told = {"validation": run.history["val_loss"], "test": run.metrics["test"], "path": str(run.path)}
except training.Interrupted:
    told = {}
print(json.dumps({"losses": Losses.found, **told}))
"""
SHORT = {**SMALL, "train.epochs": 2}
BACKENDS = {"mirrored": "tensorflow", "data_parallel": "jax"}


def train(out, overrides, kind, count, stop_after=0):
    """Returns what a training on that many devices told, and what it printed."""
    environment = {**os.environ, "KERAS_BACKEND": BACKENDS[kind], "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
    words = [str(out), json.dumps({**SHORT, **overrides}), kind, str(count), str(stop_after)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def check_equal(one, several):
    np.testing.assert_allclose(several["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(several["validation"], one["validation"], rtol=1e-4)
    assert several["test"]["examples"] == 360
    assert several["test"]["loss"] == pytest.approx(one["test"]["loss"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count", "overrides"),
    [
        ("mirrored", 2, MIXED),
        pytest.param("mirrored", 4, SHARP, marks=pytest.mark.exhaustive),
        pytest.param(
            *("data_parallel", 2, {"augment.augment_on": "device", "augment.mixup": 0.2, "optimizer.clip_norm": 1.0}),
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            *("data_parallel", 4, {**IN_THE_STEP, "optimizer.accumulation": 2, "data.progressive_from": 0.5}),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_devices_give_the_run_of_one(tmp_path, kind, count, overrides):
    if kind == "data_parallel":
        pytest.importorskip("jax")
    one, told = train(tmp_path / "one", overrides, kind, 1)
    assert "distribution: one device" in told
    several, told = train(tmp_path / "several", overrides, kind, count)
    assert f"distribution: {count} devices of this machine" in told
    assert len(one["losses"]) == 52
    check_equal(one, several)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", BACKENDS)
def test_a_run_goes_on_with_another_number_of_devices(tmp_path, kind):
    if kind == "data_parallel":
        pytest.importorskip("jax")
    overrides = {"augment.augment_on": "device", "model.dropout_rate": 0.0, "train.save_every": "5"}
    whole, _ = train(tmp_path / "whole", overrides, kind, 1)
    begun, _ = train(tmp_path / "run", overrides, kind, 2, stop_after=33)
    assert "path" not in begun
    ended, _ = train(tmp_path / "run", overrides, kind, 1)
    saved = 52 - len(ended["losses"])
    assert 26 < saved <= 33  # inside the second epoch
    np.testing.assert_allclose([*begun["losses"][:saved], *ended["losses"]], whole["losses"], rtol=1e-3)
    np.testing.assert_allclose(ended["validation"], whole["validation"], rtol=1e-3)


@pytest.mark.slow
def test_each_device_has_draws_of_its_own():
    """Dropout of two devices on equal examples, and on one: the first draws what it would alone."""
    script = """
import sys, json
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))
import keras, numpy as np
from keras_resnet.distribution import mirrored, on_devices
inputs = keras.Input((64,))
same = keras.layers.Dense(64, use_bias=False, kernel_initializer="identity")(inputs)
network = keras.Model(inputs, keras.layers.Dropout(0.5, seed=3)(same))
found = mirrored()
model = network if found is None else on_devices(keras.Model)(network.inputs, network.outputs)
model.devices = found

class Seen(keras.metrics.Metric):
    rows = []
    def update_state(self, y_true, y_pred, sample_weight=None):
        tf.py_function(lambda values: self.rows.append(values.numpy().tolist()), [y_pred], [])
    def result(self):
        return 0.0

model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[Seen()], jit_compile=False)
model.fit(np.ones((2, 64)), np.ones((2, 64)), batch_size=2, epochs=2, verbose=0)
print(json.dumps(Seen.rows))
"""
    found = []
    for count in (1, 2):
        done = subprocess.run([sys.executable, "-c", script, str(count)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found.append(np.array(json.loads(done.stdout.splitlines()[-1])))
    alone, both = found
    assert both.shape == alone.shape == (2, 2, 64)
    np.testing.assert_array_equal(both[:, 0], alone[:, 0])
    assert (both[:, 0] != both[:, 1]).any() and (both[0] != both[1]).any()


PROCESSES = """
import json, sys
import jax
import numpy as np

index, count, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
import keras

if count > 1:
    keras.distribution.initialize(",".join([address] * count), count, index)
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False))

from keras_resnet import ResNet18

keras.utils.set_random_seed(0)
images = np.random.default_rng(0).normal(size=(4, count, 16 // count, 16, 16, 3)).astype("float32")
labels = (np.arange(64) % 4).reshape(4, count, -1)
model = ResNet18(input_shape=(16, 16, 3), classes=4, width=8, stem="small", classifier_activation=None)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"])

class Losses(keras.callbacks.Callback):
    found = []
    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(logs["loss"]))

# Of each batch of 16 the part of this process.
mine, own = images[:, index].reshape(-1, 16, 16, 3), labels[:, index].reshape(-1)
model.fit(mine, own, batch_size=16 // count, epochs=5, shuffle=False, verbose=0, callbacks=[Losses()])
size = float(sum(np.abs(np.asarray(weight, "float64")).sum() for weight in model.get_weights()))
print(json.dumps({"losses": Losses.found, "weights": size}))
"""


@pytest.mark.exhaustive
def test_two_processes_of_jax_train_a_network_as_one_does():
    """Plain `model.fit` with Keras's own distribution: the way that docs/distributed.md names."""
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = []
    for count in (1, 2):
        address = f"127.0.0.1:{free_ports(1)[0]}"
        started = [
            subprocess.Popen(
                [sys.executable, "-c", PROCESSES, str(index), str(count), address],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]
        try:
            told = [process.communicate(timeout=300) for process in started]
        finally:
            for process in started:
                process.kill()
        assert [process.returncode for process in started] == [0] * count, told
        found.append([json.loads(out.splitlines()[-1]) for out, _ in told])
    (alone,), together = found
    assert together[0] == together[1] and len(alone["losses"]) == 20
    np.testing.assert_allclose(together[0]["losses"], alone["losses"], rtol=1e-5)
    assert together[0]["weights"] == pytest.approx(alone["weights"], rel=1e-6)


@pytest.mark.exhaustive
def test_what_jax_cannot_do_is_refused_before_there_is_a_folder(tmp_path):
    pytest.importorskip("jax")
    script = """
import sys
from keras_resnet import training
for name, value in (("augment.mixup", 0.2), ("data.progressive_from", 0.5), ("optimizer.sam_radius", 0.05)):
    place = "device" if name == "optimizer.sam_radius" else "host"
    plain = {**dict.fromkeys(("augment.pad_and_crop", "augment.gain"), 0), "augment.augment_on": place}
    try:
        training.fit("quick", out=sys.argv[1], overrides={**plain, name: value}, verbose=0)
    except ValueError as error:
        print(error)
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    out = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", script, str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mixed, grown, sharp = done.stdout.splitlines()
    assert "backend 'jax'" in mixed and mixed == grown and "augment.augment_on='device'" in mixed
    assert sharp.startswith("optimizer.sam_radius was given under the Keras backend 'jax'")
    assert not out.exists()


@pytest.fixture
def two_devices(monkeypatch):
    """Two devices by name; nothing is computed on them."""
    found = Devices(("CPU:0", "CPU:1"), None)
    monkeypatch.setattr("keras_resnet.distribution.together.mirrored", lambda: found)
    return found


def test_a_batch_that_devices_cannot_divide_is_refused(two_devices, tmp_path):
    with pytest.raises(ValueError, match="train.batch_size=33 cannot be divided among 2 devices"):
        training.fit("quick", out=tmp_path / "run", overrides={"train.batch_size": 33}, distribution="mirrored")
    assert not (tmp_path / "run").exists()


def test_a_step_of_its_own_is_refused(two_devices, tmp_path):
    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    with pytest.raises(ValueError, match="distribution.kind='mirrored' cannot be combined with model_class=Own"):
        training.fit("quick", out=tmp_path / "run", model_class=Own, distribution="mirrored")
    with pytest.raises(ValueError, match="cannot be combined"):
        on_devices(sharpness_aware(keras.Model))


@pytest.mark.slow
def test_one_device_trains_as_ever(tmp_path, capsys):
    overrides = {**SMALL, "train.epochs": 1}
    run = training.fit("quick", out=tmp_path / "run", overrides=overrides, distribution="mirrored", verbose=0)
    assert run.metrics["test"]["examples"] == 360
    assert "distribution: one device" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "backend", "wanted", "other"),
    [
        ("data_parallel", "tensorflow", "jax", "mirrored"),
        ("mirrored", "jax", "tensorflow", "data_parallel"),
        ("mirrored", "torch", "tensorflow", ""),
    ],
)
def test_another_backend_is_refused(monkeypatch, kind, backend, wanted, other):
    monkeypatch.setattr(keras.config, "backend", lambda: backend)
    with pytest.raises(ValueError, match=f"Allowed is the backend '{wanted}'") as caught:
        getattr(devices, kind).__wrapped__()
    assert (f"distribution.kind={other!r}" in str(caught.value)) is bool(other)
