"""Multi-label targets: figures of scikit-learn, thresholds, and the answers of every part that reads a model."""

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow")
metrics = pytest.importorskip("sklearn.metrics")

import keras  # noqa: E402
from PIL import Image  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from keras_resnet import cli, data, evaluation, preprocessing, training  # noqa: E402
from keras_resnet.evaluation import scores  # noqa: E402
from keras_resnet.evaluation.scores import detailed_scores  # noqa: E402
from keras_resnet.tasks.metrics import best_threshold, points_of  # noqa: E402
from keras_resnet.tasks.outputs import sigmoid  # noqa: E402

NAMES = tuple(f"d{digit}" for digit in range(10))


def noisy(seed=0, examples=80, classes=4, is_tied=False):
    rng = np.random.default_rng(seed)
    truth = rng.random((examples, classes)) < [0.1, 0.3, 0.5, 0.8][:classes]
    logits = rng.normal(size=truth.shape) + 1.5 * truth - 0.7
    return (np.round(logits) if is_tied else logits), truth.astype("int64")


def pairs_of_digits(count=900):
    """Returns pictures of two digits side by side, and which digits are there."""
    digits = load_digits()
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(digits.target), (count, 2))
    images = np.concatenate([digits.images[chosen[:, 0]], digits.images[chosen[:, 1]]], axis=2)
    labels = np.zeros((count, 10), "int64")
    for side in range(2):
        labels[np.arange(count), digits.target[chosen[:, side]]] = 1
    return (images * 15).astype("uint8")[..., None], labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    images, labels = pairs_of_digits()
    np.savez(folder / "pairs.npz", x=images, y=labels, class_names=np.array(NAMES))
    overrides = {"loss.name": "multilabel_cross_entropy", "train.epochs": 10}
    data_spec = f"npz:{folder / 'pairs.npz'}"
    return training.fit("quick", model="resnet10", data=data_spec, out=folder / "run", overrides=overrides, verbose=0)


@pytest.mark.parametrize("is_tied", [False, True])
def test_figures_are_those_of_scikit_learn(is_tied):
    logits, truth = noisy(is_tied=is_tied)
    cuts = (0.3, 0.5, 0.6, 0.7)
    found = scores.multilabel(logits, truth, NAMES[:4], cuts)
    probabilities = sigmoid(logits)
    guesses = probabilities >= np.array(cuts)
    each = [metrics.log_loss(truth[:, index], probabilities[:, index]) for index in range(4)]
    expected = {
        "loss": np.mean(each),
        "accuracy": 1 - metrics.hamming_loss(truth, guesses),
        "exact_match": metrics.accuracy_score(truth, guesses),
        "f1": metrics.f1_score(truth, guesses, average="macro"),
        "f1_micro": metrics.f1_score(truth, guesses, average="micro"),
        "roc_auc": metrics.roc_auc_score(truth, probabilities),
        "average_precision": metrics.average_precision_score(truth, probabilities),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    row = found["per_class"][1]
    precision, recall, _, support = metrics.precision_recall_fscore_support(truth, guesses)
    assert row["precision"] == pytest.approx(precision[1]) and row["recall"] == pytest.approx(recall[1])
    assert row["support"] == support[1] and row["threshold"] == 0.5
    assert row["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth[:, 1], logits[:, 1]))


def test_a_class_that_is_never_or_always_there_has_no_area_and_does_not_spoil_the_mean():
    logits, truth = noisy()
    truth[:, 0], truth[:, 3] = 0, 1
    found = scores.multilabel(logits, truth, NAMES[:4])
    assert [found["per_class"][index]["roc_auc"] is None for index in range(4)] == [True, False, False, True]
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth[:, 1:3], logits[:, 1:3]))
    json.dumps(found, allow_nan=False)


