"""What a command line names and is not there, found before Keras is loaded: models, recipes, fields, files.

A mistyped name is told at once. The messages are those of the library, which checks everything again.
"""

import argparse
import ast
import csv
import os
import pathlib
import re
import tomllib
from collections.abc import Iterable

from keras_resnet.arguments import suggestion
from keras_resnet.models.variants import VARIANTS

PACKAGE = pathlib.Path(__file__).resolve().parents[1]


# The rows of `keras_resnet.data.sources`, read from its files: importing them loads TensorFlow.
ROW = re.compile(r' = Source\("(\w+)", \w+, "([^"]+)"')


def data_sources(package: pathlib.Path = PACKAGE) -> dict[str, str]:
    """Returns name -> spec of the data sources, such as "csv:FILE"."""
    return dict(
        sorted(row for path in package.glob("data/sources/*.py") for row in ROW.findall(path.read_text("utf-8")))
    )


def recipe_titles(package: pathlib.Path = PACKAGE) -> str:
    """Returns the text of `keras-resnet recipes`: each recipe of the package, and its source."""
    paths = sorted((package / "training" / "recipes").glob("*.toml"), key=lambda path: path.stem)
    sources = {path.stem: tomllib.loads(path.read_text("utf-8"))["about"]["source"] for path in paths}
    return "\n".join(f"{name:<20} {source}" for name, source in sources.items())


def weights_table(models: Iterable[str], package: pathlib.Path = PACKAGE) -> str:
    """Returns the text of `keras-resnet list --weights`: the published weights of some models."""
    models = set(models)
    lines = [f"{'model':<12}{'tag':<28}{'publisher':<20}{'top 1':>7}{'px':>6}  license"]
    with open(package / "weights" / "sources.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["model"] in models:
                top1 = f"{float(row['top1']):.2f}" if row["top1"] else ""
                cells = f"{row['model']:<12}{row['tag']:<28}{row['publisher']:<20}{top1:>7}{row['measured_at']:>6}"
                lines.append(f"{cells}  {row['license'] or '-'}")
    return "\n".join(lines)


def find_problem(options: argparse.Namespace) -> str | None:
    """Returns one message about the unknown names on a command line; None if all are known.

    Args:
        options: as `parse` returns them.
    """
    arguments = vars(options)
    problems = [
        _model(arguments.get("model"), options.command),
        _recipe(arguments.get("recipe")) if options.command != "recipes" else None,
        _data(arguments.get("data"), arguments.get("data_dir")),
        *(
            _path(path, "a run folder, a .keras file, or NAME:TAG of weights")
            for path in [arguments.get("trained")]
            if not path or path.partition(":")[0] not in (*VARIANTS, "hf")
        ),
        *(_path(path, "a run folder") for path in [arguments.get("run"), *(arguments.get("runs") or ())]),
        *(
            _path(
                path,
                "a file of weights or a run folder"
                if options.command == "convert"
                else "the folder of a run or of a search",
            )
            for path in [arguments.get("source")]
        ),
        *(_path(path, "an image file or a folder of such") for path in arguments.get("images") or ()),
        *(_setting(text, options.command) for text in arguments.get("set") or ()),
    ]
    return next((message for message in problems if message), None)


def recipe_fields(package: pathlib.Path = PACKAGE) -> dict[str, tuple[str, ...]]:
    """Returns the names of the fields of each section of a recipe, and of "search", read from the source files."""
    sections: dict[str, tuple[str, ...]] = {}
    tuning = next(path for path in (package / "tuning", package.parent / "tuning") if path.is_dir())
    for path in [*sorted((package / "training").glob("*.py")), tuning / "definition.py"]:
        for node in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(node, ast.ClassDef) or not any("Section" in ast.unparse(base) for base in node.bases):
                continue
            titles = [
                line.value.value
                for line in node.body
                if isinstance(line, ast.Assign)
                and ast.unparse(line.targets[0]) == "title"
                and isinstance(line.value, ast.Constant)
            ]
            names = [
                ast.unparse(line.target)
                for line in node.body
                if isinstance(line, ast.AnnAssign) and line.value and "ClassVar" not in ast.unparse(line.annotation)
            ]
            sections.update({str(title): tuple(names) for title in titles})
    return sections


def _model(name: str | None, command: str) -> str | None:
    if name is None or name in VARIANTS:
        return None
    if command == "info" and (os.path.exists(name) or name.partition(":")[0] in (*VARIANTS, "hf")):
        return None
    return _unknown("MODEL" if command == "info" else "model", name, VARIANTS)


def _recipe(name: str | None) -> str | None:
    if name is None:
        return None
    if pathlib.Path(name).suffix == ".toml":
        if pathlib.Path(name).is_file():
            return None
        return f"recipe={name!r} is not a file. Allowed is a TOML file. Check the path."
    names = sorted(path.stem for path in (PACKAGE / "training" / "recipes").glob("*.toml"))
    return None if name in names else _unknown("recipe", name, names)


def _data(spec: str | None, data_dir: str | None) -> str | None:
    if spec is None:
        return None
    source, _, argument = spec.partition(":")
    sources = data_sources()
    if source not in sources:
        return None if os.path.exists(spec) else _unknown("data source", source, sources)
    path = pathlib.Path(data_dir or "", argument).expanduser()
    if sources[source] in ("csv:FILE", "folder:PATH", "npz:FILE") and argument and not path.exists():
        return f"data={spec!r}: {os.fspath(path)!r} is not there. Allowed is a path that exists. Check it."
    return None


def _path(path: str | None, allowed: str) -> str | None:
    if path is None or os.path.lexists(os.path.expanduser(path)):
        return None
    return f"{path!r} is not there. Allowed is {allowed}. Check the path."


def _setting(text: str, command: str) -> str | None:
    name, equals, _ = text.partition("=")
    title, dot, field = name.strip().partition(".")
    if not equals or not dot or command == "info":
        return None
    sections = {key: names for key, names in recipe_fields().items() if key != "search" or command == "tune"}
    if title in sections and field in sections[title]:
        return None
    field_names = [f"{section}.{name}" for section, names in sections.items() for name in names if section == title]
    field_names = field_names or [f"{section}.{name}" for section, names in sections.items() for name in names]
    allowed = ", ".join(field_names) if title in sections else f"a field of {', '.join(sorted(sections))}"
    return (
        f"The recipe key {name.strip()!r} is not known. {suggestion(name.strip(), field_names)}Use one of: {allowed}."
    )


def _unknown(argument: str, value: str, names: Iterable[str]) -> str:
    allowed = ", ".join(repr(name) for name in names)
    return f"{argument}={value!r} is not known. {suggestion(value, names)}Use one of: {allowed}."
