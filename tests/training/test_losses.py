import keras
import numpy as np
import pytest

from keras_resnet import ResNet18, preprocessing, training

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]], "float32")
LABELS = np.array([0, 1])
ONE_HOT = np.eye(3, dtype="float32")[LABELS]


def by_hand(smoothing):
    log_probabilities = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    targets = ONE_HOT * (1 - smoothing) + smoothing / 3
    return -(targets * log_probabilities).sum(axis=1).mean()


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], ONE_HOT], ids=["integers", "column", "one-hot"])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_formula_whatever_the_labels(labels, from_logits, smoothing):
    loss = training.CrossEntropy(smoothing, from_logits=from_logits)
    loss = keras.losses.deserialize(keras.losses.serialize(loss))
    outputs = LOGITS if from_logits else np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    assert float(loss(labels, outputs)) == pytest.approx(by_hand(smoothing), rel=1e-5)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_names_no_class_makes_the_loss_nan_instead_of_zero(label):
    loss = training.CrossEntropy(from_logits=True)
    assert np.isnan(float(loss(np.array([0, label]), LOGITS)))


@pytest.mark.parametrize("one_hot", [False, True])
def test_compile_args_fit_integer_and_one_hot_labels(one_hot):
    recipe = training.Recipe().replace({"loss.label_smoothing": 0.1})
    model = keras.Sequential([keras.layers.Dense(3, use_bias=False, kernel_initializer="identity")])
    model.compile(**recipe.compile_args(steps_per_epoch=1, from_logits=True))
    loss, accuracy, *_ = model.evaluate(LOGITS, ONE_HOT if one_hot else LABELS, verbose=0)
    assert (loss, accuracy) == (pytest.approx(by_hand(0.1), rel=1e-5), 0.5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_binary_accuracy_has_its_threshold_where_the_outputs_have_theirs(from_logits):
    recipe = training.Recipe().replace({"loss.name": "binary_cross_entropy"})
    metric = recipe.compile_args(steps_per_epoch=1, from_logits=from_logits)["metrics"][0]
    outputs = np.array([[0.3], [-0.3], [2.0]]) if from_logits else np.array([[0.6], [0.4], [0.9]])
    assert float(metric(np.array([[1.0], [0.0], [0.0]]), outputs)) == pytest.approx(2 / 3)


def network(activation):
    return ResNet18(input_shape=(8, 8, 1), stem="small", width=1, classes=2, classifier_activation=activation)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize(("activation", "from_logits"), [("softmax", True), (None, False)])
def test_probabilities_under_a_loss_of_logits_and_the_reverse_are_refused_before_the_first_step(
    tmp_path, loss, activation, from_logits
):
    recipe = training.Recipe().replace({"loss.name": loss})
    model = network(activation)
    model.compile(**recipe.compile_args(steps_per_epoch=1, from_logits=from_logits))
    with pytest.raises(ValueError, match="They must agree"):
        model.fit(np.zeros((4, 8, 8, 1)), np.zeros((4, 2)), callbacks=recipe.callbacks(tmp_path / "run"), verbose=0)
    assert int(model.optimizer.iterations) == 0


@pytest.mark.parametrize(("activation", "from_logits"), [("softmax", False), (None, True)])
def test_outputs_that_fit_the_loss_pass(activation, from_logits):
    model = network(activation)
    model.compile(**training.Recipe().compile_args(steps_per_epoch=1, from_logits=from_logits))
    training.check_outputs(model)


MIXED = np.array([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]], "float32")
THREE = np.array([[2.0, 1.0, -1.0], [0.5, -0.5, 3.0]], "float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("labels", [MIXED, np.array([0, 2])], ids=["mixed", "integers"])
def test_sigmoid_cross_entropy_asks_each_class_on_its_own(labels, smoothing):
    targets = MIXED if labels is MIXED else np.eye(3)[labels]
    targets = targets * (1 - smoothing) + smoothing / 3
    chances = 1 / (1 + np.exp(-THREE))
    expected = -(targets * np.log(chances) + (1 - targets) * np.log(1 - chances)).mean()
    loss = training.SigmoidCrossEntropy(smoothing)
    assert float(loss(labels, THREE)) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(float(loss(labels, 1000 * THREE)))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_the_formula_and_cross_entropy_at_gamma_zero(gamma):
    chances = np.exp(THREE) / np.exp(THREE).sum(axis=1, keepdims=True)
    expected = -(MIXED * (1 - chances) ** gamma * np.log(chances)).sum(axis=1).mean()
    loss = training.Focal(gamma)
    assert float(loss(MIXED, THREE)) == pytest.approx(expected, rel=1e-5)
    if gamma == 0.0:
        plain = training.CrossEntropy(from_logits=True)
        assert float(loss(np.array([0, 2]), THREE)) == pytest.approx(float(plain(np.array([0, 2]), THREE)), rel=1e-6)
    assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()


@pytest.mark.parametrize("decay", [0.5, 1.0, 30.0])
@pytest.mark.parametrize("from_logits", [True, False])
def test_the_loss_of_grades_is_the_formula(decay, from_logits):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 5, 20), rng.normal(size=(20, 5)).astype("float32")
    shares = np.exp(-decay * (labels[:, None] - np.arange(5.0)) ** 2)
    shares /= shares.sum(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = training.OrdinalCrossEntropy(decay, from_logits)
    outputs = logits if from_logits else np.exp(logs)
    expected = -(shares * logs).sum(axis=1)
    np.testing.assert_allclose(loss.call(labels, keras.ops.convert_to_tensor(outputs)), expected, rtol=1e-4)
    mixed = 0.3 * np.eye(5)[labels] + 0.7 * np.eye(5)[labels[::-1]]
    expected = -((0.3 * shares + 0.7 * shares[::-1]) * logs).sum(axis=1)
    found = loss.call(keras.ops.convert_to_tensor(mixed, "float32"), keras.ops.convert_to_tensor(outputs))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert training.OrdinalCrossEntropy.from_config(loss.get_config()).decay == decay


@pytest.mark.slow
def test_grades_make_a_run_whose_errors_are_near(tmp_path):
    """Pictures whose brightness is the grade: the loss trains, is saved and scored as any classifier's."""
    pytest.importorskip("tensorflow")
    from keras_resnet import evaluation

    rng = np.random.default_rng(0)
    labels = np.arange(400) % 5
    images = np.clip(rng.normal(60 + 30 * labels[:, None, None, None], 30, (400, 8, 8, 1)), 0, 255).astype("uint8")
    np.savez(tmp_path / "grades.npz", x=images, y=labels)
    words = {"loss.name": "ordinal", "model.width": 4, "train.epochs": 6, "train.batch_size": 32}
    run = training.fit(
        "quick", model="resnet10", data=f"npz:{tmp_path}/grades.npz", out=tmp_path / "run", overrides=words, verbose=0
    )
    found = evaluation.evaluate(training.Run.load(run.path), intervals=True)
    assert found["quadratic_kappa"] > 0.8 and found["mean_distance"] < 0.5
    assert run.metrics["test"]["quadratic_kappa"] == found["quadratic_kappa"]
    assert preprocessing.for_model(run.model).task == "ordinal" and run.dataset.task == "classification"
    alone = evaluation.evaluate(run.path / "best.keras", f"npz:{tmp_path}/grades.npz", split="test")
    assert alone["mean_distance"] == found["mean_distance"] and evaluation.calibrate(run).facts["temperature"] > 0
    assert len(evaluation.mistakes(run, top=2)) <= 2 and evaluation.predict(run, tmp_path / "grades.npz", top=1)
    # As an earlier version wrote it: the model calls itself a classification, and the run knows better.
    earlier = training.Run.load(run.path)
    preprocessing.describe_outputs(earlier.model, earlier.class_names, task="classification")
    assert evaluation.evaluate(earlier)["quadratic_kappa"] == found["quadratic_kappa"]
    assert "quadratic_kappa" not in evaluation.evaluate(earlier.model, run.dataset)


@pytest.mark.parametrize("loss", [training.SigmoidCrossEntropy, training.Focal])
def test_a_loss_of_logits_refuses_probabilities(loss):
    with pytest.raises(ValueError, match="from_logits=False"):
        loss(from_logits=False)


def test_the_accuracy_counts_integers_one_hot_and_mixed_labels():
    metric = training.ClassAccuracy()
    metric.update_state(np.array([0, 1]), THREE)
    metric.update_state(MIXED, THREE)
    metric.update_state(np.array([[2], [2]]), THREE)
    assert float(metric.result()) == pytest.approx((1 + 2 + 1) / 6)
    assert training.ClassAccuracy.from_config(metric.get_config()).name == "accuracy"


SEVERAL = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], "float32")
SURE = np.array([[2.0, -1.0, 0.5], [-3.0, 0.2, 4.0]], "float32")


