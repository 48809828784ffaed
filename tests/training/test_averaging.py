"""Averages of weights: batch-norm statistics too, once per optimizer step, with a decay that is warmed up."""

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import data, training  # noqa: E402


class Trail(keras.callbacks.Callback):
    """Notes every variable of the model after each batch."""

    def __init__(self):
        super().__init__()
        self.values, self.steps = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append([keras.ops.convert_to_numpy(v).copy() for v in self.model.variables])
        self.steps.append(int(self.model.optimizer.iterations))


def trained(decay, accumulation=1, precision="float32"):
    words = {
        "optimizer.accumulation": accumulation,
        "optimizer.ema_momentum": decay,
        "model.width": 2,
        "train.precision": precision,
    }
    recipe = training.Recipe.load("quick").replace(words)
    planned = training.fit(recipe, model="resnet10", dry_run=True)
    model = planned.model
    model.compile(**recipe.compile_args(steps_per_epoch=12, from_logits=True))
    first = [keras.ops.convert_to_numpy(v).copy() for v in model.variables]
    trail, average = Trail(), recipe.optimizer.weight_average()
    batches = planned.dataset.training_batches(16, seed=0)
    model.fit(batches, steps_per_epoch=12, callbacks=[trail, average], verbose=0, shuffle=False)
    return model, first, trail, average


@pytest.mark.parametrize(("accumulation", "decay"), [(4, 0.99), pytest.param(1, 0.25, marks=pytest.mark.slow)])
def test_the_average_is_the_formula_over_optimizer_steps(decay, accumulation):
    model, expected, trail, average = trained(decay, accumulation)
    assert trail.steps[-1] == 12 // accumulation
    for number, step in enumerate(trail.steps):
        if number and trail.steps[number - 1] == step or not step:
            continue
        kept = min(decay, (1 + step) / (10 + step))  # tf.train.ExponentialMovingAverage with num_updates
        expected = [kept * old + (1 - kept) * new for old, new in zip(expected, trail.values[number], strict=True)]
    names = [variable.path for variable in model.variables]
    assert sum("moving_" in name for name in names) == 24
    for name, wanted, found, put in zip(names, expected, average.variables, model.variables, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), wanted, rtol=2e-5, atol=1e-6, err_msg=name)
        assert np.array_equal(found, put)  # the end of training puts them in


def test_a_step_that_the_loss_scale_skips_is_not_averaged():
    model, _, trail, average = trained(0.9, precision="mixed_float16")
    assert int(average._counted) == trail.steps[-1]
    assert all(np.isfinite(np.asarray(v)).all() for v in average.variables)


@pytest.mark.exhaustive
def test_early_averages_score_as_the_weights_do_and_not_as_chance(tmp_path):
    """With raw statistics an average of 0.998 over 290 steps scored 0.10 to 0.23, with averaged ones 0.9."""
    words = {"optimizer.ema_momentum": 0.998, "model.width": 8, "train.epochs": 15, "train.batch_size": 64}
    run = training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=words, verbose=0)
    assert run.metrics["test"]["accuracy"] > 0.9
    saved = keras.saving.load_model(run.path / "final.keras")
    statistics = [v for v in saved.variables if "moving_variance" in v.path]
    state = training.state.read_newest(run.path / "last")[0]
    assert statistics and sum(row[0] == "moving_variance" for row in state["variables"]) == 2 * len(statistics)


@pytest.mark.slow
def test_hyperresnet_validates_the_averages_and_leaves_them_in_the_model(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")
    from keras_resnet import tuning

    recipe = training.Recipe.load("quick").replace({"model.width": 2, "optimizer.ema_momentum": 0.9})
    space = tuning.Space.load("default").fitting(recipe)
    model = tuning.HyperResNet(space, recipe, data.load("digits"))
    hp = keras_tuner.HyperParameters()
    network = model.build(hp)
    seen = []

    class Validated(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            seen.append(keras.ops.convert_to_numpy(self.model.trainable_variables[0]).copy())

    history = model.fit(hp, network, callbacks=[Validated()], epochs=1, verbose=0)
    assert "val_loss" in history.history and len(seen) == 1
    digits = data.load("digits")
    again = network.evaluate(digits.batches("validation", 256), return_dict=True, verbose=0)
    assert again["loss"] == pytest.approx(history.history["val_loss"][-1], rel=1e-5)
