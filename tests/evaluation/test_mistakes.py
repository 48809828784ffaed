import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet import ResNet18, data, evaluation, preprocessing
from keras_resnet.tasks.outputs import softmax


def test_the_mistakes_are_the_surest_wrong_guesses(digits_run):
    images, labels = digits_run.dataset.arrays("test")
    probabilities = softmax(digits_run.model.predict(images, verbose=0).astype("float64"))
    guesses, confidences = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(guesses != labels)
    assert len(wrong) > 5
    expected = wrong[np.argsort(-confidences[wrong], kind="stable")][:5]
    found = evaluation.mistakes(digits_run, top=5)
    assert [mistake.index for mistake in found] == expected.tolist()
    for mistake in found:
        assert np.array_equal(mistake.image, images[mistake.index])
        assert mistake.label == str(labels[mistake.index]) and mistake.guess == str(guesses[mistake.index])
        assert mistake.confidence == pytest.approx(confidences[mistake.index], rel=1e-4)
        assert mistake.probability == pytest.approx(probabilities[mistake.index, labels[mistake.index]], rel=1e-3)


def test_there_may_be_fewer_mistakes_than_asked_for(digits_run):
    wrong = round((1 - digits_run.metrics["test"]["accuracy"]) * 360)
    assert len(evaluation.mistakes(digits_run, top=10_000)) == wrong


@pytest.mark.slow
def test_throughput_counts_examples_a_second(digits_run):
    found = evaluation.throughput(digits_run, batch_sizes=(1, 32))
    assert set(found) == {1, 32} and min(found.values()) > 1
    # Examples and not calls: 32 at once cost less than 32 times one.
    assert found[32] > found[1]


def test_frozen_features_of_a_trained_network_tell_classes_apart(digits_run):
    # Trained for three epochs, against features without a single step.
    trained = evaluation.probe(digits_run)
    assert trained["features"] == 32 and trained["test_examples"] == 360
    assert min(trained["knn_accuracy"], trained["linear_accuracy"]) > 0.85
    again = evaluation.probe(digits_run.model, "digits")
    assert again == trained


def test_a_probe_ignores_the_classes_of_the_head_and_refuses_what_does_not_fit(digits_run, tmp_path):
    keras.utils.set_random_seed(0)
    other = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=7)
    assert 0 < evaluation.probe(other, "digits", neighbors=1)["knn_accuracy"] < 1
    maps = ResNet18(input_shape=(8, 8, 2), stem="small", width=4, classes=7)
    with pytest.raises(ValueError, match="takes 2 channels"):
        evaluation.probe(maps, "digits")
    without = keras.Model(other.input, other.get_layer("stage5_block2").output)
    with pytest.raises(ValueError, match="head_pool"):
        evaluation.probe(without, "digits")
    with pytest.raises(ValueError, match="neighbors"):
        evaluation.probe(digits_run, neighbors=0)


@pytest.mark.parametrize("sizes", [((8, 8),), ((8, 8), (9, 12))], ids=["in memory", "encoded"])
def test_a_mistake_names_its_file(tmp_path, sizes):
    rng = np.random.default_rng(0)
    for label in ("bright", "dark"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 255, (*sizes[index % len(sizes)], 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")
    keras.utils.set_random_seed(0)
    model = ResNet18(input_shape=(8, 8, 3), stem="small", width=4, classes=2, zero_init_residual=False)
    dataset = data.load(f"folder:{tmp_path / 'photos'}")
    found = evaluation.mistakes(model, dataset, split="train", top=3)
    record = preprocessing.for_model(model)
    assert found
    for mistake in found:
        assert pathlib.Path(mistake.name).parent.name == mistake.label
        np.testing.assert_allclose(data.read_for_network(mistake.name, record), mistake.image, atol=1e-3)
