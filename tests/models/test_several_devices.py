"""Keras's own ways to several devices of one machine: MirroredStrategy on TensorFlow, DataParallel on JAX.

Both are tried on two devices made of one processor, in a process of their own, beside the same training on one.
"""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

BACKEND = keras.config.backend()
SCRIPT = """
import contextlib, json, sys
import keras, numpy as np

count = int(sys.argv[1])
scope = contextlib.nullcontext()
if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    cpu, = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    if count > 1:
        scope = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)]).scope()
elif count > 1:
    devices = keras.distribution.list_devices()
    assert len(devices) == count, devices
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))

from keras_resnet import ResNet18

keras.utils.set_random_seed(0)
images = np.random.default_rng(0).normal(size=(64, 16, 16, 3)).astype("float32")
labels = np.arange(64) % 4
with scope:
    shape = (16, 16, 3)
    model = ResNet18(input_shape=shape, classes=4, width=8, stem="small", classifier_activation=None)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            # On JAX statistics are those of the whole batch in any case.
            layer.synchronized = keras.config.backend() == "tensorflow"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"])

class Losses(keras.callbacks.Callback):
    found = []
    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(logs["loss"]))

model.fit(images, labels, batch_size=16, epochs=5, shuffle=False, verbose=0, callbacks=[Losses()])
size = float(sum(np.abs(np.asarray(weight, "float64")).sum() for weight in model.get_weights()))
print(json.dumps({"losses": Losses.found, "weights": size}))
"""


def trained_on(devices):
    environment = {**os.environ, "KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(devices)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.exhaustive
@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no distribution on PyTorch")
def test_two_devices_train_as_one_does():
    one, two = trained_on(1), trained_on(2)
    assert len(one["losses"]) == 20 and one["losses"][-1] < one["losses"][0]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-4)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)