def test_intervals_hold_the_figures_of_scikit_learn_and_the_points_around_them():
    logits, truth = noisy(examples=200)
    probabilities = sigmoid(logits)
    found = detailed_scores(probabilities, truth, NAMES[:4], resamples=200, thresholds=(0.4, 0.4, 0.4, 0.4))
    guesses = probabilities >= 0.4
    assert found["roc_auc_micro"] == pytest.approx(metrics.roc_auc_score(truth, probabilities, average="micro"))
    assert found["f1"] == pytest.approx(metrics.f1_score(truth, guesses, average="macro"))
    assert found["exact_match"] == pytest.approx(metrics.accuracy_score(truth, guesses))
    assert found["brier"] == pytest.approx(((probabilities - truth) ** 2).sum(axis=1).mean())
    for name in ("roc_auc", "average_precision", "f1", "f1_micro", "accuracy", "exact_match", "brier"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
    recall = metrics.recall_score(truth, guesses, average=None)
    assert [row["sensitivity"] for row in found["per_class"]] == pytest.approx(recall.tolist())


@pytest.mark.parametrize("is_tied", [False, True])
def test_the_threshold_is_where_f1_is_highest_and_curves_are_scikit_learns(is_tied):
    logits, truth = noisy(seed=3, is_tied=is_tied)
    chances, labels = sigmoid(logits[:, 1]), truth[:, 1] > 0
    threshold, f1 = best_threshold(chances, labels)
    candidates = [metrics.f1_score(labels, chances >= cut) for cut in np.unique(chances)]
    assert f1 == pytest.approx(max(candidates)) == pytest.approx(metrics.f1_score(labels, chances >= threshold))
    points = points_of(chances, labels)
    false_positives, sensitivity, cuts = metrics.roc_curve(labels, chances, drop_intermediate=False)
    assert points.sensitivity.tolist() == pytest.approx(sensitivity[1:].tolist())
    assert points.false_positives.tolist() == pytest.approx(false_positives[1:].tolist())
    assert points.at(float(cuts[3])) == pytest.approx(
        (sensitivity[3], false_positives[3], metrics.precision_score(labels, chances >= cuts[3]))
    )
    assert points.at(2.0) == (0.0, 0.0, 1.0)


def test_thresholds_are_chosen_on_validation_saved_in_the_model_and_used(run):
    record = preprocessing.for_model(run.model)
    assert record.task == "multilabel" and record.activation == "sigmoid" and len(record.thresholds) == 10
    stored = keras.models.load_model(run.path / "best.keras")
    assert preprocessing.for_model(stored).thresholds == record.thresholds
    images, labels = run.dataset.arrays("validation")
    probabilities = sigmoid(np.asarray(run.model(images.astype("float32")), "float64"))
    for index in range(10):
        best = max(
            metrics.f1_score(labels[:, index], probabilities[:, index] >= cut) for cut in probabilities[:, index]
        )
        own = metrics.f1_score(labels[:, index], probabilities[:, index] >= record.thresholds[index])
        assert own == pytest.approx(best)
    told = evaluation.evaluate(run.path)
    assert told["f1"] == pytest.approx(run.metrics["test"]["f1"])
    assert [row["threshold"] for row in told["per_class"]] == pytest.approx(list(record.thresholds))


def test_a_network_learns_what_is_there(run):
    assert run.metrics["test"]["roc_auc"] > 0.85 and run.metrics["test"]["f1"] > 0.5


def test_predictions_name_the_labels_above_their_thresholds(run, tmp_path):
    images, _ = run.dataset.arrays("test", 3)
    for index, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{index}.png")
    found = evaluation.predict(run.path, [tmp_path / f"{index}.png" for index in range(3)], top=10)
    probabilities = sigmoid(np.asarray(run.model(images.astype("float32")), "float64"))
    for row, answer in zip(probabilities, found, strict=True):
        given = {one["name"]: one["probability"] for one in answer["classes"]}
        assert given == pytest.approx(dict(zip(NAMES, row, strict=True)), abs=1e-5)
        expected = {name for name, value, cut in zip(NAMES, row, run.record.thresholds, strict=True) if value >= cut}
        assert set(answer["labels"]) == expected


@pytest.mark.slow
def test_the_saved_model_answers_each_class_by_itself(run, tmp_path):
    import tensorflow as tf

    from keras_resnet.export import export

    made = export(run.path, out=tmp_path / "served")
    assert made.facts["agreement"] == 1.0
    served = tf.saved_model.load(str(made.path / "1"))
    images, _ = run.dataset.arrays("test", 2)
    expected = sigmoid(np.asarray(run.model(images.astype("float32")), "float64"))
    answers = served.signatures["serving_default"](images=tf.constant(images, tf.float32))["probabilities"]
    np.testing.assert_allclose(answers.numpy(), expected, atol=1e-5)
    encoded = tf.stack([tf.io.encode_png(image) for image in images])
    told = served.signatures["serve_bytes"](encoded=encoded)
    assert (told["has_class"].numpy() == (told["probabilities"].numpy() >= np.float32(run.record.thresholds))).all()


def test_calibration_lowers_the_loss_and_keeps_every_answer(run, tmp_path):
    sharp = keras.models.clone_model(run.model)
    sharp.set_weights(run.model.get_weights())
    head = sharp.layers[-1]
    head.set_weights([weight * 4 for weight in head.get_weights()])  # four times too sure
    images, labels = run.dataset.arrays("validation")
    cuts = (0.3,) * 5 + (0.6,) * 5
    preprocessing.describe_outputs(sharp, NAMES, task="multilabel", thresholds=cuts)
    found = evaluation.calibrate(sharp, run.dataset)
    logits = np.asarray(sharp(images.astype("float32")), "float64")
    grid = np.linspace(1, 20, 2000)
    losses = [scores.multilabel(logits / t, labels, NAMES)["loss"] for t in grid]
    assert found.facts["temperature"] == pytest.approx(grid[int(np.argmin(losses))], rel=0.1)  # held by the prior
    before, after = (found.facts["validation"][when]["loss"] for when in ("before", "after"))
    assert after < before
    moved = preprocessing.for_model(found.model).thresholds
    softened = sigmoid(np.asarray(found.model(images.astype("float32")), "float64"))
    assert ((softened >= np.array(moved)) == (sigmoid(logits) >= np.array(cuts))).all()


def test_the_page_shows_curves_and_thresholds(run, tmp_path):
    from keras_resnet.report import write_report

    text = write_report(run.path, tmp_path / "run.html").read_text("utf-8")
    assert 'id="roc"' in text and 'id="precision-recall"' in text and text.count("(in use)") >= 8
    assert "F1, mean over classes" in text


def test_what_is_for_one_class_an_example_refuses_several(run):
    with pytest.raises(ValueError, match="multi-label targets"):
        evaluation.mistakes(run.path)
    with pytest.raises(ValueError, match="one of"):
        training.fit(
            "quick",
            model="resnet10",
            data=run.about.data,
            overrides={"loss.name": "asymmetric", "train.monitor": "recall:d1"},
        )
    with pytest.raises(ValueError, match="task='multilabel'"):
        data.load(run.about.data)


@pytest.mark.slow
def test_a_probe_gives_the_mean_area_of_the_classes(run, capsys):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    found = evaluation.probe(run.path)
    network = keras.Model(run.model.input, run.model.get_layer("head_pool").output)
    parts = [evaluation.predict_all(network, run.dataset.batches(split, 64)) for split in ("train", "test")]
    (train, labels), (test, truth) = parts
    scaler = StandardScaler().fit(train)
    areas = [
        roc_auc_score(
            truth[:, place],
            LogisticRegression(max_iter=1000)
            .fit(scaler.transform(train), labels[:, place])
            .predict_proba(scaler.transform(test))[:, 1],
        )
        for place in range(truth.shape[1])
    ]
    assert found["linear_roc_auc"] == pytest.approx(np.mean(areas), abs=1e-3)
    assert 0.5 < found["knn_roc_auc"] <= 1
    words = ["probe", "--data", run.about.data, "--weights", str(run.path), "--json"]
    assert not cli.main([*words, "--task", "multilabel"])
    assert json.loads(capsys.readouterr().out)["test_examples"] == found["test_examples"]
    assert cli.main(words) == 2 and "task='multilabel'" in capsys.readouterr().err


def test_robustness_is_the_share_of_right_answers(run):
    found = evaluation.robustness(run.path, limit=20)
    images, labels = run.dataset.arrays("test")
    step = -(-len(images) // 20)
    probabilities = sigmoid(np.asarray(run.model(images[::step].astype("float32")), "float64"))
    right = (probabilities >= np.array(run.record.thresholds)) == (labels[::step] > 0)
    assert found["clean"] == pytest.approx(right.mean())
