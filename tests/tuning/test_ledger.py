"""The record of a search without any training: what is taken, handed in, taken up again and read back."""

import csv
import json
import random
import warnings

import keras_tuner
import pytest

from keras_resnet import training
from keras_resnet.tuning import Dimension, Settings, Space
from keras_resnet.tuning.definition import Definition
from keras_resnet.tuning.ledger import COMPLETE, FAILED, INFEASIBLE, PRUNED, Ledger, Trial
from keras_resnet.tuning.outcome import Search, best_of
from keras_resnet.tuning.worker import Sign

SPACE = Space(
    [
        Dimension("optimizer.learning_rate", low=0.001, high=0.3, scale="log"),
        Dimension("model.dropout_rate", low=0.0, high=0.5),
        Dimension("train.batch_size", choices=(32, 64)),
    ]
)


def ledger_of(folder, algorithm="random", trials=8, epochs=9, seed=0, **settings):
    folder.mkdir(exist_ok=True)
    recipe = training.Recipe.load("quick").replace({"train.epochs": epochs})
    ledger = Ledger(folder)
    ledger.create(Definition(recipe, "resnet18", "digits", None, algorithm, trials, seed, SPACE, Settings(**settings)))
    return ledger


def score_of(trial):
    """A known best at a learning rate of 0.03, and the more epochs the better."""
    import math

    return -((math.log10(trial.values["optimizer.learning_rate"]) + 1.5) ** 2) + 0.01 * trial.epochs


def run_one(ledger, worker="w", status=COMPLETE):
    what, trial, lock = ledger.take(worker)
    if what != "trial":
        if lock:
            lock.release()
        return what
    trial.status, trial.epochs = status, trial.values.get("tuner/epochs", 9)
    trial.score = score_of(trial) if status == COMPLETE else None
    ledger.end(trial)
    lock.release()
    return trial


def run_all(ledger):
    ended = []
    while not isinstance(trial := run_one(ledger), str):
        ended.append(trial)
    return ended, trial


@pytest.mark.parametrize(("objective", "best"), [("accuracy", "0002"), ("loss", "0001")])
def test_the_best_trial_is_whole_and_best_by_its_objective(tmp_path, objective, best):
    definition = ledger_of(tmp_path / "s", objective=f"val_{objective}").definition
    rows = [(0.5, COMPLETE, 9), (0.2, COMPLETE, 9), (0.8, COMPLETE, 9), (0.8, COMPLETE, 9), (0.9, COMPLETE, 3)]
    rows += [(0.1, PRUNED, 9), (None, FAILED, 9)]
    trials = [
        Trial(f"{index:04d}", {}, status=status, score=score, epochs=epochs)
        for index, (score, status, epochs) in enumerate(rows)
    ]
    assert best_of(definition, trials).id == best
    assert best_of(definition, trials[-1:]) is None


