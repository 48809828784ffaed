"""A published folder: what it holds, who reads it, what is replaced, and whether its figure holds."""

import hashlib
import json
import pathlib
import shutil
import sys
import types

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("huggingface_hub")

from huggingface_hub import ModelCard  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors import safe_open  # noqa: E402

import keras_resnet  # noqa: E402
from keras_resnet import data, evaluation, preprocessing, publishing, training  # noqa: E402
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.publishing import folder as folder_module  # noqa: E402
from keras_resnet.publishing import readers  # noqa: E402
from keras_resnet.publishing.card import with_interval  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers"
FILES = {"README.md", "config.json", "model.keras", "model.safetensors", "recipe.toml", "keras_resnet.json"}
SPLITS = ("train", "validation", "test")
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)).astype("float32")


@pytest.fixture(scope="module")
def original(digits_run, tmp_path_factory):
    """A folder that was published and checked by Keras in a process of its own."""
    where = tmp_path_factory.mktemp("published") / "digits"
    publishing.publish(digits_run.path, f"folder:{where}", license="mit")
    return where


@pytest.fixture
def published(original, tmp_path):
    return pathlib.Path(shutil.copytree(original, tmp_path / "digits"))


@pytest.fixture
def quick_reader(monkeypatch):
    """Reads in this process, which takes no seconds; returns by how much the logits are to differ."""
    shift = types.SimpleNamespace(value=0.0)

    def read(library, folder, images):
        logits = keras.saving.load_model(folder / "model.keras").predict(images, verbose=0)
        return logits * (1 + shift.value), "1"

    monkeypatch.setattr(folder_module, "read", read)
    return shift


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_holds_the_run_and_the_proof_that_it_is_read(original, digits_run):
    facts = json.loads((original / "keras_resnet.json").read_text("utf-8"))
    assert {path.name for path in original.iterdir()} >= FILES
    assert facts["sha256"] == {
        path.name: digest(path) for path in original.iterdir() if path.name != "keras_resnet.json"
    }
    assert facts["readers"]["keras"]["version"] == keras.__version__
    assert facts["readers"]["keras"]["difference"] <= 1e-5
    assert set(facts["not_read_by"]) == {"timm", "transformers", "keras_hub"}
    assert all("stem=" in reason for reason in facts["not_read_by"].values())
    assert training.Recipe.load(original / "recipe.toml").model.width == 4
    assert (original / "model.keras").read_bytes() == (digits_run.path / "best.keras").read_bytes()


def test_the_card_is_one_that_the_hub_reads_and_says_what_the_run_says(original, digits_run):
    card = ModelCard.load(original / "README.md")
    (result,) = card.data.eval_results
    figures = digits_run.metrics["test"]
    low, high = figures["accuracy_interval"]
    value, half = (float(part) for part in result.metric_value.split(" ± "))
    assert value == pytest.approx(figures["accuracy"], abs=0.005)
    assert half == pytest.approx((high - low) / 2, abs=0.005)
    assert card.data.library_name == "keras" and card.data.license == "mit"
    assert card.data.pipeline_tag == "image-classification" and result.dataset_split == "test"
    for row in figures["per_class"]:
        assert f"| {row['name']} | {row['support']} | {row['precision']:.4g} |" in card.text
    assert digits_run.about.fingerprint in card.text and "`model.width = 4`" in card.text


def test_the_card_shows_mistakes_where_one_asks_for_them_alone(original, digits_run, quick_reader, tmp_path, capsys):
    assert "mistakes.png" not in content(original)
    assert main(["publish", str(digits_run.path), "--to", f"folder:{tmp_path / 'digits'}", "--mistakes"]) == 0
    assert "![mistakes.png](mistakes.png)" in (tmp_path / "digits" / "README.md").read_text("utf-8")
    with Image.open(tmp_path / "digits" / "mistakes.png") as picture:
        assert picture.width > 600 and len(np.unique(np.asarray(picture))) > 50
    facts = json.loads((tmp_path / "digits" / "keras_resnet.json").read_text("utf-8"))
    assert facts["sha256"]["mistakes.png"] == digest(tmp_path / "digits" / "mistakes.png")


@pytest.mark.slow
def test_mistakes_are_of_classifiers_of_pictures(quick_reader, tmp_path):
    labels = np.linspace(0, 1, 40).astype("float32")
    np.savez(tmp_path / "a.npz", x=IMAGES.repeat(10, axis=0), y=labels)
    words = {"model.width": 4, "train.epochs": 1, "loss.name": "mean_squared_error"}
    run = training.fit("regression", data=f"npz:{tmp_path}/a.npz", out=tmp_path / "run", overrides=words, verbose=0)
    with pytest.raises(ValueError, match="mistakes=True was given for regression"):
        publishing.publish(run, f"folder:{tmp_path / 'out'}", mistakes=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "interval", "expected"),
    [
        (0.861, (0.854, 0.868), "0.8610 ± 0.0070"),
        (1.0, (0.735, 1.0), "1.00 (0.73 to 1.00)"),
        (12.5, (10.5, 14.5), "12.5 ± 2.0"),
        (0.25, None, "0.25"),
    ],
)
def test_a_figure_is_written_with_its_interval(value, interval, expected):
    assert with_interval({"accuracy": value, "accuracy_interval": interval}, "accuracy") == expected


