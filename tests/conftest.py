"""What every test of the project shares: no network, no display, no state of Keras left over, and the real data."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import pathlib
import socket

import pytest

from tests.parts import PARTS, chosen_part, left_out


def pytest_collection_modifyitems(config, items):
    """Leaves out the long tests that other parts do, and says how many they are."""
    import keras

    part = chosen_part()
    others = left_out([item.nodeid for item in items], keras.config.backend(), part)
    if others:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in others])
        items[:] = [item for item in items if item.nodeid not in others]


def pytest_report_header():
    """Says which part of the long tests is done."""
    part = chosen_part()
    told = "all of them" if part is None else f"part {part + 1} of {PARTS}; KERAS_RESNET_TEST_PART=all does all"
    return f"tests that take long: {told}"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Refuses connections that leave this machine: the tests run offline."""
    connect = socket.socket.connect

    def refuse(self, address, *rest):
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise AssertionError(f"a test tried to connect to {address}, and the tests run offline")
        return connect(self, address, *rest)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _keras_defaults():
    """Puts back the global settings of Keras that a test changed."""
    import keras

    policy, layout, floats = keras.config.dtype_policy(), keras.config.image_data_format(), keras.config.floatx()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(layout)
    keras.config.set_floatx(floats)


@pytest.fixture(scope="session")
def real_data():
    """The folder that holds `cifar10/{train,test}/<class>/*.jpg` and the TFDS folder `tfds`."""
    folder = os.environ.get("KERAS_RESNET_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_RESNET_TEST_DATA does not name a folder with the real CIFAR-10; `make test-data` does")
    path = pathlib.Path(folder)
    assert (path / "cifar10" / "train").is_dir(), f"KERAS_RESNET_TEST_DATA={folder} holds no cifar10/train"
    return path
