"""Residual networks for Keras 3: get them, train them, tune them, ship them.

The names here are the public interface. Models, blocks and preprocessing run on any Keras backend; the other rooms
(`data`, `training`, `evaluation`, `tuning`) are loaded when they are first used.
"""

import importlib
import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any

from keras_resnet.models.variants import VARIANTS

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

# The layers are registered with Keras here, for `keras.saving.load_model`. Only the program `keras-resnet` leaves that
# to the commands that load a model, because it answers without Keras too.
if "keras_resnet_command" not in sys.modules or "keras" in sys.modules:
    for _room in ("blocks", "preprocessing"):
        importlib.import_module(f"keras_resnet.{_room}")

if TYPE_CHECKING:
    from keras_resnet import preprocessing as preprocessing
    from keras_resnet.blocks import BottleneckBlock as BottleneckBlock
    from keras_resnet.blocks import IdentityBlock as IdentityBlock
    from keras_resnet.models import activations as activations
    from keras_resnet.models import decode_predictions as decode_predictions
    from keras_resnet.models import diagram as diagram
    from keras_resnet.models import feature_info as feature_info
    from keras_resnet.models import features as features
    from keras_resnet.models import freeze as freeze
    from keras_resnet.models import fuse as fuse
    from keras_resnet.models import list_models as list_models
    from keras_resnet.models import model_info as model_info
    from keras_resnet.models import preprocess_input as preprocess_input
    from keras_resnet.models import unfreeze as unfreeze
    from keras_resnet.weights import list_weights as list_weights

ROOMS = (
    *(
        "auto",
        "benchmark",
        "blocks",
        "data",
        "demo",
        "evaluation",
        "explain",
        "export",
        "models",
        "preprocessing",
        "publishing",
        "report",
        "tracking",
        "training",
        "weights",
    ),
    "tuning",
)
NAMES = {
    **{row.constructor: "models" for row in VARIANTS.values()},
    **dict.fromkeys(("activations", "diagram", "feature_info", "features", "freeze", "fuse", "list_models"), "models"),
    **dict.fromkeys(("model_info", "unfreeze", "decode_predictions", "preprocess_input"), "models"),
    "list_weights": "weights",
    **dict.fromkeys(("BottleneckBlock", "IdentityBlock"), "blocks"),
}
__all__ = ["__version__", *ROOMS, *NAMES]


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return importlib.import_module(f"keras_resnet.{name}")
    if name in NAMES:
        return getattr(importlib.import_module(f"keras_resnet.{NAMES[name]}"), name)
    raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
