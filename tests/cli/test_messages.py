"""What messages advise exists: options of commands, fields of recipes, functions of the package."""

import ast
import pathlib
import re

import keras
import pytest

import keras_resnet
from keras_resnet.cli import names
from keras_resnet.cli.options import COMMANDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "keras_resnet").rglob("*.py"), *(ROOT / "tuning").rglob("*.py")])
OPTIONS = {name for row in COMMANDS.values() for found, _ in row.options for name in found} | {
    "--help",
    "--version",
}
# Of pip, in messages about packages.
FOREIGN = {"--upgrade"}
# A function of PyTorch, and a file of a search.
OTHERS = {("model", "state_dict"), ("search", "json")}
FIELDS = names.recipe_fields()


def messages(path):
    """Yields the texts in the raise statements of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            parts = [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
            yield " ".join(part for part in parts if isinstance(part, str))


def exists(section, name):
    if name in FIELDS.get(section, ()):
        return True
    owners = {"model": [keras.Model], "data": [keras_resnet.data], "training": [keras_resnet.training]}
    return any(hasattr(owner, name) for owner in owners.get(section, []))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_message_advises_what_exists(path):
    for text in messages(path):
        unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - OPTIONS - FOREIGN
        assert not unknown, text
        for section, name in re.findall(rf"\b({'|'.join(FIELDS)})\.([a-z_]+)\b(?!\.py)", text):
            assert (section, name) in OTHERS or exists(section, name), f"{section}.{name} in: {text}"


def test_the_messages_are_found():
    found = [text for path in FILES for text in messages(path)]
    assert len(found) > 300 and any("--resume" in text for text in found)
