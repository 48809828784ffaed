"""Tables of labels: their rows give the batches of a folder, groups stay whole, and faults are told by line."""

import csv
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from keras_resnet import data, evaluation, training  # noqa: E402
from keras_resnet.data.examples.splits import split_off_groups  # noqa: E402
from keras_resnet.data.options import COLUMN_ROLES  # noqa: E402
from keras_resnet.data.sources import table  # noqa: E402
from tests.data.sources.test_shards import batches_of, picture  # noqa: E402

NAMES = ("cat", "dog", "fox")


def write_table(path, header, rows, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)
    return path


@pytest.fixture
def folder(tmp_path):
    """36 pictures of several sizes in class folders, and the rows of a table that name them."""
    rows = []
    for index in range(36):
        name = NAMES[index // 12]
        path = tmp_path / "pictures" / name / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(index, "PNG", (20 + index % 2, 24)))
        rows.append((f"pictures/{name}/{index:03d}.png", name))
    return tmp_path, rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_gives_the_batches_of_the_folder_of_its_files(folder, delimiter):
    root, rows = folder
    write_table(root / "labels.csv", ("filename", "label"), rows, delimiter)
    found, same = data.load(f"csv:{root}/labels.csv"), data.load(f"folder:{root}/pictures")
    assert found.class_names == same.class_names == NAMES and found.sizes == same.sizes
    for (one, labels), (other, others) in zip(batches_of(found), batches_of(same), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(labels, others)


def test_splits_of_the_table_and_named_columns_are_taken(folder):
    root, rows = folder
    parts = ("train", "valid", "TEST")
    found = [(f"{number}", path, name, parts[number % 3]) for number, (path, name) in enumerate(rows)]
    write_table(root / "t.csv", ("id", "where", "animal", "split"), found)
    columns = "path=where,label=animal"
    dataset = data.load("csv:t.csv", data_dir=root, columns=columns)
    assert dataset.sizes == {"train": 12, "validation": 12, "test": 12}
    assert "columns of t.csv that are not read: 'id'" in dataset.report
    with pytest.raises(ValueError, match="none is called 'path'.*columns='path=NAME'"):
        data.load("csv:t.csv", data_dir=root)
    with pytest.raises(ValueError, match="no column 'animals'.*Did you mean 'animal'"):
        data.load("csv:t.csv", data_dir=root, columns="path=where,label=animals")
    for wrong in ("path", "paths=a", "path=a,path=b", "path=a+b", "label="):
        with pytest.raises(ValueError, match="columns="):
            data.load("csv:t.csv", data_dir=root, columns=wrong)
    assert set(table.ROLES) == set(COLUMN_ROLES)


def test_numbers_as_classes_stand_in_their_order(folder):
    root, rows = folder
    write_table(root / "t.csv", ("path", "label"), [(path, 2 + number % 9) for number, (path, _) in enumerate(rows)])
    assert data.load(f"csv:{root}/t.csv").class_names == tuple(map(str, range(2, 11)))


def test_every_fault_of_a_row_is_told_with_its_line(folder):
    root, rows = folder
    faults = [("", "cat"), (rows[0][0], "cat"), ("new.png", ""), ("more.png", "dog", "x")]
    with pytest.raises(ValueError, match="line 41 has 3 cells, and the first line 2 columns"):
        data.load(f"csv:{write_table(root / 'a.csv', ('path', 'label'), [*rows, *faults])}")
    told = r"line 38 has no path; line 39 names '.*000\.png' again, as line 2 does; line 40 has no label"
    with pytest.raises(ValueError, match=told):
        data.load(f"csv:{write_table(root / 'b.csv', ('path', 'label'), [*rows, *faults[:3]])}")
    with pytest.raises(ValueError, match=r"line 38, .*gone\.png \(no such file\)"):
        data.load(f"csv:{write_table(root / 'c.csv', ('path', 'label'), [*rows, ('gone.png', 'cat')])}")
    skipped = data.load(f"csv:{root}/c.csv", on_bad_image="skip", max_skipped_fraction=0.1)
    assert sum(skipped.sizes.values()) == 36
    with pytest.raises(ValueError, match="line 2 has the split 'trian'"):
        data.load(f"csv:{write_table(root / 'd.csv', ('path', 'label', 'split'), [(*rows[0], 'trian')])}")
    for name, content in (
        ("empty", b""),
        ("header", b"path,label\n"),
        ("latin", "path,label\né,a\n".encode("latin-1")),
    ):
        (root / f"{name}.csv").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.csv"):
            data.load(f"csv:{root}/{name}.csv")
    with pytest.raises(ValueError, match="does not exist"):
        data.load(f"csv:{root}/none.csv")


def test_targets_of_a_regression_are_numbers_of_one_column_or_several(folder):
    root, rows = folder
    found = [(path, 20 + number, 1.5 * number) for number, (path, _) in enumerate(rows)]
    write_table(root / "ages.csv", ("path", "age", "height"), found)
    one = data.load(f"csv:{root}/ages.csv", task="regression", columns="label=age", validation_fraction=0)
    two = data.load(f"csv:{root}/ages.csv", task="regression", columns="label=age+height", validation_fraction=0)
    assert (one.num_outputs, one.units, two.num_outputs, two.units) == (1, ("age",), 2, ("age", "height"))
    images, targets = next(iter(two.training_batches(8, seed=0, image_size=(8, 8))))
    assert targets.shape == (8, 2) and np.allclose(targets[:, 1], 1.5 * (np.asarray(targets)[:, 0] - 20))
    with pytest.raises(ValueError, match="several labels are for a regression"):
        data.load(f"csv:{root}/ages.csv", columns="label=age+height")
    write_table(root / "bad.csv", ("path", "label"), [(rows[0][0], "old")])
    with pytest.raises(ValueError, match="line 2 has the target 'old'"):
        data.load(f"csv:{root}/bad.csv", task="regression")


def test_arrays_of_one_shape_are_read_and_others_named(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(20):
        np.save(tmp_path / f"{index}.npy", rng.normal(size=(32, 2)).astype("float32"))
        rows.append((f"{index}.npy", "ab"[index % 2], f"p{index // 4}"))
    write_table(tmp_path / "ecg.csv", ("path", "label", "patient"), rows)
    dataset = data.load(f"csv:{tmp_path}/ecg.csv", rank=1)
    assert dataset.image_shape == (32, 2) and sum(dataset.sizes.values()) == 20
    assert any("5 groups of 4 to 4 examples" in line for line in dataset.report)
    np.save(tmp_path / "3.npy", np.zeros((31, 2), "float32"))
    with pytest.raises(ValueError, match=r"line 5 names an array of shape \(31, 2\)"):
        data.load(f"csv:{tmp_path}/ecg.csv")


@pytest.fixture
def patients(tmp_path):
    """Two pictures of each of 60 patients, whose class is the patient's, in class folders."""
    rows = []
    for number in range(60):
        name = NAMES[number % 3]
        for side in ("left", "right"):
            path = tmp_path / "pictures" / name / f"p{number:03d}_{side}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(2 * number + (side == "left"), "PNG", (8, 8)))
            rows.append((f"pictures/{name}/{path.name}", name, f"p{number:03d}"))
    return tmp_path, rows


def subjects(dataset, split):
    examples = dataset.split(split)
    return {pathlib.Path(examples.name_of(index)).name.partition("_")[0] for index in range(len(examples))}


@pytest.mark.parametrize("how", ["column", "pattern", "folder"])
def test_no_split_divides_a_group_and_classes_are_shared(patients, how):
    root, rows = patients
    write_table(root / "t.csv", ("path", "label", "patient"), rows)
    write_table(root / "plain.csv", ("path", "label"), [row[:2] for row in rows])
    spec = {"column": "csv:t.csv", "pattern": "csv:plain.csv", "folder": "folder:pictures"}[how]
    options = {} if how == "column" else {"group_pattern": r"(p\d+)_"}
    dataset = data.load(spec, data_dir=root, validation_fraction=0.2, test_fraction=0.2, **options)
    found = [subjects(dataset, split) for split in ("train", "validation", "test")]
    assert sum(map(len, found)) == 60 and len(set.union(*found)) == 60
    assert [dataset.sizes[split] for split in ("train", "validation", "test")] == pytest.approx([77, 19, 24], abs=6)
    for split in dataset.sizes:
        counts = np.bincount(dataset.split(split).labels, minlength=3)
        assert counts.min() >= 0.5 * counts.max()
    assert not any("look like several" in line for line in dataset.report)
    alike = data.load(spec, data_dir=root, validation_fraction=0.2, test_fraction=0.2, **options)
    assert alike.fingerprint == dataset.fingerprint
    other = data.load(spec, data_dir=root, validation_fraction=0.2, test_fraction=0.2, split_seed=1, **options)
    assert subjects(other, "test") != found[2]


def test_groups_keep_up_with_pictures_that_do_not_decode(patients):
    root, _ = patients
    path = root / "pictures" / "cat" / "p000_left.png"
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT") + 8
    content[place : place + 20] = bytes(20)  # whole by its header and its end
    path.write_bytes(content)
    options = {"group_pattern": r"(p\d+)_", "on_bad_image": "skip", "max_skipped_fraction": 0.1}
    dataset = data.load(f"folder:{root}/pictures", **options)
    assert sum(dataset.sizes.values()) == 119
    for split in dataset.sizes:
        examples = dataset.split(split)
        found = [pathlib.Path(examples.name_of(index)).name.partition("_")[0] for index in range(len(examples))]
        assert dataset.groups_of(split).tolist() == found


def test_names_that_look_like_groups_are_pointed_out(patients, folder):
    root, rows = patients
    write_table(root / "plain.csv", ("path", "label"), [row[:2] for row in rows])
    for spec in ("folder:pictures", "csv:plain.csv"):
        (line,) = [line for line in data.load(spec, data_dir=root).report if "look like several" in line]
        assert "'p000_left' and 'p000_right'" in line and "data.group_pattern" in line


@pytest.mark.parametrize(
    "names", [("{:03d}", "n01440764_{:d}"), ("img_{:03d}", "IMG_{:03d}"), ("p{:03d}_left", "q{:03d}")]
)
def test_names_that_number_pictures_do_not_look_like_groups(tmp_path, names):
    for name, form in zip(("a", "b"), names, strict=True):
        (tmp_path / name).mkdir()
        for index in range(12):
            (tmp_path / name / f"{form.format(index)}.png").write_bytes(picture(index + 20 * (name == "b"), "PNG"))
    assert not any("look like several" in line for line in data.load(f"folder:{tmp_path}").report)


def test_a_group_that_given_splits_divide_is_an_error(patients):
    root, rows = patients
    divided = [(*row, "test" if number == 7 else "train") for number, row in enumerate(rows)]
    write_table(root / "t.csv", ("path", "label", "group", "split"), divided)
    with pytest.raises(ValueError, match=r"group 'p003' is in train \(line 8\) and in test \(line 9\)"):
        data.load(f"csv:{root}/t.csv")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "not a regular expression"),
        ("q[0-9]", "finds nothing in"),
        ("png", "of 1 groups without dividing a group"),
    ],
)
def test_a_pattern_that_finds_no_groups_says_why(patients, pattern, message):
    root, _ = patients
    with pytest.raises(ValueError, match=message):
        data.load(f"folder:{root}/pictures", group_pattern=pattern)
    with pytest.raises(ValueError, match="group_pattern='a' was given with spec='digits'"):
        data.load("digits", group_pattern="a")


