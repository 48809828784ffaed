"""Scores with intervals: scikit-learn's figures, and intervals that hold the true value as often as they say."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

pytest.importorskip("tensorflow")

from keras_resnet.evaluation.scores import detailed_scores  # noqa: E402
from keras_resnet.tasks import CLASSIFICATION, Predictions  # noqa: E402
from keras_resnet.tasks.metrics import sensitivity_at  # noqa: E402

NAMES = ("a", "b", "c", "d")


def drawn(examples, classes, seed, is_tied=False):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(examples, classes)) + 1.2 * np.eye(classes)[labels]
    logits = np.round(logits) if is_tied else logits
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize(("classes", "is_tied"), [(2, False), (2, True), (4, False), (4, True)])
def test_figures_are_those_of_scikit_learn(classes, is_tied):
    probabilities, labels = drawn(200, classes, 1, is_tied)
    found = detailed_scores(probabilities, labels, NAMES[:classes], resamples=5)
    guesses, truth = probabilities.argmax(axis=1), np.eye(classes)[labels]
    one, two = (probabilities[:, 1], truth[:, 1]) if classes == 2 else (probabilities, truth)
    expected = {
        "roc_auc": metrics.roc_auc_score(two, one, average="macro"),
        "roc_auc_micro": metrics.roc_auc_score(truth, probabilities, average="micro"),
        "average_precision": metrics.average_precision_score(two, one, average="macro"),
        "average_precision_micro": metrics.average_precision_score(truth, probabilities, average="micro"),
        "accuracy": metrics.accuracy_score(labels, guesses),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, guesses),
        "f1": metrics.f1_score(labels, guesses, average="macro"),
        "cohen_kappa": metrics.cohen_kappa_score(labels, guesses),
        "quadratic_kappa": metrics.cohen_kappa_score(labels, guesses, weights="quadratic"),
        "mean_distance": metrics.mean_absolute_error(labels, guesses),
        "matthews": metrics.matthews_corrcoef(labels, guesses),
        "brier": ((probabilities - truth) ** 2).sum(axis=1).mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    for index, row in enumerate(found["per_class"]):
        is_one, is_guessed = labels == index, guesses == index
        assert row["support"] == is_one.sum()
        assert row["sensitivity"] == pytest.approx(metrics.recall_score(is_one, is_guessed))
        assert row["specificity"] == pytest.approx(metrics.recall_score(~is_one, ~is_guessed))
        assert row["roc_auc"] == pytest.approx(metrics.roc_auc_score(is_one, probabilities[:, index]))


def test_a_resample_has_the_figures_of_scikit_learn_on_the_drawn_examples():
    probabilities, labels = drawn(40, 4, 2, is_tied=True)
    found = detailed_scores(probabilities, labels, NAMES, resamples=1, seed=5)
    counts = np.random.default_rng(5).multinomial(40, np.full(40, 1 / 40), size=1)[0]
    rows = np.repeat(np.arange(40), counts)
    expected = metrics.roc_auc_score(np.eye(4)[labels[rows]], probabilities[rows], average="macro")
    assert found["roc_auc_interval"] == pytest.approx([expected, expected])
    kappa = metrics.cohen_kappa_score(labels[rows], probabilities[rows].argmax(axis=1))
    assert found["cohen_kappa_interval"] == pytest.approx([kappa, kappa])


def test_intervals_hold_the_true_value_about_as_often_as_they_say():
    rng, held = np.random.default_rng(0), 0
    # Of two normal distributions whose means differ by d, the area under ROC is Phi(d / sqrt 2): 0.7602 for d = 1.
    for _ in range(200):
        labels = np.arange(100) % 2
        scores = 1 / (1 + np.exp(-(rng.normal(size=100) + labels)))
        found = detailed_scores(np.stack([1 - scores, scores], 1), labels, NAMES[:2], resamples=200)
        low, high = found["roc_auc_interval"]
        held += low <= 0.7602 <= high
    assert 0.90 <= held / 200 <= 0.985


def test_examples_of_one_group_are_drawn_together():
    probabilities, labels = drawn(60, 2, 3)
    copies = np.repeat(np.arange(60), 8)
    alone = detailed_scores(probabilities, labels, NAMES[:2])
    grouped = detailed_scores(probabilities[copies], labels[copies], NAMES[:2], groups=copies)
    naive = detailed_scores(probabilities[copies], labels[copies], NAMES[:2])
    width = [np.ptp(one["roc_auc_interval"]) for one in (alone, grouped, naive)]
    # Eight copies of each example say no more than one; taken by themselves they would seem to.
    assert width[1] == pytest.approx(width[0], rel=0.1) and width[2] < 0.5 * width[0]
    assert grouped["resampled"] == "groups" and alone["resampled"] == "examples"


def test_where_all_answers_are_right_the_interval_is_the_exact_one():
    """A bootstrap of equal answers has no width, which would promise an accuracy of 1 after twelve examples."""
    labels = np.arange(12) % 3
    outputs = 9.0 * np.eye(3)[labels]
    right = Predictions(CLASSIFICATION, outputs=outputs, labels=labels, activation="softmax", class_names=NAMES[:3])

    def exact(hits, cases):
        interval = stats.binomtest(hits, cases).proportion_ci(method="exact")
        return pytest.approx([interval.low, interval.high])

    assert right.interval("accuracy") == exact(12, 12)
    found = right.intervals(50)
    assert found["accuracy_interval"] == exact(12, 12)
    assert found["per_class"][0]["sensitivity_interval"] == exact(4, 4)
    assert found["per_class"][0]["specificity_interval"] == exact(8, 8)
    assert right.replace(labels=(labels + 1) % 3).interval("accuracy") == exact(0, 12)
    # Of three patients with four examples each there are three answers; examples of weight 0 are none.
    assert right.replace(groups=labels).interval("accuracy") == exact(3, 3)
    assert right.replace(weights=np.repeat([0.0, 2.0], 6)).interval("accuracy") == exact(6, 6)


def test_a_class_that_is_absent_has_no_figures_and_is_left_out_of_means():
    probabilities, labels = drawn(50, 4, 4)
    labels = labels % 3
    found = detailed_scores(probabilities, labels, NAMES, resamples=20)
    assert found["per_class"][3]["roc_auc"] is None and found["per_class"][3]["sensitivity_interval"] is None
    present = [metrics.roc_auc_score(labels == index, probabilities[:, index]) for index in range(3)]
    assert found["roc_auc"] == pytest.approx(np.mean(present))


def test_what_gives_no_interval_is_refused():
    probabilities, labels = drawn(10, 2, 5)
    with pytest.raises(ValueError, match="of one class"):
        detailed_scores(probabilities, np.zeros(10, int), NAMES[:2])
    with pytest.raises(ValueError, match="10 examples of 1 group"):
        detailed_scores(probabilities, labels, NAMES[:2], groups=["p"] * 10)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_the_sensitivity_at_a_specificity_is_read_from_the_curve_of_scikit_learn(is_weighted):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    scores = np.round(rng.normal(labels, 1.0), 1)  # with ties
    weights = rng.uniform(0.1, 2.0, 300) if is_weighted else None
    logits = np.stack([np.zeros(300), scores], axis=1)
    predictions = Predictions(CLASSIFICATION, logits, labels, ("well", "ill"), weights=weights)
    false_positives, sensitivity, _ = metrics.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    for specificity in (0.5, 0.9, 0.99):
        expected = sensitivity[false_positives <= 1 - specificity + 1e-12].max()
        assert sensitivity_at(specificity, 1)(predictions)[0] == pytest.approx(expected)
    low, high = predictions.interval(sensitivity_at(0.9, 1))
    assert low < sensitivity_at(0.9, 1)(predictions)[0] < high
