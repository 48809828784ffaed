"""Weights of examples: gradients, metrics and scores count by them, as scikit-learn's figures do."""

import csv
import re

import keras
import numpy as np
import pytest
from sklearn import metrics

tf = pytest.importorskip("tensorflow")

from keras_resnet import data, evaluation, report, training  # noqa: E402
from keras_resnet.evaluation import scores  # noqa: E402
from keras_resnet.tasks import MULTILABEL, Predictions  # noqa: E402
from keras_resnet.tasks.outputs import sigmoid, softmax  # noqa: E402
from keras_resnet.training.optimizer import sharpness_aware  # noqa: E402
from tests import harness  # noqa: E402

pytestmark = pytest.mark.slow

SMALL = {
    "model.width": 4,
    "train.epochs": 2,
    "train.batch_size": 16,
    "schedule.name": "constant",
    "optimizer.learning_rate": 0.01,
}
TASKS = {
    "classes": lambda digits: digits,
    "several": lambda digits: np.stack([digits > 4, digits % 2], axis=1).astype("int64"),
    "numbers": lambda digits: digits * 1.5,
}
LOSSES = {"classes": "cross_entropy", "several": "multilabel_cross_entropy", "numbers": "mean_squared_error"}


def best_cuts(logits, labels, weights=None):
    """The thresholds that the task suggests."""
    return MULTILABEL.choose_thresholds(
        Predictions(MULTILABEL, logits, labels, "abc"[: labels.shape[1]], weights=weights)
    )


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    """200 digits with weights from 0 to 5, labeled for each task."""
    digits = data.load("digits")
    images, labels = digits.arrays("train", 200)
    folder = tmp_path_factory.mktemp("weighted")
    weights = np.random.default_rng(0).uniform(0, 5, 200).round()
    for name, make in TASKS.items():
        np.savez(folder / f"{name}.npz", x=images, y=make(labels), w=weights)
    return folder


def overrides_for(task, **more):
    return {**SMALL, "loss.name": LOSSES[task], **more}


