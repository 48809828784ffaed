"""Cells as people write them: missing values, lists, grades, signs of spreadsheets."""

import pathlib

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import data, training  # noqa: E402
from keras_resnet.data.sources.table_labels import MISSING  # noqa: E402
from keras_resnet.training.experiment import Experiment  # noqa: E402
from tests.data.sources.test_shards import picture  # noqa: E402
from tests.data.sources.test_table import write_table  # noqa: E402


@pytest.fixture
def root(tmp_path):
    for index in range(24):
        (tmp_path / f"{index:02d}.png").write_bytes(picture(index, "PNG", (8, 8)))
    return tmp_path


def load(root, labels, header=("path", "label"), **options):
    rows = [(f"{index:02d}.png", labels[index % len(labels)]) for index in range(24)]
    options = {"validation_fraction": 0, "test_fraction": 0, **options}
    return data.load(f"csv:{write_table(root / 't.csv', header, rows)}", **options)


def test_what_is_missing_is_what_pandas_reads_as_missing():
    # pandas 2.2, `pandas.read_csv`, na_values.
    pandas = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"}
    assert {*MISSING, ""} == pandas | {"N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}


@pytest.mark.parametrize("cell", ["nan", "NA", "N/A", "null", "None", "NaN"])
def test_a_missing_label_is_no_class(root, cell):
    with pytest.raises(ValueError, match=r"line 4 has no label.*\(nan, NA, None and null are missing\)"):
        load(root, ("cat", "dog", cell))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("10.0", "2.0", "0.0", "11.0"), ("0.0", "2.0", "10.0", "11.0")),
        (("1", "-2", "0", "2"), ("-2", "0", "1", "2")),
        (("b", "10", "a"), ("10", "a", "b")),
    ],
)
def test_grades_stand_in_their_order(root, labels, names):
    assert load(root, labels).class_names == names


def test_grades_that_are_words_stand_in_the_order_that_a_recipe_says(root):
    load(root, ("low", "high", "medium"))  # writes the table
    sections = training.Recipe.load("quick").replace({"data.class_order": "low, medium,high"}).data
    found = sections.load(f"csv:{root / 't.csv'}", None, "classification")
    assert found.class_names == ("low", "medium", "high")
    first = [found.name_of("train", index) for index in range(3)]
    words = {f"{index:02d}.png": ("low", "high", "medium")[index % 3] for index in range(24)}
    labels = found.split("train").labels[:3]
    assert [found.class_names[label] for label in labels] == [words[pathlib.Path(name).name] for name in first]
    assert sections.loaded_as(found)["data.class_order"] == "low,medium,high"
    for order in ("low,high", "low,medium,high,huge"):
        wrong = training.Recipe.load("quick").replace({"data.class_order": order}).data
        with pytest.raises(ValueError, match="class 'medium', which is not one of|training examples have the classes"):
            wrong.load(f"csv:{root / 't.csv'}", None, "classification")
    with pytest.raises(ValueError, match=r"data.class_order='low, medium,high' was given for digits"):
        sections.load("digits", None, "classification")


@pytest.mark.parametrize("form", ["['cat', 'dog']", '["cat", "dog"]'])
def test_lists_are_several_labels_and_no_class(root, form):
    found = load(root, (form, "['cat']", "[]"), task="multilabel")
    assert found.class_names == ("cat", "dog")
    np.testing.assert_array_equal(found.split("train").labels[:3], [[1, 1], [1, 0], [0, 0]])
    with pytest.raises(ValueError, match="which is a list. Allowed is the name of one class"):
        load(root, (form, "['cat']"))
    with pytest.raises(ValueError, match=r"line 2 has the labels '\[1 0 1\]'"):
        load(root, ("[1 0 1]",), task="multilabel")


