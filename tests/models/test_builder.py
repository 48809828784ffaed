import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import BottleneckBlock, IdentityBlock, ResNet18, ResNet50, models
from keras_resnet.blocks import Convolution
from tests import harness

SMALL = {"width": 8, "stem": "small", "classes": 5}
INPUTS = {1: (40, 3), 2: (24, 20, 3), 3: (16, 12, 9, 3)}


@pytest.mark.parametrize("rank", INPUTS)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_input_shape_sets_rank_and_channels(rank, channels):
    shape = (*INPUTS[rank][:-1], channels)
    model = ResNet18(input_shape=shape, **SMALL)
    probabilities = harness.to_numpy(model(harness.random_images(2, *shape)))
    assert probabilities.shape == (2, 5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("rank", INPUTS)
def test_unknown_sizes_take_any_size(rank):
    model = ResNet18(input_shape=(None,) * rank + (3,), **SMALL)
    assert model.input_shape == (None,) * (rank + 1) + (3,)
    for size in (8, 11):
        assert model(harness.random_images(1, *(size,) * rank, 3)).shape == (1, 5)


def test_the_layers_have_the_documented_names():
    model = ResNet50(input_shape=(32, 32, 3), width=8, dropout_rate=0.1)
    blocks = [
        f"stage{stage}_block{block + 1}"
        for stage, depth in zip("2345", (3, 4, 6, 3), strict=True)
        for block in range(depth)
    ]
    assert [layer.name for layer in model.layers] == [
        "image", "stem", *blocks, "head_pool", "head_dropout", "predictions",
    ]  # fmt: skip
    assert isinstance(model.get_layer("stage3_block2"), BottleneckBlock)
    assert isinstance(ResNet18(input_shape=(32, 32, 3), width=8).get_layer("stage3_block2"), IdentityBlock)


def test_defaults_are_those_of_keras_applications():
    model = models.build("resnet18", width=8)
    assert (model.name, model.input_shape, model.output_shape) == ("resnet18", (None, 224, 224, 3), (None, 1000))
    assert model.get_layer("predictions").activation is keras.activations.softmax
    assert ResNet18(include_top=False, width=8).input_shape == (None, None, None, 3)


@pytest.mark.parametrize(("pooling", "shape"), [(None, (2, 3, 3, 64)), ("avg", (2, 64)), ("max", (2, 64))])
def test_without_the_top_features_come_out(pooling, shape):
    model = ResNet18(include_top=False, pooling=pooling, input_shape=(24, 24, 3), width=8, stem="small")
    images = harness.random_images(2, 24, 24, 3)
    outputs = harness.to_numpy(model(images))
    assert outputs.shape == shape
    if pooling:
        features = harness.to_numpy(keras_resnet.features(model, ("stage5",))(images))
        reduce = {"avg": np.mean, "max": np.max}[pooling]
        np.testing.assert_allclose(outputs, reduce(features, axis=(1, 2)), rtol=1e-4, atol=1e-6)


def test_an_input_tensor_is_built_upon_and_stays_part_of_the_model():
    image = keras.Input((24, 24, 3), dtype="uint8", name="raw")
    model = ResNet18(input_tensor=keras.layers.Rescaling(1 / 255)(image), **SMALL)
    assert model.input.name == "raw"
    assert isinstance(model.layers[1], keras.layers.Rescaling)
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype="uint8")
    plain = ResNet18(input_shape=(24, 24, 3), **SMALL)
    plain.set_weights(model.get_weights())
    expected = harness.to_numpy(plain(images.astype("float32") / 255))
    np.testing.assert_allclose(harness.to_numpy(model(images)), expected, rtol=1e-5, atol=1e-6)


def test_one_output_without_activation_is_a_regression_head():
    model = ResNet18(classes=1, classifier_activation=None, input_shape=(16, 16, 1), width=4, stem="small")
    harness.fill(model)
    targets = harness.random_images(8, 1)
    model.compile(optimizer="sgd", loss="mean_squared_error")
    history = model.fit(harness.random_images(8, 16, 16, 1), targets, epochs=1, verbose=0)
    assert model.output_shape == (None, 1)
    assert np.isfinite(history.history["loss"][0])


@pytest.mark.parametrize("initializer", ["he_normal", "he_uniform", "glorot_uniform", "glorot_normal"])
def test_every_kernel_is_drawn_by_the_initialiser(initializer):
    model = ResNet18(
        kernel_initializer=initializer, zero_init_residual=False, attention="se", input_shape=(16, 16, 3), **SMALL
    )
    name, shape = initializer.split("_")
    for kernel in (weight for weight in model.weights if weight.name == "kernel"):
        if np.prod(kernel.shape) < 500:
            continue  # too few draws to judge their deviation
        receptive = np.prod(kernel.shape[:-2])
        fan_in, fan_out = receptive * kernel.shape[-2], receptive * kernel.shape[-1]
        variance = 2 / fan_in if name == "he" else 2 / (fan_in + fan_out)
        values = harness.to_numpy(kernel)
        assert values.std() == pytest.approx(variance**0.5, rel=0.15), (kernel.path, shape)


