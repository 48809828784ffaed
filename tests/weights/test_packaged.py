"""The weights in the package: equal to what their card says, and usable without a network."""

import hashlib
import importlib.resources
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import ResNet18, evaluation, list_weights, models, preprocessing
from keras_resnet.cli import main

FOLDER = importlib.resources.files("keras_resnet.weights")


PACKAGED = [row for row in list_weights() if row.publisher == "keras_resnet"]


@pytest.mark.parametrize("row", PACKAGED, ids=lambda row: f"{row.model}-{row.tag}")
def test_the_file_is_the_one_that_the_card_and_the_table_describe(row):
    content = (FOLDER / row.file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    card = (FOLDER / row.file.replace(".safetensors", ".md")).read_text("utf-8")
    assert digest in card and f"{row.top1 / 100:.4f}" in card
    name = f"{row.model}_{row.tag.replace('-', '_')}.safetensors"
    assert row.tag in ("cifar10", "cifar10-int8") and (row.file, row.hash) == (name, f"sha256 {digest}")


def test_the_files_are_small_enough_for_a_package():
    assert sum(len((FOLDER / row.file).read_bytes()) for row in PACKAGED) < 5_000_000


def test_a_packaged_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    content = bytearray((FOLDER / "resnet18_cifar10.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "resnet18_cifar10.safetensors").write_bytes(content)
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="is not the file that was published.*install the package again"):
        ResNet18(weights="cifar10")


def test_the_record_has_the_classes_of_cifar_10():
    model = ResNet18(weights="cifar10")
    record = preprocessing.for_model(model)
    assert model.input_shape == (None, 32, 32, 3) and record.image_size == (32, 32) and record.channel_order == "rgb"
    assert record.class_names[0] == "airplane" and record.class_names[-1] == "truck" and record.activation == "softmax"


def test_a_tag_may_have_the_name_of_its_network_before_it():
    for one, other in zip(
        ResNet18(weights="resnet18:cifar10").weights, ResNet18(weights="cifar10").weights, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="neither a tag nor a file"):
        ResNet18(weights="resnet20:cifar10")


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_commands_take_the_model_by_name_and_tag(picture, capsys, tmp_path):
    assert main(["predict", "resnet18:cifar10", str(picture), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    model = models.pretrained_model("resnet18", "cifar10")
    expected = evaluation.predict(model, picture)[0]
    assert row["classes"] == expected["classes"] and sum(best["probability"] for best in row["classes"]) <= 1
    assert main(["explain", "resnet18:cifar10", str(picture), "--out", str(tmp_path / "maps")]) == 0
    assert (tmp_path / "maps" / "picture.png").is_file()
    assert main(["info", "resnet18:cifar10"]) == 0
    assert "703,866" in capsys.readouterr().out
    assert main(["predict", "resnet18:cifar100", str(picture)]) == 2
    assert "Did you mean 'cifar10'" in capsys.readouterr().err


@pytest.mark.slow
def test_it_is_exported_with_its_preprocessing(picture, tmp_path):
    tf = pytest.importorskip("tensorflow")
    assert main(["export", "resnet18:cifar10", "--format", "savedmodel", "--out", str(tmp_path / "net")]) == 0
    serve = tf.saved_model.load(str(tmp_path / "net" / "1")).signatures["serve_bytes"]
    answer = serve(encoded=tf.constant([picture.read_bytes()]))
    best = evaluation.predict("resnet18:cifar10", picture)[0]["classes"][0]
    assert answer["class"].numpy()[0].decode() == best["name"]


@pytest.mark.slow
def test_nothing_is_asked_of_a_network(tmp_path):
    code = """
import socket
def refuse(*arguments): raise AssertionError("a connection was tried")
socket.socket.connect = refuse
import keras_resnet
print(keras_resnet.ResNet18(weights="cifar10").count_params())
"""
    environment = {**os.environ, "KERAS_RESNET_HOME": str(tmp_path / "none")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip().endswith("703866") or done.stdout.strip().isdigit()
    assert not (tmp_path / "none").exists()


@pytest.mark.data
@pytest.mark.parametrize("row", PACKAGED, ids=lambda row: f"{row.model}-{row.tag}")
def test_the_accuracy_is_that_of_the_card(real_data, row):
    name = f"{row.model}:{row.tag}"
    scores = evaluation.evaluate(name, "tfds:cifar10", data_dir=real_data / "tfds", split="test")
    assert scores["examples"] == 10_000 and scores["accuracy"] == pytest.approx(row.top1 / 100, abs=0.002)


def test_a_network_of_the_constructor_gets_the_pixels_that_its_weights_were_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), "uint8")).save(tmp_path / f"{index}.png")
    pictures = sorted(tmp_path.glob("*.png"))
    expected = evaluation.predict("resnet18:cifar10", pictures, top=10)
    plain = keras_resnet.ResNet18(weights="cifar10", input_shape=(32, 32, 3))
    plain.save(tmp_path / "plain.keras")
    for source in (plain, tmp_path / "plain.keras"):
        for found, wanted in zip(evaluation.predict(source, pictures, top=10), expected, strict=True):
            probabilities = {row["name"]: row["probability"] for row in wanted["classes"]}
            assert {row["name"]: row["probability"] for row in found["classes"]} == pytest.approx(
                probabilities, abs=1e-5
            )
    # What stands before the network already takes pixels: nothing is done twice.
    layer = preprocessing.for_model(plain).normalization
    image = keras.Input((32, 32, 3))
    scaled = keras.layers.Normalization(mean=layer.mean, variance=np.square(layer.std))(image)
    own = keras_resnet.ResNet18(weights="cifar10", input_tensor=scaled)
    found = evaluation.predict(own, pictures, top=1)
    assert [row["classes"][0]["name"] for row in found] == [row["classes"][0]["name"] for row in expected]
