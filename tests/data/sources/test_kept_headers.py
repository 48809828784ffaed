"""Headers that are kept between two listings of a folder: the data are those of a listing without them."""

import os
import shutil

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402
from keras_resnet.data.sources import folder as folder_source  # noqa: E402


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(folder_source, "LEAST_KEPT", 1)
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (12, 10 + number, 3)).astype("uint8")
            encode = tf.io.encode_png if number % 2 else tf.io.encode_jpeg
            odd = "\udce9" * (number == 5)  # no UTF-8
            path = tmp_path / "set" / name / f"{number}{odd}.jpg"
            path.write_bytes(encode(pixels).numpy())
    return tmp_path / "set"


@pytest.fixture
def opened(monkeypatch):
    """The paths of files that were opened."""
    paths = []
    real = folder_source.inspect
    monkeypatch.setattr(folder_source, "inspect", lambda path, most: paths.append(path) or real(path, most))
    return paths


def load(folder, **options):
    return data.load(f"folder:{folder}", validation_fraction=0.25, test_fraction=0.25, **options)


def test_a_second_listing_opens_no_file_and_gives_the_same_data(folder, opened):
    first = load(folder)
    assert len(opened) == 16 and folder_source.listing_of(folder).is_file()
    opened.clear()
    again = load(folder)
    assert opened == [] and again.fingerprint == first.fingerprint and again.report == first.report
    for one, other in zip(*(found.batches("train", 4, image_size=8) for found in (first, again)), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    folder_source.listing_of(folder).unlink()
    assert load(folder).fingerprint == first.fingerprint


def test_files_that_changed_came_or_went_are_seen(folder, opened):
    load(folder)
    opened.clear()
    changed, new, gone = folder / "cat" / "0.jpg", folder / "cat" / "new.jpg", folder / "cat" / "1.jpg"
    status = changed.stat()
    changed.write_bytes(changed.read_bytes()[:-9])  # its time of change is set back: the size tells
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    shutil.copy(folder / "cat" / "2.jpg", new)
    gone.unlink()
    touched = folder / "cat" / "4.jpg"
    os.utime(touched, ns=(0, 1))
    with pytest.raises(data.BadImageError, match="0.jpg"):
        load(folder)
    assert sorted(opened) == sorted(map(str, (changed, new, touched)))
    changed.unlink()
    assert sum(load(folder).sizes.values()) == 15


def test_limits_hold_for_kept_headers_too(folder):
    load(folder)
    with pytest.raises(data.BadImageError, match="more than max_pixels=150"):
        load(folder, max_pixels=150)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and nothing more", "cut", "column"])
def test_a_listing_that_cannot_be_read_is_made_again(folder, opened, damage):
    first = load(folder)
    place = folder_source.listing_of(folder)
    if damage == "column":
        with np.load(place) as arrays:
            np.savez(place, **{**arrays, "formats": np.full(16, 77, "uint8")})
    else:
        place.write_bytes(place.read_bytes()[:-100] if damage == "cut" else damage)
    opened.clear()
    assert load(folder).fingerprint == first.fingerprint and len(opened) == 16


def test_without_room_for_the_listing_the_data_are_loaded_all_the_same(folder, tmp_path):
    (tmp_path / "home").write_text("a file where a folder is needed")
    assert sum(load(folder).sizes.values()) == 16
