import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from safetensors import safe_open

from keras_resnet import files, training
from keras_resnet.cli import main
from keras_resnet.training import run as run_module
from keras_resnet.training import state
from keras_resnet.training.scoring import Monitor
from tests import harness

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Everything that has its own state: dropout, drop path, augmentation, averages, a schedule, a shuffled order.
WORDS = {
    "model.width": "4",
    "model.dropout_rate": "0.2",
    "model.drop_path_rate": "0.1",
    "optimizer.ema_momentum": "0.9",
    "train.epochs": "4",
    "train.batch_size": "128",
    "train.early_stopping_patience": "3",
}
# With a word in argv, the process stops in the middle of the third epoch and says so.
CHILD = """
import sys, time, keras
from keras_resnet import training
class Wait(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None): self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 4:
            print("here", flush=True); time.sleep(600)
words = dict(word.split("=") for word in sys.argv[3:])
extra = [Wait()] if sys.argv[2] == "wait" else []
training.fit("quick", model="resnet10", out=sys.argv[1], resume=True, overrides=words, callbacks=extra, verbose=0)
"""


def start(folder, wait, words):
    settings = [f"{name}={value}" for name, value in words.items()]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), wait, *settings],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def digest(folder):
    """A hash over every variable: weights, statistics, seed generators, optimizer, averages, loss scale."""
    description, values = state.read_newest(folder / "last")
    whole = hashlib.sha256(repr(description["variables"]).encode())
    for value in values:
        whole.update(value.tobytes())
    return whole.hexdigest()


def figures(history):
    return {name: values for name, values in history.items() if not name.endswith(("_seconds", "_per_second"))}


