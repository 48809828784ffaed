"""What the documentation says is run: examples, commands, figures, links."""

import doctest
import importlib
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.cli.options import COMMANDS, parse
from keras_resnet.models import VARIANTS

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PYTHON_FILES = [path for path in (ROOT / "keras_resnet").rglob("*.py") if path.name != "__main__.py"]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in PYTHON_FILES
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def name_of(path):
    return str(path.relative_to(ROOT))


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    predict, script, _ = blocks(ROOT / "README.md", "python")
    assert len(script.splitlines()) <= 12
    Image.fromarray(np.full((40, 30, 3), 90, "uint8")).save("image.png")
    exec(compile(predict, "README.md", "exec"), {})
    assert "'probability': " in capsys.readouterr().out
    exec(compile(script, "README.md", "exec"), {})
    accuracy = float(re.findall(r"'accuracy': ([\d.]+)", capsys.readouterr().out)[-1])
    assert accuracy > 0.5  # three epochs are enough to be far above the 0.1 of guessing


@pytest.mark.exhaustive
def test_the_resume_of_the_readme_runs_as_it_stands_and_once_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    *_, script = blocks(ROOT / "README.md", "python")
    x, y = np.random.default_rng(0).uniform(0, 255, (96, 32, 32, 3)).astype("float32"), np.arange(96) % 10
    for _ in range(2):
        exec(compile(script, "README.md", "exec"), scope := {"x": x, "y": y})
    assert len(scope["model"].history.history["loss"]) == 3 and int(scope["model"].optimizer.iterations) == 6


PAGES_OF_SCRIPTS = (
    *("coming-from.md", "how-to.md", "fine-tuning.md", "tuning.md", "explain.md", "evaluation.md", "recipes.md"),
    "weights.md",
)
SCRIPTS = [
    pytest.param(script, id=f"{name}, script {number}")
    for name in PAGES_OF_SCRIPTS
    for number, script in enumerate(blocks(ROOT / "docs" / name, "python"), start=1)
]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_of_the_documentation_runs_as_it_stands(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "documentation", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_in_the_documentation_parses(page):
    for line in "".join(blocks(page, "bash")).splitlines():
        if line.startswith("keras-resnet "):
            parse(shlex.split(line, comments=True)[1:])


MODEL_ROW = r"^\| `(\w+)` \| `(\w+)` \|(?: [a-z]+ \| [\d, ]+ \|)? ([\d,]+) \| ([\d.]+) G \|"


def test_the_pages_give_the_models_as_they_are_counted():
    """The table's own figures are counted by the zoo test."""
    readme, page = (
        re.findall(MODEL_ROW, (ROOT / path).read_text("utf-8"), re.M) for path in ("README.md", "docs/models.md")
    )
    assert [row[1] for row in page] == keras_resnet.list_models()
    assert {row[1] for row in readme} >= {"resnet18", "resnet50", "resnext50_32x4d"} and set(readme) <= set(page)
    for constructor, name, parameters, multiply_adds in page:
        variant = VARIANTS[name]
        assert constructor == variant.constructor and hasattr(keras_resnet, constructor)
        assert parameters == f"{variant.parameters:,}"
        assert multiply_adds == f"{variant.multiply_adds / 1e9:.2f}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_between_the_pages_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_of_the_command_line_names_every_command_and_option():
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    for command, row in COMMANDS.items():
        section = re.search(rf"(^## {command}\b.*?(?=^## )|^\| `{command}\b.*?$)", text, re.MULTILINE | re.DOTALL)
        assert section, f"no section about {command}"
        for names, _ in row.options:
            assert not names[0].startswith("-") or re.search(rf"`{names[0]}\b", section[0]), f"{command} {names[0]}"


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(module), optionflags=FLAGS).failed == 0


def public_names(module):
    """The functions and classes of this package that a package re-exports, or that a module defines."""
    room = importlib.import_module(module)
    home = "keras_resnet" if hasattr(room, "__path__") else module
    values = {name: getattr(room, name) for name in dir(room) if not name.startswith("_")}
    return {name for name, value in values.items() if callable(value) and str(value.__module__).startswith(home)}


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_has_every_public_name(tmp_path):
    inventories = pytest.importorskip("sphinx.util.inventory")
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "-c", ROOT / "docs", ROOT, tmp_path]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    contents = inventories.InventoryFile.loads((tmp_path / "objects.inv").read_bytes(), uri="").data
    kinds = ("py:function", "py:class", "py:exception")
    documented = {name.rpartition(".")[2] for kind in kinds for name in contents[kind]}
    for module in contents["py:module"]:
        assert public_names(module) and not public_names(module) - documented
    assert set(contents["py:module"]) >= {f"keras_resnet.{room}" for room in ("data", "training", "evaluation")}
    assert (tmp_path / "index.html").is_file()
    for page in re.findall(r"\((.*)\)$", (tmp_path / "llms.txt").read_text("utf-8"), re.MULTILINE):
        assert (tmp_path / page).is_file(), page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8").failed == 0
