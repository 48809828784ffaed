"""The sizes at which TensorFlow's own gradients of volumes abort or are wrong, each in its own process."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the kernels are TensorFlow's", allow_module_level=True)

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = [(7, 2, (5, 5, 5), 16), (7, 2, (7, 7, 7), 16), (7, 2, (5, 3, 7), 16), (7, 2, (5, 1, 13), 16)]
CODE = """
import json, sys, tensorflow, keras_resnet
from benchmarks.gradient_sweep import outcome
print(json.dumps([outcome((w, s, tuple(sides), c)) for w, s, sides, c in json.loads(sys.argv[1])]))
"""


@pytest.mark.slow
def test_volumes_no_larger_than_the_window_have_the_gradients_of_float64():
    command = [sys.executable, "-c", CODE, json.dumps(CASES)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == ["right"] * len(CASES), done.stderr
