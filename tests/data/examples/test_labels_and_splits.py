"""Labels are checked before the first step; splits are disjoint, stratified, seeded and never empty."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402
from keras_resnet.data.examples.splits import split_off  # noqa: E402

BAD_LABELS = {
    "too large": ([0, 1, 7, 2], 3, ValueError, r"labels\[2\]=7. Allowed is an integer from 0 to 2"),
    "negative": ([0, -1, 1], 3, ValueError, r"labels\[1\]=-1. Allowed is an integer from 0 to 2"),
    "negative, classes unknown": ([0, -1, 1], None, ValueError, r"labels\[1\]=-1. Allowed is an integer from 0"),
    "beyond int32, classes unknown": ([0, 1, 2**62], None, ValueError, rf"labels\[2\]={2**62}. Allowed is an integer"),
    "the largest of all, classes unknown": (
        np.array([0, 1, 2**64 - 1], "uint64"),
        None,
        ValueError,
        r"labels\[2\]=18446744073709551615. Allowed is an integer from 0 to 2147483646",
    ),
    "several": ([9, 0, 9], 3, ValueError, r"labels\[0\]=9 \(2 such samples\)"),
    "nan": ([0.0, float("nan"), 1.0], 3, ValueError, r"labels\[1\]=nan. Allowed is an integer from 0 to 2"),
    "infinite": ([0.0, float("inf")], 3, ValueError, r"labels\[1\]=inf"),
    "fraction": ([0.0, 1.0, 1.5], 3, ValueError, r"labels\[2\]=1.5. Allowed is an integer from 0 to 2"),
    "whole floats": ([0.0, 1.0], 3, TypeError, r"labels\[0\]=0.0 has dtype float64.*astype\('int64'\)"),
    "strings": (["cat", "dog"], 2, TypeError, r"labels\[0\]='cat' has dtype"),
    "objects": (np.array([0, None], object), 2, TypeError, r"labels\[0\]=0 has dtype object"),
    "bools": ([True, False], 2, TypeError, r"labels\[0\]=True has dtype bool"),
    "beyond int32": ([0, 2**40], 3, ValueError, rf"labels\[1\]={2**40}"),
    "unsigned wrap": (np.array([0, 2**64 - 1], "uint64"), 3, ValueError, r"labels\[1\]=18446744073709551615"),
    "one-hot too wide": (np.eye(4), 3, ValueError, r"labels\[0\]=.* is a row of 4 values, and there are 3 classes"),
    "not one-hot": ([[0, 1, 0], [1, 1, 0]], 3, ValueError, r"labels\[1\]=\[1, 1, 0\]. Allowed is one 1 among 2 zeros"),
    "soft labels": ([[0.2, 0.8]], 2, ValueError, r"labels\[0\]=\[0.2, 0.8\]"),
    "empty row": ([[1, 0], [0, 0]], 2, ValueError, r"labels\[1\]=\[0, 0\]"),
    "nan row": ([[1, 0], [float("nan"), 1]], 2, ValueError, r"labels\[1\]=\[nan, 1.0\]"),
    "three axes": (np.zeros((2, 2, 2)), 2, ValueError, r"shape \(2, 2, 2\)"),
    "a number": (3, 2, ValueError, r"shape \(\)"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_a_bad_label_is_named_by_its_index(case):
    labels, num_classes, error, message = BAD_LABELS[case]
    with pytest.raises(error, match=message):
        data.check_labels(labels, num_classes)


@pytest.mark.parametrize(
    "labels",
    [[0, 2, 1], np.array([0, 2, 1], "uint8"), [[0], [2], [1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], np.eye(3)[[0, 2, 1]]],
)
def test_good_labels_become_int32(labels):
    checked = data.check_labels(labels, 3)
    assert checked.dtype == np.int32 and checked.tolist() == [0, 2, 1]


def test_good_targets_become_float32():
    assert data.check_targets([[1], [2]]).tolist() == [1.0, 2.0]
    assert data.check_targets(np.ones((2, 3))).shape == (2, 3)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ([1.0, float("nan")], ValueError, r"targets\[1\]=nan. Allowed is a finite float32"),
        ([[1.0, 2.0], [float("inf"), 0.0]], ValueError, r"targets\[1\]=\[inf, 0.0\]"),
        ([1e39], ValueError, r"targets\[0\]=inf"),
        (["a"], TypeError, "dtype <U1"),
        (np.zeros((2, 2, 2)), ValueError, r"shape \(2, 2, 2\)"),
    ],
)
def test_bad_targets_are_refused(targets, error, message):
    with pytest.raises(error, match=message):
        data.check_targets(targets)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stratified", [True, False])
def test_a_split_is_disjoint_complete_and_of_the_size_asked_for(seed, stratified):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 7, draw.integers(20, 90))
    for count in (1, len(labels) // 3, len(labels) - 1):
        staying, leaving = split_off(labels, count, seed=seed, stratified=stratified)
        assert len(leaving) == count
        assert sorted([*staying, *leaving]) == list(range(len(labels)))


def test_a_stratified_split_takes_every_classs_share():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    staying, leaving = split_off(labels, 16, seed=0, stratified=True)
    assert np.bincount(labels[leaving]).tolist() == [10, 5, 1]
    assert np.bincount(labels[staying]).tolist() == [90, 45, 9]


def test_a_class_of_one_stays_in_training():
    labels = np.array([0] * 10 + [1])
    for count in range(1, 10):
        staying, _ = split_off(labels, count, seed=0, stratified=True)
        assert 1 in labels[staying]


def test_the_split_is_a_function_of_its_seed():
    labels = np.arange(100) % 3
    first, again, other = (split_off(labels, 20, seed=seed, stratified=True)[1] for seed in (4, 4, 5))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("count", [0, 5])
def test_an_empty_side_is_refused(count):
    with pytest.raises(ValueError, match=f"takes {count} of 5 examples, which leaves {5 - count}"):
        split_off(np.zeros(5), count, seed=0, stratified=True)
