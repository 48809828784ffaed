import keras
import numpy as np
import pytest

from keras_resnet import preprocessing
from keras_resnet.preprocessing import Augmentation, augmentation

RANKS = {1: (12, 2), 2: (8, 8, 3), 3: (6, 8, 8, 1)}
LAYERS = {
    "flip": preprocessing.FlipAxis,
    "shift": lambda **options: preprocessing.Shift(2, **options),
    "turns": lambda **options: preprocessing.QuarterTurns((1, 2), **options),
    "noise": lambda **options: preprocessing.Noise(3.0, **options),
    "gain": lambda **options: preprocessing.Gain(0.2, **options),
}
CASES = [(name, rank) for name in LAYERS for rank in RANKS if name != "turns" or rank == 3]


def examples(rank, count=40):
    return np.random.default_rng(rank).uniform(1, 255, (count, *RANKS[rank])).astype("float32")


def applied(layer, given, seed=(3, 1)):
    return keras.ops.convert_to_numpy(Augmentation([layer]).apply(given, list(seed)))


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_a_change_is_a_function_of_the_seed_and_differs_from_example_to_example(name, rank):
    given = np.repeat(examples(rank, 1), 40, axis=0)
    first, again, other = (applied(LAYERS[name](), given, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == given.shape and first.dtype == "float32"
    kinds = {"flip": 2, "turns": 4, "shift": 5**rank}.get(name, 40)
    assert min(kinds, 5) <= len({one.tobytes() for one in first}) <= kinds or name == "flip"
    layer = LAYERS[name](seed=4)
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert np.array_equal(keras.ops.convert_to_numpy(copy(given, training=False)), given)


@pytest.mark.parametrize("rank", RANKS)
def test_flips_reverse_the_last_axis_of_half_of_the_examples(rank):
    given = examples(rank, 200)
    found = applied(preprocessing.FlipAxis(), given)
    flipped = np.array([np.array_equal(one, two[..., ::-1, :]) for one, two in zip(found, given, strict=True)])
    kept = np.array([np.array_equal(one, two) for one, two in zip(found, given, strict=True)])
    assert np.all(flipped | kept) and 60 < flipped.sum() < 140


def test_flips_of_pictures_are_those_of_keras_from_the_same_seed():
    given = examples(2, 200)
    assert np.array_equal(
        applied(preprocessing.FlipAxis(), given), applied(keras.layers.RandomFlip("horizontal"), given)
    )


def test_flips_of_pictures_with_channels_first_are_those_of_keras_too():
    given = np.moveaxis(examples(2, 40), -1, 1)
    found, keras_own = (
        applied(layer, given)
        for layer in (
            preprocessing.FlipAxis(data_format="channels_first"),
            keras.layers.RandomFlip("horizontal", data_format="channels_first"),
        )
    )
    assert np.array_equal(found, keras_own)


@pytest.mark.parametrize("rank", RANKS)
def test_shifts_move_whole_steps_and_fill_with_zeros(rank):
    given = examples(rank)
    found = applied(preprocessing.Shift(2), given)
    layer = Augmentation([preprocessing.Shift(2)]).layers[0]
    from keras_resnet.preprocessing.augmentation import Draws

    moves = keras.ops.convert_to_numpy(layer.get_random_transformation(given, seed=Draws([3, 1])))
    assert set(np.unique(moves)) == {-2, -1, 0, 1, 2}
    for one, two, move in zip(found, given, moves, strict=True):
        padded = np.pad(two, [(2, 2)] * rank + [(0, 0)])
        window = tuple(slice(2 - step, 2 - step + size) for step, size in zip(move, two.shape, strict=False))
        assert np.array_equal(one, padded[window])


def test_quarter_turns_are_those_of_numpy():
    given = examples(3)
    found = applied(preprocessing.QuarterTurns((1, 2)), given)
    times = []
    for one, two in zip(found, given, strict=True):
        (match,) = [count for count in range(4) if np.array_equal(one, np.rot90(two, count, axes=(2, 1)))]
        times.append(match)
    assert set(times) == {0, 1, 2, 3}


def test_noise_and_gain_have_their_sizes():
    given = examples(1, 400)
    assert (applied(preprocessing.Noise(3.0), given) - given).std() == pytest.approx(3.0, rel=0.05)
    factors = applied(preprocessing.Gain(0.2), given) / given
    assert np.allclose(factors, factors[:, :1, :1], rtol=1e-5)
    assert 0.8 <= factors.min() < 0.82 and 1.18 < factors.max() <= 1.2001


def test_the_table_has_what_makes_sense_for_each_rank():
    everything = {"flip": True, "pad_and_crop": 2, "noise": 1.0, "gain": 0.1}
    for rank, shape in RANKS.items():
        layer = augmentation(rank=rank, **everything)
        assert [step.name for step in layer.layers] == ["flip", "pad_and_crop", "gain", "noise"]
        assert layer.apply(examples(rank), [1, 2]).shape == (40, *shape)
    assert augmentation(rank=3, quarter_turns=True).layers[0].axes == (1, 2)
    for rank, wrong in ((1, {"quarter_turns": True}), (1, {"rotation": 3.0}), (3, {"erasing": 0.5})):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* was given for examples with {rank} axes"):
            augmentation(rank=rank, **wrong)
    with pytest.raises(ValueError, match="It is made for pictures"):
        augmentation(rank=1, policy="trivial_augment")
    with pytest.raises(ValueError, match="Did you mean 'rotation'"):
        augmentation(rotaton=3.0)


def test_bad_axes_are_named():
    with pytest.raises(ValueError, match="axes of space"):
        applied(preprocessing.FlipAxis(2), examples(1))
    with pytest.raises(ValueError, match="names an axis twice"):
        preprocessing.QuarterTurns((1, 1))
    with pytest.raises(ValueError, match="of equal size"):
        applied(preprocessing.QuarterTurns((0, 1)), examples(3))
