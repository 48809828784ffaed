import numpy as np
import pytest

from keras_resnet.blocks import SqueezeExcite
from tests import harness


def test_it_scales_channels_by_the_gate_of_their_means():
    images = harness.random_images(3, 5, 4, 16)
    layer = SqueezeExcite(ratio=0.5)
    layer(images)
    harness.fill(layer)
    reduce, reduce_bias, expand, expand_bias = layer.get_weights()
    hidden = np.maximum(images.mean(axis=(1, 2)) @ reduce + reduce_bias, 0)
    gates = 1 / (1 + np.exp(-(hidden @ expand + expand_bias)))
    expected = images * gates[:, None, None, :]
    np.testing.assert_allclose(harness.to_numpy(layer(images)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "hidden"), [(64, 8), (256, 16), (512, 32), (2048, 128), (16, 8)])
def test_the_hidden_width_is_that_of_published_weights(channels, hidden):
    layer = SqueezeExcite()
    layer.build((None, 4, 4, channels))
    assert layer.reduce.units == hidden


def test_large_maps_do_not_overflow_in_float16():
    images = np.full((1, 300, 300, 4), 3.0, "float16")  # their sum, 270,000, is beyond float16
    outputs = harness.to_numpy(SqueezeExcite(dtype="mixed_float16")(images))
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize("ratio", [0, 2, "half", True])
def test_a_ratio_beyond_0_to_1_is_refused(ratio):
    with pytest.raises((TypeError, ValueError), match=r"ratio must be a number in \(0, 1\]"):
        SqueezeExcite(ratio)
