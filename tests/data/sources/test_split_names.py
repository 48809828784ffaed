"""Splits as people name them: the words of Hugging Face's `datasets`, in folders, shards, parquet files and tables."""

import pathlib

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402
from keras_resnet.data.sources.listing import SPLIT_WORDS, split_of  # noqa: E402
from tests.data.sources.test_shards import pack, picture  # noqa: E402
from tests.data.sources.test_table import write_table  # noqa: E402

# datasets 4.0, data_files.py, SPLIT_KEYWORDS.
HUGGING_FACE = {
    "train": ["train", "training"],
    "validation": ["validation", "valid", "dev", "val"],
    "test": ["test", "testing", "eval", "evaluation"],
}


def class_folders(root, count, first=0):
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(count):
            content = picture(first + 100 * number + index, "PNG", (8, 8))
            (root / name / f"{index:02d}.png").write_bytes(content)


def test_the_words_are_those_of_hugging_face():
    assert {word: split for split, words in HUGGING_FACE.items() for word in words} == SPLIT_WORDS


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Training", "train"), ("TEST", "test"), ("valid-0", "validation"), ("data-testing-000", "test")),
        *(("seg_train", "train"), ("test_set", "test"), ("my.dev.00", "validation"), ("train2017", "train")),
        *(("trainer", None), ("contest", None), ("train_test", None), ("latest", None), ("", None)),
    ],
)
def test_a_name_says_a_split_by_a_word(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    "names",
    [
        *(("Training", "Testing"), ("Train", "Test"), ("TRAIN", "VAL", "TEST"), ("train", "valid", "test")),
        *(("training_set", "test_set"), ("seg_train", "seg_test"), ("train", "dev", "eval")),
    ],
)
def test_folders_of_splits_are_never_classes_and_the_test_set_is_not_trained_on(tmp_path, names):
    sizes = dict(zip([split_of(name) for name in names], (20, 6, 8), strict=False))
    for name, count in zip(names, (10, 3, 4), strict=False):
        class_folders(tmp_path / name, count, first=1000 * count)
    found = data.load(f"folder:{tmp_path}", validation_fraction=0)
    assert found.sizes == {split: sizes[split] for split in ("train", "validation", "test") if split in sizes}
    assert found.class_names == ("cat", "dog")
    for split in found.sizes:
        examples = found.split(split)
        folders = {pathlib.Path(examples.name_of(index)).parts[-3] for index in range(len(examples))}
        assert {split_of(folder) for folder in folders} == {split}


def test_a_split_in_a_folder_of_its_own_name_is_found(tmp_path):
    """As the Intel set of scenes is packed: seg_train/seg_train/forest."""
    for name, count in (("seg_train", 10), ("seg_test", 4)):
        class_folders(tmp_path / name / name, count, first=1000 * count)
    assert data.load(f"folder:{tmp_path}", validation_fraction=0).sizes == {"train": 20, "test": 8}


def test_a_class_may_be_called_like_a_split(tmp_path):
    for name in ("airport", "train station"):
        class_folders(tmp_path / name, 10, first=len(name))
    (tmp_path / "airport" / "cat").rename(tmp_path / "airport" / "inside")
    found = data.load(f"folder:{tmp_path}")
    assert found.class_names == ("airport", "train station")


def test_class_folders_that_each_hold_the_same_class_folders_are_refused(tmp_path):
    for name in ("part1", "part2"):
        class_folders(tmp_path / name, 4, first=len(name))
    with pytest.raises(ValueError, match=r"each of them holds the folders \['cat', 'dog'\].*Rename the folders"):
        data.load(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("train", "test"),
    [("train/a.tar", "test/a.tar"), ("Training/x/0.tar", "eval/x/0.tar"), ("a-train-0.tar", "data-testing-000.tar")],
)
def test_shards_are_of_the_split_of_their_name_or_their_folder(tmp_path, train, test):
    for place, count, first in ((train, 12, 0), (test, 6, 500)):
        members = []
        for index in range(count):
            members += [
                (f"{index}.png", picture(first + index, "PNG")),
                (f"{index}.cls", b"ab"[index % 2 : index % 2 + 1]),
            ]
        pack(tmp_path / "set" / place, members)
    assert data.load(f"wds:{tmp_path}/set", validation_fraction=0).sizes == {"train": 12, "test": 6}
    # A folder is not a split of what lies in it alone.
    if "/" in test:
        alone = data.load(f"wds:{(tmp_path / 'set' / test).parent}", validation_fraction=0, test_fraction=0)
        assert alone.sizes == {"train": 6}