def test_messages_that_name_files_of_any_bytes_are_written(tmp_path):
    ledger = ledger_of(tmp_path / "s")
    for message in ("caf\udce9.png is damaged", "=HYPERLINK(1)"):
        _, trial, lock = ledger.take("w")
        trial.status, trial.message = FAILED, message
        ledger.end(trial)
        lock.release()
    Search.load(tmp_path / "s").write()
    with open(tmp_path / "s" / "trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["message"] for row in rows] == [r"caf\udce9.png is damaged", "'=HYPERLINK(1)"]


def test_a_sign_of_life_is_not_written_through_a_link(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    for name in ("w.half", "w.beat"):
        (tmp_path / name).symlink_to(mine)
    Sign.now("0000", 1.0).write(tmp_path / "w.beat")
    assert mine.read_text() == "precious" and not (tmp_path / "w.beat").is_symlink()


@pytest.mark.parametrize(
    "algorithm", ["random", pytest.param("bayesian", marks=pytest.mark.exhaustive), "hyperband", "grid"]
)
def test_the_same_seed_gives_the_same_trials_however_often_it_is_interrupted(tmp_path, algorithm):
    whole, last = run_all(ledger_of(tmp_path / "whole", algorithm))
    assert last == "final" and len(whole) == 8
    again = ledger_of(tmp_path / "again", algorithm)
    for _ in range(8):
        again = Ledger(again.path)  # every take is that of a new process
        run_one(again)
    assert [trial.values for trial in again.trials] == [trial.values for trial in whole]
    if algorithm != "grid":
        other, _ = run_all(ledger_of(tmp_path / "other", algorithm, seed=1))
        assert [trial.values for trial in other] != [trial.values for trial in whole]


def test_a_random_search_tries_what_kerastuners_own_tries(tmp_path):
    ours, _ = run_all(ledger_of(tmp_path / "ours"))
    hyperparameters = keras_tuner.HyperParameters()
    SPACE.declare(hyperparameters, training.Recipe.load("quick"))
    oracle = keras_tuner.oracles.RandomSearchOracle("val_accuracy", 8, seed=1, hyperparameters=hyperparameters)
    oracle._set_project_dir(tmp_path, "theirs")
    oracle.verbose = 0
    theirs = [oracle.create_trial(f"tuner{index}").hyperparameters.values for index in range(8)]
    assert [trial.values for trial in ours] == theirs


def test_a_grid_search_tries_different_points_and_ends_with_the_grid(tmp_path):
    small = Space([Dimension("train.batch_size", choices=(32, 64)), Dimension("model.width", choices=(4, 8, 16))])
    ledger = Ledger(tmp_path)
    recipe = training.Recipe.load("quick")
    ledger.create(Definition(recipe, "resnet18", "digits", None, "grid", 50, 0, small, Settings()))
    points = []
    while (taken := ledger.take("w"))[0] == "trial":
        trial = taken[1]
        points.append((trial.values["train.batch_size"], trial.values["model.width"]))
        trial.status, trial.score, trial.epochs = COMPLETE, 0.5, 30
        ledger.end(trial)
        taken[2].release()
    assert sorted(points) == [(32, 4), (32, 8), (32, 16), (64, 4), (64, 8), (64, 16)]


def test_hyperband_promotes_the_best_and_names_the_trial_to_go_on_from(tmp_path):
    trials, _ = run_all(ledger_of(tmp_path / "s", "hyperband", trials=13, epochs=9))
    first = [trial for trial in trials if trial.values["tuner/round"] == 0 and trial.values["tuner/epochs"] == 1]
    promoted = [trial for trial in trials if trial.parent is not None]
    assert len(first) > len(promoted) > 0
    for trial in promoted:
        (parent,) = [other for other in trials if other.id == trial.parent]
        assert trial.values["optimizer.learning_rate"] == parent.values["optimizer.learning_rate"]
        assert trial.values["tuner/initial_epoch"] == parent.values["tuner/epochs"]
    best = sorted(first, key=score_of)[-len([t for t in promoted if t.values["tuner/initial_epoch"] == 1]) :]
    assert {trial.id for trial in best} == {t.parent for t in promoted if t.values["tuner/initial_epoch"] == 1}


@pytest.mark.exhaustive
def test_the_bayesian_search_comes_nearer_to_the_best_than_chance(tmp_path):
    def nearest(algorithm, seed):
        trials, _ = run_all(ledger_of(tmp_path / f"{algorithm}{seed}", algorithm, trials=15, seed=seed))
        return sum(trial.score for trial in trials[7:])

    assert sum(nearest("bayesian", seed) for seed in range(3)) > sum(nearest("random", seed) for seed in range(3))


def test_two_workers_never_hold_the_same_trial(tmp_path):
    ledger = ledger_of(tmp_path / "s")
    (_, one, lock), (_, two, other) = ledger.take("a"), ledger.take("b")
    assert one.id != two.id and one.values != two.values
    lock.release(), other.release()


def test_a_trial_whose_process_is_gone_is_taken_up_again_and_fails_after_its_retries(tmp_path):
    ledger = ledger_of(tmp_path / "s", max_retries=2)
    for attempt in (1, 2, 3):
        what, trial, lock = ledger.take(f"w{attempt}")
        assert (what, trial.id, trial.attempts) == ("trial", "0", attempt)
        lock.release()  # as the system does when a process ends
    what, trial, lock = ledger.take("w4")
    assert trial.id == "1"
    failed = ledger.trials[0]
    assert failed.status == FAILED and "3 attempts" in failed.message
    lock.release()


def test_an_interrupted_trial_comes_next_and_the_attempt_does_not_count(tmp_path):
    ledger = ledger_of(tmp_path / "s")
    _, trial, lock = ledger.take("w")
    ledger.release(trial)
    lock.release()
    _, again, lock = ledger.take("w")
    assert (again.id, again.attempts, again.values) == (trial.id, 1, trial.values)
    lock.release()


def test_failures_in_a_row_stop_the_search_and_the_count_begins_anew_when_it_goes_on(tmp_path):
    ledger = ledger_of(tmp_path / "s", max_failures=3)
    run_one(ledger, status=FAILED), run_one(ledger, status=FAILED), run_one(ledger), run_one(ledger, status=FAILED)
    run_one(ledger, status=INFEASIBLE)  # over a limit, which is not a failure
    run_one(ledger, status=FAILED)
    assert ledger.record.read()["stopped"] is None
    run_one(ledger, status=FAILED)
    assert "3 trials in a row failed" in ledger.record.read()["stopped"]
    assert ledger.take("w")[0] == "done"
    ledger.resume(ledger.definition.trials)
    assert not isinstance(run_one(ledger), str)


DAMAGE = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a flipped bit": lambda text: text.replace('"trials"', '"trjals"', 1),
    "another program's": lambda text: "{}",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_costs_at_most_what_was_written_last(tmp_path, damage):
    ledger = ledger_of(tmp_path / "s")
    for _ in range(3):
        run_one(ledger)
    before = len(ledger.trials)
    ledger.record.file.write_text(DAMAGE[damage](ledger.record.file.read_text("utf-8")), "utf-8")
    with pytest.warns(UserWarning, match=r"Not usable: search.json .* Going on from search.previous.json"):
        trials = ledger.trials
    assert len(trials) == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ended, last = run_all(ledger)
    assert last == "final" and len(ledger.trials) == 8
    assert len({json.dumps(trial.values, sort_keys=True) for trial in ledger.trials}) == 8


def test_a_missing_record_is_that_before_it_and_none_at_all_is_an_error(tmp_path):
    ledger = ledger_of(tmp_path / "s")
    run_one(ledger)
    ledger.record.file.unlink()
    with pytest.warns(UserWarning, match="search.previous.json"):
        assert len(ledger.trials) == 1
    ledger.record.previous.write_text("")
    with pytest.raises(ValueError, match="Start again in another folder"):
        ledger.record.read()
    with pytest.raises(ValueError, match="holds no search"):
        Ledger(tmp_path).record.read()


@pytest.mark.slow
def test_random_kills_while_the_record_is_written_leave_it_whole(tmp_path):
    import os
    import signal
    import subprocess
    import sys
    import time

    ledger = ledger_of(tmp_path / "s", trials=100_000)
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[2])\n"
        "from tests.tuning.test_ledger import Ledger, run_one\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1])); print('ready', flush=True)\n"
        "while True: run_one(ledger)\n"
    )
    generator, root = random.Random(0), os.getcwd()
    for _ in range(4):
        command = [sys.executable, "-c", code, str(ledger.path), root]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root)
        process.stdout.readline()
        time.sleep(generator.uniform(0.1, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the newest file is whole
            trials = ledger.trials
        assert [trial.id for trial in trials] == [trial.id for trial in sorted(trials, key=lambda trial: int(trial.id))]
    assert len(ledger.trials) > 4
