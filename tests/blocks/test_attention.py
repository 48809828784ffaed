import numpy as np
import pytest

from keras_resnet.blocks import EfficientChannelAttention, SqueezeExcite
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


def test_a_channel_is_scaled_by_the_gate_of_its_neighbors_means():
    images = harness.random_images(3, 5, 4, 16)
    layer = EfficientChannelAttention()
    layer(images)
    (kernel,) = layer.get_weights()
    assert kernel.shape == (3, 1, 1)
    padded = np.pad(images.mean(axis=(1, 2)), ((0, 0), (1, 1)))
    scores = sum(padded[:, place : place + 16] * kernel[place, 0, 0] for place in range(3))
    expected = images / (1 + np.exp(-scores))[:, None, None, :]
    np.testing.assert_allclose(harness.to_numpy(layer(images)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "size"), [(16, 3), (64, 3), (256, 5), (512, 5), (2048, 7)])
def test_the_neighbors_grow_with_the_logarithm_of_the_channels(channels, size):
    """Sizes of timm 1.0.31's ecaresnet50d; Wang et al. 2020, equation 9, with gamma 2 and b 1."""
    layer = EfficientChannelAttention()
    layer.build((None, 4, 4, channels))
    assert layer.conv.kernel_size == (size,)


def test_an_even_number_of_neighbors_is_refused():
    with pytest.raises(ValueError, match="kernel_size=4 is even"):
        EfficientChannelAttention(4)
