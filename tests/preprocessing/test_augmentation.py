"""Augmentation: per image, within range, a pure function of images and seed, on every backend and inside tf.data."""

import keras
import numpy as np
import pytest

from keras_resnet.preprocessing import Augmentation, Erasing, PadAndCrop, augmentation
from tests import harness

STEPS = {
    "flip": {"flip": True},
    "pad_and_crop": {"pad_and_crop": 3},
    "rotation": {"rotation": 30.0},
    "zoom": {"zoom": 0.3},
    "translation": {"translation": 0.2},
}
ALL = {name: value for step in STEPS.values() for name, value in step.items()}


def images(count=32, height=12, width=10, channels=3, same=True):
    """Pictures without symmetry; all the same one, so that a difference in the output is one of augmentation."""
    draw = np.random.default_rng(0).integers(0, 256, (1 if same else count, height, width, channels))
    return np.broadcast_to(draw, (count, height, width, channels)).astype("uint8")


@pytest.mark.parametrize("step", STEPS)
def test_every_image_is_changed_in_its_own_way(step):
    outputs = harness.to_numpy(augmentation(**STEPS[step]).apply(images(), [1, 2]))
    kinds = len({image.tobytes() for image in outputs})
    # A flip has two outcomes; windows of 7 x 7 places repeat now and then in 32 draws; the others never.
    assert kinds == 2 if step == "flip" else kinds > 15


@pytest.mark.parametrize("step", [*STEPS, "all"])
def test_the_outcome_is_a_function_of_images_and_seed(step):
    layer = augmentation(**(ALL if step == "all" else STEPS[step]))
    first = harness.to_numpy(layer.apply(images(), [3, 4]))
    layer(images(), training=True)  # the layer's own generator plays no part
    np.testing.assert_array_equal(harness.to_numpy(layer.apply(images(), [3, 4])), first)
    np.testing.assert_array_equal(harness.to_numpy(layer.apply(images(), np.array([3, 4], "int32"))), first)
    for other in ([3, 5], [4, 4], [4, 3]):
        assert (harness.to_numpy(layer.apply(images(), other)) != first).any()


def test_neighboring_seeds_and_steps_draw_nothing_alike():
    layer = PadAndCrop(100)
    from keras_resnet.preprocessing.augmentation import Draws

    batch = np.zeros((64, 1, 1, 1), "float32")
    origins = [
        harness.to_numpy(layer.get_random_transformation(batch, seed=Draws(pair))).ravel()
        for pair in ([1, 0], [1, 1], [2, 0], [0, 1], [0, 2])
    ]
    for index, first in enumerate(origins):
        for second in origins[:index]:
            # 128 draws among 201 values agree in one place by chance, in nine or more once in a million.
            assert (first == second).sum() < 9


def test_the_steps_of_one_augmentation_draw_independently():
    layer = Augmentation([keras.layers.RandomFlip("horizontal"), keras.layers.RandomFlip("vertical")])
    outputs = harness.to_numpy(layer.apply(images(count=64), [0, 0]))
    assert len({image.tobytes() for image in outputs}) == 4


@pytest.mark.parametrize("step", [*STEPS, "all"])
def test_values_stay_in_the_inputs_range_and_are_float32(step):
    layer = augmentation(**(ALL if step == "all" else STEPS[step]))
    outputs = layer.apply(images(), [0, 1])
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    assert tuple(outputs.shape) == images().shape
    # Interpolation mixes values, with a rounding error of float32.
    assert harness.to_numpy(outputs).min() >= -1e-3 and harness.to_numpy(outputs).max() <= 255.001


def test_float32_under_a_16_bit_policy_too():
    keras.config.set_dtype_policy("mixed_bfloat16")
    outputs = augmentation(**ALL).apply(images(), [0, 1])
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"


def test_padding_and_cropping_is_numpys():
    layer = PadAndCrop(3, fill_value=7.0)
    batch = images(count=40, same=False)
    origins = layer.get_random_transformation(batch, training=True)
    outputs = harness.to_numpy(layer.transform_images(batch, origins))
    padded = np.pad(batch.astype("float32"), [(0, 0), (3, 3), (3, 3), (0, 0)], constant_values=7)
    places = harness.to_numpy(origins).astype(int)
    for image, output, (row, column) in zip(padded, outputs, places, strict=True):
        np.testing.assert_array_equal(output, image[row : row + 12, column : column + 10])
    assert places.min() >= 0 and places.max() <= 6


def test_every_window_is_about_equally_likely():
    layer = PadAndCrop(1, seed=0)
    origins = harness.to_numpy(layer.get_random_transformation(np.zeros((1800, 4, 4, 1))))
    counts = np.bincount((origins[:, 0] * 3 + origins[:, 1]).astype(int), minlength=9)
    # 200 expected of each of 9; five standard deviations of the binomial are 67.
    assert np.abs(counts - 200).max() < 67


def test_padding_and_cropping_works_on_channels_first():
    batch = images(count=8, same=False)
    last, first = PadAndCrop(2, data_format="channels_last"), PadAndCrop(2, data_format="channels_first")
    origins = last.get_random_transformation(batch)
    outputs = harness.to_numpy(first.transform_images(np.moveaxis(batch, -1, 1), origins))
    np.testing.assert_array_equal(np.moveaxis(outputs, 1, -1), harness.to_numpy(last.transform_images(batch, origins)))


