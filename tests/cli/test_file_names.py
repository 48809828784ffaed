"""Names of files that are no UTF-8, and terminals that cannot show every character."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_resnet import data, evaluation, training
from keras_resnet.data import BadImageError


def save(path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype("uint8")
    Image.fromarray(pixels).save(path)


@pytest.mark.slow
def test_a_name_that_is_no_utf_8_is_printed_escaped_whatever_the_terminal(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    save(path)
    command = [sys.executable, "-m", "keras_resnet", "predict", "resnet18:cifar10", path, "--top", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "caf\\udce9.png" in done.stdout


@pytest.mark.slow
def test_folders_of_such_names_are_trained_on_and_a_damaged_file_is_named(tmp_path):
    for name in (b"a", b"b"):
        folder = os.fsencode(tmp_path) + b"/photos/" + name
        os.makedirs(folder)
        for index in range(12):
            save(folder + b"/\xe9%d.png" % index)
    words = {"data.image_size": 16, "model.width": 2, "train.epochs": 1, "train.batch_size": 4}
    run = training.fit(
        "quick",
        model="resnet10",
        data=f"folder:{tmp_path / 'photos'}",
        out=tmp_path / "run",
        overrides=words,
        verbose=0,
    )
    assert evaluation.evaluate(run.path)["examples"] > 0
    with open(os.fsencode(tmp_path) + b"/photos/a/\xe9.png", "wb") as file:
        file.write(b"no image")
    with pytest.raises(BadImageError, match="\udce9.png"):
        data.load(f"folder:{tmp_path / 'photos'}")
    skipped = data.load(f"folder:{tmp_path / 'photos'}", on_bad_image="skip", max_skipped_fraction=0.2)
    assert sum(skipped.sizes.values()) == 24
