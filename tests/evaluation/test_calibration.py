import json

import keras
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

import keras_resnet
from keras_resnet import evaluation
from keras_resnet.evaluation import scores
from keras_resnet.tasks import CLASSIFICATION, Predictions
from keras_resnet.tasks.outputs import softmax


def losses_of(logits, labels):
    """The cross-entropy of each example."""
    return Predictions(CLASSIFICATION, logits, labels, [""] * logits.shape[1]).losses


def drawn(temperature, examples=20_000, classes=4):
    """Logits whose honest probabilities are those at a temperature: labels are drawn from them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (examples, classes))
    chances = softmax(logits / temperature)
    return logits, np.array([rng.choice(classes, p=row) for row in chances])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature):
    logits, labels = drawn(temperature)
    found = evaluation.temperature_of(logits, labels)
    # A fifth of a percent a standard error, with 20,000 labels.
    assert found == pytest.approx(temperature, rel=0.03)
    least = minimize_scalar(lambda t: log_loss(labels, softmax(logits / t)), bounds=(0.05, 20), method="bounded")
    assert found == pytest.approx(least.x, rel=1e-3)


def test_a_weight_is_the_number_of_times_that_an_example_stands_there():
    logits, labels = drawn(2.0, examples=300)
    counts = np.random.default_rng(1).integers(0, 4, 300)
    weighted = evaluation.temperature_of(logits, labels, weights=counts)
    repeated = evaluation.temperature_of(np.repeat(logits, counts, axis=0), np.repeat(labels, counts))
    assert (
        weighted == pytest.approx(repeated, rel=1e-6)
        and abs(weighted / evaluation.temperature_of(logits, labels) - 1) > 0.01
    )
    assert evaluation.temperature_of(logits, labels, 0.25, weights=3 * counts) == pytest.approx(
        evaluation.temperature_of(logits, labels, 0.25, weights=counts)
    )


def test_calibration_counts_examples_by_their_weights(digits_run, tmp_path):
    dataset, rng = digits_run.dataset, np.random.default_rng(0)
    arrays = {}
    for suffix, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        arrays[f"x_{suffix}"], arrays[f"y_{suffix}"] = dataset.arrays(split)
        arrays[f"w_{suffix}"] = rng.uniform(0, 3, dataset.sizes[split])
    np.savez(tmp_path / "d.npz", class_names=list(dataset.class_names), **arrays)
    spec = f"npz:{tmp_path / 'd.npz'}"
    facts = evaluation.calibrate(digits_run, spec, out=tmp_path / "c.keras").facts
    assert (
        facts["temperature"] != evaluation.calibrate(digits_run, dataset, out=tmp_path / "p.keras").facts["temperature"]
    )
    for split in ("validation", "test"):
        before, after = (evaluation.evaluate(model, spec, split=split) for model in (digits_run, tmp_path / "c.keras"))
        for told, scored in ((facts[split]["before"], before), (facts[split]["after"], after)):
            assert told["loss"] == pytest.approx(scored["loss"], rel=1e-4)
            calibration_error = scored["expected_calibration_error"]
            assert told["expected_calibration_error"] == pytest.approx(calibration_error, abs=2e-3)
    logits, labels = digits_run.model.predict(arrays["x_val"], verbose=0), arrays["y_val"]
    gains = evaluation.calibration.held_out_gains(logits, labels, weights=arrays["w_val"])
    mean, error = np.average(gains, weights=arrays["w_val"]), facts["held_out_gain_error"]
    assert facts["held_out_gain"] == pytest.approx(mean, rel=1e-3)
    picked = rng.integers(0, len(gains), (2000, len(gains)))  # the bootstrap of a weighted mean
    means = (gains * arrays["w_val"])[picked].sum(axis=1) / arrays["w_val"][picked].sum(axis=1)
    assert error == pytest.approx(means.std(), rel=0.1)


def test_a_classifier_that_is_never_wrong_gets_the_lowest_temperature():
    assert evaluation.temperature_of([[2.0, 0.0], [0.0, 2.0]], [0, 1]) == pytest.approx(0.05)


def test_the_bins_hold_every_example_and_sum_up_to_the_calibration_error():
    rng = np.random.default_rng(1)
    confidences = np.concatenate([rng.uniform(0.1, 1, 500), [0.0, 1.0, 0.2]])
    right = rng.random(503) < confidences
    bins = evaluation.reliability(confidences, right)
    assert sum(bin.examples for bin in bins) == 503
    assert bins[0].low == 0 and bins[-1].high == 1
    inside = (confidences > bins[8].low) & (confidences <= bins[8].high)
    assert (bins[8].examples, bins[8].accuracy) == (inside.sum(), pytest.approx(right[inside].mean()))
    gap = sum(bin.examples * abs(bin.accuracy - bin.confidence) for bin in bins if bin.examples) / 503
    assert gap == pytest.approx(scores.calibration_error(confidences, right))
    assert [bin for bin in evaluation.reliability([0.95], [True]) if not bin.examples][0].accuracy is None


def test_calibration_divides_the_logits_and_is_saved_with_the_model(digits_copy):
    done = evaluation.calibrate(digits_copy)
    facts = json.loads((digits_copy.path / "calibration.json").read_text("utf-8"))
    assert facts == done.facts and done.path == digits_copy.path / "calibrated.keras"
    images, _ = digits_copy.dataset.arrays("test")
    before = digits_copy.model.predict(images, verbose=0)
    after = keras.saving.load_model(done.path).predict(images, verbose=0)
    assert np.abs(after - before / facts["temperature"]).max() < 1e-5 * np.abs(after).max()
    assert abs(facts["temperature"] - 1) > 0.01  # or nothing was tested
    validation = facts["validation"]
    assert validation["after"]["loss"] < validation["before"]["loss"]
    seen = evaluation.evaluate(done.path, "digits")
    assert seen["loss"] == pytest.approx(facts["test"]["after"]["loss"], rel=1e-5)
    assert seen["accuracy"] == digits_copy.metrics["test"]["accuracy"]


def test_a_model_alone_is_calibrated_in_memory_and_stays_as_it_was(digits_run):
    weights = digits_run.model.get_weights()
    done = evaluation.calibrate(digits_run.model, "digits", split="test")
    told = {"temperature", "examples", "held_out_gain", "held_out_gain_error", "split", "test"}
    assert done.path is None and set(done.facts) == told and done.facts["examples"] == 360
    assert all(np.array_equal(old, new) for old, new in zip(weights, digits_run.model.get_weights(), strict=True))


def test_what_cannot_be_calibrated_is_refused(digits_run, tmp_path):
    headless = keras.Model(digits_run.model.input, digits_run.model.get_layer("head_pool").output)
    with pytest.raises(ValueError, match="outputs"):
        evaluation.calibrate(headless, "digits")
    with pytest.raises(ValueError, match=r"\.keras"):
        evaluation.calibrate(digits_run, out=tmp_path / "model.h5")
    softmax_after = keras.Sequential([digits_run.model, keras.layers.Softmax()])
    with pytest.raises(ValueError, match="ends in Softmax"):
        evaluation.calibrate(softmax_after, "digits", split="test")
    np.savez(tmp_path / "r.npz", x_train=np.zeros((20, 8, 8, 1), "uint8"), y_train=np.linspace(0, 1, 20, dtype="f4"))
    head = {"classes": 1, "classifier_activation": None}
    regression = keras_resnet.ResNet18(input_shape=(8, 8, 1), stem="small", width=4, **head)
    loaded = keras_resnet.data.load(f"npz:{tmp_path / 'r.npz'}", task="regression")
    with pytest.raises(ValueError, match="has labels for a regression"):
        evaluation.calibrate(regression, loaded)


@pytest.mark.parametrize("examples", [2, 5, 20])
def test_a_handful_of_examples_hardly_moves_what_is_calibrated_already(examples):
    """Without a prior five examples gave a temperature of 0.05, and a test loss of 1.57 where 0.61 was."""
    logits, labels = drawn(1.0)
    harm = []
    for start in range(0, 200 * examples, examples):
        part = slice(start, start + examples)
        temperature = evaluation.temperature_of(logits[part], labels[part], prior_stddev=0.25)
        assert 0.4 < temperature < 2.5
        harm.append(losses_of(logits / temperature, labels).mean() - losses_of(logits, labels).mean())
    assert np.mean(harm) < 0.02 and np.max(harm) < 0.2


def test_gains_are_those_of_examples_that_the_temperature_was_not_found_on():
    sharp, labels = drawn(2.5, examples=2000)
    gains = evaluation.calibration.held_out_gains(sharp, labels)
    whole = losses_of(sharp, labels) - losses_of(sharp / 2.5, labels)
    assert gains.mean() == pytest.approx(whole.mean(), rel=0.02) and gains.mean() > 0
    # An example alone cannot help itself: two of one class each, right both times, and the third wrong.
    logits = np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0]])
    assert evaluation.calibration.held_out_gains(logits, np.array([0, 0, 1]))[:2].max() < 0


def test_a_temperature_that_does_not_help_is_not_written(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    # A head that gives the honest logits of noisy labels: there is nothing to calibrate.
    features = np.where(rng.random(40) < 0.75, labels, 1 - labels)
    images = (features[:, None, None, None] * np.ones((1, 8, 8, 1)) * 255).astype("uint8")
    np.savez(tmp_path / "d.npz", x_train=images, y_train=labels, x_val=images, y_val=labels)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    share = (features == labels).mean()
    odds = np.log(share / (1 - share))
    model.layers[-1].set_weights([np.array([[-odds, odds]], "float32"), np.array([odds / 2, -odds / 2], "float32")])
    spec = keras_resnet.data.load(f"npz:{tmp_path / 'd.npz'}")
    with pytest.raises(ValueError, match="On 40 examples of the split 'validation' no temperature helps"):
        evaluation.calibrate(model, spec, out=tmp_path / "calibrated.keras")
    assert not (tmp_path / "calibrated.keras").exists()
