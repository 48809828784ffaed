import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, ResNet50
from tests import harness


@pytest.fixture(scope="module")
def model():
    return ResNet50(input_shape=(64, 96, 3), width=8, classes=5)


def test_stages_stand_at_strides_4_to_32(model):
    maps = keras_resnet.features(model)(harness.random_images(2, 64, 96, 3))
    assert [tuple(each.shape) for each in maps] == [(2, 16, 24, 32), (2, 8, 12, 64), (2, 4, 6, 128), (2, 2, 3, 256)]


def test_the_stem_is_stage_1(model):
    (stem,) = keras_resnet.features(model, ("stage1",)).outputs
    assert stem.shape == (None, 16, 24, 8)


def test_features_share_the_weights_of_the_model(model):
    features = keras_resnet.features(model, ("stage2", "stage5"))
    images = harness.random_images(1, 64, 96, 3)
    before = harness.to_numpy(features(images)[1])
    kernel = model.get_layer("stem").conv1.kernel
    kernel.assign(harness.to_numpy(kernel) * 2 + 1)
    assert np.abs(harness.to_numpy(features(images)[1]) - before).max() > 1e-6


def test_features_of_a_model_on_an_input_tensor_start_at_its_input():
    image = keras.Input((32, 32, 3))
    model = ResNet18(input_tensor=keras.layers.Rescaling(1 / 255)(image), width=4, classes=2)
    assert keras_resnet.features(model, ("stage3",)).layers[1].name.startswith("rescaling")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (("stage6",), "stages holds 'stage6', which model .* does not have. Did you mean"),
        ((5,), "stages holds 5"),
        (("stage3", "stage2"), r"out of order or names a stage twice.*Pass \('stage2', 'stage3'\)"),
        (("stage3", "stage3"), r"out of order or names a stage twice.*Pass \('stage3',\)"),
        ((), "stages must be a sequence of names"),
        ("stage3", "stages must be a sequence of names, got 'stage3'"),
    ],
)
def test_bad_stages_are_refused(model, stages, message):
    with pytest.raises((TypeError, ValueError), match=message):
        keras_resnet.features(model, stages)


def test_a_model_without_stages_is_refused():
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="holds no layer of keras_resnet"):
        keras_resnet.features(plain)
    with pytest.raises(TypeError, match="model must be a Keras model, got str"):
        keras_resnet.features("resnet50")


@pytest.mark.parametrize("arguments", [{}, {"stem": "small"}, {"version": "v2-keras"}, {"stem": "deep_strided"}])
def test_the_strides_and_channels_of_the_stages_are_those_of_their_outputs(arguments):
    model = keras_resnet.ResNet50(include_top=False, input_shape=(64, 64, 3), width=8, **arguments)
    rows = keras_resnet.feature_info(model)
    outputs = keras_resnet.features(model, [row["name"] for row in rows]).outputs
    assert [(64 // row["stride"], row["channels"]) for row in rows] == [
        (out.shape[1], out.shape[-1]) for out in outputs
    ]
    assert len(keras_resnet.features(model).outputs) == 4


def test_a_network_of_three_stages_gives_three_feature_maps():
    model = keras_resnet.ResNet20(include_top=False, input_shape=(32, 32, 3))
    assert [output.shape[1:] for output in keras_resnet.features(model).outputs] == [
        (32, 32, 16),
        (16, 16, 32),
        (8, 8, 64),
    ]
    assert keras_resnet.feature_info(model)[-1] == {"name": "stage4", "channels": 64, "stride": 4}
