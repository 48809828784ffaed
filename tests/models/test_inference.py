import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, models
from keras_resnet.blocks import Convolution
from tests import harness

SMALL = {"stem": "small", "width": 4, "classes": 5}


def made(shape=(8, 8, 3), **arguments):
    model = ResNet18(input_shape=shape, **{**SMALL, **arguments})
    harness.fill(model)
    return model


def predicted(model, examples):
    return harness.to_numpy(model(examples, training=False))


@pytest.mark.parametrize("shape", [(16, 2), (8, 8, 3), (8, 8, 8, 1)], ids=len)
def test_the_function_gives_what_the_model_gives_for_any_batch_size(shape):
    model = made(shape)
    infer = models.inference_function(model)
    for count in (1, 3):
        examples = harness.random_images(count, *shape)
        assert np.allclose(harness.to_numpy(infer(examples)), predicted(model, examples), atol=1e-6)


def test_it_takes_bytes_and_sizes_that_were_left_open():
    model = made((None, None, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 10, 3), "uint8")
    found = models.inference_function(model)(images)
    assert np.allclose(harness.to_numpy(found), predicted(model, images.astype("float32")), atol=1e-6)


def test_a_model_of_one_batch_size_takes_others():
    model = made(input_tensor=keras.Input(batch_shape=(2, 8, 8, 3)), shape=None)
    images = harness.random_images(2, 8, 8, 3)
    infer = models.inference_function(model)
    assert np.allclose(harness.to_numpy(infer(images[:1])), predicted(model, images)[:1], atol=1e-6)


def test_it_keeps_several_outputs_in_their_order():
    maps = keras_resnet.features(made(), ("stage2", "stage5"))
    images = harness.random_images(2, 8, 8, 3)
    found, expected = models.inference_function(maps)(images), maps(images, training=False)
    assert type(found) is type(expected) and len(found) == 2
    for one, other in zip(found, expected, strict=True):
        assert np.allclose(harness.to_numpy(one), harness.to_numpy(other), atol=1e-5)


def test_what_is_trained_later_does_not_reach_it():
    model, images = made(), harness.random_images(2, 8, 8, 3)
    infer, before = models.inference_function(model), predicted(model, harness.random_images(2, 8, 8, 3))
    kernel = next(layer for layer in harness.sublayers(model) if isinstance(layer, Convolution)).kernel
    kernel.assign(np.zeros(kernel.shape))
    assert np.allclose(harness.to_numpy(infer(images)), before, atol=1e-6)
    assert not np.allclose(predicted(model, images), before, atol=1e-6)


def test_a_folded_model_of_sixteen_bits_gives_the_same_outputs():
    fused = keras_resnet.fuse(made(dtype="mixed_bfloat16"))
    images = harness.random_images(2, 8, 8, 3)
    found = harness.to_numpy(models.inference_function(fused)(images))
    assert found.dtype == "float32"
    assert np.allclose(found, predicted(fused, images), atol=5e-2)  # eager steps round in between


def test_other_shapes_and_things_that_are_no_model_are_refused():
    infer = models.inference_function(made())
    with pytest.raises(ValueError, match=r"shape \(2, 8, 9, 3\). Allowed is \(None, 8, 8, 3\)"):
        infer(np.zeros((2, 8, 9, 3), "float32"))
    with pytest.raises(ValueError, match=r"shape \(8, 8, 3\)"):
        infer(np.zeros((8, 8, 3), "float32"))
    with pytest.raises(TypeError, match="got dict"):
        models.inference_function({})
    with pytest.raises(ValueError, match="0 known inputs"):
        models.inference_function(keras.Sequential([keras.layers.Dense(2)]))


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="the graph is TensorFlow's")
def test_no_variable_is_read_in_a_call(tmp_path):
    infer, images = models.inference_function(made()), harness.random_images(2, 8, 8, 3)
    kinds = harness.operations_of(lambda: infer(images), tmp_path)
    assert kinds and not [kind for kind in kinds if "Variable" in kind]
