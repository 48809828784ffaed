"""Folders of images: what counts as a class, a split and an image, and that nothing is left out in silence."""

import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402
from tests.data.image_files import class_folders  # noqa: E402


def test_class_folders_become_three_disjoint_stratified_splits(tmp_path):
    class_folders(tmp_path, per_class=20, classes=("ant", "bee", "cow"))
    dataset = data.load(f"folder:{tmp_path}", in_memory_limit=0)
    assert dataset.class_names == ("ant", "bee", "cow")
    assert dataset.sizes == {"train": 49, "validation": 5, "test": 6}
    assert any(line.endswith("; divided into train 49, validation 5, test 6") for line in dataset.report)
    paths = [path for examples in dataset.splits.values() for path in examples.contents]
    assert len(set(paths)) == 60
    assert sorted(np.bincount(dataset.splits["test"].labels)) == [2, 2, 2]
    for examples in dataset.splits.values():
        for path, label in zip(examples.contents, examples.labels, strict=True):
            assert os.fsdecode(path).split(os.sep)[-2] == dataset.class_names[label]


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_split_folders_are_kept_as_they_are(tmp_path, validation):
    for split, count in (("train", 10), (validation, 3), ("test", 4)):
        class_folders(tmp_path / split, per_class=count)
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.sizes == {"train": 20, "validation": 6, "test": 8}
    assert "split 'train': 2 classes: cat 10, dog 10" in dataset.report


def test_validation_is_taken_from_training_where_there_is_only_a_test_folder(tmp_path):
    class_folders(tmp_path / "train", per_class=10)
    class_folders(tmp_path / "test", per_class=4)
    assert data.load(f"folder:{tmp_path}").sizes == {"train": 18, "validation": 2, "test": 8}
    assert data.load(f"folder:{tmp_path}", validation_fraction=0).sizes == {"train": 20, "test": 8}


def test_a_class_may_be_called_train(tmp_path):
    class_folders(tmp_path, per_class=10, classes=("plane", "train"))
    assert data.load(f"folder:{tmp_path}").class_names == ("plane", "train")


def test_val_and_validation_together_are_refused(tmp_path):
    for split in ("train", "val", "validation"):
        class_folders(tmp_path / split)
    with pytest.raises(ValueError, match="'val' and 'validation', which both stand for the split 'validation'"):
        data.load(f"folder:{tmp_path}")


def test_a_class_that_training_lacks_is_refused_and_one_that_test_lacks_is_reported(tmp_path):
    class_folders(tmp_path / "train", classes=("ant", "bee", "cow"))
    class_folders(tmp_path / "test", classes=("ant", "bee"))
    report = data.load(f"folder:{tmp_path}").report
    assert "split 'test' has no images of the classes ['cow']" in report
    (tmp_path / "test" / "bee").rename(tmp_path / "test" / "Bee")
    with pytest.raises(ValueError, match=r"class folders \['Bee'\] that .*train lacks"):
        data.load(f"folder:{tmp_path}")


def test_files_with_other_extensions_are_counted(tmp_path):
    class_folders(tmp_path, per_class=10)
    for name in ("a.tiff", "b.TIFF", "notes.txt", "noextension"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    (tmp_path / "readme.md").write_text("x")
    report = data.load(f"folder:{tmp_path}").report
    assert f"ignored 2 files with extension .tiff in {tmp_path}" in report
    assert f"ignored 1 files with extension .txt in {tmp_path}" in report
    assert f"ignored 1 files with extension none in {tmp_path}" in report
    assert f"ignored 1 files with extension .md in {tmp_path}" in report


def test_every_listed_extension_is_read(tmp_path):
    from keras_resnet.data.sources.listing import EXTENSIONS

    class_folders(tmp_path, per_class=10)
    for extension in EXTENSIONS:
        shutil.copy(tmp_path / "cat" / "000.png", tmp_path / "cat" / f"copy{extension.upper()}")
    assert sum(data.load(f"folder:{tmp_path}").sizes.values()) == 20 + len(EXTENSIONS)


def test_an_empty_class_folder_is_refused_by_name(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "eel").mkdir()
    (tmp_path / "eel" / "a.tiff").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"without images: \['eel'\] \(1 files of other kinds were ignored\)"):
        data.load(f"folder:{tmp_path}")


def test_one_class_is_refused(tmp_path):
    class_folders(tmp_path, classes=("cat",))
    with pytest.raises(ValueError, match="one class, 'cat'.*two or more"):
        data.load(f"folder:{tmp_path}")


def test_images_without_class_folders_are_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="1 image files and no class folder.*one folder per class"):
        data.load(f"folder:{tmp_path}")


