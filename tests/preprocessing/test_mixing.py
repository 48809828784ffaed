import keras
import numpy as np
import pytest

from keras_resnet.preprocessing import Mixing

SHAPES = [(16, 2), (12, 10, 3), (6, 6, 6, 1)]


def mixed(shape, seed=(5, 0), count=64, **options):
    """Each example has its own value everywhere, so that what came from whom can be seen."""
    labels = np.arange(count) % 8
    images = np.broadcast_to(np.arange(count, dtype="float32").reshape(-1, *(1,) * len(shape)), (count, *shape))
    found = Mixing(8, **options)(images, labels, list(seed))
    return images, labels, *map(keras.ops.convert_to_numpy, found)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}], ids=str)
def test_labels_are_mixed_in_the_shares_of_the_examples(shape, options):
    images, labels, found, rows = mixed(shape, **options)
    assert found.shape == images.shape and rows.shape == (64, 8)
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)
    again = mixed(shape, **options)
    assert np.array_equal(found, again[2]) and np.array_equal(rows, again[3])
    assert not np.array_equal(found, mixed(shape, seed=(5, 1), **options)[2])
    partners = 0
    for own, label, one, row in zip(range(64), labels, found, rows, strict=True):
        values = np.unique(np.round(one, 4))
        if "cutmix" in options and "mixup" not in options:
            others = [value for value in values if value != own]
            assert len(others) <= 1
            other, share = (int(others[0]) if others else own), float((one == own).mean())
        elif "mixup" in options and "cutmix" not in options:
            assert len(values) == 1  # one value everywhere, between the two
            continue
        else:
            continue
        expected = np.zeros(8)
        expected[label] += share
        expected[other % 8] += 1 - share
        assert np.allclose(row, expected, atol=1e-5)
        partners += other != own
    assert partners > 20 or "mixup" in options


def test_mixup_shares_come_from_the_beta_distribution():
    # Two examples alone: each is mixed with itself or with the other, whose values are 0 and 1.
    shares = []
    for step in range(300):
        images = np.array([0.0, 1.0], "float32").reshape(2, 1, 1)
        found, rows = Mixing(2, mixup=0.4)(images, np.array([0, 1]), [9, step])
        found, rows = keras.ops.convert_to_numpy(found).ravel(), keras.ops.convert_to_numpy(rows)
        assert np.allclose(rows[:, 1], found, atol=1e-5)
        if found[0] > 0:
            shares.append(1 - found[0])
    # Beta(0.4, 0.4) has the mean 0.5 and the variance 1 / (4 * 1.8).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.var(shares) == pytest.approx(1 / 7.2, rel=0.3)


def test_both_are_alternated_and_some_examples_may_be_left_alone():
    kinds = set()
    for step in range(12):
        images, _, found, _ = mixed((12, 10, 3), seed=(1, step), mixup=1.0, cutmix=1.0)
        whole = all(len(np.unique(one)) == 1 for one in found)
        kinds.add("mixup" if whole and not np.array_equal(found, images) else "cutmix")
    assert kinds == {"mixup", "cutmix"}
    images, _, found, rows = mixed((16, 2), count=400, mixup=1.0, probability=0.3)
    alone = np.array([np.array_equal(one, two) for one, two in zip(images, found, strict=True)])
    assert 240 < alone.sum() < 320 and np.allclose(rows[alone].max(axis=1), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "mix nothing"),
        ({"mixup": -1.0}, "mixup"),
        ({"cutmix": 1.0, "probability": 0.0}, "probability"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Mixing(3, **options)


def test_rows_of_several_labels_are_mixed_as_they_are():
    images = np.arange(4, dtype="float32").reshape(4, 1, 1, 1) * np.ones((1, 4, 4, 1), "float32")
    rows = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], "float32")
    new, labels = Mixing(3, mixup=1.0)(images, rows, [1, 2])
    values, labels = np.asarray(new)[:, 0, 0, 0], np.asarray(labels)
    for index in range(4):  # the share that the picture has of its partner, its labels have too
        fits = [
            np.allclose(labels[index], share * rows[index] + (1 - share) * rows[other], atol=1e-5)
            for other in range(4)
            for share in [1.0 if other == index else (values[index] - other) / (index - other)]
            if -1e-6 <= share <= 1 + 1e-6
        ]
        assert any(fits)
