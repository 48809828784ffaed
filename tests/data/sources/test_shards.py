"""Tar shards: the pictures of a folder, packed, give the batches of the folder, and every fault is named."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402

CLASSES = ("cat", "dog", "fox")


def picture(number, kind="JPEG", size=(24, 20)):
    noise = np.random.default_rng(number).integers(0, 256, (*size, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


def pack(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            found = tarfile.TarInfo(name)
            found.size = len(content)
            tar.addfile(found, io.BytesIO(content))


@pytest.fixture
def both(tmp_path):
    """The same pictures of several sizes as a folder and as three shards, in the same order."""
    rows = []
    for label, name in enumerate(CLASSES):
        (tmp_path / "folder" / name).mkdir(parents=True)
        for index in range(12):
            content = picture(100 * label + index, "PNG" if index % 3 else "JPEG", (20 + index % 2, 24))
            file = f"{index:03d}.{'png' if index % 3 else 'jpg'}"
            (tmp_path / "folder" / name / file).write_bytes(content)
            rows.append((name, index, file.partition(".")[2], content))
    for shard in range(3):
        members = []
        for name, index, suffix, content in rows[12 * shard : 12 * shard + 12]:
            members += [(f"{name}/{index:03d}.{suffix}", content), (f"{name}/{index:03d}.cls", name.encode())]
        pack(tmp_path / "shards" / f"part-{shard:02d}.tar", members)
    return tmp_path


def batches_of(dataset, **options):
    batches = dataset.training_batches(6, seed=3, image_size=(16, 16), crop="random", **options)
    return [(np.asarray(images), np.asarray(labels)) for images, labels in batches.take(9)]


@pytest.mark.parametrize("spec", ["wds:shards", "wds:shards/*.tar", "wds:shards/part-{00..02}.tar"])
def test_packed_pictures_give_the_batches_of_their_folder(both, spec):
    folder, shards = data.load("folder:folder", data_dir=both), data.load(spec, data_dir=both)
    assert shards.sizes == folder.sizes and shards.class_names == folder.class_names == CLASSES
    for (one, labels), (other, others) in zip(batches_of(folder), batches_of(shards), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(labels, others)


def test_a_part_of_each_batch_and_a_later_step_are_those_of_the_whole(both):
    shards = data.load("wds:shards", data_dir=both)
    whole = batches_of(shards)
    for part in range(2):
        mine = batches_of(shards, shard=(part, 2), start_step=4)
        np.testing.assert_array_equal(mine[0][0], whole[4][0][3 * part : 3 * part + 3])


def test_splits_numbers_and_names_are_found(tmp_path):
    for split in ("train", "val", "test"):
        members = []
        for index in range(8):
            members += [(f"{index}.jpg", picture(index)), (f"{index}.json", json.dumps({"label": index % 2}).encode())]
        pack(tmp_path / f"set-{split}-0000.tar", members)
    (tmp_path / "classnames.txt").write_text("tench\ngoldfish\n")
    dataset = data.load(f"wds:{tmp_path}")
    assert dataset.sizes == {"train": 8, "validation": 8, "test": 8} and dataset.class_names == ("tench", "goldfish")
    np.testing.assert_array_equal(dataset.split("test").labels, [0, 1] * 4)


def test_classes_of_a_model_are_matched_by_name_whatever_their_numbers(tmp_path):
    members = []
    for index in range(6):
        members += [(f"{index}.jpg", picture(index)), (f"{index}.cls", str(index % 3).encode())]
    pack(tmp_path / "a.tar", members)
    known = {"class_names": ("goldfish", "ray", "tench"), "validation_fraction": 0, "test_fraction": 0}
    np.testing.assert_array_equal(data.load(f"wds:{tmp_path}", **known).split("train").labels, [0, 1, 2] * 2)
    (tmp_path / "classnames.txt").write_text("tench\ngoldfish\nray\n")
    np.testing.assert_array_equal(data.load(f"wds:{tmp_path}", **known).split("train").labels, [2, 0, 1] * 2)
    (tmp_path / "classnames.txt").write_text("tench\nshark\nray\n")
    with pytest.raises(ValueError, match="has the label 'shark'"):
        data.load(f"wds:{tmp_path}", **known)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.jpg", picture(1))], "1 of 1 images have no label, the first is '1.jpg'"),
        ([("1.cls", b"0")], "1 shards hold no image"),
        ([("1.jpg", picture(1)), ("1.cls", b"0")], "has the classes"),
        ([("1.jpg", picture(1)), ("1.png", picture(1, "PNG")), ("1.cls", b"0")], "two images of the name '/1'"),
        ([("1.jpg", picture(1)[:-200]), ("1.cls", b"a"), ("2.jpg", picture(2)), ("2.cls", b"b")], "a.tar/1.jpg"),
        ([("1.jpg", b"none"), ("1.cls", b"a")], "a.tar/1.jpg .not a JPEG"),
        ([("1.jpg", picture(1)), ("1.json", b"{")], "cannot be read"),
        ([("1.jpg", picture(1)), ("1.cls", b"-1"), ("2.jpg", picture(2)), ("2.cls", b"0")], "have a negative label"),
    ],
    ids=["no label", "no image", "one class", "two images", "half", "no picture", "bad JSON", "negative"],
)
def test_what_is_wrong_with_a_shard_is_named(tmp_path, members, message):
    pack(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=message):
        data.load(f"wds:{tmp_path}/a.tar")


def test_a_shard_that_is_cut_off_missing_or_packed_is_refused(tmp_path):
    pack(tmp_path / "a.tar", [("1.jpg", picture(1)), ("1.cls", b"a"), ("2.jpg", picture(2)), ("2.cls", b"b")])
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "half.tar").write_bytes(content[:1500])
    (tmp_path / "packed.tar").write_bytes(b"\x1f\x8b" + content)
    for name in ("half", "packed"):
        with pytest.raises(ValueError, match=f"{name}.tar' cannot be read"):
            data.load(f"wds:{tmp_path}/{name}.tar")
    for pattern in ("none.tar", "none-*.tar"):
        with pytest.raises(ValueError, match=r"does not exist|no shard matches"):
            data.load(f"wds:{tmp_path}/{pattern}")
    with pytest.raises(ValueError, match="not a range of 1 to"):
        data.load(f"wds:{tmp_path}/a-{{9..1}}.tar")


def test_a_shard_that_changes_later_is_named(tmp_path):
    members = [(f"{index}.{kind}", picture(index) if kind == "jpg" else b"ab"[index % 2 : index % 2 + 1])
               for index in range(20) for kind in ("jpg", "cls")]  # fmt: skip
    pack(tmp_path / "a.tar", members)
    dataset = data.load(f"wds:{tmp_path}/a.tar", in_memory_limit=0)
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1000])
    bad = dataset.split("train").find_bad()
    assert len(bad) == dataset.sizes["train"] and "ends within an image" in bad[0][1]
