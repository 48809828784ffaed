"""Networks that round to 8 bits, against integer arithmetic written out in NumPy."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import models
from keras_resnet.blocks import FakeQuantization
from keras_resnet.blocks.quantization import round_weights
from keras_resnet.blocks.residual import ResidualBlock
from tests import harness

SHAPE = (16, 16, 3)


def network(name="resnet8", shape=SHAPE, **options):
    keras.utils.set_random_seed(0)
    options = {"stem": "small", "width": 8, "classes": 5, "classifier_activation": None, **options}
    model = models.build(name, input_shape=shape, zero_init_residual=False, **options)
    harness.fill(model)
    return model


def images(count=8, shape=SHAPE):
    return np.random.default_rng(3).normal(size=(count, *shape)).astype("float32")


def levels(values, layer):
    """The integers that stand for values in the range of a layer, 0 for 0."""
    scale, zero = scale_of(layer), np.rint(-float(layer.low) / scale_of(layer))
    return np.clip(np.floor(values / scale + 0.5), -zero, 255 - zero)


def scale_of(layer):
    return (float(layer.high) - float(layer.low)) / 255


def convolve(integers, layer, inputs):
    """The values of a convolution of integers by integers, with a bias of integers."""
    kernel = harness.to_numpy(layer.kernel).astype("float64")
    scale = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    step = scale * scale_of(inputs)
    half = kernel.shape[0] // 2
    padded = np.pad(integers, [(0, 0), (half, half), (half, half), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    windows = windows[:, :: layer.strides, :: layer.strides]
    sums = np.einsum("nhwcij,ijco->nhwo", windows, np.rint(kernel / scale))
    assert np.abs(sums).max() < 2**31
    return (sums + np.rint(harness.to_numpy(layer.bias) / step)) * step


def relu(values):
    return np.maximum(values, 0)


def integer_answers(model, pictures):
    """The logits of a network of identity blocks, by integers alone between the roundings."""
    stem = model.get_layer("stem")
    x = relu(convolve(levels(pictures, stem.ranges["input"]), stem.convolutions[0], stem.ranges["input"]))
    for block in (layer for layer in model.layers if isinstance(layer, ResidualBlock)):
        ranges = block.ranges
        x = levels(x, ranges["input"])
        branch = levels(relu(convolve(x, block.convolutions[0], ranges["input"])), ranges["conv1"])
        branch = levels(convolve(branch, block.convolutions[1], ranges["conv1"]), ranges["conv2"])
        if block.shortcut and block.shortcut.conv:
            identity = levels(convolve(x, block.shortcut.conv, ranges["input"]), block.shortcut.range)
            identity = identity * scale_of(block.shortcut.range)
        else:
            identity = x[:, :: block.strides, :: block.strides] * scale_of(ranges["input"])
            identity = np.pad(identity, [(0, 0)] * 3 + [(0, branch.shape[-1] - identity.shape[-1])])
        x = relu(identity + branch * scale_of(ranges["conv2"]))
    pooled = levels(x, model.get_layer("head_pool_range")) * scale_of(model.get_layer("head_pool_range"))
    head = model.get_layer("predictions")
    pooled = levels(pooled.mean(axis=(1, 2)), head.input_range)
    kernel = harness.to_numpy(head.kernel).astype("float64")
    scale = np.abs(kernel).max() / 127
    step = scale * scale_of(head.input_range)
    logits = (pooled @ np.rint(kernel / scale) + np.rint(harness.to_numpy(head.bias) / step)) * step
    return levels(logits, head.output_range) * scale_of(head.output_range)


@pytest.mark.parametrize("shortcut", ["conv", "pad"])
def test_a_network_answers_as_integers_do(shortcut):
    pictures = images()
    model = models.quantize(network(shortcut=shortcut), [pictures])
    outputs = harness.to_numpy(model(pictures, training=False))
    step = scale_of(model.get_layer("predictions").output_range)
    assert (np.abs(outputs - integer_answers(model, pictures)) < 1.5 * step).mean() > 0.99
    assert len(np.unique(np.rint(outputs / step))) > 20


def test_it_answers_nearly_as_the_network_that_it_was_made_of():
    model, pictures = network("resnet18"), images()
    before = [harness.to_numpy(weight).copy() for weight in model.weights]
    rounded = models.quantize(model, [pictures])
    expected, outputs = (harness.to_numpy(each(pictures, training=False)) for each in (model, rounded))
    errors = np.abs(outputs - expected)
    assert 0 < errors.max() < 0.1 * (expected.max() - expected.min())
    for weight, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(harness.to_numpy(weight), values)
    assert [layer.name for layer in rounded.layers if layer.name != "head_pool_range"] == [
        layer.name for layer in model.layers
    ]
    assert models.is_quantized(rounded) and not models.is_quantized(model)


def test_a_range_is_the_moving_average_of_the_ends():
    layer = FakeQuantization()
    layer.build((4,))
    assert np.isnan(harness.to_numpy(layer(np.ones(4, "float32"), training=False))).all()
    layer(np.array([-1, 0, 3, 2], "float32"), training=True)
    assert (float(layer.low), float(layer.high)) == (-1.0, 3.0)
    layer(np.array([1, 5, 2, 3], "float32"), training=True)  # a range holds 0
    assert float(layer.low) == pytest.approx(-0.99, abs=1e-6)
    assert float(layer.high) == pytest.approx(0.99 * 3 + 0.01 * 5, abs=1e-6)
    layer(np.array([9, 9, 9, 9], "float32"), training=False)
    layer.trainable = False
    layer(np.array([9, 9, 9, 9], "float32"), training=True)
    assert float(layer.high) == pytest.approx(0.99 * 3 + 0.01 * 5, abs=1e-6)


def test_ranges_are_means_over_the_batches():
    model = network()
    batches = [images(4) * scale for scale in (1, 2, 3)]
    rounded = models.quantize(model, batches)
    layer = rounded.get_layer("stem").ranges["input"]
    assert float(layer.low) == pytest.approx(np.mean([batch.min() for batch in batches]), rel=1e-5)
    assert float(layer.high) == pytest.approx(np.mean([batch.max() for batch in batches]), rel=1e-5)
    assert layer.momentum == 0.99


def test_values_are_rounded_to_levels_that_hold_zero():
    layer = FakeQuantization()
    layer.build((5,))
    layer.low.assign(-1.0)
    layer.high.assign(1.55)  # 0.01 between two levels, 100 of them below 0
    outputs = harness.to_numpy(layer(np.array([0.0, 0.004, 0.0061, -1.2, 2.0], "float32")))
    np.testing.assert_allclose(outputs, [0.0, 0.0, 0.01, -1.0, 1.55], atol=1e-6)


def test_gradients_pass_inside_the_range_alone():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("its tape")
    layer = FakeQuantization()
    layer.build((3,))
    layer.low.assign(-1.0)
    layer.high.assign(1.0)
    values = tf.constant([-2.0, 0.3, 2.0])
    kernel, bias = tf.constant([[1.0, -3.0], [0.2, 0.5]]), tf.constant([0.3, 0.1])
    with tf.GradientTape() as tape:
        tape.watch([values, kernel, bias])
        rounded, sums = round_weights(kernel, bias, 0.01, -1)
        total = tf.reduce_sum(layer(values)) + tf.reduce_sum(rounded * [[1.0, 2.0], [3.0, 4.0]]) + 5 * sums[0]
    of_values, of_kernel, of_bias = tape.gradient(total, [values, kernel, bias])
    np.testing.assert_array_equal(of_values, [0, 1, 0])
    np.testing.assert_array_equal(of_kernel, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(of_bias, [5, 0])


def test_weights_are_rounded_as_integers_of_8_and_32_bits():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 6)).astype("float32")
    kernel[..., 5] = 0
    bias = np.linspace(-1, 1, 6).astype("float32")
    rounded, sums = (harness.to_numpy(part) for part in round_weights(kernel, bias, 0.02, -1))
    scale = np.abs(kernel).max(axis=(0, 1, 2), keepdims=True) / 127
    scale[..., 5] = 1e-6 / 127
    np.testing.assert_allclose(rounded, np.rint(kernel / scale) * scale, rtol=1e-5, atol=1e-7)
    step = scale.reshape(-1) * 0.02
    np.testing.assert_allclose(sums, np.rint(bias / step) * step, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "shape", [(32, 4), pytest.param((8, 8, 8, 2), marks=pytest.mark.slow)], ids=["signals", "volumes"]
)
def test_signals_and_volumes(shape):
    model, values = network("resnet18", shape, width=4), images(4, shape)
    rounded = models.quantize(model, [values])
    expected, outputs = (harness.to_numpy(each(values, training=False)) for each in (model, rounded))
    assert 0 < np.abs(outputs - expected).max() < 0.1 * (expected.max() - expected.min())


def test_it_is_saved_and_loaded_with_its_ranges(tmp_path):
    pictures = images()
    model = models.quantize(network("resnet18"), [pictures])
    model.save(tmp_path / "rounded.keras")
    loaded = keras.saving.load_model(tmp_path / "rounded.keras")
    expected, outputs = (harness.to_numpy(each(pictures, training=False)) for each in (model, loaded))
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"version": "v2"}, "is of version 'v2'"),
        ({"attention": "se"}, "has attention='se'"),
        ({"shortcut": "pool"}, "has shortcut='pool'"),
        ({"dtype": "mixed_bfloat16"}, "computes in bfloat16"),
        ({"name": "resnext50_32x4d", "width": 32}, "has groups=32"),
    ],
)
def test_other_networks_are_refused(options, message):
    name = options.pop("name", "resnet18")
    with pytest.raises(ValueError, match=message):
        models.quantize(network(name, **options))


def test_what_is_no_such_network_is_refused():
    with pytest.raises(TypeError, match="must be a Keras model"):
        models.quantize("resnet18")
    with pytest.raises(ValueError, match="norms folded"):
        models.quantize(models.quantize(network()))
    with pytest.raises(ValueError, match="norms folded"):
        models.quantize(keras_resnet.fuse(network()))
