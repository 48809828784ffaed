import math
import re

import keras
import pytest

from keras_resnet import training
from keras_resnet.training.schedule import Schedule
from keras_resnet.training.scoring import Monitor

STEPS = 200
PEAK = 0.4


def rates(**fields):
    """The learning rate of every step of a run, and the schedule after its config has been through JSON."""
    recipe = training.Recipe().replace({f"schedule.{name}": value for name, value in fields.items()})
    schedule = recipe.schedule.build(PEAK, STEPS)
    if not isinstance(schedule, float):
        schedules = keras.optimizers.schedules
        schedule = schedules.deserialize(schedules.serialize(schedule))
        return [float(schedule(step)) for step in range(STEPS)]
    return [schedule] * STEPS


def test_constant_is_constant():
    assert set(rates(name="constant")) == {PEAK}


def test_steps_fall_at_their_milestones():
    expected = [PEAK] * 100 + [PEAK * 0.2] * 60 + [PEAK * 0.04] * 40
    assert rates(name="step", milestones=(0.5, 0.8), step_factor=0.2) == pytest.approx(expected, rel=1e-6)


def test_cosine_rises_linearly_and_falls_along_half_a_cosine():
    got = rates(name="cosine", warmup=0.1, final_fraction=0.01)
    assert got[:20] == pytest.approx([PEAK / 20 + (PEAK - PEAK / 20) * step / 20 for step in range(20)], rel=1e-5)
    fall = [PEAK * (0.99 * 0.5 * (1 + math.cos(math.pi * (step - 20) / 180)) + 0.01) for step in range(20, STEPS)]
    assert got[20:] == pytest.approx(fall, rel=1e-4)


def test_cosine_without_warmup_begins_at_its_peak():
    got = rates(name="cosine")
    assert got == pytest.approx(
        [PEAK * 0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)], abs=1e-6
    )


def test_restarts_begin_again_at_the_peak():
    got = rates(name="cosine_restarts", first_cycle=0.25)
    one = [PEAK * 0.5 * (1 + math.cos(math.pi * step / 50)) for step in range(50)]
    assert got == pytest.approx(one * 4, abs=1e-4 * PEAK)
    growing = rates(name="cosine_restarts", first_cycle=0.25, cycle_growth=2.0)
    assert growing[55] == pytest.approx(PEAK * 0.5 * (1 + math.cos(math.pi * 5 / 100)), rel=1e-3)


def test_one_cycle_is_that_of_pytorch():
    # torch.optim.lr_scheduler.OneCycleLR(max_lr=0.4, total_steps=200, pct_start=0.3), its formula written out.
    def anneal(start, end, fraction):
        return end + (start - end) / 2 * (1 + math.cos(math.pi * fraction))

    start, end, top = PEAK / 25, PEAK / 25 / 1e4, 0.3 * STEPS - 1
    expected = [
        anneal(start, PEAK, step / top) if step <= top else anneal(PEAK, end, (step - top) / (STEPS - 1 - top))
        for step in range(STEPS)
    ]
    assert rates(name="one_cycle") == pytest.approx(expected, abs=1e-6)
    assert max(rates(name="one_cycle")) == pytest.approx(PEAK)


@pytest.mark.parametrize(
    ("arguments", "error"), [({"peak": 0.0}, ValueError), ({"steps": 1}, ValueError), ({"peak_at": "0.3"}, TypeError)]
)
def test_a_bad_cycle_is_refused(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        training.OneCycle(**{"peak": 0.1, "steps": 10, **arguments})


LOSSES = [1.0, 0.9, 0.95, 0.92, 0.91, 0.89, 0.9, 0.9, 0.9, 0.9, 0.9, 0.88, 0.9, 0.9, 0.9]


def plateau_rates(losses, past=0):
    """The rate after each epoch whose validation loss is given, of a training that stopped once after `past` epochs."""
    schedule = training.Recipe().replace({"schedule.name": "plateau", "schedule.patience": 3}).schedule
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(PEAK))
    found, rows = [], [{"val_loss": loss} for loss in losses]
    for start, end in ((0, past), (past, len(losses))) if past else ((0, len(losses)),):
        (callback,) = schedule.callbacks(PEAK, Monitor(), True, rows[:start])
        callback.set_model(model)
        callback.on_train_begin()
        for epoch in range(start, end):
            callback.on_epoch_end(epoch, dict(rows[epoch]))
            found.append(float(model.optimizer.learning_rate))
    return found


def test_a_plateau_lowers_the_rate_after_epochs_without_a_better_one():
    # By hand: epochs 2 to 4 are no better than epoch 1, epochs 6 to 8 than epoch 5; then one is counted anew.
    falls = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3]
    assert plateau_rates(LOSSES) == pytest.approx([PEAK * 0.1**fall for fall in falls], rel=1e-5)


@pytest.mark.parametrize("past", range(1, len(LOSSES)))
def test_a_plateau_counts_on_after_a_resume(past):
    assert plateau_rates(LOSSES, past) == pytest.approx(plateau_rates(LOSSES), rel=1e-6)


def test_a_plateau_stops_at_its_floor_and_other_schedules_need_no_callback():
    schedule = training.Recipe().replace({"schedule.name": "plateau", "schedule.final_fraction": 0.05}).schedule
    (callback,) = schedule.callbacks(PEAK, Monitor("accuracy", "max"), False)
    assert callback.min_lr == pytest.approx(PEAK * 0.05) and callback.monitor == "accuracy" and callback.mode == "max"
    assert training.Recipe().schedule.callbacks(PEAK, Monitor(), True) == []


@pytest.mark.parametrize(
    ("first", "growth", "fits"), [(0.3, 1.0, 0.25), (0.25, 1.0, None), (0.25, 2.0, 1 / 7), (1 / 7, 2.0, None)]
)
def test_a_cycle_that_the_run_cuts_is_told_with_one_that_fits(first, growth, fits):
    schedule = Schedule(name="cosine_restarts", first_cycle=first, cycle_growth=growth)
    lines = schedule.cut_cycle()
    assert bool(lines) == (fits is not None)
    # The rate at the last step, by Keras: at its lowest if the cycle is whole.
    rate = float(schedule.build(1.0, 7000)(6999))
    assert (rate > 0.01) == (fits is not None)
    if fits is not None:
        told = float(re.search(r"first_cycle=([\d.]+)", lines[0])[1])
        assert told == pytest.approx(fits, rel=1e-3)
        assert (
            float(Schedule(name="cosine_restarts", first_cycle=fits, cycle_growth=growth).build(1.0, 7000)(6999)) < 0.01
        )
