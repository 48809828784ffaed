"""One file, one answer: with the run folder or with the model file alone, in evaluate and in predict."""

import dataclasses
import json
import logging

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet import ResNet18, data, evaluation, preprocessing, training
from keras_resnet.tasks.outputs import last_activation
from tests import harness
from tests.evaluation.test_evaluate import build

SMALL = {"model.width": 4, "train.epochs": 1, "train.batch_size": 16, "data.image_size": 24}


def photographs(folder, sizes):
    """Class folders of noise whose brightness tells the class."""
    draw = np.random.default_rng(0)
    for label, name in enumerate(("bright", "dark", "grey")):
        (folder / name).mkdir(parents=True)
        for index in range(30):
            height, width = sizes[index % len(sizes)]
            pixels = draw.integers(0, 120, (height, width, 3)) + (120, 0, 60)[label]
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{index}.png")


@pytest.fixture(scope="module", params=[((40, 56), (64, 32)), ((40, 56),)], ids=["many sizes", "one size"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("same")
    photographs(folder / "photos", request.param)
    spec = f"folder:{folder / 'photos'}"
    return training.fit("quick", model="resnet10", data=spec, out=folder / "run", overrides=SMALL, verbose=0)


@pytest.mark.slow
def test_a_file_is_predicted_alike_with_its_run_and_with_its_model_alone(run):
    paths = sorted((run.path.parent / "photos" / "grey").iterdir())[:6]
    by_run = evaluation.predict(run.path, paths, top=3)
    by_file = evaluation.predict(run.path / "best.keras", paths, top=3)
    assert by_run == by_file == evaluation.predict(run.model, paths, top=3)
    assert {best["name"] for best in by_run[0]["classes"]} == {"bright", "dark", "grey"}


def test_predict_and_evaluate_see_the_same_pixels(run):
    record = preprocessing.for_model(run.model)
    sizing = data.sizing(record, run.dataset.image_shape)
    images, _ = next(iter(run.dataset.batches("test", 4, **sizing)))
    shape = run.dataset.image_shape
    examples = run.dataset.splits["test"]
    whole, _ = examples.arrays(4) if None not in shape else ([], None)
    paths = [] if None not in shape else [path.decode() for path in examples.contents[:4]]
    for image, one in zip(images, paths, strict=False):
        np.testing.assert_allclose(image, data.read_for_network(one, record), atol=1e-3)
    for image, one in zip(images, whole, strict=False):
        Image.fromarray(one).save(run.path.parent / "one.png")
        np.testing.assert_allclose(image, data.read_for_network(run.path.parent / "one.png", record), atol=1e-3)
    # Photographs of many sizes lose an eighth at the border, images of one size are seen whole, as in training.
    assert record.crop_fraction == (0.875 if None in shape else None)
    assert record.image_size == (24, 24) and record.class_names == ("bright", "dark", "grey") and not record.assumed


def test_a_run_and_its_model_score_alike(run):
    spec = run.description["data"]
    by_run = evaluation.evaluate(run.path, spec)
    by_model = evaluation.evaluate(run.path / "best.keras", spec, split="test")
    interval = evaluation.evaluate(run.path, spec, intervals=True)["accuracy_interval"]
    expected = {"split": "test", **by_model, "accuracy_interval": interval}
    assert by_run == by_model and {"split": "test", **run.metrics["test"]} == expected


def test_a_model_file_refuses_data_with_other_classes(run, tmp_path):
    photographs(tmp_path / "photos", ((40, 56),))
    (tmp_path / "photos" / "dark").rename(tmp_path / "photos" / "black")
    with pytest.raises(
        ValueError, match=r"\['black'\], which the model does not know. Its classes are \['bright', 'dark'"
    ):
        evaluation.evaluate(run.path / "best.keras", f"folder:{tmp_path / 'photos'}")


def test_a_run_of_an_earlier_version_answers_from_its_folder(run, tmp_path):
    """Its models carry no record, and its run.json says what they take."""
    bare = keras.models.clone_model(
        run.model,
        clone_function=lambda layer: (
            type(layer).from_config({**layer.get_config(), "record": None})
            if isinstance(layer, preprocessing.InputNormalization)
            else type(layer).from_config(layer.get_config())
        ),
    )
    bare.set_weights(run.model.get_weights())
    bare.save(tmp_path / "best.keras")
    (tmp_path / "run.json").write_text((run.path / "run.json").read_text("utf-8"), "utf-8")
    old = training.Run.load(tmp_path)
    assert preprocessing.for_model(old.model).assumed
    assert dataclasses.replace(old.record, normalization=None) == dataclasses.replace(run.record, normalization=None)
    path = next((run.path.parent / "photos" / "grey").iterdir())
    assert evaluation.predict(tmp_path, path) == evaluation.predict(run.path, path)


def test_a_model_without_a_record_says_which_defaults_were_taken(caplog):
    with caplog.at_level(logging.WARNING):
        evaluation.evaluate(ResNet18(input_shape=(8, 8, 1), stem="small", width=1, classes=10), "digits")
    (message,) = [record.getMessage() for record in caplog.records]
    assert "carries no record" in message and "crop_fraction=1.0" in message and "class_names=()" in message


@pytest.mark.parametrize("ends", ["softmax layer", "activation layer", "nested", "reshaped"])
def test_the_last_activation_is_found_wherever_it_stands(ends):
    """The same network scores the same, whichever layer computes its softmax."""
    logits = build(activation=None)
    image = keras.Input((8, 8, 1))
    outputs = logits(image) if ends == "nested" else logits.output
    last = {
        "softmax layer": keras.layers.Softmax(),
        "activation layer": keras.layers.Activation("softmax"),
        "nested": keras.layers.Softmax(),
        "reshaped": keras.Sequential([keras.layers.Softmax(), keras.layers.Reshape((10,)), keras.layers.Identity()]),
    }[ends]
    model = keras.Model(image if ends == "nested" else logits.input, last(outputs))
    assert last_activation(model) == "softmax" and last_activation(logits) == "linear"
    expected, found = (evaluation.evaluate(net, "digits") for net in (logits, model))
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["confusion"] == expected["confusion"]


def test_a_run_is_evaluated_on_prepared_data_where_it_found_it(tmp_path, monkeypatch):
    """Other data from the run's own folder of data: the folder need not be named again."""
    digits = data.load("digits")
    for name in ("one", "two"):
        images, labels = digits.arrays("train", 200)
        np.savez(tmp_path / f"{name}.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    words = {"model.width": 4, "train.epochs": 1, "train.batch_size": 32}
    run = training.fit(
        "quick",
        model="resnet10",
        data="npz:one.npz",
        data_dir=tmp_path,
        out=tmp_path / "run",
        overrides=words,
        verbose=0,
    )
    monkeypatch.chdir("/")
    assert json.loads((run.path / "run.json").read_text())["data_dir"] == str(tmp_path)
    assert evaluation.evaluate(run.path, "npz:two.npz")["examples"] == 20


@pytest.mark.parametrize("crop", harness.tiers(["auto", "none", "center", "random"], ["center"], ["auto", "random"]))
@pytest.mark.parametrize("sizes", [((40, 40), (64, 32)), ((40, 40),)], ids=["many sizes", "one size"])
def test_evaluation_cuts_where_training_does(tmp_path, sizes, crop):
    """Images of one size were tested whole and stretched, whatever training saw; those of many sizes always cut."""
    photographs(tmp_path / "photos", sizes)
    words = {**SMALL, "data.crop": crop, "data.interpolation": "bicubic"}
    words |= {} if crop == "none" else {"data.crop_fraction": 0.5}  # which has no effect there, and is refused
    spec = f"folder:{tmp_path / 'photos'}"
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=words, verbose=0)
    is_cut = crop in ("center", "random") or (crop == "auto" and len(sizes) > 1)
    record = preprocessing.for_model(run.model)
    assert (record.crop_fraction, record.interpolation) == (0.5 if is_cut else None, "bicubic")
    path = sorted((tmp_path / "photos" / "grey").iterdir())[0]
    pixels = np.asarray(Image.open(path))
    height, width = pixels.shape[:2]
    side = round(min(height, width) * 0.5)
    top, left = (height - side) // 2, (width - side) // 2
    kept = pixels[top : top + side, left : left + side] if is_cut else pixels
    expected = data.resize_for_evaluation(kept, 24, None, "bicubic").numpy()
    assert np.abs(np.asarray(data.read_for_network(path, record)) - expected).max() < 1
    if crop == "center" and len(sizes) == 1:
        # The very pixels of a training example are those of its evaluation, but for the antialiasing.
        trained = training.Experiment.of(run.recipe, run.dataset).training_batches().take(1)
        assert next(iter(trained))[0].shape == (16, 24, 24, 3)


@pytest.mark.slow
def test_images_of_their_own_size_can_be_cut(tmp_path):
    photographs(tmp_path / "photos", ((24, 24),))
    words = {**SMALL, "data.crop": "random", "data.progressive_from": 0.5, "train.epochs": 2}
    spec = f"folder:{tmp_path / 'photos'}"
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=words, verbose=0)
    assert preprocessing.for_model(run.model).crop_fraction == 0.875
    small = next(iter(training.Experiment.of(run.recipe, run.dataset).training_batches(size=(12, 12))))[0]
    assert small.shape == (16, 12, 12, 3)
