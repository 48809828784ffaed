"""Folders that a stranger made: nothing outside of them is written, no module of theirs is run, nothing hangs."""

import dataclasses
import errno
import functools
import json
import operator
import os
import shutil
import subprocess
import sys
import warnings

import pytest

pytest.importorskip("tensorflow")

import filelock  # noqa: E402

from keras_resnet import data, files, locks, report, training, tuning
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.errors import BadValue  # noqa: E402
from keras_resnet.training import state
from keras_resnet.training.run import locked  # noqa: E402
from keras_resnet.tuning import Dimension, Search, Settings, Space  # noqa: E402
from keras_resnet.tuning import ledger as record_file
from keras_resnet.tuning.definition import Definition  # noqa: E402
from keras_resnet.tuning.ledger import (  # noqa: E402
    COMPLETE,
    Ledger,  # noqa: E402
    Trial,
)

pytestmark = pytest.mark.slow

SMALL = {"model.width": 4, "train.epochs": 1, "train.batch_size": 128}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "run"
    training.fit("quick", model="resnet10", out=path, overrides=SMALL, verbose=0, report=lambda epoch, figures: True)
    return path


def test_a_note_of_the_users_beside_the_lock_stays(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / ".lock-holder").write_text("mine")
    with (
        pytest.raises(ValueError, match=r"\.lock-holder' exists, and keras_resnet did not write it"),
        locked(tmp_path / "run"),
    ):
        pass
    assert (tmp_path / "run" / ".lock-holder").read_text() == "mine"


@pytest.mark.parametrize("name", [".lock", ".lock-holder", "last", "logs", "best.keras", "history.csv", "run.json"])
def test_a_link_in_a_run_folder_is_not_written_through(run, tmp_path, name):
    shutil.copytree(run, tmp_path / "run")
    mine = tmp_path / "mine"
    source = tmp_path / "run" / name
    if source.is_dir():
        shutil.move(source, mine)
    else:
        mine.write_bytes(source.read_bytes() if source.exists() else b"precious")
        source.unlink(missing_ok=True)
    before = sorted(mine.iterdir()) if mine.is_dir() else mine.read_bytes()
    source.symlink_to(mine)
    with pytest.raises(ValueError, match=f"{name}' is a link"):
        training.fit(out=tmp_path / "run", resume=True, overrides={"train.epochs": 2}, verbose=0)
    assert (sorted(mine.iterdir()) if mine.is_dir() else mine.read_bytes()) == before


@pytest.mark.parametrize("how", [pytest.param("moved", marks=pytest.mark.slow), "removed"])
def test_a_run_whose_folder_goes_away_stops_and_makes_no_other(tmp_path, how):
    out, new = tmp_path / "run", tmp_path / "new"
    words = {**SMALL, "train.epochs": 3}

    def go_away(epoch, figures):
        shutil.move(out, new) if how == "moved" else shutil.rmtree(out)

    with pytest.raises(ValueError, match="was moved or removed while the run wrote there"):
        training.fit("quick", model="resnet10", out=out, overrides=words, verbose=0, report=go_away)
    assert not out.exists()
    if how == "moved":
        done = training.fit(out=new, resume=True, verbose=0)
        assert done.file.status == "complete" and len(done.history["loss"]) == 3


def test_a_description_that_names_a_pipe_does_not_hang(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    os.mkfifo(tmp_path / "pipe.npz")
    about = json.loads((run / "run.json").read_text("utf-8"))
    (tmp_path / "run" / "run.json").write_text(json.dumps({**about, "data": f"npz:{tmp_path / 'pipe.npz'}"}))
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "not a regular file" in capsys.readouterr().err
    os.mkfifo(tmp_path / "recipe.toml")
    assert main(["train", "--recipe", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "x")]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "pipe", "pipe"],
        ["predict", "/dev/zero", "pipe"],
        ["inspect-data", "wds:pipe.tar"],
        ["inspect-data", "wds:."],
        ["train", "--data", "csv:pipe", "--out", "x"],
    ],
)
def test_a_pipe_or_a_device_that_is_given_does_not_hang(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    for name in ("pipe", "pipe.tar"):
        os.mkfifo(name)
    assert main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_pipe_in_the_place_of_a_page_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "page.html")
    assert not files.is_replaceable(tmp_path / "page.html")


@pytest.mark.parametrize("name", ["run.json", "folds.json"])
def test_json_nested_without_end_is_refused(tmp_path, capsys, name):
    (tmp_path / name).write_text("[" * 60_000)
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    assert "recursion" in capsys.readouterr().err


