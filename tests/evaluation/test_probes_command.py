"""`probe` on the command line: the figures of `evaluation.probe`."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from keras_resnet import cli, evaluation, training  # noqa: E402


def test_the_command_prints_the_figures_of_frozen_features(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, color in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(30):
            noise = rng.normal(0, 20, (32, 32, 3)) + color
            Image.fromarray(noise.clip(0, 255).astype("uint8")).save(tmp_path / "photos" / name / f"{index}.png")
    assert not cli.main(["probe", "--data", f"folder:{tmp_path}/photos", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["guess_accuracy"] == 0.5  # 3 of 6 test examples have the commonest class
    assert told["linear_accuracy"] == 1.0 and told["features"] == 128 and told["test_examples"] == 6
    assert not cli.main(["probe", "--data", f"folder:{tmp_path}/photos"])
    assert "linear_accuracy         1.0000" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_probed_with_the_network_that_it_holds(tmp_path, capsys):
    run = training.fit(
        "quick", model="resnet10", out=tmp_path / "run", overrides={"model.width": 4, "train.epochs": 1}, verbose=0
    )
    assert not cli.main(["probe", "--data", "digits", "--weights", str(run.path), "--json"])
    assert json.loads(capsys.readouterr().out) == pytest.approx(evaluation.probe(run), abs=1e-6)
    assert cli.main(["probe", "--data", "digits", "--weights", str(run.path), "--model", "resnet18"]) == 2
    assert "knows its own" in capsys.readouterr().err


def test_gray_pictures_are_probed_by_a_network_of_colors(tmp_path):
    rng = np.random.default_rng(0)
    for mode in ("L", "RGB"):
        for index in range(24):
            place = tmp_path / mode / ("dark" if index % 2 else "bright")
            place.mkdir(parents=True, exist_ok=True)
            gray = Image.fromarray((rng.integers(0, 60, (32, 32)) + 150 * (index % 2 == 0)).astype("uint8"))
            gray.convert(mode).save(place / f"{index}.png")
        rng = np.random.default_rng(0)
    gray, color = (evaluation.probe("resnet18:cifar10", f"folder:{tmp_path}/{mode}") for mode in ("L", "RGB"))
    assert gray == color and gray["linear_accuracy"] == 1.0
