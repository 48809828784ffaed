"""Rates that differ from layer to layer: their factors, what a step of each optimizer does with them, and resume."""

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import ResNet18, training  # noqa: E402
from keras_resnet.training.optimizer import layer_factors  # noqa: E402
from tests import harness  # noqa: E402
from tests.training.test_optimizers import NAMES, optimizer_of  # noqa: E402

pytestmark = pytest.mark.slow

SMALL = {"model.width": 4, "train.epochs": 3, "train.batch_size": 256}


def network():
    keras.utils.set_random_seed(0)
    return ResNet18(input_shape=(8, 8, 1), stem="small", width=2, version="v2", classes=3)


def step_of(steps=1, **fields):
    """By how much each weight moves in some steps."""
    model, optimizer = network(), optimizer_of(**fields)
    before = [keras.ops.convert_to_numpy(weight).astype("float64") for weight in model.trainable_variables]
    draw = np.random.default_rng(0)
    for _ in range(steps):
        gradients = [draw.normal(size=weight.shape).astype("float32") for weight in model.trainable_variables]
        optimizer.apply([keras.ops.convert_to_tensor(one) for one in gradients], model.trainable_variables)
    pairs = zip(model.trainable_variables, before, strict=True)
    return {weight.path: keras.ops.convert_to_numpy(weight) - old for weight, old in pairs}


def test_the_factors_are_those_of_timm():
    """`timm.optim.param_groups_layer_decay(resnet18, layer_decay=0.5)`, timm 1.0.31."""
    model = ResNet18(input_shape=(32, 32, 3), width=2)
    paths = [weight.path for weight in model.trainable_variables]
    found = dict(zip(paths, layer_factors(paths, 0.5, 1.0), strict=True))
    expected = {"stage3_block1": 0.015625, "stage3_block2": 0.03125, "stage4_block1": 0.0625, "stage4_block2": 0.125}
    expected |= {"stage5_block1": 0.25, "stage5_block2": 0.5, "predictions": 1.0, "stem": 0.5**9}
    for name, factor in expected.items():
        assert {value for path, value in found.items() if path.startswith(f"{name}/")} == {factor}


@pytest.mark.parametrize("name", harness.tiers(NAMES, ["sgd", "adamw"], NAMES))
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_and_its_decay_are_multiplied(name, accumulation):
    common = {"name": name, "weight_decay": 0.1, "accumulation": accumulation}
    plain = step_of(accumulation, **common)
    scaled = step_of(accumulation, **common, layer_decay=0.5, body_factor=0.5)
    factors = dict(zip(plain, layer_factors(list(plain), 0.5, 0.5), strict=True))
    assert len(set(factors.values())) == 10 and factors["head_norm/gamma"] == 0.25
    for path, moved in plain.items():
        assert np.allclose(scaled[path], factors[path] * moved, rtol=1e-3, atol=1e-6), path


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_classifier_learns_alone_at_first(name):
    recipe = training.Recipe().replace(
        {"optimizer.name": name, "optimizer.head_epochs": 2, "schedule.name": "constant", "optimizer.weight_decay": 0.1}
    )
    model, optimizer = network(), recipe.compile_args(steps_per_epoch=3)["optimizer"]
    for step in range(8):
        before = {weight.path: keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables}
        gradients = [keras.ops.ones(weight.shape) for weight in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)
        after = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables}
        moved = {path for path, values in after.items() if (values != before[path]).any()}
        head = {"predictions/kernel", "predictions/bias"}
        assert moved == (head if step < 6 else set(before))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.exhaustive)])
def test_a_training_resumes_to_the_same_bits(tmp_path, precision):
    words = {**SMALL, "optimizer.layer_decay": 0.7, "optimizer.head_epochs": 2, "train.precision": precision}

    whole = training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=words, verbose=0)
    cut = training.fit(
        "quick", model="resnet10", out=tmp_path / "cut", overrides=words, verbose=0, report=lambda *epoch: True
    )
    assert cut.file.status == "stopped" and cut.file.epochs_trained == 1
    again = training.fit(out=tmp_path / "cut", resume=True, verbose=0)
    for one, other in zip(whole.model.weights, again.model.weights, strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
