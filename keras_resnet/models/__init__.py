"""ResNets, wide ResNets, ResNeXts and ResNet-RS: a table of variants and one builder.

The table is plain data, and reading it loads neither Keras nor a backend; the other names load what they need when they
are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_resnet.models.variants import VARIANTS as VARIANTS
from keras_resnet.models.variants import list_models as list_models

if TYPE_CHECKING:
    from keras_resnet.models.constructors import build as build
    from keras_resnet.models.drawing import diagram as diagram
    from keras_resnet.models.freezing import freeze as freeze
    from keras_resnet.models.freezing import unfreeze as unfreeze
    from keras_resnet.models.fusion import fuse as fuse
    from keras_resnet.models.fusion import inference_function as inference_function
    from keras_resnet.models.info import Cost as Cost
    from keras_resnet.models.info import ModelInfo as ModelInfo
    from keras_resnet.models.info import model_info as model_info
    from keras_resnet.models.info import recompute as recompute
    from keras_resnet.models.precision import compute_dtype as compute_dtype
    from keras_resnet.models.precision import to_float32 as to_float32
    from keras_resnet.models.pretrained import Pretrained as Pretrained
    from keras_resnet.models.pretrained import pretrained_model as pretrained_model
    from keras_resnet.models.pretrained import with_normalization as with_normalization
    from keras_resnet.models.pruning import prune as prune
    from keras_resnet.models.quantization import is_quantized as is_quantized
    from keras_resnet.models.quantization import quantize as quantize
    from keras_resnet.models.stages import activations as activations
    from keras_resnet.models.stages import dilate as dilate
    from keras_resnet.models.stages import feature_info as feature_info
    from keras_resnet.models.stages import features as features
    from keras_resnet.models.stages import stage_outputs as stage_outputs

# Module -> the public names that it defines.
HOMES = {
    "constructors": (
        *(row.constructor for row in VARIANTS.values()),
        *("build", "decode_predictions", "preprocess_input"),
    ),
    "stages": ("activations", "dilate", "feature_info", "features", "stage_outputs"),
    "drawing": ("diagram",),
    "freezing": ("freeze", "unfreeze"),
    "fusion": ("fuse", "inference_function"),
    "info": ("Cost", "ModelInfo", "model_info", "recompute"),
    "pretrained": ("Pretrained", "pretrained_model", "with_normalization"),
    "precision": ("compute_dtype", "to_float32"),
    "pruning": ("prune",),
    "quantization": ("is_quantized", "quantize"),
}


def __getattr__(name: str) -> Any:
    for home, names in HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"keras_resnet.models.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'keras_resnet.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(name for names in HOMES.values() for name in names)})
