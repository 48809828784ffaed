"""The wheel, and what it does in an empty environment, whose installation and first training take over a minute."""

import configparser
import email
import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest
from packaging.requirements import Requirement

import keras_resnet

ROOT = pathlib.Path(keras_resnet.__file__).resolve().parents[1]
EXTRAS = {
    "audio",
    "export",
    "report",
    "demo",
    "hf",
    "hub",
    "inspect",
    "medical",
    "mlflow",
    "wandb",
    "trackio",
    "ray",
    "all",
}
EXTRAS |= {"dev", "docs", "jax", "torch"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network from a copy, because a build leaves folders behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "keras_resnet_command.py"):
        shutil.copy(ROOT / name, source)
    for name in ("keras_resnet", "tuning"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((source / "dist").glob("*.whl"))


def metadata_file(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        path = next(path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


@pytest.fixture(scope="module")
def metadata(wheel):
    return email.message_from_string(metadata_file(wheel, "METADATA"))


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    def files(folder, prefix):
        paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        return {f"{prefix}/{path}" for path in paths if "__pycache__" not in path}

    expected = files(ROOT / "keras_resnet", "keras_resnet") | files(ROOT / "tuning", "keras_resnet/tuning")
    expected.add("keras_resnet_command.py")  # what the program `keras-resnet` starts
    with zipfile.ZipFile(wheel) as archive:
        packed = {path for path in archive.namelist() if ".dist-info/" not in path}
    assert packed == expected
    assert {"keras_resnet/py.typed", "keras_resnet/tuning/__init__.py"} <= packed
    assert "keras_resnet/training/recipes/quick.toml" in packed


def test_the_metadata_says_what_is_installed(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("keras-resnet-zoo", keras_resnet.__version__)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra")) == EXTRAS


def test_every_requirement_has_a_tested_lower_and_an_upper_bound(metadata):
    for line in metadata.get_all("Requires-Dist"):
        operators = sorted(specifier.operator for specifier in Requirement(line).specifier)
        assert operators == ["<", ">="], line


def test_all_is_every_extra_but_the_backends_and_the_tools(metadata):
    def names(extra):
        requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
        return {r.name for r in requirements if r.marker and r.marker.evaluate({"extra": extra})}

    mine = EXTRAS - {"all", "jax", "torch", "dev", "docs", "trackio"}  # which holds Pillow back
    assert names("all") == set().union(*map(names, mine)) and names("all") > names("export")
    assert names("jax") == {"jax"}
    assert names("torch") == {"torch"}


def test_the_main_job_needs_no_extra(metadata):
    required = {r.name for r in map(Requirement, metadata.get_all("Requires-Dist")) if r.marker is None}
    assert {"keras", "tensorflow", "tensorflow-datasets", "keras-tuner", "scikit-learn"} <= required
    assert not required & {"jax", "torch", "pytest"}


def test_the_installed_versions_are_within_the_requirements(metadata):
    import importlib.metadata

    for requirement in map(Requirement, metadata.get_all("Requires-Dist")):
        if requirement.marker is None:
            assert importlib.metadata.version(requirement.name) in requirement.specifier, str(requirement)


def test_the_command_is_installed(wheel):
    scripts = configparser.ConfigParser()
    scripts.read_string(metadata_file(wheel, "entry_points.txt"))
    assert dict(scripts["console_scripts"]) == {"keras-resnet": "keras_resnet_command:main"}


@pytest.mark.slow
def test_the_unpacked_wheel_imports_with_its_tuning(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import keras_resnet, keras_resnet.tuning as t; print(keras_resnet.__file__, t.__file__, t.__name__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    package, tuning, name = done.stdout.split()
    assert package == str(tmp_path / "site" / "keras_resnet" / "__init__.py")
    assert tuning == str(tmp_path / "site" / "keras_resnet" / "tuning" / "__init__.py")
    assert name == "keras_resnet.tuning"


@pytest.mark.exhaustive
def test_the_wheel_trains_on_the_digits_in_an_empty_environment(wheel, tmp_path):
    """Installs from the package registry: the one test that needs a network."""
    venv.create(tmp_path / "env", with_pip=True)
    programs = tmp_path / "env" / "bin"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TF_", "KERAS"))}

    def run(*command):
        done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(programs / "python", "-m", "pip", "install", "--quiet", wheel)
    run(programs / "keras-resnet", "train", "--data", "digits", "--epochs", "1", "--out", tmp_path / "run")
    assert '"accuracy"' in run(programs / "keras-resnet", "evaluate", tmp_path / "run", "--json")
    run(programs / "python", "-c", "import keras_resnet.tuning")
    assert "703,866" in run(programs / "keras-resnet", "info", "resnet18:cifar10")  # the weights come along
