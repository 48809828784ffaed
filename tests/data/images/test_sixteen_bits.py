"""Files of 16 bits per channel keep them from the file to the network, in training, prediction and export alike."""

import re

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

import keras_resnet  # noqa: E402
from keras_resnet import data, evaluation, preprocessing, training  # noqa: E402
from keras_resnet.data.images.decoding import decode  # noqa: E402
from keras_resnet.data.images.resizing import center_window  # noqa: E402
from keras_resnet.explain.overlays import as_rgb  # noqa: E402
from keras_resnet.training.experiment import Experiment  # noqa: E402


def scan(rng, bright):
    """A picture of 12 bits, as an X-ray detector makes it."""
    return (rng.integers(0, 2048, (24, 30)) + 2047 * bright).astype("uint16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for name in ("dark", "bright"):
        (root / name).mkdir()
        for index in range(20):
            Image.fromarray(scan(rng, name == "bright")).save(root / name / f"{index}.png")
    Image.fromarray(np.full((24, 30, 3), 7, "uint8")).save(root / "dark" / "eight_bits.png")
    return root


def test_every_value_of_a_scan_reaches_the_batches(folder):
    dataset = data.load(f"folder:{folder}", validation_fraction=0, test_fraction=0)
    assert any("40 files of 16 bits" in line for line in dataset.report)
    images, labels = dataset.arrays("train")
    assert images.dtype == np.float32 and dataset.class_names == ("bright", "dark")
    files = [np.asarray(Image.open(path), "float64") for path in sorted((folder / "bright").iterdir(), key=str)]
    found = images[labels == 0]
    assert np.abs(found * 257 - np.stack(files)[..., None]).max() < 1e-3
    assert len(np.unique(found)) > 1500
    # An 8-bit file beside them has the values that it has alone.
    assert (images[labels == 1] == 7).all(axis=(1, 2, 3)).sum() == 1


def test_a_narrow_range_and_mixed_depths_are_warned_of(folder, tmp_path):
    report = " ".join(data.load(f"folder:{folder}").report)
    brightest = max(np.asarray(Image.open(path)).max() for path in folder.glob("bright/*"))
    told = int(re.search(r"99.9 % of the values are below (\d+) of 65535", report)[1])
    assert 0.99 * brightest < told <= brightest
    assert "warning: 1 files have 8 bits per channel, and 40 have 16" in report
    for name in ("dark", "bright"):
        (tmp_path / name).mkdir()
        for path in sorted((folder / name).glob("?.png")):
            Image.fromarray((np.asarray(Image.open(path)) * 16).astype("uint16")).save(tmp_path / name / path.name)
    report = " ".join(data.load(f"folder:{tmp_path}").report)
    assert "20 files of 16 bits" in report and "warning" not in report


@pytest.mark.parametrize("mode", ["L16", "RGB"])
def test_a_window_is_cut_from_the_same_values(mode):
    rng = np.random.default_rng(1)
    pixels = scan(rng, True) if mode == "L16" else rng.integers(0, 256, (24, 30, 3), "uint8")
    contents = tf.image.encode_png(pixels[..., None] if mode == "L16" else pixels)
    whole = decode(contents, is_deep=True).numpy()
    cut = decode(contents, 1, lambda height, width: center_window(height, width, (1, 1), 0.5), is_deep=True).numpy()
    assert cut.dtype == np.float32 and np.array_equal(cut, whole[6:18, 9:21])
    expected = pixels[..., None] / 257 if mode == "L16" else pixels
    assert np.abs(whole - expected).max() < 1e-4


@pytest.mark.slow
def test_training_prediction_and_serving_see_the_same_sixteen_bits(folder, tmp_path):
    words = {"model.width": 4, "train.epochs": 2, "train.batch_size": 8, "data.normalization": "dataset"}
    run = training.fit(
        "quick", model="resnet10", data=f"folder:{folder}", out=tmp_path / "run", overrides=words, verbose=0
    )
    paths = sorted((folder / "bright").iterdir())[:3]
    told = evaluation.predict(run, paths)
    exact = np.stack([np.asarray(Image.open(path)) for path in paths])[..., None] / np.full(3, 257.0)
    logits = np.asarray(run.model(exact.astype("float32"), training=False))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    exported = keras_resnet.export(run, format="savedmodel", out=tmp_path / "net")
    serve = tf.saved_model.load(str(exported.path / "1")).signatures["serve_bytes"]
    served = serve(encoded=tf.constant([path.read_bytes() for path in paths]))["probabilities"].numpy()
    assert np.abs(served - expected).max() < 1e-5
    for row, prediction in zip(expected, told, strict=True):
        for one in prediction["classes"]:
            assert one["probability"] == pytest.approx(row[one["index"]], abs=1e-5)


def test_a_narrow_range_is_learned_and_seen(folder):
    recipe = training.Recipe.load("quick").replace({"train.batch_size": 8})
    experiment = Experiment.of(recipe, data.load(f"folder:{folder}"), "resnet10")
    assert experiment.recipe.data.normalization == "dataset"
    images = np.concatenate([np.asarray(batch[0]) for batch in experiment.dataset.batches("train", 64)])
    normalization = preprocessing.for_model(experiment.build_model()).normalization
    assert normalization.std[0] == pytest.approx(images.std(), rel=1e-3) and normalization.std[0] < 10
    assert Experiment.of(recipe, data.load("digits"), "resnet10").recipe.data.normalization == "unit"


def test_copies_of_scans_of_twelve_bits_are_found(tmp_path):
    pytest.importorskip("imagehash")
    rng = np.random.default_rng(0)
    for index in range(16):
        place = tmp_path / ("sick" if index % 2 else "well")
        place.mkdir(exist_ok=True)
        coarse = np.kron(rng.integers(200, 4095, (6, 6)), np.ones((8, 8))).astype("uint16")
        Image.fromarray(coarse).save(place / f"{index}.png")
    again = np.asarray(Image.open(tmp_path / "well" / "0.png")) * 0.95 + 20
    Image.fromarray(again.astype("uint16")).save(tmp_path / "well" / "copy.png")
    found = data.inspect_data(data.load(f"folder:{tmp_path}", validation_fraction=0, test_fraction=0))
    pairs = [{name.rpartition("/")[2] for name in pair.names} for pair in found.near_copies]
    assert pairs == [{"0.png", "copy.png"}] and not found.one_color


def test_a_narrow_range_is_drawn_with_a_window(folder):
    recipe = training.Recipe.load("quick").replace({"train.batch_size": 8})
    experiment = Experiment.of(recipe, data.load(f"folder:{folder}"), "resnet10")
    record = preprocessing.for_model(experiment.build_model())
    scans = np.stack([np.asarray(Image.open(path), "float32")[..., None] / 257 for path in folder.glob("*/?.png")])
    shown = as_rgb(scans, record)
    assert shown.std() > 40 and shown.min() > -60 and shown.max() < 320
    plain = preprocessing.for_model(Experiment.of(recipe, data.load("digits"), "resnet10").build_model())
    np.testing.assert_array_equal(as_rgb(scans, plain), scans)


def test_a_narrow_range_is_no_black_square_in_a_preview_and_on_the_page_of_an_inspection(folder, tmp_path):
    from keras_resnet.report.inspection_page import _pictures_of

    dataset = data.load(f"folder:{folder}", validation_fraction=0, test_fraction=0)
    names = {dataset.name_of("train", index) for index in range(5)}
    pictures = _pictures_of(dataset, names)
    assert min(picture.max() for picture in pictures.values()) > 100
    words = {"train.batch_size": 16, "data.image_size": 24}
    training.preview("quick", data=dataset, out=tmp_path / "grid.png", overrides=words)
    with Image.open(tmp_path / "grid.png") as grid:
        values = np.asarray(grid.convert("L"))
    # Under the white page and its black letters the scans have middle tones.
    assert ((values > 60) & (values < 200)).mean() > 0.1