@pytest.mark.parametrize(
    ("column", "cells", "sizes"),
    [
        ("is_valid", ("False", "True"), {"train": 9, "validation": 3}),
        ("is_valid", ("0", "1"), {"train": 9, "validation": 3}),
        ("Subset", ("training", "testing"), {"train": 9, "test": 3}),
        ("phase", ("train", "val"), {"train": 9, "validation": 3}),
        ("set", ("Train", "eval"), {"train": 9, "test": 3}),
        ("phase", ("arterial", "venous"), {"train": 12}),  # of a CT: it says no split
    ],
)
def test_columns_say_the_split(tmp_path, column, cells, sizes):
    rows = []
    for index in range(12):
        (tmp_path / f"{index}.png").write_bytes(picture(index, "PNG", (8, 8)))
        rows.append((f"{index}.png", "ab"[index % 2], cells[index >= 9]))
    write_table(tmp_path / "t.csv", ("path", "label", column), rows)
    found = data.load(f"csv:{tmp_path}/t.csv", validation_fraction=0, test_fraction=0)
    assert found.sizes == sizes
    for split in found.sizes:
        places = {
            int(found.split(split).name_of(index).split("/")[-1].split(".")[0]) >= 9 for index in range(sizes[split])
        }
        assert len(sizes) == 1 or places == {split != "train"}


@pytest.mark.parametrize(
    "column", ["Patient ID", "PatientID", "patientId", "lesion_id", "SubjectID", "case_id", "study", "series", "Case"]
)
def test_the_group_is_found_however_it_is_spelled(tmp_path, column):
    rows = []
    for index in range(40):
        (tmp_path / f"{index}.png").write_bytes(picture(index, "PNG", (8, 8)))
        rows.append((f"{index}.png", "ab"[index // 2 % 2], f"p{index // 2}"))
    write_table(tmp_path / "t.csv", ("path", "label", column), rows)
    found = data.load(f"csv:{tmp_path}/t.csv", test_fraction=0.25)
    groups = [set(found.groups_of(split)) for split in found.sizes]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 20


def test_few_groups_and_columns_whose_values_repeat_are_warned_of(tmp_path):
    rows = []
    for index in range(40):
        (tmp_path / f"{index}.png").write_bytes(picture(index, "PNG", (8, 8)))
        rows.append((f"{index}.png", "ab"[index % 2], f"arm {index % 3}", f"c{index // 2}"))
    write_table(tmp_path / "t.csv", ("path", "label", "group", "clinic number"), rows)
    assert any("there are 3 groups alone" in line for line in data.load(f"csv:{tmp_path}/t.csv").report)
    report = data.load(f"csv:{tmp_path}/t.csv", columns="group=none").report
    assert any("'clinic number' of t.csv is not read, and its 20 values repeat in 40 lines" in line for line in report)


@pytest.mark.parametrize("form", ["slide{:02d}_field{:03d}", "p{:02d}_img{}", "m{:02d}_f{:02d}"])
def test_names_that_count_views_of_a_subject_look_like_groups(tmp_path, form):
    for index in range(40):
        path = tmp_path / "ab"[index % 2] / f"{form.format(index // 4, index // 2 % 2)}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(index, "PNG", (8, 8)))
    assert any("look like several examples of one subject" in line for line in data.load(f"folder:{tmp_path}").report)


def test_labels_of_shards_are_the_classes_that_there_are_and_captions_are_none(tmp_path):
    numbers = ("3", "1000")
    members = []
    for index in range(12):
        members += [(f"22.{index:02d}.png", picture(index, "PNG")), (f"22.{index:02d}.txt", b"a small dog")]
        members.append((f"22.{index:02d}.cls", numbers[index % 2].encode()))
        members.append((f"._22.{index:02d}.png", b"macOS"))
    pack(tmp_path / "a.tar", members)
    found = data.load(f"wds:{tmp_path}/a.tar", validation_fraction=0, test_fraction=0)
    assert found.class_names == numbers and found.sizes == {"train": 12} and found.num_outputs == 2
    np.testing.assert_array_equal(found.split("train").labels, np.arange(12) % 2)


def test_a_second_picture_of_an_example_is_left_out(tmp_path):
    members = []
    for index in range(12):
        members += [(f"{index}.png", picture(index, "PNG")), (f"{index}.mask.png", picture(50 + index, "PNG"))]
        members.append((f"{index}.cls", b"ab"[index % 2 : index % 2 + 1]))
    pack(tmp_path / "a.tar", members)
    assert data.load(f"wds:{tmp_path}/a.tar", validation_fraction=0, test_fraction=0).sizes == {"train": 12}
