"""JPEG files decoded at 1/2, 1/4 or 1/8 for training: the same window, by Pillow and by full decoding."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import data
from keras_resnet.data.images.decoding import decode

HEIGHT, WIDTH = 480, 640


def ramps():
    """Red rises from left to right, green from top to bottom, blue along the diagonal: a shift changes every pixel."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green = columns * 255 / (WIDTH - 1), rows * 255 / (HEIGHT - 1)
    return Image.fromarray(np.stack([red, green, (red + green) / 2], -1).round().astype("uint8"))


def jpeg(orientation=1, mode="RGB", **options):
    """The ramps as a camera would write them: stored so that the orientation turns them upright."""
    stored = ramps()
    undo = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # of Image.Transpose
    for method in undo.get(orientation, []):
        stored = stored.transpose(Image.Transpose(method))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.convert(mode).save(file, "JPEG", quality=95, exif=exif, **options)
    return file.getvalue()


def resized(image, size):
    return tf.image.resize(image, size, antialias=True).numpy()


WINDOW = (37, 91, 403, 517)  # of no multiple of 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side, ratio", [(150, 1), (100, 2), (48, 4), (25, 8), (6, 8)])
def test_the_window_is_that_of_full_decoding_to_a_quarter_of_a_pixel(orientation, side, ratio):
    contents, size = jpeg(orientation), (side, side)
    image = decode(contents, orientation, lambda height, width: WINDOW, scaled_for=size).numpy()
    top, left, height, width = WINDOW
    assert np.abs(np.array(image.shape[:2]) - np.array([height, width]) / ratio).max() <= 1
    whole = decode(contents, orientation).numpy()
    np.testing.assert_allclose(whole, ramps(), atol=3)
    wanted = resized(whole[top : top + height, left : left + width], size)
    step = np.abs(np.diff(wanted, axis=1)).max() if ratio > 1 else 0  # of one pixel of the result
    np.testing.assert_allclose(resized(image, size), wanted, atol=step / 4 + 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_at_full_size_the_window_alone_is_decoded_whatever_the_orientation(orientation):
    contents = jpeg(orientation, subsampling=0)
    top, left, height, width = WINDOW
    whole = decode(contents, orientation)[top : top + height, left : left + width]
    np.testing.assert_array_equal(decode(contents, orientation, lambda *_: WINDOW), whole)


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_the_pixels_are_those_of_pillow(ratio):
    draw = np.random.default_rng(0)
    picture = Image.fromarray(draw.integers(0, 256, (60, 80, 3), dtype="uint8")).resize((WIDTH, HEIGHT))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    drafted = Image.open(io.BytesIO(file.getvalue()))
    drafted.draft("RGB", (WIDTH // ratio, HEIGHT // ratio))
    assert drafted.size == (WIDTH // ratio, HEIGHT // ratio)
    top, left, height, width = 96, 64, 320, 480
    size = (height // ratio // 2, width // ratio // 2)
    image = decode(file.getvalue(), 1, lambda *_: (top, left, height, width), scaled_for=size).numpy()
    wanted = np.asarray(drafted)[top // ratio :, left // ratio :][: height // ratio, : width // ratio]
    assert image.shape == wanted.shape
    # Pixels at the border of a window may differ where chroma is halved.
    assert np.abs(image.astype(int) - wanted)[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize(
    "contents",
    [jpeg(progressive=True), jpeg(subsampling=0), jpeg(subsampling=2), jpeg(mode="L"), jpeg(mode="CMYK")],
    ids=["progressive", "4:4:4", "4:2:0", "gray", "CMYK"],
)
def test_every_kind_of_jpeg_is_decoded_at_a_scale(contents):
    size = (40, 40)
    image = decode(contents, 1, lambda *_: WINDOW, scaled_for=size)
    assert image.shape[0] < WINDOW[2] / 3
    top, left, height, width = WINDOW
    whole = decode(contents, 1)[top : top + height, left : left + width]
    np.testing.assert_allclose(resized(image, size), resized(whole, size), atol=4)


@pytest.fixture
def folder(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(4):
            (tmp_path / label / f"{index}.jpg").write_bytes(jpeg(1 + 5 * (index % 2)))
            png = ramps().resize((WIDTH // 2 + index, HEIGHT))
            png.save(tmp_path / label / f"{index}.png")
    options = {"validation_fraction": 0.25, "test_fraction": 0.0, "in_memory_limit": 0}
    return data.load(f"folder:{tmp_path}", **options)


@pytest.mark.parametrize("crop", ["random", "center", "none"])
def test_training_sees_the_same_crops(folder, crop):
    options = {"seed": 3, "image_size": 32, "crop": crop}
    batches = {
        decoding: next(iter(folder.training_batches(8, decode=decoding, **options))) for decoding in ("full", "scaled")
    }
    (full, labels), (scaled, same_labels) = batches["full"], batches["scaled"]
    np.testing.assert_array_equal(labels, same_labels)
    difference = np.abs(full.numpy() - scaled.numpy())
    assert 0 < difference.max() < 8


def test_an_unknown_decoding_says_which_there_are(folder):
    with pytest.raises(ValueError, match=r"decode='half' .*full.*scaled"):
        folder.training_batches(2, seed=0, image_size=32, decode="half")
