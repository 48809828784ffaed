"""Whole searches in real processes, and what happens when these are killed, fail, or meet each other."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_resnet import training, tuning
from keras_resnet.cli import main
from keras_resnet.tuning import Dimension, Space, supervisor
from keras_resnet.tuning.definition import define
from keras_resnet.tuning.ledger import Ledger
from keras_resnet.tuning.worker import Sign

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPACE = Space([Dimension("optimizer.learning_rate", low=0.01, high=0.3, scale="log")])
SMALL = {"model.width": 4, "train.batch_size": 128, "search.prune_trials": False}
ASKED = {"model": "resnet10", "space": SPACE, "trials": 2, "epochs": 2, "overrides": SMALL, "seed": 3, "verbose": False}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return tuning.search(out=tmp_path_factory.mktemp("tuning") / "search", **ASKED)


@pytest.fixture
def fault(monkeypatch, tmp_path):
    """Gives the workers of this test a fault."""

    def give(what):
        monkeypatch.setenv("FAULT", what)
        monkeypatch.setenv("MARK", str(tmp_path / "mark"))
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        monkeypatch.setenv("PYTHONPATH", paths)
        monkeypatch.setattr(supervisor, "WORKER", str(pathlib.Path(__file__).with_name("faulty_worker.py")))

    return give


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_search_leaves_trials_the_best_recipe_and_a_page_for_tensorboard(found):
    assert [trial.status for trial in found.trials] == ["complete", "complete"]
    rows = list(csv.DictReader((found.path / "trials.csv").read_text("utf-8").splitlines()))
    assert [float(row["score"]) for row in rows] == [trial.score for trial in found.trials]
    assert {"optimizer.learning_rate", "seconds", "parameters"} <= set(rows[0])
    recipe = training.Recipe.load(found.path / "best.toml")
    assert recipe.optimizer.learning_rate == found.best.values["optimizer.learning_rate"]
    assert recipe.model.width == 4 and recipe.train.epochs == 2 and "tune" in recipe.about.source
    events = list((found.path / "logs").rglob("*tfevents*"))
    assert len(events) == 3  # the experiment and two trials


@pytest.mark.slow
def test_forked_workers_give_the_scores_of_new_processes(found, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_FORK", "0")
    again = tuning.search(out=tmp_path / "search", **ASKED)
    assert not (again.path / "workers" / "fork_server.log").exists()
    assert [(trial.values, trial.score, trial.curve) for trial in again.trials] == [
        (trial.values, trial.score, trial.curve) for trial in found.trials
    ]


def test_trials_never_see_the_test_split_and_the_winner_sees_it_once(found):
    assert found.metrics["examples"] == 360
    for trial in found.trials:
        run = json.loads((found.path / "trials" / trial.id / "run.json").read_text("utf-8"))
        assert run["metrics"] == {}


def test_the_score_of_a_trial_is_that_of_the_model_that_is_kept(found):
    run = training.Run.load(found.path / "trials" / found.best.id)
    from keras_resnet import evaluation

    kept = evaluation.evaluate(run.path, split="validation")
    assert kept["accuracy"] == pytest.approx(found.best.score, abs=1e-6)


def test_the_best_recipe_trains_as_it_is(found, tmp_path):
    words = ["train", "--recipe", str(found.path / "best.toml"), "--out", str(tmp_path / "run"), "--dry-run"]
    assert main(words) == 0
    again = training.fit(found.path / "best.toml", out=tmp_path / "again", seed=3, verbose=0, score=())
    assert again.history["val_accuracy"] == found.best.curve  # the same seed: the same bits


def test_a_finished_search_does_no_new_work(found, capsys):
    before = contents(found.path)
    again = tuning.search(out=found.path, resume=True)
    assert "already complete" in capsys.readouterr().out
    assert contents(found.path) == before
    assert again.best == found.best and again.metrics == found.metrics


def test_a_folder_with_a_search_is_refused_and_so_is_another_search_in_it(found):
    with pytest.raises(ValueError, match="holds a search already.*--resume"):
        tuning.search(out=found.path, **ASKED)
    other = Space([Dimension("optimizer.learning_rate", low=0.02, high=0.3, scale="log")])
    with pytest.raises(ValueError, match=r"another search; differing: space.optimizer.learning_rate.low: 0.01"):
        tuning.search(out=found.path, resume=True, space=other)
    with pytest.raises(ValueError, match="algorithm: 'random' in the folder, 'grid' now"):
        tuning.search(out=found.path, resume=True, algorithm="grid")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "bayes"}, "Did you mean 'bayesian'"),
        ({"model": "resnet19"}, "Did you mean 'resnet18'"),
        ({"trials": 0}, "trials must be an int >= 1"),
        ({"workers": 0}, "workers must be an int >= 1"),
        ({"overrides": {"search.objective": "acuracy"}}, "Allowed are 'loss', 'accuracy'"),
        ({"overrides": {"search.objektive": "loss"}}, "Did you mean 'search.objective'"),
        ({"space": "nowhere.toml"}, "is not a file"),
        ({"space": Space([Dimension("loss.name", choices=("huber", "cross_entropy"))])}, "by one objective"),
        ({"space": Space([Dimension("loss.delta", low=0.1, high=1)])}, "no effect"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tuning.search(out=tmp_path / "search", **arguments)
    assert not (tmp_path / "search").exists()


@pytest.mark.slow
def test_a_search_whose_data_changed_is_refused(tmp_path):
    rng = np.random.default_rng(0)

    def go_on(shift, trials):
        images = rng.integers(0, 200, (40, 8, 8, 1)) + shift
        np.savez(tmp_path / "d.npz", x=images.astype("uint8"), y=np.arange(40) % 2)
        words = {"data": f"npz:{tmp_path / 'd.npz'}", "model": "resnet10", "trials": trials, "epochs": 1}
        tuning.search("quick", out=tmp_path / "search", **words, resume=True, verbose=False)

    go_on(0, 1)
    with pytest.raises(tuning.SearchStopped, match="fingerprint"):
        go_on(50, 2)
    # No trial was made on them.
    assert [trial.status for trial in tuning.Search.load(tmp_path / "search").trials] == ["complete"]


@pytest.mark.slow
def test_data_that_cannot_be_used_end_the_search_with_their_message(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        tuning.search(data="folder:" + str(tmp_path / "nowhere"), out=tmp_path / "search", **ASKED)
    assert not (tmp_path / "search").exists()


@pytest.mark.slow
def test_a_killed_worker_costs_its_trial_an_epoch_and_nothing_else(found, tmp_path, fault):
    fault("killonce:1")
    again = tuning.search(out=tmp_path / "search", **ASKED)
    assert [trial.attempts for trial in again.trials] == [1, 2]
    assert [trial.curve for trial in again.trials] == [trial.curve for trial in found.trials]  # bit for bit


@pytest.mark.slow
def test_a_trial_that_kills_its_process_fails_after_its_retries_and_the_search_goes_on(tmp_path, fault):
    fault("die:0")
    got = tuning.search(out=tmp_path / "search", **{**ASKED, "overrides": {**SMALL, "search.max_retries": 1}})
    assert [(trial.status, trial.attempts) for trial in got.trials] == [("failed", 2), ("complete", 1)]
    assert "killed, out of memory, or a crash" in got.trials[0].message
    assert got.best.id == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("error:0", "nobody foresaw this"),
        pytest.param("memory:0", "out of memory", marks=pytest.mark.exhaustive),
        pytest.param("nan:0", "is nan|is inf|not finite", marks=pytest.mark.exhaustive),
    ],
)
def test_a_trial_that_fails_says_why_and_the_next_one_runs(tmp_path, fault, what, message):
    import re

    fault(what)
    got = tuning.search(out=tmp_path / "search", **ASKED)
    assert [trial.status for trial in got.trials] == ["failed", "complete"]
    assert re.search(message, got.trials[0].message)
    assert not (got.path / "trials" / "0" / "best.keras").exists()


@pytest.mark.exhaustive
def test_a_trial_that_stands_still_is_ended_and_the_search_goes_on(tmp_path, fault):
    fault("stall:0")
    got = tuning.search(out=tmp_path / "search", **{**ASKED, "overrides": {**SMALL, "search.stall_minutes": 0.2}})
    assert [trial.status for trial in got.trials] == ["failed", "complete"]
    assert "stood still for 0.2 minutes, more than search.stall_minutes=0.2" in got.trials[0].message
    # It is not tried again: it would stand still once more.
    assert tuning.search(out=tmp_path / "search", resume=True, verbose=False).trials[0].status == "failed"


def test_a_standstill_is_judged_by_the_usual_step():
    now = time.monotonic()
    assert not Sign("0", now - 50, 0.001).standstill(0, 10)  # a minute is the least
    assert "times its usual step of 0.5 s" in Sign("0", now - 90, 0.5).standstill(0, 100)
    assert not Sign("0", now - 90, 0.5).standstill(0, 1000) and not Sign("0", now - 90, 0.0).standstill(2, 1000)
    assert "stall_minutes=1" in Sign("0", now - 90, 0.0).standstill(1, 0)


@pytest.mark.exhaustive
def test_a_trial_that_failed_for_want_of_memory_is_tried_again(found, tmp_path, fault):
    fault("memoryonce:0")
    got = tuning.search(out=tmp_path / "search", **ASKED)
    assert [trial.status for trial in got.trials] == ["failed", "complete"] and got.trials[0].again
    again = tuning.search(out=tmp_path / "search", resume=True, verbose=False)
    assert [trial.curve for trial in again.trials] == [trial.curve for trial in found.trials]  # bit for bit
    assert again.best.id == found.best.id and not again.trials[0].again


@pytest.mark.exhaustive
def test_three_failures_in_a_row_stop_the_search_for_every_worker(tmp_path, fault):
    fault("error:all")
    with pytest.raises(tuning.SearchStopped, match="3 trials in a row failed.*nobody foresaw this"):
        tuning.search(out=tmp_path / "search", **{**ASKED, "trials": 10}, workers=2)
    assert 3 <= len(Ledger(tmp_path / "search").trials) <= 4


@pytest.mark.exhaustive
def test_models_over_a_limit_are_not_trained(tmp_path):
    space = Space([Dimension("model.width", choices=(4, 64))])
    words = {"train.batch_size": 128, "search.max_parameters": 100_000, "search.prune_trials": False}
    got = tuning.search(
        out=tmp_path / "s", space=space, algorithm="grid", trials=2, epochs=1, overrides=words, verbose=False
    )
    assert sorted(trial.status for trial in got.trials) == ["complete", "infeasible"]
    (over,) = [trial for trial in got.trials if trial.status == "infeasible"]
    assert over.values["model.width"] == 64 and "more than the limit of 100,000" in over.message
    assert got.best.parameters <= 100_000


@pytest.mark.exhaustive
def test_a_trial_may_be_judged_by_folds(tmp_path):
    words = {**SMALL, "search.folds": 3, "search.keep": "all"}
    got = tuning.search(out=tmp_path / "search", **{**ASKED, "overrides": words})
    names = set()
    for trial in got.trials:
        folder = got.path / "trials" / trial.id
        runs = [training.Run.load(place) for place in (folder, folder / "fold-2", folder / "fold-3")]
        best = [min(run.file.history, key=lambda row: row["val_loss"]) for run in runs]
        assert trial.score == pytest.approx(sum(row["val_accuracy"] for row in best) / 3)
        assert [run.recipe.data.validation_fold for run in runs] == ["1/3", "2/3", "3/3"]
        held = [run.dataset.arrays("validation")[0] for run in runs]
        names = [image.tobytes() for images in held for image in images]
        assert len(names) == 1437 and [len(images) for images in held] == [479, 479, 479]
        train = {image.tobytes() for image in runs[1].dataset.arrays("train")[0]}
        assert not train & {image.tobytes() for image in held[1]}
    assert got.metrics["examples"] == 360
    assert got.recipe.data.validation_fold == "none" and got.recipe.data.validation_fraction == 0.1
    # It goes on where it stands.
    more = tuning.search(out=got.path, **{**ASKED, "overrides": words, "trials": 3}, resume=True)
    assert [trial.score for trial in more.trials[:2]] == [trial.score for trial in got.trials]


def test_folds_of_a_search_that_cannot_be_are_refused(tmp_path):
    for words, more, message in (
        ({"search.folds": 1}, {}, "search.folds"),
        ({"search.folds": 3}, {"algorithm": "hyperband"}, "whose trials are trained in pieces"),
    ):
        with pytest.raises(ValueError, match=message):
            tuning.search(out=tmp_path / "s", **{**ASKED, "overrides": {**SMALL, **words}}, **more)
    assert not (tmp_path / "s").exists()


@pytest.mark.exhaustive
def test_hyperband_goes_on_from_the_checkpoint_of_the_shorter_trial(tmp_path):
    words = {**SMALL, "search.keep": "all", "search.factor": 2}
    asked = {**ASKED, "trials": 3, "overrides": words, "algorithm": "hyperband"}
    got = tuning.search(out=tmp_path / "search", **asked)
    (promoted,) = [trial for trial in got.trials if trial.parent is not None][:1]
    parent = got.trials[int(promoted.parent)]
    assert promoted.curve[: len(parent.curve)] == parent.curve and promoted.epochs > parent.epochs
    # As though the recipe had been trained at once.
    recipe = training.Recipe.load("quick").replace(
        {"model.width": 4, "train.batch_size": 128, "train.epochs": 2, "train.seed": 3}
    )
    recipe = recipe.replace({"optimizer.learning_rate": promoted.values["optimizer.learning_rate"]})
    words = {"verbose": 0, "score": (), "report": lambda epoch, _: epoch >= promoted.epochs}
    at_once = training.fit(recipe, model="resnet10", out=tmp_path / "once", **words)
    assert at_once.history["val_accuracy"] == promoted.curve


SCRIPT = """
import sys
from keras_resnet import tuning
from keras_resnet.tuning import supervisor
from tests.tuning.test_search import ASKED
import pathlib
if {faulty}:
    supervisor.WORKER = str(pathlib.Path("tests/tuning/faulty_worker.py").resolve())