def test_rotation_turns_to_both_sides_by_at_most_its_degrees():
    layer = augmentation(rotation=30.0).layers[0]
    angles = harness.to_numpy(layer.get_random_transformation(images(count=200))["angle"])
    assert 25 < angles.max() <= 30 and -30 <= angles.min() < -25


@pytest.mark.parametrize("make", [lambda: augmentation(**ALL), lambda: PadAndCrop(2, seed=3)])
def test_without_training_the_images_are_themselves(make):
    for outputs in (make()(images()), make()(images(), training=False)):
        np.testing.assert_array_equal(harness.to_numpy(outputs), images())


@pytest.mark.parametrize("make", [lambda: Augmentation([PadAndCrop(2)], seed=3), lambda: PadAndCrop(2, seed=3)])
def test_the_layer_draws_anew_at_each_call_and_repeats_with_its_seed(make):
    layer = make()
    first, second = (harness.to_numpy(layer(images(), training=True)) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(harness.to_numpy(make()(images(), training=True)), first)


def test_augmentation_survives_its_config():
    layer = augmentation(**ALL)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    assert harness.arguments_of(Augmentation) <= set(layer.get_config())
    np.testing.assert_array_equal(
        harness.to_numpy(copy.apply(images(), [1, 2])), harness.to_numpy(layer.apply(images(), [1, 2]))
    )
    pad = PadAndCrop(3, fill_value=1.0, seed=5, data_format="channels_first", dtype="float32")
    assert harness.arguments_of(PadAndCrop) <= set(pad.get_config())
    assert PadAndCrop.from_config(pad.get_config()).get_config() == pad.get_config()


def test_a_model_with_augmentation_saves_and_leaks_no_training_mode(tmp_path):
    model = keras.Sequential([keras.Input((12, 10, 3)), augmentation(**ALL), keras.layers.BatchNormalization()])
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    batch = images().astype("float32")
    np.testing.assert_array_equal(harness.to_numpy(copy(batch)), harness.to_numpy(copy(batch, training=False)))


def test_nothing_asked_for_is_nothing():
    assert augmentation() is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: augmentation(flip=1), TypeError, "flip must be True or False"),
        (lambda: augmentation(pad_and_crop=-1), ValueError, "pad_and_crop must be an int >= 0"),
        (lambda: augmentation(pad_and_crop=1.5), TypeError, "pad_and_crop must be an int"),
        (lambda: augmentation(rotation=181), ValueError, r"rotation must be a number in \[0, 180\]"),
        (lambda: augmentation(zoom=1.0), ValueError, "zoom must be"),
        (lambda: augmentation(translation=float("nan")), ValueError, "translation must be"),
        (lambda: PadAndCrop(0), ValueError, "pixels must be an int >= 1"),
        (lambda: PadAndCrop(2, seed=-1), ValueError, "seed must be an int >= 0"),
        (lambda: Augmentation([]), ValueError, "layers is empty"),
        (lambda: Augmentation([keras.layers.Dense(2)]), TypeError, "has no get_random_transformation"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_parallel_tf_data_map_gives_what_eager_calls_give():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("inside a tf.data pipeline augmentation needs the TensorFlow backend")
    layer = augmentation(**ALL)
    batch = tf.constant(images())
    steps = tf.data.Dataset.range(12)
    found = steps.map(lambda step: layer.apply(batch, tf.stack([7, tf.cast(step, tf.int32)])), num_parallel_calls=8)
    for step, outputs in enumerate(found.as_numpy_iterator()):
        # A graph may fuse a product and a sum that run one by one eagerly.
        np.testing.assert_allclose(outputs, harness.to_numpy(layer.apply(batch, [7, step])), atol=1e-2)
    for first, second in zip(found.as_numpy_iterator(), found.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(first, second)


def zhongs_rectangle(height, width, rng):
    """Algorithm 1 of Zhong et al. 2020 with torchvision's ranges, by hand."""
    for _ in range(10):
        area, ratio = height * width * rng.uniform(0.02, 0.33), np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        rows, columns = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if rows < height and columns < width:
            return rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1), rows, columns
    return 0, 0, 0, 0


def test_erasing_covers_rectangles_of_the_paper_with_uniform_noise():
    count, height, width = 4000, 24, 40
    rng = np.random.default_rng(0)
    layer = Erasing(0.5)
    images = np.full((count, height, width, 3), -1, "float32")
    found = keras.ops.convert_to_numpy(layer.transform_images(images, layer.get_random_transformation(images, seed=3)))
    covered = (found != -1).all(axis=-1)
    erased = covered.any(axis=(1, 2))
    assert abs(erased.mean() - 0.5) < 5 * 0.5 / np.sqrt(count)
    expected = np.array([zhongs_rectangle(height, width, rng) for _ in range(count)])
    rows, columns = covered[erased].any(axis=2), covered[erased].any(axis=1)
    boxes = np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], axis=1)
    assert (covered[erased].sum(axis=(1, 2)) == boxes[:, 2] * boxes[:, 3]).all()  # rectangles
    for ours, theirs in zip(boxes.T, expected.T, strict=True):
        spread = np.hypot(ours.std() / np.sqrt(len(ours)), theirs.std() / np.sqrt(count))
        assert abs(ours.mean() - theirs.mean()) < 5 * spread
    noise = found[covered]
    counts = np.histogram(noise, 8, (0, 255))[0] / noise.size
    assert np.abs(counts - 1 / 8).max() < 0.002
    with pytest.raises(ValueError, match="Allowed are pictures"):
        layer(np.zeros((2, 8, 1), "float32"), training=True)
