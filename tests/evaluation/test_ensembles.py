"""Means of models and of views, sets of classes with a coverage, and two models on the same examples."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from PIL import Image  # noqa: E402

from keras_resnet import cli, data, evaluation, preprocessing, training  # noqa: E402
from keras_resnet.evaluation.paired import mcnemar  # noqa: E402
from keras_resnet.evaluation.predictor import open_predictor  # noqa: E402
from keras_resnet.evaluation.scores import detailed_scores  # noqa: E402
from keras_resnet.training.folds import mean_of_models  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs on the digits, with other first weights."""
    folder = tmp_path_factory.mktemp("two")
    overrides = {"train.epochs": 3, "model.width": 8}
    return [
        training.fit("quick", model="resnet10", out=folder / name, seed=seed, overrides=overrides, verbose=0)
        for name, seed in (("one", 0), ("other", 1))
    ]


def chances(model, images):
    logits = np.asarray(model(images.astype("float32")), "float64")
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_mean_of_models_and_views_is_that_of_their_probabilities(runs, tmp_path):
    images, labels = runs[0].dataset.arrays("test")
    path = tmp_path / "mean.keras"
    evaluation.average_models([run.path for run in runs], views="flip", out=path)
    each = [chances(run.model, view) for run in runs for view in (images, images[:, :, ::-1])]
    expected = np.mean(each, axis=0)
    stored = keras.models.load_model(path)
    np.testing.assert_allclose(np.asarray(stored(images.astype("float32"))), expected, atol=1e-5)
    found = evaluation.evaluate(path, "digits", split="test")
    assert found["accuracy"] == pytest.approx((expected.argmax(axis=1) == labels).mean())
    # The runs themselves are what they were.
    assert preprocessing.for_model(runs[0].model).head != preprocessing.for_model(stored).head
    assert evaluation.evaluate(runs[0])["accuracy"] == pytest.approx(runs[0].metrics["test"]["accuracy"])


def test_the_eight_views_of_a_square_are_those_of_numpy(runs):
    images, _ = runs[0].dataset.arrays("test", 20)
    views = [np.rot90(turned, times, axes=(1, 2)) for turned in (images, images[:, :, ::-1]) for times in range(4)]
    expected = np.mean([chances(runs[0].model, view) for view in views], axis=0)
    model = evaluation.average_models([runs[0].model], views="quarter-turns")
    np.testing.assert_allclose(np.asarray(model(images.astype("float32"))), expected, atol=1e-5)


