"""What a model is for: its outputs are read alike by everything that reads them, whatever its last layer and loss."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import data, evaluation, explain, preprocessing, report, training
from keras_resnet.demo import Answers
from keras_resnet.training.run import RunFile
from tests import harness
from tests.data import image_files

tf = pytest.importorskip("tensorflow")

SMALL = {"model.width": 4, "train.epochs": 6, "train.batch_size": 64}


def sigmoids(logits):
    values = 1 / (1 + np.exp(-logits.astype("float64")))
    return values / values.sum(axis=1, keepdims=True)


def png(folder, image):
    Image.fromarray(np.squeeze(image)).save(folder / "one.png")
    return folder / "one.png"


def told(classes):
    """Probabilities in the order of the classes."""
    return np.array([best["probability"] for best in sorted(classes, key=lambda best: best["index"])])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Digits by one sigmoid per class, as the recipes of "ResNet strikes back" train."""
    words = {**SMALL, "loss.name": "sigmoid_cross_entropy"}
    return training.fit(
        "quick", model="resnet10", out=tmp_path_factory.mktemp("sigmoid") / "run", overrides=words, verbose=0
    )


@pytest.mark.slow
def test_a_network_of_sigmoids_is_read_through_sigmoids(run, tmp_path):
    images, labels = run.dataset.arrays("test")
    expected = sigmoids(run.model.predict(images, verbose=0))
    assert np.abs(expected - tf.nn.softmax(run.model.predict(images, verbose=0)).numpy()).max() > 0.05

    loss = -np.log(expected[np.arange(len(labels)), labels]).mean()
    for source, spec in ((run, None), (run.path, None), (run.path / "best.keras", "digits")):
        found = evaluation.evaluate(source, spec)
        assert found["loss"] == pytest.approx(loss, rel=1e-4)
    assert run.metrics["test"]["loss"] == pytest.approx(loss, rel=1e-4)

    file = png(tmp_path, images[0])
    assert told(evaluation.predict(run, file, top=10)[0]["classes"]) == pytest.approx(expected[0], abs=1e-5)
    page = Answers(evaluation.open_predictor(run))("one.png", file.read_bytes())["classes"]
    for row in page:
        assert row["probability"] == pytest.approx(expected[0][int(row["name"])], abs=1e-5)
    exported = keras_resnet.export(run, out=tmp_path / "served")
    served = tf.saved_model.load(str(exported.path / "1")).signatures
    answer = served["serving_default"](tf.constant(images[:8], tf.float32))["probabilities"]
    np.testing.assert_allclose(answer, expected[:8], atol=1e-5)
    assert report.write_report(run.path, tmp_path / "page.html").is_file()
    assert f"{loss:.4f}" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.slow
def test_sigmoids_are_calibrated_as_sigmoids(run):
    """The best temperature of a grid, by the loss of sigmoids over their sum."""
    done = evaluation.calibrate(run.model, "digits", split="test")
    images, labels = run.dataset.arrays("test")
    logits = run.model.predict(images, verbose=0)

    def loss(temperature):
        return -np.log(sigmoids(logits / temperature)[np.arange(len(labels)), labels]).mean()

    grid = np.exp(np.linspace(np.log(0.2), np.log(5), 400))
    # The prior of the logarithm, of standard deviation 1/4, is spread over the examples.
    best = min(grid, key=lambda t: loss(t) + np.log(t) ** 2 * 8 / len(labels))
    assert done.facts["temperature"] == pytest.approx(best, rel=0.02)
    assert done.facts["test"]["after"]["loss"] == pytest.approx(loss(done.facts["temperature"]), rel=1e-4)
    assert preprocessing.for_model(done.model).temperature == pytest.approx(done.facts["temperature"])


