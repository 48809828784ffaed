"""Residual networks for Keras 3: get them, train them, tune them, ship them.

The names here are the public interface. Models, blocks and preprocessing run on any Keras backend; the other rooms
(`data`, `training`, `evaluation`, `tuning`) are loaded when they are first used.
"""

import importlib
import importlib.metadata
from typing import Any

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


_refuse_namesake()

from keras_resnet import preprocessing as preprocessing  # noqa: E402
from keras_resnet.blocks import BottleneckBlock as BottleneckBlock  # noqa: E402
from keras_resnet.blocks import IdentityBlock as IdentityBlock  # noqa: E402
from keras_resnet.models import ResNet18 as ResNet18  # noqa: E402
from keras_resnet.models import ResNet34 as ResNet34  # noqa: E402
from keras_resnet.models import ResNet50 as ResNet50  # noqa: E402
from keras_resnet.models import ResNet101 as ResNet101  # noqa: E402
from keras_resnet.models import ResNet152 as ResNet152  # noqa: E402
from keras_resnet.models import features as features  # noqa: E402
from keras_resnet.models import list_models as list_models  # noqa: E402
from keras_resnet.models import model_info as model_info  # noqa: E402

ROOMS = ("blocks", "data", "evaluation", "models", "preprocessing", "training", "tuning")


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return importlib.import_module(f"keras_resnet.{name}")
    raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *ROOMS})
