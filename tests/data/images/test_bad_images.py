"""Bad image files: each is refused with its name, before training and in little memory; odd ones read right."""

import os
import resource

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402
from tests.data import image_files  # noqa: E402


def write(path, content):
    path.write_bytes(content)
    return path


import tensorflow as tf  # noqa: E402

READS_WEBP = hasattr(tf.io, "decode_webp")


def needs_webp(name):
    """Marks the names of files that TensorFlow 2.19 cannot read."""
    mark = pytest.mark.skipif(not READS_WEBP, reason="TensorFlow reads WebP from 2.20 on")
    return pytest.param(name, marks=mark) if "webp" in name else name


@pytest.mark.skipif(READS_WEBP, reason="this TensorFlow reads WebP")
def test_an_older_tensorflow_that_cannot_read_webp_says_so(tmp_path):
    path = write(tmp_path / "a.webp", image_files.ODD["lossy.webp"][0]())
    with pytest.raises(data.BadImageError, match="TensorFlow 2.20"):
        data.read_image(path)


@pytest.mark.parametrize("name", image_files.BAD)
def test_a_bad_file_is_refused_by_name(tmp_path, name):
    content, reason = image_files.BAD[name]
    path = write(tmp_path / name, content())
    with pytest.raises(data.BadImageError) as caught:
        data.read_image(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert caught.value.files[0][0] == str(path)


@pytest.mark.parametrize("name", image_files.BAD_INSIDE)
def test_a_file_damaged_inside_is_refused_by_name(tmp_path, name):
    path = write(tmp_path / name, image_files.BAD_INSIDE[name]())
    with pytest.raises(data.BadImageError, match=name):
        data.read_image(path)


def test_all_bad_files_in_a_folder_are_named_at_once(tmp_path):
    image_files.class_folders(tmp_path)
    names = sorted({**image_files.BAD, **image_files.BAD_INSIDE})
    for name in names:
        content = image_files.BAD_INSIDE.get(name) or image_files.BAD[name][0]
        write(tmp_path / "cat" / f"bad_{name}", content())
    with pytest.raises(data.BadImageError) as caught:
        data.load(f"folder:{tmp_path}")
    seen = {os.path.basename(path) for path, _ in caught.value.files}
    assert seen == {f"bad_{name}" for name in image_files.BAD}  # those damaged inside come up when they are decoded
    assert f"{len(image_files.BAD)} of {len(names) + 16} image files" in str(caught.value)


def test_skipped_files_are_listed_with_their_reasons(tmp_path):
    image_files.class_folders(tmp_path, per_class=20)
    write(tmp_path / "cat" / "bad.jpg", b"")
    write(tmp_path / "dog" / "worse.jpg", b"no picture")
    dataset = data.load(f"folder:{tmp_path}", on_bad_image="skip", max_skipped_fraction=0.1)
    assert sum(dataset.sizes.values()) == 40
    assert "skipped 2 of 42 image files" in dataset.report
    assert f"skipped {tmp_path}/cat/bad.jpg: the file is empty" in dataset.report
    with pytest.raises(data.BadImageError, match="max_skipped_fraction=0.01"):
        data.load(f"folder:{tmp_path}", on_bad_image="skip")


def test_a_class_of_which_every_file_is_bad_is_an_error_though_bad_files_are_skipped(tmp_path):
    image_files.class_folders(tmp_path, per_class=20)
    (tmp_path / "eel").mkdir()
    write(tmp_path / "eel" / "bad.jpg", b"")
    with pytest.raises(data.BadImageError, match=r"No image of the classes \['eel'\]"):
        data.load(f"folder:{tmp_path}", on_bad_image="skip", max_skipped_fraction=0.5)


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_damage_inside_is_found_when_the_set_is_decoded_into_memory(tmp_path, policy):
    image_files.class_folders(tmp_path, per_class=20)
    bad = write(tmp_path / "cat" / "bad.png", image_files.png(10, 12, data=b"\0" * 7))
    options = {"on_bad_image": policy, "max_skipped_fraction": 0.5, "test_fraction": 0.2}
    if policy == "error":
        with pytest.raises(data.BadImageError, match=str(bad)):
            data.load(f"folder:{tmp_path}", **options)
    else:
        dataset = data.load(f"folder:{tmp_path}", **options)
        assert sum(dataset.sizes.values()) == 40
        assert any(line.startswith(f"skipped {bad}") for line in dataset.report)


def test_damage_that_comes_up_in_a_pipeline_is_named(tmp_path):
    tf = pytest.importorskip("tensorflow")
    image_files.class_folders(tmp_path, per_class=20)
    bad = write(tmp_path / "cat" / "bad.png", image_files.png(10, 12, data=b"\0" * 7))
    dataset = data.load(f"folder:{tmp_path}", in_memory_limit=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="IteratorGetNext"):
        exhaust(dataset)
    with pytest.raises(data.BadImageError, match=str(bad)), data.explain_decode_errors(dataset):
        exhaust(dataset)


@pytest.mark.parametrize("change", ["deleted", "emptied", "resized"])
def test_a_file_that_changes_during_training_is_named(tmp_path, change):
    image_files.class_folders(tmp_path, per_class=20)
    dataset = data.load(f"folder:{tmp_path}", in_memory_limit=0)
    path = tmp_path / "dog" / "007.png"
    if change == "deleted":
        path.unlink()
    elif change == "emptied":
        path.write_bytes(b"")
    else:
        Image.new("RGB", (5, 5)).save(path)
    with pytest.raises(data.BadImageError, match=str(path)), data.explain_decode_errors(dataset):
        exhaust(dataset)


def test_errors_of_another_origin_pass_unchanged(tmp_path):
    tf = pytest.importorskip("tensorflow")
    dataset = data.load("digits")
    with pytest.raises(tf.errors.InvalidArgumentError, match="mine"), data.explain_decode_errors(dataset):
        raise tf.errors.InvalidArgumentError(None, None, "mine")
    with pytest.raises(KeyError), data.explain_decode_errors(dataset):
        raise KeyError("mine")


def test_bombs_are_refused_by_their_header_in_little_memory(tmp_path):
    for name in image_files.BAD:
        if not name.startswith("bomb"):
            continue
        path = write(tmp_path / name, image_files.BAD[name][0]())
        with pytest.raises(data.BadImageError):  # whatever is loaded at the first call does not count
            data.read_image(path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(data.BadImageError, match="max_pixels=64000000"):
            data.read_image(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_the_limit_of_pixels_is_the_users(tmp_path):
    path = write(tmp_path / "a.png", image_files.encoded("png"))
    assert data.read_image(path, max_pixels=64 * 48).shape == (64, 48, 3)
    with pytest.raises(data.BadImageError, match="48 x 64 pixels, more than max_pixels=3071"):
        data.read_image(path, max_pixels=64 * 48 - 1)


@pytest.mark.parametrize("name", [needs_webp(name) for name in image_files.ODD])
def test_an_odd_file_reads_as_the_picture_it_is(tmp_path, name):
    content, expected = image_files.ODD[name]
    image = data.read_image(write(tmp_path / name, content()))
    reference = np.asarray(expected().convert("RGB"), "float32")
    assert image.dtype == ("float32" if name == "sixteen_bit.png" else "uint8") and image.shape == reference.shape
    assert abs(image.mean() - reference.mean()) < 2
    # Position by position too: lossy formats and palettes move a value by a few steps, a wrong picture by many.
    assert np.abs(image - reference).mean() < 6


@pytest.mark.parametrize("name", ["plain.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", needs_webp("lossy.webp")])
def test_lossy_files_decode_to_pillows_pixels(tmp_path, name):
    path = write(tmp_path / name, image_files.ODD[name][0]())
    reference = np.asarray(Image.open(path).convert("RGB"), "int32")
    # One step of rounding in the color transform is all that two builds of the same decoders may differ by.
    assert np.abs(data.read_image(path) - reference).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_unless_it_is_declined(tmp_path, orientation):
    from PIL import ImageOps

    path = write(tmp_path / "a.jpg", image_files.with_orientation(orientation))
    stored, upright = Image.open(path), ImageOps.exif_transpose(Image.open(path))
    np.testing.assert_allclose(data.read_image(path), np.asarray(upright), atol=1)
    np.testing.assert_allclose(data.read_image(path, apply_exif=False), np.asarray(stored), atol=1)


def test_animated_and_turned_files_are_counted_in_the_report(tmp_path):
    image_files.class_folders(tmp_path, per_class=20)
    write(tmp_path / "cat" / "film.gif", image_files.frames("gif"))
    write(tmp_path / "cat" / "turned.jpg", image_files.with_orientation(6))
    dataset = data.load(f"folder:{tmp_path}")
    assert "1 animated files: their first frame is read" in dataset.report
    assert "1 photographs have an EXIF orientation and are turned upright by it" in dataset.report
    assert dataset.image_shape == (None, None, 3)
    turned = data.load(f"folder:{tmp_path}", apply_exif=False)
    assert "1 photographs have an EXIF orientation and are read as stored (apply_exif=False)" in turned.report
    assert turned.fingerprint != dataset.fingerprint


def test_bytes_zeroed_inside_a_jpeg_are_found_by_the_manifest_alone(tmp_path):
    image_files.class_folders(tmp_path, per_class=20)
    path = write(tmp_path / "cat" / "photo.jpg", image_files.encoded("jpeg", image_files.noise()))
    manifest = data.write_manifest(tmp_path)
    data.load(f"folder:{tmp_path}", manifest=manifest)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(content)
    assert data.read_image(path).shape == (64, 48, 3)  # decodes, with wrong pixels
    data.load(f"folder:{tmp_path}")
    with pytest.raises(data.BadImageError, match=r"photo\.jpg \(its sha256 is") as caught:
        data.load(f"folder:{tmp_path}", manifest=manifest)
    assert len(caught.value.files) == 1


def test_the_manifest_names_missing_and_unknown_files(tmp_path):
    image_files.class_folders(tmp_path, per_class=20)
    manifest = data.write_manifest(tmp_path, tmp_path / "sums.txt")
    (tmp_path / "cat" / "003.png").rename(tmp_path / "cat" / "new.png")
    with pytest.raises(data.BadImageError, match=r"new\.png \(not in .*003\.png \(missing"):
        data.load(f"folder:{tmp_path}", manifest=manifest)
    manifest.write_text("nonsense\n")
    with pytest.raises(ValueError, match="manifest=.*cannot be read"):
        data.load(f"folder:{tmp_path}", manifest=manifest)


def exhaust(dataset):
    for split in dataset.sizes:
        for _ in dataset.batches(split, 7):
            pass
