"""Recipes in several processes on this machine: the run of one, whatever happens to one of them.

Each process loads TensorFlow and traces the network, and a test starts four to six of them: one to two minutes.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras.src.trainers.trainer import model_supports_jit

tf = pytest.importorskip("tensorflow")

from keras_resnet import data, training, tuning  # noqa: E402
from keras_resnet.distribution import ALONE, Devices, Group, Peers, in_group  # noqa: E402
from keras_resnet.distribution.step import own_draws  # noqa: E402
from keras_resnet.training.optimizer import sharpness_aware  # noqa: E402
from keras_resnet.training.state import Progress, SaveState, StopRequest, newest_first  # noqa: E402
from keras_resnet.training.trainer import TrainingLoop  # noqa: E402
from tests.distribution.processes import ended, started  # noqa: E402

SCRIPT = """
import hashlib, json, sys
import keras, numpy as np
from keras_resnet import training

class Losses(keras.callbacks.Callback):
    found = []
    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(logs["loss"]))

out, overrides, kind, data = sys.argv[1:5]
run = training.fit(
    "quick", data=data, out=out, overrides=json.loads(overrides), distribution=kind, resume=True, callbacks=[Losses()],
    verbose=0,
)
whole = hashlib.sha256(b"".join(weight.tobytes() for weight in run.model.get_weights()))
told = {"losses": Losses.found, "weights": whole.hexdigest(), "validation": run.history["val_loss"]}
told["accuracy"] = run.history["val_accuracy"]
print(json.dumps({**told, "test": run.metrics["test"], "path": str(run.path)}))
"""
# A process whose Keras says that it is of the version that the last word names.
VERSIONS = """
import sys
import keras
keras.__version__ = sys.argv.pop()
from keras_resnet.cli import main
sys.exit(main(sys.argv[1:]))
"""
SMALL = {
    "model.width": 4,
    "train.epochs": 4,
    "train.batch_size": 48,
    # Larger steps turn the last bits, in which sums of another order differ, into whole digits.
    "optimizer.learning_rate": 0.0003,
    "schedule.name": "constant",
    "distribution.synchronize_norms": True,
}
MIXED = {
    "augment.mixup": 0.2,
    "augment.repeats": 2,
    "optimizer.accumulation": 2,
    "optimizer.clip_norm": 1.0,
    "optimizer.ema_momentum": 0.9,
    "data.progressive_from": 0.5,
}
# Two epochs. Later steps carry on what rounding began.
EXACT = 52
IN_THE_STEP = {"augment.augment_on": "device", "data.balance": "weights", "model.l2": 1e-4}
SHARP = {**IN_THE_STEP, "optimizer.sam_radius": 0.05}


def train(count, out, overrides, spec="digits", kind=None):
    kind = kind or ("multiworker" if count > 1 else "none")
    with started(count, ["-c", SCRIPT, str(out), json.dumps({**SMALL, **overrides}), kind, spec]) as processes:
        return [json.loads(out.splitlines()[-1]) for out, _ in ended(processes)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    return train(1, tmp_path_factory.mktemp("alone") / "run", {})[0]


def check_equal(alone, together):
    for found in together:
        begun = len(alone["losses"]) - len(found["losses"])  # steps before a resume
        exact = max(EXACT - begun, 0)
        expected = alone["losses"][begun:]
        np.testing.assert_allclose(found["losses"][:exact], expected[:exact], rtol=1e-5)
        np.testing.assert_allclose(found["losses"], expected, rtol=1e-2)
        np.testing.assert_allclose(found["validation"][:2], alone["validation"][:2], rtol=1e-4)
        np.testing.assert_allclose(found["validation"], alone["validation"], rtol=1e-2)
        assert found["weights"] == together[0]["weights"]  # to the bit
        assert found["test"]["examples"] == 360 and found["test"]["accuracy"] == pytest.approx(
            alone["test"]["accuracy"], abs=0.02
        )


@pytest.mark.exhaustive
@pytest.mark.parametrize(("count", "overrides"), [(2, MIXED), (4, SHARP)], ids=["mixed", "in the step"])
def test_processes_give_the_run_of_one(tmp_path, count, overrides):
    overrides = {**overrides, "train.epochs": 2}
    (alone,) = train(1, tmp_path / "alone", overrides)
    together = train(count, tmp_path / "together", overrides)
    assert len(together[0]["losses"]) == 52
    check_equal(alone, together)
    # The first one writes, and every process has the run.
    assert {found["path"] for found in together} == {str(tmp_path / "together")}
    assert training.Run.load(tmp_path / "together").history["val_loss"] == together[0]["validation"]


@pytest.mark.exhaustive
def test_weights_of_examples_count_in_every_process(tmp_path):
    digits, rng = data.load("digits"), np.random.default_rng(0)
    arrays = {}
    for suffix, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        arrays[f"x_{suffix}"], arrays[f"y_{suffix}"] = digits.arrays(split)
        arrays[f"w_{suffix}"] = rng.uniform(0, 3, digits.sizes[split])
    np.savez(tmp_path / "digits.npz", **arrays)
    overrides = {"train.epochs": 2, "augment.noise": 0.5}
    (alone,) = train(1, tmp_path / "alone", overrides, f"npz:{tmp_path / 'digits.npz'}")
    together = train(2, tmp_path / "together", overrides, f"npz:{tmp_path / 'digits.npz'}")
    check_equal(alone, together)


def command(out, *words):
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={str(value).lower()}")]
    kind = ["--set", "distribution.kind=multiworker", "--set", "train.save_every=5"]
    return ["-m", "keras_resnet", "train", "--recipe", "quick", *sets, *kind, "--out", str(out), *words]


def wait_for_states(out, processes, count=1):
    last = time.monotonic() + 400
    while not (out / "last").is_dir() or len(newest_first(out / "last")) < count:
        assert time.monotonic() < last and all(process.poll() is None for process in processes)
        time.sleep(0.05)


@pytest.mark.exhaustive
def test_a_signal_to_one_process_stops_all_and_another_number_goes_on(alone, tmp_path):
    out = tmp_path / "run"
    with started(2, command(out)) as processes:
        wait_for_states(out, processes)
        processes[1].send_signal(signal.SIGTERM)
        for _, err in ended(processes, 143):
            assert f"keras-resnet train --out {out} --resume" in err
    check_equal(alone, train(1, out, {}))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("number", "victim"), [(signal.SIGKILL, 1), (signal.SIGSTOP, 0)])
def test_a_lost_process_is_named_and_all_go_on(alone, tmp_path, number, victim):
    out = tmp_path / "run"
    with started(2, command(out)) as processes:
        wait_for_states(out, processes)
        processes[victim].send_signal(number)
        struck = time.monotonic()
        _, err = processes[1 - victim].communicate(timeout=600)
        assert time.monotonic() - struck < 300  # about ten seconds where nothing else runs
        assert processes[1 - victim].returncode not in (0, None)
        assert "Traceback" not in err and "stands still, or cannot be reached" in err and "steps of this start" in err
        assert number == signal.SIGSTOP or "lost process 2 of 2" in err
    if number == signal.SIGKILL:
        check_equal(alone, train(2, out, {}))


@pytest.mark.exhaustive
def test_processes_of_one_command_train_on_this_machine(alone, tmp_path):
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={str(value).lower()}")]
    command = [sys.executable, "-m", "keras_resnet", "train", "--recipe", "quick", *sets, "--processes", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*command, "--out", str(out)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_states(out, [process])
    process.send_signal(signal.SIGTERM)  # which it passes on
    said, err = process.communicate(timeout=600)
    assert process.returncode == 143, err[-2000:]
    assert f"--out {out} --resume" in err and "process 1 of 2" in said
    assert subprocess.run([*command, "--out", str(out), "--resume"], env=environment).returncode == 0
    np.testing.assert_allclose(training.Run.load(out).history["val_loss"], alone["validation"], rtol=1e-2)


@pytest.mark.exhaustive
def test_what_does_not_fit_is_refused_in_every_process_before_the_first_step(tmp_path):
    def told(words_of, *words):
        with started(2, command(tmp_path / "run", *words), words_of) as processes:
            return [err.splitlines()[-1] for _, err in ended(processes, 2)]

    first, other = told(lambda index: ("--seed", str(index)))
    assert first == other and "recipe.train.seed: 0 in the first, 1 in this one" in first
    assert all("cannot be divided among 2 processes" in line for line in told(lambda index: (), "--batch-size", "47"))
    other_versions = ["-c", VERSIONS, *command(tmp_path / "run")[2:]]
    with started(2, other_versions, lambda index: (f"3.{index}",)) as processes:
        lines = [err.splitlines()[-1] for _, err in ended(processes, 2)]
    assert all("versions.keras: '3.0' in the first, '3.1' in this one" in line for line in lines)
    assert not (tmp_path / "run" / "run.json").exists()
    with training.folder.locked(tmp_path / "run"):
        first, other = told(lambda index: ())
        assert "in use by process" in first and "The process 1 of 2" in other and "in use by process" in other


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_each_example_of_the_validation_counts_once(balance):
    recipe = training.Recipe.load("quick").replace({**SMALL, "data.balance": balance})
    dataset = data.load("digits", validation_fraction=0.3)
    whole = training.Experiment.of(recipe, dataset)
    size = dataset.sizes["validation"]
    assert size > 256 and size % 256 % 3  # a second batch, which three processes cannot divide
    parts = []
    for index in range(3):
        group = Group(Peers(("a:1", "b:1", "c:1"), index, "a list"), None)
        parts.append(list(dataclasses.replace(whole, group=group).validation_batches().as_numpy_iterator()))
    for batches, expected in zip(zip(*parts, strict=True), whole.validation_batches().as_numpy_iterator(), strict=True):
        images, labels, weights = (np.concatenate(rows) for rows in zip(*batches, strict=True))
        counted = weights >= 0
        np.testing.assert_array_equal(images[counted], expected[0])
        np.testing.assert_array_equal(labels[counted], expected[1])
        np.testing.assert_array_equal(weights[counted], expected[2] if len(expected) > 2 else 1)


def test_a_signal_that_comes_while_processes_agree_is_told_the_next_time(tmp_path):
    asked, told = StopRequest(), []

    class Pair:
        """A group whose first agreement a signal strikes, after what this process has is told."""

        count = 2

        def agree(self, own, is_due, pause):
            told.append(own)
            if len(told) == 1:
                asked.signal = signal.SIGTERM
            return own, is_due, 1

    state = SaveState(tmp_path, Progress(), {}, stop_request=asked, group=Pair())
    assert [state._decide(done)[1] for done in (1, 2)] == [False, True]
    assert told == [None, signal.SIGTERM] and asked.status == 143


def test_a_batch_that_cannot_be_divided_is_refused():
    group = Group(Peers(("a:1", "b:1", "c:1"), 0, "a list"), None)
    with pytest.raises(ValueError, match=r"batch_size=64 cannot be divided among 3 processes.*such as 63"):
        training.Experiment.of(
            training.Recipe.load("quick").replace({**SMALL, "train.batch_size": 64}), data.load("digits"), group=group
        )


def test_a_training_step_of_its_own_is_refused():
    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    for inner in (Own, sharpness_aware(keras.Model)):  # a climb goes around the step of a group
        with pytest.raises(ValueError, match=f"cannot be combined with model_class={inner.__name__}"):
            in_group(inner)
    assert sharpness_aware(in_group(keras.Model)).mro()[1].__name__ == "SharpnessAwareSteps"


def test_draws_of_processes_differ_and_seeds_move_on_alike():
    drawn, states = [], []
    for index in range(3):
        generator = keras.random.SeedGenerator(7)
        with own_draws(index):
            drawn.append(np.asarray(keras.random.uniform((1000,), seed=generator)))
        states.append(np.asarray(generator.state.value).tolist())
    alone = np.asarray(keras.random.uniform((1000,), seed=keras.random.SeedGenerator(7)))
    np.testing.assert_array_equal(drawn[0], alone)
    assert states[0] == states[1] == states[2]
    assert all(abs(np.corrcoef(one, other)[0, 1]) < 0.15 for one, other in [drawn[:2], drawn[1:], drawn[::2]])


def test_the_step_of_a_process_has_dropout_of_its_own():
    spec = tf.TensorSpec((None, 1000))
    outputs = []
    for index in range(2):
        example = keras.Input((1000,))
        model = in_group(keras.Model)(example, keras.layers.Dropout(0.5, seed=3)(keras.layers.Dense(1000)(example)))
        model.layers[1].set_weights([np.eye(1000), np.zeros(1000)])
        model.compile("sgd", "mean_squared_error")
        model.group = Group(Peers(("a:1", "b:1"), index, "a list"), tf.distribute.MirroredStrategy(["CPU:0"]))
        step = tf.function(model.gradients_of, input_signature=[(spec, spec)])
        outputs.append(np.asarray(step((np.ones((1, 1000), "float32"), np.zeros((1, 1000), "float32"))).outputs)[0])
    mine, theirs = (output > 0 for output in outputs)
    assert 0.4 < mine.mean() < 0.6 and 0.4 < np.mean(mine == theirs) < 0.6


def test_xla_is_left_out_where_keras_would_take_it(tmp_path, monkeypatch):
    # What Keras says on a machine with a GPU.
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", model_supports_jit)
    monkeypatch.setattr("keras_resnet.distribution.together.mirrored", lambda: Devices(("a", "b"), None))
    together = Group(Peers(("a:1", "b:1"), 0, "a list"), None)
    for kind, group, expected in (("none", ALONE, True), ("multiworker", together, False), ("mirrored", ALONE, False)):
        recipe = training.Recipe.load("quick").replace({**SMALL, "distribution.kind": kind})
        experiment = training.Experiment.of(recipe, data.load("digits"), group=group)
        loop = TrainingLoop(tmp_path, experiment, experiment.build_model(), (), (), (), keras.Model, tmp_path)
        loop._begin()
        assert loop.network.jit_compile is expected


def test_a_search_trains_each_trial_in_one_process(tmp_path):
    with pytest.raises(ValueError, match="A trial is trained in one process"):
        tuning.search(out=tmp_path / "search", overrides={"distribution.kind": "multiworker"})


def test_who_the_processes_are_must_be_told(tmp_path, monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="Nothing names the processes"):
        training.fit("quick", out=tmp_path / "run", distribution="multiworker")
    assert not (tmp_path / "run").exists()
