import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18


@pytest.fixture
def model():
    return ResNet18(input_shape=(32, 32, 3), stem="small", width=4, classes=5)


def norms(model):
    return {
        layer.path: (keras.ops.convert_to_numpy(layer.moving_mean).copy(), layer.trainable)
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    }


def test_a_frozen_stage_keeps_weights_and_moving_averages_through_training(model):
    keras_resnet.freeze(model, until="stage4")
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = {weight.path: keras.ops.convert_to_numpy(weight).copy() for weight in model.weights}
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
    model.fit(images, np.arange(8) % 5, batch_size=8, epochs=1, verbose=0)
    changed = {
        path.split("_block")[0].split("/")[0]
        for path, value in ((weight.path, keras.ops.convert_to_numpy(weight)) for weight in model.weights)
        if not np.array_equal(value, before[path])
    }
    assert changed == {"stage5", "predictions"}


def test_freezing_reaches_the_norms_inside_the_blocks(model):
    keras_resnet.freeze(model, until="stage3")
    trained = {path.split("_block")[0].split("/")[0] for path, (_, trainable) in norms(model).items() if trainable}
    assert trained == {"stage4", "stage5"}


def test_a_frozen_norm_uses_its_averages_in_training(model):
    keras_resnet.freeze(model)
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32") * 9
    frozen = keras.ops.convert_to_numpy(model(images, training=True))
    assert np.array_equal(frozen, keras.ops.convert_to_numpy(model(images, training=False)))


def test_unfreezing_from_a_stage_leaves_what_stands_before_it(model):
    keras_resnet.freeze(model, until="stage5")
    keras_resnet.unfreeze(model, start="stage4")
    parts = {weight.path.split("_block")[0].split("/")[0] for weight in model.trainable_weights}
    assert parts == {"stage4", "stage5", "predictions"}
    keras_resnet.unfreeze(model)
    assert len(model.trainable_weights) == len(ResNet18(input_shape=(32, 32, 3)).trainable_weights)


def test_unfreezing_a_stage_of_a_model_that_was_frozen_whole_trains_it(model):
    model.trainable = False
    keras_resnet.unfreeze(model, start="stage5")
    parts = {weight.path.split("_block")[0].split("/")[0] for weight in model.trainable_weights}
    assert parts == {"stage5", "predictions"}


def test_the_summary_shows_what_is_frozen(model):
    lines = []
    keras_resnet.freeze(model)
    model.summary(print_fn=lambda line, **_: lines.append(line))
    trained = 8 * 4 * 5 + 5
    assert any("Trainable params" in line and f" {trained} " in line for line in "\n".join(lines).splitlines())


def test_a_saved_frozen_model_is_frozen_when_it_is_loaded(model, tmp_path):
    keras_resnet.freeze(model, until="stage4")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [weight.path for weight in loaded.trainable_weights] == [weight.path for weight in model.trainable_weights]


@pytest.mark.parametrize("change", [keras_resnet.freeze, keras_resnet.unfreeze])
def test_a_mistake_is_named(model, change):
    with pytest.raises(ValueError, match="stage4"):
        change(model, "stage_4")
    with pytest.raises(TypeError, match="Keras model"):
        change("resnet18", "stage4")
    with pytest.raises(ValueError, match="holds no layer of keras_resnet"):
        change(keras.Sequential([keras.layers.Dense(2)]), "stage4")


def test_a_model_around_a_network_is_told_by_the_name_of_that_network():
    image = keras.Input((8, 8, 3))
    inner = keras_resnet.ResNet18(input_shape=(8, 8, 3), stem="small", width=4, classes=3, name="body")
    with pytest.raises(ValueError, match=r"model.get_layer\('body'\)"):
        keras_resnet.freeze(keras.Model(image, inner(image)))
    with pytest.raises(ValueError, match="Pass the network itself.$"):
        keras_resnet.freeze(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