@pytest.mark.slow
def test_a_model_that_ends_in_several_sigmoids_is_predicted_and_served_alike(tmp_path):
    image = keras.Input((16, 16, 3))
    record = preprocessing.InputRecord(16, class_names=("a", "b", "c"))
    x = preprocessing.InputNormalization("unit", record=record)(image)
    model = keras_resnet.ResNet18(
        input_tensor=x, stem="small", width=4, classes=3, classifier_activation="sigmoid", zero_init_residual=False
    )
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3)).astype("uint8")
    outputs = model.predict(pixels, verbose=0)[0]
    expected = outputs / outputs.sum()
    file = png(tmp_path, pixels[0])
    assert told(evaluation.predict(model, file)[0]["classes"]) == pytest.approx(expected, abs=1e-5)
    exported = keras_resnet.export(model, out=tmp_path / "served")
    served = tf.saved_model.load(str(exported.path / "1")).signatures["serve_bytes"]
    answer = served(tf.constant([file.read_bytes()]))["probabilities"][0]
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.slow
def test_a_record_without_class_names_leaves_a_classifier_one(tmp_path):
    image = keras.Input((16, 16, 3))
    x = preprocessing.InputNormalization("unit", record=preprocessing.InputRecord(16))(image)
    model = keras_resnet.ResNet18(input_tensor=x, stem="small", width=4, classes=3, classifier_activation=None)
    file = png(tmp_path, np.zeros((16, 16, 3), "uint8"))
    found = evaluation.predict(model, file)[0]["classes"]
    assert sum(best["probability"] for best in found) == pytest.approx(1) and found[0]["name"] in "012"
    exported = keras_resnet.export(model, out=tmp_path / "served")
    served = tf.saved_model.load(str(exported.path / "1")).signatures
    assert set(served["serving_default"].structured_outputs) == {"probabilities"}


@pytest.fixture(scope="module")
def new_head(run):
    """As docs/fine-tuning.md puts one on."""
    base = keras.saving.load_model(run.path / "best.keras", compile=False)
    return keras.Model(base.input, keras.layers.Dense(2, name="even_or_odd")(base.get_layer("head_pool").output))


@pytest.mark.slow
def test_nothing_answers_with_the_names_of_a_head_that_is_gone(new_head, tmp_path):
    file = png(tmp_path, np.zeros((8, 8), "uint8"))
    for use in (
        lambda: evaluation.predict(new_head, file),
        lambda: evaluation.evaluate(new_head, "digits"),
        lambda: explain.explain(new_head, np.zeros((1, 8, 8, 1))),
        lambda: keras_resnet.export(new_head, out=tmp_path / "served"),
        lambda: Answers(evaluation.open_predictor(new_head)),
    ):
        with pytest.raises(ValueError, match=r"describe_outputs\(model, class_names="):
            use()
    described = keras.models.clone_model(new_head)
    preprocessing.describe_outputs(described, ["even", "odd"])
    described.save(tmp_path / "even.keras")
    found = evaluation.predict(tmp_path / "even.keras", file)[0]["classes"]
    assert {best["name"] for best in found} == {"even", "odd"}


@pytest.mark.slow
def test_features_are_no_predictions(run):
    pooled = keras.Model(run.model.input, run.model.get_layer("head_pool").output)
    with pytest.raises(ValueError, match="gives features"):
        evaluation.evaluate(pooled, "digits")


@pytest.mark.slow
def test_a_task_may_be_given_and_must_not_contradict(run, tmp_path, caplog):
    plain = keras_resnet.ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=1, classifier_activation=None)
    file = png(tmp_path, np.zeros((8, 8), "uint8"))
    assert "values" in evaluation.predict(plain, file)[0] and "Pass task (--task)" in caplog.text
    found = evaluation.predict(plain, file, task="classification")[0]["classes"]
    probability = tf.sigmoid(plain.predict(np.zeros((1, 8, 8, 1)), verbose=0)).numpy().item()
    assert {best["index"]: best["probability"] for best in found}[1] == pytest.approx(probability, abs=1e-6)
    with pytest.raises(ValueError, match="the model says 'classification' of itself"):
        evaluation.predict(run, file, task="regression")


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """Photographs whose bright half tells the class; those of one class are stored lying on their side."""
    folder = tmp_path_factory.mktemp("turned")
    draw = np.random.default_rng(0)
    for name, bright in (("above", slice(0, 12)), ("below", slice(12, 24))):
        (folder / name).mkdir()
        for index in range(30):
            pixels = draw.integers(0, 60, (24, 24, 3))
            pixels[bright] += 150
            image = Image.fromarray(pixels.astype("uint8"))
            exif = Image.Exif()
            if index % 2:
                image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
            image.save(folder / name / f"{index}.jpg", quality=95, exif=exif)
    return folder


