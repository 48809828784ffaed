"""Training that begins with weights: their network, their normalization, and their head for their classes alone."""

import hashlib
import logging

import keras
import numpy as np
import pytest

from keras_resnet import data, models, preprocessing, training, weights
from keras_resnet.cli import main
from keras_resnet.weights import sources

SMALL = {"model.width": 8, "train.epochs": 6, "train.batch_size": 64, "data.normalization": "dataset"}
# One epoch at a rate that changes nothing.
STILL = {"train.epochs": 1, "train.batch_size": 64, "optimizer.learning_rate": 1e-9, "optimizer.weight_decay": 0.0}
STILL |= {"augment.rotation": 0.0, "augment.zoom": 0.0, "augment.translation": 0.0}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on the digits, and its weights in a file."""
    folder = tmp_path_factory.mktemp("weights")
    run = training.fit("quick", model="resnet10", out=folder / "run", overrides=SMALL, verbose=0)
    assert main(["convert", str(run.path), "--out", str(folder / "digits.safetensors")]) == 0
    return run, folder / "digits.safetensors"


@pytest.mark.slow
def test_the_same_classes_go_on_where_the_weights_ended(first, tmp_path):
    run, path = first
    again = training.fit("quick", model="resnet10", out=tmp_path / "run", weights=path, overrides=STILL, verbose=0)
    assert again.model.get_layer("stem").filters == 8  # follows from the weights
    assert again.recipe.model.weights == str(path)
    layer = preprocessing.for_model(again.model).normalization
    assert layer.mean == preprocessing.for_model(run.model).normalization.mean and layer.scheme == "dataset"
    for name in ("stem", "stage3_block1", "predictions"):
        pairs = zip(run.model.get_layer(name).weights, again.model.get_layer(name).weights, strict=True)
        assert all(np.allclose(one, other, atol=1e-5) for one, other in pairs if "moving" not in one.path)


def test_other_classes_have_a_new_head(first, tmp_path, caplog):
    digits = data.load("digits")
    (images, labels), (test_images, test_labels) = digits.arrays("train"), digits.arrays("test")
    given = {"x_train": images, "y_train": labels, "x_test": test_images, "y_test": test_labels}
    names = np.array([f"digit {number}" for number in range(10)])
    np.savez(tmp_path / "named.npz", **given, class_names=names)
    spec = f"npz:{tmp_path / 'named.npz'}"
    run = training.fit(
        "quick", model="resnet10", data=spec, out=tmp_path / "run", weights=first[1], overrides=STILL, verbose=0
    )
    assert "10 others were asked for: the head 'predictions' is new" in caplog.text
    assert run.record.class_names == tuple(names)
    stem, old = (one.get_layer("stem").weights[0] for one in (run.model, first[0].model))
    assert np.allclose(stem, old, atol=1e-5)
    kernel, trained = (one.get_layer("predictions").weights[0] for one in (run.model, first[0].model))
    assert not np.allclose(kernel, trained, atol=1e-2)


def test_pixels_of_another_range_are_normalized_alike(first, tmp_path):
    run, path = first
    digits = data.load("digits")
    (images, labels), (test_images, test_labels) = digits.arrays("train"), digits.arrays("test")
    given = {"x_train": images / 255, "y_train": labels, "x_test": test_images / 255, "y_test": test_labels}
    held = {key: array.astype("float32" if key[0] == "x" else "int32") for key, array in given.items()}
    np.savez(tmp_path / "unit.npz", **held)
    words = {"data": f"npz:{tmp_path / 'unit.npz'}", "overrides": {**STILL, "data.pixel_range": "0..1"}}
    again = training.fit("quick", model="resnet10", out=tmp_path / "run", weights=path, verbose=0, **words)
    accuracy = again.metrics["test"]["accuracy"]
    assert accuracy == pytest.approx(run.metrics["test"]["accuracy"], abs=0.02)


def test_what_the_recipe_says_of_the_network_gives_way_and_its_normalization_stays(first, caplog):
    words = {**STILL, "model.width": 4, "data.normalization": "tf"}
    planned = training.fit("quick", model="resnet10", weights=first[1], overrides=words, dry_run=True, verbose=0)
    assert "model.width=4 gives way to 8" in caplog.text and planned.recipe.model.width == 8
    assert preprocessing.for_model(planned.model).normalization.scheme == "tf"


@pytest.mark.slow
def test_a_run_from_weights_is_resumed_without_them(first, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(first[1].read_bytes())
    words = {**STILL, "train.epochs": 2}
    training.fit(
        "quick",
        model="resnet10",
        out=tmp_path / "run",
        weights=copy,
        overrides=words,
        verbose=0,
        report=lambda *_: True,
    )
    done = training.fit(out=tmp_path / "run", resume=True, verbose=0)
    assert len(done.history["loss"]) == 2 and done.recipe.model.weights == str(copy)


def test_one_file_serves_every_backend(first):
    model = keras.saving.load_model(first[0].path / "best.keras", compile=False)
    audit = weights.load_weights(model, first[1])
    assert len(audit.loaded) == len(weights.open_tensors(first[1]).shapes) and not audit.kept


def test_weights_are_converted_on_the_command_line(first, tmp_path, capsys):
    file = first[1]
    out = tmp_path / "timm.safetensors"
    assert main(["convert", str(file), "--model", "resnet10", "--out", str(tmp_path / "again.safetensors")]) == 0
    again = weights.open_tensors(tmp_path / "again.safetensors")
    assert again.metadata == weights.open_tensors(file).metadata
    assert main(["convert", str(file), "--model", "resnet10", "--out", str(out), "--names", "timm"]) == 2
    assert "Networks of timm have version 'v1.5' and a stem" in capsys.readouterr().err
    assert main(["convert", str(file), "--model", "resnet10", "--out", str(file)]) == 2
    assert main(["convert", str(file), "--out", str(out)]) == 2
    assert "which model it is for" in capsys.readouterr().err


def test_published_weights_are_listed(capsys):
    assert main(["list", "--weights"]) == 0
    assert capsys.readouterr().out.count("\n") == len(weights.list_weights()) + 1


@pytest.mark.slow
def test_grey_data_begin_with_weights_of_colors(tmp_path):
    overrides = {"model.weights": "cifar10", "train.epochs": 1, "train.batch_size": 256}
    with pytest.raises(ValueError, match="pass adapt_weights=True"):
        training.fit("quick", out=tmp_path / "no", overrides=overrides, verbose=0)
    run = training.fit("quick", out=tmp_path / "run", overrides={**overrides, "model.adapt_weights": True}, verbose=0)
    packaged = models.Pretrained.of("resnet18", "cifar10")
    layer = preprocessing.for_model(run.model).normalization
    assert layer.mean == pytest.approx([np.mean(packaged.preprocessing["mean"])])
    with open(packaged.file.path, "rb") as file:
        assert run.about.weights_sha256 == hashlib.sha256(file.read()).hexdigest()
    assert training.Run.load(run.path).about.weights_sha256 == run.about.weights_sha256


def test_weights_at_hand_are_taken_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "empty"))
    with caplog.at_level(logging.WARNING):
        small = training.resolve("finetune", overrides={"train.batch_size": 256})
    assert small.recipe.model.weights == "cifar10" and "takes weights='cifar10' for resnet18" in caplog.text
    assert (
        sources.weights_at_hand("resnet18", is_small=False) == sources.weights_at_hand("resnet50", is_small=True) == ""
    )
    row = sources.default_of("resnet18")
    place = tmp_path / "empty" / "weights" / "resnet18" / row.tag
    monkeypatch.setattr(sources, "cache_folder", lambda: tmp_path / "empty" / "weights")
    place.mkdir(parents=True)
    (place / row.file).touch()
    assert sources.weights_at_hand("resnet18", is_small=False) == "imagenet"
