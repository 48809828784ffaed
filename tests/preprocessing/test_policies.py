import keras
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from keras_resnet import preprocessing
from keras_resnet.preprocessing import Augmentation, image_ops, policies
from keras_resnet.preprocessing.policies import IMAGE_OPS

LAYERS = {
    "rand": lambda **options: preprocessing.RandAugment(0.5, **options),
    "rand, spread": lambda **options: preprocessing.RandAugment(0.5, 3, magnitude_std=0.2, **options),
    "rand, timm": lambda **options: preprocessing.RandAugment(0.7, 2, 0.05, space="timm", **options),
    "rand, tpu": lambda **options: preprocessing.RandAugment(1.0, 2, space="tpu", **options),
    "trivial": preprocessing.TrivialAugment,
    "auto, imagenet": lambda **options: preprocessing.AutoAugment("imagenet", **options),
    "auto, cifar": lambda **options: preprocessing.AutoAugment("cifar", **options),
    "augmix": preprocessing.AugMix,
    "jitter": preprocessing.ColorJitter,
}


@pytest.fixture(scope="module")
def pictures():
    """Smooth colors, of a range that differs from picture to picture."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (9, 4, 4, 3), "uint8")
    large = [np.asarray(Image.fromarray(one).resize((20, 16), Image.Resampling.BICUBIC)) for one in small]
    return np.stack([np.clip(one * (0.4 + 0.07 * index), 5, 250) for index, one in enumerate(large)]).astype("uint8")


def changed(name, pictures, *amounts):
    values = np.zeros((len(pictures), 5), "float32")
    values[:, : len(amounts)] = amounts
    return keras.ops.convert_to_numpy(
        getattr(image_ops, name)(
            keras.ops.convert_to_tensor(pictures.astype("float32")), keras.ops.convert_to_tensor(values)
        )
    )


def by_pillow(pictures, change):
    return np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures]).astype("float32")


EXACT = {
    "posterize": ((3,), lambda picture: ImageOps.posterize(picture, 3)),
    "solarize": ((100,), lambda picture: ImageOps.solarize(picture, 100)),
    "invert": ((), ImageOps.invert),
    "solarize_add": (
        (77,),
        lambda picture: picture.point([min(255, i + 77) if i < 128 else i for i in range(256)] * 3),
    ),
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


def test_a_picture_of_one_color_is_left_alone_where_nothing_can_be_spread():
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
    # Rows move by 0.3 of their distance from the top: the first row stays, the last moves by 4.65.
    assert np.array_equal(sheared[0, 0], images[0, 0]) and np.array_equal(sheared[0, 15, :-5], images[0, 15, 5:])


@pytest.mark.parametrize(
    "amounts", [(0.23, 0, 0, 0, 0), (0, -0.41, 0, 0, 0), (0, 0, 2.3, -1.8, 0), (0, 0, 0, 0, 25), (0, 0, 0, 0, -70)]
)
def test_a_shift_a_turn_and_a_shear_take_the_pixels_that_pillow_takes(amounts, pictures):
    shear_x, shear_y, right, down, degrees = amounts
    height, width = pictures.shape[1:3]
    x, y = (width - 1) / 2, (height - 1) / 2
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    (a, b), (c, d) = (cosine, shear_x - sine), (shear_y + sine, cosine)
    # Pillow counts from the corner of the first pixel, not from its center.
    # The center is that of turns alone: Pillow shears about the corner.
    left = x - right + 0.5 - cosine * (x + 0.5) + sine * (y + 0.5)
    top = y - down + 0.5 - sine * (x + 0.5) - cosine * (y + 0.5)
    rows = (a, b, left, c, d, top)

    def moved(picture):
        gray = (128, 128, 128)
        return picture.transform(picture.size, Image.Transform.AFFINE, rows, Image.Resampling.NEAREST, fillcolor=gray)

    same = (changed("affine", pictures, *amounts) == by_pillow(pictures, moved)).all(axis=-1)
    assert same.mean() > 0.99  # Pillow's places are fractions of 16 bits


def test_each_picture_gets_the_change_chosen_for_it(pictures):
    images = pictures.astype("float32")
    numbers = np.array(
        [IMAGE_OPS.index(change) for change in (image_ops.invert, image_ops.nothing, image_ops.solarize)] * 3, "int32"
    )
    amounts = np.full((9, 5), 128, "float32")
    found = keras.ops.convert_to_numpy(
        image_ops.by_choice(*map(keras.ops.convert_to_tensor, (images, numbers, amounts)), IMAGE_OPS)
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
    counts = np.bincount(keras.ops.convert_to_numpy(choices), minlength=len(IMAGE_OPS))
    # 14 operations of 200 each; five of them are shears, shifts and turns, and "invert" is none of them.
    assert abs(counts[IMAGE_OPS.index(image_ops.affine)] - 1000) < 120
    assert counts[IMAGE_OPS.index(image_ops.invert)] == 0
    elsewhere = (image_ops.affine, image_ops.invert, image_ops.solarize_add, image_ops.cutout)
    others = [counts[IMAGE_OPS.index(change)] for change in IMAGE_OPS if change not in elsewhere]
    assert min(others) > 140 and max(others) < 260
    turned = keras.ops.convert_to_numpy(amounts)[:, 4]
    assert set(np.round(np.unique(turned[turned != 0]), 3)) == {-15.0, 15.0}


def test_the_tables_name_operations_that_exist():
    for table in (
        policies.RANDAUGMENT_RANGES,
        policies.TRIVIALAUGMENT_RANGES,
        policies.AUGMIX_RANGES,
        policies.TIMM,
        policies.TPU,
    ):
        assert all(row.change in IMAGE_OPS for row in table.values())
    for pairs in policies.SUB_POLICIES.values():
        assert len(pairs) == 25
        for name, chance, magnitude in (step for pair in pairs for step in pair):
            assert name in policies.RANDAUGMENT_RANGES and 0 <= chance <= 1 and 0 <= magnitude <= 9


def test_bad_arguments_and_examples_are_named():
    with pytest.raises(ValueError, match="magnitude"):
        preprocessing.RandAugment(1.5)
    with pytest.raises(ValueError, match="num_ops"):
        preprocessing.RandAugment(0.5, 0)
    with pytest.raises(ValueError, match="Did you mean 'imagenet'"):
        preprocessing.AutoAugment("imagnet")
    with pytest.raises(ValueError, match="Allowed are pictures"):
        preprocessing.TrivialAugment()(np.zeros((2, 16, 3), "float32"), training=True)


# What the authors' code makes of a magnitude, by its functions of the level, evaluated by hand: the change -> its first
# amounts, for a picture of 20 x 10 pixels. A pair stands for a random sign.
TIMM_AT_7 = {  # timm 1.0.31, rand-m7-inc1
    "rotate": {-21.0, 21.0}, "posterize": {2.0}, "solarize": {77.0}, "solarize_add": {77.0}, "color": {0.37, 1.63},
    "contrast": {0.37, 1.63}, "brightness": {0.37, 1.63}, "sharpness": {0.37, 1.63}, "shear_x": {-0.21, 0.21},
    "shear_y": {-0.21, 0.21}, "translate_x": {-3.15, 3.15}, "translate_y": {-6.3, 6.3}, "autocontrast": {0.0},
    "equalize": {0.0}, "invert": {0.0},
}  # fmt: skip
TPU_AT_10 = {  # autoaugment.py of EfficientNet, magnitude 10, translate_const 100, cutout_const 40
    **TIMM_AT_7, "rotate": {-30.0, 30.0}, "posterize": {4.0}, "solarize": {256.0}, "solarize_add": {110.0},
    **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), {1.9}), "shear_x": {-0.3, 0.3},
    "shear_y": {-0.3, 0.3}, "translate_x": {-100.0, 100.0}, "translate_y": {-100.0, 100.0}, "cutout": {40.0},
}  # fmt: skip
SPACES = {"timm": (0.7, TIMM_AT_7, 0.5), "tpu": (1.0, TPU_AT_10, 1.0)}


@pytest.mark.parametrize("space", SPACES)
def test_a_space_of_randaugment_has_its_authors_operations_frequencies_and_strengths(space):
    magnitude, expected, probability = SPACES[space]
    layer = preprocessing.RandAugment(magnitude, 1, space=space)
    count = 16_000
    images = keras.ops.zeros((count, 20, 10, 3))
    ((choices, amounts),) = layer.get_random_transformation(images, seed=keras.random.SeedGenerator(0))
    choices, amounts = (keras.ops.convert_to_numpy(values) for values in (choices, amounts))
    table = policies.RANDAUGMENT_SPACES[space]
    assert set(table.names) == set(expected)
    by_change = {}
    for name in expected:
        by_change.setdefault(IMAGE_OPS.index(table.table[name].change), []).append(name)
    assert abs(np.mean(choices == 0) - (1 - probability)) < 0.02
    for number, names in by_change.items():
        rows = amounts[choices == number]
        share = probability * len(names) / len(expected)
        assert abs(len(rows) / count - share) < 5 * np.sqrt(share / count)
        for name in names:
            column = table.table[name].column
            found = set(np.unique(np.round(rows[:, column], 4)).tolist()) - ({0.0} if len(names) > 1 else set())
            assert sorted(found) == pytest.approx(sorted(expected[name])), name


@pytest.mark.parametrize(("space", "magnitude", "share"), [("timm", 0.7, 0.29), ("paper", 0.3, 0.02)])
def test_as_many_pictures_stay_as_they_are_as_in_the_authors_code(space, magnitude, share):
    """timm's rand-m7-mstd0.5-inc1 leaves 29 % of photographs unchanged, of which a quarter by its probability."""
    rng = np.random.default_rng(1)
    images = rng.integers(1, 255, (2000, 24, 24, 3)).astype("float32")
    layer = Augmentation([preprocessing.RandAugment(magnitude, 2, 0.05 if space == "timm" else 0.0, space=space)])
    found = keras.ops.convert_to_numpy(layer.apply(images, [5, 6]))
    assert abs((found == images).all(axis=(1, 2, 3)).mean() - share) < 0.05


def test_cutout_covers_a_square_that_the_border_cuts(pictures):
    found = changed("cutout", np.full((3, 16, 20, 3), 9, "uint8"), 3, 0.5, 0.25)
    covered = (found == 128).all(axis=-1)
    assert covered[0].sum() == 36 and covered[0, 1:7, 7:13].all()
    corner = (changed("cutout", np.full((1, 16, 20, 3), 9, "uint8"), 3, 0.0, 0.0) == 128).all(axis=-1)
    assert corner.sum() == 9 and corner[0, :3, :3].all()
