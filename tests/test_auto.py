"""One command without a recipe: what it compares, what it leaves, and that it goes on."""

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.auto import CHANGES, train_best  # noqa: E402
from keras_resnet.cli import main  # noqa: E402

# How many epochs fit depends on the machine; under load it may be one.
SHORT = pytest.mark.filterwarnings("ignore:minutes=.* is less than one epoch takes:UserWarning")
SMALL = {"model.width": 4, "train.batch_size": 32}


@pytest.mark.slow
@SHORT
def test_the_best_candidate_is_trained_longest_and_a_second_call_trains_nothing(tmp_path, capsys):
    first = train_best("digits", tmp_path / "auto", minutes=1.0, overrides=SMALL, verbose=0)
    assert set(first.candidates) == set(CHANGES)
    assert first.chosen == max(first.candidates, key=first.candidates.__getitem__)
    runs = {name: training.Run.load(tmp_path / "auto" / name) for name in (*CHANGES, "best")}
    assert len({runs[name].recipe.train.epochs for name in CHANGES}) == 1
    assert runs["best"].recipe.train.epochs >= runs["planned"].recipe.train.epochs
    rates = {name: runs[name].recipe.optimizer.learning_rate for name in runs}
    assert rates["best"] == rates[first.chosen] and rates["high-rate"] == pytest.approx(9 * rates["low-rate"])
    assert "test" not in runs["planned"].metrics and "test" in runs["best"].metrics
    written = json.loads((tmp_path / "auto" / "auto.json").read_text("utf-8"))
    assert (
        written["notice"] == "" and written["chosen"] == first.chosen and (tmp_path / "auto" / "report.html").is_file()
    )
    best = (tmp_path / "auto" / "best" / "best.keras").read_bytes()
    again = train_best("digits", tmp_path / "auto", minutes=1.0, overrides=SMALL, verbose=0)
    assert again.candidates == first.candidates and (tmp_path / "auto" / "best" / "best.keras").read_bytes() == best
    assert main(["report", str(tmp_path / "auto" / "best"), "--out", str(tmp_path / "r.html")]) == 0


@pytest.mark.exhaustive
@SHORT
def test_candidates_are_of_the_width_that_fits_the_minutes(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2700, 8, 8, 3)).astype("uint8")
    np.savez(tmp_path / "set.npz", x=images, y=np.arange(2700) % 3)
    train_best(f"npz:{tmp_path}/set.npz", tmp_path / "auto", minutes=0.1, model="resnet10", verbose=0)
    recipes = [training.Run.load(tmp_path / "auto" / name).recipe for name in CHANGES]
    assert [recipe.model.width for recipe in recipes] == [16, 16, 16]
    assert len({(recipe.train.epochs, recipe.train.precision, recipe.augment.policy) for recipe in recipes}) == 1


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match="minutes=0 is not a time"):
        train_best("digits", tmp_path / "a", minutes=0)
    with pytest.raises(ValueError, match="train.epochs was given, which is what is looked for"):
        train_best("digits", tmp_path / "a", overrides={"train.epochs": 3})
    images = np.zeros((40, 8, 8, 1), "uint8")
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.arange(40) % 2, x_test=images, y_test=np.arange(40) % 2)
    with pytest.raises(ValueError, match="has no validation split"):
        train_best(f"npz:{tmp_path}/set.npz", tmp_path / "a", overrides={**SMALL, "data.validation_fraction": 0.0})


def test_weights_that_may_know_the_pictures_are_noticed(tmp_path, monkeypatch, capsys):
    class Stop(Exception):
        pass

    def fit(*words, **options):
        raise Stop

    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3)).astype("uint8")
    monkeypatch.setattr(training, "fit", fit)
    for name, names in (("other", ["a", "b", "c"]), ("same", ["cat", "dog", "frog"])):
        np.savez(tmp_path / f"{name}.npz", x=images, y=np.arange(60) % 3, class_names=names)
        with pytest.raises(Stop):
            train_best(f"npz:{tmp_path}/{name}.npz", tmp_path / name, model="resnet18", verbose=1)
        # Of CIFAR-10's own classes they are not taken at all.
        assert ("learned from CIFAR-10" in capsys.readouterr().out) == (name == "other")


@pytest.mark.slow
@SHORT
def test_minutes_keep_the_planned_epochs_when_a_run_goes_on(tmp_path):
    words = {"recipe": "quick", "overrides": SMALL, "out": tmp_path / "run", "verbose": 0}
    run = training.fit(**words, minutes=0.6)
    again = training.fit(**words, minutes=0.6, resume=True)
    assert again.recipe.train.epochs == run.recipe.train.epochs
