import json

import keras
import numpy as np
import pytest
from sklearn import metrics

from keras_resnet import ResNet18, data, evaluation, preprocessing


def build(classes=10, activation="softmax", shape=(8, 8, 1)):
    """A small network, trained on nothing. Its biases differ, so that no two classes are equally probable."""
    keras.utils.set_random_seed(7)
    pixels = keras.Input(shape)
    scaled = preprocessing.InputNormalization("unit")(pixels)
    model = ResNet18(input_tensor=scaled, stem="small", width=8, classes=classes, classifier_activation=activation)
    model.get_layer("predictions").bias.assign(np.linspace(-1, 1, classes))
    return model


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def scores(model, digits):
    return evaluation.evaluate(model, digits)


@pytest.fixture(scope="module")
def answers(model, digits):
    """Probabilities and labels of the test split, by Keras's own predict."""
    images, labels = digits.arrays("test")
    return model.predict(images.astype("float32"), verbose=0), labels


def test_every_example_is_counted_once(scores, digits):
    assert scores["examples"] == digits.sizes["test"] == 360
    assert np.sum(scores["confusion"]) == 360
    assert sum(row["support"] for row in scores["per_class"]) == 360


def test_the_scores_are_those_of_scikit_learn(scores, answers, digits):
    probabilities, labels = answers
    guesses, exact = probabilities.argmax(axis=1), probabilities.astype("float64")
    exact /= exact.sum(axis=1, keepdims=True)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(labels, guesses), abs=1e-12)
    assert scores["top5"] == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=5), abs=1e-12)
    # The loss is a mean of float32 logarithms there and here.
    assert scores["loss"] == pytest.approx(metrics.log_loss(labels, exact), rel=1e-4)
    assert np.array_equal(scores["confusion"], metrics.confusion_matrix(labels, guesses))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, guesses, zero_division=0)
    for index, row in enumerate(scores["per_class"]):
        assert row["name"] == digits.class_names[index]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(
            (precision[index], recall[index], f1[index])
        )
        assert row["support"] == support[index]


def test_the_calibration_error_is_that_of_its_definition(scores, answers):
    probabilities, labels = answers
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * 15).astype(int), 14)  # Guo et al. 2017: 15 bins of equal width
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    assert scores["expected_calibration_error"] == pytest.approx(sum(gaps), abs=1e-5)


def test_the_scores_do_not_depend_on_the_size_of_a_batch(scores, model, digits):
    # 7 leaves a last batch of 3. A loss of float32 batches of other sizes differs in the last digits.
    other = evaluation.evaluate(model, digits, batch_size=7)
    assert other["confusion"] == scores["confusion"]
    assert other["loss"] == pytest.approx(scores["loss"], rel=1e-5)


def test_a_model_that_ends_in_logits_scores_like_one_that_ends_in_probabilities(scores, digits):
    logits = evaluation.evaluate(build(activation=None), digits)
    assert logits["confusion"] == scores["confusion"]
    assert logits["loss"] == pytest.approx(scores["loss"], rel=1e-4)  # float32 probabilities lose digits
    assert logits["expected_calibration_error"] == pytest.approx(scores["expected_calibration_error"], abs=1e-5)


def test_the_scores_are_json(scores):
    assert json.loads(json.dumps(scores)) == scores


def test_a_saved_model_scores_like_the_model(model, scores, tmp_path):
    model.save(tmp_path / "model.keras")
    assert evaluation.evaluate(tmp_path / "model.keras", "digits") == scores
    assert evaluation.evaluate(str(tmp_path / "model.keras"), "digits") == scores


def test_another_split_is_scored_by_its_name(model, digits):
    assert evaluation.evaluate(model, digits, split="validation")["examples"] == digits.sizes["validation"]
    with pytest.raises(ValueError, match="Did you mean 'validation'"):
        evaluation.evaluate(model, digits, split="validatoin")


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_output_stands_for_two_classes(tmp_path, activation):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8, 1), "uint8"), rng.integers(0, 2, 40)
    np.savez(tmp_path / "two.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    model = build(classes=1, activation=activation)
    guesses = model.predict(images.astype("float32"), verbose=0)[:, 0] > (0.5 if activation else 0.0)
    scores = evaluation.evaluate(model, f"npz:{tmp_path / 'two.npz'}")
    assert scores["accuracy"] == pytest.approx((guesses == labels).mean())


def test_a_regression_is_scored_by_its_errors(tmp_path):
    rng = np.random.default_rng(0)
    images, values = rng.integers(0, 256, (40, 8, 8, 1), "uint8"), rng.normal(size=40).astype("float32")
    np.savez(tmp_path / "values.npz", x_train=images, y_train=values, x_test=images, y_test=values)
    model = build(classes=1, activation=None)
    guesses = model.predict(images.astype("float32"), verbose=0)[:, 0]
    dataset = data.load(f"npz:{tmp_path / 'values.npz'}", task="regression")
    scores = evaluation.evaluate(model, dataset)
    assert scores["examples"] == 40
    assert scores["mse"] == pytest.approx(metrics.mean_squared_error(values, guesses), rel=1e-4)
    assert scores["mae"] == pytest.approx(metrics.mean_absolute_error(values, guesses), rel=1e-4)
    assert scores["r2"] == pytest.approx(metrics.r2_score(values, guesses), rel=1e-4)


def test_a_model_with_another_number_of_classes_is_refused(digits):
    with pytest.raises(ValueError, match="The model has 7 outputs, and data='digits' has 10 classes"):
        evaluation.evaluate(build(classes=7), digits)


def test_a_model_with_other_channels_is_refused(digits):
    with pytest.raises(ValueError, match="The model takes 3 channels, and data='digits' has 1"):
        evaluation.evaluate(build(shape=(8, 8, 3)), digits)


def test_a_model_that_ends_in_neither_logits_nor_probabilities_is_refused(digits):
    with pytest.raises(ValueError, match="The last activation of the model='relu' is not known"):
        evaluation.evaluate(build(activation="relu"), digits)


def test_a_model_without_a_run_needs_data(model):
    with pytest.raises(ValueError, match="data=None was given with a model that has no run"):
        evaluation.evaluate(model)


def test_a_batch_size_of_nothing_is_refused(model, digits):
    with pytest.raises(ValueError, match="batch_size must be an int >= 1, got 0"):
        evaluation.evaluate(model, digits, batch_size=0)


def test_a_path_without_a_model_is_refused(tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(ValueError, match=r"text.keras' is a file, but not a Keras model"):
        evaluation.evaluate(tmp_path / "text.keras", "digits")
    with pytest.raises(ValueError, match=r"none.keras' is not there"):
        evaluation.evaluate(tmp_path / "none.keras", "digits")
    with pytest.raises(TypeError, match="run_or_model must be a path, a Run or a keras.Model, got int"):
        evaluation.evaluate(3, "digits")


def test_a_model_file_cut_short_is_refused(model, tmp_path):
    model.save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    for part in (0.1, 0.5, 0.999):
        (tmp_path / "model.keras").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(ValueError, match="model.keras"):
            evaluation.evaluate(tmp_path / "model.keras", "digits")


def test_a_zip_file_that_is_no_model_is_refused(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ValueError, match="could not be loaded as a Keras model"):
        evaluation.evaluate(tmp_path / "other.keras", "digits")


def test_a_model_that_wants_larger_images_gets_them_resized(digits):
    model = build(shape=(16, 16, 1))
    assert evaluation.evaluate(model, digits)["examples"] == 360
