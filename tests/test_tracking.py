"""What MLflow, W&B and Trackio hold of a folder: each figure once, after resumes, kills and silent servers."""

import contextlib
import csv
import importlib.util
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")
mlflow = pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")  # MLflow's store

from keras_resnet import tracking, training, tuning  # noqa: E402
from keras_resnet.cli import main  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of MLflow's use of SQLAlchemy
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred"),  # of MLflow's own code
]
ROOT = pathlib.Path(__file__).resolve().parents[1]
SERVER = ROOT / ".venv-mlflow" / "bin" / "mlflow"
IN_TRACKIO = ROOT / ".venv-trackio" / "bin" / "python"
SMALL = {"model.width": 4, "train.epochs": 2, "train.batch_size": 64}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch):
    """An empty store of MLflow, in SQLite, as its server has it."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("tests", artifact_location=(tmp_path / "artifacts").as_uri())
    return client


@pytest.fixture
def run(digits_run, tmp_path):
    shutil.copytree(digits_run.path, tmp_path / "run")
    return tmp_path / "run"


def rows_of(path):
    with open(path / "history.csv", encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def curves_of(client, run_id, names):
    history = {name: client.get_metric_history(run_id, name) for name in names}
    return {name: sorted((metric.step, metric.value) for metric in metrics) for name, metrics in history.items()}


def expected_of(rows):
    return {name: [(int(row["epoch"]), row[name]) for row in rows] for name in rows[0] if name != "epoch"}


def metrics_in(path):
    with sqlite3.connect(path) as database:
        return database.execute("select count(*) from metrics").fetchone()[0]


@pytest.mark.slow
def test_a_run_is_in_mlflow_as_it_is_in_its_folder_however_often_it_is_sent(store, run, tmp_path, capsys):
    run_id = tracking.track(run)
    count = metrics_in(tmp_path / "mlflow.db")
    shutil.move(run, tmp_path / "copy")
    assert main(["track", str(tmp_path / "copy")]) == 0
    assert capsys.readouterr().out == f"run {run_id}\n" and metrics_in(tmp_path / "mlflow.db") == count
    rows, loaded, sent = rows_of(tmp_path / "copy"), training.Run.load(tmp_path / "copy"), store.get_run(run_id)
    expected = expected_of(rows)
    assert curves_of(store, run_id, expected) == expected
    assert sent.data.metrics["test_accuracy"] == loaded.metrics["test"]["accuracy"]
    low, high = loaded.metrics["test"]["accuracy_interval"]
    assert (sent.data.metrics["test_accuracy_low"], sent.data.metrics["test_accuracy_high"]) == (low, high)
    values = [(f"{split}_{name}", value) for split, scores in loaded.metrics.items() for name, value in scores.items()]
    numbers = {name for name, value in values if isinstance(value, float)}
    ends = {f"{name[:-9]}_{end}" for name, _ in values if name.endswith("_interval") for end in ("low", "high")}
    assert numbers | ends == set(sent.data.metrics) - set(expected)
    assert count == len(rows) * len(expected) + len(numbers | ends)
    assert sent.data.params["model"] == "resnet10" and sent.data.params["model.width"] == "4"
    assert sent.data.params["optimizer.learning_rate"] == str(loaded.recipe.optimizer.learning_rate)
    assert "model.width=4" in sent.data.tags["keras_resnet.changed"]
    assert sent.data.tags["keras_resnet.fingerprint"] == loaded.about.fingerprint and sent.info.status == "FINISHED"
    artifacts = tmp_path / "artifacts" / run_id / "artifacts"
    assert (artifacts / "best.keras").read_bytes() == (tmp_path / "copy" / "best.keras").read_bytes()
    if importlib.util.find_spec("pandas"):
        mlflow_keras = importlib.import_module("mlflow.keras")
        images = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
        expected = keras.models.load_model(tmp_path / "copy" / "best.keras").predict(images, verbose=0)
        model = mlflow_keras.load_model(f"runs:/{run_id}/model")
        np.testing.assert_array_equal(model.predict(images, verbose=0), expected)
        signature = importlib.import_module("mlflow.models").get_model_info(f"runs:/{run_id}/model").signature
        assert signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 8, 8, 1)}


@pytest.mark.slow
def test_an_answer_that_is_lost_makes_no_second_run_and_no_second_figure(store, run, tmp_path, monkeypatch):
    """Every kind of request arrives, and its answer does not, once."""
    lost = []
    for name in ("create_run", "log_batch", "log_artifact", "update_run"):
        whole = getattr(mlflow.MlflowClient, name)

        def arrives(self, *words, whole=whole, name=name, **options):
            answer = whole(self, *words, **options)
            if name not in lost:
                lost.append(name)
                raise mlflow.exceptions.MlflowException("the connection broke")
            return answer

        monkeypatch.setattr(mlflow.MlflowClient, name, arrives)
    for _ in range(4):
        with pytest.raises(ValueError, match="did not take the run: the connection broke"):
            tracking.track(run)
    run_id = tracking.track(run)
    experiment = store.get_experiment_by_name("tests").experiment_id
    assert [found.info.run_id for found in store.search_runs([experiment])] == [run_id]
    expected = expected_of(rows_of(run))
    assert curves_of(store, run_id, expected) == expected


@pytest.mark.slow
def test_a_run_that_is_extended_goes_on_in_the_same_run(store, tmp_path):
    words = {"recipe": "quick", "model": "resnet10", "out": tmp_path / "run", "verbose": 0}
    training.fit(**words, overrides={**SMALL, "train.epochs": 1})
    run_id = tracking.track(tmp_path / "run")
    with tracking.follow(tmp_path / "run"):
        training.fit(**words, overrides=SMALL, resume=True)
    sent, expected = store.get_run(run_id), expected_of(rows_of(tmp_path / "run"))
    assert len(expected["loss"]) == 2 and curves_of(store, run_id, expected) == expected
    assert sent.data.params["train.epochs"] == "1" and sent.data.tags["changed.train.epochs"] == "2"


@pytest.mark.slow
def test_searches_and_cross_validations_are_parents_of_their_runs(store, offline, tmp_path):
    space = tuning.Space([tuning.Dimension("optimizer.learning_rate", low=0.01, high=0.3, scale="log")])
    search = tuning.search(
        "quick", space=space, trials=2, epochs=1, out=tmp_path / "search", overrides=SMALL, verbose=False
    )
    folds = training.cross_validate("quick", folds=2, out=tmp_path / "folds", overrides=SMALL, verbose=0)
    experiment = store.get_experiment_by_name("tests").experiment_id
    for folder in ("search", "folds"):
        parent = tracking.track(tmp_path / folder)
        assert tracking.track(tmp_path / folder) == parent
        children = store.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
        assert len(children) == 2
        if folder == "search":
            rates = {child.data.params["optimizer.learning_rate"] for child in children}
            assert rates == {str(trial.values["optimizer.learning_rate"]) for trial in search.trials}
            assert store.get_run(parent).data.metrics["test_accuracy"] == search.metrics["accuracy"]
        else:
            scores = {child.info.run_name: child.data.metrics["test_accuracy"] for child in children}
            assert scores == {f"fold-{number}": row["accuracy"] for number, row in enumerate(folds.rows, start=1)}
    parent = tracking.track(tmp_path / "folds", "wandb")
    sent = [record.run for record in records_of_wandb(offline) if record.HasField("run")]
    expected = [(parent, ""), (f"{parent}-fold-1", "folds"), (f"{parent}-fold-2", "folds")]
    assert [(each.run_id, each.run_group) for each in sent] == expected


def test_a_server_that_refuses_or_hangs_costs_one_warning_and_no_training(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and answers none
        for uri in ("http://127.0.0.1:9", f"http://127.0.0.1:{silent.getsockname()[1]}"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            with tracking.follow(run):
                pass
            for thread in threading.enumerate():
                if thread.name == tracking.THREAD:
                    thread.join()
            (line,) = capsys.readouterr().err.splitlines()
            refuses = "did not take the run: " in line and "Check MLFLOW_TRACKING_URI" in line
            assert line.startswith("Tracking: not all of it was sent. ") and f"keras-resnet track {run}" in line
            assert refuses if uri.endswith(":9") else "The server does not answer." in line


def test_a_server_that_refuses_is_told_once_while_a_run_is_trained(run, monkeypatch, capsys):
    for name in ("POLL_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(tracking, name, 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    calls, send = [], tracking._MLflow.send
    monkeypatch.setattr(tracking._MLflow, "send", lambda self, *words: (calls.append(words), send(self, *words)))
    with tracking.follow(run):
        while len(calls) < 3:
            time.sleep(0.01)
    told, end = capsys.readouterr().err.splitlines()
    assert "did not take the run" in told and told.endswith("The training goes on; what is missing is sent later.")
    assert "not all of it was sent" in end


def test_what_cannot_be_tracked_is_refused(tmp_path, run, capsys, monkeypatch):
    with pytest.raises(ValueError, match="holds neither a run, a cross-validation nor a search"):
        tracking.track(tmp_path)
    with pytest.raises(ValueError, match="to='neptune' is not known"):
        tracking.track(run, "neptune")
    (run / "tracking.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tracking.json' cannot be read .* Remove it"):
        tracking.track(run)
    assert main(["train", "--track", "mlflow"]) == 2 and "without --out" in capsys.readouterr().err
    assert main(["train", "--track", "mlflow", "--out", "x", "--folds", "2"]) == 2
    assert "--track mlflow was given with --folds" in capsys.readouterr().err
    (run / "tracking.json").unlink()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-resnet-zoo\[mlflow\]'"):
        tracking.track(run)
    with pytest.raises(ValueError, match="holds neither a run"):  # said first
        tracking.track(tmp_path)


def records_of_wandb(folder):
    """Returns what W&B wrote offline, in the order of its folders, by the format of LevelDB's logs."""
    from wandb.proto import wandb_internal_pb2

    records = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_ctime_ns):
        content, place, parts = path.read_bytes(), 7, b""
        while place + 7 <= len(content):
            if 32768 - place % 32768 < 7:  # the rest of a block
                place += 32768 - place % 32768
            size, kind = struct.unpack("<xxxxHB", content[place : place + 7])
            parts, place = parts + content[place + 7 : place + 7 + size], place + 7 + size
            if kind in (1, 4):  # whole, or the last part
                records.append(wandb_internal_pb2.Record.FromString(parts))
                parts = b""
    return records


