"""Where search, recipes and several machines take hold of a run."""

import dataclasses
import math

import keras
import numpy as np
import pytest

from keras_resnet import data, training
from keras_resnet.training import fields
from keras_resnet.training.experiment import Experiment
from keras_resnet.training.losses import LOSSES, LossChoice
from keras_resnet.training.schedule import SCHEDULES

SMALL = {"model.width": 4, "train.epochs": 3, "train.batch_size": 128}


@pytest.mark.slow
def test_a_listener_hears_of_every_epoch_and_may_stop_the_run(tmp_path):
    heard = []

    def listener(epoch, figures):
        heard.append((epoch, figures["val_loss"]))
        return epoch == 2

    stopped = training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=SMALL, report=listener, verbose=0)
    assert [epoch for epoch, _ in heard] == [1, 2]
    assert stopped.description["status"] == "stopped" and stopped.metrics == {}
    assert stopped.history["val_loss"] == [loss for _, loss in heard]
    whole = training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=SMALL, verbose=0)
    resumed = training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=SMALL, resume=True, verbose=0)
    assert resumed.history["val_loss"] == whole.history["val_loss"] and resumed.metrics == whole.metrics


class Accumulating(keras.Model):
    """Takes the mean gradient of two batches for a step of the optimizer."""

    @staticmethod
    def optimizer_steps(batches):
        return batches // 2

    def train_step(self, batch):
        import tensorflow as tf

        if not hasattr(self, "sums"):
            self.sums = [tf.Variable(tf.zeros(weight.shape)) for weight in self.trainable_variables]
            self.count = tf.Variable(0)
        images, labels = batch
        with tf.GradientTape() as tape:
            predicted = self(images, training=True)
            loss = self.compute_loss(images, labels, predicted)
        for total, gradient in zip(self.sums, tape.gradient(loss, self.trainable_variables), strict=True):
            total.assign_add(gradient / 2)
        self.count.assign_add(1)

        def step():
            self.optimizer.apply(list(self.sums), self.trainable_variables)
            for total in self.sums:
                total.assign(tf.zeros_like(total))
            return True

        tf.cond(self.count % 2 == 0, step, lambda: False)
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(labels, predicted)
        return self.get_metrics_result()


@pytest.mark.slow
def test_a_step_of_ones_own_takes_the_place_of_kerass(tmp_path):
    words = {**SMALL, "train.epochs": 2, "train.batch_size": 64}
    run = training.fit(
        "quick", model="resnet10", out=tmp_path / "run", overrides=words, model_class=Accumulating, verbose=0
    )
    steps = data.load("digits").steps_per_epoch(64) * 2
    assert run.description["optimizer_steps"] == steps // 2
    assert type(run.model) is keras.Model or type(run.model).__name__ == "Functional"
    assert run.history["loss"][-1] < run.history["loss"][0]


class Skipping(Accumulating):
    """Says that it steps at every batch, and does not."""

    @staticmethod
    def optimizer_steps(batches):
        return batches


@pytest.mark.slow
def test_a_step_that_is_not_the_planned_one_is_a_bug_and_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="planned"):
        training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=SMALL, model_class=Skipping, verbose=0)


def test_every_field_of_a_recipe_says_what_it_may_hold():
    described = training.recipe_fields()
    recipe = training.Recipe()
    for key, about in described.items():
        section, _, name = key.partition(".")
        assert getattr(getattr(recipe, section), name) == about.default
        for value in [about.minimum, about.maximum, *about.choices]:
            edge = (value == about.minimum and about.open_below) or (value == about.maximum and about.open_above)
            if value is None or edge or about.kind == "fractions":
                continue
            made = dataclasses.replace(
                getattr(recipe, section),
                **{
                    name: fields.parse(
                        type(getattr(recipe, section)),
                        name,
                        value if not isinstance(value, float) or about.kind == "number" else int(value),
                    )
                },
            )
            assert getattr(made, name) is not None


def test_a_new_loss_and_a_new_schedule_are_one_row_each(monkeypatch):
    def build(loss, from_logits):
        return keras.losses.MeanAbsoluteError(), []

    monkeypatch.setitem(LOSSES, "mean_absolute_error", LossChoice(build, task="regression"))
    monkeypatch.setitem(SCHEDULES, "linear", fields.Choice(lambda schedule, peak, steps: peak / steps))
    # The words of a field are read from its table when the package is imported.
    assert training.Recipe().loss.choice is LOSSES["cross_entropy"]
    assert LOSSES["mean_absolute_error"].build(None, False)[0].name == "mean_absolute_error"
    assert SCHEDULES["linear"].build(None, 2.0, 4) == 0.5


def test_the_polynomial_schedule_is_that_of_deeplab():
    recipe = training.Recipe().replace({"schedule.name": "polynomial", "schedule.power": 0.9})
    schedule = recipe.schedule.build(0.1, 100)
    for step in (0, 25, 99, 100):
        assert math.isclose(float(schedule(step)), 0.1 * (1 - step / 100) ** 0.9, rel_tol=1e-5, abs_tol=1e-9)


def test_the_huber_loss_is_squared_near_zero_and_linear_beyond():
    recipe = training.Recipe().replace({"loss.name": "huber", "loss.delta": 2.0})
    loss, _ = recipe.loss.build(from_logits=True)
    errors = np.array([[0.5], [-3.0]], "float32")
    assert math.isclose(float(loss(np.zeros((2, 1), "float32"), errors)), (0.125 + 2 * (3 - 1)) / 2, rel_tol=1e-6)
    with pytest.raises(ValueError, match=r"loss.delta has no effect with loss.name='cross_entropy'"):
        training.Recipe().replace({"loss.delta": 2.0})


@pytest.mark.parametrize(
    ("low", "high", "dtype", "is_told"), [(-1024, 3071, "float32", True), (0, 255, "uint8", False)]
)
def test_values_that_are_no_pixels_and_would_be_divided_by_255_are_told(tmp_path, low, high, dtype, is_told):
    rng = np.random.default_rng(0)
    values = rng.uniform(low, high, (64, 8, 8, 8, 1)).astype(dtype)
    np.savez(tmp_path / "ct.npz", x=values, y=np.arange(64) % 2)
    dataset = data.load(f"npz:{tmp_path}/ct.npz")
    moved = ("augment.rotation", "augment.zoom", "augment.translation")
    recipe = training.Recipe.load("quick").replace({"train.batch_size": 8, **dict.fromkeys(moved, 0.0)})
    experiment = Experiment.of(recipe, dataset, "resnet10")
    lines = [line for line in experiment.dataset.report if "divided by 255" in line]
    assert len(lines) == (dtype == "float32") and all("data.normalization='dataset'" in line for line in lines)
    normalized = recipe.replace({"data.normalization": "dataset"})
    fresh = data.load(f"npz:{tmp_path}/ct.npz")
    assert not any("divided by 255" in line for line in Experiment.of(normalized, fresh, "resnet10").dataset.report)
