"""Batches: infinite and resumable for training, finite and complete for evaluation, of known cardinality."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from keras_resnet import data, preprocessing  # noqa: E402
from keras_resnet.data.dataset import Dataset  # noqa: E402
from keras_resnet.data.examples.arrays import ArrayExamples  # noqa: E402


def numbered(count: int = 50, size: int = 8) -> Dataset:
    """Images whose every pixel is the number of the example."""
    images = np.broadcast_to(np.arange(count, dtype="uint8")[:, None, None, None], (count, size, size, 3))
    examples = ArrayExamples(np.ascontiguousarray(images), np.arange(count, dtype="int32") % 5)
    names = tuple("abcde")
    return Dataset("numbers", {"train": examples, "test": examples}, class_names=names, num_outputs=5, report=[])


def numbers(batches) -> list[list[int]]:
    return [images[:, 0, 0, 0].astype(int).tolist() for images, _ in batches.as_numpy_iterator()]


def flat(batches) -> list[np.ndarray]:
    return [array for batch in batches.as_numpy_iterator() for array in batch]


def test_each_epoch_and_each_seed_has_an_order_of_its_own():
    dataset = numbered()
    epochs = np.array(numbers(dataset.training_batches(10, seed=1).take(15))).reshape(3, 50)
    other = np.array(numbers(dataset.training_batches(10, seed=2).take(5))).reshape(50)
    for epoch in epochs:
        assert sorted(epoch) == list(range(50))
    orders = {tuple(epoch) for epoch in (*epochs, other, np.arange(50))}
    assert len(orders) == 5


def test_an_epoch_has_only_full_batches_and_leaves_out_the_rest():
    dataset = numbered()
    assert dataset.steps_per_epoch(16) == 3
    epoch = numbers(dataset.training_batches(16, seed=0).take(3))
    assert [len(batch) for batch in epoch] == [16, 16, 16]
    assert len({number for batch in epoch for number in batch}) == 48


AUGMENTATION = {"flip": True, "pad_and_crop": 2, "rotation": 20.0, "zoom": 0.2, "translation": 0.1}


@pytest.mark.parametrize("change", ["augmentation", "crop"])
def test_the_same_image_is_changed_anew_at_every_step(change):
    image = (np.arange(32 * 32) % 251).astype("uint8").reshape(32, 32, 1)
    examples = ArrayExamples(np.stack([image] * 4), np.zeros(4, "int32"))
    dataset = Dataset("copies", {"train": examples}, class_names=("a", "b"), num_outputs=2, report=[])
    turned, cropped = {"augmentation": preprocessing.augmentation(rotation=90.0)}, {"crop": "random", "image_size": 9}
    batches = dataset.training_batches(4, seed=0, **(turned if change == "augmentation" else cropped))
    images = [image.tobytes() for batch, _ in batches.take(5).as_numpy_iterator() for image in batch]
    assert len(set(images)) == 20


@pytest.mark.parametrize("crop", ["none", "random"])
def test_training_goes_on_bit_identically_from_any_step(crop):
    dataset = data.load("digits")
    options = {"seed": 5, "augmentation": preprocessing.augmentation(**AUGMENTATION), "image_size": 12, "crop": crop}
    steps = 2 * dataset.steps_per_epoch(128) + 3
    whole = flat(dataset.training_batches(128, **options).take(steps))
    for start in (1, dataset.steps_per_epoch(128), steps - 2):
        part = flat(dataset.training_batches(128, start_step=start, **options).take(steps - start))
        assert len(part) == 2 * (steps - start)
        for expected, found in zip(whole[2 * start :], part, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_batches_do_not_depend_on_parallelism_or_global_seeds():
    dataset = data.load("digits")
    augmentation = preprocessing.augmentation(**AUGMENTATION)

    def batches(threads, global_seed):
        tf.random.set_seed(global_seed)
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        return flat(dataset.training_batches(32, seed=5, augmentation=augmentation).with_options(options).take(30))

    for first, second in zip(batches(1, 1), batches(8, 2), strict=True):
        np.testing.assert_array_equal(first, second)


def test_training_batches_are_infinite_and_evaluation_batches_are_counted():
    dataset = numbered()
    assert dataset.training_batches(7, seed=0).cardinality() == tf.data.INFINITE_CARDINALITY
    assert dataset.training_batches(7, seed=0, augmentation=preprocessing.augmentation(flip=True)).cardinality() == -1
    for batch_size, expected in ((7, 8), (10, 5), (50, 1), (64, 1)):
        batches = dataset.batches("test", batch_size)
        assert batches.cardinality() == expected
        assert [number for batch in numbers(batches) for number in batch] == list(range(50))


def test_keras_takes_exactly_the_steps_it_is_asked_for():
    keras = pytest.importorskip("keras")
    dataset = data.load("digits")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for epochs in (1, 2):
        model.fit(
            dataset.training_batches(64, seed=0), steps_per_epoch=5, epochs=1, verbose=0, shuffle=False,
            validation_data=dataset.batches("validation", 64),
        )  # fmt: skip
        assert int(model.optimizer.iterations) == 5 * epochs


def test_digits_are_what_they_are_said_to_be():
    dataset = data.load("digits")
    assert dataset.sizes == {"train": 1293, "validation": 144, "test": 360}
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.class_names == tuple("0123456789")
    images, labels = dataset.arrays("test")
    assert images.dtype == np.uint8 and images.max() == 255 and images.min() == 0
    # 360 of 1797 of each class, the five largest remainders rounded up.
    assert np.bincount(labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    from sklearn.datasets import load_digits

    ours = np.concatenate([dataset.arrays(split)[0] for split in dataset.sizes])
    theirs = np.round(load_digits().images[..., None] * 255 / 16).astype("uint8")
    assert sorted(image.tobytes() for image in ours) == sorted(image.tobytes() for image in theirs)


def test_the_split_follows_its_seed():
    first, again, other = (data.load("digits", split_seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_limit_gives_the_first_examples():
    images, labels = numbered().arrays("train", limit=3)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2] and labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.training_batches(51, seed=0), "batch_size=51 is more than the 50 training examples"),
        (lambda d: d.training_batches(0, seed=0), "batch_size must be an int >= 1, got 0"),
        (lambda d: d.training_batches(8, seed=-1), "seed must be an int from 0"),
        (lambda d: d.training_batches(8, seed=0, start_step=-1), "start_step must be an int >= 0"),
        (lambda d: d.training_batches(8, seed=0, crop="randon", image_size=4), "crop='randon'.*'random'"),
        (lambda d: d.training_batches(8, seed=0, crop="random"), "crop='random' was given without image_size"),
        (lambda d: d.training_batches(8, seed=0, image_size=0), "image_size must be an int >= 1"),
        (lambda d: d.training_batches(8, seed=0, image_size=(1, 2, 3)), "image_size=.* has 3 values"),
        (lambda d: d.batches("tset", 8), "split='tset' is not known. Did you mean 'test'"),
        (lambda d: d.batches("test", 8, image_size=4, crop="random"), "crop='random' was given for evaluation"),
        (lambda d: d.arrays("train", limit=0), "limit must be an int >= 1"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(numbered())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"spec": "digit"}, ValueError, "data source='digit' is not known. Did you mean 'digits'"),
        ({"spec": "digits:8"}, ValueError, "something after 'digits'"),
        ({"spec": "folder:"}, ValueError, "lacks what follows the colon"),
        ({"spec": "npz"}, ValueError, "lacks what follows the colon"),
        ({"spec": None}, TypeError, "spec must be a string"),
        ({"task": "regresion"}, ValueError, "task='regresion'.*'regression'"),
        ({"task": "regression"}, ValueError, "task='regression' was given with spec='digits'"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction"),
        ({"validation_fraction": 0.0001}, ValueError, "validation_fraction=0.0001 takes 0 of 1437"),
        ({"split_seed": "a"}, TypeError, "split_seed"),
        ({"on_bad_image": "ignore"}, ValueError, "on_bad_image='ignore'"),
        ({"max_pixels": 0}, ValueError, "max_pixels"),
        ({"data_dir": 3}, TypeError, "data_dir must be a path"),
        ({"apply_exif": 1}, TypeError, "apply_exif must be True or False"),
    ],
)
def test_bad_options_of_load_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        data.load(**arguments)


def test_augmentation_of_signals_is_refused():
    examples = ArrayExamples(np.zeros((8, 5, 2), "float32"), np.zeros(8, "int32"))
    dataset = Dataset("signals", {"train": examples}, class_names=("a", "b"), num_outputs=2, report=[])
    with pytest.raises(ValueError, match=r"augmentation was given for examples of shape \(5, 2\)"):
        dataset.training_batches(4, seed=0, augmentation=preprocessing.augmentation(pad_and_crop=1))
    with pytest.raises(ValueError, match=r"image_size=3 was given for examples of shape \(5, 2\)"):
        dataset.training_batches(4, seed=0, image_size=3)
