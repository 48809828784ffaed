"""Recipes in several processes of JAX: the run of one, whatever happens to one of them.

Each process compiles the step for itself, and a test starts four to six of them: one to three minutes.
"""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("jax")

from keras_resnet import training  # noqa: E402
from keras_resnet.distribution import evaluation_size  # noqa: E402
from tests.distribution import test_recipes  # noqa: E402
from tests.distribution.processes import ended, started  # noqa: E402
from tests.distribution.test_recipes import IN_THE_STEP, SMALL, wait_for_states  # noqa: E402

OVERRIDES = {**SMALL, **IN_THE_STEP, "train.epochs": 2, "optimizer.accumulation": 2, "data.progressive_from": 0.5}


@pytest.fixture(autouse=True)
def on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")


def train(count, out):
    return test_recipes.train(count, out, OVERRIDES, kind="data_parallel")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        return train(1, tmp_path_factory.mktemp("alone") / "run")[0]


def check_equal(alone, together, rtol=1e-5):
    for found in together:
        steps = len(found["losses"])
        np.testing.assert_allclose(found["losses"], alone["losses"][-steps:], rtol=rtol)
        np.testing.assert_allclose(found["validation"], alone["validation"], rtol=10 * rtol)
        np.testing.assert_allclose(found["accuracy"], alone["accuracy"], atol=1e-3)
        assert found["test"]["examples"] == 360
        assert found["test"]["loss"] == pytest.approx(alone["test"]["loss"], rel=1e-3)
        assert found["weights"] == together[0]["weights"]  # to the bit


@pytest.mark.exhaustive
def test_processes_give_the_run_of_one(alone, tmp_path):
    together = train(3, tmp_path / "run")  # three do not divide the validation split
    assert len(together[0]["losses"]) == 52 and together[0]["path"] == str(tmp_path / "run")
    check_equal(alone, together)
    assert training.Run.load(tmp_path / "run").history["val_loss"] == together[0]["validation"]


def command(out, *words):
    sets = [word for name, value in OVERRIDES.items() for word in ("--set", f"{name}={str(value).lower()}")]
    kind = ["--set", "distribution.kind=data_parallel", "--set", "train.save_every=5"]
    return ["-m", "keras_resnet", "train", "--recipe", "quick", *sets, *kind, "--out", str(out), *words]


@pytest.mark.exhaustive
def test_a_signal_to_one_process_stops_all_and_another_number_goes_on(alone, tmp_path):
    out = tmp_path / "run"
    with started(2, command(out)) as processes:
        wait_for_states(out, processes)
        processes[1].send_signal(signal.SIGTERM)
        for _, err in ended(processes, 143):
            assert f"keras-resnet train --out {out} --resume" in err and "ended in epoch" not in err
    (found,) = train(1, out)
    assert 0 < len(found["losses"]) < 52
    check_equal(alone, [found], rtol=1e-3)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("number", "victim"), [(signal.SIGKILL, 1), (signal.SIGSTOP, 0)])
def test_a_lost_process_ends_the_others_with_a_word(tmp_path, number, victim):
    out = tmp_path / "run"
    with started(2, command(out)) as processes:
        wait_for_states(out, processes)
        processes[victim].send_signal(number)
        struck = time.monotonic()
        _, err = processes[1 - victim].communicate(timeout=600)
        assert time.monotonic() - struck < 300  # about ten seconds where nothing else runs
        assert processes[1 - victim].returncode not in (0, None)
        assert "Traceback" not in err and "steps of this start" in err and "again with --resume" in err
        assert f"Process {2 - victim} of 2" in err


@pytest.mark.exhaustive
def test_processes_of_one_command_train(tmp_path):
    sets = [word for name, value in OVERRIDES.items() for word in ("--set", f"{name}={str(value).lower()}")]
    words = ["train", "--recipe", "quick", *sets, "--processes", "2", "--epochs", "1", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "keras_resnet", *words], capture_output=True, text=True)
    assert done.returncode == 0 and "process 1 of 2" in done.stdout, done.stderr


@pytest.mark.exhaustive
def test_a_process_that_begins_late_is_named_and_waited_for():
    late = "import sys, time; from keras_resnet import distribution; time.sleep(float(sys.argv[1])); "
    late += "print(distribution.join_jax().gather(__import__('numpy').arange(2) + 2**40).tolist())"
    with started(2, ["-c", late], lambda index: [str(20 * index)]) as processes:
        (first, told), (second, _) = ended(processes)
    assert "process 1 of 2 has waited 1" in told and "for process 2 at 127.0.0.1:" in told
    assert first.splitlines()[-1] == second.splitlines()[-1] == str(2 * [2**40, 2**40 + 1])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_filled_batches_tell_how_many_of_their_rows_count(count):
    for size in range(1, 1200):
        batch = evaluation_size(size, 256, count)
        real = [min(batch, size - first) for first in range(0, size, batch)]
        filled = {-(-rows // count) * count for rows in real}
        assert sum(real) == size and len(filled) == len(set(real)) and 0 < batch <= 256


WORDS = """
import os, sys, time
from keras_resnet.distribution.exit_message import exit_message
steps = 0
with exit_message("Process 1 of 2", lambda: f"after {steps} steps"):
    steps = 7
    time.sleep(1)
    if sys.argv[1] == "abort":
        os.abort()
    if sys.argv[1] == "error":
        raise ZeroDivisionError
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["abort", "error", "end"])
def test_a_process_that_ends_past_python_has_an_exit_message(how):
    done = subprocess.run([sys.executable, "-c", WORDS, how], capture_output=True, text=True, env={**os.environ})
    said = "Process 1 of 2 ended after 7 steps: it was killed, or JAX ended it" in done.stderr
    assert said == (how == "abort") and ("ZeroDivisionError" in done.stderr) == (how == "error")
