"""Files with bytes changed at random: examples, a recipe, or one error of one line; nothing else, never for long."""

import time

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from keras_resnet import data, training  # noqa: E402
from keras_resnet.errors import UserError  # noqa: E402
from tests.data import image_files  # noqa: E402

SECONDS = 40.0  # in all
PICTURE = np.arange(24 * 16 * 3, dtype="uint8").reshape(24, 16, 3)


def pictures():
    yield ".jpg", tf.io.encode_jpeg(PICTURE).numpy()
    yield ".png", tf.io.encode_png(PICTURE).numpy()
    for name, (make, *_) in image_files.ODD.items():
        yield f".{name.rpartition('.')[2]}", make()


def changed(content, rng):
    """Returns the bytes with a few of them changed, cut, or doubled."""
    made = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        # Headers stand at the beginning.
        place = int(rng.integers(len(made) if rng.random() < 0.3 else min(len(made), 200)))
        made[place] = rng.choice([0, 1, 255, int(rng.integers(256))])
    if rng.random() < 0.2:
        made = made[: rng.integers(len(made))]
    return bytes(made)


@pytest.mark.slow
def test_pictures_with_changed_bytes_are_pixels_or_one_line(tmp_path):
    rng, begun, tried, slowest = np.random.default_rng(0), time.monotonic(), 0, 0.0
    kinds = list(pictures())
    while time.monotonic() - begun < SECONDS / 2 and tried < 4000:
        suffix, content = kinds[tried % len(kinds)]
        path = tmp_path / f"p{suffix}"
        path.write_bytes(changed(content, rng))
        started = time.process_time()
        try:
            pixels = data.read_image(path)
            assert pixels.ndim == 3 and pixels.shape[-1] == 3
        except data.BadImageError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        tried, slowest = tried + 1, max(slowest, time.process_time() - started)
    print(f"{tried} pictures, the slowest {slowest:.2f} s")
    assert tried > 200 and slowest < 3


@pytest.mark.exhaustive
def test_arrays_and_recipes_with_changed_bytes_are_read_or_one_line(tmp_path):
    rng, begun, tried = np.random.default_rng(1), time.monotonic(), 0
    np.savez(tmp_path / "good.npz", x=np.zeros((12, 8, 8, 3), "uint8"), y=np.arange(12) % 3)
    arrays, recipe = (tmp_path / "good.npz").read_bytes(), training.Recipe.load("cifar").to_toml().encode()
    while time.monotonic() - begun < SECONDS / 2 and tried < 2000:
        try:
            if tried % 2:
                (tmp_path / "d.npz").write_bytes(changed(arrays, rng))
                data.load(f"npz:{tmp_path / 'd.npz'}")
            else:
                content = bytearray(recipe)
                for _ in range(3):
                    content[rng.integers(len(content))] = rng.integers(256)
                (tmp_path / "r.toml").write_bytes(content)
                training.Recipe.load(tmp_path / "r.toml")
        except UserError as error:
            assert "\n" not in str(error), error
        tried += 1
    print(f"{tried} files")
    assert tried > 100
