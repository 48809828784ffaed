import json

import keras
import numpy as np
import pytest
from sklearn import metrics

from keras_resnet import evaluation
from keras_resnet.evaluation import scores

NAMES = tuple("abcdefg")


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 6, 200)  # class g never occurs
    logits = rng.normal(size=(200, 7)) + 1.5 * np.eye(7)[labels]
    logits[:, 1] = -20  # class b is never predicted
    return logits, labels, scores.classification(logits, labels, NAMES)


def test_the_scores_are_those_of_scikit_learn(example):
    logits, labels, got = example
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    guesses = logits.argmax(axis=1)
    assert got["examples"] == 200
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(labels, guesses))
    assert got["loss"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(7)))
    assert got["top5"] == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=range(7)))
    assert np.array_equal(got["confusion"], metrics.confusion_matrix(labels, guesses, labels=range(7)))
    table = metrics.precision_recall_fscore_support(labels, guesses, labels=range(7), zero_division=0)
    for index, row in enumerate(got["per_class"]):
        assert row["name"] == NAMES[index]
        found = (row["precision"], row["recall"], row["f1"], row["support"])
        assert found == pytest.approx(tuple(column[index] for column in table))


def test_the_scores_are_ready_for_json(example):
    assert json.loads(json.dumps(example[2])) == example[2]


def test_the_calibration_error_by_hand():
    # Three bins: (0.4, 0.467]: 0.45 right; (0.867, 0.933]: 0.9 right and wrong; the last: 1.0 right.
    got = scores.calibration_error([0.45, 0.9, 0.9, 1.0], [True, True, False, True])
    assert got == pytest.approx((abs(1 - 0.45) + 2 * abs(0.5 - 0.9) + 0) / 4)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # 0.2 = 3/15 closes the third bin, and 0.21 opens the fourth: the gaps do not cancel.
    assert scores.calibration_error([0.2, 0.21], [True, False]) == pytest.approx((0.8 + 0.21) / 2)


def test_few_classes_have_no_top5():
    assert "top5" not in scores.classification(np.eye(5), np.arange(5), "abcde")
    assert scores.classification(np.eye(6), np.arange(6), "abcdef")["top5"] == 1.0


def test_one_output_is_the_logit_of_the_second_class():
    one = scores.classification([[2.0], [-1.0]], [1, 1], ("no", "yes"))
    two = scores.classification([[0.0, 2.0], [0.0, -1.0]], [1, 1], ("no", "yes"))
    assert one == two and one["accuracy"] == 0.5


def test_a_regression_is_scored_like_scikit_learn():
    rng = np.random.default_rng(0)
    targets, outputs = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))
    got = scores.regression(outputs, targets)
    assert got["mse"] == pytest.approx(metrics.mean_squared_error(targets, outputs))
    assert got["mae"] == pytest.approx(metrics.mean_absolute_error(targets, outputs))
    assert got["r2"] == pytest.approx(metrics.r2_score(targets, outputs))
    assert scores.regression([[1.0], [3.0]], [1.0, 3.0]) == {"examples": 2, "mse": 0.0, "mae": 0.0, "r2": 1.0}


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 4)), np.zeros(3), "the labels ask for"),
        (np.zeros((0, 2)), np.zeros(0), "at least one example"),
        (np.array([[0.0, 1.0], [0.0, np.nan]]), np.zeros(2), "example 1 is not finite"),
    ],
)
def test_outputs_that_cannot_be_scored_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        scores.classification(logits, labels, ("a", "b"))


def test_every_example_is_predicted_once_and_in_order():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(2.0)])
    images, labels = np.arange(10, dtype="float32")[:, None], np.arange(10)
    batches = [(images[at : at + 4], labels[at : at + 4]) for at in range(0, 10, 4)]
    outputs, found = evaluation.predict_all(model, batches)
    assert outputs[:, 0].tolist() == (2 * np.arange(10)).tolist()
    assert found.tolist() == list(range(10))
    with pytest.raises(ValueError, match="no example"):
        evaluation.predict_all(model, [])


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_names_no_class_is_refused_with_its_example(label):
    with pytest.raises(ValueError, match=rf"label of example 1 is {label}.*\[0, 2\)"):
        scores.classification([[2.0, 0.0], [2.0, 0.0]], [0, label], ("cat", "dog"))


@pytest.mark.parametrize("labels", [[0, 0.5], [0, float("nan")], [0, -1], [0, 2], np.array([0, 2**64 - 1], "uint64")])
def test_a_label_is_never_rounded_or_wrapped_into_a_class(labels):
    for call in (
        lambda: scores.classification([[1.0, 0.0], [0.0, 1.0]], labels, ("a", "b")),
        lambda: evaluation.temperature_of([[1.0, 0.0], [0.0, 1.0]], labels),
    ):
        with pytest.raises(ValueError, match="The label of example 1 is"):
            call()
