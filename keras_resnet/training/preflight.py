"""What a training surely needs, against the memory that is free: refused before its first step, not by the system."""

import math
from typing import Any

import keras

from keras_resnet import models
from keras_resnet.errors import BadValue
from keras_resnet.memory import SHARE, available_bytes, format_bytes, free_address_space
from keras_resnet.training.setup import Setup

FLOAT_BYTES = 4
# A step keeps for its backward pass the outputs of the convolutions, and of what follows them at most as much again.
SURELY_KEPT = 0.5
# TensorFlow's threads, allocator and compiler reserve addresses that they hardly use. From here to the end of a run of
# the smallest networks 0.89 GiB were counted on two cores (docs/reliability.md); where they are not to be had,
# TensorFlow ends by a signal, mostly without a word.
RESERVED_ADDRESSES = 2**30


def check_backend(setup: Setup) -> None:
    """Raises ValueError where the pipeline would make random changes that only TensorFlow can make there.

    Args:
        setup: of a training.

    Raises:
        ValueError: Keras runs on another backend, and the setup has such changes on the host.
    """
    if keras.config.backend() != "tensorflow":
        for _, size in setup.stages:
            setup.training_batches(size=size)


def check_memory(network: keras.Model, batch_size: int, recomputes: bool) -> None:
    """Raises ValueError where weights, gradients and activations of one step are larger than the memory that is free.

    On a machine with a GPU nothing is checked: its own memory counts there.

    Args:
        network: to be trained.
        batch_size: examples per step.
        recomputes: whether blocks keep their input alone.

    Raises:
        ValueError: they are, or a limit of the address space leaves less than TensorFlow reserves; the message says
            what to change.
    """
    free = available_bytes()
    if free is None or _has_gpu():
        return
    weights = 2 * FLOAT_BYTES * network.count_params()  # and their gradients
    shape = network.input_shape[1:]
    example = FLOAT_BYTES * math.prod(side or 1 for side in shape)
    if None not in shape and not recomputes:
        example += round(SURELY_KEPT * models.model_info(network).activation_bytes)
    needed = weights + batch_size * example
    addresses = free_address_space()
    if addresses is not None and needed + RESERVED_ADDRESSES > addresses:
        raise BadValue(
            f"A limit of the address space leaves {format_bytes(max(addresses, 0))}. This training needs "
            f"{format_bytes(needed + RESERVED_ADDRESSES)} and more, most of it reserved by TensorFlow and hardly "
            "used, and TensorFlow ends by a signal where it gets less. Raise the limit (`ulimit -v unlimited`); to "
            "limit memory itself, use a container or a control group."
        )
    if needed <= SHARE * free:
        return
    fitting = int((SHARE * free - weights) // example)
    lower = (
        f"Lower train.batch_size to {fitting} or less, data.image_size or model.width, or set train.recompute."
        if fitting >= 1
        else "Lower model.width or data.image_size, or take a smaller model."
    )
    raise BadValue(
        f"A step on {batch_size} examples of {'x'.join(map(str, shape))} needs {format_bytes(needed)} of memory and "
        f"more, and {format_bytes(free)} are free. {lower}"
    )


def _has_gpu() -> bool:
    if keras.config.backend() != "tensorflow":
        return True
    import tensorflow as tf

    found: Any = tf.config.list_physical_devices("GPU")
    return bool(found)