def test_divided_groups_are_whole_whatever_their_sizes():
    rng = np.random.default_rng(0)
    for seed in range(30):
        groups = rng.integers(0, 12, 80).astype(str).astype(object)
        labels = rng.integers(0, 3, 80)
        staying, leaving = split_off_groups(labels, groups, 0.25, seed=seed, argument="test_fraction")
        assert not set(groups[staying]) & set(groups[leaving])
        assert sorted([*staying, *leaving]) == list(range(80)) and len(leaving)


@pytest.mark.slow
def test_a_run_on_a_table_keeps_its_columns_and_groups(patients):
    root, rows = patients
    write_table(root / "t.csv", ("path", "animal", "who"), rows)
    overrides = {"data.columns": "label=animal,group=who", "model.width": 4, "train.epochs": 1, "train.batch_size": 16}
    run = training.fit(
        "quick", model="resnet10", data=f"csv:{root}/t.csv", out=root / "run", overrides=overrides, verbose=0
    )
    again = training.Run.load(root / "run")
    assert subjects(again.dataset, "test") == subjects(run.dataset, "test") and len(again.class_names) == 3
    scores = evaluation.evaluate(root / "run", intervals=True)
    assert scores["examples"] == run.dataset.sizes["test"] and scores["resampled"] == "groups"
    assert set(again.dataset.groups_of("test")) == subjects(again.dataset, "test")
    assert not {"quadratic_kappa", "mean_distance", "mean_distance_interval"} & set(scores)  # of grades alone
    low, high = scores["accuracy_interval"]
    assert low <= scores["accuracy"] <= high and 0 <= scores["roc_auc"] <= 1
    assert {"precision", "sensitivity", "specificity_interval"} <= set(scores["per_class"][0])
    # Other data of the same kind, of one patient, and of another kind.
    write_table(root / "one.csv", ("path", "animal", "who"), rows[:2])
    assert evaluation.evaluate(root / "run", data=f"csv:{root}/one.csv")["examples"] == 2
    assert evaluation.evaluate(root / "run", data=f"folder:{root}/pictures")["examples"] == 120


