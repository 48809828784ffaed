"""Names that are not there are told without Keras, in the words of the library."""

import os
import pathlib
import subprocess
import sys

import pytest

import keras_resnet
from keras_resnet import training
from keras_resnet.cli import main, names, options
from keras_resnet.cli.options import parse
from keras_resnet.tasks import TASKS
from keras_resnet.training.recipe import TABLES
from keras_resnet.tuning.definition import Settings

ROOT = pathlib.Path(__file__).resolve().parents[2]


def problem(words):
    return names.find_problem(parse(words))


def test_the_fields_that_are_read_from_the_source_are_those_of_the_recipe():
    sections = {**TABLES, "search": Settings}
    assert names.recipe_fields() == {title: tuple(kind.__dataclass_fields__) for title, kind in sections.items()}


def test_the_choices_that_are_read_from_the_source_are_the_tables_of_the_library():
    pytest.importorskip("tensorflow")
    from keras_resnet.export.formats import FORMATS
    from keras_resnet.training.folds import VIEWS

    assert (
        set(options.FORMATS) == set(FORMATS) and set(options.VIEWS) == set(VIEWS) and set(options.TASKS) == set(TASKS)
    )
    assert parse(["evaluate", "net.keras", "--task", "ordinal"]).task == "ordinal"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--model", "resnet19"],
        ["train", "--recipe", "cifr"],
        ["train", "--recipe", "missing.toml"],
        ["train", "--data", "flder:photos"],
        ["train", "--set", "optimizer.lr=1"],
        ["train", "--set", "optimzer.learning_rate=1"],
        ["info", "resnet19"],
    ],
    ids=" ".join,
)
def test_the_words_are_those_of_the_library(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = problem(words)
    assert main(words) == 2
    assert capsys.readouterr().err == f"keras-resnet {words[0]}: {found}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "runs/none"], "'runs/none' is not there. Allowed is a run folder, a .keras file, or NAME:TAG"),
        (["predict", ".", "none.png"], "'none.png' is not there"),
        (["report", "none", "--out", "a.html"], "folder of a run or of a search"),
        (["compare", ".", "none"], "'none' is not there. Allowed is a run folder"),
        (["calibrate", "none"], "'none' is not there"),
        (["train", "--data", "folder:none"], "'none' is not there"),
        (["train", "--data", "npz:none.npz", "--data-dir", "."], "'none.npz' is not there"),
        (["train", "--set", "search.objective=loss"], "'search.objective' is not known"),
        (["tune", "--out", "a", "--set", "search.trials=3"], "search.objective"),
    ],
    ids=" ".join,
)
def test_paths_that_are_not_there_are_named(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in problem(words)


def test_what_is_there_is_no_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "own.toml").write_text("")
    for words in (
        ["train", "--model", "resnet50", "--recipe", "cifar", "--set", "optimizer.learning_rate=1"],
        ["train", "--recipe", "own.toml", "--data", "folder:photos"],
        ["train", "--data", "photos"],  # the library says what to write
        ["info", "photos"],
        ["info", "hf://me/flowers"],
        ["predict", "hf://me/flowers", "photos"],
        ["tune", "--out", "a", "--set", "search.objective=loss"],
        ["predict", "photos", "photos"],
        ["train", "--set", "nonsense"],  # as does it of the form
    ):
        assert problem(words) is None


def test_a_mistyped_name_is_told_without_keras(tmp_path):
    code = "import sys, keras_resnet_command as c; status = c.main(); print(status, 'keras' in sys.modules)"
    command = [sys.executable, "-c", code, "train", "--model", "resnet19"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout == "2 False\n" and "Did you mean 'resnet18'" in done.stderr


def test_a_backend_that_is_not_there_is_named(tmp_path):
    command = [sys.executable, str(ROOT / "keras_resnet_command.py"), "info", "resnet18"]
    environment = {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "nonsense", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "backend 'nonsense'" in done.stderr


def test_a_backend_that_is_not_installed_is_the_package_to_install(tmp_path):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'jax'\", name='jax')\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "KERAS_BACKEND": "jax"}
    command = [sys.executable, str(ROOT / "keras_resnet_command.py"), "info", "resnet18"]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, "HOME": str(tmp_path)})
    assert done.returncode == 2 and "pip install 'keras-resnet-zoo[jax]', or leave KERAS_BACKEND out" in done.stderr


@pytest.mark.slow
def test_rooms_that_need_tensorflow_say_so_where_it_is_missing(tmp_path):
    # A stand-in that hides the package: where it is missing, `find_spec` returns None.
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "tensorflow" else find(name, *rest)
import keras_resnet
for room in ("data", "training", "evaluation", "export", "demo", "report", "benchmark", "tuning"):
    try:
        getattr(keras_resnet, room)
    except ImportError as error:
        print(room, "pip install tensorflow" in str(error))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines() == [
        f"{room} True" for room in ("data", "training", "evaluation", "export", "demo", "report", "benchmark", "tuning")
    ]


def test_recipes_are_listed_shown_and_compared(capsys, tmp_path):
    assert main(["recipes"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == training.list_recipes()
    assert main(["recipes", "cifar"]) == 0
    (tmp_path / "again.toml").write_text(capsys.readouterr().out)
    cifar = training.Recipe.load("cifar")
    assert training.compare_recipes(training.Recipe.load(tmp_path / "again.toml"), cifar) == []
    assert main(["recipes", "cifar", "--compare", "quick"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["field", "cifar", "quick"] and ["model.stem", "small", "auto"] in rows
    assert main(["recipes", "--compare", "quick"]) == 2


@pytest.mark.parametrize("words", [["recipes"], ["list"], ["list", "--weights"], ["list", "*50*"]])
def test_what_only_lists_is_printed_without_keras(words, tmp_path, capsys):
    code = (
        "import sys, keras_resnet_command as c; status = c.main(); "
        "print(status, 'keras' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert done.stderr == "0 False\n"
    main(words)
    assert done.stdout == capsys.readouterr().out and len(done.stdout.splitlines()) > 3


def test_the_listed_weights_and_recipes_are_those_of_the_library():
    rows = names.weights_table(keras_resnet.list_models()).splitlines()[1:]
    assert [tuple(row.split()[:2]) for row in rows] == [(row.model, row.tag) for row in keras_resnet.list_weights()]
    titles = names.recipe_titles().splitlines()
    assert [title.split()[0] for title in titles] == training.list_recipes()
    assert all(training.Recipe.load(title.split()[0]).about.source in title for title in titles)