def check_same(killed, whole):
    assert digest(killed.path) == digest(whole.path)
    assert figures(killed.history) == figures(whole.history)
    assert killed.metrics == whole.metrics
    assert killed.description["best_epoch"] == whole.description["best_epoch"]
    for name in ("best.keras", "final.keras"):
        one, other = (keras.saving.load_model(run.path / name, compile=False) for run in (killed, whole))
        assert all(np.array_equal(a, b) for a, b in zip(one.variables, other.variables, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return training.fit(
        "quick", model="resnet10", out=tmp_path_factory.mktemp("whole") / "run", overrides=WORDS, verbose=0
    )


def test_a_killed_process_resumes_to_the_same_bits(whole, tmp_path):
    process = start(tmp_path / "run", "wait", WORDS)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert state.read_newest(tmp_path / "run" / "last")[0]["epochs"] == 2
    resumed = training.fit("quick", model="resnet10", out=tmp_path / "run", resume=True, overrides=WORDS, verbose=0)
    assert len(resumed.history["loss"]) == 4
    check_same(resumed, whole)


def test_the_state_holds_the_seed_generators_and_the_counters(whole):
    description, values = state.read_newest(whole.path / "last")
    names = [row[0] for row in description["variables"]]
    assert sum("seed_generator_state" in name for name in names) >= 2  # dropout and drop path
    assert "iteration" in names
    assert set(description["best"]) == {"best", "best_epoch", "waited", "stopped"}
    assert int(values[names.index("iteration")]) == whole.description["optimizer_steps"] == 40


def states(folder):
    return sorted((folder / "last").iterdir())


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of the last states, to be broken."""
    (tmp_path / "last").mkdir()
    for path in states(whole.path):
        (tmp_path / "last" / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "zeros"])
def test_a_damaged_state_is_found_and_the_one_before_is_used(copied, damage):
    newest = states(copied)[-1]
    content = bytearray(newest.read_bytes())
    # A place that is not zero already: some variables are.
    middle = next(place for place in range(len(content) // 2, len(content)) if content[place])
    if damage == "flip":
        content[middle] ^= 1
    if damage == "zeros":
        content[middle : middle + 4096] = bytes(4096)
    newest.write_bytes({"cut": content[:middle], "empty": b""}.get(damage, content))
    with pytest.warns(
        UserWarning, match=r"Not usable: .*epoch-000004\.safetensors .*Going on from .*epoch-000003\.safetensors"
    ):
        assert state.read_newest(copied / "last")[0]["epochs"] == 3


@pytest.mark.parametrize("damage", harness.tiers(["gone", "cut", "flip"], ["gone"], ["cut", "flip"]))
def test_a_damaged_best_model_is_made_again_from_the_state_of_its_epoch(whole, tmp_path, damage):
    shutil.copytree(whole.path, tmp_path / "run")
    best = tmp_path / "run" / "best.keras"
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 1
    best.unlink() if damage == "gone" else best.write_bytes(content[:-100] if damage == "cut" else content)
    with pytest.raises(ValueError, match="train --out .* --resume"):
        print(training.Run.load(tmp_path / "run").model)
    (tmp_path / "run" / ".best.keras.abcd1234.keras").write_bytes(b"left by a killed writer")
    with pytest.warns(UserWarning, match=f"made again from .*epoch-{whole.file.best_epoch:06d}"):
        again = training.fit(out=tmp_path / "run", resume=True, verbose=0)
    check_same(again, whole)
    assert not list((tmp_path / "run").glob(".best*"))
    # Once more, and nothing is left to do; without states there is one sentence.
    assert training.fit(out=tmp_path / "run", resume=True, verbose=0).metrics == whole.metrics
    shutil.rmtree(tmp_path / "run" / "last")
    best.unlink()
    with pytest.raises(ValueError, match="No saved state is left"):
        print(training.Run.load(tmp_path / "run").model)


def test_where_the_state_of_the_best_epoch_is_gone_the_best_that_is_left_is_taken(whole, tmp_path):
    shutil.copytree(whole.path / "last", tmp_path / "last")
    rows = [{"epoch": epoch, "val_loss": loss} for epoch, loss in ((1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4))]
    progress, saved = state.Progress(4, 0.1, 1, waited=3, rows=rows), []
    with pytest.warns(UserWarning, match="made again from .*epoch-000003.*; the state of the best, epoch 1, is gone"):
        run_module.rebuild_best(tmp_path, progress, Monitor(), lambda state, values: saved.append(state["epochs"]))
    assert saved == [3] and (progress.best, progress.best_epoch) == (0.3, 3)
    shutil.rmtree(tmp_path / "last")
    with pytest.warns(UserWarning, match="no state of a whole epoch is left"):
        run_module.rebuild_best(tmp_path, progress, Monitor(), lambda state, values: saved.append(state["epochs"]))
    assert saved == [3] and progress.best is progress.best_epoch is None


def test_a_state_is_a_safetensors_file_that_needs_nothing_of_ours(whole):
    newest = state.newest_first(whole.path / "last")[0]
    description, values = state.read_state(newest)
    with safe_open(newest, "numpy") as plain:
        told = json.loads(plain.metadata()["keras_resnet.state"])
        assert told == description and told["epochs"] == 4
        assert all(np.array_equal(plain.get_tensor(n), v) for n, v in zip(told["tensors"], values, strict=True))
        kernel = next(weight for weight in whole.model.weights if weight.path.endswith("kernel"))
        assert plain.get_slice(kernel.path).get_shape() == list(kernel.shape)
        digest = plain.metadata()["sha256"]
    content = newest.read_bytes()
    assert hashlib.sha256(content.replace(digest.encode(), b"0" * 64)).hexdigest() == digest


@pytest.mark.slow
def test_a_run_of_the_first_format_of_states_goes_on(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    for path in state.newest_first(tmp_path / "run" / "last"):
        description, values = state.read_state(path)
        if description["epochs"] == 3:
            text = np.frombuffer(json.dumps({**description, "tensors": []}).encode(), "uint8")
            buffer = io.BytesIO()
            np.savez(buffer, description=text, **{f"{n:06d}": value for n, value in enumerate(values)})
            files.write_checked(path.with_suffix(".state"), b"keras_resnet state 1 ", buffer.getvalue())
        path.unlink()
    about = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    (tmp_path / "run" / "run.json").write_text(json.dumps({**about, "status": "running"}))
    check_same(training.fit(out=tmp_path / "run", resume=True, verbose=0), whole)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_never_saved(tmp_path, value):
    variable = keras.Variable(np.array([1.0, value], "float32"), name="kernel")
    path = tmp_path / "epoch-000001.safetensors"
    with pytest.raises(training.CheckpointError, match="is not finite"):
        state.write_state(path, state.copy_values([variable]), {})
    assert not list(tmp_path.iterdir())


def test_where_no_state_is_whole_there_is_one_error(copied):
    for path in states(copied):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(training.CheckpointError, match=r"No saved state is whole: .*000004.*000003"):
        state.read_newest(copied / "last")


def test_a_state_of_other_variables_is_refused_and_changes_nothing(whole):
    description, values = state.read_newest(whole.path / "last")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(training.CheckpointError, match="variables and the model"):
        state.restore(model, description, values)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.exhaustive), "mixed_float16"])
def test_kills_at_random_moments_change_nothing(tmp_path, precision):
    words = {**WORDS, "train.precision": precision, "train.epochs": "6"}
    whole = training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=words, verbose=0)
    rng = random.Random(5)
    for _ in range(4):
        known = len(list((tmp_path / "run" / "last").glob("*"))) if (tmp_path / "run").exists() else 0
        process = start(tmp_path / "run", "go", words)
        # Wait for the first epoch of this process, so that every round does some work, then strike anywhere after it.
        newest = max(map(str, (tmp_path / "run" / "last").glob("epoch-*")), default="") if known else ""
        while process.poll() is None:
            now = max(map(str, (tmp_path / "run" / "last").glob("epoch-*")), default="")
            if now > newest:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.communicate()
    resumed = training.fit("quick", model="resnet10", out=tmp_path / "run", resume=True, overrides=words, verbose=0)
    check_same(resumed, whole)


LONGER = {"model.width": 4, "train.batch_size": 128}


@pytest.mark.slow
def test_a_run_is_extended_by_more_epochs(tmp_path, capsys):
    run = training.fit(
        "quick", model="resnet10", out=tmp_path / "run", overrides={**LONGER, "train.epochs": 2}, verbose=0
    )
    assert main(["train", "--out", str(run.path), "--resume", "--epochs", "4"]) == 0
    out = capsys.readouterr().out
    assert "extended to 4 epochs. Epoch 3 begins at a learning rate of" in out
    longer = training.Run.load(run.path)
    assert [len(longer.history[name]) for name in ("loss", "val_loss")] == [4, 4]
    assert longer.history["loss"][:2] == run.history["loss"]  # what was trained stays
    assert longer.about.extended == (2,) and longer.recipe.train.epochs == 4
    # The rate is that of a run of four epochs, by its recipe alone.
    planned = training.resolve("quick", model="resnet10", overrides={**LONGER, "train.epochs": 4})
    schedule = planned.compile_args()["optimizer"]._learning_rate
    expected = [float(schedule(epoch * planned.steps_per_epoch)) for epoch in (3, 4)]
    assert longer.history["learning_rate"][2:] == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert main(["train", "--out", str(run.path), "--resume"]) == 0
    assert "already complete" in capsys.readouterr().out


@pytest.mark.exhaustive
def test_an_extension_that_is_interrupted_goes_on_to_the_same_bits(tmp_path):
    words = {**LONGER, "train.epochs": 1}
    for name in ("whole", "parts"):
        training.fit("quick", model="resnet10", out=tmp_path / name, overrides=words, verbose=0)
    whole = training.fit(out=tmp_path / "whole", resume=True, overrides={"train.epochs": 3}, verbose=0)
    stop = {"report": lambda epoch, figures: True, "verbose": 0}
    training.fit(out=tmp_path / "parts", resume=True, overrides={"train.epochs": 3}, **stop)
    parts = training.fit(out=tmp_path / "parts", resume=True, verbose=0)
    assert parts.about.extended == (1,)
    for one, other in zip(whole.model.weights, parts.model.weights, strict=True):
        assert (keras.ops.convert_to_numpy(one) == keras.ops.convert_to_numpy(other)).all()


@pytest.mark.slow
def test_a_run_that_cannot_be_extended_says_why(tmp_path):
    run = training.fit(
        "quick", model="resnet10", out=tmp_path / "run", overrides={**LONGER, "train.epochs": 2}, verbose=0
    )
    with pytest.raises(ValueError, match="holds a run of 2 epochs, and 1 were asked for"):
        training.fit(out=run.path, resume=True, overrides={"train.epochs": 1})
    with pytest.raises(ValueError, match="recipe.train.batch_size: 128 in the folder, 64 now"):
        training.fit(out=run.path, resume=True, overrides={"train.epochs": 4, "train.batch_size": 64})
    patience = {**LONGER, "train.epochs": 4, "train.early_stopping_patience": 1, "optimizer.learning_rate": 1e-9}
    early = training.fit(
        "quick",
        model="resnet10",
        out=tmp_path / "early",
        overrides={**patience, "train.monitor": "accuracy"},
        verbose=0,
    )
    assert early.description["epochs_trained"] < 4
    with pytest.raises(ValueError, match="stopped early after .* More epochs would not change it"):
        training.fit(out=early.path, resume=True, overrides={"train.epochs": 8})


@pytest.mark.slow
def test_a_rate_that_falls_at_a_plateau_goes_on_after_a_resume(tmp_path):
    words = {
        **LONGER,
        "train.epochs": 4,
        "schedule.name": "plateau",
        "schedule.patience": 1,
        "train.monitor": "accuracy",
    }
    words |= {"optimizer.learning_rate": 1e-8}  # nothing gets better, so that the rate falls
    whole = training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=words, verbose=0)
    rates = whole.history["learning_rate"]
    assert rates[-1] < rates[0]
    out = tmp_path / "parts"
    training.fit(
        "quick", model="resnet10", out=out, overrides=words, verbose=0, report=lambda epoch, figures: epoch == 2
    )
    parts = training.fit(out=out, resume=True, verbose=0)
    assert parts.history["learning_rate"] == rates and parts.history["loss"] == whole.history["loss"]