def values_of(items):
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """W&B without a network."""
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # what an earlier test set
    for name, value in {"MODE": "offline", "DIR": tmp_path, "DATA_DIR": tmp_path, "CACHE_DIR": tmp_path}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    return tmp_path


def rows_of_wandb(folder):
    rows = [values_of(record.history.item) for record in records_of_wandb(folder) if record.HasField("history")]
    return [{name: value for name, value in row.items() if name == "_step" or name[0] != "_"} for row in rows]


@pytest.mark.slow
def test_a_run_is_in_wandb_as_it_is_in_its_folder_however_often_it_is_sent(offline, run, capsys):
    identity = tracking.track(run, "wandb")
    assert main(["track", str(run), "--to", "wandb"]) == 0 and capsys.readouterr().out == f"run {identity}\n"
    expected = [{("_step" if name == "epoch" else name): value for name, value in row.items()} for row in rows_of(run)]
    assert rows_of_wandb(offline) == expected
    records, loaded = records_of_wandb(offline), training.Run.load(run)
    (sent,) = [record.run for record in records if record.HasField("run")]
    assert (sent.run_id, sent.project, sent.display_name) == (identity, "keras_resnet", "run")
    config = values_of(sent.config.update)
    assert config["model"] == "resnet10" and config["optimizer.learning_rate"] == loaded.recipe.optimizer.learning_rate
    summary = {}
    for record in records:
        summary |= values_of(record.summary.update) if record.HasField("summary") else {}
    low, high = loaded.metrics["test"]["accuracy_interval"]
    assert (summary["test_accuracy_low"], summary["test_accuracy_high"]) == (low, high)
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    (artifact,) = [r.request.log_artifact.artifact for r in records if r.request.HasField("log_artifact")] or [
        record.artifact for record in records if record.HasField("artifact")
    ]
    assert {"best.keras", "recipe.toml", "curves.png"} <= {entry.path for entry in artifact.manifest.contents}


