"""Weights of RGB pictures answer other inputs as the pictures that these stand for."""

import logging

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, preprocessing, weights
from keras_resnet.weights.adaptation import adapt_kernel, can_adapt

pytest.importorskip("safetensors.numpy")
SMALL = {"stem": "small", "width": 4}
RECORD = {"image_size": [12, 12], "class_names": ["a", "b", "c"], "task": "classification", "activation": "softmax"}
NORMALIZATION = {"scheme": "dataset", "mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0], "record": RECORD}


@pytest.fixture(scope="module")
def rgb():
    keras.utils.set_random_seed(3)
    made = ResNet18(**SMALL, classes=3, input_shape=(12, 12, 3))
    draw = np.random.default_rng(0)
    for variable in made.weights:
        low, high = (0.5, 1.5) if variable.path.endswith(("variance", "gamma")) else (-0.3, 0.3)
        variable.assign(draw.uniform(low, high, variable.shape))
    return made


@pytest.fixture(scope="module")
def file(rgb, tmp_path_factory):
    return weights.save_weights(rgb, tmp_path_factory.mktemp("w") / "net.safetensors", preprocessing=NORMALIZATION)


def outputs(model, images, layer="predictions"):
    part = keras.Model(model.input, model.get_layer(layer).output)
    return keras.ops.convert_to_numpy(part(images.astype("float32"), training=False))


def images(*shape):
    return np.random.default_rng(1).normal(size=shape)


def test_grey_pictures_are_answered_as_pictures_of_equal_channels(rgb, file):
    gray = ResNet18(weights=file, adapt_weights=True, input_shape=(12, 12, 1))
    pictures = images(4, 12, 12, 1)
    assert np.allclose(outputs(gray, pictures), outputs(rgb, np.repeat(pictures, 3, axis=-1)), atol=1e-5)


def test_six_channels_are_answered_as_the_three_that_they_repeat(rgb, file):
    six = ResNet18(weights=file, adapt_weights=True, input_shape=(12, 12, 6))
    pictures = images(4, 12, 12, 3)
    assert np.allclose(outputs(six, np.concatenate([pictures] * 2, axis=-1)), outputs(rgb, pictures), atol=1e-5)


def test_weights_that_take_bgr_keep_their_colors_with_further_channels(rgb, tmp_path):
    file = weights.save_weights(rgb, tmp_path / "bgr.safetensors", preprocessing={"scheme": "caffe", "record": RECORD})
    six = ResNet18(weights=file, adapt_weights=True, input_shape=(12, 12, 6))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3))
    twice = np.concatenate([pixels] * 2, axis=-1).astype("float32")
    expected = keras.applications.resnet.preprocess_input(pixels.astype("float32"))
    normalized = keras.ops.convert_to_numpy(keras_resnet.preprocess_input(twice, six))
    got, wanted = outputs(six, normalized, "stage2_block2"), outputs(rgb, expected, "stage2_block2")
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_volume_of_equal_slices_is_answered_as_the_slice(rgb, file):
    # Away from the zeros that are put around volumes: eleven slices are seen by a point of stage 2.
    volume = ResNet18(weights=file, adapt_weights=True, input_shape=(16, 12, 12, 3))
    pictures = images(2, 12, 12, 3)
    got = outputs(volume, np.repeat(pictures[:, None], 16, axis=1), "stage2_block2")
    assert np.allclose(got[:, 8], outputs(rgb, pictures, "stage2_block2"), atol=1e-4)


def test_a_signal_is_answered_as_a_picture_of_equal_rows(file):
    line = ResNet18(weights=file, adapt_weights=True, input_shape=(16, 3))
    square = ResNet18(weights=file, input_shape=(16, 16, 3))
    signals = images(2, 16, 3)
    got = outputs(square, np.repeat(signals[:, None], 16, axis=1), "stage2_block2")
    assert np.allclose(got[:, 8], outputs(line, signals, "stage2_block2"), atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "kinds"), [((12, 12, 1), "pictures of 1"), ((32, 3), "signals of 3"), ((8, 8, 8, 1), "volumes of 1")]
)
def test_nothing_is_adapted_unasked(file, shape, kinds):
    with pytest.raises(ValueError, match=f"the network takes {kinds}. They can be adapted: pass adapt_weights=True"):
        ResNet18(weights=file, input_shape=shape)


def test_it_needs_weights():
    with pytest.raises(ValueError, match="adapt_weights=True was given without weights"):
        ResNet18(adapt_weights=True)


@pytest.mark.parametrize(("channels", "mean", "std"), [(1, [110.0], [60.0]), (4, [100.0, 110.0, 120.0, 100.0], None)])
def test_the_pixels_are_normalized_as_the_channels_were(file, channels, mean, std):
    model = ResNet18(weights=file, adapt_weights=True, input_shape=(12, 12, channels))
    record = preprocessing.for_model(model)
    assert list(record.normalization.mean) == mean and record.class_names == ("a", "b", "c")
    assert std is None or list(record.normalization.std) == std
    assert record.channel_order == ("grey" if channels == 1 else "any")
    signal = ResNet18(weights=file, adapt_weights=True, input_shape=(32, channels))
    assert preprocessing.for_model(signal).normalization is None  # its units are its own


def test_kernels_that_cannot_be_adapted_are_refused(file):
    assert not can_adapt((3, 3, 3, 8), (3, 3, 3, 16), is_first=True)
    assert not can_adapt((3, 3, 4, 8), (3, 3, 6, 8), is_first=False)
    assert not can_adapt((3, 3, 4, 8), (5, 5, 5, 4, 8), is_first=False)
    assert np.allclose(adapt_kernel(np.ones((3, 3, 3, 2)), (3, 3, 3, 1, 2)), 1.0)


def test_the_audit_and_the_head(file, caplog):
    with caplog.at_level(logging.WARNING):
        ResNet18(weights=file, adapt_weights=True, input_shape=(12, 12, 1), classes=7)
    assert "the head 'predictions' is new" in caplog.text
