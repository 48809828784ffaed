import inspect

import keras
import numpy as np
import pytest

from keras_resnet import ResNet18, training
from keras_resnet.training.optimizer import OPTIMIZERS

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
    # LAMB scales an update by the norm of the weight over its own: one of decay alone is the weight itself.
    assert left.pop("kernel") == {round(1 - RATE * (1 if name == "lamb" else DECAY), 5)}
    assert set.union(*left.values()) == {1.0}


@pytest.mark.parametrize("name", NAMES)
def test_without_decay_nothing_decays(name):
    assert set.union(*decays_of(optimizer_of(name=name)).values()) == {1.0}


def test_decay_reaches_the_optimizer_inside_the_loss_scaling():
    recipe = training.Recipe().replace({"train.precision": "mixed_float16", "optimizer.weight_decay": DECAY})
    optimizer = recipe.compile_args(steps_per_epoch=5)["optimizer"]
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert {value == 1.0 for value in decays_of(optimizer.inner_optimizer)["kernel"]} == {False}


def test_gradients_are_clipped_by_their_common_norm():
    weight = keras.Variable([0.0, 0.0])
    other = keras.Variable([0.0])
    optimizer = optimizer_of(clip_norm=1.0, momentum=0.0, nesterov=False)
    optimizer.apply([keras.ops.array([2.0, 1.0]), keras.ops.array([2.0])], [weight, other])
    assert np.allclose(keras.ops.convert_to_numpy(weight), [-RATE * 2 / 3, -RATE * 1 / 3], atol=1e-6)


def test_momentum_reaches_keras_and_averaging_does_not():
    optimizer = optimizer_of(momentum=0.8, nesterov=True, ema_momentum=0.95)
    config = optimizer.get_config()
    assert (config["momentum"], config["nesterov"]) == (0.8, True)
    # Keras's own average leaves out the statistics of batch norms.
    assert not config["use_ema"] and not optimizer_of().use_ema
    recipe = training.Recipe().replace({"optimizer.ema_momentum": 0.95})
    assert recipe.optimizer.weight_average().decay == 0.95 and training.Recipe().optimizer.weight_average() is None


def test_the_length_of_the_schedule_is_that_of_the_run():
    recipe = training.Recipe().replace({"train.epochs": 4, "schedule.name": "cosine"})
    optimizer = recipe.compile_args(steps_per_epoch=7)["optimizer"]
    assert optimizer._learning_rate.decay_steps == 28
    with pytest.raises(ValueError, match="steps_per_epoch must be an int >= 1"):
        recipe.compile_args(steps_per_epoch=0)


def lamb_by_hand(weight, gradients, rate, decay, adapts, betas=(0.9, 0.999), epsilon=1e-6):
    """Algorithm 2 of You et al. 2020 in float64, with the norm itself in place of a bounded one."""
    first = second = np.zeros_like(weight)
    for step, gradient in enumerate(gradients, start=1):
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        update = first / (1 - betas[0] ** step) / (np.sqrt(second / (1 - betas[1] ** step)) + epsilon)
        if adapts:
            update = update + decay * weight
            norms = np.linalg.norm(weight), np.linalg.norm(update)
            update = update * (norms[0] / norms[1] if all(norms) else 1.0)
        weight = weight - rate * update
    return weight


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_lamb_is_the_papers_algorithm_and_spares_norms_and_biases_from_the_trust_ratio(decay):
    rng = np.random.default_rng(0)
    model = ResNet18(input_shape=(8, 8, 1), stem="small", width=2, classes=3)
    weights = model.trainable_variables
    gradients = [[rng.normal(size=weight.shape) for weight in weights] for _ in range(10)]
    before = [keras.ops.convert_to_numpy(weight).astype("float64") for weight in weights]
    optimizer = optimizer_of(name="lamb", learning_rate=0.005, weight_decay=decay)
    for step in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32") for gradient in step], weights)
    for index, weight in enumerate(weights):
        expected = lamb_by_hand(
            before[index], [step[index] for step in gradients], 0.005, decay, adapts=weight.name == "kernel"
        )
        assert np.allclose(keras.ops.convert_to_numpy(weight), expected, rtol=1e-4, atol=1e-6), weight.path


def test_lamb_moves_a_norm_that_begins_at_zero_as_timm_does():
    """30 equal gradients at timm 1.0.31's Lamb(lr=0.05, weight_decay=0.02, eps=1e-6): 1.5 for a gamma of zeros."""
    gamma = keras.Variable(np.zeros(4, "float32"), name="gamma")
    optimizer = optimizer_of(name="lamb", learning_rate=0.05, weight_decay=0.02)
    for _ in range(30):
        optimizer.apply([keras.ops.full((4,), -0.1)], [gamma])
    assert np.allclose(keras.ops.convert_to_numpy(gamma), 30 * 0.05, rtol=1e-3)


def test_lamb_is_saved_with_a_model():
    optimizer = optimizer_of(name="lamb", weight_decay=0.02)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer) and copy.get_config() == optimizer.get_config()
