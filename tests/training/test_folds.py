"""Cross-validation: each example is predicted once, by a model that has not seen it, and the models have a mean."""

import csv
import json
import re
import shutil
import statistics

import keras
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

pytest.importorskip("tensorflow")

from keras_resnet import cli, data, evaluation, training  # noqa: E402
from keras_resnet.training.folds import mean_of_models  # noqa: E402
from keras_resnet.training.run import Run  # noqa: E402
from tests import harness  # noqa: E402
from tests.data.sources.test_shards import picture  # noqa: E402

SMALL = {"model.width": 4, "train.epochs": 1, "train.batch_size": 16}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("arrays") / "set.npz"
    labels = np.arange(90) % 3
    images = (rng.normal(size=(90, 8, 8, 1)) + labels[:, None, None, None]).astype("float32")
    np.savez(path, x=images, y=labels, class_names=["a", "b", "c"])
    return path


@pytest.fixture(scope="module")
def folds(arrays, tmp_path_factory):
    out = tmp_path_factory.mktemp("folds") / "cv"
    found = training.cross_validate(
        "quick", model="resnet10", folds=3, data=f"npz:{arrays}", out=out, overrides=SMALL, verbose=0
    )
    return found, out


def rows_of(out):
    with open(out / "out_of_fold.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_example_is_predicted_once_by_a_model_that_has_not_seen_it(folds, arrays):
    found, out = folds
    rows = rows_of(out)
    assert sorted(row["path"] for row in rows) == sorted(f"example {index}" for index in range(90))
    source = np.load(arrays)
    for number in (1, 2, 3):
        run = Run.load(out / f"fold-{number}")
        mine = [row for row in rows if row["fold"] == str(number)]
        places = [int(row["path"].split()[1]) for row in mine]
        np.testing.assert_array_equal(np.bincount(source["y"][places]), [10, 10, 10])
        expected = np.asarray(keras.ops.softmax(run.model.predict(source["x"][places], verbose=0)))
        np.testing.assert_allclose([[float(row[name]) for name in "abc"] for row in mine], expected, atol=1e-5)
        assert [row["label"] for row in mine] == ["abc"[label] for label in source["y"][places]]
        # The validation split, by which the best epoch is chosen, is of the others.
        seen = {image.tobytes() for split in ("train", "validation") for image in run.dataset.arrays(split)[0]}
        assert not seen & {source["x"][place].tobytes() for place in places}
        assert set(run.dataset.sizes) == {"train", "validation", "test"}
    guesses = [max("abc", key=lambda name, row=row: float(row[name])) for row in rows]
    accuracy = accuracy_score([row["label"] for row in rows], guesses)
    assert found.out_of_fold["accuracy"] == pytest.approx(accuracy)
    told = json.loads((out / "folds.json").read_text())
    assert [row["examples"] for row in told["folds"]] == [30, 30, 30]
    assert f"{np.mean([row['accuracy'] for row in found.rows]):.4g}" in str(found)


def test_the_folder_is_the_mean_of_its_models(folds, arrays):
    _, out = folds
    images = np.load(arrays)["x"][:20]
    members = [Run.load(out / f"fold-{number}").model.predict(images, verbose=0) for number in (1, 2, 3)]
    expected = np.mean([np.asarray(keras.ops.softmax(member)) for member in members], axis=0)
    mean = evaluation.load_model(out)
    np.testing.assert_allclose(mean.predict(images, verbose=0), expected, atol=1e-6)
    scores = evaluation.evaluate(out, data=f"npz:{arrays}")
    assert scores["examples"] == 90 and {row["name"] for row in scores["per_class"]} == {"a", "b", "c"}


@pytest.mark.slow
def test_nothing_is_found_out_on_what_the_members_were_trained_on(folds, arrays, tmp_path):
    _, out = folds
    for find in (evaluation.prediction_sets, evaluation.calibrate):
        for source in (out, out / "mean.keras"):
            with pytest.raises(ValueError, match="whose members were trained on these examples"):
                find(source, f"npz:{arrays}", out=tmp_path / "a.keras")
    source = np.load(arrays)
    np.savez(tmp_path / "other.npz", x=source["x"] + 0.1, y=source["y"], class_names=source["class_names"])
    found = evaluation.prediction_sets(out, f"npz:{tmp_path}/other.npz", split="all", coverage=0.8)
    assert found.facts["examples"] == 90


@pytest.mark.exhaustive
def test_a_resume_makes_what_is_missing_and_ends_the_same(folds, arrays, tmp_path):
    found, out = folds
    copy = shutil.copytree(out, tmp_path / "cv")
    shutil.rmtree(copy / "fold-2")
    for name in ("folds.json", "out_of_fold.csv", "mean.keras"):
        (copy / name).unlink()
    options = {"data": f"npz:{arrays}", "overrides": SMALL, "verbose": 0}
    with pytest.raises(ValueError, match=r"fold-1|fold-3"):
        training.cross_validate("quick", model="resnet10", folds=3, out=copy, **options)
    again = training.cross_validate("quick", model="resnet10", folds=3, out=copy, resume=True, **options)
    assert again.rows == found.rows and rows_of(copy) == rows_of(out)
    with pytest.raises(ValueError, match="holds fold-3, of more folds than 2"):
        training.cross_validate("quick", model="resnet10", folds=2, out=copy, resume=True, **options)


@pytest.mark.parametrize(
    "loss",
    harness.tiers(
        ["binary_cross_entropy", "sigmoid_cross_entropy", "mean_squared_error"], [], ["binary_cross_entropy"]
    ),
)
def test_the_mean_of_other_heads_is_that_of_their_answers(tmp_path, loss):
    rng = np.random.default_rng(0)
    is_regression = loss == "mean_squared_error"
    labels = rng.normal(size=40).astype("float32") if is_regression else np.arange(40) % 2
    images = rng.normal(size=(40, 8, 8, 1)).astype("float32")
    np.savez(tmp_path / "set.npz", x=images, y=labels)
    overrides = {**SMALL, "loss.name": loss, "train.batch_size": 8}
    out = tmp_path / "cv"
    training.cross_validate(
        "quick", model="resnet10", folds=2, data=f"npz:{tmp_path}/set.npz", out=out, overrides=overrides, verbose=0
    )
    mean = evaluation.open_predictor(out)
    read = mean.task.answers(mean.read(mean.model.predict(images, verbose=0)), 2, ())
    answers = []
    for number in (1, 2):
        one = evaluation.open_predictor(out / f"fold-{number}")
        answers.append(one.task.answers(one.read(one.model.predict(images, verbose=0)), 2, ()))

    def value(answer):
        if is_regression:
            return answer["values"][0]
        return next(found["probability"] for found in answer["classes"] if found["index"] == 1)

    for found, *members in zip(read, *answers, strict=True):
        assert value(found) == pytest.approx(np.mean([value(member) for member in members]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["mean.keras", "folds.json", "out_of_fold.csv"])
def test_a_file_that_no_cross_validation_wrote_is_not_replaced(arrays, tmp_path, name, resume):
    (tmp_path / name).write_text("mine")
    options = {"data": f"npz:{arrays}", "overrides": SMALL, "verbose": 0, "resume": resume}
    with pytest.raises(ValueError, match=f"holds '{name}' already|holds a '{name}' that no cross-validation wrote"):
        training.cross_validate("quick", folds=2, out=tmp_path, **options)
    assert {path.name for path in tmp_path.iterdir()} == {name} and (tmp_path / name).read_text() == "mine"


def test_folds_leave_groups_whole(tmp_path):
    rows = ["path,label,patient"]
    for number in range(24):
        for side in "ab":
            (tmp_path / f"{number}{side}.png").write_bytes(picture(2 * number + (side == "b"), "PNG", (8, 8)))
            rows.append(f"{number}{side}.png,{'xy'[number % 2]},p{number}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    seen = []
    for number in range(1, 5):
        dataset = data.load(f"csv:{tmp_path}/t.csv", fold=f"{number}/4")
        groups = {split: set(dataset.groups_of(split)) for split in dataset.sizes}
        assert not groups["train"] & groups["test"] and not groups["validation"] & (groups["train"] | groups["test"])
        assert len(dataset.split("test").labels) == 12 and dataset.split("test").labels.mean() == 0.5
        seen += sorted(groups["test"])
    assert sorted(seen) == sorted(f"p{number}" for number in range(24))


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "1", "a/b"])
def test_what_is_no_fold_is_refused(arrays, fold):
    with pytest.raises(ValueError, match="is not a fold. Allowed is which of how many"):
        data.load(f"npz:{arrays}", fold=fold)


def test_validation_folds_leave_the_test_split_alone(arrays):
    plain = data.load(f"npz:{arrays}")
    parts = [data.load(f"npz:{arrays}", validation_fold=f"{number}/4") for number in range(1, 5)]
    assert {part.split("test").fingerprint() for part in parts} == {plain.split("test").fingerprint()}
    assert list(parts[0].sizes) == ["train", "validation", "test"]
    seen = np.concatenate([part.arrays("validation")[0].reshape(-1, 64) for part in parts])
    whole = np.concatenate([plain.arrays(split)[0].reshape(-1, 64) for split in ("train", "validation")])
    np.testing.assert_array_equal(np.sort(seen.sum(axis=1)), np.sort(whole.sum(axis=1)))
    counts = [np.bincount(part.split("validation").labels) for part in parts]
    assert all(np.ptp(count) <= 1 for count in counts)
    own = dict(np.load(arrays))
    path = arrays.with_name("own.npz")
    np.savez(path, x_train=own["x"], y_train=own["y"], x_val=own["x"][:9], y_val=own["y"][:9])
    with pytest.raises(ValueError, match="a validation split of their own"):
        data.load(f"npz:{path}", validation_fold="1/4")
    with pytest.raises(ValueError, match="validation_fold='5/4' is not a fold"):
        data.load(f"npz:{arrays}", validation_fold="5/4")


def test_folds_that_cannot_be_are_refused_before_anything_is_written(arrays, tmp_path, capsys):
    options = {"data": f"npz:{arrays}", "out": tmp_path / "cv", "overrides": SMALL}
    for folds, match in ((1, "folds"), (91, "cannot be dealt of 90 examples")):
        with pytest.raises(ValueError, match=match):
            training.cross_validate("quick", model="resnet10", folds=folds, **options)
    with pytest.raises(ValueError, match="data.fold was given for a cross-validation"):
        training.cross_validate("quick", model="resnet10", **{**options, "overrides": {"data.fold": "1/5"}})
    assert not (tmp_path / "cv").exists()
    for words in (["--folds", "3"], ["--folds", "3", "--out", str(tmp_path / "cv"), "--processes", "2"]):
        assert cli.main(["train", *words]) == 2
        assert "--folds" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_a_page_and_prints_a_table(arrays, tmp_path, capsys):
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    words = ["train", "--folds", "2", "--data", f"npz:{arrays}", "--out", str(tmp_path / "cv"), *sets]
    assert not cli.main(words)
    told = capsys.readouterr().out
    assert "spread" in told and "out of fold" in told
    page = (tmp_path / "cv" / "folds.html").read_text()
    # The same page again, from the folder alone.
    assert not cli.main(["report", str(tmp_path / "cv"), "--out", str(tmp_path / "again.html")])
    assert (tmp_path / "again.html").read_text() == page
    scores = json.loads((tmp_path / "cv" / "folds.json").read_text())
    accuracies = [fold["accuracy"] for fold in scores["folds"]]
    rows = re.findall(r"<tr .*?</tr>", page)
    expected = {
        "1": accuracies[0],
        "2": accuracies[1],
        "mean": statistics.mean(accuracies),
        "spread": statistics.stdev(accuracies),
        "out of fold": scores["out_of_fold"]["accuracy"],
    }
    assert scores["mean"]["accuracy"] == pytest.approx(expected["mean"])
    assert scores["spread"]["accuracy"] == pytest.approx(expected["spread"])
    for title, accuracy in expected.items():
        (row,) = (row for row in rows if f'data-label="fold">{title}</td>' in row)
        assert f'data-label="accuracy">{accuracy:.4g}</td>' in row
    assert "fold-2" in page and "Curves" in page
    members = [Run.load(tmp_path / "cv" / name).model for name in ("fold-1", "fold-2")]
    assert mean_of_models(members).output_shape == (None, 3)
    (tmp_path / "cv" / "folds.json").write_text("{}")
    assert cli.main(["report", str(tmp_path / "cv"), "--out", str(tmp_path / "again.html")]) == 2
    assert "holds no whole folds.json" in capsys.readouterr().err


@pytest.mark.slow
def test_folds_of_several_labels_have_thresholds_of_their_own_and_the_mean_has_theirs(tmp_path):
    from keras_resnet import preprocessing
    from keras_resnet.evaluation import scores

    rng = np.random.default_rng(0)
    labels = (rng.random((90, 3)) < 0.4).astype("int64")
    images = (rng.normal(size=(90, 8, 8, 1)) + labels.sum(axis=1)[:, None, None, None]).astype("float32")
    np.savez(tmp_path / "set.npz", x=images, y=labels, class_names=["label", "b", "=c"])
    overrides = {**SMALL, "loss.name": "multilabel_cross_entropy"}
    spec = f"npz:{tmp_path / 'set.npz'}"
    found = training.cross_validate(
        "quick", model="resnet10", folds=2, data=spec, out=tmp_path / "cv", overrides=overrides, verbose=0
    )
    cuts = [Run.load(tmp_path / "cv" / name).record.thresholds for name in ("fold-1", "fold-2")]
    mean = evaluation.load_model(tmp_path / "cv")
    assert preprocessing.for_model(mean).thresholds == pytest.approx(np.mean(cuts, axis=0).tolist())
    with open(tmp_path / "cv" / "out_of_fold.csv", newline="") as file:
        header, *rows = csv.reader(file)
    shown = ["class label", "b", "'=c"]  # each column once, and nothing that a program for tables would compute
    assert header == ["path", "fold", "label", *shown]
    written = np.array([[name in row[2].split("|") for name in shown] for row in rows])
    chances = np.array([row[3:] for row in rows], "float64")
    own = np.array([cuts[int(row[1]) - 1] for row in rows])
    expected = scores.multilabel(np.log(chances) - np.log1p(-chances), written, "abc", own)
    assert found.out_of_fold["f1"] == pytest.approx(expected["f1"], abs=1e-6)
    assert sorted(map(tuple, written.tolist())) == sorted(map(tuple, (labels > 0).tolist()))
    issues = evaluation.label_issues(tmp_path / "cv")
    assert len(issues) == 3 * len(rows) and all(issue.several for issue in issues)
    place = {(row[0], name): (row, index) for row in rows for index, name in enumerate(shown)}
    for issue in issues[:20]:
        row, index = place[issue.path, issue.label.rpartition(":")[0]]
        there = shown[index] in row[2].split("|")
        assert (
            issue.label == f"{shown[index]}: {'yes' if there else 'no'}"
            and issue.guess.partition(":")[0] == issue.label.partition(":")[0]
        )
        assert issue.quality == pytest.approx(
            chances[rows.index(row), index] if there else 1 - chances[rows.index(row), index]
        )


@pytest.mark.slow
def test_the_mean_model_reads_other_data_as_its_folds_did(tmp_path):
    lines = ["picture,height,weight"]
    for index in range(30):
        (tmp_path / f"{index}.png").write_bytes(picture(index, "PNG", (8, 8)))
        lines.append(f"{index}.png,{index % 3},{index % 5}")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    (tmp_path / "b.csv").write_text("\n".join([lines[0], *lines[11:]]))
    columns = "path=picture,label=height+weight,weight=none"
    settings = {**SMALL, "train.batch_size": 8, "loss.name": "mean_squared_error", "data.columns": columns}
    words = {"folds": 2, "out": tmp_path / "cv", "overrides": settings, "verbose": 0}
    training.cross_validate("quick", model="resnet10", data=f"csv:{tmp_path / 'a.csv'}", **words)
    found = evaluation.evaluate(tmp_path / "cv", f"csv:{tmp_path / 'b.csv'}")
    dataset = data.load(f"csv:{tmp_path / 'b.csv'}", task="regression", columns=columns)
    expected = evaluation.evaluate(keras.saving.load_model(tmp_path / "cv" / "mean.keras"), dataset, split="all")
    assert found["examples"] == 20 and found["mae"] == pytest.approx(expected["mae"])
