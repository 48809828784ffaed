"""Pruning a trained model: what is written, what it is compared with, and training it again."""

import json

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import data, evaluation, preprocessing, training  # noqa: E402
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.evaluation import pruning  # noqa: E402
from keras_resnet.models import model_info  # noqa: E402

FEW = {"train.epochs": 3, "train.batch_size": 32, "schedule.name": "constant"}


@pytest.fixture(scope="module")
def small(digits_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("pruned") / "small.keras"
    return evaluation.prune(digits_run, path, 0.5, by="taylor")


def norms_of(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def test_statistics_are_the_means_over_the_batches():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    batches = np.random.default_rng(0).normal(2.0, 3.0, (5, 16, 4)).astype("float32")
    pruning._measure_norms(model, [(batch, None) for batch in batches])
    np.testing.assert_allclose(model.layers[1].moving_mean, batches.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(model.layers[1].moving_variance, batches.var(axis=1).mean(axis=0), rtol=1e-5)


def test_the_file_holds_what_is_told(digits_run, small):
    model = evaluation.load_model(small.path)
    info = model_info(model)
    assert small.after["parameters"] == info.parameters < small.before["parameters"]
    assert small.after["multiply_adds"] == info.multiply_adds <= 0.5 * small.before["multiply_adds"]
    assert small.after["bytes"] == small.path.stat().st_size < small.before["bytes"]
    assert list(small.path.parent.iterdir()) == [small.path]
    assert small.split == "validation" and small.metric == "accuracy"
    for figures, source in ((small.before, digits_run), (small.after, small.path)):
        scored = evaluation.evaluate(source, digits_run.dataset, split="validation")
        assert figures["score"] == pytest.approx(scored["accuracy"])
    assert small.after["score"] > 0.2 and all(norm.momentum == 0.9 for norm in norms_of(digits_run.model))
    assert all(norm.momentum == 0.9 for norm in norms_of(model))
    record, parent = preprocessing.for_model(model), preprocessing.for_model(digits_run.model)
    assert record.class_names == parent.class_names and record.task == parent.task
    assert record.image_size == parent.image_size


@pytest.mark.slow
def test_it_is_trained_again_and_goes_on_to_the_same_bits(small, tmp_path):
    words = {"model": small.model, "data": "digits", "weights": small.path, "overrides": FEW, "verbose": 0}
    whole = training.fit("quick", out=tmp_path / "whole", **words)
    assert whole.recipe.model.widths and model_info(whole.model).parameters == small.after["parameters"]
    assert whole.metrics["validation"]["accuracy"] > small.after["score"]
    stopped = training.fit("quick", out=tmp_path / "halves", report=lambda epoch, figures: True, **words)
    assert len(stopped.history["loss"]) == 1
    resumed = training.fit(out=tmp_path / "halves", resume=True, verbose=0)
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_thresholds_of_the_parent_are_left_out(tmp_path):
    inputs = keras.Input((8, 8, 1))
    from keras_resnet import ResNet10

    x = preprocessing.InputNormalization("unit")(inputs)
    model = ResNet10(input_tensor=x, stem="small", width=8, classes=2, classifier_activation=None)
    preprocessing.describe_outputs(model, ["a", "b"], task="multilabel", thresholds=[0.2, 0.9])
    done = evaluation.prune(model, tmp_path / "small.keras")
    record = preprocessing.for_model(evaluation.load_model(done.path))
    assert record.thresholds == () and record.task == "multilabel" and record.class_names == ("a", "b")
    assert "score" not in done.after and done.split is None


def test_labels_are_numbered_as_the_model_numbers_its_classes(digits_run):
    predictor = evaluation.open_predictor(digits_run)
    turned = data.load("digits")
    turned.class_names = tuple(reversed(turned.class_names))
    for (_, one), (_, other) in zip(
        pruning._batches(turned, predictor), pruning._batches(data.load("digits"), predictor), strict=True
    ):
        np.testing.assert_array_equal(one, 9 - other)


def test_two_classes_with_one_output_are_pruned_by_their_loss(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "two.npz", x=rng.integers(0, 256, (80, 8, 8, 1), "uint8"), y=np.arange(80) % 2)
    overrides = {"model.width": 8, "train.epochs": 1, "train.batch_size": 16, "loss.name": "binary_cross_entropy"}
    words = {"model": "resnet10", "data": f"npz:{tmp_path}/two.npz", "overrides": overrides, "verbose": 0}
    done = evaluation.prune(training.fit("quick", out=tmp_path / "run", **words), tmp_path / "small.keras")
    assert 0 <= done.after["score"] <= 1 and np.isfinite(evaluation.load_model(done.path).get_weights()[0]).all()


def test_the_command_prints_a_table_or_json_and_what_follows(digits_run, tmp_path, capsys):
    path = str(digits_run.path)
    assert main(["prune", path, "--out", str(tmp_path / "a.keras")]) == 0
    shown = capsys.readouterr().out
    assert "multiply-adds" in shown and "validation accuracy" in shown
    assert f"--set distill.teacher={path}" in shown and f"--weights {tmp_path / 'a.keras'}" in shown
    assert main(["prune", path, "--macs", "0.7", "--out", str(tmp_path / "b.keras"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["after"]["multiply_adds"] <= 0.7 * told["before"]["multiply_adds"]


def test_what_cannot_be_is_told_before_anything_is_written(digits_run, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"does not end in \.keras"):
        evaluation.prune(digits_run, tmp_path / "small.h5")
    with pytest.raises(ValueError, match="by='taylor' was given with a model that has no run"):
        evaluation.prune(digits_run.model, tmp_path / "small.keras", by="taylor")
    (tmp_path / "there.keras").write_bytes(b"mine")
    assert main(["prune", str(digits_run.path), "--out", str(tmp_path / "there.keras")]) == 2
    assert (tmp_path / "there.keras").read_bytes() == b"mine" and not (tmp_path / "small.keras").exists()
    assert main(["prune", str(digits_run.path), "--macs", "0.00001", "--out", str(tmp_path / "s.keras")]) == 2
    assert "stay with 4 channels" in capsys.readouterr().err and not (tmp_path / "s.keras").exists()