def chances_of(logits):
    return 1 / (1 + np.exp(-logits.astype("float64")))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_several_labels_is_the_mean_of_keras_binary_cross_entropies(smoothing):
    loss = training.MultilabelCrossEntropy(smoothing)
    expected = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
    assert float(loss(SEVERAL, SURE)) == pytest.approx(float(expected(SEVERAL, SURE)), rel=1e-6)
    assert np.isfinite(float(loss(SEVERAL, 1000 * SURE)))
    weighted = training.MultilabelCrossEntropy(smoothing, weights=[[2.0, 1.0, 3.0], [0.5, 1.0, 0.25]])
    targets, p = SEVERAL * (1 - smoothing) + smoothing / 2, chances_of(SURE)
    yes, no = -np.log(p) * [2.0, 1.0, 3.0], -np.log(1 - p) * [0.5, 1.0, 0.25]
    assert float(weighted(SEVERAL, SURE)) == pytest.approx((targets * yes + (1 - targets) * no).mean(), rel=1e-5)
    assert type(weighted).from_config(weighted.get_config()).get_config() == weighted.get_config()


@pytest.mark.parametrize("powers", [(0.0, 4.0, 0.05), (1.0, 2.0, 0.0), (2.0, 2.0, 0.2), (0.0, 0.0, 0.0)])
def test_the_asymmetric_loss_is_the_formula(powers):
    positive, negative, margin = powers
    p = chances_of(SURE)
    lowered = np.maximum(p - margin, 0)
    expected = -(
        SEVERAL * (1 - p) ** positive * np.log(p) + (1 - SEVERAL) * lowered**negative * np.log(1 - lowered)
    ).mean()
    loss = training.Asymmetric(*powers)
    assert float(loss(SEVERAL, SURE)) == pytest.approx(expected, rel=1e-4)
    for far in (-100.0, 100.0):  # neither the loss nor its gradient leaves the numbers
        import tensorflow as tf

        logits = tf.Variable(np.full((1, 3), far, "float32"))
        with tf.GradientTape() as tape:
            value = loss(SEVERAL[:1], logits)
        assert np.isfinite(float(value)) and np.isfinite(tape.gradient(value, logits).numpy()).all()


