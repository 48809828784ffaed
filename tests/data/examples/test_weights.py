"""Weights of examples: each stays with its example on every way from the source to a batch."""

import csv

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from keras_resnet import data, preprocessing  # noqa: E402
from tests import harness  # noqa: E402

COUNT = 60


def weight_of(number):
    return 0.5 + number


def pixels(number, shape=(8, 8, 3)):
    """Returns a picture whose every pixel is its number."""
    return np.full(shape, number, "uint8")


def write_rows(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def pictures(tmp_path):
    for number in range(COUNT):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(path)
    return tmp_path


def as_table(folder):
    rows = [
        (f"photos/{'ab'[number % 2]}/{number:02d}.png", "ab"[number % 2], weight_of(number)) for number in range(COUNT)
    ]
    write_rows(folder / "table.csv", [("path", "label", "weight"), *rows])
    return f"csv:{folder / 'table.csv'}"


def as_folder(folder):
    rows = [(f"{'ab'[number % 2]}/{number:02d}.png", weight_of(number)) for number in range(COUNT)]
    write_rows(folder / "photos" / "weights.csv", [("path", "weight"), *rows])
    return f"folder:{folder / 'photos'}"


def as_arrays(folder):
    arrays = {"x": np.stack([pixels(number) for number in range(COUNT)]), "y": np.arange(COUNT) % 2}
    np.savez(folder / "arrays.npz", **arrays, w=[weight_of(number) for number in range(COUNT)])
    return f"npz:{folder / 'arrays.npz'}"


SOURCES = {"table": as_table, "folder": as_folder, "arrays": as_arrays}


def check(dataset, images, weights, split="train"):
    """Checks that each weight is that of the number in the picture, as a multiple of the split's mean."""
    own = dataset.weights_of(split)
    numbers = [int(image.flat[0]) for images, *_ in dataset.batches(split, 64) for image in np.asarray(images)]
    mean = np.mean([weight_of(number) for number in numbers])
    assert own.mean() == pytest.approx(1.0, rel=1e-5)
    found = [int(round(float(np.asarray(image).flat[0]))) for image in np.asarray(images)]
    np.testing.assert_allclose(weights, [weight_of(number) / mean for number in found], rtol=1e-5)


@pytest.mark.parametrize("limit", [2**30, 1], ids=["held", "as files"])
@pytest.mark.parametrize("source", harness.tiers(SOURCES, ["arrays"], ["table", "folder"]))
def test_every_batch_has_the_weights_of_its_examples(pictures, source, limit):
    dataset = data.load(SOURCES[source](pictures), in_memory_limit=limit)
    assert any(line.startswith("weights: ") and "from 0.5 to 59.5" in line for line in dataset.report)
    flip = preprocessing.augmentation(flip=True)
    for words in ({}, {"start_step": 5}, {"repeats": 2}, {"balance": 1.0}, {"augmentation": flip}):
        for images, _, weights in dataset.training_batches(8, seed=1, **words).take(9):
            check(dataset, images, weights)
    for split in ("train", "validation", "test", "all"):
        parts = list(dataset.batches(split, 7))
        images, _, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
        assert len(images) == dataset.size_of(split)
        check(dataset, images, weights, split)
        np.testing.assert_array_equal(weights, dataset.weights_of(split))


@pytest.mark.parametrize("words", [{}, {"augmentation": True}], ids=["plain", "augmented"])
def test_parts_of_processes_have_the_weights_of_the_whole(pictures, words):
    dataset = data.load(as_arrays(pictures))
    if words:
        words = {"augmentation": preprocessing.augmentation(flip=True)}
    whole = [np.asarray(batch[2]) for batch in dataset.training_batches(8, seed=1, **words).take(9)]
    parts = [dataset.training_batches(8, seed=1, shard=(index, 2), **words).take(9) for index in range(2)]
    together = [np.concatenate([np.asarray(batch[2]) for batch in both]) for both in zip(*parts, strict=True)]
    np.testing.assert_array_equal(together, whole)
    for images, _, weights in dataset.batches("train", 7, shard=(1, 2)):
        check(dataset, images, weights)


def test_folds_and_skipped_files_keep_the_weights(pictures):
    (pictures / "photos" / "a" / "04.png").write_bytes(b"no picture")
    dataset = data.load(as_table(pictures), on_bad_image="skip", max_skipped_fraction=0.1, fold="2/3")
    assert dataset.size_of("all") == COUNT - 1
    for images, _, weights in dataset.batches("all", 64):
        check(dataset, images, weights, "all")


def test_a_file_that_does_not_decode_takes_its_weight_along(pictures):
    good = (pictures / "photos" / "a" / "04.png").read_bytes()
    middle = good.index(b"IDAT") + 8
    (pictures / "photos" / "a" / "04.png").write_bytes(good[:middle] + b"\xff" * 4 + good[middle + 4 :])
    dataset = data.load(as_folder(pictures), on_bad_image="skip", max_skipped_fraction=0.1)
    assert dataset.size_of("all") == COUNT - 1
    for images, _, weights in dataset.batches("all", 64):
        check(dataset, images, weights, "all")


def test_files_that_a_folder_does_not_weigh_count_as_one(pictures):
    write_rows(pictures / "photos" / "weights.csv", [("path", "weight"), ("b/01.png", 3)])
    dataset = data.load(f"folder:{pictures / 'photos'}", validation_fraction=0, test_fraction=0)
    weights = dataset.weights_of("train")
    assert weights.max() / weights.min() == pytest.approx(3) and (weights == weights.max()).sum() == 1
    assert not any("extension .csv" in line for line in dataset.report)


def test_a_split_without_weights_counts_alike(tmp_path):
    x, y = np.stack([pixels(number) for number in range(20)]), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, w_train=np.arange(20), x_test=x[::-1], y_test=y)
    dataset = data.load(f"npz:{tmp_path / 'a.npz'}")
    assert set(dataset.weights_of("test")) == {1.0}
    assert "1 of them are 0" in "\n".join(dataset.report)


