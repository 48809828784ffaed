import keras
import numpy as np
import pytest

from keras_resnet.blocks import BottleneckBlock, IdentityBlock
from tests import harness

BLOCKS = [IdentityBlock, BottleneckBlock]
VERSIONS = ["v1", "v1.5", "v2"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cls", BLOCKS)
def test_the_shortcut_is_the_identity_where_shapes_agree_and_a_projection_where_they_do_not(cls, version):
    keeps, widens, steps = cls(4, version=version), cls(4, version=version), cls(4, strides=2, version=version)
    channels = keeps.output_filters
    keeps.build((None, 8, 8, channels))
    widens.build((None, 8, 8, channels + 1))
    steps.build((None, 8, 8, channels))
    assert keeps.shortcut is None
    assert widens.shortcut is not None
    assert steps.shortcut is not None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cls", BLOCKS)
def test_a_zero_initialised_block_starts_as_its_shortcut(cls, version):
    block = cls(4, version=version)
    images = harness.random_images(2, 6, 6, block.output_filters)
    expected = images if version == "v2" else np.maximum(images, 0)
    np.testing.assert_allclose(harness.to_numpy(block(images)), expected, atol=1e-6)
    lively = cls(4, version=version, zero_init_residual=False)
    assert np.abs(harness.to_numpy(lively(images)) - expected).max() > 0.01


@pytest.mark.parametrize("version", ["v1", "v1.5"])
def test_a_bottleneck_steps_where_its_version_says(version):
    block = BottleneckBlock(4, strides=2, version=version)
    block.build((None, 8, 8, 4))
    assert [conv.strides for conv in block.convolutions] == ([2, 1, 1] if version == "v1" else [1, 2, 1])


@pytest.mark.parametrize(
    ("version", "cls", "branch_biases", "shortcut_bias"),
    [
        ("v1", BottleneckBlock, [True, True, True], True),
        ("v1.5", BottleneckBlock, [False, False, False], False),
        ("v2", BottleneckBlock, [False, False, True], True),
        ("v2", IdentityBlock, [False, True], True),
    ],
)
def test_biases_stand_where_the_version_says(version, cls, branch_biases, shortcut_bias):
    block = cls(4, strides=2, version=version)
    block.build((None, 8, 8, 4))
    assert [conv.use_bias for conv in block.convolutions] == branch_biases
    assert block.shortcut.conv.use_bias is shortcut_bias


def composed_bottleneck(block, images):
    """The bottleneck of v1.5 written out in Keras's own layers, with the weights of `block`."""

    def convolve(x, ours, strides, size):
        x = keras.layers.ZeroPadding2D(size // 2)(x)
        layer = keras.layers.Conv2D(ours.filters, size, strides=strides, use_bias=False)
        layer.build(x.shape)
        layer.set_weights(ours.get_weights())
        return layer(x)

    def normalize(x, ours):
        layer = keras.layers.BatchNormalization(epsilon=1e-5)
        layer.build(x.shape)
        layer.set_weights(ours.get_weights())
        return layer(x, training=False)

    x = keras.ops.relu(normalize(convolve(images, block.conv1, 1, 1), block.norm1))
    x = keras.ops.relu(normalize(convolve(x, block.conv2, 2, 3), block.norm2))
    x = normalize(convolve(x, block.conv3, 1, 1), block.norm3)
    shortcut = normalize(convolve(images, block.shortcut.conv, 2, 1), block.shortcut.norm)
    return keras.ops.relu(x + shortcut)


@pytest.mark.parametrize("size", [8, 9])
def test_a_bottleneck_is_what_its_layers_written_out_compute(size):
    images = harness.random_images(2, size, size, 6)
    block = BottleneckBlock(4, strides=2)
    block(images)
    harness.fill(block)
    expected = harness.to_numpy(composed_bottleneck(block, images))
    np.testing.assert_allclose(harness.to_numpy(block(images)), expected, rtol=1e-4, atol=1e-5)


def test_drop_path_drops_whole_samples_and_scales_the_rest():
    rate = 0.25
    block = IdentityBlock(3, version="v2", drop_path_rate=rate, zero_init_residual=False, seed=1)
    images = harness.random_images(4000, 1, 1, 3)
    full = harness.to_numpy(block(images, training=False)) - images
    # Inference statistics in training mode, so that only the drop path differs.
    for norm in block.norms:
        norm.trainable = False
    dropped = harness.to_numpy(block(images, training=True)) - images
    lively = np.abs(full).max(axis=(1, 2, 3)) > 1e-3  # a branch that is zero anyway tells nothing
    full, dropped = full[lively], dropped[lively]
    kept = np.abs(dropped).max(axis=(1, 2, 3)) > 1e-6
    np.testing.assert_allclose(dropped[kept], full[kept] / (1 - rate), rtol=1e-3, atol=1e-5)
    # The share kept lies within 4 standard deviations of 1 - rate.
    assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / len(kept)) ** 0.5


def test_drop_path_does_nothing_in_inference():
    block = IdentityBlock(3, drop_path_rate=0.9, zero_init_residual=False)
    images = harness.random_images(8, 4, 4, 3)
    first, second = (harness.to_numpy(block(images, training=False)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_seed_makes_drop_path_repeat():
    images = harness.random_images(16, 4, 4, 3)
    outputs = []
    for _ in range(2):
        block = IdentityBlock(3, version="v2", drop_path_rate=0.5, seed=5)
        block(images)
        harness.fill(block)
        outputs.append(harness.to_numpy(block(images, training=True)))
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)


def test_subsampling_keeps_every_second_pixel():
    block = IdentityBlock(3, strides=2, version="v2", shortcut="subsample")
    images = harness.random_images(2, 7, 7, 3)
    np.testing.assert_allclose(harness.to_numpy(block(images)), images[:, ::2, ::2], atol=1e-6)


def test_subsampling_to_other_channels_is_refused():
    with pytest.raises(ValueError, match="kind='subsample' received 4 channels for filters=3.*'conv' or 'pool'"):
        IdentityBlock(3, strides=2, shortcut="subsample")(harness.random_images(1, 8, 8, 4))


def test_the_pooled_shortcut_averages_before_it_projects():
    images = harness.random_images(2, 8, 8, 3)
    block = IdentityBlock(5, strides=2, version="v2", shortcut="pool")
    block(images)
    harness.fill(block)
    # The branch is silenced, so that the output is the shortcut of the pre-activated input.
    block.conv2.kernel.assign(np.zeros(block.conv2.kernel.shape))
    block.conv2.bias.assign(np.zeros(5))
    preactivated = np.maximum(harness.to_numpy(block.norm1(images, training=False)), 0)
    means = preactivated.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    kernel, bias = (harness.to_numpy(weight) for weight in (block.shortcut.conv.kernel, block.shortcut.conv.bias))
    np.testing.assert_allclose(harness.to_numpy(block(images)), means @ kernel[0, 0] + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", BLOCKS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": -64}, "filters must be an int >= 1, got -64"),
        ({"filters": 2.5}, "filters must be an int >= 1, got 2.5"),
        ({"filters": 4, "strides": 0}, "strides must be an int >= 1, got 0"),
        ({"filters": 4, "version": "v3"}, "version='v3' is not known.*Use one of: 'v1', 'v1.5', 'v2'"),
        ({"filters": 4, "shortcut": "cnv"}, "shortcut='cnv' is not known. Did you mean 'conv'"),
        ({"filters": 4, "attention": "sse"}, "attention='sse' is not known. Did you mean 'se'"),
        ({"filters": 4, "drop_path_rate": 1.0}, r"drop_path_rate must be a number in \[0, 1\), got 1.0"),
        ({"filters": 4, "drop_path_rate": float("nan")}, r"drop_path_rate must be a number in \[0, 1\), got nan"),
        ({"filters": 4, "zero_init_residual": 1}, "zero_init_residual must be True or False, got 1"),
        ({"filters": 4, "seed": -1}, "seed must be an int >= 0, got -1"),
    ],
)
def test_a_bad_argument_is_named(cls, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        cls(**arguments)
