"""Our networks against keras.applications', with random weights in which every tensor matters."""

import re

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import models
from keras_resnet.blocks import BottleneckBlock, Stem
from keras_resnet.models.variants import VARIANTS
from tests import harness

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="JAX compiles these networks op by op for minutes; the recorded logits hold the backends together",
)

ORDER = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}


def their_layer(path: str, preactivated: bool) -> str:
    """Returns the name of keras.applications' layer for the path of one of ours."""
    if path == "predictions":
        return "predictions"
    if path == "head_norm":
        return "post_bn"
    if path.startswith("stem/"):
        return "conv1_conv" if "conv" in path else "conv1_bn"
    stage, block, child = re.fullmatch(r"stage(\d)_block(\d+)/(.*)", path).groups()
    prefix = f"conv{stage}_block{block}_"
    if child.startswith("shortcut/"):
        return prefix + ("0_conv" if child.endswith("conv") else "0_bn")
    index = int(child[-1])
    if child.startswith("conv"):
        return f"{prefix}{index}_conv"
    # Pre-activated: their norms are named for the convolution before them, the first "preact".
    return f"{prefix}{index}_bn" if not preactivated else f"{prefix}{'preact' if index == 1 else index - 1}_bn"


def copy_weights(theirs: keras.Model, ours: keras.Model, preactivated: bool) -> None:
    groups: dict[str, list] = {}
    for weight in ours.weights:
        path, kind = weight.path.rsplit("/", 1)
        groups.setdefault(path, []).append((ORDER[kind], weight))
    copied = 0
    for path, weights in groups.items():
        values = theirs.get_layer(their_layer(path, preactivated)).get_weights()
        weights = [weight for _, weight in sorted(weights, key=lambda pair: pair[0])]
        assert [tuple(weight.shape) for weight in weights] == [value.shape for value in values], path
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)
            copied += 1
    assert copied == len(theirs.weights)


def difference(theirs: keras.Model, ours: keras.Model, shape: tuple) -> float:
    images = harness.random_images(2, *shape)
    expected, outputs = (harness.to_numpy(model(images, training=False)) for model in (theirs, ours))
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


SLOW = [pytest.param(name, marks=pytest.mark.exhaustive) for name in ("ResNet101", "ResNet152")]


@pytest.mark.parametrize("name", ["ResNet50", *SLOW])
@pytest.mark.parametrize("shape", [(64, 64, 3), (75, 93, 3)])
def test_v1_computes_what_keras_applications_computes(name, shape):
    theirs = getattr(keras.applications, name)(weights=None, classifier_activation=None, input_shape=shape, classes=7)
    ours = getattr(keras_resnet, name)(version="v1", classifier_activation=None, input_shape=shape, classes=7)
    harness.fill(theirs)
    copy_weights(theirs, ours, preactivated=False)
    assert difference(theirs, ours, shape) <= 1e-4


def keras_v2(name: str, shape: tuple) -> keras.Model:
    """Our blocks in the arrangement of keras.applications: each stage steps in its last block, by subsampling."""
    inputs = keras.Input(shape)
    x = Stem(64, version="v2", name="stem")(inputs)
    for stage, depth in enumerate(VARIANTS[name.lower()].depths, start=2):
        for block in range(1, depth + 1):
            steps = block == depth and stage < 5
            layer = BottleneckBlock(
                64 * 2 ** (stage - 2),
                strides=2 if steps else 1,
                version="v2",
                shortcut="subsample" if steps else "conv",
                name=f"stage{stage}_block{block}",
            )
            x = layer(x)
    x = keras.layers.BatchNormalization(epsilon=1.001e-5, name="head_norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.relu(x))
    return keras.Model(inputs, keras.layers.Dense(7, name="predictions")(x))


@pytest.mark.parametrize("name", ["ResNet50", *SLOW])
def test_v2_blocks_compute_what_keras_applications_computes(name):
    shape = (75, 93, 3)
    theirs = getattr(keras.applications, f"{name}V2")(
        weights=None, classifier_activation=None, input_shape=shape, classes=7
    )
    harness.fill(theirs)
    ours = keras_v2(name, shape)
    copy_weights(theirs, ours, preactivated=True)
    assert difference(theirs, ours, shape) <= 1e-4


def test_a_network_that_steps_elsewhere_is_told_apart():
    """The comparison can fail: equal shapes with the stride on the 3x3 give other numbers."""
    shape = (64, 64, 3)
    v1, other = (
        models.build("resnet50", version="v1", classifier_activation=None, input_shape=shape, classes=7)
        for _ in range(2)
    )
    harness.fill(v1)
    other.set_weights(v1.get_weights())
    assert difference(v1, other, shape) <= 1e-6
    for stage in (3, 4, 5):
        block = other.get_layer(f"stage{stage}_block1")
        block.conv1.strides, block.conv2.strides = 1, 2
    assert difference(v1, other, shape) > 1e-2
