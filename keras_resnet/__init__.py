"""Residual networks for Keras 3: get them, train them, tune them, ship them.

The names here are the public interface. Models, blocks and preprocessing run on any Keras backend; the other rooms
(`data`, `training`, `evaluation`, `tuning`) are loaded when they are first used.
"""

import importlib
import importlib.metadata
import os
import pathlib
import platform
import sys
from typing import TYPE_CHECKING, Any, NoReturn

__version__ = "0.1.0"


def _refuse_namesake() -> None:
    """Raises ImportError beside the distribution `keras-resnet`, which writes its files into this same folder."""
    try:
        importlib.metadata.distribution("keras-resnet")
    except importlib.metadata.PackageNotFoundError:
        return
    raise ImportError(
        "The distribution 'keras-resnet' is installed beside 'keras-resnet-zoo'. Both install a package named "
        "keras_resnet, so that each overwrites files of the other; only one may be present. "
        "Run: pip uninstall keras-resnet keras-resnet-zoo; then: pip install keras-resnet-zoo"
    )


def _started_as_command() -> bool:
    """Returns whether the command line is the program: it reads its options first, because Keras takes seconds."""
    return pathlib.Path(sys.argv[0]).stem == "keras-resnet" or sys.orig_argv[1:3] == ["-m", "keras_resnet"]


def _prefer_onednn() -> None:
    """Asks TensorFlow, where it is not loaded yet, for the oneDNN operations that it keeps for the newest CPUs.

    On a CPU with AVX2 alone they train a ResNet-50 about a third faster than TensorFlow's default ones
    (docs/performance.md). `TF_ENABLE_ONEDNN_OPTS=0` or `KERAS_RESNET_KERNELS=0` in the environment leaves the default.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if x86 and "tensorflow" not in sys.modules and os.environ.get("KERAS_RESNET_KERNELS") != "0":
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


_refuse_namesake()
_prefer_onednn()

# In a bare checkout tuning/ lies beside this package; setup.py maps it to keras_resnet.tuning.
_FOLDER = pathlib.Path(__file__).resolve().parent
if not (_FOLDER / "tuning").is_dir() and (_FOLDER.parent / "tuning" / "__init__.py").is_file():
    __path__.append(str(_FOLDER.parent))

if TYPE_CHECKING or not _started_as_command():
    from keras_resnet import preprocessing as preprocessing
    from keras_resnet.blocks import BottleneckBlock as BottleneckBlock
    from keras_resnet.blocks import IdentityBlock as IdentityBlock
    from keras_resnet.models import ResNet18 as ResNet18
    from keras_resnet.models import ResNet34 as ResNet34
    from keras_resnet.models import ResNet50 as ResNet50
    from keras_resnet.models import ResNet101 as ResNet101
    from keras_resnet.models import ResNet152 as ResNet152
    from keras_resnet.models import features as features
    from keras_resnet.models import fuse as fuse
    from keras_resnet.models import list_models as list_models
    from keras_resnet.models import model_info as model_info

ROOMS = ("blocks", "data", "evaluation", "models", "preprocessing", "training", "tuning")
NAMES = {
    **dict.fromkeys(("BottleneckBlock", "IdentityBlock"), "blocks"),
    **dict.fromkeys(("ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152"), "models"),
    **dict.fromkeys(("features", "fuse", "list_models", "model_info"), "models"),
}
__all__ = ["__version__", "export", "list_weights", *ROOMS, *NAMES]


def list_weights(model: str | None = None) -> NoReturn:
    """Will list the published weights of a variant.

    Args:
        model: a name from `list_models()`; None for all.

    Raises:
        NotImplementedError: always, in this version.
    """
    raise NotImplementedError(
        "list_weights is not available yet: this version has no published weights. Models start from random weights, "
        "weights=None. To reuse a model trained here, load its file with keras.saving.load_model."
    )


def export(*arguments: Any, **options: Any) -> NoReturn:
    """Will write a trained model for serving.

    Args:
        *arguments: not read yet.
        **options: not read yet.

    Raises:
        NotImplementedError: always, in this version.
    """
    raise NotImplementedError(
        "export is not available yet. This version saves models as .keras files, preprocessing included. "
        "To serve one as a SavedModel now, load it with keras.saving.load_model and call its export method."
    )


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return importlib.import_module(f"keras_resnet.{name}")
    if name in NAMES:
        return getattr(importlib.import_module(f"keras_resnet.{NAMES[name]}"), name)
    raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *ROOMS})
