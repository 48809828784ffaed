"""Keras's own harness for layers over every registered layer of the package, in every rank that the layer takes."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

import keras_resnet.blocks
import keras_resnet.models.stages
import keras_resnet.preprocessing
from keras_resnet.blocks import kernels

# Keras's harness trains from a generator, about which Keras warns.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.shuffle=True. was passed, but will be ignored"),
    pytest.mark.filterwarnings("ignore:The model does not have any trainable weights"),
]

SIGNALS, PICTURES, VOLUMES = (2, 9, 3), (2, 8, 8, 3), (2, 6, 8, 8, 3)
EVERY_RANK = (SIGNALS, PICTURES, VOLUMES)
# Layer -> its arguments, and the shapes that it takes.
LAYERS = {
    "AugMix": ({}, (PICTURES,)),
    "Augmentation": ({"layers": []}, ()),  # of other layers; below
    "AutoAugment": ({"policy": "cifar"}, (PICTURES,)),
    "BatchNorm": ({}, EVERY_RANK),
    "BottleneckBlock": ({"filters": 2, "strides": 2, "attention": "se", "drop_path_rate": 0.2}, EVERY_RANK),
    "ColorJitter": ({"amount": 0.3}, (PICTURES,)),
    "Convolution": ({"filters": 4, "kernel_size": 3, "strides": 2, "use_bias": True}, EVERY_RANK),
    "Erasing": ({"probability": 0.5}, (PICTURES,)),
    # Known after a first batch, or inside a network that rounds alone; tests/models/test_quantization.py
    **{name: ({}, ()) for name in ("FakeQuantization", "QuantizedConvolution", "QuantizedDense")},
    "FlipAxis": ({}, EVERY_RANK),
    "Gain": ({"amount": 0.3}, EVERY_RANK),
    "IdentityBlock": ({"filters": 4, "strides": 2, "version": "v2", "shortcut": "pool"}, EVERY_RANK),
    "InputNormalization": ({"scheme": "unit"}, EVERY_RANK),
    "WithIntermediates": ({}, ()),  # a block that `activations` opened; tests/models/test_inside.py
    "Noise": ({"stddev": 2.0}, EVERY_RANK),
    "PadAndCrop": ({"pixels": 2}, (PICTURES,)),
    "QuarterTurns": ({}, (PICTURES,)),
    "RandAugment": ({"magnitude": 0.5}, (PICTURES,)),
    "Shift": ({"steps": 2}, EVERY_RANK),
    "Shortcut": ({"filters": 4, "strides": 2, "kind": "pool"}, EVERY_RANK),
    "SqueezeExcite": ({"ratio": 0.5}, EVERY_RANK),
    "EfficientChannelAttention": ({}, EVERY_RANK),
    "Stem": ({"filters": 4, "kind": "deep"}, EVERY_RANK),
    "TrivialAugment": ({}, (PICTURES,)),
}


def registered():
    """The layers that the package registers, by name, without the bases that nobody makes."""
    found = keras.saving.get_custom_objects()
    return {
        name.removeprefix("keras_resnet>"): value
        for name, value in found.items()
        if name.startswith("keras_resnet>")
        and isinstance(value, type)
        and issubclass(value, keras.layers.Layer)
        and not issubclass(value, keras.Model)
    }


def test_every_registered_layer_is_in_the_table():
    assert {layer.__name__ for layer in registered().values()} == set(LAYERS)


# Pictures by default; the other ranks of a layer in the slow tier.
CASES = [
    pytest.param(name, shape, marks=[] if shape == PICTURES else [pytest.mark.slow])
    for name, (_, shapes) in LAYERS.items()
    for shape in shapes
]


@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_a_layer_passes_kerass_own_harness(name, shape):
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    TestCase().run_layer_test(registered()[name], LAYERS[name][0], input_data=keras.ops.convert_to_tensor(images))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float32"])
@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_a_layer_answers_in_the_dtype_that_it_says_it_computes_in(name, shape, policy):
    layer = registered()[name](**LAYERS[name][0], dtype=policy)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    for training in (False, True):
        options = (
            {} if name in ("Convolution", "SqueezeExcite", "EfficientChannelAttention") else {"training": training}
        )
        outputs = layer(keras.ops.convert_to_tensor(images), **options)
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        assert np.isfinite(np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32")))).all()


def test_an_augmentation_passes_as_its_layers_do():
    layers = [keras_resnet.preprocessing.FlipAxis(), keras_resnet.preprocessing.Gain(0.2)]
    images = keras.ops.convert_to_tensor(np.random.default_rng(0).uniform(0, 255, PICTURES).astype("float32"))
    TestCase().run_layer_test(keras_resnet.preprocessing.Augmentation, {"layers": layers}, input_data=images)


@pytest.mark.parametrize(
    "shape, options",
    [
        ((16, 16, 3), {}),
        ((16, 16, 3), {"dtype": "mixed_bfloat16"}),
        pytest.param((32, 2), {}, marks=pytest.mark.slow),
        pytest.param((8, 8, 8, 1), {}, marks=pytest.mark.slow),
    ],
    ids=["pictures", "bfloat16", "signals", "volumes"],
)
def test_a_layer_in_its_own_form_trains_as_in_that_of_keras(shape, options):
    """Outputs, moving averages and what two steps of training learn, with our operations and with Keras's own."""
    images = np.random.default_rng(0).normal(size=(6, *shape)).astype("float32")
    labels = np.arange(6) % 3
    results = []
    for on in (True, False):
        kernels.use(on)
        try:
            keras.utils.set_random_seed(0)
            model = keras_resnet.ResNet10(input_shape=shape, stem="small", width=8, classes=3, **options)
            model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
            losses = [float(model.train_on_batch(images, labels)) for _ in range(2)]
            outputs = keras.ops.convert_to_numpy(model(images, training=False))
            results.append((losses, outputs, [keras.ops.convert_to_numpy(weight) for weight in model.weights]))
        finally:
            kernels.use(True)
    ours, theirs = results
    tolerance = 0.05 if options else 2e-4
    assert ours[0] == pytest.approx(theirs[0], rel=tolerance)
    np.testing.assert_allclose(ours[1], theirs[1], atol=tolerance)
    for weight, one, other in zip(model.weights, ours[2], theirs[2], strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance, err_msg=weight.path)