def test_pictures_of_sixteen_bits_keep_them(tmp_path):
    rows = []
    for index in range(8):
        file = io.BytesIO()
        Image.fromarray(np.full((6, 6), 257 * index + 1, "uint16")).save(file, "PNG")
        (tmp_path / f"{index}.png").write_bytes(file.getvalue())
        rows.append((f"{index}.png", "ab"[index % 2]))
    dataset = data.load(f"csv:{write_table(tmp_path / 't.csv', ('path', 'label'), rows)}", validation_fraction=0)
    images, _ = dataset.arrays("train")
    assert images.dtype == np.float32 and (images % 1 != 0).all()


@pytest.mark.parametrize("sign", ["|", ";", ",", " "])
def test_several_labels_are_read_from_columns_and_from_lists_alike(folder, sign):
    root, rows = folder
    chosen = np.random.default_rng(0).random((len(rows), 3)) < 0.4
    chosen[0], chosen[1] = False, True  # one without a label, one with all
    listed = [(path, sign.join(np.array(NAMES)[row])) for (path, _), row in zip(rows, chosen, strict=True)]
    wide = [(path, *row.astype(int)) for (path, _), row in zip(rows, chosen, strict=True)]
    write_table(root / "listed.csv", ("path", "labels"), listed)
    write_table(root / "wide.csv", ("path", *NAMES), wide)
    options = {"task": "multilabel", "validation_fraction": 0, "test_fraction": 0}
    one, other = (data.load(f"csv:{root}/{name}.csv", **options) for name in ("listed", "wide"))
    assert one.class_names == other.class_names == NAMES and one.task == "multilabel"
    for dataset in (one, other):
        np.testing.assert_array_equal(dataset.split("train").labels, chosen.astype("float32"))
    assert f"labels of one cell are divided by {sign!r}" in one.report


