"""What TensorFlow, TFDS and libjpeg write for their developers does not reach a user of the commands."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")
PIL = pytest.importorskip("PIL.Image")


def run(*words, cwd):
    program = pathlib.Path(sys.executable).with_name("keras-resnet")
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run([program, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.exhaustive
def test_training_on_volumes_writes_nothing_to_standard_error(tmp_path):
    images = np.random.default_rng(0).normal(size=(40, 8, 8, 8, 1)).astype("float32")
    np.savez(tmp_path / "volumes.npz", x=images, y=np.arange(40) % 2)
    still = [f"--set=augment.{name}=0" for name in ("rotation", "zoom", "translation")]
    words = ["--data", "npz:volumes.npz", "--epochs", "1", "--batch-size", "8", "--set=model.width=4", *still]
    done = run("train", *words, "--out", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("export", "run", "--format", "litert", "--quantize", "float16", "--out", "net.tflite", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_cut_jpeg_is_one_sentence(tmp_path):
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(8):
            pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3)).astype("uint8")
            PIL.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.jpg")
    cut = tmp_path / "photos" / "a" / "3.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    done = run("train", "--data", "folder:photos", "--set=data.image_size=32", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"{cut} (its JPEG data are truncated or damaged)" in done.stderr
