import keras
import numpy as np
import pytest

from keras_resnet import preprocessing
from keras_resnet.preprocessing import BatchTransforms, transform_in_step


def network(model_class=keras.Model):
    """Returns zeros whatever it is given: a loss then shows the labels alone."""
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(1, kernel_initializer="zeros")(keras.layers.GlobalAveragePooling2D()(inputs))
    return transform_in_step(model_class)(inputs, outputs)


class Losses(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(logs["loss"]))


def trained(model, epochs=1):
    model.compile(keras.optimizers.SGD(0.0), "mean_squared_error")
    losses = Losses()
    images, labels = np.zeros((6, 4, 4, 1), "float32"), np.zeros((6, 1), "float32")
    model.fit(images, labels, batch_size=6, epochs=epochs, shuffle=False, verbose=0, callbacks=[losses])
    return losses.values


def test_each_step_makes_the_changes_of_its_number():
    seen = BatchTransforms(
        {"labels": lambda images, labels, seed: (images, labels + keras.ops.cast(seed[1], "float32"))}, 0
    )
    model = network()
    model.transforms = seen
    assert trained(model, epochs=4) == pytest.approx([0, 1, 4, 9])
    assert int(model.next_step) == 4
    assert trained(model) == pytest.approx([16])  # a second fit goes on


def test_what_is_changed_is_what_the_pipeline_would_have_made():
    flip = preprocessing.augmentation(noise=3.0)
    changes = BatchTransforms({"noise": lambda images, labels, seed: (flip.apply(images, seed), labels)}, seed=5)
    images = np.zeros((6, 4, 4, 1), "float32")
    one, again, other = (keras.ops.convert_to_numpy(changes(step, images, None)[0]) for step in (3, 3, 4))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    model = network()

    def check(images, labels, seed):
        noisy = flip.apply(images, seed)
        return noisy, labels + keras.ops.mean(keras.ops.abs(noisy))

    model.transforms = BatchTransforms({"noise": check}, seed=5)
    expected = [np.abs(keras.ops.convert_to_numpy(changes(step, images, None)[0])).mean() ** 2 for step in range(3)]
    assert trained(model, epochs=3) == pytest.approx(expected, rel=1e-4)


def test_steps_beyond_the_range_of_int32_and_streams_by_name():
    shown = BatchTransforms(
        {name: lambda images, labels, seed: (images, [*labels, seed]) for name in ("one", "two")}, seed=1
    )
    _, seeds = shown(3, None, [])
    first, second = (keras.ops.convert_to_numpy(seed).tolist() for seed in seeds)
    assert first[0] != second[0] and first[1] == second[1] == 3
    assert (
        BatchTransforms({"one": None}, seed=1).streams["one"] != BatchTransforms({"one": None}, seed=2).streams["one"]
    )


def test_a_training_step_of_ones_own_still_runs():
    steps = []

    class Own(keras.Model):
        def train_step(self, *arguments):
            steps.append(1)
            return super().train_step(*arguments)

    model = network(Own)
    assert isinstance(model, Own) and transform_in_step(Own) is type(model)
    trained(model)
    assert steps