if __name__ == "__main__":
    try:
        tuning.search(out=sys.argv[1], resume=True, **{{**ASKED, "verbose": True}})
    except KeyboardInterrupt as interrupt:
        print(interrupt)
        sys.exit(130)
"""


def start(out, faulty=False, **environment):
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(faulty=faulty), str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_until(condition, seconds=120):
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "it did not come about"
        time.sleep(0.1)


def running(out, trial):
    return (out / "search.json").exists() and any(
        row.id == trial and row.status == "running" and (out / "trials" / trial / "last").is_dir()
        for row in Ledger(out).trials
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_search_that_is_interrupted_or_killed_goes_on_with_each_trial_counted_once(found, tmp_path, how):
    out = tmp_path / "search"
    process = start(out)
    wait_until(lambda: running(out, "1"))
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "Interrupted after 1 of 2 trials" in said and "--resume" in said
    again = start(out)
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 0
    got = tuning.Search.load(out)
    assert [trial.curve for trial in got.trials] == [trial.curve for trial in found.trials]
    assert got.metrics == found.metrics


@pytest.mark.exhaustive
def test_a_second_search_in_a_folder_in_use_is_refused_and_another_machine_may_join(tmp_path, monkeypatch):
    out = tmp_path / "search"
    process = start(out, faulty=True, FAULT="slow:0")
    joined = None
    try:
        wait_until(lambda: running(out, "0"))
        begun = time.monotonic()
        with pytest.raises(ValueError, match="in use by process"):
            tuning.search(out=out, resume=True)
        assert time.monotonic() - begun < 5
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "machine-b")
        joined = subprocess.Popen(
            [sys.executable, "-m", "keras_resnet", "tune", "--out", str(out), "--resume"],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: any(trial.worker == "machine-b-1" and trial.score for trial in Ledger(out).trials))
        # The first machine goes away: its trial is taken over, and the search comes to its end.
        process.kill()
        joined.communicate(timeout=200)
        assert joined.returncode == 0
    finally:
        for one in filter(None, (process, joined)):
            one.kill()
            one.communicate()
    got = tuning.Search.load(out)
    assert [(trial.status, trial.worker) for trial in got.trials] == [("complete", "machine-b-1")] * 2
    assert got.metrics is not None


def test_joining_a_search_that_is_not_there_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "machine-b")
    monkeypatch.setattr(supervisor, "JOIN_SECONDS", 0.5)
    with pytest.raises(ValueError, match="there is none. One machine starts it"):
        tuning.search(out=tmp_path / "nowhere")


def test_a_search_listens_on_no_port():
    import re

    for path in (ROOT / "tuning").glob("*.py"):
        assert not re.search(
            r"AF_INET|\.bind\(|\.listen\(|create_server|grpc|0\.0\.0\.0|http", path.read_text("utf-8")
        ), path.name


def test_pruned_is_worse_than_the_median_of_what_others_had_reached():
    from keras_resnet.tuning.worker import is_to_prune

    others = [[0.1, 0.5, 0.9], [0.2, 0.6, 0.7], [0.3, 0.4, 0.8]]
    assert is_to_prune([0.1, 0.45], others, "max") and not is_to_prune([0.1, 0.55], others, "max")
    assert is_to_prune([0.9, 0.6], [[0.5, 0.4], [0.5, 0.3], [0.5, 0.2]], "min")
    assert not is_to_prune([0.2, 0.25], [[0.5, 0.4], [0.5, 0.3], [0.5, 0.2]], "min")


@pytest.mark.exhaustive
def test_a_search_is_extended_by_more_trials_as_if_they_had_been_asked_for_at_once(tmp_path, capsys):
    asked = {**ASKED, "epochs": 1}
    whole = tuning.search(out=tmp_path / "whole", **{**asked, "trials": 3})
    tuning.search(out=tmp_path / "search", **asked)
    assert main(["tune", "--out", str(tmp_path / "search"), "--resume", "--trials", "3"]) == 0
    assert "seen 2 times" in capsys.readouterr().out
    found = tuning.Search.load(tmp_path / "search")
    assert [(trial.id, trial.score) for trial in found.trials] == [(trial.id, trial.score) for trial in whole.trials]
    assert found.best.id == whole.best.id and found.tests == 2 and whole.tests == 1
    tuning.search(out=tmp_path / "search", resume=True)
    assert "already complete" in capsys.readouterr().out


def test_a_search_is_not_shortened_and_its_trials_keep_their_length(found):
    with pytest.raises(ValueError, match="holds a search of 2 trials, and 1 were asked"):
        tuning.search(out=found.path, resume=True, trials=1)
    with pytest.raises(ValueError, match="trials have 2 epochs, and 4 were asked for.*best.toml"):
        tuning.search(out=found.path, resume=True, epochs=4)


def test_the_recipe_that_fits_the_data_is_found_with_what_else_was_said_of_them(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (40, 2))
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 256, (40, 8, 8, 3), "uint8"), y=labels)
    asked = {"data": f"npz:{tmp_path / 'a.npz'}"}
    several = {"loss.name": "multilabel_cross_entropy", "model.width": "8"}
    definition = define(None, None, None, asked, 3, 5, several)
    planned = training.resolve(**asked, seed=5, overrides={**several, "train.epochs": 3})
    assert definition.recipe == planned.recipe and definition.recipe.model.width == 8
    with pytest.raises(ValueError, match="multilabel"):
        define(None, None, None, asked, None, None, {})


@pytest.mark.parametrize(
    ("loss", "metric", "direction"),
    [
        ("cross_entropy", "val_accuracy", "max"),
        ("mean_squared_error", "val_mae", "min"),
        ("ordinal", "val_accuracy", "max"),
    ],
)
def test_the_objective_is_that_of_the_task(loss, metric, direction):
    recipe = training.Recipe.load("quick").replace({"loss.name": loss})
    definition = define(None, recipe, None, {}, None, None, {})
    assert (definition.metric, definition.direction) == (metric, direction)


def test_an_objective_that_runs_do_not_report_by_themselves_is_reported(tmp_path):
    asked = {"model": None, "data": None, "data_dir": None, "algorithm": None, "trials": None}
    definition = define(None, None, None, asked, None, None, {"search.objective": "recall:3"})
    assert definition.metric == "val_recall:3" and definition.direction == "max"
    assert definition.recipe.train.monitor == "recall:3"
