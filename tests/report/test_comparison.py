import json
import re
import shutil

import pytest

from keras_resnet import report, training
from keras_resnet.cli import main

pytestmark = pytest.mark.slow

SMALL = {"model.width": 4, "train.epochs": 2, "train.batch_size": 128}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    first = training.fit("quick", model="resnet10", out=root / "a" / "run", overrides=SMALL, verbose=0)
    changed = {**SMALL, "train.epochs": 1, "optimizer.learning_rate": 0.05, "model.attention": "se"}
    second = training.fit("quick", model="resnet10", out=root / "b" / "run", overrides=changed, verbose=0, seed=3)
    return first, second


@pytest.mark.slow
def test_runs_stand_side_by_side_with_what_differs_in_their_recipes(runs):
    found = report.compare([run.path for run in runs])
    assert found.names == ("a/run", "b/run")
    assert [row["accuracy"] for row in found.rows] == [run.metrics["test"]["accuracy"] for run in runs]
    assert [row["epochs"] for row in found.rows] == [2, 1]
    assert "mse" not in found.rows[0]  # no run has one
    assert found.differing == {
        "model.attention": ("auto", "se"),
        "optimizer.learning_rate": (0.1, 0.05),
        "train.epochs": (2, 1),
        "train.seed": (0, 3),
    }
    lines = str(found).splitlines()
    assert lines[0].split()[:2] == ["run", "accuracy"] and lines[0].split()[-2:] == ["status", "data"]
    assert lines[1].startswith(f"a/run  {runs[0].metrics['test']['accuracy']:.4g}") and "  resnet10  " in lines[1]
    assert "train.seed               0      3" in lines


def test_the_page_has_a_line_for_each_run_and_split(runs, tmp_path, parsed):
    text = report.compare(runs).write(tmp_path / "compare.html").read_text("utf-8")
    parsed(text)
    for curve in ("loss", "accuracy"):
        assert f'id="curve-{curve}"' in text
    assert text.count("a/run, validation</title>") == text.count("b/run, validation</title>") == 2
    assert 'id="curve-mae"' not in text


def test_the_best_figure_of_each_column_is_marked(runs, tmp_path):
    text = report.compare(runs).write(tmp_path / "compare.html").read_text("utf-8")
    marked = re.findall(r'<td class="number winner" data-value="([^"]+)" data-label="([^"]+)"', text)
    for name, best in (("accuracy", max), ("loss", min), ("expected_calibration_error", min)):
        values = {run.metrics["test"][name] for run in runs}
        found = [float(value) for value, label in marked if label == name]
        assert found == ([best(values)] if len(values) > 1 else [])
    assert not {label for _, label in marked} & {"epochs", "minutes", "parameters"}


def test_the_command_prints_tables_or_json(runs, capsys, tmp_path):
    words = ["compare", *(str(run.path) for run in runs)]
    assert main([*words, "--out", str(tmp_path / "c.html")]) == 0
    assert "optimizer.learning_rate  0.1    0.05" in capsys.readouterr().out
    assert (tmp_path / "c.html").is_file()
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in told["runs"]] == ["a/run", "b/run"] and told["differing"]["train.epochs"] == [2, 1]


def test_an_unfinished_run_has_no_figures_and_is_shown(runs, tmp_path):
    shutil.copytree(runs[0].path, tmp_path / "c")
    about = json.loads((tmp_path / "c" / "run.json").read_text("utf-8"))
    for name in ("metrics", "history"):
        about.pop(name)
    (tmp_path / "c" / "run.json").write_text(json.dumps({**about, "status": "running"}), "utf-8")
    found = report.compare([runs[1], tmp_path / "c"])
    assert found.rows[1]["accuracy"] is None and found.rows[1]["status"] == "running"
    assert "curve-loss" in found.write(tmp_path / "c.html").read_text("utf-8")


def test_a_comparison_takes_two_runs(runs, tmp_path, capsys):
    with pytest.raises(ValueError, match="at least two"):
        report.compare([runs[0]])
    with pytest.raises(ValueError, match="holds no run"):
        report.compare([runs[0], tmp_path])
    assert main(["compare", str(runs[0].path), str(runs[1].path), "--out", "page.pdf"]) == 2
    assert "not an HTML file" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_on_different_examples_are_said_to_be_so(runs, tmp_path):
    words = {**SMALL, "train.epochs": 1, "data.split_seed": 5}
    other = training.fit("quick", model="resnet10", out=tmp_path / "other", overrides=words, verbose=0)
    alike, different = report.compare(runs), report.compare([runs[0], other])
    assert alike.is_of_one_test and "warning" not in str(alike)
    assert not different.is_of_one_test and "warning: the runs were scored on different examples" in str(different)
    assert "scored on different examples" in different.write(tmp_path / "a.html").read_text("utf-8")
