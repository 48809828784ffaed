"""Models for serving: SavedModel, ONNX, OpenVINO and LiteRT, each checked in a process without this package.

The room is a function too: `keras_resnet.export(source, ...)` is `keras_resnet.export.export(source, ...)`.

Example:
    >>> import keras_resnet
    >>> keras_resnet.export("runs/digits", format="onxx", out="digits.onnx")
    Traceback (most recent call last):
    ...
    keras_resnet.errors.BadValue: format='onxx' is not known. Did you mean 'onnx'? ...
"""

import sys
import types
from typing import Any

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.export.exporting import Exported as Exported
from keras_resnet.export.exporting import export as export
from keras_resnet.export.formats import FORMATS as FORMATS


class _Room(types.ModuleType):
    """A module that can be called."""

    def __call__(self, source: Any, **options: Any) -> Exported:
        return export(source, **options)


sys.modules[__name__].__class__ = _Room
