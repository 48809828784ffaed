"""A run that is stopped inside an epoch goes on at that batch, to the bits of one that was never stopped."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.training import scoring, state
from keras_resnet.training.state import Interval  # noqa: E402

SMALL = {"model.width": 4, "train.epochs": 2, "train.batch_size": 128, "data.validation_fraction": 0.2}
TIMING = ("images_per_second", "epoch_seconds")
CASES = {
    "random on the host, growing": {
        **{"model.dropout_rate": 0.3, "model.drop_path_rate": 0.2, "augment.erasing": 0.3},
        **{"data.progressive_from": 0.5, "data.image_size": 16, "schedule.name": "constant"},
    },
    "random in the step": {"augment.augment_on": "device", "augment.mixup": 0.2, "augment.noise": 5.0},
    "accumulated": {"optimizer.accumulation": 3, "optimizer.name": "adamw", "optimizer.learning_rate": 0.01},
    "averaged, in 16 bits": {"optimizer.ema_momentum": 0.9, "train.precision": "mixed_float16"},
    "sharpness-aware": {"optimizer.sam_radius": 0.05, "augment.cutmix": 1.0},
    "weighed, plateau": {
        **{"data.balance": "weights", "augment.repeats": 2, "train.monitor": "balanced_accuracy"},
        **{"schedule.name": "plateau", "schedule.patience": 1, "optimizer.head_epochs": 1},
    },
}
# Each start builds the graph anew: two signals for those with most to lose, one for the others.
TWICE = ("random on the host, growing", "averaged, in 16 bits")


class Signal(keras.callbacks.Callback):
    """Sends this process a signal in the middle of an epoch."""

    def __init__(self, epoch, batch, number=signal.SIGTERM):
        super().__init__()
        self.place, self.number, self.epoch = (epoch, batch), number, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            os.kill(os.getpid(), self.number)


def same(one, other):
    assert one.file.best_epoch == other.file.best_epoch
    for name, values in one.history.items():
        if name not in TIMING:
            assert values == other.history[name], name
    pairs = [
        (keras.saving.load_model(run.path / name, compile=False).weights for run in (one, other))
        for name in ("final.keras", "best.keras")
    ]
    for left, right in pairs:
        for weight, twin in zip(left, right, strict=True):
            assert np.array_equal(keras.ops.convert_to_numpy(weight), keras.ops.convert_to_numpy(twin)), weight.path


# Each promise alone; the exhaustive tier has the other combinations.
IN_CI = ("random on the host, growing", "random in the step", "averaged, in 16 bits")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in IN_CI else pytest.param(name, marks=pytest.mark.exhaustive) for name in CASES]
)
def test_a_signal_in_an_epoch_costs_nothing(tmp_path, name):
    words = {**SMALL, **CASES[name]}
    whole = training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=words, verbose=0)
    folder = tmp_path / "cut"
    for place in ((0, 2), (1, 5)) if name in TWICE else ((1, 5),):
        with pytest.raises(training.Interrupted, match=f"after {place[0]} of 2 epochs and \\d+ batches") as caught:
            training.fit(
                "quick",
                model="resnet10",
                out=folder,
                overrides=words,
                verbose=0,
                resume=True,
                callbacks=[Signal(*place)],
            )
        assert caught.value.status == 143
    again = training.fit("quick", model="resnet10", out=folder, overrides=words, verbose=0, resume=True)
    same(whole, again)


@pytest.mark.slow
def test_an_epoch_that_was_left_has_the_history_of_a_whole_one(tmp_path):
    words = {**SMALL, "train.epochs": 1}
    whole = training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=words, verbose=0)
    with pytest.raises(training.Interrupted, match="after 0 of 1 epochs and 4 batches.*--resume") as caught:
        training.fit(
            "quick",
            model="resnet10",
            out=tmp_path / "cut",
            overrides=words,
            verbose=0,
            callbacks=[Signal(0, 3, signal.SIGINT)],
        )
    assert caught.value.status == 130
    assert [path.name for path in (tmp_path / "cut" / "last").iterdir()] == ["epoch-000000-00000004.safetensors"]
    same(whole, training.fit(out=tmp_path / "cut", resume=True, verbose=0))


@pytest.mark.slow
def test_states_are_saved_every_so_many_steps_and_killed_runs_go_on_from_them(tmp_path):
    words = {**SMALL, "train.epochs": 1, "train.save_every": "3"}

    class Kill(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 7:
                raise RuntimeError("killed")

    whole = training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=words, verbose=0)
    with pytest.raises(RuntimeError, match="killed"):
        training.fit("quick", model="resnet10", out=tmp_path / "cut", overrides=words, verbose=0, callbacks=[Kill()])
    description, _ = state.read_newest(tmp_path / "cut" / "last")
    assert (description["epochs"], description["batches"]) == (0, 6)
    same(whole, training.fit(out=tmp_path / "cut", resume=True, verbose=0))
    # Of the states inside the epoch the end of it leaves one beside its own.
    assert len(list((tmp_path / "cut" / "last").iterdir())) == 2


@pytest.mark.exhaustive
def test_a_damaged_state_inside_an_epoch_gives_way_to_the_one_before(tmp_path):
    words = {**SMALL, "train.save_every": "3"}
    with pytest.raises(training.Interrupted):
        training.fit(
            "quick", model="resnet10", out=tmp_path / "cut", overrides=words, verbose=0, callbacks=[Signal(0, 6)]
        )
    newest = state.newest_first(tmp_path / "cut" / "last")[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match="after epoch 0 and 6 batches"):
        again = training.fit(out=tmp_path / "cut", resume=True, verbose=0)
    same(training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=words, verbose=0), again)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", Interval(seconds=60.0, share=0.02)),
        ("epoch", Interval()),
        ("500", Interval(steps=500)),
        ("30s", Interval(seconds=30.0)),
        ("5m", Interval(seconds=300.0)),
        ("2h", Interval(seconds=7200.0)),
    ],
)
def test_intervals(text, expected):
    assert Interval.of(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-5", "5 m", "1.5h", "m", "٣", "5d", "9" * 30])
def test_what_is_no_interval_is_refused_before_training(text, tmp_path):
    with pytest.raises(ValueError, match="train.save_every=.* is not an interval"):
        training.fit("quick", model="resnet10", out=tmp_path / "run", overrides={"train.save_every": text}, verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.exhaustive
def test_how_often_a_state_is_saved_may_change_when_a_run_goes_on(tmp_path):
    words = {**SMALL, "train.epochs": 1}
    with pytest.raises(training.Interrupted):
        training.fit(
            "quick", model="resnet10", out=tmp_path / "cut", overrides=words, verbose=0, callbacks=[Signal(0, 3)]
        )
    again = training.fit(
        "quick",
        model="resnet10",
        out=tmp_path / "cut",
        overrides={**words, "train.save_every": "epoch"},
        verbose=0,
        resume=True,
    )
    assert again.file.status == "complete"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in ((signal.SIGUSR1, 143), (signal.SIGINT, 130))),
    ],
)
def test_the_command_says_how_to_go_on_and_does(tmp_path, number, status):
    command = [sys.executable, "-m", "keras_resnet", "train", "--out", "a run", "--set=model.width=4", "--epochs=40"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = tmp_path / "a run" / "last"
    end = time.monotonic() + 120
    while not list(last.glob("epoch-*")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "which are saved. To go on: keras-resnet train --out 'a run' --resume" in said


@pytest.mark.slow
def test_an_interrupt_while_the_run_is_scored_says_how_to_go_on(tmp_path, monkeypatch):
    words = {**SMALL, "train.epochs": 1}
    predict = scoring.predict

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return predict(*arguments, **options)

    monkeypatch.setattr(scoring, "predict", interrupted)
    told = "after 1 of 1 epochs, which are saved, and the scores are missing. To go on: .* --resume"
    with pytest.raises(training.Interrupted, match=told):
        training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=words, verbose=0)
    monkeypatch.undo()
    assert "test" in training.fit(out=tmp_path / "run", resume=True, verbose=0).metrics
