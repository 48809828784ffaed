import inspect

import keras
import numpy as np
import pytest

from keras_resnet import ResNet18, training
from keras_resnet.training.optimizer import OPTIMIZERS, inner_optimizer

RATE, DECAY = 0.5, 0.1


def optimizer_of(**fields):
    words = {"schedule.name": "constant", "optimizer.learning_rate": RATE}
    words |= {f"optimizer.{name}": value for name, value in fields.items()}
    return training.Recipe().replace(words).compile_args(steps_per_epoch=5)["optimizer"]


def decays_of(optimizer):
    """What one step with a gradient of zero leaves of every weight, by the name of the weight."""
    model = ResNet18(input_shape=(8, 8, 1), stem="small", width=1, attention="se", version="v1", classes=2)
    weights = model.trainable_variables
    for weight in weights:
        weight.assign(keras.ops.ones(weight.shape))
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in weights], weights)
    left = {}
    for weight in weights:
        left.setdefault(weight.name, set()).update(
            np.round(keras.ops.convert_to_numpy(weight).astype("float64"), 5).ravel().tolist()
        )
    return left


HAS_MUON = "adam_weight_decay" in inspect.signature(keras.optimizers.Muon).parameters
NAMES = [name for name in OPTIMIZERS if name != "muon" or HAS_MUON]


@pytest.mark.skipif(HAS_MUON, reason="this Keras has the Muon that is needed")
def test_an_older_kerass_muon_says_what_it_lacks():
    with pytest.raises(ImportError, match="pip install --upgrade keras"):
        optimizer_of(name="muon")


@pytest.mark.parametrize("name", NAMES)
def test_decay_takes_its_share_of_kernels_and_spares_norms_and_biases(name):
    left = decays_of(optimizer_of(name=name, weight_decay=DECAY))
    assert set(left) == {"kernel", "bias", "gamma", "beta"}
    assert left.pop("kernel") == {round(1 - RATE * DECAY, 5)}
    assert set.union(*left.values()) == {1.0}


@pytest.mark.parametrize("name", NAMES)
def test_without_decay_nothing_decays(name):
    assert set.union(*decays_of(optimizer_of(name=name)).values()) == {1.0}


def test_decay_reaches_the_optimizer_inside_the_loss_scaling():
    recipe = training.Recipe().replace({"train.precision": "mixed_float16", "optimizer.weight_decay": DECAY})
    optimizer = recipe.compile_args(steps_per_epoch=5)["optimizer"]
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert {value == 1.0 for value in decays_of(inner_optimizer(optimizer))["kernel"]} == {False}


def test_gradients_are_clipped_by_their_common_norm():
    weight = keras.Variable([0.0, 0.0])
    other = keras.Variable([0.0])
    optimizer = optimizer_of(clip_norm=1.0, momentum=0.0, nesterov=False)
    optimizer.apply([keras.ops.array([2.0, 1.0]), keras.ops.array([2.0])], [weight, other])
    assert np.allclose(keras.ops.convert_to_numpy(weight), [-RATE * 2 / 3, -RATE * 1 / 3], atol=1e-6)


def test_momentum_and_averaging_reach_keras():
    optimizer = optimizer_of(momentum=0.8, nesterov=True, ema_momentum=0.95)
    config = optimizer.get_config()
    assert (config["momentum"], config["nesterov"], config["use_ema"], config["ema_momentum"]) == (
        0.8,
        True,
        True,
        0.95,
    )
    assert not optimizer_of().use_ema


def test_the_length_of_the_schedule_is_that_of_the_run():
    recipe = training.Recipe().replace({"train.epochs": 4, "schedule.name": "cosine"})
    optimizer = recipe.compile_args(steps_per_epoch=7)["optimizer"]
    assert optimizer._learning_rate.decay_steps == 28
    with pytest.raises(ValueError, match="steps_per_epoch must be an int >= 1"):
        recipe.compile_args(steps_per_epoch=0)
