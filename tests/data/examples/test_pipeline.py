"""Operations on whole batches, and batches cut into shards."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the data room needs TensorFlow", allow_module_level=True)

import tensorflow as tf  # noqa: E402

from keras_resnet import data, preprocessing  # noqa: E402
from tests.data import image_files  # noqa: E402


def flat(batches):
    return [np.concatenate([np.ravel(part).astype("float64") for part in batch]) for batch in batches]


def mixup(images, labels, seed):
    """Zhang et al. 2018, with one weight per batch."""
    weight = tf.random.stateless_uniform((), seed)
    one_hot = tf.one_hot(labels, 10)
    mixed = weight * tf.cast(images, tf.float32) + (1 - weight) * tf.cast(tf.reverse(images, [0]), tf.float32)
    return mixed, weight * one_hot + (1 - weight) * tf.reverse(one_hot, [0])


def test_an_operation_changes_images_and_labels_together():
    digits = data.load("digits")
    plain = list(digits.training_batches(8, seed=3).take(4).as_numpy_iterator())
    mixed = list(digits.training_batches(8, seed=3, operations=[mixup]).take(4).as_numpy_iterator())
    weights = set()
    for (images, labels), (mixed_images, mixed_labels) in zip(plain, mixed, strict=True):
        assert mixed_labels.shape == (8, 10) and np.allclose(mixed_labels.sum(axis=1), 1)
        differing = int(np.flatnonzero(labels != labels[::-1])[0])
        weight = mixed_labels[differing, labels[differing]]
        np.testing.assert_allclose(mixed_images, weight * images + (1 - weight) * images[::-1], atol=1e-3)
        weights.add(float(weight))
    assert len(weights) == 4  # every step draws anew


def test_operations_go_on_from_any_step_and_draw_apart():
    digits = data.load("digits")
    seeds = []

    def noting(images, labels, seed):
        return images, tf.concat([tf.cast(labels[:6], tf.int32), seed], axis=0)

    whole = flat(digits.training_batches(8, seed=3, operations=[mixup]).take(5).as_numpy_iterator())
    rest = flat(digits.training_batches(8, seed=3, start_step=2, operations=[mixup]).take(3).as_numpy_iterator())
    assert all(np.array_equal(a, b) for a, b in zip(whole[2:], rest, strict=True))
    for _, noted in digits.training_batches(8, seed=3, operations=[noting, noting]).take(2).as_numpy_iterator():
        seeds.append(tuple(noted[-2:]))
    assert len(set(seeds)) == 2


@pytest.fixture(params=["arrays", "encoded", "encoded, cropped"])
def dataset_and_options(request, tmp_path):
    if request.param == "arrays":
        return data.load("digits"), {"crop": "random", "image_size": 6}
    image_files.class_folders(tmp_path, per_class=9)
    dataset = data.load(f"folder:{tmp_path}", in_memory_limit=0)
    return dataset, {"image_size": 12, "crop": "random" if "cropped" in request.param else "none"}


@pytest.mark.parametrize("augmented", [False, True])
def test_the_shards_of_a_batch_are_the_batch_of_one_process(dataset_and_options, augmented):
    dataset, options = dataset_and_options
    options = {**options, "seed": 4, "start_step": 1}
    if augmented:
        options["augmentation"] = preprocessing.augmentation(flip=True, rotation=20.0)
    whole = list(dataset.training_batches(6, **options).take(5).as_numpy_iterator())
    parts = [dataset.training_batches(6, shard=(k, 3), **options).take(5).as_numpy_iterator() for k in range(3)]
    for (images, labels), *shards in zip(whole, *parts, strict=True):
        assert [len(part) for _, part in shards] == [2, 2, 2]
        np.testing.assert_array_equal(np.concatenate([part for part, _ in shards]), images)
        np.testing.assert_array_equal(np.concatenate([part for _, part in shards]), labels)


@pytest.mark.parametrize(
    ("shard", "message"),
    [((0, 5), "batch_size=6 is not a multiple of num_shards=5"), ((2, 2), "shard must be an int from 0 to 1")],
)
def test_shards_that_do_not_fit_are_refused(shard, message):
    with pytest.raises(ValueError, match=message):
        data.load("digits").training_batches(6, seed=0, shard=shard)


def unbalanced(tmp_path, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 8, 8, 1), "uint8")
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return data.load(f"npz:{tmp_path / 'set.npz'}", validation_fraction=0)


def test_a_class_many_times_as_common_as_another_is_reported(tmp_path):
    (line,) = [line for line in unbalanced(tmp_path, (200, 50, 10)).report if "unbalanced" in line]
    assert "200 examples of '0' and 10 of '2', 20 times as many" in line
    assert not [line for line in unbalanced(tmp_path, (40, 50, 30)).report if "unbalanced" in line]


def test_class_weights_make_every_class_count_alike(tmp_path):
    weights = unbalanced(tmp_path, (20, 5, 10)).class_weights()
    assert weights == pytest.approx({0: 35 / 60, 1: 35 / 15, 2: 35 / 30})


def test_half_balanced_weights_go_by_square_roots_and_have_the_mean_one(tmp_path):
    weights = unbalanced(tmp_path, (36, 4, 16)).class_weights(0.5)
    assert weights[1] / weights[0] == pytest.approx(3) and weights[2] / weights[0] == pytest.approx(1.5)
    assert (36 * weights[0] + 4 * weights[1] + 16 * weights[2]) / 56 == pytest.approx(1)


def test_label_weights_make_yes_and_no_count_alike(tmp_path):
    labels = np.zeros((20, 3), "int64")
    labels[:4, 0], labels[:, 1] = 1, 1
    np.savez(tmp_path / "set.npz", x=np.zeros((20, 8, 8, 1), "uint8"), y=labels)
    dataset = data.load(f"npz:{tmp_path / 'set.npz'}", task="multilabel", validation_fraction=0, test_fraction=0)
    with_class, without = dataset.label_weights()
    assert with_class == pytest.approx((20 / 8, 1, 1)) and without == pytest.approx((20 / 32, 1, 1))
    with_class, without = dataset.label_weights(0.5)
    assert with_class[0] / without[0] == pytest.approx(2)  # the square root of 16 to 4
    assert 4 * with_class[0] + 16 * without[0] == pytest.approx(20)
    with pytest.raises(ValueError, match="multi-label targets"):
        dataset.class_weights()


@pytest.mark.parametrize(("power", "shares"), [(1.0, (1 / 3, 1 / 3, 1 / 3)), (0.5, (6 / 12, 2 / 12, 4 / 12))])
def test_balanced_sampling_draws_classes_by_a_power_of_their_counts(tmp_path, power, shares):
    dataset = unbalanced(tmp_path, (36, 4, 16))
    batches = dataset.training_batches(28, seed=3, balance=power).take(200)
    labels = np.concatenate([batch[1].numpy() for batch in batches])
    found = np.bincount(labels, minlength=3) / len(labels)
    np.testing.assert_allclose(found, shares, atol=4 * np.sqrt(0.25 / len(labels)))


def test_balanced_sampling_goes_on_at_any_step_with_the_same_batches(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], (36, 4, 16))
    images = rng.integers(0, 255, (56, 4, 4, 1)).astype("uint8")
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    dataset = data.load(f"npz:{tmp_path / 'set.npz'}", validation_fraction=0)
    whole = list(dataset.training_batches(8, seed=1, balance=1.0).take(20))
    for start in (3, 7, 9, 16):
        (images, labels), *_ = dataset.training_batches(8, seed=1, balance=1.0, start_step=start).take(1)
        np.testing.assert_array_equal(images, whole[start][0])
        np.testing.assert_array_equal(labels, whole[start][1])
    halves = [list(dataset.training_batches(8, seed=1, balance=1.0, shard=(part, 2)).take(5)) for part in range(2)]
    for step in range(5):
        together = np.concatenate([halves[part][step][0] for part in range(2)])
        np.testing.assert_array_equal(together, whole[step][0])
    assert not np.array_equal(whole[0][1], whole[7][1])  # each epoch draws anew


def test_class_weights_need_classes(tmp_path):
    images = np.zeros((8, 8, 8, 1), "uint8")
    np.savez(tmp_path / "set.npz", x=images, y=np.arange(8.0))
    with pytest.raises(ValueError, match="has regression targets"):
        data.load(f"npz:{tmp_path / 'set.npz'}", task="regression", validation_fraction=0.2).class_weights()
