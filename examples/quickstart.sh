#!/bin/sh
# Trains ResNet-18 on scikit-learn's handwritten digits, evaluates it, and predicts one image.
# `make quickstart` installs first and then runs this:  sh examples/quickstart.sh .venv/bin RUN
set -eu
bin=$1
run=$2

# --resume: run a second time, it goes on where the folder stands instead of refusing it.
"$bin/keras-resnet" train --data digits --model resnet18 --recipe quick --out "$run" --resume
"$bin/keras-resnet" evaluate "$run"

digit=$run-digit.png
"$bin/python" - "$digit" <<'PYTHON'
import sys

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

pixels = load_digits().images[0] * (255 / 16)
Image.fromarray(np.round(pixels).astype("uint8")).save(sys.argv[1])
PYTHON
echo
echo "The first digit of the set, a 0, predicted:"
"$bin/keras-resnet" predict "$run" "$digit" --top 3

echo
echo "The run folder is $run: run.json, history.csv, curves.png, confusion.png, best.keras and more."
