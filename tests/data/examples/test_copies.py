"""Exact copies across splits and under two labels are reported at loading."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402
from keras_resnet.data.examples.encoded import EncodedExamples  # noqa: E402


def copies(dataset):
    return [line for line in dataset.report if line.startswith("copies:")]


@pytest.fixture(params=["arrays", "files of one size", "files of many sizes"])
def made(request, tmp_path):
    """The same examples in three forms: test[1] is train[0]; train[2] and train[5] are equal, of other classes."""
    rng = np.random.default_rng(0)
    many = request.param == "files of many sizes"
    pictures = [rng.integers(0, 256, (9 + (many and index % 3), 8, 3), "uint8") for index in range(12)]
    pictures[5], pictures[9] = pictures[2], pictures[0]
    if request.param == "arrays":
        x, y = np.stack(pictures), np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1])
        np.savez(tmp_path / "d.npz", x_train=x[:8], y_train=y[:8], x_test=x[8:], y_test=y[8:], class_names=["a", "b"])
        return f"npz:{tmp_path / 'd.npz'}"
    for index, picture in enumerate(pictures):
        split, label = ("train", "ab"[index // 4]) if index < 8 else ("test", "ab"[(index - 8) // 2])
        folder = tmp_path / split / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{index:02}.png")
    return f"folder:{tmp_path}"


def test_copies_across_splits_and_labels_are_named(made):
    across, conflicting = copies(data.load(made, validation_fraction=0))
    assert "1 examples stand in more than one split (1 in 'train', 1 in 'test')" in across
    assert "1 examples stand under more than one label" in conflicting
    assert "('a') and " in conflicting and "('b'); correct them" in conflicting
    if made.startswith("folder"):
        assert "00.png of 'train'" in across and "09.png of 'test'" in across
        assert "02.png of 'train' ('a')" in conflicting and "05.png of 'train' ('b')" in conflicting


def test_files_alike_in_size_and_end_are_compared_as_a_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), "uint8")
    other = pixels.copy()
    other[0, 0] ^= 1
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
    # Uncompressed bitmaps: the same size, and the same last bytes.
    for path, picture in (("train/a/1.bmp", pixels), ("test/a/1.bmp", other), ("train/b/1.bmp", pixels[::-1] // 2)):
        Image.fromarray(picture).save(tmp_path / path)
    Image.fromarray(255 - pixels).save(tmp_path / "test/b/1.bmp")
    assert copies(data.load(f"folder:{tmp_path}", validation_fraction=0)) == []


def test_a_file_of_many_names_is_a_copy_of_itself_and_read_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for split, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (tmp_path / split / name).mkdir(parents=True)
        picture = rng.integers(0, 256, (9 + len(name + split), 8, 3), "uint8")
        Image.fromarray(picture).save(tmp_path / split / name / "0.png")
    for number in range(1, 5):
        os.link(tmp_path / "train/a/0.png", tmp_path / f"train/a/{number}.png")
        os.symlink(tmp_path / "train/a/0.png", tmp_path / f"test/a/{number}.png")
    shutil.copy(tmp_path / "train/a/0.png", tmp_path / "test/b/1.png")
    read = []
    digest_of = EncodedExamples.digest_of
    monkeypatch.setattr(
        EncodedExamples, "digest_of", lambda self, index: read.append(self.name_of(index)) or digest_of(self, index)
    )
    across, conflicting = copies(data.load(f"folder:{tmp_path}", validation_fraction=0, in_memory_limit=0))
    assert "1 examples stand in more than one split" in across and "('b')" in conflicting
    assert [name.removeprefix(f"{tmp_path}/") for name in read] == ["train/a/0.png", "test/b/1.png"]


def test_the_digits_hold_no_copies():
    assert copies(data.load("digits")) == []


@pytest.mark.parametrize(
    ("shape", "rank", "expected"),
    [
        ((20, 28, 28), 2, (28, 28, 1)),
        ((20, 28, 28), 1, (28, 28)),
        ((20, 100, 3), None, (100, 3)),
        ((20, 100, 3), 2, (100, 3, 1)),
        ((20, 8, 8, 8), 3, (8, 8, 8, 1)),
        ((20, 8, 8, 8), 2, (8, 8, 8)),
        ((20, 12, 8, 6), 3, (12, 8, 6, 1)),
        ((20, 8, 8, 3), None, (8, 8, 3)),
        ((20, 4, 4), None, (4, 4)),
    ],
)
def test_the_rank_says_what_an_axis_is_for(tmp_path, shape, rank, expected):
    np.savez(tmp_path / "d.npz", x=np.zeros(shape, "uint8"), y=np.arange(20) % 2)
    dataset = data.load(f"npz:{tmp_path / 'd.npz'}", rank=rank)
    assert dataset.image_shape == expected
    kind = {1: "signals", 2: "pictures", 3: "volumes"}[len(expected) - 1]
    sizes = " x ".join(map(str, expected[:-1]))
    assert f"examples: {kind} of {sizes}, with {expected[-1]} channel" in dataset.report[0]


@pytest.mark.parametrize(
    ("shape", "rank", "message"),
    [
        (
            (20, 28, 28),
            None,
            "pictures without an axis for channels, or signals with 28 channels.*Pass rank=2.*data.rank",
        ),
        ((20, 9, 9, 9), None, "volumes without an axis for channels, or pictures with 9 channels.*Pass rank=3"),
        ((20, 48, 64), None, "pictures without an axis for channels, or signals with 64 channels.*Pass rank=2"),
        ((20, 24, 32, 32), None, "volumes without an axis for channels, or pictures with 32 channels.*Pass rank=3"),
        ((20, 3, 32, 32), None, "with 3 channels that stand before the other axes"),
        ((20, 9, 9, 3), 1, "rank=1 was given, for signals. Allowed are 3 axes, or 2 without channels"),
        ((20, 9, 9, 3), 4, "rank must be an int from 1 to 3"),
    ],
)
def test_a_shape_that_may_mean_two_things_is_refused(tmp_path, shape, rank, message):
    np.savez(tmp_path / "d.npz", x=np.zeros(shape, "uint8"), y=np.arange(20) % 2)
    with pytest.raises(ValueError, match=message):
        data.load(f"npz:{tmp_path / 'd.npz'}", rank=rank)


def test_a_recipe_says_the_rank(tmp_path):
    from keras_resnet import training

    np.savez(tmp_path / "d.npz", x=np.zeros((20, 8, 8), "uint8"), y=np.arange(20) % 2)
    words = {"data.rank": "2", "model.width": 2, "train.batch_size": 4}
    planned = training.fit("quick", model="resnet10", data=f"npz:{tmp_path / 'd.npz'}", overrides=words, dry_run=True)
    assert planned.model.input_shape == (None, 8, 8, 1)
    with pytest.raises(ValueError, match="rank=3 was given with spec='digits'.*Allowed is 2"):
        training.fit("quick", model="resnet10", overrides={"data.rank": 3}, dry_run=True)