@pytest.mark.parametrize("task", TASKS)
def test_figures_are_those_of_scikit_learn(tmp_path, weighted, task):
    run = training.fit(
        "quick",
        model="resnet10",
        data=f"npz:{weighted}/{task}.npz",
        out=tmp_path / "run",
        overrides=overrides_for(task, **{"train.epochs": 1}),
        verbose=0,
    )
    dataset = run.dataset
    truth, weights = dataset.split("test").labels, dataset.weights_of("test")
    outputs = run.model.predict(dataset.batches("test", 64), verbose=0)
    found = run.metrics["test"]
    if task == "classes":
        guesses = outputs.argmax(axis=1)
        expected = {
            "accuracy": metrics.accuracy_score(truth, guesses, sample_weight=weights),
            "loss": metrics.log_loss(truth, softmax(outputs), labels=range(10), sample_weight=weights),
        }
        rows = metrics.precision_recall_fscore_support(
            truth, guesses, labels=range(10), sample_weight=weights, zero_division=0
        )
        for name, values in zip(("precision", "recall", "f1"), rows, strict=False):
            np.testing.assert_allclose([row[name] for row in found["per_class"]], values, atol=1e-6)
    elif task == "several":
        probabilities = sigmoid(outputs)
        cuts = [row["threshold"] for row in found["per_class"]]
        right = (probabilities >= cuts) == truth
        expected = {
            "accuracy": np.average(right.mean(axis=1), weights=weights),
            "exact_match": np.average(right.all(axis=1), weights=weights),
            "f1": metrics.f1_score(truth, probabilities >= cuts, average="macro", sample_weight=weights),
            "roc_auc": metrics.roc_auc_score(truth, probabilities, average="macro", sample_weight=weights),
            "average_precision": metrics.average_precision_score(truth, probabilities, sample_weight=weights),
            "loss": np.mean(
                [metrics.log_loss(truth[:, i], probabilities[:, i], sample_weight=weights) for i in range(2)]
            ),
        }
    else:
        expected = {
            "mse": metrics.mean_squared_error(truth, outputs, sample_weight=weights),
            "mae": metrics.mean_absolute_error(truth, outputs, sample_weight=weights),
            "r2": metrics.r2_score(truth, outputs, sample_weight=weights),
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert found["examples"] == len(truth)
    # So do the figures of the epoch, and what `evaluate` says.
    again = evaluation.evaluate(run, split="validation")
    epoch, scored = {
        "classes": ("val_accuracy", "accuracy"),
        "several": ("val_cross_entropy", "loss"),
        "numbers": ("val_mae", "mae"),
    }[task]
    assert run.history[epoch][0] == pytest.approx(again[scored], rel=1e-4)


def test_intervals_are_of_the_weighted_figures(weighted):
    dataset = data.load(f"npz:{weighted}/classes.npz")
    rng = np.random.default_rng(1)
    labels, weights = dataset.split("train").labels, dataset.weights_of("train")
    probabilities = softmax(rng.normal(size=(len(labels), 10)) + 2 * np.eye(10)[labels])
    found = evaluation.detailed_scores(probabilities, labels, dataset.class_names, weights=weights, resamples=200)
    guesses = probabilities.argmax(axis=1)
    words = {"sample_weight": weights}
    expected = {
        "accuracy": metrics.accuracy_score(labels, guesses, **words),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, guesses, **words),
        "cohen_kappa": metrics.cohen_kappa_score(labels, guesses, **words),
        "matthews": metrics.matthews_corrcoef(labels, guesses, **words),
        "f1": metrics.f1_score(labels, guesses, average="macro", **words),
        "roc_auc_micro": metrics.roc_auc_score(
            np.eye(10)[labels].ravel(), probabilities.ravel(), sample_weight=np.repeat(weights, 10)
        ),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    for name, value in expected.items():
        low, high = found[f"{name}_interval"]
        assert low < value < high


def test_whole_weights_are_repeated_examples():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 6, 50), rng.normal(size=(50, 6))
    times = rng.integers(0, 4, 50)
    names = tuple("abcdef")
    found = evaluation.scores.classification(logits, labels, names, times)
    repeated = evaluation.scores.classification(np.repeat(logits, times, axis=0), np.repeat(labels, times), names)
    for name in ("loss", "accuracy", "top5", "expected_calibration_error"):
        assert found[name] == pytest.approx(repeated[name])
    rows = np.stack([labels > 2, labels % 2], axis=1)
    several = logits[:, :2]
    found = scores.multilabel(several, rows, ("a", "b"), (), times)
    repeated = scores.multilabel(np.repeat(several, times, axis=0), np.repeat(rows, times, axis=0), ("a", "b"))
    for name in ("loss", "accuracy", "f1", "f1_micro", "roc_auc", "expected_calibration_error"):
        assert found[name] == pytest.approx(repeated[name])
    assert best_cuts(several, rows, times) == pytest.approx(
        best_cuts(np.repeat(several, times, axis=0), np.repeat(rows, times, axis=0))
    )


KINDS = ["plain", "accumulated", "sharpness-aware", "in the step"]


