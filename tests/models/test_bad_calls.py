"""Bad arguments are refused by name, before anything is built."""

import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, ResNet50
from keras_resnet.models import builder
from tests import harness
from tests.models.bad_calls import BAD_CALLS


@pytest.mark.parametrize("call", BAD_CALLS)
def test_a_bad_argument_is_refused_before_anything_is_built(call, monkeypatch):
    def build(*args, **kwargs):
        pytest.fail("a layer was built before the arguments were checked")

    monkeypatch.setattr(builder, "Stem", build)
    monkeypatch.setattr(builder.keras, "Input", build)
    arguments, message = BAD_CALLS[call]
    with pytest.raises((TypeError, ValueError), match=message):
        ResNet50(**arguments)


def test_a_class_count_in_the_place_of_include_top_is_refused():
    with pytest.raises(TypeError, match="include_top must be True or False, got 10 of type int"):
        ResNet50(10)


def test_an_unknown_variant_is_refused_with_the_closest():
    with pytest.raises(ValueError, match="variant='resnet49' is not known. Did you mean 'resnet"):
        keras_resnet.models.build("resnet49")


@pytest.fixture(scope="module")
def model():
    return ResNet18(input_shape=(32, 32, 3), width=4, classes=2)


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 32, 32, 4), (1, 16, 32, 3)], ids=["rank", "channels", "size"])
def test_a_batch_of_another_shape_is_refused_with_both_shapes(model, shape):
    with pytest.raises(ValueError, match=r"expected shape=\(None, 32, 32, 3\), found shape="):
        model(harness.random_images(*shape))


def test_bytes_are_taken_as_numbers(model):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    np.testing.assert_array_equal(harness.to_numpy(model(pixels)), harness.to_numpy(model(pixels.astype("float32"))))


def test_strings_are_refused(model):
    with pytest.raises((TypeError, ValueError, NotImplementedError)):
        model(np.array([["a"]]))


def test_not_a_number_stays_in_its_own_example(model):
    # Whether the example itself comes out as NaN is the backend's ReLU's to say: TensorFlow's on a CPU returns 0.
    images = harness.random_images(2, 32, 32, 3)
    expected = harness.to_numpy(model(images))
    images[0, 0, 0, 0] = np.nan
    np.testing.assert_allclose(harness.to_numpy(model(images))[1], expected[1], rtol=1e-5)


def test_an_empty_batch_gives_no_outputs(model):
    assert tuple(model(np.zeros((0, 32, 32, 3), "float32")).shape) == (0, 2)


def test_a_batch_of_one_trains(model):
    outputs = harness.to_numpy(model(harness.random_images(1, 32, 32, 3), training=True))
    assert np.isfinite(outputs).all()
