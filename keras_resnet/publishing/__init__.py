"""A run as one folder that timm, transformers, KerasHub, Keras and this package read, here or on the Hugging Face Hub.

Example:
    >>> from keras_resnet import publishing
    >>> publishing.publish("nowhere", "folder:out")
    Traceback (most recent call last):
    ...
    keras_resnet.errors.BadValue: path='nowhere' holds no run: there is no run.json. ...
"""

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.publishing.folder import Published, publish
from keras_resnet.publishing.verification import Verification, verify

__all__ = ["Published", "Verification", "publish", "verify"]