@pytest.fixture(scope="module")
def upright_run(turned, tmp_path_factory):
    words = {**SMALL, "train.batch_size": 8, "data.image_size": 16, "augment.pad_and_crop": 0, "augment.flip": False}
    out = tmp_path_factory.mktemp("upright") / "run"
    return training.fit("quick", model="resnet10", data=f"folder:{turned}", out=out, overrides=words, verbose=0)


@pytest.mark.slow
def test_photographs_are_upright_wherever_they_are_read(upright_run, turned, tmp_path):
    assert upright_run.metrics["test"]["accuracy"] == 1.0
    record = preprocessing.for_model(upright_run.model)
    assert record.apply_exif and upright_run.recipe.data.apply_exif
    paths = [turned / name / f"{index}.jpg" for name in ("above", "below") for index in range(4)]
    for source in (upright_run.path, upright_run.path / "best.keras"):
        found = evaluation.predict(source, paths, top=1)
        assert [row["classes"][0]["name"] for row in found] == ["above"] * 4 + ["below"] * 4
        assert evaluation.evaluate(source, f"folder:{turned}")["accuracy"] == 1.0
    exported = keras_resnet.export(upright_run, out=tmp_path / "served")
    served = tf.saved_model.load(str(exported.path / "1")).signatures["serve_bytes"]
    answer = served(tf.constant([path.read_bytes() for path in paths]))["probabilities"]
    read = np.stack([data.read_for_network(path, record) for path in paths])
    np.testing.assert_allclose(answer, tf.nn.softmax(upright_run.model.predict(read, verbose=0)), atol=2e-3)


@pytest.mark.parametrize("orientation", harness.tiers(range(1, 9), [6], range(1, 9)))
@pytest.mark.parametrize("order", ["II", "MM"])
def test_the_served_graph_reads_the_orientation_that_the_header_has(orientation, order):
    from keras_resnet.data.images.decoding import exif_orientation

    read = tf.function(exif_orientation, input_signature=[tf.TensorSpec((), tf.string)])
    contents = image_files.with_orientation(orientation, order)
    assert int(read(contents)) == orientation
    # Cut anywhere in the header, an annotation that cannot be read leaves the picture as it is stored.
    for end in range(3, 80):
        assert int(read(contents[:end])) in (1, orientation)


@pytest.mark.slow
def test_stored_pixels_stay_what_a_run_of_an_earlier_version_sees(upright_run, tmp_path):
    description = json.loads((upright_run.path / "run.json").read_text("utf-8"))
    del description["recipe"]["data"]["apply_exif"]
    assert training.Run(upright_run.path, RunFile.from_dict(description)).recipe.data.apply_exif is False


@pytest.fixture(scope="module", params=harness.tiers(["uint8", "0..1", "-1..1"], [], ["0..1"]))
def in_range(request, tmp_path_factory):
    """The digits in a range, and a run on them with everything that is made for [0, 255]."""
    folder = tmp_path_factory.mktemp("range")
    digits = data.load("digits")
    arrays = {}
    for split, short in (("train", "train"), ("validation", "val"), ("test", "test")):
        images, arrays[f"y_{short}"] = digits.arrays(split)
        scaled = {"uint8": images, "0..1": images / 255, "-1..1": images / 127.5 - 1}[request.param]
        arrays[f"x_{short}"] = scaled if request.param == "uint8" else scaled.astype("float32")
    np.savez(folder / "digits.npz", **arrays)
    words = {"train.epochs": 8, "model.width": 8, "augment.policy": "trivial_augment", "augment.erasing": 0.5}
    run = training.fit(
        "quick", model="resnet10", data=f"npz:{folder / 'digits.npz'}", out=folder / "run", overrides=words, verbose=0
    )
    return request.param, run


