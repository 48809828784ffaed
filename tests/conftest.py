"""What every test of the project shares: no network, no display, no state of Keras left over, and the real data."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import pathlib
import re
import socket

import pytest

# Further cases of a kind of which others are tried each time: they run with KERAS_RESNET_TEST_ALL=1.
SELDOM = (
    r"test_averaging.*_is_the_formula_over_optimizer_steps\[(0.25-1|0.99-4)\]",
    r"test_regression.*prices_are_learned_as_fractions_are\[0.0001",
    r"test_export.*grouped_convolutions_are_exported\[(onnx|openvino|litert)\]",
    r"test_export.*leaves_nothing_under_the_final_name\[openvino\]",
    r"test_export.*in_mixed_precision_is_exported_in_every_form\[mixed_float16-(?!savedmodel-None|openvino-int8)",
    r"test_export.*in_mixed_precision_is_exported_in_every_form\[mixed_bfloat16-(?!savedmodel-None|onnx-None|litert-None)",
    r"test_explain.*the_same_maps_with_one_output_and_with_two\[(occlusion|integrated-gradients)\]",
    r"test_explain.*explained_by_their_last_feature_map\[(?!grad-cam-|occlusion-foreign)",
    r"test_same_pixels.*cuts_where_training_does\[(many sizes-(none|center)|one size-(auto|center))\]",
    r"test_memory.*recomputes_is_the_one_that_keeps\[.*(pool|\(16, 2\)|'float32')",
    r"test_parity.*of_keras_applications_gives_its_logits\[.*(False|ResNet101-)",
    r"test_scripts.*writes_its_figures\[(decode_crop|export_speed|gpu|grouped_convolution|import_time|kernel_forms)\]",
    r"test_scripts.*writes_its_figures\[(loading|loop_ends|memory|pixels|profile_step|start_up|strided_pixels)\]",
    r"test_folds.*of_other_heads_is_that_of_their_answers\[mean_squared_error\]",
)


def pytest_collection_modifyitems(config, items):
    """Leaves out what is run seldom, and says how many they are."""
    if os.environ.get("KERAS_RESNET_TEST_ALL"):
        return
    seldom = re.compile("|".join(SELDOM))
    left_out = [item for item in items if seldom.search(item.nodeid)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not seldom.search(item.nodeid)]


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
