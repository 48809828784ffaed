import keras
import numpy as np
import pytest

from keras_resnet import ResNet18, models
from tests import harness


def trained(recomputed, variant="resnet18", **arguments):
    """Returns the state of a small network after three steps."""
    keras.utils.set_random_seed(0)
    shape = arguments.pop("input_shape", (16, 16, 3))
    model = models.build(
        variant, input_shape=shape, stem="small", width=4, classes=3, zero_init_residual=False, **arguments
    )
    if recomputed:
        assert models.recompute(model) is model
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    draw = np.random.default_rng(0)
    images, labels = draw.normal(size=(12, *shape)).astype("float32"), draw.integers(0, 3, 12)
    losses = model.fit(images, labels, batch_size=4, shuffle=False, verbose=0).history["loss"]
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables], losses


# JAX has no float64 unless it is told so for the whole process.
EXACT = "float32" if keras.config.backend() == "jax" else "float64"
TOLERANCES = {
    "float64": {"rtol": 1e-7, "atol": 1e-10},
    "float32": {"rtol": 1e-2, "atol": 2e-4},
    "mixed_bfloat16": {"rtol": 0.05, "atol": 0.01},
}


ARGUMENTS = [
    {"dtype": EXACT},
    {"dtype": EXACT, "version": "v2", "attention": "se"},
    {"dtype": EXACT, "drop_path_rate": 0.3, "dropout_rate": 0.2},
    {"dtype": EXACT, "variant": "resnet26", "shortcut": "pool"},
    {"dtype": EXACT, "input_shape": (16, 2)},
    {"dtype": "float32"},
    {"dtype": "mixed_bfloat16"},
]


@pytest.mark.parametrize("arguments", harness.tiers(ARGUMENTS, [], ARGUMENTS[2:3] + ARGUMENTS[5:6]), ids=str)
def test_a_training_that_recomputes_is_the_one_that_keeps(arguments):
    kept, kept_losses = trained(False, **arguments)
    again, losses = trained(True, **arguments)
    tolerance = TOLERANCES[arguments["dtype"]]
    assert np.allclose(losses, kept_losses, **tolerance)
    # Statistics that were updated twice would differ in their first digit.
    differing = [
        float(np.abs(one - two).max())
        for one, two in zip(again, kept, strict=True)
        if not np.allclose(one.astype("float64"), two.astype("float64"), **tolerance)
    ]
    assert not differing


def test_inference_and_what_is_saved_do_not_change(tmp_path):
    model = models.recompute(ResNet18(input_shape=(16, 16, 3), stem="small", width=4, classes=3))
    images = np.ones((2, 16, 16, 3), "float32")
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded.predict(images, verbose=0), expected)
    assert not loaded.get_layer("stage2_block1").recomputed
    assert not models.recompute(model, on=False).get_layer("stage2_block1").recomputed


def test_what_has_no_blocks_is_refused():
    with pytest.raises(TypeError, match="must be a Keras model"):
        models.recompute(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="no residual block"):
        models.recompute(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
