"""The promises of every layer in the blocks, checked by one harness over one table of cases."""

import inspect

import keras
import numpy as np
import pytest

from keras_resnet.blocks import (
    BottleneckBlock,
    Convolution,
    EfficientChannelAttention,
    IdentityBlock,
    Shortcut,
    SqueezeExcite,
    Stem,
)
from tests import harness

REGULARIZER = keras.regularizers.L2(0.25)

CASES = {
    "convolution": (Convolution, {"filters": 6, "kernel_size": 3, "strides": 2, "use_bias": True}),
    "convolution-groups": (Convolution, {"filters": 6, "kernel_size": 3, "strides": 2, "groups": 2}),
    "attention": (SqueezeExcite, {"ratio": 0.5}),
    "channel attention": (EfficientChannelAttention, {}),
    "shortcut-conv": (Shortcut, {"filters": 8, "strides": 2}),
    "shortcut-pool": (Shortcut, {"filters": 8, "strides": 2, "kind": "pool", "use_bias": True, "norm_epsilon": None}),
    "shortcut-subsample": (Shortcut, {"filters": 4, "strides": 2, "kind": "subsample"}),
    "stem-conv7": (Stem, {"filters": 8}),
    "stem-deep-v2": (Stem, {"filters": 8, "kind": "deep", "version": "v2"}),
    "stem-deep-strided": (Stem, {"filters": 8, "kind": "deep_strided"}),
    "stem-small-v1": (Stem, {"filters": 8, "kind": "small", "version": "v1"}),
    "stem-deep-fused": (Stem, {"filters": 8, "kind": "deep", "fused": True}),
    "stem-small-v2-fused": (Stem, {"filters": 8, "kind": "small", "version": "v2", "fused": True}),
    "identity": (IdentityBlock, {"filters": 4}),
    "identity-v2": (IdentityBlock, {"filters": 8, "strides": 2, "version": "v2", "attention": "se", "seed": 3}),
    "bottleneck-groups": (BottleneckBlock, {"filters": 4, "strides": 2, "groups": 2, "inner_filters": 6}),
    "bottleneck-groups-fused": (BottleneckBlock, {"filters": 4, "groups": 2, "inner_filters": 6, "fused": True}),
    "bottleneck-v1": (BottleneckBlock, {"filters": 2, "strides": 2, "version": "v1", "drop_path_rate": 0.3}),
    "bottleneck-rs": (BottleneckBlock, {"filters": 8, "strides": 2, "shortcut": "pool", "attention": "se_quarter"}),
    "bottleneck": (BottleneckBlock, {"filters": 2, "strides": 2, "shortcut": "pool", "zero_init_residual": False}),
    "bottleneck-v2": (BottleneckBlock, {"filters": 1, "strides": 2, "version": "v2", "shortcut": "subsample"}),
    "identity-fused": (IdentityBlock, {"filters": 4, "fused": True, "drop_path_rate": 0.3, "seed": 3}),
    "identity-v2-fused": (IdentityBlock, {"filters": 8, "strides": 2, "version": "v2", "fused": True}),
    "stem-deep-quantized": (Stem, {"filters": 8, "kind": "deep", "fused": True, "quantized": True}),
    "identity-quantized": (IdentityBlock, {"filters": 4, "fused": True, "quantized": True}),
    "bottleneck-quantized": (BottleneckBlock, {"filters": 2, "strides": 2, "fused": True, "quantized": True}),
    "bottleneck-fused": (BottleneckBlock, {"filters": 2, "strides": 2, "shortcut": "pool", "fused": True}),
}
SHAPES = {1: (2, 11, 4), 2: (2, 9, 12, 4), 3: (2, 7, 8, 5, 4)}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("rank", SHAPES)
def test_a_layer_survives_its_config(case, rank):
    cls, arguments = case
    if "kernel_regularizer" in harness.arguments_of(cls):
        arguments = {**arguments, "kernel_regularizer": keras.regularizers.L1L2(0.1, 0.2)}
    harness.check_config(cls(**arguments, name="layer"), harness.random_images(*SHAPES[rank]))


@pytest.mark.parametrize("rank", SHAPES)
def test_the_static_shape_is_the_dynamic_shape(case, rank):
    cls, arguments = case
    harness.check_static_shape(cls(**arguments), harness.random_images(*SHAPES[rank]))


@pytest.mark.parametrize("policy", harness.POLICIES)
def test_every_sublayer_follows_the_policy(case, policy):
    cls, arguments = case
    harness.check_dtypes(cls(**arguments, dtype=policy), harness.random_images(*SHAPES[2]), policy)


def test_channels_first_is_the_transposed_channels_last(case):
    cls, arguments = case
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="channels_first.*CPU.*JAX or PyTorch"):
            cls(**arguments, data_format="channels_first")
        return
    images = harness.random_images(*SHAPES[2])
    last, first = cls(**arguments, data_format="channels_last"), cls(**arguments, data_format="channels_first")
    last(images), first(images.transpose(0, 3, 1, 2))
    harness.fill(last)
    first.set_weights(last.get_weights())
    expected = harness.to_numpy(last(images))
    outputs = harness.to_numpy(first(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(outputs.transpose(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-5)


def test_kernels_are_regularised_and_nothing_else(case):
    cls, arguments = case
    if "kernel_regularizer" not in harness.arguments_of(cls):
        pytest.skip("no kernel")
    layer = cls(**arguments, kernel_regularizer=REGULARIZER)
    layer(harness.random_images(*SHAPES[2]))
    harness.fill(layer)
    kernels = [weight for weight in layer.weights if weight.name == "kernel"]
    expected = sum(0.25 * float(np.sum(harness.to_numpy(kernel) ** 2)) for kernel in kernels)
    assert float(sum(map(harness.to_numpy, layer.losses))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:A fused layer was called with training=True")
def test_a_frozen_layer_changes_nothing_in_training(case):
    cls, arguments = case
    layer = cls(**arguments, trainable=False)
    images = harness.random_images(*SHAPES[2])
    layer(images)
    before = [harness.to_numpy(weight) for weight in layer.weights]
    layer(images, training=True) if "training" in inspect.signature(layer.call).parameters else layer(images)
    assert not layer.trainable_weights
    assert not [child.path for child in harness.sublayers(layer) if child.trainable and child.name.startswith("norm")]
    for weight, values in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(harness.to_numpy(weight), values, err_msg=weight.path)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 3, 3, 3, 4)], ids=["no space", "four axes of space"])
def test_other_ranks_are_refused_with_the_shape(case, shape):
    cls, arguments = case
    with pytest.raises(ValueError, match=r"received an input of shape .*Expected 3 to 5 axes"):
        cls(**arguments)(harness.random_images(*shape))