def test_an_empty_folder_a_missing_folder_and_a_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no class folder"):
        data.load(f"folder:{tmp_path}")
    with pytest.raises(ValueError, match="does not exist"):
        data.load(f"folder:{tmp_path}/nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        data.load(f"folder:{tmp_path}/file")


def test_images_beside_class_folders_are_reported(tmp_path):
    class_folders(tmp_path, per_class=10)
    Image.new("RGB", (4, 4)).save(tmp_path / "loose.png")
    dataset = data.load(f"folder:{tmp_path}")
    assert f"ignored 1 image files in {tmp_path} that lie in no class folder" in dataset.report
    assert sum(dataset.sizes.values()) == 20


def test_nested_folders_belong_to_their_class_and_are_reported(tmp_path):
    class_folders(tmp_path, per_class=10)
    (tmp_path / "cat" / "black").mkdir()
    Image.new("RGB", (12, 10)).save(tmp_path / "cat" / "black" / "a.png")
    dataset = data.load(f"folder:{tmp_path}")
    assert sum(dataset.sizes.values()) == 21
    assert any(line.startswith("1 image files lie in folders within class folders") for line in dataset.report)


def test_hidden_files_and_folders_are_left_out_and_counted(tmp_path):
    class_folders(tmp_path, per_class=10)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "._000.png").write_bytes(b"x")
    dataset = data.load(f"folder:{tmp_path}")
    assert sum(dataset.sizes.values()) == 20
    assert f"ignored 2 hidden files and folders in {tmp_path}" in dataset.report


def test_a_loop_of_links_ends(tmp_path):
    class_folders(tmp_path, per_class=10)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    dataset = data.load(f"folder:{tmp_path}")
    assert sum(dataset.sizes.values()) == 20
    assert f"ignored 1 links in {tmp_path} to folders that were already read" in dataset.report


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    class_folders(tmp_path / "there", per_class=10)
    (tmp_path / "here").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "here" / name).symlink_to(tmp_path / "there" / name, target_is_directory=True)
    assert sum(data.load(f"folder:{tmp_path}/here").sizes.values()) == 20