def test_names_of_two_words_stay_whole_and_lists_of_words_are_divided(root):
    assert load(root, ("hot dog", "cat", "hot dog"), task="multilabel").class_names == ("cat", "hot dog")
    # As Planet's Amazon set writes them: few words in many combinations.
    found = load(root, ("haze water", "clear water", "haze road", "clear road", "clear"), task="multilabel")
    assert found.class_names == ("clear", "haze", "road", "water")


def test_names_that_are_nearly_one_are_warned_of(root):
    labels = ("Cat", "cat", "caf\u00e9", "cafe\u0301", "dog")
    report = load(root, labels).report
    assert sum("differ by case, Unicode form or zeros alone" in line for line in report) == 2
    assert any("'01', '1'" in line for line in load(root, ("1", "01", "2")).report)
    assert not any("differ by case" in line for line in load(root, ("cat", "dog")).report)


def test_what_spreadsheets_and_pandas_write_is_read(root):
    lines = [f"{index:02d}.png,{'cat' if index % 2 == 0 else 'dog'}" for index in range(24)]
    # As DataFrame.to_csv(path) writes a frame with its index.
    (root / "index.csv").write_text("\n".join([",path,label", *(f"{i},{line}" for i, line in enumerate(lines))]))
    (root / "comma.csv").write_text("\n".join(f"{line}," for line in ["path,label", *lines]))
    (root / "excel.csv").write_text("\n".join(["sep=;", *(line.replace(",", ";") for line in ["path,label", *lines])]))
    expected = load(root, ("cat", "dog"))
    for name in ("index", "comma", "excel"):
        found = data.load(f"csv:{root}/{name}.csv", validation_fraction=0, test_fraction=0)
        assert found.class_names == expected.class_names and found.sizes == expected.sizes


def findings(root, cells):
    rows = [(f"{index:02d}.png", *cells[index % len(cells)]) for index in range(24)]
    return f"csv:{write_table(root / 'f.csv', ('path', 'Edema', 'Effusion'), rows)}"


@pytest.mark.parametrize(("uncertain", "expected"), [("negative", 0), ("positive", 1)])
def test_blanks_and_minus_one_are_what_the_user_says(root, uncertain, expected):
    """As CheXpert and MIMIC-CXR write findings."""
    spec = findings(root, (("1.0", ""), ("0.0", "1.0"), ("-1.0", "0.0")))
    options = {"task": "multilabel", "validation_fraction": 0, "test_fraction": 0}
    with pytest.raises(ValueError, match=r"'Edema' in 8, 'Effusion' in 8\. Say what they mean: uncertain='negative'"):
        data.load(spec, **options)
    found = data.load(spec, **options, uncertain=uncertain)
    assert found.class_names == ("Edema", "Effusion")
    np.testing.assert_array_equal(found.split("train").labels[:3], [[1, expected], [0, 1], [expected, 0]])
    with pytest.raises(ValueError, match="Did you mean 'negative'"):
        data.load(spec, **options, uncertain="negativ")


def test_a_table_without_endings_and_beside_its_pictures_is_read(root, monkeypatch):
    (root / "pictures").mkdir()
    for index in range(24):
        (root / f"{index:02d}.png").rename(root / "pictures" / f"{index:02d}.png")
    write_table(root / "t.csv", ("id_code", "label"), [(f"{index:02d}", "ab"[index % 2]) for index in range(24)])
    monkeypatch.chdir(root)
    found = data.load("csv:t.csv", data_dir="pictures", columns="path=id_code")
    assert sum(found.sizes.values()) == 24


def test_a_path_alone_is_what_its_ending_says(root):
    load(root, ("cat", "dog"))
    for index in range(24):
        place = root / "photos" / "ab"[index % 2] / f"{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(index, "PNG", (8, 8)))
    for given, spec in ((f"{root}/photos/", "folder"), (f"{root}/t.csv", "csv")):
        found = data.load(given)
        assert found.spec == f"{spec}:{given}" and found.report[0] == f"{given} is read as {spec}:{given}"
        assert found.fingerprint == data.load(f"{spec}:{given}").fingerprint
    with pytest.raises(ValueError, match="data source='photoz' is not known"):
        data.load("photoz")


