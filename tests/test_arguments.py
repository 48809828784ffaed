import numpy as np
import pytest

from keras_resnet import arguments


def test_a_choice_is_looked_up():
    assert arguments.choose("kind", "b", {"a": 1, "b": 2}) == 2
    assert arguments.choose("kind", None, {None: 3}) == 3


@pytest.mark.parametrize("value", ["apples", ["a"], 7])
def test_a_miss_lists_what_exists(value):
    with pytest.raises(ValueError, match="fruit=.* is not known.*Use one of: 'apple', 'pear'"):
        arguments.choose("fruit", value, {"apple": 1, "pear": 2})


def test_a_miss_names_the_closest():
    with pytest.raises(ValueError, match="Did you mean 'apple'"):
        arguments.choose("fruit", "aple", {"apple": 1, "pear": 2})
    assert arguments.closest("zzz", ["apple"]) is None


@pytest.mark.parametrize("value", [True, 1.0, "1", None, np.nan])
def test_what_is_no_int_is_refused_by_type(value):
    with pytest.raises(TypeError, match="depth must be an int >= 1, got"):
        arguments.check_int("depth", value)


def test_numpy_ints_are_ints():
    assert arguments.check_int("depth", np.int64(3)) == 3


@pytest.mark.parametrize("value", [0, 11])
def test_ints_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match="depth must be an int from 1 to 10"):
        arguments.check_int("depth", value, maximum=10)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), float("inf")])
def test_fractions_exclude_one(value):
    with pytest.raises(ValueError, match=r"rate must be a number in \[0, 1\)"):
        arguments.check_fraction("rate", value)
    assert arguments.check_fraction("rate", 1, one_included=True) == 1.0


@pytest.mark.parametrize("value", ["0.5", True, None])
def test_what_is_no_number_is_refused_by_type(value):
    with pytest.raises(TypeError, match="rate must be a number"):
        arguments.check_fraction("rate", value)


@pytest.mark.parametrize("value", [0, 1, "True", None])
def test_only_bools_are_bools(value):
    with pytest.raises(TypeError, match="flag must be True or False"):
        arguments.check_bool("flag", value)


def test_a_path_with_nul_is_one_sentence(tmp_path):
    pytest.importorskip("tensorflow")
    from keras_resnet import evaluation, training, tuning

    calls = (
        lambda path: training.fit(out=path, overrides={"train.epochs": 1}),
        lambda path: evaluation.evaluate(path),
        lambda path: tuning.search(out=path),
    )
    for call in calls:
        with pytest.raises(ValueError, match="holds a NUL character"):
            call(str(tmp_path / "a\0b"))
