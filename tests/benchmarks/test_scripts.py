"""Every script of benchmarks/ runs to its end with tiny sizes; their figures are for people.

That of distribution starts six processes that load TensorFlow: a minute of processor time.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import contestants

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Script -> the words that keep it small. The contests run with this package's contestants alone.
SCRIPTS = {
    "accuracy": ["proof", "--data", "digits", "--epochs", "1", "--width", "4"],
    "bad_calls": [],
    "bad_images": [],
    "defaults": ["--rows", "digits, 100", "--minutes", "0.2"],
    "commands": ["--rounds", "1", "--model", "resnet10"],
    "decode_crop": ["--images", "64", "--batches", "2"],
    "backends": ["--quick", "--rounds", "1", "--steps", "2"],
    "distribution": ["--quick"],
    "listing": ["--quick"],
    "executions": ["--executions", "2", "--rounds", "1", "--epochs", "3"],
    "export_speed": ["--quick", "--rounds", "1", "--steps", "2"],
    "fine_tuning": ["--labels", "5", "--seeds", "0", "--epochs", "1"],
    "gpu": ["--quick", "--device", "cpu", "--rounds", "1", "--contestants", "keras_tensorflow"],
    "gradient_sweep": ["--cases", "6"],
    "grouped_convolution": ["--quick", "--rounds", "1"],
    "import_time": ["--rounds", "1"],
    "inference": ["--quick", "--rounds", "1", "--steps", "2"],
    "input_pipeline": ["--images", "64", "--batches", "2", "--rounds", "1"],
    "kernel_forms": ["--quick", "--rounds", "1"],
    "memory": ["--quick"],
    "loading": ["--quick", "--rounds", "1"],
    "loop_ends": ["--calls", "1", "--steps", "2"],
    "pixels": ["--side", "64"],
    "prepared": ["--only", "1 MP", "--images", "8", "--rounds", "1"],
    "profile_step": ["--quick", "--steps", "1"],
    "reliability": ["writer", "--kills", "20"],
    "rare_classes": ["--seeds", "0", "--epochs", "1", "--width", "4"],
    "search": [
        *("--trials", "2", "--epochs", "1", "--seeds", "0", "--algorithms", "random"),
        *("--set", "model.width=4", "--set", "train.batch_size=128"),
    ],
    "strided_pixels": ["--quick"],
    "streaming": ["--quick"],
    "start_up": ["--quick", "--rounds", "1"],
    "training_step": ["--quick", "--rounds", "1", "--steps", "2"],
}
# Parts of the contests, what makes the environment of the peers, and those that read all of CIFAR-10.
NOT_SCRIPTS = {
    *("accuracy_peers", "contest", "contestants", "exports", "gpu_contestants", "hosts"),
    *("novelty", "peers", "resnet20_torch"),
}


def test_every_script_is_run():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == {*SCRIPTS, *NOT_SCRIPTS}


def run(name, *words):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_prints_its_table_and_writes_its_figures(name, tmp_path):
    folder = ["--out", tmp_path] if name in ("accuracy", "fine_tuning") else []
    done = run(name, *SCRIPTS[name], *folder, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert figures
    for row in figures.get("rows", ()):
        failed = {contestant: result for contestant, result in row.get("results", {}).items() if "failure" in result}
        # The peers are not installed here; ours must run.
        assert not [contestant for contestant in failed if contestant.startswith("keras_resnet")], failed


@pytest.mark.exhaustive
def test_a_contestant_that_fails_leaves_the_others_their_ratios(tmp_path):
    # The interpreter of the peers does not exist: the first contestant fails, and the second becomes the reference.
    words = ["--quick", "--rounds", 1, "--steps", 2, "--peers", tmp_path / "none"]
    done = run("training_step", *words, "--contestants", "timm_eager", "keras_resnet", "keras_resnet_stock")
    assert done.returncode == 0, done.stderr
    cells = {row.split(" | ")[1]: row.split(" | ")[3] for row in done.stdout.splitlines() if row.count(" | ") > 3}
    assert cells["keras_resnet"] == "reference" and float(cells["keras_resnet_stock"]) > 0
    assert "timm_eager" in done.stdout and "No such file" in done.stdout


@pytest.mark.parametrize(
    ("name", "model", "size", "width"),
    [
        ("keras_applications", "resnet18", 224, 64),
        ("keras_applications", "resnet50", 224, 16),
        ("keras_hub", "resnet18", 32, 64),
        ("keras_hub", "resnet50", 224, 16),
    ],
)
def test_a_contestant_refuses_networks_that_it_has_not(name, model, size, width):
    options = argparse.Namespace(model=model, size=size, width=width)
    with pytest.raises(ValueError, match="width"):
        contestants.KERAS_CONTESTANTS[name](options)


@pytest.mark.exhaustive
def test_the_gradients_of_volumes_are_those_of_float64():
    count = 60
    done = run("gradient_sweep", "--cases", count)
    assert done.returncode == 0, done.stdout
    assert f"{count} cases, {count} right, 0 not" in done.stdout