def test_a_trial_cannot_lie_outside_of_its_search(tmp_path):
    for name in ("../../mine", "/etc", "a/b", ""):
        with pytest.raises(ValueError, match="names a trial"):
            Ledger(tmp_path).folder_of(name)
    assert Ledger(tmp_path).folder_of("0001") == tmp_path / "trials" / "0001"


@pytest.mark.slow
def test_a_set_whose_description_names_a_module_is_not_opened(tmp_path):
    folder = tmp_path / "photos" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"name": "photos", "version": "1.0.0"}')
    feature = {"pythonClassName": "evil.module.Feature", "text": {}}
    described = {"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict"}
    (folder / "features.json").write_text(json.dumps({**described, "featuresDict": {"features": {"x": feature}}}))
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "module.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from keras_resnet import data; data.load('tfds:photos', data_dir=sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "names 'evil.module.Feature', whose module TFDS would run" in done.stderr
    assert not (tmp_path / "was_run").exists()
    assert data is not None


@pytest.mark.slow
def test_workers_of_a_search_take_no_module_from_where_the_user_works(tmp_path, monkeypatch):
    (tmp_path / "keras.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    (tmp_path / "signal.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    space = tuning.Space([tuning.Dimension("optimizer.learning_rate", low=0.01, high=0.1, scale="log")])
    tuning.search(space=space, trials=1, out=tmp_path / "search", overrides=SMALL, verbose=False)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_a_file_system_has_no_locks_a_file_takes_their_place(tmp_path, monkeypatch, number):
    def refuse(self, *words, **more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    lock = locks.acquire(tmp_path / "a.lock", 0)
    with pytest.raises(filelock.Timeout):
        locks.acquire(tmp_path / "a.lock", 0)
    lock.release()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        locks.acquire(tmp_path / "a.lock", 0).release()


STRANGE = (None, True, -1, 1.5, 2**60, "x", [], {}, [[]], {"a": {}}, [1], ["x"], {"best": "x"})


def test_a_description_of_a_state_that_no_training_wrote_is_not_used(run, tmp_path):
    (path,) = state.newest_first(run / "last")
    description, values = state.read_state(path)
    rows = [tuple(row) for row in description["variables"]]
    named = [(name, row, value) for name, row, value in zip(description["tensors"], rows, values, strict=True)]
    tried = 0
    for key in description:
        if key in ("variables", "tensors"):
            continue  # which the writer makes itself
        for strange in STRANGE:
            state.write_state(tmp_path / "last" / path.name, named, {**description, key: strange})
            tried += 1
            try:
                found = state.read_newest(tmp_path / "last")
                progress = state.Progress()
                progress.take(found[0])
            except training.CheckpointError as error:
                assert "none that a training wrote" in str(error)
    assert tried >= 60


@pytest.mark.slow
def test_a_record_that_no_search_wrote_is_one_error(tmp_path):
    space = Space([Dimension("train.batch_size", choices=(32, 64)), Dimension("model.l2", low=1e-6, high=0.1)])
    recipe = training.Recipe.load("quick")
    ledger = Ledger(tmp_path)
    ledger.create(Definition(recipe, "resnet10", "digits", None, "random", 3, 0, space, Settings()))
    values = {"train.batch_size": 32, "model.l2": 0.01}
    trial = Trial("0", values, COMPLETE, score=0.5, epochs=2, curve=[0.25, float("inf")])
    final = {"trial": "0", "test": {"examples": 3, "accuracy": 0.5}}
    good = {**ledger.record.read(), "trials": [dataclasses.asdict(trial)], "final": final}
    ledger.record.write(good)
    assert "0.5000" in str(Search.load(tmp_path))
    assert "trial 0" in report.write_report(tmp_path, tmp_path / "a.html").read_text()

    def places(value, place=()):
        yield place
        if isinstance(value, (dict, list)):
            for key in value if isinstance(value, dict) else range(len(value)):
                yield from places(value[key], (*place, key))

    refused = 0
    for place in places({key: value for key, value in good.items() if key not in ("definition", "oracle")}):
        for strange in (*STRANGE, 10**30):
            record = json.loads(json.dumps(good))
            owner = functools.reduce(operator.getitem, place[:-1], record)
            if place:
                owner[place[-1]] = strange
            for file in (ledger.record.file, ledger.record.previous):
                files.write_checked(file, record_file.MAGIC, json.dumps(record if place else strange).encode())
            try:
                print(Search.load(tmp_path))
                report.write_report(tmp_path, tmp_path / "a.html")
            except BadValue as error:
                refused += "not one that a search wrote" in str(error)
    assert refused >= 80