@pytest.mark.parametrize("kind", harness.tiers(KINDS, KINDS[:1], KINDS))
def test_a_step_is_that_of_the_weighted_loss(weighted, kind):
    more = {
        "accumulated": {"optimizer.accumulation": 2},
        "sharpness-aware": {"optimizer.sam_radius": 0.05},
        "in the step": {"augment.augment_on": "device", "augment.noise": 10.0},
    }.get(kind, {})
    plain = {"optimizer.name": "sgd", "optimizer.momentum": 0.0, "optimizer.nesterov": False}
    more = {**more, **plain, "optimizer.weight_decay": 0.0, "loss.label_smoothing": 0.0}
    experiment = training.resolve(
        "quick", model="resnet10", data=f"npz:{weighted}/classes.npz", overrides=overrides_for("classes", **more)
    )
    keras.utils.set_random_seed(0)
    network = experiment.build_model()
    network.compile(**experiment.compile_args())
    twin = keras.models.clone_model(keras.Model(network.inputs, network.outputs))
    twin.set_weights(keras.Model(network.inputs, network.outputs).get_weights())
    steps = 2 if kind == "accumulated" else 1
    batches = list(experiment.training_batches().take(steps))
    network.transforms = experiment.transforms_in_step()
    network.fit(experiment.training_batches(), steps_per_epoch=steps, verbose=0, shuffle=False)

    def slopes_of(batch):
        images, labels, weights = batch
        if kind == "in the step":
            images, labels = experiment.transforms_in_step()(0, images, labels)
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(labels, twin(images, training=True), from_logits=True)
            loss = tf.reduce_sum(losses * weights) / 16
        return tape.gradient(loss, [variable.value for variable in twin.trainable_variables])

    if kind == "sharpness-aware":
        gradients = slopes_of(batches[0])
        before = twin.get_weights()
        length = 0.05 / tf.linalg.global_norm(gradients)
        for variable, slope in zip(twin.trainable_variables, gradients, strict=True):
            variable.assign(variable + slope * length)
        gradients = slopes_of(batches[0])
        twin.set_weights(before)
    else:
        found = [slopes_of(batch) for batch in batches]
        gradients = [sum(parts) / steps for parts in zip(*found, strict=True)]
    for variable, slope in zip(twin.trainable_variables, gradients, strict=True):
        variable.assign(variable - 0.01 * slope)
    for mine, theirs in zip(network.trainable_variables, twin.trainable_variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=2e-6)


def test_a_users_own_batches_may_have_weights():
    """A plain `model.fit` over a `tf.data` pipeline of three parts, with the steps of this package."""
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(32, 4)).astype("float32"), rng.integers(0, 3, 32), rng.uniform(0, 3, 32)
    batches = tf.data.Dataset.from_tensor_slices((x, y, w.astype("float32"))).batch(8)

    def trained(model_class, data):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        model = model_class(inputs, keras.layers.Dense(3)(inputs))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, weighted_metrics=[training.MeanRecall(3)])
        return model, model.fit(data, epochs=2, verbose=0, shuffle=False).history

    class NoClimb(sharpness_aware(keras.Model)):
        radius = 0.0

    plain, history = trained(keras.Model, batches)
    climbed, same = trained(NoClimb, batches)
    np.testing.assert_allclose(plain.get_weights()[0], climbed.get_weights()[0], atol=1e-6)
    assert same["loss"] == pytest.approx(history["loss"], rel=1e-5)
    guesses = plain.predict(x, verbose=0).argmax(axis=1)
    recall = plain.evaluate(batches, verbose=0, return_dict=True)["balanced_accuracy"]
    assert recall == pytest.approx(metrics.balanced_accuracy_score(y, guesses, sample_weight=w), rel=1e-5)
    outputs, labels = evaluation.predict_all(plain, batches)
    np.testing.assert_array_equal(labels, y)
    np.testing.assert_allclose(outputs.argmax(axis=1), guesses)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"augment.mixup": 0.2}, "augment.mixup or augment.cutmix was given with examples that have weights"),
        ({"data.balance": "weights"}, "data.balance='weights' was given with examples that have weights"),
    ],
)
def test_what_weights_exclude_is_refused(weighted, overrides, message):
    with pytest.raises(ValueError, match=message):
        training.resolve(
            "quick",
            model="resnet10",
            data=f"npz:{weighted}/classes.npz",
            overrides=overrides_for("classes", **overrides),
        )


@pytest.mark.slow
def test_balanced_sampling_goes_with_weights(weighted, tmp_path):
    overrides = overrides_for("classes", **{"data.balance": "sampling", "train.epochs": 1})
    run = training.fit(
        "quick",
        model="resnet10",
        data=f"npz:{weighted}/classes.npz",
        out=tmp_path / "run",
        overrides=overrides,
        verbose=0,
    )
    assert np.isfinite(run.history["loss"][0])


def test_several_labels_read_metrics_by_weights(weighted):
    assert (
        scores.multilabel([[1.0, -1.0], [1.0, 1.0]], [[1, 0], [0, 0]], ("a", "b"), (), [3.0, 1.0])["accuracy"] == 0.75
    )


