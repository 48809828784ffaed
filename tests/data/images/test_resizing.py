"""The crops of the ImageNet papers, against Pillow, and the decoding of a crop alone."""

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402
from keras_resnet.data.images import resizing  # noqa: E402
from keras_resnet.data.images.decoding import decode  # noqa: E402
from tests.data import image_files  # noqa: E402


def photograph(height: int, width: int) -> Image.Image:
    """Waves without sharp edges, so that half a pixel of shift changes little."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [np.sin(rows / 23), np.cos(columns / 31), np.sin((rows + columns) / 41)]
    return Image.fromarray((127.5 + 120 * np.stack(channels, axis=-1)).astype("uint8"))


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (256, 256), (100, 350)])
def test_the_evaluation_crop_is_pillows_resize_and_center(height, width):
    image = photograph(height, width)
    scale = 256 / min(height, width)
    resized = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)), "float32")
    found = resizing.resize_for_evaluation(np.asarray(image), 224).numpy()
    assert found.shape == (224, 224, 3)
    # Half an input pixel of these waves is a difference of about 3 in 255, enlarged by the short sides.
    assert np.abs(found - expected).mean() < 3


def test_batches_and_single_images_are_cropped_alike():
    image = np.asarray(photograph(60, 90))
    batch = resizing.resize_for_evaluation(np.stack([image, image]), (32, 48))
    np.testing.assert_array_equal(batch[1], resizing.resize_for_evaluation(image, (32, 48)))


@pytest.mark.parametrize(
    "bad", [{"image_size": 0}, {"image_size": 8, "crop_fraction": 0.0}, {"image_size": 8, "crop_fraction": 2}]
)
def test_bad_sizes_are_refused(bad):
    with pytest.raises(ValueError, match="image_size|crop_fraction"):
        resizing.resize_for_evaluation(np.zeros((9, 9, 3)), **bad)


def test_random_windows_keep_to_scale_and_ratio_and_cover_both():
    height, width = 400, 500
    windows = np.array([resizing.random_window(height, width, [3, index]) for index in range(400)])
    top, left, rows, columns = windows.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + rows <= height).all() and (left + columns <= width).all()
    scale, ratio = rows * columns / (height * width), columns / rows
    # A window of whole pixels misses the bounds by at most about a pixel in 100.
    assert scale.min() > 0.08 * 0.97 and scale.max() <= 1
    assert ratio.min() > 3 / 4 * 0.97 and ratio.max() < 4 / 3 * 1.03
    assert scale.min() < 0.15 and scale.max() > 0.85 and ratio.min() < 0.8 and ratio.max() > 1.25
    # The centers are spread over the image and not drawn to one side.
    assert abs((top + rows / 2).mean() / height - 0.5) < 0.05


def test_a_window_is_a_function_of_its_seed():
    first, again, other = (np.array(resizing.random_window(90, 70, [1, seed])) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_window_fits_images_of_any_shape():
    for height, width in ((1, 1), (1, 300), (300, 1), (3, 2)):
        top, left, rows, columns = (int(value) for value in resizing.random_window(height, width, [1, 2]))
        assert rows >= 1 and columns >= 1 and top + rows <= height and left + columns <= width


@pytest.mark.parametrize("name", ["plain.jpg", "grey.jpg", "progressive.jpg", "cmyk.jpg", "plain.png", "animated.gif"])
def test_decoding_a_window_is_cutting_the_decoded_image(name):
    content = image_files.ODD[name][0]()
    whole = decode(tf.constant(content)).numpy()
    for top, left, height, width in ((0, 0, 64, 48), (5, 9, 33, 21), (40, 30, 24, 18)):
        window = decode(tf.constant(content), 1, lambda h, w, box=(top, left, height, width): box).numpy()
        expected = whole[top : top + height, left : left + width]
        inside = (slice(1, -1), slice(1, -1))
        # libjpeg interpolates color between blocks; at the rim of a window it lacks the neighbors.
        np.testing.assert_array_equal(window[inside], expected[inside])
        assert np.abs(window.astype(int) - expected).max() < 12


@pytest.mark.parametrize("crop", ["random", "center", "none"])
def test_images_of_many_sizes_are_batched_at_one_size(tmp_path, crop):
    image_files.class_folders(tmp_path, per_class=9)
    for index, (height, width) in enumerate([(30, 50), (64, 20), (9, 9)]):
        photograph(height, width).save(tmp_path / "cat" / f"odd{index}.jpg")
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.image_shape == (None, None, 3)
    images, _ = next(iter(dataset.training_batches(8, seed=0, image_size=(16, 24), crop=crop)))
    assert images.shape == (8, 16, 24, 3) and images.dtype == tf.float32
    total = sum(len(labels) for _, labels in dataset.batches("train", 5, image_size=16))
    assert total == dataset.sizes["train"]
    with pytest.raises(ValueError, match="differ in size"):
        dataset.training_batches(8, seed=0)
    with pytest.raises(ValueError, match="differ in size"):
        dataset.arrays("train")


def test_random_crops_differ_from_epoch_to_epoch_and_repeat_with_the_seed(tmp_path):
    image_files.class_folders(tmp_path, per_class=9)
    for folder in ("cat", "dog"):
        for path in (tmp_path / folder).iterdir():
            photograph(40, 60).save(path)
    dataset = data.load(f"folder:{tmp_path}", in_memory_limit=0)

    def images(seed, start):
        return next(iter(dataset.training_batches(14, seed=seed, start_step=start, image_size=16, crop="random")))[
            0
        ].numpy()

    np.testing.assert_array_equal(images(1, 0), images(1, 0))
    assert np.abs(images(1, 0) - images(1, 1)).max() > 1
    assert len({image.tobytes() for image in images(1, 0)}) == 14


def test_training_filters_where_it_shrinks_much_and_evaluation_wherever_it_shrinks():
    stripes = np.zeros((64, 64, 3), "uint8")
    stripes[:, ::2] = 255

    def contrast(shrunk_to, above):
        # Stripes of one pixel must turn gray; without a filter they turn into false stripes.
        return float(np.std(resizing.resize(stripes, (64, shrunk_to), above)[8:-8, 4:-4]))

    assert contrast(21, 2.0) < 15 < contrast(40, 2.0)
    assert contrast(40, 1.0) < 60 < contrast(40, 2.0)
    np.testing.assert_array_equal(resizing.resize(stripes, (64, 90), 1.0), tf.image.resize(stripes, (64, 90)))


def torchvisions_window(height, width, rng):
    """`RandomResizedCrop.get_params` of torchvision, by hand."""
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(("height", "width"), [(375, 500), (64, 64), (300, 900), (20, 400), (7, 5)])
def test_random_windows_are_distributed_as_torchvisions(height, width):
    count = 4000
    rng = np.random.default_rng(0)
    expected = np.array([torchvisions_window(height, width, rng) for _ in range(count)], float)
    compute = tf.function(
        lambda: tf.map_fn(
            lambda seed: tf.stack(resizing.random_window(tf.constant(height), tf.constant(width), [7, seed])),
            tf.range(count, dtype=tf.int64),
            fn_output_signature=tf.int32,
        )
    )
    found = compute().numpy().astype(float)

    def figures(windows):
        top, left, rows, columns = windows.T
        edges = [top == 0, left == 0, top + rows == height, left + columns == width]
        free = np.maximum(height - rows, 1), np.maximum(width - columns, 1)
        return [rows * columns / (height * width), np.log(columns / rows), top / free[0], left / free[1], *edges]

    assert (found >= 0).all() and (found[:, 0] + found[:, 2] <= height).all()
    assert (found[:, 2:] >= 1).all() and (found[:, 1] + found[:, 3] <= width).all()
    for ours, theirs in zip(figures(found), figures(expected), strict=True):
        spread = max(np.std(ours), np.std(theirs))
        assert abs(np.mean(ours) - np.mean(theirs)) <= 5 * spread * np.sqrt(2 / count) + 1e-6
        # Kolmogorov-Smirnov, at a level of one in a hundred thousand.
        places = np.sort(np.concatenate([ours, theirs]))
        gap = [np.searchsorted(np.sort(values), places, "right") / count for values in (ours, theirs)]
        assert np.abs(gap[0] - gap[1]).max() < 2.47 * np.sqrt(2 / count)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_cubic_weights_do_not_leave_the_range(dtype):
    rng = np.random.default_rng(0)
    image = (rng.integers(0, 2, (9, 9, 3)) * 255).astype(dtype)
    for size in (5, 20):
        found = resizing.resize_for_evaluation(image, size, None, "bicubic").numpy()
        assert found.min() >= 0 and found.max() <= 255
        inside = resizing.resize_for_evaluation(image // 4 + 96, size, None, "bicubic").numpy()
        raw = tf.image.resize(image // 4 + 96, (size, size), "bicubic", antialias=size < 9).numpy()
        assert np.array_equal(inside, np.clip(raw, *((0, 255) if dtype == "uint8" else (96, 159))))