def test_equal_weights_are_none(tmp_path):
    x, y = np.stack([pixels(number) for number in range(20)]), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y, w=np.full(20, 7.0))
    dataset = data.load(f"npz:{tmp_path / 'a.npz'}")
    assert dataset.weights_of("train") is None and len(next(iter(dataset.batches("test", 2)))) == 2
    assert "weights: all are equal, and examples count alike" in dataset.report


def test_other_weights_are_other_data(pictures):
    first = data.load(as_arrays(pictures)).fingerprint
    assert data.load(as_arrays(pictures)).fingerprint == first
    arrays = dict(np.load(pictures / "arrays.npz"))
    np.savez(pictures / "arrays.npz", **{**arrays, "w": arrays["w"][::-1]})
    assert data.load(f"npz:{pictures / 'arrays.npz'}").fingerprint != first


def test_a_column_of_another_meaning_is_left_out(pictures):
    spec = as_table(pictures)
    assert data.load(spec, columns="weight=none").weights_of("train") is None
    target = data.load(spec, columns="label=weight", task="regression")
    assert target.weights_of("train") is None and target.split("train").labels.max() > 50


@pytest.mark.parametrize("cell", ["-1", "nan", "heavy", "", "inf"])
def test_wrong_weights_of_a_table_are_told_by_line(pictures, cell):
    rows = [("photos/a/00.png", "a", "1"), ("photos/b/01.png", "b", cell)]
    write_rows(pictures / "t.csv", [("path", "label", "weight"), *rows])
    with pytest.raises(ValueError, match=f"line 3 has the weight '{cell.replace('nan', '')}'"):
        data.load(f"csv:{pictures / 't.csv'}")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("path", "heft"), ("a/00.png", 1)], "Needed are 'path' and 'weight'"),
        ([("path", "weight"), ("a/00.png", -1)], "line 2 has the weight '-1'"),
        ([("path", "weight"), ("a/00.png", 1), ("a/00.png", 2)], "line 3 names 'a/00.png' again"),
        ([("path", "weight"), ("a/77.png", 1)], "names 'a/77.png', which is none of the examples"),
    ],
)
def test_wrong_weights_beside_folders_are_refused(pictures, rows, message):
    write_rows(pictures / "photos" / "weights.csv", rows)
    with pytest.raises(ValueError, match=message):
        data.load(f"folder:{pictures / 'photos'}")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(19), r"shape \(19,\)"),
        (np.r_[np.ones(19), -1.0], "is -1.0"),
        (np.r_[np.ones(19), np.nan], "is nan"),
        (np.zeros(20), "every weight in the split"),
    ],
)
def test_wrong_weights_of_arrays_are_refused(tmp_path, weights, message):
    x, y = np.stack([pixels(number) for number in range(20)]), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y, w=weights)
    with pytest.raises(ValueError, match=message):
        data.load(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("key", ["w", "w_test"])
def test_weights_of_no_examples_are_refused(tmp_path, key):
    x, y = np.stack([pixels(number) for number in range(20)]), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, **{key: np.arange(20)})
    with pytest.raises(ValueError, match=f"holds weights \\['{key}'\\] of no examples"):
        data.load(f"npz:{tmp_path / 'a.npz'}")


def test_mixing_is_refused(pictures):
    dataset = data.load(as_arrays(pictures))
    mixing = preprocessing.Mixing(2, mixup=0.2)
    with pytest.raises(ValueError, match="whose weights differ"):
        dataset.training_batches(8, seed=0, operations=[mixing])