def test_predict_and_evaluate_average_views(runs, tmp_path, capsys):
    images, labels = runs[0].dataset.arrays("test")
    expected = np.mean([chances(runs[0].model, view) for view in (images, images[:, :, ::-1])], axis=0)
    found = evaluation.evaluate(runs[0].path, views="flip")
    assert found["accuracy"] == pytest.approx((expected.argmax(axis=1) == labels).mean())
    Image.fromarray(images[0, ..., 0].astype("uint8") * 15).save(tmp_path / "digit.png")
    plain, flipped = (
        evaluation.predict(runs[0].path, tmp_path / "digit.png", views=name)[0] for name in ("none", "flip")
    )
    assert plain["classes"] != flipped["classes"]
    cli.main(["predict", str(runs[0].path), str(tmp_path / "digit.png"), "--tta", "flip", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["classes"] == flipped["classes"]


def test_models_that_do_not_answer_alike_have_no_mean(runs):
    other = training.resolve("quick", model="resnet10", overrides={"model.width": 4}).build_model()
    preprocessing.describe_outputs(other, [f"digit {index}" for index in range(10)])
    with pytest.raises(ValueError, match="One model has the classes"):
        evaluation.average_models([runs[0], other])
    with pytest.raises(ValueError, match="Allowed are square pictures"):
        training.folds.mean_of_models([training_model((4, 8, 1))], "quarter-turns")


def training_model(shape):
    image = keras.Input(shape)
    x = preprocessing.InputNormalization(record=preprocessing.InputRecord())(image)
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_class_as_often_as_is_asked_for(coverage):
    rng = np.random.default_rng(0)
    covered, sizes = [], []
    for _ in range(400):
        logits = rng.normal(size=(300, 4)) * 1.5
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        # A classifier that is wrong about its own confidence: classes are drawn from other probabilities.
        true = np.exp(0.6 * logits) / np.exp(0.6 * logits).sum(axis=1, keepdims=True)
        labels = (true.cumsum(axis=1) > rng.random((300, 1))).argmax(axis=1)
        threshold = evaluation.set_threshold(probabilities[:100], labels[:100], coverage)
        inside = probabilities[100:] >= threshold
        covered.append(inside[np.arange(200), labels[100:]].mean())
        sizes.append(inside.sum(axis=1).mean())
    # In the mean over splits exactly ceil(101 c) / 101, which is c or a little more.
    expected = np.ceil(round(101 * coverage, 9)) / 101
    assert np.mean(covered) == pytest.approx(expected, abs=4 * np.std(covered) / 20)
    assert np.mean(sizes) < 4


def test_sets_are_saved_with_the_model_and_predicted(runs, tmp_path, capsys):
    images, labels = runs[0].dataset.arrays("validation")
    done = evaluation.prediction_sets(runs[0], coverage=0.9, out=tmp_path / "sets.keras")
    probabilities = chances(runs[0].model, images)
    true = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]
    threshold = true[int(np.ceil((len(labels) + 1) * 0.9)) - 1]
    assert done.facts["set_threshold"] == pytest.approx(threshold, abs=1e-6)
    assert done.facts["test_coverage"] == pytest.approx(0.9, abs=0.08)
    Image.fromarray((images[0, ..., 0] * 15).astype("uint8")).save(tmp_path / "digit.png")
    (answer,) = evaluation.predict(tmp_path / "sets.keras", tmp_path / "digit.png", top=10)
    assert set(answer["set"]) == {row["name"] for row in answer["classes"] if row["probability"] >= threshold}
    assert preprocessing.for_model(runs[0].model).coverage is None
    with pytest.raises(ValueError, match="at least 999"):
        evaluation.prediction_sets(runs[0], coverage=0.999)
    shutil.copytree(runs[0].path, tmp_path / "run")
    cli.main(["calibrate", str(tmp_path / "run"), "--coverage", "0.9"])
    assert "sets hold the class, where 0.9000 was asked" in capsys.readouterr().out
    assert (tmp_path / "run" / "sets.keras").is_file()


def test_a_paired_difference_has_the_figures_of_both_and_a_tighter_interval(runs, capsys):
    found = evaluation.paired_difference(*runs)
    for index, run in enumerate(runs):
        for name in ("accuracy", "loss"):
            assert found[name][index] == pytest.approx(run.metrics["test"][name], rel=1e-6)
    for name in ("accuracy", "loss"):
        assert found[f"{name}_difference"] == pytest.approx(found[name][1] - found[name][0], abs=1e-12)
    assert found["loss_difference"]
    images, labels = runs[0].dataset.arrays("test")
    right = [chances(run.model, images).argmax(axis=1) == labels for run in runs]
    assert found["only_first_right"] == int((right[0] & ~right[1]).sum())
    assert found["only_second_right"] == int((~right[0] & right[1]).sum())
    low, high = found["accuracy_difference_interval"]
    assert low <= found["accuracy_difference"] <= high and found["differs"] == (low > 0 or high < 0)
    alone = [detailed_scores(chances(run.model, images), labels, run.class_names)["accuracy_interval"] for run in runs]
    assert high - low < sum(end - start for start, end in alone)
    cli.main(["compare", str(runs[0].path), str(runs[1].path), "--paired"])
    assert "McNemar p" in capsys.readouterr().out


def test_mcnemar_is_the_exact_binomial_test_and_holds_its_level():
    assert mcnemar(0, 0) == 1.0 and mcnemar(5, 5) == 1.0
    assert mcnemar(1, 9) == pytest.approx(2 * 11 / 2**10)  # of ten tosses at most one
    rng = np.random.default_rng(0)
    rejected = [mcnemar(heads, 40 - heads) < 0.05 for heads in rng.binomial(40, 0.5, 2000)]
    assert np.mean(rejected) < 0.06


@pytest.mark.slow
def test_other_data_or_classes_have_no_difference(runs, tmp_path):
    spec = f"npz:{tmp_path / 'd.npz'}"
    images, labels = runs[0].dataset.arrays("test")
    np.savez(tmp_path / "d.npz", x=images, y=labels, class_names=np.array(runs[0].class_names))
    again = training.fit(
        "quick",
        model="resnet10",
        data=spec,
        out=tmp_path / "r",
        overrides={"train.epochs": 1, "model.width": 4},
        verbose=0,
    )
    with pytest.raises(ValueError, match="which are other data"):
        evaluation.paired_difference(runs[0], again)
    assert data.load(spec).class_names == runs[0].class_names


def test_pairs_leave_out_what_weighs_nothing(runs, tmp_path):
    """Of three examples that count a resample can hold none, which made the intervals NaN."""
    images, labels = runs[0].dataset.arrays("test", 40)
    counts = np.zeros(40)
    counts[:3] = 1
    np.savez(tmp_path / "a.npz", x=images, y=labels, w=counts)
    dataset = data.load(f"npz:{tmp_path}/a.npz", validation_fraction=0, test_fraction=0)
    found = evaluation.paired_difference(*runs, data=dataset, split="train")
    assert np.isfinite(found["accuracy_difference_interval"]).all()
    right = [chances(run.model, images[:3]).argmax(axis=1) == labels[:3] for run in runs]
    assert found["only_first_right"] == int((right[0] & ~right[1]).sum())
    assert found["only_second_right"] == int((right[1] & ~right[0]).sum())
    assert found["accuracy"] == pytest.approx([part.mean() for part in right])


def test_sets_count_examples_by_their_weights():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(3), 30), rng.integers(0, 3, 30)
    alike = evaluation.set_threshold(probabilities, labels, 0.8)
    assert evaluation.set_threshold(probabilities, labels, 0.8, np.full(30, 2.5)) == alike
    counts = np.ones(30)
    counts[:10] = 0
    assert evaluation.set_threshold(probabilities, labels, 0.8, counts) == evaluation.set_threshold(
        probabilities[10:], labels[10:], 0.8
    )
    threshold = evaluation.set_threshold(probabilities, labels, 0.8, rng.uniform(0, 5, 30))
    assert threshold in probabilities[np.arange(30), labels]