@pytest.mark.parametrize("shift", [0.0, -12.0], ids=["usual", "rare findings"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_area_while_training_is_that_of_scikit_learn(shift, weighted):
    metrics = pytest.importorskip("sklearn.metrics")
    from keras_resnet.training.scoring import MeanRocAuc

    rng = np.random.default_rng(0)
    truth = (rng.random((500, 4)) < (0.4, 0.4, 0.02, 0.0)).astype("float32")  # the last class is absent
    logits = (rng.normal(size=truth.shape) + truth + shift).astype("float32")  # at -12 all probabilities are below 1e-4
    weights = rng.uniform(0, 3, 500).astype("float32") if weighted else None
    metric = MeanRocAuc(4)
    for start in range(0, 500, 100):
        rows = slice(start, start + 100)
        metric.update_state(truth[rows], logits[rows], None if weights is None else weights[rows])
    known = [metrics.roc_auc_score(truth[:, place], logits[:, place], sample_weight=weights) for place in range(3)]
    assert float(metric.result()) == pytest.approx(np.mean(known), abs=1e-3)
    metric.reset_state()
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_logit_adjustment_is_the_formula(strength):
    shares = np.array([0.7, 0.2, 0.1])
    moved = THREE + strength * np.log(shares)
    chances = np.exp(moved) / np.exp(moved).sum(axis=1, keepdims=True)
    loss = training.AdjustedCrossEntropy(shares, strength)
    labels = np.array([2, 0])
    assert float(loss(labels, THREE)) == pytest.approx(-np.log(chances[[0, 1], labels]).mean(), rel=1e-5)
    assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()


def test_logit_adjustment_takes_the_shares_of_the_training_labels():
    experiment = training.resolve("quick", model="resnet10", overrides={"loss.logit_adjustment": 1.0, "model.width": 4})
    counts = np.bincount(experiment.dataset.split("train").labels)
    loss = experiment.compile_args()["loss"]
    assert loss.shares == pytest.approx((counts / counts.sum()).tolist()) and loss.strength == 1.0
    with pytest.raises(ValueError, match="logit_adjustment has no effect"):
        training.Recipe.load("quick").replace({"loss.name": "focal", "loss.logit_adjustment": 1.0})


def test_grades_that_are_sorted_as_words_are_refused():
    """`keras.utils.image_dataset_from_directory` and torchvision sort folders 0 to 10 as 0, 1, 10, 2."""
    ordinal = training.Recipe.load("quick").replace({"loss.name": "ordinal"}).loss
    with pytest.raises(ValueError, match="Set data.class_order='0,1,2,10'"):
        ordinal.outputs("folder:x", 4, ("0", "1", "10", "2"))
    assert ordinal.outputs("folder:x", 4, ("0", "1", "2", "10")) == 4
    assert ordinal.outputs("folder:x", 3, ("low", "high", "10")) == 3
