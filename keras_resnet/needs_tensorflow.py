"""Imported first by the rooms that are made of TensorFlow: where it is missing, they say so in one sentence."""

import importlib.util

from keras_resnet.errors import MissingPackage

if importlib.util.find_spec("tensorflow") is None:
    raise MissingPackage(
        "Data, training, evaluation, tuning and export need TensorFlow, which is not installed: their pipelines are "
        "made of tf.data, on every Keras backend. Models, blocks and preprocessing work without it. "
        "Run: pip install tensorflow"
    )
