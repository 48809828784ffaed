"""The two functions beside keras.applications' networks, against keras.applications itself where it has an answer."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, preprocessing, weights

pytest.importorskip("safetensors.numpy")
SMALL = {"stem": "small", "width": 4, "classes": 3, "input_shape": (8, 8, 3)}


@pytest.mark.parametrize(("scheme", "module"), [("caffe", "resnet"), ("tf", "resnet_v2")])
def test_pixels_are_those_of_keras_applications(tmp_path, scheme, module):
    made = ResNet18(**SMALL)
    record = {"image_size": [8, 8]}
    path = weights.save_weights(made, tmp_path / "net.safetensors", preprocessing={"scheme": scheme, "record": record})
    model = ResNet18(weights=path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    kept = pixels.copy()
    got = keras.ops.convert_to_numpy(keras_resnet.preprocess_input(pixels, model))
    assert np.array_equal(pixels, kept)  # theirs overwrites float arrays
    theirs = getattr(keras.applications, module).preprocess_input(pixels.copy())
    assert np.allclose(got, theirs, atol=1e-4)
    image = keras.Input((8, 8, 3))
    whole = keras.Model(image, model(preprocessing.InputNormalization(scheme)(image)))
    assert keras_resnet.preprocess_input(pixels, whole) is pixels  # it normalizes them itself


def test_a_network_that_says_nothing_is_refused():
    with pytest.raises(ValueError, match="does not say how its pixels are normalized"):
        keras_resnet.preprocess_input(np.zeros((1, 8, 8, 3)), ResNet18(**SMALL))


def test_classes_of_imagenet_and_of_a_model():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(1000), 2)
    found = keras_resnet.decode_predictions(probabilities, top=3)
    for row, best in zip(probabilities, found, strict=True):
        order = np.argsort(-row)[:3]
        assert [value for *_, value in best] == pytest.approx(row[order].tolist())
        assert [key for key, *_ in best] == [weights.sources.imagenet_synsets()[index][0] for index in order]
    model = ResNet18(weights="cifar10")
    assert keras_resnet.decode_predictions(np.eye(10)[3:4], model, top=1) == [[("3", "cat", 1.0)]]
    with pytest.raises(ValueError, match="there are 1000 classes"):
        keras_resnet.decode_predictions(np.eye(10))
    nameless = ResNet18(**{**SMALL, "classes": 5})
    assert keras_resnet.decode_predictions(np.eye(5)[3:4], nameless, top=1) == [[("3", "3", 1.0)]]
