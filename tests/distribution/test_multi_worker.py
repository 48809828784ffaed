"""`model.fit` in several processes on this machine: the losses and weights of one, in every process."""

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from tests.distribution.processes import ended, started  # noqa: E402

SCRIPT = """
import json, os, sys
import numpy as np
from keras_resnet import distribution
if os.environ.get("TF_CONFIG"):  # by the list, as a program may have it
    addresses = json.loads(os.environ.pop("TF_CONFIG"))["cluster"]["worker"]
else:
    addresses = ["127.0.0.1:2222"]
strategy = distribution.multi_worker(addresses, int(sys.argv[1]))
import keras, tensorflow as tf
from keras_resnet import ResNet18
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x, y = rng.uniform(0, 1, (64, 16, 16, 3)).astype("float32"), rng.integers(0, 4, 64)
with strategy.scope():
    if sys.argv[2] == "resnet18":
        model = ResNet18(input_shape=(16, 16, 3), stem="small", width=4, classes=4, classifier_activation=None)
        model.trainable = True
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False  # statistics of a part of a batch are not those of the whole
    else:
        normalized = keras.layers.BatchNormalization(synchronized=True)
        conv = keras.layers.Conv2D(4, 3)
        last = [keras.layers.Flatten(), keras.layers.Dense(4)]
        model = keras.Sequential([keras.Input((16, 16, 3)), conv, normalized, keras.layers.ReLU(), *last])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"])
data = distribution.share(tf.data.Dataset.from_tensor_slices((x, y)).batch(16).repeat())
class Losses(keras.callbacks.Callback):
    found = []
    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(logs["loss"]))
kept = Losses()
model.fit(data, steps_per_epoch=4, epochs=5, verbose=0, shuffle=False, callbacks=[kept])
weights = [np.asarray(weight).tolist() for weight in model.get_weights()]
print(json.dumps({"losses": kept.found, "weights": weights}))
"""


def train(count, network):
    with started(count, ["-c", SCRIPT], lambda index: [str(index), network]) as processes:
        answers = ended(processes)
    assert all(f"process {index + 1} of {count} at 127" in out for index, (out, _) in enumerate(answers) if count > 1)
    return [json.loads(out.splitlines()[-1]) for out, _ in answers]


@pytest.mark.exhaustive
def test_two_processes_give_the_losses_and_weights_of_one(network="synchronized"):
    (alone,) = train(1, network)
    together = train(2, network)
    assert len(alone["losses"]) == 20 and alone["losses"][-1] < alone["losses"][0]
    for found in together:
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        for one, other in zip(alone["weights"], found["weights"], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert together[0]["weights"] == together[1]["weights"]  # to the bit