def test_groups_by_a_pattern_do_not_depend_on_where_the_data_lie(tmp_path):
    for place in ("p1_study", "p2_copy"):
        for index in range(40):
            path = tmp_path / place / "ab"[index // 2 % 2] / f"p{index // 2}_{index % 2}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(index, "PNG", (8, 8)))
    found = [data.load(f"folder:{tmp_path}/{place}", group_pattern=r"p(\d+)_") for place in ("p1_study", "p2_copy")]
    assert found[0].sizes == found[1].sizes
    assert set(found[0].groups_of("test")) == set(found[1].groups_of("test")) != {"1"}


def test_joined_names_of_classes_are_no_class_of_their_own(root):
    with pytest.raises(ValueError, match=r"line 4 has the label 'scab\|rust', whose parts are classes of other lines"):
        load(root, ("scab", "rust", "scab|rust"))
    assert load(root, ("scab", "rust", "rust, old")).class_names == ("rust", "rust, old", "scab")


def test_ages_are_said_to_be_a_quantity(root):
    found = load(root, [str(age) for age in range(30, 54)])
    assert any("has 24 different numbers" in line and "mean_squared_error" in line for line in found.report)
    assert not any("different numbers" in line for line in load(root, ("0", "1", "2")).report)
    with pytest.raises(ValueError, match="24 different numbers, not all whole.*mean_squared_error"):
        load(root, [f"{age}.5" for age in range(30, 54)])
    assert load(root, ("0.5", "1.0", "1.5")).class_names == ("0.5", "1.0", "1.5")


def test_findings_without_a_label_point_to_several_labels(root):
    rows = [(f"{index:02d}.png", index % 2, index // 2 % 2) for index in range(24)]
    spec = f"csv:{write_table(root / 't.csv', ('path', 'Edema', 'Effusion'), rows)}"
    with pytest.raises(ValueError, match="The columns 'Edema', 'Effusion' hold 0 and 1.*multilabel_cross_entropy"):
        data.load(spec)


def test_one_hot_columns_are_the_name_of_the_column_that_says_yes(root):
    rows = [(f"{index:02d}.png", *(int(index % 3 == place) for place in range(3))) for index in range(24)]
    spec = f"csv:{write_table(root / 't.csv', ('path', 'mel', 'nev', 'bkl'), rows)}"
    options = {"columns": "label=mel+nev+bkl", "validation_fraction": 0, "test_fraction": 0}
    found = data.load(spec, **options)
    assert found.class_names == ("bkl", "mel", "nev")
    labels = [found.class_names[label] for label in found.split("train").labels[:6]]
    assert labels == ["mel", "nev", "bkl", "mel", "nev", "bkl"]
    rows[4] = (rows[4][0], 1, 1, 0)
    write_table(root / "t.csv", ("path", "mel", "nev", "bkl"), rows)
    with pytest.raises(ValueError, match="line 6 has not a single 1 in them"):
        data.load(spec, **options)


def test_a_finding_without_a_validation_example_is_said(root):
    rows = [(f"{index:02d}.png", index % 2, int(index == 0), "val" if index > 15 else "train") for index in range(24)]
    spec = f"csv:{write_table(root / 't.csv', ('path', 'Edema', 'Hernia', 'split'), rows)}"
    recipe = training.Recipe.load("quick").replace({
        "loss.name": "multilabel_cross_entropy", "data.columns": "label=Edema+Hernia", "train.batch_size": 8
    })  # fmt: skip
    dataset = recipe.data.load(spec, None, "multilabel")
    (line,) = [
        line for line in Experiment.of(recipe, dataset, "resnet10").dataset.report if "no validation example" in line
    ]
    assert "'Hernia'" in line and "Edema" not in line