def test_splits_of_several_labels_share_the_rare_class(tmp_path):
    rows = []
    for index in range(60):
        (tmp_path / f"{index:02d}.png").write_bytes(picture(index, "PNG", (8, 8)))
        rows.append((f"{index:02d}.png", 1, int(index % 2 == 0), int(index < 6)))
    write_table(tmp_path / "t.csv", ("path", "always", "half", "rare"), rows)
    spec = f"csv:{tmp_path}/t.csv"
    found = [data.load(spec, task="multilabel", validation_fraction=0, fold=f"{number}/3") for number in (1, 2, 3)]
    assert [int(dataset.split("test").labels[:, 2].sum()) for dataset in found] == [2, 2, 2]


def test_faults_of_several_labels_are_told_with_their_line(folder):
    root, rows = folder
    wide = [(path, 1, 0, number) for number, (path, _) in enumerate(rows)]
    write_table(root / "wide.csv", ("path", *NAMES), wide)
    with pytest.raises(ValueError, match=r"line 4 has '2' in the column 'fox'. Allowed are 0 and 1"):
        data.load(f"csv:{root}/wide.csv", task="multilabel", columns="label=cat+dog+fox")
    # Found by what they hold: the numbers are not column of labels.
    assert data.load(f"csv:{root}/wide.csv", task="multilabel").class_names == ("cat", "dog")
    write_table(root / "listed.csv", ("path", "label"), [(path, "cat|gnu") for path, _ in rows])
    with pytest.raises(ValueError, match="line 2 has the class 'gnu', which is not one of"):
        data.load(f"csv:{root}/listed.csv", task="multilabel", class_names=NAMES)
    with pytest.raises(ValueError, match="a column that is missing says nothing of its class"):
        data.load(f"csv:{root}/wide.csv", task="multilabel", columns="label=cat+dog", class_names=NAMES)
