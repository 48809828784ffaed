import importlib
import os
import pathlib
import platform
import subprocess
import sys

import pytest

import keras_resnet

ROOT = pathlib.Path(keras_resnet.__file__).resolve().parents[1]
NAMES = (
    *("ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152", "IdentityBlock", "BottleneckBlock"),
    *("features", "list_models", "model_info", "__version__"),
)
ROOMS = ("blocks", "data", "evaluation", "models", "preprocessing", "publishing", "training", "tuning")


def run(code, *, cwd, path=()):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there(name):
    assert hasattr(keras_resnet, name)
    assert name in dir(keras_resnet)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_there_as_an_attribute_and_as_a_module(room):
    assert getattr(keras_resnet, room) is importlib.import_module(f"keras_resnet.{room}")


def test_the_directory_lists_public_names_alone():
    assert not {"Any", "sys", "ROOMS", "NAMES", "importlib"} & set(dir(keras_resnet))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="ResNet19"):
        keras_resnet.ResNet19  # noqa: B018


@pytest.mark.slow
def test_the_checkout_alone_imports_its_tuning(tmp_path):
    # Without the finder of an editable installation, which would map tuning/ by itself.
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        "import os; import keras_resnet.tuning as t; print(t.__name__, os.path.realpath(t.__file__))"
    )
    done = run(code, cwd=tmp_path)
    assert done.stdout.split() == ["keras_resnet.tuning", str(ROOT / "tuning" / "__init__.py")], done.stderr


def test_the_abandoned_distribution_of_the_same_import_name_is_refused(tmp_path):
    folder = tmp_path / "keras_resnet-0.2.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: keras-resnet\nVersion: 0.2.0\n")
    done = run("import keras_resnet", cwd=tmp_path, path=[tmp_path])
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: The distribution 'keras-resnet' is installed")
    assert "pip uninstall keras-resnet" in message


STATE = """
import json, logging, os, sys, warnings
def state():
    return json.dumps([
        dict(os.environ), sys.path, sys.argv, [repr(finder) for finder in sys.meta_path], os.getcwd(),
        logging.root.level, logging.getLogger("tensorflow").level, len(logging.root.handlers), len(warnings.filters),
    ])
"""


@pytest.mark.slow
def test_importing_the_package_changes_nothing_outside_itself(tmp_path):
    # Before Keras is loaded and after: two orders of two lines.
    code = f"{STATE}import keras; before = state(); import keras_resnet; print(before == state())"
    done = run(code, cwd=tmp_path)
    assert done.stdout.split() == ["True"], done.stderr
    code = "import os; before = dict(os.environ); import keras_resnet; print(set(os.environ) - set(before))"
    ours = run(code, cwd=tmp_path).stdout
    assert ours == run(code.replace("keras_resnet", "keras"), cwd=tmp_path).stdout


@pytest.mark.slow
def test_nothing_but_the_package_can_be_imported_through_it(tmp_path):
    done = run("import keras_resnet.tests", cwd=tmp_path)
    assert "No module named 'keras_resnet.tests'" in done.stderr


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="oneDNN is for x86-64 CPUs here")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "1"),
        ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0"),
        ({"KERAS_RESNET_KERNELS": "0"}, "None"),
    ],
    ids=["by default", "unless the user chose", "unless kernels are off"],
)
def test_the_program_asks_tensorflow_for_onednn(tmp_path, environment, expected):
    unset = {name: value for name, value in os.environ.items() if name not in ("TF_ENABLE_ONEDNN_OPTS",)}
    # Keras itself is not needed to see the choice, and takes seconds.
    code = (
        "import sys, os; sys.argv = ['keras-resnet', 'list']; "
        "import keras_resnet_command; keras_resnet_command.main(); print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**unset, "PYTHONPATH": str(ROOT), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-1] == expected, done.stderr
