import warnings

import keras
import pytest

from keras_resnet import ResNet18
from keras_resnet.models import precision

SMALL = {"input_shape": (8, 8, 1), "stem": "small", "width": 4, "classes": 2}


@pytest.fixture(autouse=True)
def forgotten():
    precision._warn_once.cache_clear()
    yield
    precision._warn_once.cache_clear()


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="the warning is of TensorFlow on a CPU")
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_sixteen_bits_without_instructions_for_them_are_told_once(policy, monkeypatch):
    monkeypatch.setattr(precision, "instructions", lambda: {"avx2", "fma"})
    with pytest.warns(UserWarning, match="no instructions for b?float16"):
        ResNet18(dtype=policy, **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ResNet18(dtype=policy, **SMALL)
        ResNet18(dtype="float32", **SMALL)


@pytest.mark.parametrize("flags", [{"avx512_bf16", "avx512_fp16"}, set()], ids=["with", "unknown"])
def test_nothing_is_told_where_they_exist_or_nobody_knows(flags, monkeypatch):
    monkeypatch.setattr(precision, "instructions", lambda: flags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ResNet18(dtype="mixed_bfloat16", **SMALL)
