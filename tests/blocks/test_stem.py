import keras
import numpy as np
import pytest

from keras_resnet.blocks import Stem
from tests import harness


@pytest.mark.parametrize(("kind", "side"), [("conv7", 8), ("deep", 8), ("deep_strided", 8), ("small", 32)])
@pytest.mark.parametrize("version", ["v1", "v1.5", "v2"])
def test_stems_reduce_as_the_papers_say(kind, side, version):
    outputs = Stem(16, kind=kind, version=version)(harness.random_images(1, 32, 32, 3))
    assert tuple(outputs.shape) == (1, side, side, 16)


def test_the_max_pool_is_padded_on_both_sides_alike():
    images = harness.random_images(1, 20, 20, 3)
    stem = Stem(4)
    stem(images)
    harness.fill(stem)
    x = np.pad(images, [(0, 0), (3, 3), (3, 3), (0, 0)])
    x = keras.ops.conv(x, stem.conv1.kernel, strides=2, padding="valid", data_format="channels_last")
    x = np.maximum(harness.to_numpy(stem.norm1(x, training=False)), 0)
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    expected = np.stack(
        [[x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(0, 1)) for j in range(5)] for i in range(5)]
    )
    np.testing.assert_allclose(harness.to_numpy(stem(images))[0], expected, rtol=1e-4, atol=1e-5)


def test_a_preactivated_stem_pools_zeros_around_negative_values_as_keras_applications_does():
    images = -np.ones((1, 20, 20, 3), "float32")
    stem = Stem(4, version="v2", kernel_initializer=keras.initializers.Constant(1.0))
    pooled = harness.to_numpy(stem(images))[0, :, :, 0]
    convolved = keras.ops.conv(np.pad(images, [(0, 0), (3, 3), (3, 3), (0, 0)]), stem.conv1.kernel, strides=2)
    zeros = keras.layers.ZeroPadding2D(1)(convolved)  # "pool1_pad" of keras.applications
    expected = keras.ops.max_pool(zeros, 3, strides=2)
    np.testing.assert_allclose(pooled, harness.to_numpy(expected)[0, :, :, 0], rtol=1e-5)
    # The window of the corner reaches over the border, where the zero wins; the others see negative values alone.
    assert (pooled[0] == 0).all() and (pooled[:, 0] == 0).all() and (pooled[1:, 1:] < 0).all()


def test_a_preactivated_stem_ends_in_a_plain_convolution_with_a_bias():
    stem = Stem(8, kind="deep", version="v2")
    stem.build((None, 32, 32, 3))
    assert [layer.name for layer in stem.sublayers()] == ["conv1", "norm1", "conv2", "norm2", "conv3", "pool"]
    assert [conv.use_bias for conv in stem.convolutions] == [False, False, True]


def test_an_unknown_stem_is_refused_with_the_closest():
    with pytest.raises(ValueError, match="kind='conv_7' is not known. Did you mean 'conv7'"):
        Stem(8, kind="conv_7")
