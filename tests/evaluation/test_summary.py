"""What is said at the end of a run, against scikit-learn on the same pixels."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("tensorflow")

from keras_resnet import data, evaluation, training  # noqa: E402
from keras_resnet.evaluation.summary import constant_score  # noqa: E402
from keras_resnet.tasks import CLASSIFICATION, Predictions  # noqa: E402

pytestmark = pytest.mark.slow

SMALL = {"train.epochs": 1, "model.width": 4}


def test_the_baselines_are_those_of_scikit_learn():
    digits = data.load("digits")
    (images, labels), (test_images, test_labels) = (digits.arrays(split) for split in ("train", "test"))
    pixels, test_pixels = (part.reshape(len(part), -1) for part in (images, test_images))
    constant = DummyClassifier(strategy="most_frequent").fit(pixels, labels).score(test_pixels, test_labels)
    assert constant_score(digits, "test", CLASSIFICATION) == pytest.approx(constant)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200)).fit(pixels, labels)
    assert evaluation.linear_baseline(digits, "test") == pytest.approx(linear.score(test_pixels, test_labels))


def test_photographs_of_several_sizes_have_a_baseline_too(tmp_path):
    rng = np.random.default_rng(0)
    for name, mean in (("dark", 60), ("light", 180)):
        (tmp_path / name).mkdir()
        for number in range(30):
            height, width = rng.integers(130, 300, 2)
            pixels = rng.normal(mean, 30, (height, width, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    photographs = data.load(f"folder:{tmp_path}")
    assert photographs.image_shape == (None, None, 3)
    assert evaluation.linear_baseline(photographs, "test") == 1.0


def test_the_interval_of_an_accuracy_is_that_of_a_share():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    right = rng.random(400) < 0.8
    logits = np.eye(2)[np.where(right, labels, 1 - labels)]
    predictions = Predictions(CLASSIFICATION, logits, labels, ("a", "b"))
    low, high = predictions.interval("accuracy")
    share, error = right.mean(), np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert (low, high) == pytest.approx((share - 1.96 * error, share + 1.96 * error), abs=0.01)
    assert [low, high] == predictions.intervals()["accuracy_interval"]
    grouped = predictions.replace(groups=np.arange(400) // 40)
    assert (
        grouped.interval("accuracy") is not None
        and predictions.replace(groups=["x"] * 400).interval("accuracy") is None
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch, worse than a linear classifier."""
    return training.fit("quick", model="resnet10", out=tmp_path_factory.mktemp("r") / "run", overrides=SMALL, verbose=0)


def test_a_run_below_a_linear_classifier_is_warned_of(run):
    assert "warning    a linear classifier on pixels is better" in evaluation.summary(run)


def test_a_run_below_one_answer_to_all_is_warned_of(run):
    figures = {**run.metrics["test"], "accuracy": 0.05}
    file = dataclasses.replace(run.file, metrics={**run.metrics, "test": figures})
    assert "no better than one answer to all" in evaluation.summary(training.Run(run.path, file, dataset=run.dataset))


def test_splits_that_are_far_apart_and_an_early_best_epoch_are_warned_of(run):
    metrics = {
        "validation": {**run.metrics["validation"], "accuracy_interval": [0.97, 0.99]},
        "test": run.metrics["test"],
    }
    rows = tuple({"epoch": number, "loss": 1.0} for number in range(1, 9))
    file = dataclasses.replace(run.file, metrics=metrics, history=rows, best_epoch=2)
    text = evaluation.summary(training.Run(run.path, file, dataset=run.dataset))
    assert "the best epoch was 2 of 8" in text and "the test split is far from the validation split" in text
    about = dataclasses.replace(file.about, sizes={**file.about.sizes, "validation": 16})
    few = evaluation.summary(training.Run(run.path, dataclasses.replace(file, about=about), dataset=run.dataset))
    assert "the best epoch" not in few  # of 16 examples one more mistake is a fall


@pytest.mark.slow
def test_a_regression_has_its_error_with_an_interval(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (120, 8, 8, 1)).astype("uint8")
    np.savez(tmp_path / "r.npz", x=images, y=images.mean(axis=(1, 2, 3)).astype("float32"))
    words = {**SMALL, "train.batch_size": 8, "loss.name": "mean_squared_error"}
    run = training.fit(
        "quick", model="resnet10", data=f"npz:{tmp_path}/r.npz", out=tmp_path / "run", overrides=words, verbose=0
    )
    text = evaluation.summary(run)
    assert "score      test mae " in text and "interval" in text and "baselines" not in text
    low, high = run.metrics["test"]["mae_interval"]
    assert low < run.metrics["test"]["mae"] < high


@pytest.mark.parametrize("is_there", [True, False])
def test_an_export_is_advised_where_it_can_be_made(run, is_there, monkeypatch):
    find = importlib.util.find_spec
    known = {name: find("json") if is_there else None for name in ("onnxruntime", "tf2onnx")}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: known[name] if name in known else find(name, *rest)
    )
    assert (f"export {run.path} --format onnx --out {run.path}/best.onnx" in evaluation.summary(run)) is is_there