@pytest.mark.slow
def test_a_run_that_goes_on_adds_its_new_epochs_to_wandb(offline, tmp_path):
    words = {"recipe": "quick", "model": "resnet10", "out": tmp_path / "run", "verbose": 0}
    with tracking.follow(tmp_path / "run", "wandb"):
        training.fit(**words, overrides={**SMALL, "train.epochs": 1})
    with tracking.follow(tmp_path / "run", "wandb"):
        training.fit(**words, overrides=SMALL, resume=True)
    rows = rows_of_wandb(offline)
    assert [row["_step"] for row in rows] == [1, 2]
    assert [row["loss"] for row in rows] == [row["loss"] for row in rows_of(tmp_path / "run")]
    assert len({record.run.run_id for record in records_of_wandb(offline) if record.HasField("run")}) == 1


@pytest.mark.slow
def test_a_failure_of_wandb_is_one_message_and_the_next_call_sends_the_rest(offline, run, monkeypatch):
    wandb = importlib.import_module("wandb")

    def refuses(*words, **options):
        raise wandb.errors.CommError("no answer")

    sender, entry = tracking._RowByRow("wandb"), tracking._entry_of(run)
    with monkeypatch.context() as broken:
        broken.setattr(wandb.Run, "finish", refuses)
        with pytest.raises(ValueError, match="wandb did not take the run: no answer. Check its settings."):
            sender.send(run, entry)
    identity = sender.send(run, entry)
    assert json.loads((run / "tracking.json").read_text("utf-8"))["sent"]["wandb"][identity]["digest"]
    assert [row["_step"] for row in rows_of_wandb(offline)] == [1, 2, 3]