def test_sets_hold_for_the_probabilities_that_they_were_found_on(runs, tmp_path):
    evaluation.prediction_sets(runs[0], coverage=0.9, out=tmp_path / "sets.keras")
    with pytest.raises(ValueError, match="A temperature would break their promise"):
        evaluation.calibrate(tmp_path / "sets.keras", "digits", out=tmp_path / "b.keras")
    images, _ = runs[0].dataset.arrays("test", 2)
    Image.fromarray((images[0, ..., 0] * 15).astype("uint8")).save(tmp_path / "digit.png")
    with pytest.raises(ValueError, match="whose threshold was found without views"):
        evaluation.predict(tmp_path / "sets.keras", tmp_path / "digit.png", views="flip")


def test_a_mean_is_of_models_that_see_the_same_pixels(runs):
    other = training.resolve("quick", model="resnet10", overrides={"model.width": 4}).build_model()
    for field, value in (("interpolation", "bicubic"), ("crop_fraction", 0.8), ("apply_exif", False)):
        layer = preprocessing.for_model(other).normalization
        before = layer.record
        layer.record = dataclasses.replace(before, **{field: value})
        with pytest.raises(ValueError, match="A mean is of models that take and give the same"):
            evaluation.average_models([runs[0], other])
        layer.record = before
    assert evaluation.average_models([runs[0], other]) is not None


@pytest.mark.parametrize("ends_in", ["linear", "sigmoid"])
def test_the_logit_of_a_mean_of_sigmoids_survives(tmp_path, ends_in):
    """A probability that rounds to 1 in float32 was read as a logit of 87."""

    def member(bias):
        image = keras.Input((4, 4, 1))
        x = preprocessing.InputNormalization(record=preprocessing.InputRecord(channel_order="grey"))(image)
        head = keras.layers.Dense(2, activation=ends_in, bias_initializer=keras.initializers.Constant(bias))
        model = keras.Model(image, head(keras.layers.GlobalAveragePooling2D()(x * 0.0)))
        preprocessing.describe_outputs(model, ["a", "b"], task="multilabel")
        return model

    biases = (18.0, 20.0) if ends_in == "linear" else (4.0, 6.0)
    mean = mean_of_models([member(bias) for bias in biases])
    keras.models.save_model(mean, tmp_path / "mean.keras")
    trained = open_predictor(tmp_path / "mean.keras")
    logits = trained.read(np.asarray(trained.model.predict(np.zeros((1, 4, 4, 1)), verbose=0))).outputs
    # The logarithm of the mean odds, in float64: log(mean p / mean (1 - p)).
    against = np.mean([1 / (1 + np.exp(bias)) for bias in biases])
    np.testing.assert_allclose(logits, np.log((1 - against) / against), rtol=1e-4)
