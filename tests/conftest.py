"""What every test of the project shares: no network, no display, no state of Keras left over, and the real data."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import pathlib
import shutil
import signal
import socket

import pytest

# A shell ignores SIGINT for what it starts in the background, and the tests interrupt trainings.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Refuses connections that leave this machine: the tests run offline."""
    connect = socket.socket.connect

    def refuse(self, address, *rest):
        host = address[0] if isinstance(address, tuple) else "localhost"
        asks_own_address = self.type == socket.SOCK_DGRAM and host == "192.0.2.1"  # which sends nothing
        if host not in ("localhost", "127.0.0.1", "::1") and not asks_own_address:
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
def digits_run(tmp_path_factory):
    """A run of a ResNet-10 that learned the digits and gets some wrong; made once for all workers, and only read."""
    import filelock

    from keras_resnet import training

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    small = {"model.width": 4, "train.epochs": 3, "train.batch_size": 64, "loss.label_smoothing": 0.0}
    with filelock.FileLock(root / "digits_run.lock"):
        # The second worker finds it complete.
        return training.fit("quick", model="resnet10", out=root / "digits_run", overrides=small, verbose=0, resume=True)


@pytest.fixture
def digits_copy(digits_run, tmp_path):
    """A copy of that run to write into."""
    from keras_resnet import training

    return training.Run.load(shutil.copytree(digits_run.path, tmp_path / "digits"))


@pytest.fixture(scope="session")
def real_data():
    """The folder that holds `cifar10/{train,test}/<class>/*.jpg` and the TFDS folder `tfds`."""
    folder = os.environ.get("KERAS_RESNET_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_RESNET_TEST_DATA does not name a folder with the real CIFAR-10; `make test-data` does")
    path = pathlib.Path(folder)
    assert (path / "cifar10" / "train").is_dir(), f"KERAS_RESNET_TEST_DATA={folder} holds no cifar10/train"
    return path
