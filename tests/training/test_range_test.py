import csv

import numpy as np
import pytest
from PIL import Image

from keras_resnet import data, training
from keras_resnet.cli import main

SMALL = {"model.width": 4, "train.batch_size": 32}


@pytest.mark.slow
def test_the_range_test_rises_exponentially_and_finds_where_the_loss_falls(tmp_path):
    found = training.lr_find(out=tmp_path / "lr", overrides=SMALL, steps=80)
    with open(tmp_path / "lr" / "lr.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(found.rates)
    assert np.allclose(np.diff(np.log(found.rates)), np.log(10.0 / 1e-5) / 79)
    assert found.losses[0] != pytest.approx(found.losses[1], abs=1e-6)  # of each batch, not a mean of the epoch
    # The quick recipe's own rate is 0.1: the test must point to its neighborhood, not to the ends.
    assert 1e-3 < found.suggestion < found.rate_at_lowest_loss < 5.0
    assert min(found.smoothed) < 0.9 * found.smoothed[9]
    with Image.open(tmp_path / "lr" / "lr.png") as picture:
        assert picture.size[0] > 500
    again = training.lr_find(out=tmp_path / "lr2", overrides=SMALL, steps=80)
    assert again.losses == found.losses


@pytest.mark.exhaustive
def test_the_command_prints_its_files_and_a_suggestion(tmp_path, capsys):
    words = ["--set", "model.width=4", "--set", "train.batch_size=128"]
    assert main(["lr-find", "--out", str(tmp_path), *words]) == 0
    told = capsys.readouterr().out
    assert str(tmp_path / "lr.csv") in told and "\nsuggestion " in told


def test_bad_arguments_are_named(tmp_path):
    for options, message in (({"steps": 3}, "steps"), ({"lowest": 1.0, "highest": 0.5}, "highest")):
        with pytest.raises(ValueError, match=message):
            training.lr_find(out=tmp_path, **options)
    with pytest.raises(ValueError, match="was not finite after"):
        training.lr_find(out=tmp_path, overrides=SMALL, lowest=1e6, highest=1e30, steps=10)


def test_the_contact_sheet_shows_what_training_sees_first(tmp_path, monkeypatch):
    from keras_resnet.training import range_test as room

    drawn = {}
    monkeypatch.setattr(
        room,
        "draw_examples",
        lambda *arguments: drawn.update(zip("pctn", arguments, strict=False)) or arguments[-1].write_bytes(b"x"),
    )
    words = {"augment.mixup": 0.4, "train.batch_size": 32}
    training.preview(out=tmp_path / "grid.png", overrides=words, count=12)
    recipe = training.Recipe.load("quick").replace(words)
    dataset = recipe.data.load("digits", None, "classification")
    images, labels = next(iter(training.Experiment.of(recipe, dataset).training_batches().take(1).as_numpy_iterator()))
    assert np.allclose(drawn["c"], images[:12]) and len(drawn["t"]) == 12
    assert np.array_equal(drawn["p"], np.round(drawn["p"]))  # unchanged pixels are whole
    shares = labels[0].max()
    assert drawn["t"][0].startswith(f"{shares:.0%} {labels[0].argmax()}")


@pytest.mark.parametrize("shape", [(8, 8, 3), (30, 2), (6, 6, 6, 1)], ids=["pictures", "signals", "volumes"])
def test_examples_of_every_rank_are_drawn(shape, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x_train=rng.integers(0, 256, (40, *shape), "uint8"), y_train=np.arange(40) % 2)
    name = {1: "signals", 2: "cifar", 3: "volumes"}[len(shape) - 1]
    words = ["preview", "--data", f"npz:{tmp_path / 'd.npz'}", "--recipe", name, "--out", str(tmp_path / "g.png")]
    assert main([*words, "--set", "train.batch_size=16", "--set", "augment.pad_and_crop=1"]) == 0
    with Image.open(tmp_path / "g.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10


def test_a_preview_refuses_what_is_no_picture(tmp_path):
    with pytest.raises(ValueError, match="not a PNG file"):
        training.preview(out=tmp_path / "grid.jpg")


@pytest.mark.slow
def test_a_range_test_weighs_classes_as_training_does(tmp_path):
    images, labels = data.load("digits").arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == 0)[:100], np.flatnonzero(labels == 1)[:20]])
    np.savez(tmp_path / "d.npz", x=images[chosen], y=labels[chosen])
    found = [
        training.lr_find(
            "quick",
            model="resnet10",
            data=f"npz:{tmp_path / 'd.npz'}",
            out=tmp_path / balance,
            steps=10,
            overrides={"model.width": 2, "train.batch_size": 16, "data.balance": balance},
        ).losses
        for balance in ("none", "weights")
    ]
    assert not np.allclose(found[0], found[1])
