"""A loss that is not finite: the run stops, or goes back to its last state with a lower rate and says so."""

import json

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.training import state
from tests import harness  # noqa: E402

SMALL = {"model.width": 4, "train.epochs": 3, "train.batch_size": 128, "train.on_divergence": "back"}


class Poison(keras.callbacks.Callback):
    """Makes a weight NaN before one batch, the first time that it comes."""

    def __init__(self, epoch, batch, times=1):
        super().__init__()
        self.place, self.times, self.epoch = (epoch, batch), times, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place and self.times:
            self.times -= 1
            bias = self.model.get_layer("predictions").bias
            bias.assign(np.full(bias.shape, np.nan, "float32"))


def values_of(folder):
    description, values = state.read_newest(folder / "last")
    return [value.tobytes() for value in values], description["history"][-1]["val_loss"]


@pytest.mark.parametrize("schedule", harness.tiers(["cosine", "plateau"], [], ["cosine", "plateau"]))
def test_a_run_goes_back_to_its_last_state_with_half_the_rate(tmp_path, schedule):
    words = {**SMALL, "schedule.name": schedule}
    with pytest.warns(UserWarning, match="The loss is nan at optimizer step 14. The run goes back .* times 0.5 .1 of"):
        run = training.fit(
            "quick", model="resnet10", out=tmp_path / "run", overrides=words, callbacks=[Poison(1, 3)], verbose=0
        )
    plain = training.fit("quick", model="resnet10", out=tmp_path / "plain", overrides=words, verbose=0)
    (rollback,) = run.description["rollbacks"]
    assert (rollback["reason"], rollback["optimizer_step"], rollback["rate_factor"]) == ("The loss is nan", 14, 0.5)
    assert "rollbacks" not in plain.description or not plain.description["rollbacks"]
    rates, usual = run.history["learning_rate"], plain.history["learning_rate"]
    assert rates[0] == usual[0] and rates[1:] == pytest.approx([rate / 2 for rate in usual[1:]], rel=1e-5)
    assert len(run.history["loss"]) == 3 and np.isfinite(run.history["loss"]).all()
    assert run.description["optimizer_steps"] == plain.description["optimizer_steps"]
    # It is told by whoever reads the folder.
    assert "diverged" in repr(training.Run.load(tmp_path / "run"))


@pytest.mark.slow
def test_a_run_that_went_back_is_resumed_to_the_same_bits(tmp_path):
    with pytest.warns(UserWarning, match="goes back"):
        training.fit(
            "quick", model="resnet10", out=tmp_path / "whole", overrides=SMALL, callbacks=[Poison(1, 3)], verbose=0
        )
    with pytest.warns(UserWarning, match="goes back"):
        stop = {"callbacks": [Poison(1, 3)], "report": lambda epoch, figures: epoch == 2}
        training.fit("quick", model="resnet10", out=tmp_path / "cut", overrides=SMALL, verbose=0, **stop)
    run = training.fit(out=tmp_path / "cut", resume=True, verbose=0)
    assert values_of(tmp_path / "cut") == values_of(tmp_path / "whole") and len(run.description["rollbacks"]) == 1


@pytest.mark.slow
def test_before_the_first_state_it_begins_anew_and_three_times_are_the_most(tmp_path):
    with pytest.warns(UserWarning) as caught, pytest.raises(training.TrainingDiverged, match="learning rate"):
        training.fit(
            "quick", model="resnet10", out=tmp_path / "run", overrides=SMALL, callbacks=[Poison(0, 2, 4)], verbose=0
        )
    told = [str(warning.message) for warning in caught if "goes back" in str(warning.message)]
    assert [line.split("times ")[1].split(" ")[0] for line in told] == ["0.5", "0.25", "0.125"]
    saved = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert [entry["rate_factor"] for entry in saved["rollbacks"]] == [0.5, 0.25, 0.125]


@pytest.mark.exhaustive
def test_a_run_that_stopped_may_be_resumed_to_go_back(tmp_path):
    words = {**SMALL, "train.on_divergence": "stop"}
    with pytest.raises(training.TrainingDiverged, match="on_divergence='back'"):
        training.fit(
            "quick", model="resnet10", out=tmp_path / "run", overrides=words, callbacks=[Poison(1, 3)], verbose=0
        )
    with pytest.warns(UserWarning, match="goes back"):
        training.fit(
            "quick",
            model="resnet10",
            out=tmp_path / "run",
            overrides=SMALL,
            resume=True,
            callbacks=[Poison(1, 3)],
            verbose=0,
        )
    with pytest.warns(UserWarning, match="goes back"):
        training.fit(
            "quick", model="resnet10", out=tmp_path / "whole", overrides=SMALL, callbacks=[Poison(1, 3)], verbose=0
        )
    assert values_of(tmp_path / "run") == values_of(tmp_path / "whole")
