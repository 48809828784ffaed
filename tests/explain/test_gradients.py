"""What the maps are made of, on every backend."""

import keras
import numpy as np
import pytest

from keras_resnet import ResNet18, explain
from keras_resnet.explain.methods import METHODS, class_gradients, cut, resize_maps


@pytest.fixture(autouse=True)
def _seeded():
    """First weights are the same in every run: differences across a ReLU's kink depend on them."""
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("version", ["v1.5", "v2"])
def test_a_network_cut_in_two_is_the_network(version):
    model = ResNet18(input_shape=(16, 16, 1), stem="small", width=4, classes=3, version=version)
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype("float32")
    before, behind = cut(model, "stage4")
    whole = keras.ops.convert_to_numpy(model(images, training=False))
    assert np.allclose(keras.ops.convert_to_numpy(behind(before(images))), whole, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    model = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=3, classifier_activation=None)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 8, 8, 1)).astype("float32")
    _, found = class_gradients(model, images, np.array([2]))
    step, gradients, expected = 1e-2, [], []
    for direction in rng.normal(size=(16, *images.shape)).astype("float32"):
        moved = np.concatenate([images + step * direction, images - step * direction])
        ends = keras.ops.convert_to_numpy(model(moved, training=False))[:, 2]
        expected.append((ends[0] - ends[1]) / (2 * step))
        gradients.append((found * direction).sum())
    # One direction may cross the kink of a ReLU; sixteen together leave no doubt.
    assert np.corrcoef(gradients, expected)[0, 1] > 0.98
    assert 0.9 < np.std(gradients) / np.std(expected) < 1.1


def test_integrated_gradients_sum_to_the_difference_of_the_outputs():
    # Their axiom of completeness (Sundararajan et al. 2017), without the absolute values of the map.
    model = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=3, classifier_activation=None)
    images = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    steps = 64
    gradients = [class_gradients(model, images * ((k + 0.5) / steps), np.array([1]))[1] for k in range(steps)]
    total = float((images * np.mean(gradients, axis=0)).sum())
    ends = keras.ops.convert_to_numpy(model(np.concatenate([images, 0 * images]), training=False))[:, 1]
    assert np.isclose(total, ends[0] - ends[1], rtol=0.05, atol=1e-3)


def test_resizing_keeps_constants_and_the_middle():
    assert np.allclose(resize_maps(np.full((1, 3, 4), 0.5, "float32"), (9, 8)), 0.5)
    heat = np.zeros((1, 4, 4), "float32")
    heat[0, 1, 2] = 1
    peak = np.unravel_index(resize_maps(heat, (16, 16)).argmax(), (1, 16, 16))
    assert 4 <= peak[1] < 8 and 8 <= peak[2] < 12


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_on_every_backend(method):
    model = ResNet18(input_shape=(16, 16, 1), stem="small", width=4, classes=3)
    images = np.random.default_rng(0).normal(size=(1, 16, 16, 1)).astype("float32")
    found = explain.explain(model, images, method=method, stage="stage3")
    assert found.maps.shape == (1, 16, 16) and np.isfinite(found.maps).all() and found.maps.max() <= 1
