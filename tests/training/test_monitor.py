"""The figure that chooses the best epoch, and the metrics that compare runs."""

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn

pytest.importorskip("tensorflow")

from keras_resnet import data, training  # noqa: E402
from keras_resnet.training import MeanRecall  # noqa: E402
from keras_resnet.training.scoring import Monitor  # noqa: E402
from tests import harness  # noqa: E402

pytestmark = pytest.mark.slow

WORDS = {"model.width": 2, "train.epochs": 4, "train.batch_size": 16, "optimizer.learning_rate": 0.05}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """Digits of which "rare" has 20 examples where "common" has 160."""
    images, labels = data.load("digits", validation_fraction=0).arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == 3)[:140], np.flatnonzero(labels == 8)[:20]])
    path = tmp_path_factory.mktemp("rare") / "rare.npz"
    names = np.array(["common", "rare"])
    np.savez(path, x=images[chosen], y=(labels[chosen] == 8).astype("int64"), class_names=names)
    return f"npz:{path}"


@pytest.mark.parametrize("outputs", [1, 4])
def test_mean_recall_is_scikit_learns_balanced_accuracy(outputs):
    rng = np.random.default_rng(0)
    classes = max(outputs, 2)
    labels, logits = rng.integers(0, classes, 200) // 2, rng.normal(size=(200, outputs))  # classes that never occur
    labels[:3] = 1
    guesses = (logits[:, 0] > 0).astype(int) if outputs == 1 else logits.argmax(axis=1)
    metric = MeanRecall(classes)
    for part in np.array_split(np.arange(200), 3):
        metric.update_state(labels[part], logits[part])
    with np.errstate(all="ignore"):
        recalls = sklearn.recall_score(labels, guesses, labels=range(classes), average=None, zero_division=0)
    assert float(metric.result()) == pytest.approx(recalls[np.unique(labels)].mean(), rel=1e-6)
    one = MeanRecall(classes, label=1)
    one.update_state(keras.utils.to_categorical(labels, classes) if outputs > 1 else labels, logits)
    assert float(one.result()) == pytest.approx(recalls[1], rel=1e-6)
    assert MeanRecall.from_config(one.get_config()).get_config() == one.get_config()


def test_validation_weighs_classes_as_training_does(spec, tmp_path):
    words = {**WORDS, "data.balance": "weights", "loss.label_smoothing": 0.0}
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=words, verbose=0, score=())
    model = keras.saving.load_model(run.path / "final.keras")
    images, labels = run.dataset.arrays("validation")
    logits = np.asarray(model(images, training=False), "float64")
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    counts = np.bincount(run.dataset.split("train").labels)
    weights = (counts.sum() / (2 * counts))[labels]
    assert run.history["val_loss"][-1] == pytest.approx((losses * weights).mean(), rel=1e-4)
    assert run.history["val_cross_entropy"][-1] == pytest.approx(losses.mean(), rel=1e-4)
    assert run.history["val_accuracy"][-1] == pytest.approx((logits.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize(("direction", "places"), [("min", [0, 1, 3]), ("max", [0, 2])])
def test_a_figure_is_better_in_the_direction_of_its_monitor(direction, places):
    monitor, best, found = Monitor("figure", direction), None, []
    rows = [{"val_figure": value, "figure": 0.0} for value in (0.5, 0.4, 0.6, 0.3, 0.3, 0.6)]
    for place, row in enumerate(rows):
        if monitor.is_better(monitor.value(row), best):
            best, found = monitor.value(row), [*found, place]
    assert found == places and monitor.best_row(rows) is rows[places[-1]]


MONITORS = [("auto", min), ("balanced_accuracy", max), ("recall:rare", max), ("accuracy", max)]


@pytest.mark.parametrize(("monitor", "best"), harness.tiers(MONITORS, MONITORS[-1:], MONITORS))
def test_the_best_epoch_is_chosen_by_the_monitor(spec, tmp_path, monitor, best):
    words = {**WORDS, "train.monitor": monitor, "train.early_stopping_patience": 3}
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=words, verbose=0)
    column = run.history["val_loss" if monitor == "auto" else f"val_{monitor}"]
    assert run.description["best_epoch"] == 1 + column.index(best(column))
    images, labels = run.dataset.arrays("validation")
    guesses = np.asarray(run.model(images, training=False)).argmax(axis=1)
    figures = {
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, guesses),
        "recall:rare": sklearn.recall_score(labels, guesses),
        "accuracy": (labels == guesses).mean(),
    }
    if monitor in figures:
        assert best(column) == pytest.approx(figures[monitor])


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("balanced_acuracy", "train.monitor='balanced_acuracy' is not a figure.*Did you mean 'balanced_accuracy'"),
        ("recall:seldom", "'recall:common', 'recall:rare'|recall:common, recall:rare"),
        ("mae", "Use one of: auto, loss, accuracy, cross_entropy, balanced_accuracy"),
    ],
)
def test_a_monitor_that_a_run_lacks_is_refused_before_the_folder_is_made(spec, tmp_path, monitor, message):
    with pytest.raises(ValueError, match=message):
        training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides={"train.monitor": monitor})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "sigmoid_cross_entropy", "binary_cross_entropy", "huber"])
def test_the_plain_loss_knows_no_smoothing_weights_or_decay(loss, tmp_path):
    rng = np.random.default_rng(0)
    classes = 2 if loss == "binary_cross_entropy" else 3
    labels = rng.normal(size=(30, 1)) if loss == "huber" else rng.integers(0, classes, 30)
    logits = rng.normal(size=(30, 1 if loss in ("huber", "binary_cross_entropy") else 3)).astype("float32")
    recipe = training.Recipe().replace({"loss.name": loss})
    if loss != "huber":
        recipe = recipe.replace({"loss.label_smoothing": 0.2})
    name = recipe.loss.plain_metric
    (metric,) = [one for one in recipe.compile_args(steps_per_epoch=1, from_logits=True)["metrics"] if one.name == name]
    metric.update_state(labels.reshape(-1, 1) if logits.shape[1] == 1 else labels, logits)
    if loss == "huber":
        expected = ((labels - logits) ** 2).mean()
    elif loss == "binary_cross_entropy":
        expected = np.log1p(np.exp(-logits[:, 0] * (2 * labels - 1))).mean()
    elif loss == "sigmoid_cross_entropy":
        expected = np.log1p(np.exp(-logits * (2 * np.eye(3)[labels] - 1))).mean()
    else:
        expected = sklearn.log_loss(labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
