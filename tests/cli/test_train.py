"""Train, evaluate and predict by the command line, on the real digits."""

import csv
import json
import re
import shlex
import signal
import time

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from keras_resnet import evaluation, training
from keras_resnet.cli import main
from keras_resnet.cli.options import parse
from tests.cli.test_process import start

# A net of 13 thousand parameters that learns the digits to some degree in one epoch of seconds.
SMALL = ("--data", "digits", "--set", "model.width=4", "--batch-size", "32", "--epochs", "1", "--seed", "5")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder that the command line made."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", *SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def digit(tmp_path):
    """An image file of the first digit, a 0."""
    pixels = np.round(load_digits().images[0] * (255 / 16)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_train_leaves_a_run_folder_that_says_what_was_asked(trained):
    run = training.Run.load(trained)
    assert run.recipe.model.width == 4
    assert len(run.history["loss"]) == 1
    names = {"run.json", "history.csv", "best.keras", "final.keras", "curves.png", "confusion.png"}
    assert names <= {path.name for path in trained.iterdir()}


def test_a_second_run_into_the_same_folder_is_refused_and_changes_nothing(trained, run):
    before = contents(trained)
    status, _, err = run("train", *SMALL, "--out", trained)
    assert status == 2
    assert str(trained) in err and "resume" in err
    assert contents(trained) == before


def test_resuming_a_finished_run_is_done_at_once(trained, run):
    weights = (trained / "final.keras").read_bytes()
    status, out, err = run("train", *SMALL, "--out", trained, "--resume")
    assert (status, err) == (0, "")
    assert (trained / "final.keras").read_bytes() == weights


def test_evaluate_prints_what_the_library_returns(trained, run):
    status, out, err = run("evaluate", trained, "--data", "digits", "--json")
    scores = json.loads(out)
    assert (status, err) == (0, "")
    assert scores == evaluation.evaluate(trained, "digits")
    assert scores["examples"] == 360
    assert scores["accuracy"] > 0.2  # twice the accuracy of guessing
    assert {"loss", "top5", "expected_calibration_error", "per_class", "confusion"} <= set(scores)


def test_evaluate_knows_the_data_of_a_run_and_prints_a_table(trained, run):
    status, out, _ = run("evaluate", trained, "--split", "validation")
    assert status == 0
    assert re.search(r"^examples +144$", out, re.MULTILINE)
    assert re.search(r"^accuracy +0\.\d{4}$", out, re.MULTILINE)
    assert len(re.findall(r"^\d +\d+ +\d\.\d{4} +\d\.\d{4} +\d\.\d{4}$", out, re.MULTILINE)) == 10


def test_evaluate_and_predict_read_the_model_file_alone(trained, run, digit):
    whole = json.loads(run("evaluate", trained, "--json")[1])
    alone = json.loads(run("evaluate", trained / "best.keras", "--data", "digits", "--json")[1])
    assert alone["confusion"] == whole["confusion"]
    assert run("predict", trained / "best.keras", digit)[0] == 0


def test_predict_prints_the_classes_of_an_image(trained, run, digit):
    status, out, err = run("predict", trained, digit, "--top", "3")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(digit)
    assert len(lines) == 4 and all(re.fullmatch(r" +\d+\.\d\d%  \d", line) for line in lines[1:])
    predictions = json.loads(run("predict", trained, digit, digit, "--json")[1])
    assert len(predictions) == 2
    assert [best["name"] for best in predictions[0]["classes"]][:3] == [line[-1] for line in lines[1:]]


def test_a_dry_run_prints_the_plan_and_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("train", *SMALL, "--out", tmp_path / "run", "--dry-run")
    assert (status, err) == (0, "")
    assert "model.width=4" in out and "optimizer  " in out
    # 1293 training examples make 40 full batches of 32.
    assert "1 epochs of 40 steps, batch 32, seed 5" in out
    assert re.search(r"^total +10 +[\d,]+ ", out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        (["--recipe", "quik"], "Did you mean 'quick'?"),
        (["--model", "resnet500"], "Did you mean 'resnet50'?"),
        (["--data", "digit"], "Did you mean 'digits'?"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--set", "model.widht=4"], "width"),
        (["--set", "model.width=wide"], "wide"),
        (["--set", "width=4"], "--set width=4 is not of the form section.field=value"),
        (["--epochs", "0"], "epochs"),
        (["--batch-size", "-1"], "batch_size"),
        (["--batch-size", "100000"], "batch_size=100000"),
        (["--set", "model.width=4", "--epochs", "1", "--seed", "-1"], "seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_refuses_what_it_cannot_do_before_it_writes(run, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run("train", "--out", "run", *words)
    assert status == 2
    assert err.startswith("keras-resnet train: ") and message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["evaluate", "nowhere"], "'nowhere' is not there"),
        (["evaluate", "."], "."),
        (["predict", "nowhere", "a.png"], "'nowhere' is not there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_path_without_a_run_is_refused(run, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert message in err


def test_an_image_that_is_none_is_named(trained, run, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    status, out, err = run("predict", trained, tmp_path / "text.png")
    assert (status, out) == (2, "")
    assert "text.png" in err


@pytest.mark.slow
def test_a_run_that_is_interrupted_exits_with_130_and_can_be_resumed(tmp_path, run):
    folder = tmp_path / "run"
    many = [*SMALL[:-4], "--epochs", "300", "--seed", "5"]
    process = start("train", *many, "--out", folder, cwd=tmp_path)
    history = folder / "history.csv"
    deadline = time.monotonic() + 300
    try:
        while not (history.exists() and len(history.read_text().splitlines()) >= 3):  # a header and two epochs
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=180)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert "--resume" in err and "Traceback" not in err

    epochs = len(history.read_text().splitlines()) - 1
    resumed = [*SMALL[:-4], "--epochs", str(epochs + 1), "--seed", "5"]
    status, _, err = run("train", *resumed, "--out", folder, "--resume")
    # The schedule depends on the number of epochs, so another number is another run; the same one goes on.
    assert status == 2 and "epochs" in err
    assert keras.saving.load_model(folder / "best.keras").output_shape == (None, 10)


@pytest.mark.slow
def test_calibrate_and_robustness_print_what_they_find(run, tmp_path):
    out = tmp_path / "run"
    status, *_ = run("train", "--out", out, "--epochs", "1", "--set", "model.width=4", "--batch-size", "128")
    assert status == 0
    status, told, _ = run("calibrate", out)
    assert status == 0 and (out / "calibrated.keras").is_file()
    assert told.startswith(f"{out / 'calibrated.keras'}\ntemperature ") and "expected_calibration_error" in told
    status, told, _ = run("calibrate", out, "--json", "--out", tmp_path / "other.keras")
    assert json.loads(told)["split"] == "validation" and (tmp_path / "other.keras").is_file()
    status, told, _ = run("evaluate", out, "--robustness")
    assert status == 0 and "\ngaussian_noise " in told and "360 examples" in told
    status, told, _ = run("evaluate", out, "--robustness", "--json")
    assert len(json.loads(told)["robustness"]["corruptions"]) == 10


def test_training_prints_one_line_per_epoch_and_what_to_know_at_the_end(run, tmp_path):
    status, out, _ = run("train", *SMALL, "--epochs", "2", "--out", tmp_path / "run")
    assert status == 0
    epochs = [line for line in out.splitlines() if re.match(r" +\d+/2 ", line)]
    assert len(epochs) == 2 and all(len(line) <= 80 for line in epochs)
    last = training.Run.load(tmp_path / "run").history
    assert f"{last['loss'][1]:.4f}" in epochs[1] and f"{last['val_accuracy'][1]:.4f}" in epochs[1]
    assert re.search(r"^score +test accuracy 0\.\d{4} \(95 % interval 0\.\d{4} to 0\.\d{4}\), 360 examples$", out, re.M)
    assert re.search(
        r"^baselines +0\.\d{4} for one answer to all, 0\.9\d+ for a linear classifier on pixels$", out, re.M
    )
    commands = re.findall(r"^  keras-resnet (.*?)  ", out, re.M)
    named = [parse(shlex.split(command)).command for command in commands]
    assert named[:3] == ["report", "predict", "evaluate"] and named[3:] in ([], ["export"])  # by what is installed


def test_answers_are_written_as_a_table_and_as_a_page(trained, run, digit, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"none")
    words = ("--csv", tmp_path / "answers.csv", "--page", tmp_path / "answers.html", "--on-bad-image", "skip")
    status, out, _ = run("predict", trained, digit, bad, *words)
    assert status == 0 and out == f"{tmp_path / 'answers.csv'}\n"
    with open(tmp_path / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    (best, *_) = evaluation.predict(trained, digit)[0]["classes"]
    assert [row["file"] for row in rows] == [str(digit), str(bad)]
    assert (rows[0]["class"], float(rows[0]["probability"])) == (best["name"], best["probability"])
    assert rows[1]["class"] == "" and "bad.png" in rows[1]["error"]
    page = (tmp_path / "answers.html").read_text("utf-8")
    assert page.count("<img ") == 1 and "skipped" in page
    assert run("predict", trained, digit, "--csv", tmp_path / "answers.txt")[0] == 2