def test_the_validation_loss_is_divided_by_the_weights_of_its_split(tmp_path):
    """Weights of the validation split that are four times those of training made its loss four times as large."""
    images, labels = data.load("digits").arrays("train", 400)
    rng = np.random.default_rng(0)
    counts = rng.uniform(1, 3, 400)
    counts[300:] *= 4
    arrays = {"x_train": images[:300], "y_train": labels[:300], "w_train": counts[:300]}
    arrays |= {"x_val": images[300:], "y_val": labels[300:], "w_val": counts[300:]}
    np.savez(tmp_path / "a.npz", **arrays)
    plain = {"loss.label_smoothing": 0.0, "model.l2": 0.0, "model.l1": 0.0}
    overrides = overrides_for("classes", **plain)
    run = training.fit(
        "quick", model="resnet10", data=f"npz:{tmp_path}/a.npz", out=tmp_path / "run", overrides=overrides, verbose=0
    )
    assert run.history["val_loss"] == pytest.approx(run.history["val_cross_entropy"], rel=1e-4)
    best = int(np.argmin(run.history["val_loss"]))
    logits = run.model.predict(images[300:], verbose=0)
    expected = metrics.log_loss(labels[300:], softmax(logits), sample_weight=counts[300:])
    assert run.history["val_loss"][best] == pytest.approx(expected, rel=1e-4)


def test_logit_adjustment_takes_the_shares_of_what_is_trained_on(tmp_path):
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    arrays = {"x_train": np.zeros((100, 8, 8, 1), "uint8") + np.arange(100, dtype="uint8")[:, None, None, None]}
    arrays |= {"y_train": labels}
    np.savez(tmp_path / "a.npz", **arrays, x_test=arrays["x_train"][:6], y_test=np.arange(6) % 3)
    adjusted = {"loss.logit_adjustment": 1.0, "data.validation_fraction": 0.0}
    for balance, expected in {
        "none": (0.6, 0.3, 0.1),
        "sampling": (1 / 3, 1 / 3, 1 / 3),
        "weights": (1 / 3, 1 / 3, 1 / 3),
        "sqrt_sampling": tuple(np.sqrt([60, 30, 10]) / np.sqrt([60, 30, 10]).sum()),
        "sqrt_weights": tuple(np.sqrt([60, 30, 10]) / np.sqrt([60, 30, 10]).sum()),
    }.items():
        recipe = training.Recipe.load("quick").replace({**adjusted, "data.balance": balance})
        dataset = recipe.data.load(f"npz:{tmp_path}/a.npz", None, "classification")
        assert recipe.label_facts(dataset).class_shares == pytest.approx(expected), balance
    counts = np.where(labels == 2, 9.0, 1.0)
    np.savez(tmp_path / "b.npz", **arrays, w_train=counts, x_test=arrays["x_train"][:6], y_test=np.arange(6) % 3)
    recipe = training.Recipe.load("quick").replace(adjusted)
    dataset = recipe.data.load(f"npz:{tmp_path}/b.npz", None, "classification")
    assert recipe.label_facts(dataset).class_shares == pytest.approx((1 / 3, 1 / 6, 1 / 2))