def test_without_a_key_wandb_is_refused_with_what_to_do(offline, run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(offline / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(offline))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    importlib.import_module("wandb").teardown()
    with pytest.raises(ValueError, match="wandb has no API key. Run: wandb login; or set WANDB_API_KEY"):
        tracking.track(run, "wandb")


TRACKIO = """
import os, sqlite3, sys
from keras_resnet import tracking
first = tracking.track(sys.argv[1], "trackio")
assert tracking.track(sys.argv[1], "trackio") == first
(path,) = [name for name in os.listdir(os.environ["TRACKIO_DIR"]) if name.endswith(".db")]
with sqlite3.connect(os.path.join(os.environ["TRACKIO_DIR"], path)) as database:
    for step, metrics in database.execute("select step, metrics from metrics order by id"):
        print(step, metrics.decode() if isinstance(metrics, bytes) else metrics)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not IN_TRACKIO.exists(), reason="needs Trackio: make .venv-trackio/complete")
def test_a_run_is_in_the_sqlite_of_trackio_each_epoch_once(run, tmp_path):
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [IN_TRACKIO, "-c", TRACKIO, run], env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert answer.returncode == 0, answer.stderr
    sent = [(int(step), json.loads(text)) for step, text in (line.split(" ", 1) for line in answer.stdout.splitlines())]
    rows = rows_of(run)
    assert sent[: len(rows)] == [(int(row.pop("epoch")), row) for row in rows]
    (step, scores) = sent[-1]
    assert len(sent) == len(rows) + 1 and step == len(rows)
    assert scores["test_accuracy"] == training.Run.load(run).metrics["test"]["accuracy"]


@pytest.mark.slow
def test_a_training_that_is_stopped_is_killed_there_until_it_goes_on(store, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    def status():
        (sent,) = store.search_runs([store.get_experiment_by_name("tests").experiment_id])
        return sent.info.status

    words = {"out": tmp_path / "run", "overrides": SMALL, "verbose": 0, "resume": True}
    with pytest.raises(KeyboardInterrupt), tracking.follow(tmp_path / "run"):
        training.fit("quick", callbacks=[Stop()], **words)
    assert status() == "KILLED"
    with tracking.follow(tmp_path / "run"):
        training.fit("quick", **words)
    assert status() == "FINISHED"


@pytest.fixture
def server(tmp_path):
    """MLflow's own server, over HTTP, in an environment that has the whole of it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", tmp_path / "server"]
    command = [SERVER, "server", *words, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.exhaustive
@pytest.mark.skipif(not SERVER.exists(), reason="needs MLflow's server: make .venv-mlflow/complete")
def test_a_training_that_is_killed_five_times_is_one_unbroken_curve_on_the_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    words = ["train", "--data", "digits", "--out", tmp_path / "run", "--resume", "--track", "mlflow", "--epochs", "60"]
    command = [sys.executable, "-m", "keras_resnet", *words, "--set", "model.width=8", "--set", "train.save_every=20"]
    draw = random.Random(0)
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        seen = len(rows_of(tmp_path / "run")) if (tmp_path / "run" / "history.csv").is_file() else 0
        while not (tmp_path / "run" / "history.csv").is_file() or len(rows_of(tmp_path / "run")) < seen + 5:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 3))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    (sent,) = client.search_runs([experiment])
    expected = expected_of(rows_of(tmp_path / "run"))
    curves = curves_of(client, sent.info.run_id, expected)
    for name in expected:
        assert [step for step, _ in curves[name]] == list(range(1, 61)), name
        assert name in tracking.TIMINGS or curves[name] == expected[name]
    assert sent.info.status == "FINISHED" and "best.keras" in {f.path for f in client.list_artifacts(sent.info.run_id)}
