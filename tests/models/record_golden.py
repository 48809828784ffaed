"""Records what `test_zoo.py` compares with: names of weights, and logits on the TensorFlow backend.

    KERAS_BACKEND=tensorflow python -m tests.models.record_golden

Run it only after a change that is meant to rename weights or to change numbers: saved files hang on both.
"""

import json

import keras

from keras_resnet import models
from tests.models.test_zoo import GOLDEN, GOLDEN_WIDTHS, SMALL_NETS, logits_of

if __name__ == "__main__":
    for name, width in GOLDEN_WIDTHS.items():
        keras.utils.clear_session()
        model = models.build(name, width=width, kernel_initializer="zeros")
        lines = [f"{weight.path} {'x'.join(map(str, weight.shape))}" for weight in model.weights]
        (GOLDEN / f"{name}.txt").write_text("\n".join(lines) + "\n")
    logits = {net: [[round(float(x), 7) for x in row] for row in logits_of(net)] for net in SMALL_NETS}
    (GOLDEN / "logits.json").write_text(json.dumps(logits, indent=1) + "\n")
