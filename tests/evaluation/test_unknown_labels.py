"""Labels that are not known, of examples with several: they count in no loss and no figure, as if left out."""

import csv

import keras
import numpy as np
import pytest
from sklearn import metrics

pytest.importorskip("tensorflow")

from keras_resnet import data, evaluation, training  # noqa: E402
from keras_resnet.evaluation import scores  # noqa: E402
from keras_resnet.evaluation.scores import detailed_scores  # noqa: E402
from keras_resnet.tasks import MULTILABEL, Predictions  # noqa: E402
from keras_resnet.tasks.outputs import sigmoid  # noqa: E402
from keras_resnet.training.losses import PlainCrossEntropy  # noqa: E402
from keras_resnet.training.scoring import LabelAccuracy, MeanRocAuc  # noqa: E402
from tests.data.sources.test_shards import picture  # noqa: E402

NAMES = ("a", "b", "c")


def best_cuts(logits, labels, weights=None):
    """The thresholds that the task suggests."""
    return MULTILABEL.choose_thresholds(
        Predictions(MULTILABEL, logits, labels, NAMES[: labels.shape[1]], weights=weights)
    )


@pytest.fixture
def sample():
    """Labels of which a third is unknown, one example of none at all, with logits and weights."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (40, 3)).astype("float32")
    labels[rng.random((40, 3)) < 0.3] = np.nan
    labels[7] = np.nan
    return labels, rng.normal(size=(40, 3)), rng.uniform(0, 3, 40)


def answers(labels, logits, weights):
    """The known answers alone, in one row."""
    known = ~np.isnan(labels)
    return labels[known], logits[known], np.repeat(weights[:, None], 3, axis=1)[known]


def test_figures_are_those_of_the_known_labels_by_scikit_learn(sample):
    labels, logits, weights = sample
    truth, known, counts = answers(*sample)
    found = scores.multilabel(logits, labels, NAMES, weights=weights)
    assert found["loss"] == pytest.approx(metrics.log_loss(truth, sigmoid(known), sample_weight=counts))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, known >= 0, sample_weight=counts))
    assert found["f1_micro"] == pytest.approx(metrics.f1_score(truth, known >= 0, sample_weight=counts))
    for index, row in enumerate(found["per_class"]):
        mine = ~np.isnan(labels[:, index])
        own = (labels[mine, index], logits[mine, index])
        assert row["roc_auc"] == pytest.approx(metrics.roc_auc_score(*own, sample_weight=weights[mine]))
        assert row["recall"] == pytest.approx(metrics.recall_score(own[0], own[1] >= 0, sample_weight=weights[mine]))
        assert row["support"] == int(own[0].sum())
    detailed = detailed_scores(sigmoid(logits), labels, NAMES, weights=weights, resamples=50)
    for name in ("accuracy", "f1", "f1_micro", "roc_auc", "average_precision", "exact_match"):
        assert detailed[name] == pytest.approx(found[name]), name
    assert detailed["roc_auc_micro"] == pytest.approx(metrics.roc_auc_score(truth, known, sample_weight=counts))
    cuts = best_cuts(logits, labels, weights)
    for index, cut in enumerate(cuts):
        mine = ~np.isnan(labels[:, index])
        alone = best_cuts(logits[mine][:, [index]], labels[mine][:, [index]], weights[mine])
        assert cut == alone[0]


def test_the_loss_and_its_gradient_leave_unknown_labels_out(sample):
    labels, logits, _ = sample
    import tensorflow as tf

    for loss in (training.MultilabelCrossEntropy(label_smoothing=0.1), training.Asymmetric()):
        values = tf.constant(logits, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(values)
            found = loss.call(tf.constant(labels), values)
        gradients = tape.gradient(found, values).numpy()
        assert (gradients[np.isnan(labels)] == 0).all() and np.isfinite(gradients).all()
        for row in range(40):
            mine = ~np.isnan(labels[row])
            alone = (
                loss.call(labels[row : row + 1, mine], logits[row : row + 1, mine].astype("float32"))
                if mine.any()
                else 0
            )
            assert float(found[row]) == pytest.approx(float(np.ravel(alone)[0]), rel=1e-5, abs=1e-7)


def test_metrics_of_epochs_are_those_of_evaluate(sample):
    labels, logits, weights = sample
    expected = scores.multilabel(logits, labels, NAMES, weights=weights)
    made = {
        "accuracy": LabelAccuracy(),
        "loss": PlainCrossEntropy(True, "multilabel"),
        "roc_auc": MeanRocAuc(3),
    }
    for name, metric in made.items():
        for part in (slice(0, 25), slice(25, 40)):
            metric.update_state(labels[part], logits[part].astype("float32"), sample_weight=weights[part])
        assert float(metric.result()) == pytest.approx(expected[name], rel=2e-3 if name == "roc_auc" else 1e-5), name


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("findings")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(90):
        (root / f"{index:02d}.png").write_bytes(picture(index, "PNG", (8, 8)))
        cells = [str(value) for value in rng.integers(0, 2, 3)]
        for place in np.flatnonzero(rng.random(3) < 0.3):
            cells[place] = "" if index % 2 else "-1"
        rows.append([f"{index:02d}.png", *cells])
    with open(root / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", *NAMES], *rows])
    return root, rows


def test_a_run_on_a_table_with_unknown_labels_is_judged_by_the_known_ones(table, tmp_path):
    root, rows = table
    overrides = {"data.uncertain": "ignore", "loss.name": "multilabel_cross_entropy", "train.batch_size": 16}
    overrides |= {"model.width": 4, "train.epochs": 2, "loss.label_smoothing": 0.0, "data.balance": "weights"}
    run = training.fit(
        "quick", model="resnet10", data=f"csv:{root}/t.csv", out=tmp_path / "run", overrides=overrides, verbose=0
    )
    assert np.isfinite(run.history["loss"]).all() and np.isfinite(run.history["val_loss"]).all()
    dataset = run.dataset
    labels = dataset.split("train").labels
    written = {row[0]: row[1:] for row in rows}
    names = [dataset.name_of("train", index) for index in range(len(labels))]
    for name, row in zip(names, labels, strict=True):
        cells = written[name.rpartition("/")[2]]
        assert [str(int(value)) if np.isfinite(value) else "?" for value in row] == [
            cell if cell in ("0", "1") else "?" for cell in cells
        ]
    yes, no = dataset.label_weights()
    for place in range(3):
        mine = labels[~np.isnan(labels[:, place]), place]
        assert yes[place] * mine.sum() == pytest.approx(no[place] * (1 - mine).sum())
    again = evaluation.evaluate(run, split="validation", intervals=True)
    assert again["loss"] == pytest.approx(run.history["val_cross_entropy"][run.file.best_epoch - 1], rel=1e-4)
    truth = dataset.split("test").labels
    outputs = run.model.predict(dataset.batches("test", 64), verbose=0)
    known = ~np.isnan(truth)
    assert run.metrics["test"]["loss"] == pytest.approx(
        metrics.log_loss(truth[known], sigmoid(outputs)[known]), rel=1e-5
    )
    pair = evaluation.paired_difference(run, run)
    assert pair["loss"] == pytest.approx([run.metrics["test"]["loss"]] * 2) and pair["accuracy_difference"] == 0
    with pytest.raises(ValueError, match="'negative', 'positive' or 'ignore'"):
        data.load(f"csv:{root}/t.csv", task="multilabel")


@pytest.mark.exhaustive
def test_unknown_labels_of_folds_are_no_label_issues(table, tmp_path):
    root, rows = table
    overrides = {"data.uncertain": "ignore", "loss.name": "multilabel_cross_entropy", "train.batch_size": 16}
    overrides |= {"model.width": 4, "train.epochs": 1}
    training.cross_validate(
        "quick",
        model="resnet10",
        folds=2,
        data=f"csv:{root}/t.csv",
        out=tmp_path / "cv",
        overrides=overrides,
        verbose=0,
    )
    keras.backend.clear_session()
    known = {(row[0], name) for row in rows for name, cell in zip(NAMES, row[1:], strict=True) if cell in ("0", "1")}
    issues = evaluation.label_issues(tmp_path / "cv")
    assert {(issue.path.rpartition("/")[2], issue.label.partition(":")[0]) for issue in issues} == known
    truth = {(row[0], name): cell for row in rows for name, cell in zip(NAMES, row[1:], strict=True)}
    for issue in issues:
        name, _, answer = issue.label.partition(": ")
        assert (answer == "yes") == (truth[issue.path.rpartition("/")[2], name] == "1")