def test_everything_here_opens_a_folder(published, digits_run):
    expected = digits_run.model.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(evaluation.load_model(published).predict(IMAGES, verbose=0), expected)
    words = {"input_shape": (8, 8, 1), "classifier_activation": None}
    network = keras_resnet.ResNet10(weights=str(published), **words)
    prepared = digits_run.record.normalization(IMAGES)
    np.testing.assert_allclose(network.predict(prepared, verbose=0), expected, atol=1e-5)
    assert preprocessing.for_model(network).class_names == digits_run.class_names


def test_a_folder_of_the_name_of_a_tag_does_not_hide_the_tag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    assert keras_resnet.ResNet18(weights="cifar10").output_shape == (None, 10)


def test_the_figure_holds_for_the_data_and_not_for_others(published, tmp_path, capsys):
    assert main(["verify", str(published), "--data", "digits"]) == 0
    assert "The figure holds." in capsys.readouterr().out
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", x=rng.uniform(0, 255, (300, 8, 8, 1)), y=np.arange(300) % 10)
    assert main(["verify", str(published), "--data", f"npz:{tmp_path / 'noise.npz'}"]) == 2
    printed = "".join(capsys.readouterr())
    assert "does NOT hold" in printed and "examples)" in printed


@pytest.mark.slow
def test_of_the_data_of_the_training_the_split_of_the_card_is_scored(quick_reader, tmp_path):
    x, y = (np.concatenate(parts) for parts in zip(*(data.load("digits").arrays(s) for s in SPLITS), strict=True))
    (tmp_path / "mine").mkdir()
    np.savez(tmp_path / "mine" / "digits.npz", x=x, y=y)
    overrides = {"model.width": 4, "train.epochs": 1, "data.split_seed": 3}
    words = {"model": "resnet10", "data": f"npz:{tmp_path}/mine/digits.npz", "overrides": overrides, "verbose": 0}
    run = training.fit("quick", out=tmp_path / "run", **words)
    publishing.publish(run, f"folder:{tmp_path / 'out'}")
    for name in ("recipe.toml", "keras_resnet.json", "README.md"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text("utf-8")
    (tmp_path / "mine").rename(tmp_path / "moved")
    found = publishing.verify(tmp_path / "out", f"npz:{tmp_path}/moved/digits.npz")
    assert found.measured["examples"] == run.metrics["test"]["examples"] < len(x) / 2
    assert found.measured["accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])


@pytest.mark.parametrize("name", sorted(FILES - {"keras_resnet.json"}))
def test_a_file_that_was_changed_is_named(published, name):
    with open(published / name, "ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match=f"other files than were published: {name} is missing or was changed"):
        publishing.verify(published, "digits")


def test_a_folder_without_a_manifest_is_none_that_was_published(tmp_path):
    with pytest.raises(ValueError, match="holds no keras_resnet.json"):
        publishing.verify(tmp_path, "digits")


def test_an_unchanged_folder_is_replaced_and_any_other_is_left_as_it_is(published, digits_run, quick_reader, tmp_path):
    publishing.publish(digits_run, f"folder:{published}")
    assert json.loads((published / "keras_resnet.json").read_text("utf-8"))["license"] is None
    (published / "notes.txt").write_text("of mine")
    before = content(published)
    with pytest.raises(ValueError, match="Only such a folder is replaced"):
        publishing.publish(digits_run, f"folder:{published}")
    assert content(published) == before
    (tmp_path / "empty").mkdir()
    publishing.publish(digits_run, f"folder:{tmp_path / 'empty'}")
    assert {path.name for path in tmp_path.iterdir()} == {"digits", "empty"}  # nothing temporary is left


def test_a_dry_run_leaves_nothing(digits_run, quick_reader, tmp_path, capsys):
    assert main(["publish", str(digits_run.path), "--to", f"folder:{tmp_path / 'new' / 'out'}", "--dry-run"]) == 0
    assert "read by keras 1: logits within 0.0e+00" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_nothing_is_published_where_a_library_gives_other_logits(digits_run, quick_reader, tmp_path):
    quick_reader.value = 1e-4
    with pytest.raises(ValueError, match="keras 1 reads the folder and gives logits that differ by 0.0001"):
        publishing.publish(digits_run, f"folder:{tmp_path / 'out'}")
    assert not list(tmp_path.iterdir())


def test_a_library_that_fails_or_hangs_is_named_with_its_last_words(original, monkeypatch):
    failing = [sys.executable, "-c", "raise SystemExit('no such architecture')"]
    with pytest.raises(ValueError, match="timm does not read the folder: no such architecture. Nothing was published"):
        folder_module.read("timm", original, IMAGES, python=failing)
    monkeypatch.setattr(folder_module, "READER_SECONDS", 0.2)
    with pytest.raises(ValueError, match="timm took more than 0.2 s. Nothing was published"):
        folder_module.read("timm", original, IMAGES, python=[sys.executable, "-c", "import time; time.sleep(60)"])


@pytest.mark.parametrize("to", ["out", "folder:", "s3://bucket"])
def test_a_target_that_is_none_is_refused(digits_run, to):
    with pytest.raises(ValueError, match="Allowed are folder:DIR and hf://ORG/NAME"):
        publishing.publish(digits_run, to)


def test_a_run_without_scores_is_refused(digits_run, tmp_path):
    run = pathlib.Path(shutil.copytree(digits_run.path, tmp_path / "run"))
    written = json.loads((run / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps({**written, "metrics": {}}), "utf-8")
    with pytest.raises(ValueError, match="has no scores: it is not finished"):
        publishing.publish(run, f"folder:{tmp_path / 'out'}")


def test_without_the_extra_it_says_what_to_install(digits_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-resnet-zoo\[hub\]'"):
        publishing.publish(digits_run, f"folder:{tmp_path / 'out'}")


@pytest.mark.parametrize(
    ("model", "tag", "license"),
    [
        ("resnet18", "cifar10", "Apache-2.0"),
        ("resnet50", "imagenet.tv1", "BSD-3-Clause (code)"),
        ("resnet18", "", None),
        ("resnet10", "runs/photos/best.keras", None),
    ],
)
def test_the_license_is_that_of_the_weights_that_a_run_began_with(model, tag, license):
    run = types.SimpleNamespace(
        recipe=types.SimpleNamespace(model=types.SimpleNamespace(weights=tag)), about=types.SimpleNamespace(model=model)
    )
    row = folder_module._first_weights(run)
    assert (row.license if row else None) == license


@pytest.fixture(scope="module")
def photos_run(tmp_path_factory):
    """A ResNet-18 as ImageNet's are, trained for some steps on pictures that are larger than it takes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (48, 40, 40, 3), "uint8")
    names = ["apple", "pear", "plum"]
    np.savez(
        root / "photos.npz",
        x_train=pictures,
        y_train=np.arange(48) % 3,
        x_test=pictures[:12],
        y_test=np.arange(12) % 3,
        class_names=names,
    )
    overrides = {
        **{"model.stem": "conv7", "model.width": 64, "data.image_size": 32, "data.crop": "random"},
        **{"train.epochs": 1, "train.batch_size": 12},
    }
    words = {"model": "resnet18", "data": f"npz:{root / 'photos.npz'}", "overrides": overrides, "verbose": 0}
    return training.fit("quick", out=root / "run", **words)


@pytest.mark.slow
def test_a_network_that_timm_has_is_written_as_timm_writes_it(photos_run, tmp_path):
    publishing.publish(photos_run, f"folder:{tmp_path / 'out'}")
    config = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    settings, record = config["pretrained_cfg"], photos_run.record
    assert (config["architecture"], config["num_classes"], config["num_features"]) == ("resnet18", 3, 512)
    assert config["label_names"] == settings["label_names"] == ["apple", "pear", "plum"]
    assert settings["input_size"] == [3, 32, 32] and settings["pool_size"] == [1, 1]
    assert (settings["first_conv"], settings["classifier"]) == ("conv1", "fc")
    pixels = IMAGES[:1, :, :, 0]
    for channel in range(3):
        own = np.asarray(record.normalization(np.repeat(pixels[..., None], 3, axis=-1)))[..., channel]
        theirs = (pixels / 255 - settings["mean"][channel]) / settings["std"][channel]
        np.testing.assert_allclose(theirs, own, rtol=1e-4, atol=1e-5)
    about = json.loads(str(np.load(ROOT / "tests" / "weights" / "golden" / "resnet18.npz")["about"]))
    with safe_open(tmp_path / "out" / "model.safetensors", "np") as tensors:
        shapes = {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    expected = about["shapes"]
    assert set(shapes) - {"fc.weight", "fc.bias"} == set(expected) - {"fc.weight", "fc.bias"}
    assert all(shapes[name] == expected[name] for name in expected if not name.startswith("fc."))


@pytest.mark.exhaustive
@pytest.mark.skipif(not (PEERS / "complete").exists(), reason="needs the peers: python -m benchmarks.peers")
@pytest.mark.parametrize("library", sorted(set(readers.READERS) - {"keras"}))
def test_the_libraries_themselves_give_our_logits(photos_run, tmp_path, library):
    where = tmp_path / "out"
    publishing.publish(photos_run, f"folder:{where}")
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("float32")
    expected = photos_run.model.predict(images, verbose=0)
    launcher = tmp_path / "peers.py"
    launcher.write_text(
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from benchmarks.peers import without_torchvision\n"
        "without_torchvision()\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    logits, _ = folder_module.read(library, where, images, python=[str(PEERS / "bin" / "python"), str(launcher)])
    np.testing.assert_allclose(logits, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
