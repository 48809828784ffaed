import keras
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from keras_resnet import preprocessing
from keras_resnet.preprocessing import Augmentation, changes, policies
from keras_resnet.preprocessing.policy import CHANGES

LAYERS = {
    "rand": lambda **options: preprocessing.RandAugment(0.5, **options),
    "rand, spread": lambda **options: preprocessing.RandAugment(0.5, 3, magnitude_std=0.2, **options),
    "trivial": preprocessing.TrivialAugment,
    "auto, imagenet": lambda **options: preprocessing.AutoAugment("imagenet", **options),
    "auto, cifar": lambda **options: preprocessing.AutoAugment("cifar", **options),
    "augmix": preprocessing.AugMix,
    "jitter": preprocessing.ColorJitter,
}


@pytest.fixture(scope="module")
def pictures():
    """Smooth colours, of a range that differs from picture to picture."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (9, 4, 4, 3), "uint8")
    large = [np.asarray(Image.fromarray(one).resize((20, 16), Image.Resampling.BICUBIC)) for one in small]
    return np.stack([np.clip(one * (0.4 + 0.07 * index), 5, 250) for index, one in enumerate(large)]).astype("uint8")


def changed(name, pictures, *amounts):
    values = np.zeros((len(pictures), 5), "float32")
    values[:, : len(amounts)] = amounts
    return keras.ops.convert_to_numpy(
        getattr(changes, name)(
            keras.ops.convert_to_tensor(pictures.astype("float32")), keras.ops.convert_to_tensor(values)
        )
    )


def by_pillow(pictures, change):
    return np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures]).astype("float32")


EXACT = {
    "posterize": ((3,), lambda picture: ImageOps.posterize(picture, 3)),
    "solarize": ((100,), lambda picture: ImageOps.solarize(picture, 100)),
    "invert": ((), ImageOps.invert),
    "equalize": ((), ImageOps.equalize),
}
WITHIN_ONE = {
    "autocontrast": ((), ImageOps.autocontrast),
    "brightness": ((1.6,), lambda picture: ImageEnhance.Brightness(picture).enhance(1.6)),
    "color": ((0.3,), lambda picture: ImageEnhance.Color(picture).enhance(0.3)),
    "contrast": ((1.5,), lambda picture: ImageEnhance.Contrast(picture).enhance(1.5)),
    "sharpness": ((1.9,), lambda picture: ImageEnhance.Sharpness(picture).enhance(1.9)),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_change_of_values_is_that_of_pillow(name, pictures):
    amounts, pillow = EXACT[name]
    assert np.array_equal(changed(name, pictures, *amounts), by_pillow(pictures, pillow))


@pytest.mark.parametrize("name", WITHIN_ONE)
def test_a_change_of_light_and_edges_is_that_of_pillow_but_for_its_rounding(name, pictures):
    amounts, pillow = WITHIN_ONE[name]
    # Pillow rounds the plainer picture, and the result; twice 0.5, the first one enlarged by the factor.
    assert np.abs(changed(name, pictures, *amounts) - by_pillow(pictures, pillow)).max() <= 1.5


def test_a_picture_of_one_colour_is_left_alone_where_nothing_can_be_spread():
    flat = np.full((1, 6, 6, 3), 77, "uint8")
    for name in ("equalize", "autocontrast"):
        assert np.array_equal(changed(name, flat), flat)


def test_shifts_turns_and_shears_go_where_they_should(pictures):
    images = pictures[:1]
    right = changed("affine", images, 0, 0, 3, 0, 0)
    assert np.allclose(right[:, :, 3:], images[:, :, :-3], atol=1e-3) and np.all(right[:, :, :2] == 128)
    down = changed("affine", images, 0, 0, 0, 2, 0)
    assert np.allclose(down[:, 2:], images[:, :-2], atol=1e-3)
    square = images[:, :, 2:18]
    half = changed("affine", square, 0, 0, 0, 0, 180)
    assert np.allclose(half[:, 1:-1, 1:-1], square[:, ::-1, ::-1][:, 1:-1, 1:-1], atol=0.1)
    quarter = changed("affine", square, 0, 0, 0, 0, 90)
    turned = [np.rot90(square[0], times) for times in (1, 3)]
    assert min(np.abs(quarter[0, 1:-1, 1:-1] - one[1:-1, 1:-1]).max() for one in turned) < 0.1
    sheared = changed("affine", images, 0.3, 0, 0, 0, 0)
    # Rows move by 0.3 of their distance from the middle: the middle rows stay nearly where they are.
    assert np.abs(sheared[0, 7:9, 4:-4] - images[0, 7:9, 4:-4]).max() < np.abs(sheared[0, 0] - images[0, 0]).max()


@pytest.mark.parametrize(
    "amounts", [(0.23, 0, 0, 0, 0), (0, -0.41, 0, 0, 0), (0, 0, 2.3, -1.8, 0), (0, 0, 0, 0, 25), (0, 0, 0, 0, -70)]
)
def test_a_shift_a_turn_and_a_shear_take_the_pixels_that_pillow_takes(amounts, pictures):
    shear_x, shear_y, right, down, degrees = amounts
    height, width = pictures.shape[1:3]
    x, y = (width - 1) / 2, (height - 1) / 2
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    (a, b), (c, d) = (cosine, shear_x - sine), (shear_y + sine, cosine)
    # Pillow counts from the corner of the first pixel, not from its centre.
    rows = (a, b, x - right + 0.5 - a * (x + 0.5) - b * (y + 0.5), c, d, y - down + 0.5 - c * (x + 0.5) - d * (y + 0.5))

    def moved(picture):
        grey = (128, 128, 128)
        return picture.transform(picture.size, Image.Transform.AFFINE, rows, Image.Resampling.NEAREST, fillcolor=grey)

    same = (changed("affine", pictures, *amounts) == by_pillow(pictures, moved)).all(axis=-1)
    assert same.mean() > 0.99  # Pillow's places are fractions of 16 bits


def test_each_picture_gets_the_change_chosen_for_it(pictures):
    images = pictures.astype("float32")
    numbers = np.array(
        [CHANGES.index(change) for change in (changes.invert, changes.nothing, changes.solarize)] * 3, "int32"
    )
    amounts = np.full((9, 5), 128, "float32")
    found = keras.ops.convert_to_numpy(
        changes.by_choice(*map(keras.ops.convert_to_tensor, (images, numbers, amounts)), CHANGES)
    )
    assert np.array_equal(found[0::3], 255 - images[0::3])
    assert np.array_equal(found[1::3], images[1::3])
    assert np.array_equal(found[2::3], np.where(images[2::3] >= 128, 255 - images[2::3], images[2::3]))


@pytest.mark.parametrize("name", LAYERS)
def test_a_policy_is_a_function_of_the_seed_and_another_one_for_each_picture(name, pictures):
    same = np.repeat(pictures[:1], 24, axis=0)
    layer = Augmentation([LAYERS[name]()])
    first, again, other = (keras.ops.convert_to_numpy(layer.apply(same, seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == same.shape and first.dtype == "float32"
    assert first.min() >= 0 and first.max() <= 255.01
    assert len({one.tobytes() for one in first}) > 8
    assert np.array_equal(keras.ops.convert_to_numpy(layer(same, training=False)), same)


@pytest.mark.parametrize("name", LAYERS)
def test_a_policy_is_saved_with_its_arguments(name, tmp_path, pictures):
    layer = LAYERS[name](seed=5)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    found = [keras.ops.convert_to_numpy(one(pictures, training=True)) for one in (layer, again)]
    assert np.array_equal(*found)


def test_strength_zero_changes_little_and_grows(pictures):
    distance = []
    for magnitude in (0.0, 0.3, 1.0):
        layer = Augmentation([preprocessing.RandAugment(magnitude)])
        found = keras.ops.convert_to_numpy(layer.apply(np.repeat(pictures, 12, axis=0), [3, 4]))
        # equalize and autocontrast have no strength, so that the median tells and not the mean.
        distance.append(np.median(np.abs(found - np.repeat(pictures, 12, axis=0))))
    assert distance[0] < 0.5 and distance[0] < distance[1] < distance[2]


def test_every_operation_of_a_table_is_drawn_about_as_often(pictures):
    layer = preprocessing.RandAugment(0.5, num_ops=1)
    images = keras.ops.zeros((2800, 4, 4, 3))
    ((choices, amounts),) = layer.get_random_transformation(images, seed=keras.random.SeedGenerator(0))
    counts = np.bincount(keras.ops.convert_to_numpy(choices), minlength=len(CHANGES))
    # 14 operations of 200 each; five of them are shears, shifts and turns, and "invert" is none of them.
    assert abs(counts[CHANGES.index(changes.affine)] - 1000) < 120
    assert counts[CHANGES.index(changes.invert)] == 0
    others = [counts[CHANGES.index(change)] for change in CHANGES if change not in (changes.affine, changes.invert)]
    assert min(others) > 140 and max(others) < 260
    turned = keras.ops.convert_to_numpy(amounts)[:, 4]
    assert set(np.round(np.unique(turned[turned != 0]), 3)) == {-15.0, 15.0}


def test_the_tables_name_operations_that_exist():
    for table in (policies.USUAL, policies.WIDE, policies.MILD):
        assert all(row.change in CHANGES for row in table.values())
    for pairs in policies.SUB_POLICIES.values():
        assert len(pairs) == 25
        for name, chance, magnitude in (step for pair in pairs for step in pair):
            assert name in policies.USUAL and 0 <= chance <= 1 and 0 <= magnitude <= 9


def test_bad_arguments_and_examples_are_named():
    with pytest.raises(ValueError, match="magnitude"):
        preprocessing.RandAugment(1.5)
    with pytest.raises(ValueError, match="num_ops"):
        preprocessing.RandAugment(0.5, 0)
    with pytest.raises(ValueError, match="Did you mean 'imagenet'"):
        preprocessing.AutoAugment("imagnet")
    with pytest.raises(ValueError, match="Allowed are pictures"):
        preprocessing.TrivialAugment()(np.zeros((2, 16, 3), "float32"), training=True)
