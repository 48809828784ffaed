"""Calls that a constructor must refuse, as data: (keyword arguments, what the message must say).

`test_bad_calls.py` makes each of them; `benchmarks/bad_calls.py` counts and times them.
"""

from typing import Any

import keras
import numpy as np


def _calls() -> dict[str, tuple[dict[str, Any], str]]:
    nan = float("nan")
    return {
        "no classes": ({"classes": 0}, "classes must be an int >= 1, got 0"),
        "negative classes": ({"classes": -1}, "classes must be an int >= 1, got -1"),
        "fractional classes": ({"classes": 2.5}, "classes must be an int >= 1, got 2.5"),
        "classes as text": ({"classes": "10"}, "classes must be an int >= 1, got '10'"),
        "classes None": ({"classes": None}, "classes must be an int >= 1, got None"),
        "classes True": ({"classes": True}, "classes must be an int >= 1, got True"),
        "shape as int": ({"input_shape": 32}, r"input_shape must be a tuple \(height, width, channels\), got 32"),
        "shape as text": ({"input_shape": "32"}, r"input_shape must be a tuple \(height, width, channels\), got '32'"),
        "shape of one": ({"input_shape": (32,)}, "input_shape has length 1.*Allowed are length 2"),
        "shape of five": ({"input_shape": (1, 32, 32, 32, 3)}, "input_shape has length 5.*Leave out the batch axis"),
        "empty shape": ({"input_shape": ()}, "input_shape has length 0"),
        "channels first under last": (
            {"input_shape": (3, 224, 224)},
            r"looks like channels_first; expected \(height, width, channels\)",
        ),
        "no channels": ({"input_shape": (224, 224, 0)}, "channels must be >= 1"),
        "negative channels": ({"input_shape": (224, 224, -3)}, "channels must be >= 1"),
        "unknown channels": ({"input_shape": (224, 224, None)}, "channels must be >= 1"),
        "fractional shape": ({"input_shape": (32.0, 32.0, 3)}, "holds 32.0. Its sizes must be integers or None"),
        "shape with True": ({"input_shape": (32, True, 3)}, "holds True. Its sizes must be integers or None"),
        "too small": ({"input_shape": (16, 16, 3)}, "input of 16x16 is smaller than the minimum of 32.*stem='small'"),
        "too small for the small stem": (
            {"input_shape": (7, 7, 3), "stem": "small"},
            "input of 7x7 is smaller than the minimum of 8",
        ),
        "negative size": ({"input_shape": (-32, 32, 3)}, "input of -32x32 is smaller than the minimum"),
        "short signal": ({"input_shape": (16, 3)}, "input of 16 is smaller than the minimum of 32"),
        "unknown version": ({"version": "v3"}, "version='v3' is not known.*Use one of: 'v1', 'v1.5', 'v2'"),
        "version as number": ({"version": 1.5}, "version=1.5 is not known. Did you mean 'v1.5'"),
        "unhashable version": ({"version": ["v1"]}, r"version=\['v1'\] is not known"),
        "width 0": ({"width": 0}, "width must be an int >= 1, got 0"),
        "width -1": ({"width": -1}, "width must be an int >= 1, got -1"),
        "width nan": ({"width": nan}, "width must be an int >= 1, got nan"),
        "fractional width": ({"width": 64.0}, "width must be an int >= 1, got 64.0"),
        "unknown stem": (
            {"stem": "foo"},
            "stem='foo' is not known.*Use one of: 'conv7', 'deep', 'deep_strided'",
        ),
        "stem misspelt": ({"stem": "conv_7"}, "stem='conv_7' is not known. Did you mean 'conv7'"),
        "unknown shortcut": ({"shortcut": "bottle_neck"}, "shortcut='bottle_neck' is not known.*'conv', 'pool'"),
        "unknown attention": ({"attention": "cbam"}, "attention='cbam' is not known.*None, 'se'"),
        "unknown initializer": ({"kernel_initializer": "nope"}, "kernel_initializer='nope' is not a Keras init"),
        "no initializer": ({"kernel_initializer": None}, "kernel_initializer=None is not a Keras initializer"),
        "unknown regularizer": ({"kernel_regularizer": "l3"}, "kernel_regularizer='l3' is not a Keras regularizer"),
        "regularizer as number": ({"kernel_regularizer": 1e-4}, "kernel_regularizer=0.0001 is not a Keras regularizer"),
        "negative dropout": ({"dropout_rate": -0.1}, r"dropout_rate must be a number in \[0, 1\), got -0.1"),
        "dropout 1": ({"dropout_rate": 1.0}, r"dropout_rate must be a number in \[0, 1\), got 1.0"),
        "dropout as text": ({"dropout_rate": "0.5"}, r"dropout_rate must be a number in \[0, 1\), got '0.5'"),
        "drop path 1.5": ({"drop_path_rate": 1.5}, r"drop_path_rate must be a number in \[0, 1\), got 1.5"),
        "drop path nan": ({"drop_path_rate": nan}, r"drop_path_rate must be a number in \[0, 1\), got nan"),
        "dropout without top": (
            {"dropout_rate": 0.5, "include_top": False},
            "dropout_rate=0.5 was given with include_top=False, where it has no effect",
        ),
        "zero init as text": ({"zero_init_residual": "yes"}, "zero_init_residual must be True or False, got 'yes'"),
        "unknown pooling": ({"pooling": "foo", "include_top": False}, "pooling='foo' is not known.*None, 'avg', 'max'"),
        "pooling with top": ({"pooling": "avg"}, "pooling='avg' was given with include_top=True.*no effect"),
        "top as text": ({"include_top": "yes"}, "include_top must be True or False, got 'yes'"),
        "top as 1": ({"include_top": 1}, "include_top must be True or False, got 1"),
        "unknown activation": ({"classifier_activation": "nope"}, "classifier_activation='nope' is not a Keras activ"),
        "activation as number": ({"classifier_activation": 3}, "classifier_activation=3 is not a Keras activation"),
        "activation as lambda": (
            {"classifier_activation": lambda x: x},
            "classifier_activation is a lambda.*register_keras_serializable",
        ),
        "unknown weights": ({"weights": "nope"}, "weights='nope' is neither a tag nor a file of weights.*imagenet.tv2"),
        "empty weights": ({"weights": ""}, "weights='' is neither a tag"),
        "weights folder": ({"weights": "/"}, "weights='/' is not a file"),
        "weights as number": ({"weights": 3}, "weights must be None, a tag or a path, got 3"),
        "empty name": ({"name": ""}, "name='' cannot name a model"),
        "name as number": ({"name": 3}, "name must be a string or None, got 3"),
        "name with slash": ({"name": "a/b"}, "name='a/b' cannot name a model"),
        "unknown dtype": ({"dtype": "float17"}, "dtype='float17' is not a floating dtype policy.*'mixed_bfloat16'"),
        "integer dtype": ({"dtype": "int32"}, "dtype='int32' is not a floating dtype policy"),
        "dtype of another kind": ({"dtype": 32}, "dtype=32 is not a floating dtype policy"),
        "unknown data format": ({"data_format": "NCHW"}, "data_format='NCHW' is not known.*'channels_last'"),
        "array as input tensor": (
            {"input_tensor": np.zeros((1, 32, 32, 3))},
            "input_tensor must be a symbolic Keras tensor, got ndarray",
        ),
        "input tensor of another shape": (
            {"input_tensor": keras.Input((32, 32, 3)), "input_shape": (64, 64, 3)},
            r"input_shape=\(64, 64, 3\) was given with an input_tensor of shape \(32, 32, 3\)",
        ),
        "input tensor of integers": (
            {"input_tensor": keras.Input((32, 32, 3), dtype="uint8")},
            "input_tensor has dtype uint8.*preprocessing layer",
        ),
        "input tensor too small": (
            {"input_tensor": keras.Input((16, 16, 3))},
            "input_tensor=.* is too small: an input of 16x16",
        ),
        "unknown keyword": ({"foo": 1}, r"ResNet50\(\) got an unexpected keyword 'foo'.*Use one of"),
        "keyword misspelt": ({"clases": 10}, "unexpected keyword 'clases'. Did you mean 'classes'"),
    }


BAD_CALLS = _calls()