def test_policies_and_erasing_work_in_the_range_of_the_pixels(in_range):
    """Floats in [0, 1] trained to chance: policies clip at 255, and erased rectangles are 255 times too bright."""
    _, run = in_range
    assert run.metrics["test"]["accuracy"] > 0.85


def test_image_files_are_brought_to_the_range_of_the_training_data(in_range, tmp_path):
    name, run = in_range
    expected = {"uint8": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}[name]
    assert preprocessing.for_model(run.model).pixel_range == expected
    assert (name == "uint8") == (not any("taken for scaled pixels" in line for line in run.dataset.report))
    images, _ = data.load("digits").arrays("test")
    own, _ = run.dataset.arrays("test")
    probabilities = tf.nn.softmax(run.model.predict(own[:5].astype("float32"), verbose=0)).numpy()
    exported = keras_resnet.export(run, out=tmp_path / "served")
    served = tf.saved_model.load(str(exported.path / "1")).signatures
    for index in range(5):
        file = png(tmp_path, images[index])
        for found in (
            told(evaluation.predict(run, file, top=10)[0]["classes"]),
            served["serve_bytes"](tf.constant([file.read_bytes()]))["probabilities"][0].numpy(),
            served["serve_uint8"](tf.constant(images[index : index + 1]))["probabilities"][0].numpy(),
        ):
            np.testing.assert_allclose(found, probabilities[index], atol=1e-4)


@pytest.mark.slow
def test_pixels_in_no_usual_range_are_not_fed_from_files(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(0, 4000, (40, 16, 16, 1)).astype("float32"), rng.integers(0, 2, 40)
    np.savez(tmp_path / "scans.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    words = {"model.width": 4, "train.epochs": 1, "train.batch_size": 20}
    with pytest.raises(ValueError, match=r"made for pixels in \[0, 255\], and pixel_range=None"):
        spec = f"npz:{tmp_path / 'scans.npz'}"
        training.fit("quick", model="resnet10", data=spec, overrides={**words, "augment.erasing": 0.5}, dry_run=True)
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=words, verbose=0)
    file = png(tmp_path, np.zeros((16, 16), "uint8"))
    with pytest.raises(ValueError, match="pixels are in none of the usual ranges"):
        evaluation.predict(run, file)
    exported = keras_resnet.export(run, out=tmp_path / "served")
    assert "serve_bytes" not in tf.saved_model.load(str(exported.path / "1")).signatures
    given = training.fit(
        "quick", model="resnet10", data=spec, overrides={**words, "data.pixel_range": "0..255"}, dry_run=True
    )
    assert preprocessing.for_model(given.model).pixel_range == (0.0, 255.0)


@pytest.mark.slow
def test_a_run_finds_its_data_as_they_were_loaded(turned, tmp_path):
    """Fractions, seed, EXIF and bad files of a loaded dataset were forgotten, and the folder could not be evaluated."""
    (turned.parent / "broken").mkdir(exist_ok=True)
    options = {"test_fraction": 0.3, "validation_fraction": 0.2, "split_seed": 5, "apply_exif": False}
    options |= {"on_bad_image": "skip", "max_skipped_fraction": 0.5}
    dataset = data.load(f"folder:{turned}", **options)
    words = {"model.width": 4, "train.epochs": 1, "train.batch_size": 8, "data.image_size": 16}
    run = training.fit("quick", model="resnet10", data=dataset, out=tmp_path / "run", overrides=words, verbose=0)
    again = training.Run.load(tmp_path / "run")
    assert again.dataset.fingerprint == dataset.fingerprint and again.dataset.sizes == dataset.sizes
    assert {name: getattr(again.recipe.data, name) for name in options} == options
    found = evaluation.evaluate(tmp_path / "run")
    assert found["loss"] == pytest.approx(run.metrics["test"]["loss"], rel=1e-5)
    assert training.fit(out=tmp_path / "run", resume=True).metrics == run.metrics
