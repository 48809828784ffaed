"""Pillow's own pixels, to the last bit, on sizes that divide nothing."""

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

from keras_resnet import data, models  # noqa: E402
from keras_resnet.data import resize_for_evaluation  # noqa: E402
from keras_resnet.data.images import pillow  # noqa: E402
from keras_resnet.export.formats import Served  # noqa: E402
from keras_resnet.preprocessing import InputRecord  # noqa: E402

KERNELS = {"pil-bilinear": Image.Resampling.BILINEAR, "pil-bicubic": Image.Resampling.BICUBIC}


def by_pillow(pixels, size, interpolation):
    """Columns, then rows: each is one pass, whose order no version of Pillow chooses."""
    image = Image.fromarray(pixels).resize((size[1], pixels.shape[0]), KERNELS[interpolation])
    return np.asarray(image.resize((size[1], size[0]), KERNELS[interpolation]))


def by_timm(pixels, side, fraction, interpolation):
    """torchvision's Resize of the shorter side and CenterCrop, in the numbers of timm."""
    height, width = pixels.shape[:2]
    short = int(np.floor(side / fraction))
    size = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
    top, left = (int(round((full - side) / 2.0)) for full in size)
    return by_pillow(pixels, size, interpolation)[top : top + side, left : left + side]


def pictures(count, most=400, channels=3):
    draw = np.random.default_rng(7)
    for number in range(count):
        height, width = draw.integers(1, most, 2)
        pixels = draw.integers(0, 256, (height, width, channels)).astype("uint8")
        yield np.where(pixels > 127, 255, 0).astype("uint8") if number % 3 == 0 else pixels


@pytest.mark.parametrize("interpolation", KERNELS)
def test_pictures_of_odd_sizes_have_the_pixels_of_pillow(interpolation):
    spec = [tf.TensorSpec((None, None, 3), tf.uint8)]
    sizes = [(224, 224), (31, 57), (1, 1), (300, 33)]
    resized = {
        size: tf.function(lambda image, size=size: pillow.resize(image, size, interpolation), input_signature=spec)
        for size in sizes
    }
    for number, pixels in enumerate(pictures(200, most=250)):
        size = sizes[number % len(sizes)]
        outputs = resized[size](pixels).numpy()
        assert outputs.dtype == "float32"
        np.testing.assert_array_equal(outputs, by_pillow(pixels, size, interpolation))


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("fraction", [0.875, 0.95, 1.0])
def test_evaluation_shows_what_timm_shows(interpolation, fraction):
    spec = [tf.TensorSpec((None, None, 3), tf.uint8)]
    evaluated = tf.function(
        lambda image: resize_for_evaluation(image, 64, fraction, interpolation), input_signature=spec
    )
    for pixels in pictures(34):
        expected = by_timm(pixels, 64, fraction, interpolation)
        np.testing.assert_array_equal(evaluated(pixels).numpy(), expected)


def test_a_batch_is_resized_as_its_pictures_are():
    batch = np.random.default_rng(0).integers(0, 256, (5, 40, 52, 1)).astype("uint8")
    together = resize_for_evaluation(batch, (24, 32), 0.9, "pil-bicubic")
    for picture, output in zip(batch, together, strict=True):
        np.testing.assert_array_equal(output, resize_for_evaluation(picture, (24, 32), 0.9, "pil-bicubic"))


@pytest.mark.parametrize("interpolation", [*KERNELS, "bilinear"])
def test_every_way_to_an_image_gives_these_pixels(tmp_path, interpolation):
    for number, pixels in enumerate(pictures(12, most=200)):
        place = tmp_path / "photos" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:02}.{'png' if number % 3 else 'jpg'}")
    record = InputRecord(24, 0.8, interpolation, class_names=("a", "b"), task="classification")
    model = models.build("resnet10", input_shape=(24, 24, 3), stem="small", width=4, classes=2)
    served = Served(model, record, tmp_path, {})
    dataset = data.load(f"folder:{tmp_path / 'photos'}", validation_fraction=0, test_fraction=0)
    options = {"image_size": 24, "crop": "center", "crop_fraction": 0.8, "interpolation": interpolation}
    batched = np.concatenate([images for images, _ in dataset.batches("train", 5, **options)])
    paths = sorted(path for path in (tmp_path / "photos").rglob("*.*"))
    assert len(batched) == len(paths) == 12
    for path, row in zip(paths, batched, strict=True):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        is_exact = interpolation in KERNELS
        expected = by_timm(pixels, 24, 0.8, interpolation) if is_exact else data.read_for_network(path, record)
        np.testing.assert_array_equal(data.read_for_network(path, record), expected)
        if is_exact or path.suffix == ".png":  # of a JPEG that is cut as it is decoded the border has other colors
            np.testing.assert_allclose(row, expected, atol=0 if is_exact else 1e-3)
        served_pixels = served.picture(tf.constant(path.read_bytes()))
        np.testing.assert_allclose(served_pixels, expected, atol=0 if is_exact else 1e-3)


def test_arrays_are_cut_after_they_are_resized(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (7, 24, 24, 3)).astype("uint8")
    labels = np.arange(7) % 2
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    dataset = data.load(f"npz:{tmp_path / 'data.npz'}", validation_fraction=0)
    options = {"image_size": 24, "crop": "center", "crop_fraction": 0.8, "interpolation": "pil-bicubic"}
    batched = np.concatenate([batch for batch, _ in dataset.batches("train", 4, **options)])
    expected = [by_timm(image, 24, 0.8, "pil-bicubic") for image in images]
    np.testing.assert_array_equal(batched, expected)