def test_what_cannot_be_opened_is_named_and_nothing_hangs(tmp_path):
    class_folders(tmp_path, per_class=10)
    (tmp_path / "cat" / "dangling.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "dog" / "pipe.jpg")
    with pytest.raises(data.BadImageError) as caught:
        data.load(f"folder:{tmp_path}")
    assert dict(caught.value.files) == {
        f"{tmp_path}/cat/dangling.png": "no such file",
        f"{tmp_path}/dog/pipe.jpg": "not a regular file",
    }


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser reads every file")
def test_a_file_without_permission_is_named(tmp_path):
    class_folders(tmp_path, per_class=10)
    (tmp_path / "cat" / "000.png").chmod(0)
    with pytest.raises(data.BadImageError, match=r"000\.png \(Permission denied\)"):
        data.load(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", ["two words", "größe", "猫", "a'b\"c", "%d {x}", "-dash"])
def test_odd_class_names_are_kept(tmp_path, name):
    class_folders(tmp_path, per_class=10, classes=("cat", name))
    dataset = data.load(f"folder:{tmp_path}")
    assert set(dataset.class_names) == {"cat", name}
    assert len(next(iter(dataset.batches("test", 2)))[0]) == 2


@pytest.mark.parametrize("name", ["new\nline", "tab\there", "bell\a"])
def test_class_names_that_do_not_fit_on_a_line_are_refused(tmp_path, name):
    class_folders(tmp_path, classes=("cat", name))
    with pytest.raises(ValueError, match="unprintable characters"):
        data.load(f"folder:{tmp_path}")


@pytest.mark.parametrize(("per_class", "options"), [(2, {}), (1, {}), (8, {"validation_fraction": 0.01})])
def test_a_split_that_would_be_empty_is_refused(tmp_path, per_class, options):
    class_folders(tmp_path, per_class=per_class)
    with pytest.raises(ValueError, match="_fraction=0.* takes 0 of .* examples.*at least one example on each side"):
        data.load(f"folder:{tmp_path}", **options)


def test_memory_and_disk_give_the_same_batches(tmp_path):
    class_folders(tmp_path, per_class=20)
    held, read = (data.load(f"folder:{tmp_path}", in_memory_limit=limit) for limit in (2**30, 0))
    assert type(held.splits["train"]) is not type(read.splits["train"])
    for batches in (
        lambda dataset: dataset.batches("train", 7),
        lambda dataset: dataset.training_batches(5, seed=3, start_step=4).take(9),
        lambda dataset: dataset.training_batches(5, seed=3, image_size=6, crop="random").take(4),
        lambda dataset: dataset.batches("test", 3, image_size=6, crop="center"),
    ):
        for first, second in zip(batches(held), batches(read), strict=True):
            np.testing.assert_allclose(first[0], second[0], atol=1e-3)
            np.testing.assert_array_equal(first[1], second[1])


def test_the_fingerprint_changes_with_the_data_and_the_split(tmp_path):
    class_folders(tmp_path, per_class=20)

    def fingerprint(**options):
        return data.load(f"folder:{tmp_path}", **options).fingerprint

    for limit in (0, 2**30):
        first = fingerprint(in_memory_limit=limit)
        assert fingerprint(in_memory_limit=limit) == first
        assert fingerprint(in_memory_limit=limit, split_seed=1) != first
        path = tmp_path / "cat" / "003.png"
        content = path.read_bytes()
        path.unlink()
        assert fingerprint(in_memory_limit=limit) != first
        Image.new("RGB", (12, 10), (9, 9, 9)).save(path)
        path.write_bytes(path.read_bytes() + b"\0")
        assert fingerprint(in_memory_limit=limit) != first
        path.write_bytes(content)
        assert fingerprint(in_memory_limit=limit) == first
    shutil.copytree(tmp_path, tmp_path.with_name("elsewhere"))
    assert data.load(f"folder:{tmp_path.with_name('elsewhere')}").fingerprint == fingerprint()


def test_relative_paths_start_from_data_dir(tmp_path):
    class_folders(tmp_path / "pets", per_class=10)
    assert data.load("folder:pets", data_dir=tmp_path).class_names == ("cat", "dog")


@pytest.mark.data
def test_real_photographs_load_from_folders(real_data):
    dataset = data.load(f"folder:{real_data}/cifar10")
    assert dataset.sizes == {"train": 45000, "validation": 5000, "test": 10000}
    assert dataset.image_shape == (32, 32, 3)
    _, labels = dataset.arrays("validation")
    assert np.bincount(labels).tolist() == [500] * 10


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_of_several_labels_a_picture_has_those_of_all_folders_in_which_a_link_to_it_lies(tmp_path, link):
    class_folders(tmp_path / "train", per_class=10, classes=("crack", "dent", "rust"))
    class_folders(tmp_path / "test", per_class=2, classes=("crack", "dent", "rust"))
    shared = sorted((tmp_path / "train" / "rust").iterdir())[:4]
    for number, picture in enumerate(shared):
        link(picture, tmp_path / "train" / "crack" / f"link-{number}{picture.suffix}")
    link(shared[0], tmp_path / "train" / "dent" / "another.png")
    link(shared[0], tmp_path / "train" / "dent" / "again.png")
    dataset = data.load(f"folder:{tmp_path}", task="multilabel", validation_fraction=0, in_memory_limit=0)
    assert dataset.task == "multilabel" and dataset.class_names == ("crack", "dent", "rust")
    assert dataset.sizes == {"train": 30, "test": 6}
    rows = dataset.split("train").labels
    assert rows.sum(axis=0).tolist() == [14, 11, 10]
    assert sorted(map(tuple, rows.tolist())) == sorted(
        [(1, 1, 1)] + [(1, 0, 1)] * 3 + [(0, 0, 1)] * 6 + [(1, 0, 0)] * 10 + [(0, 1, 0)] * 10
    )
    for path, row in zip(dataset.split("train").contents, rows, strict=True):
        real = pathlib.Path(os.fsdecode(path))
        places = [other for other in (tmp_path / "train").glob("*/*") if other.samefile(real)]
        assert {other.parent.name for other in places} == {
            name for name, has in zip(dataset.class_names, row, strict=True) if has
        }
    assert any("30 pictures, 4 of them in several class folders by links" in line for line in dataset.report)
    # As classes, one per picture, it is what it was: each name is an example.
    assert data.load(f"folder:{tmp_path}", validation_fraction=0).sizes["train"] == 36


def test_of_several_labels_copies_are_no_links_and_broken_links_are_bad_pictures(tmp_path):
    class_folders(tmp_path, per_class=10)
    with pytest.raises(ValueError, match="regression"):
        data.load(f"folder:{tmp_path}", task="regression")
    picture = next((tmp_path / "dog").iterdir())
    shutil.copy(picture, tmp_path / "cat" / "copy.png")
    dataset = data.load(f"folder:{tmp_path}", task="multilabel")
    assert sum(dataset.sizes.values()) == 21
    assert any(
        "0 of them in several class folders by links; a copy counts as another" in line for line in dataset.report
    )
    (tmp_path / "cat" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="broken.png"):
        data.load(f"folder:{tmp_path}", task="multilabel")
    kept = data.load(f"folder:{tmp_path}", task="multilabel", on_bad_image="skip", max_skipped_fraction=0.5)
    assert sum(kept.sizes.values()) == 21
