"""Dilated networks: the values of the original at every pixel where it has one, and its gradients."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import models
from keras_resnet.blocks import Convolution, IdentityBlock

NETWORKS = {
    "v1.5": ("ResNet18", {}, (48, 64, 3)),
    "bottlenecks": ("ResNet50", {}, (64, 33, 3)),
    "v1": ("ResNet50", {"version": "v1"}, (40, 40, 3)),
    "v2": ("ResNet50", {"version": "v2"}, (33, 47, 3)),
    "v2-keras": ("ResNet50", {"version": "v2-keras"}, (64, 64, 3)),
    "groups": ("ResNeXt50_32x4d", {}, (64, 64, 3)),
    "small stem": ("ResNet18", {"stem": "small"}, (17, 16, 1)),
    "padded shortcuts": ("ResNet20", {}, (32, 32, 3)),
    "signals": ("ResNet18", {}, (100, 2)),
    "volumes": ("ResNet18", {"stem": "small"}, (16, 16, 17, 1)),
}


def network(name):
    """A network without a head whose norms have statistics of their own."""
    constructor, settings, shape = NETWORKS[name]
    width = {} if name in ("padded shortcuts", "groups") else {"width": 8}
    keras.utils.set_random_seed(0)
    model = getattr(keras_resnet, constructor)(include_top=False, input_shape=shape, **{**width, **settings})
    rng = np.random.default_rng(0)
    model.set_weights([value + rng.uniform(0, 0.1, value.shape).astype("float32") for value in model.get_weights()])
    return model, rng.normal(size=(2, *shape)).astype("float32")


def sampled(values, step):
    rank = values.ndim - 2
    return values[(slice(None), *[slice(None, None, step)] * rank)]


@pytest.mark.parametrize("name", NETWORKS)
def test_where_the_original_has_a_value_the_dilated_network_has_the_same(name):
    model, images = network(name)
    *_, halved, last = [row["stride"] for row in models.feature_info(model)]
    expected = model.predict_on_batch(images)
    for output_stride in (halved, halved // 2):
        dilated = models.dilate(model, output_stride)
        outputs = dilated.predict_on_batch(images)
        assert [row["stride"] for row in models.feature_info(dilated)][-1] == output_stride
        sizes = [-(-size // output_stride) for size in images.shape[1:-1]]
        assert outputs.shape == (2, *sizes, expected.shape[-1])
        got = sampled(outputs, last // output_stride)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        assert [weight.path for weight in dilated.weights] == [weight.path for weight in model.weights]


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="takes gradients by TensorFlow")
@pytest.mark.parametrize("name", ["v1.5", "signals", pytest.param("volumes", marks=pytest.mark.slow)])
def test_gradients_are_those_of_the_original(name):
    import tensorflow as tf

    model, images = network(name)
    *_, halved, last = [row["stride"] for row in models.feature_info(model)]
    dilated = models.dilate(model, halved // 2)

    def gradients(network, step):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(sampled_tensor(network(images, training=False), step) ** 2)
        return tape.gradient(loss, network.trainable_variables)

    def sampled_tensor(values, step):
        return values[(slice(None), *[slice(None, None, step)] * (len(values.shape) - 2))]

    for got, wanted in zip(gradients(dilated, 2 * last // halved), gradients(model, 1), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())


def test_a_dilated_network_is_saved_and_fused_and_trained(tmp_path):
    model, images = network("v1.5")
    dilated = models.dilate(model, 8)
    expected = dilated.predict_on_batch(images)
    dilated.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(images), expected)
    fused = keras_resnet.fuse(loaded).predict_on_batch(images)
    np.testing.assert_allclose(fused, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    pixels = keras.layers.Conv2D(2, 1)(loaded.output)
    segmenter = keras.Model(loaded.input, pixels)
    segmenter.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = segmenter.fit(images, np.zeros((2, 6, 8, 1), "int32"), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()


def test_what_cannot_be_dilated_is_refused():
    model, _ = network("small stem")
    with pytest.raises(ValueError, match=r"output_stride=3 is not a stride of model .*\[1, 2, 4, 8\]"):
        models.dilate(model, 3)
    with pytest.raises(ValueError, match="has dilated convolutions, by dilate"):
        models.dilate(models.dilate(model, 4), 2)
    pooled = keras_resnet.ResNet18(include_top=False, input_shape=(32, 32, 3), width=8, shortcut="pool")
    with pytest.raises(ValueError, match="pools in its shortcuts"):
        models.dilate(pooled, 16)
    with pytest.raises(TypeError, match="must be a Keras model"):
        models.dilate("resnet18", 8)
    with pytest.raises(ValueError, match="A dilated window makes no step"):
        Convolution(4, 3, strides=2, dilation=2)
    with pytest.raises(ValueError, match="Pass one number for each"):
        IdentityBlock(4, dilations=[1])
    with pytest.raises(ValueError, match="quantized=True was given with dilations"):
        IdentityBlock(4, dilations=[1, 2], fused=True, quantized=True)
