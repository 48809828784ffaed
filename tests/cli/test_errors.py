import pathlib

import keras
import pytest

from keras_resnet import arguments
from keras_resnet.cli import is_users_mistake


def caught(function, *arguments_):
    try:
        function(*arguments_)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_what_the_package_raises_on_purpose_is_the_users_mistake():
    assert is_users_mistake(caught(arguments.choose, "a", "b", {"c": 1}))
    assert is_users_mistake(caught(lambda: arguments.check_int("a", "b")))


def test_what_an_operator_inside_the_package_raises_is_a_bug():
    # closest() iterates over its names: a number there is a fault of the caller inside the package.
    assert not is_users_mistake(caught(arguments.closest, "a", 3))


def test_what_keras_raises_is_a_bug():
    assert not is_users_mistake(caught(lambda: keras.layers.Conv2D(8, -1)))


def test_what_a_test_raises_is_a_bug():
    def raise_value_error():
        raise ValueError("from elsewhere")

    assert not is_users_mistake(caught(raise_value_error))


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path):
    assert is_users_mistake(caught(pathlib.Path(tmp_path / "none").read_text))


def test_a_broken_invariant_of_the_package_is_a_bug():
    def raise_in_the_package():
        code = compile("raise RuntimeError('9 steps of 8')", "fit.py", "exec")
        exec(code, {"__name__": "keras_resnet.training.fit"})

    assert not is_users_mistake(caught(raise_in_the_package))


def test_an_error_without_a_traceback_is_a_bug():
    assert not is_users_mistake(ValueError("never raised"))


@pytest.mark.parametrize("chained", [True, False])
def test_an_error_raised_from_another_is_told_by_where_it_was_raised(chained):
    error = caught(arguments.check_bool, "a", 1)
    error.__cause__ = KeyError("below") if chained else None
    assert is_users_mistake(error)
