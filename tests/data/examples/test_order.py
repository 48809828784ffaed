"""The order of an epoch: a permutation like any other, and another for every epoch and seed."""

import itertools
import math

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from keras_resnet.data.dataset import Dataset  # noqa: E402
from keras_resnet.data.examples.arrays import ArrayExamples  # noqa: E402
from keras_resnet.data.examples.plan import Plan, permutation  # noqa: E402

EPOCHS = 1000
# Sizes of which the former order kept 2 to 56 % of the neighbors in its twelfth epoch, and others.
SIZES = (2, 3, 10, 60, 258, 269, 700, 1293, 4000)
SIGMAS = 5.0  # of a sum over all epochs: by chance once in 1.7 million


def orders(size, epochs=EPOCHS, seed=0):
    """The orders of that many epochs, `(epochs, size)`."""
    compute = tf.function(lambda epoch: permutation(size, epoch, seed))
    return np.stack([compute(tf.constant(epoch, tf.int64)).numpy() for epoch in range(epochs)])


def check_moments(values, mean, variance):
    """Independent values with a known mean and variance, such as those of a random permutation."""
    error = abs(np.mean(values) - mean)
    assert error <= SIGMAS * math.sqrt(variance / len(values)), f"{np.mean(values)} where {mean} is expected"


def check_like_random(found):
    """Neighbors, fixed points, ranks, serial correlation and pairs in a batch, against their exact moments."""
    epochs, size = found.shape
    assert (np.sort(found, axis=1) == np.arange(size)).all()
    # Neighbors that stay neighbors: size - 1 places, each with probability 2 / size; for many about Poisson of mean 2.
    neighbors = (np.abs(np.diff(found, axis=1)) == 1).sum(axis=1)
    check_moments(neighbors, 2 * (size - 1) / size, 2.0)
    assert neighbors.max() <= 18  # of 1000 Poisson draws of mean 2, once in a hundred million
    # Fixed points have mean 1 and variance 1 for every size.
    check_moments((found == np.arange(size)).sum(axis=1), 1.0, 1.0)
    # The first, middle and last place hold a uniform rank.
    for place in {0, size // 2, size - 1}:
        check_moments(found[:, place], (size - 1) / 2, (size**2 - 1) / 12)
        halves = np.bincount(found[:, place] * 2 // size, minlength=2)
        assert abs(halves[0] - epochs * math.ceil(size / 2) / size) <= SIGMAS * math.sqrt(epochs) / 2 + 1
    # Rank correlation of an epoch with the source and with the next epoch: variance 1 / (size - 1).
    ranks = (found - (size - 1) / 2) / math.sqrt((size**2 - 1) / 12)
    straight = (np.arange(size) - (size - 1) / 2) / math.sqrt((size**2 - 1) / 12)
    check_moments((ranks * straight).mean(axis=1), 0.0, 1 / (size - 1))
    check_moments((ranks[1:] * ranks[:-1]).mean(axis=1), 0.0, 1 / (size - 1))
    # Two source neighbors share a batch as often as any two examples do.
    batch = max(1, size // 8)
    batches = size // batch
    probability = batches * batch * (batch - 1) / (size * (size - 1))
    where = np.argsort(found, axis=1)[:, :2] // batch
    together = (where[:, 0] == where[:, 1]) & (where[:, 0] < batches)
    check_moments(together, probability, max(probability * (1 - probability), 1 / epochs))


@pytest.mark.parametrize("size", SIZES)
def test_the_orders_of_a_thousand_epochs_are_those_of_random_permutations(size):
    check_like_random(orders(size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [20_000, pytest.param(100_000, marks=pytest.mark.exhaustive)])
def test_so_are_those_of_large_sets(size):
    check_like_random(orders(size))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_permutation_of_a_small_set_is_equally_likely(size):
    found = [tuple(order) for order in orders(size, 4000, seed=3)]
    expected = 4000 / math.factorial(size)
    counts = [found.count(order) for order in itertools.permutations(range(size))]
    chi_squared = sum((count - expected) ** 2 / expected for count in counts)
    degrees = len(counts) - 1
    assert chi_squared < degrees + SIGMAS * math.sqrt(2 * degrees) + 5


def test_two_epochs_or_seeds_never_share_an_order():
    # The former order repeated after 256 epochs, and 400 seeds gave 205 orders.
    epochs = orders(60, 2500)
    assert len({order.tobytes() for order in epochs}) == 2500
    seeds = [permutation(60, tf.constant(0, tf.int64), seed).numpy().tobytes() for seed in range(400)]
    assert len(set(seeds)) == 400


def test_shards_in_a_split_of_one_example_and_orders_in_graphs_are_the_same():
    assert permutation(1, tf.constant(5, tf.int64), 0).numpy().tolist() == [0]
    in_graph = next(iter(tf.data.Dataset.range(7, 8).map(lambda epoch: permutation(100, epoch, 3))))
    assert np.array_equal(in_graph, permutation(100, tf.constant(7, tf.int64), 3))


@pytest.mark.parametrize("repeats", [1, 3])
def test_steps_of_an_epoch_hold_its_order_from_any_step_on(repeats):
    plan = Plan(batch_size=6, seed=2, repeats=repeats)
    whole = [tuple(map(tuple, map(np.array, pair))) for pair in plan.indices(20).take(9)]
    for start in (1, 3, 7):
        part = Plan(batch_size=6, seed=2, repeats=repeats, start_step=start).indices(20).take(9 - start)
        assert [tuple(map(tuple, map(np.array, pair))) for pair in part] == whole[start:]
    assert [number for samples, _ in whole for number in samples] == list(range(54))
    for epoch in range(3):
        order = permutation(20, tf.constant(epoch, tf.int64), 2).numpy()
        held = [index for _, indices in whole[3 * epoch : 3 * epoch + 3] for index in indices]
        assert held == np.repeat(order, repeats)[:18].tolist()


def test_the_batches_of_small_data_are_mixed_in_every_epoch():
    """258 examples in order of their class: batches of one class were the rule in the twelfth epoch."""
    labels = np.repeat(np.arange(6), 43).astype("int32")
    examples = ArrayExamples(np.zeros((258, 1, 1, 1), "uint8"), labels)
    dataset = Dataset("blocks", {"train": examples}, class_names=tuple("abcdef"), num_outputs=6, report=[])
    for seed in range(3):
        batches = dataset.training_batches(8, seed=seed).take(32 * 20)
        same = np.array([np.mean(np.diff(labels) == 0) for _, labels in batches.as_numpy_iterator()])
        per_epoch = same.reshape(20, 32).mean(axis=1)
        # 42 / 257 of the neighbors share a class by chance; an epoch has 224 pairs.
        assert np.abs(per_epoch - 42 / 257).max() < 5 * math.sqrt(0.163 * 0.837 / 224)
