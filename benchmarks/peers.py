"""The environment of the peers: PyTorch for CPUs, timm, transformers, keras-hub, beside the same TensorFlow and Keras.

    python -m benchmarks.peers [FOLDER]

makes a virtual environment in FOLDER, .venv-peers by default.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.metadata
import pathlib
import subprocess
import sys
import types
import venv
from typing import Any

# timm asks for torchvision, which has no build for CPUs alone and would bring CUDA: installed without requirements.
STEPS = (
    ["torch==2.13.0"],
    ["--no-deps", "timm==1.0.31"],
    ["huggingface_hub", "safetensors", "pyyaml", "pillow"],
    ["onnx>=1.23,<2", "onnxscript", "onnxruntime>=1.31,<2"],
    ["transformers==5.24.0"],
    ["jax", "flax", "optax"],
    ["keras>=3.15.1,<3.16", "tensorflow>=2.21,<2.22", "keras-hub==0.32.0"],
)


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Distribution(importlib.metadata.Distribution):
    def read_text(self, filename: str) -> str | None:
        return "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        return path


class _Finder(importlib.metadata.DistributionFinder, importlib.abc.Loader):
    def find_distributions(self, context: Any = None) -> Any:
        return [_Distribution()] if context is not None and context.name == "torchvision" else []

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def without_torchvision() -> None:
    """Lets timm be imported without torchvision, whose image transforms it names and its networks never call."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def main() -> None:
    """Makes the environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=".venv-peers", type=pathlib.Path)
    folder = parser.parse_args().folder
    venv.create(folder, clear=True, with_pip=True)
    for packages in STEPS:
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *packages], check=True)
    (folder / "complete").touch()
    print(f"the peers are in {folder}")


if __name__ == "__main__":
    main()