def test_examples_of_weight_0_are_left_out_of_everything(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (80, 8, 8, 1)).astype("uint8")
    counts = np.ones(80)
    counts[:20], images[:20] = 0, 255
    targets = np.where(counts == 0, 1e6, rng.normal(5, 2, 80)).astype("float32")
    np.savez(tmp_path / "numbers.npz", x=images, y=targets, w=counts)
    whole = {"data.validation_fraction": 0.0, "data.test_fraction": 0.0}
    recipe = training.Recipe.load("quick").replace({**whole, "loss.name": "mean_squared_error"})
    dataset = recipe.data.load(f"npz:{tmp_path}/numbers.npz", None, "regression")
    (mean,), (scale,) = recipe.label_facts(dataset).targets
    assert (mean, scale) == pytest.approx((targets[20:].mean(), targets[20:].std()), rel=1e-5)
    normalized = recipe.replace({"data.normalization": "dataset"}).data
    layer = normalized.normalization_layer(dataset, normalized.record_for(dataset), None, "float32")
    assert layer.mean[0] == pytest.approx(images[20:].mean(), rel=1e-5)
    assert layer.std[0] == pytest.approx(images[20:].std(), rel=1e-5)
    np.savez(tmp_path / "classes.npz", x=images, y=(np.arange(80) < 50).astype("int64"), w=counts)
    balanced = data.load(f"npz:{tmp_path}/classes.npz", validation_fraction=0, test_fraction=0)
    assert balanced.class_shares(1.0) == pytest.approx([0.5, 0.5])
    drawn = np.concatenate([
        np.asarray(images) for images, *_ in balanced.training_batches(16, seed=0, balance=1.0).take(20)
    ])  # fmt: skip
    assert drawn.max() < 255


def test_several_labels_are_not_weighted_twice(weighted):
    with pytest.raises(ValueError, match="data.balance='weights' was given with examples that have weights"):
        training.resolve(
            "quick",
            model="resnet10",
            data=f"npz:{weighted}/several.npz",
            overrides=overrides_for("several", **{"data.balance": "weights"}),
        )


@pytest.mark.slow
def test_folds_together_have_the_weighted_figures_of_scikit_learn(tmp_path):
    """Each fold's weights were divided by the mean of its own training split."""
    images, labels = data.load("digits").arrays("train", 90)
    counts = np.random.default_rng(0).pareto(1.0, 90) + 0.1
    np.savez(tmp_path / "a.npz", x=images, y=labels % 3, w=counts)
    found = training.cross_validate(
        "quick",
        model="resnet10",
        folds=3,
        data=f"npz:{tmp_path}/a.npz",
        out=tmp_path / "cv",
        overrides={**SMALL, "train.epochs": 1, "loss.label_smoothing": 0.0},
        verbose=0,
    )
    with open(tmp_path / "cv" / "out_of_fold.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    places = [int(row["path"].split()[1]) for row in rows]
    guesses = [max("012", key=lambda name, row=row: float(row[name])) for row in rows]
    truth = [row["label"] for row in rows]
    expected = metrics.accuracy_score(truth, guesses, sample_weight=counts[places])
    assert found.out_of_fold["accuracy"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_pages_robustness_and_pairs_count_by_weights(weighted, tmp_path):
    run = training.fit(
        "quick",
        model="resnet10",
        data=f"npz:{weighted}/classes.npz",
        out=tmp_path / "run",
        overrides={**overrides_for("classes", **{"train.epochs": 3}), "data.test_fraction": 0.3},
        verbose=0,
    )
    dataset = run.dataset
    counts, truth = dataset.weights_of("test"), dataset.split("test").labels
    assert (counts == 0).any()
    probabilities = softmax(run.model.predict(dataset.batches("test", 64), verbose=0).astype("float64"))
    right = probabilities.argmax(axis=1) == truth
    assert evaluation.robustness(run, limit=1000)["clean"] == pytest.approx(np.average(right, weights=counts))
    text = report.write_report(run.path, tmp_path / "a.html").read_text("utf-8")
    areas = [float(area) for area in re.findall(r">\d, area ([\d.]+)<", text)]
    known = counts > 0
    expected = [
        metrics.roc_auc_score(truth[known] == label, probabilities[known, label], sample_weight=counts[known])
        for label in range(10)
        if 0 < (truth[known] == label).sum() < known.sum()
    ]
    assert areas and all(min(abs(area - value) for value in expected) < 6e-4 for area in areas)
    bins = evaluation.reliability(probabilities.max(axis=1), right, counts)
    total = sum(
        abs(bin.confidence - bin.accuracy) * counts[_inside(probabilities, bin)].sum() for bin in bins if bin.examples
    )
    assert total / counts.sum() == pytest.approx(run.metrics["test"]["expected_calibration_error"], abs=1e-6)


def _inside(probabilities, bin):
    best = probabilities.max(axis=1)
    return (best > bin.low) & (best <= bin.high)
