"""A warning where 16-bit floats are slower than 32-bit ones: on processors that have no instructions for them."""

import functools
import warnings
from typing import Any

import keras

from keras_resnet.processor import instructions

# Dtype -> the flags of /proc/cpuinfo of processors that compute in it.
INSTRUCTIONS = {"bfloat16": {"avx512_bf16", "amx_bf16"}, "float16": {"avx512_fp16", "amx_fp16"}}


def warn_of_slow_floats(policy: Any) -> None:
    """Warns once a process where a policy computes in a dtype that this processor only emulates, on TensorFlow.

    Args:
        policy: a Keras dtype policy.
    """
    if policy.compute_dtype in INSTRUCTIONS and keras.config.backend() == "tensorflow":
        _warn_once(policy.compute_dtype)


@functools.cache
def _warn_once(dtype: str) -> None:
    import tensorflow as tf

    flags = instructions()
    if flags and not flags & INSTRUCTIONS[dtype] and not tf.config.list_physical_devices("GPU"):
        warnings.warn(
            f"This processor has no instructions for {dtype} that TensorFlow may use: a policy that computes in it "
            "runs, at less than half the speed of float32. Use float32 here, mixed_bfloat16 on a CPU with BF16 "
            "instructions, or a GPU.",
            stacklevel=5,
        )