def test_no_two_kernels_are_equal_and_a_seed_repeats_all_of_them():
    def build():
        return ResNet18(kernel_initializer=keras.initializers.HeNormal(seed=3), input_shape=(16, 16, 3), **SMALL)

    first, second = build(), build()
    kernels = [harness.to_numpy(weight) for weight in first.weights if weight.name == "kernel"]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("regularizer", "penalty"),
    [
        (keras.regularizers.L1(0.1), lambda w: 0.1 * np.abs(w).sum()),
        (keras.regularizers.L2(0.1), lambda w: 0.1 * (w**2).sum()),
        (keras.regularizers.L1L2(0.1, 0.2), lambda w: 0.1 * np.abs(w).sum() + 0.2 * (w**2).sum()),
        ("l2", lambda w: 0.01 * (w**2).sum()),
    ],
    ids=["L1", "L2", "L1L2", "by name"],
)
def test_the_regulariser_reaches_every_kernel_and_the_head_and_survives_the_config(regularizer, penalty):
    model = ResNet18(kernel_regularizer=regularizer, attention="se", version="v2", input_shape=(16, 16, 3), **SMALL)
    harness.fill(model)
    expected = sum(penalty(harness.to_numpy(weight)) for weight in model.weights if weight.name == "kernel")
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    for net in (model, copy):
        assert float(sum(map(harness.to_numpy, net.losses))) == pytest.approx(expected, rel=1e-4)
    convolutions = [layer for layer in harness.sublayers(copy) if isinstance(layer, Convolution)]
    assert len(convolutions) == 20
    assert all(type(layer.kernel_initializer).__name__ == "HeNormal" for layer in convolutions if layer.name == "conv1")


def test_drop_path_grows_linearly_with_depth():
    model = ResNet18(drop_path_rate=0.7, input_shape=(16, 16, 3), **SMALL)
    rates = [layer.drop_path_rate for layer in model.layers if isinstance(layer, IdentityBlock)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.7, 8))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("version", ["v1.5", "v2"])
def test_mixed_precision_computes_in_16_bit_and_the_head_in_float32(policy, version):
    model = ResNet18(dtype=policy, version=version, attention="se", dropout_rate=0.1, input_shape=(16, 16, 3), **SMALL)
    head = ("head_pool", "head_dropout", "predictions")
    for layer in model.layers[1:]:
        for child in (layer, *harness.sublayers(layer)):
            expected = "float32" if layer.name in head else policy.removeprefix("mixed_")
            assert child.compute_dtype == expected, (layer.name, child.name)
            assert child.variable_dtype == "float32", (layer.name, child.name)
    convolutions = [layer for layer in harness.sublayers(model) if isinstance(layer, Convolution)]
    images = keras.ops.cast(harness.random_images(2, 16, 16, 3), policy.removeprefix("mixed_"))
    assert keras.backend.standardize_dtype(convolutions[0](images).dtype) == policy.removeprefix("mixed_")
    outputs = model(harness.random_images(2, 16, 16, 3))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"


def test_the_loss_is_computed_in_float32_under_mixed_precision():
    model = ResNet18(dtype="mixed_bfloat16", input_shape=(16, 16, 3), classifier_activation=None, **SMALL)
    seen = []

    def loss(targets, outputs):
        seen.append(keras.backend.standardize_dtype(outputs.dtype))
        return keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True)

    model.compile(optimizer="sgd", loss=loss)
    model.fit(harness.random_images(4, 16, 16, 3), np.arange(4), verbose=0)
    assert set(seen) == {"float32"}


@pytest.mark.slow
def test_float16_gradients_are_scaled_without_a_global_policy():
    model = ResNet18(dtype="mixed_float16", input_shape=(16, 16, 3), **SMALL)
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    images = harness.random_images(4, 16, 16, 3)
    assert np.isfinite(model.fit(images, np.arange(4), epochs=2, verbose=0).history["loss"]).all()
    assert keras.backend.standardize_dtype(model(images).dtype) == "float32"


def test_the_global_policy_is_followed():
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ResNet18(input_shape=(16, 16, 3), **SMALL)
    finally:
        keras.config.set_dtype_policy(previous)
    assert model.get_layer("stage2_block1").conv1.compute_dtype == "bfloat16"
    assert model.get_layer("predictions").compute_dtype == "float32"


@pytest.mark.parametrize("rank", INPUTS)
@pytest.mark.parametrize("version", ["v1", "v1.5", "v2"])
def test_channels_first_is_the_transposed_channels_last(rank, version):
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="channels_first.*CPU.*JAX or PyTorch"):
            ResNet18(data_format="channels_first")
        return
    shape = INPUTS[rank]
    arguments = {"version": version, "shortcut": "pool", "attention": "se", **SMALL}
    last = ResNet18(input_shape=shape, data_format="channels_last", **arguments)
    first = ResNet18(input_shape=(shape[-1], *shape[:-1]), data_format="channels_first", **arguments)
    harness.fill(last)
    first.set_weights(last.get_weights())
    images = harness.random_images(2, *shape)
    expected = harness.to_numpy(last(images))
    outputs = harness.to_numpy(first(np.moveaxis(images, -1, 1)))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_model_trains_with_plain_fit_and_learns():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype("float32")
    labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int32")
    images += labels[:, None, None, None]
    model = ResNet18(input_shape=(8, 8, 1), width=4, stem="small", classes=2)
    model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9), loss="sparse_categorical_crossentropy")
    losses = model.fit(images, labels, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
