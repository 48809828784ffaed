"""What the whole package promises about itself: direction of imports, weight of an import, sizes, docstrings."""

import ast
import functools
import importlib
import inspect
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

import keras_resnet

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_resnet"

# A room may import from those with a lower number, never from its neighbors.
ORDER = (
    ("errors", "terminal"),
    ("arguments", "files", "locks", "memory", "needs_tensorflow", "processor", "standard_error"),
    ("blocks", "figures", "tasks"),
    ("preprocessing",),
    ("weights",),
    ("models",),
    ("data", "distribution"),
    ("training",),
    ("evaluation",),
    ("export", "explain", "benchmark"),
    ("tuning",),
    ("report",),
    ("auto", "publishing", "shrink", "tracking"),
    ("demo",),
    ("cli",),
    ("__main__",),
)
LEVELS = {name: level for level, names in enumerate(ORDER) for name in names}
CORE = ("errors", "arguments", "files", "processor", "blocks", "models", "weights", "preprocessing", "tasks")
PYTHON_FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tuning").rglob("*.py")])
MODULES = [path for path in PYTHON_FILES if path != PACKAGE / "__init__.py"]
TEXTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def name_of(path):
    return str(path.relative_to(ROOT))


def dotted(path):
    """The name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "keras_resnet" else ("keras_resnet", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(path):
    return dotted(path).split(".")[1]


def imports(path, tree):
    """Yields the dotted names that a file imports, relative ones resolved."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            yield from (f"{base}.{alias.name}" for alias in node.names)


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text("utf-8"))


def test_imports_point_inward():
    for path in MODULES:
        here = room(path)
        for name in imports(path, tree_of(path)):
            parts = name.split(".")
            if parts[0] != "keras_resnet" or name == "keras_resnet.__version__":
                continue
            assert len(parts) > 1, f"{name_of(path)}: import a room by its name, not the whole package"
            assert parts[1] in LEVELS, f"{name_of(path)}: {name} is not in a room; import from the room that defines it"
            inward = parts[1] == here or LEVELS[parts[1]] < LEVELS[here]
            assert inward, f"{name_of(path)} imports {name}, which lies further out"


# The forms for TensorFlow are imported when a layer is first called on that backend.
KERNELS = PACKAGE / "blocks" / "kernels"
WITHOUT_TENSORFLOW = [
    path for path in MODULES if room(path) in CORE and (path.parent != KERNELS or path.name == "__init__.py")
]


def test_the_core_does_not_import_tensorflow_when_it_is_imported():
    found = {}
    for path in WITHOUT_TENSORFLOW:
        tree = ast.parse(path.read_text("utf-8"))
        tree.body = [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        names = [name for name in imports(path, tree) if name.split(".")[0] in ("tensorflow", "tensorflow_datasets")]
        found |= {name_of(path): names} if names else {}
    assert not found


def test_the_core_imports_what_keras_needs_alone():
    """Models, blocks and preprocessing run where only Keras, NumPy and a backend are installed."""
    by_name = {dotted(path): path for path in PYTHON_FILES}
    waiting, seen, found = list(WITHOUT_TENSORFLOW), set(), {}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        top = ast.Module([node for node in tree_of(path).body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
        names = set(imports(path, top))
        outside = {name.split(".")[0] for name in names} - sys.stdlib_module_names
        found |= {name_of(path): outside} if outside - {"keras", "numpy", "h5py", "keras_resnet"} else {}
        parts = {by_name.get(name) or by_name.get(name.rpartition(".")[0]) for name in names if name != "keras_resnet"}
        waiting += [part for part in parts if part not in (None, PACKAGE / "__init__.py") and part not in seen]
    assert not found


def test_importing_the_package_loads_nothing_from_elsewhere_beyond_keras():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_resnet; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "keras_resnet" in loaded
    assert loaded - {"keras_resnet"} <= sys.stdlib_module_names


def code_lines(function):
    """How many lines a function has without its signature and docstring."""
    documented = ast.get_docstring(function) is not None
    body = function.body[1:] if documented else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_a_function_is_at_most_60_lines():
    assert not [
        f"{name_of(path)}: {node.name}"
        for path in PYTHON_FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef) and code_lines(node) > 60
    ]


def test_no_file_is_a_drawer():
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert not [name_of(path) for path in [*PYTHON_FILES, *(ROOT / "tests").rglob("*.py")] if path.stem in drawers]


def test_a_folder_holds_more_than_one_file():
    for folder in PACKAGE.rglob("*"):
        if (folder / "__init__.py").is_file() and not folder.is_symlink():
            others = [path for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__")]
            assert len(others) > 1, name_of(folder)


def test_no_path_of_one_machine_stands_in_the_sources():
    texts = [path for path in (ROOT / "examples").rglob("*.*") if path.is_file()]
    for path in [*PYTHON_FILES, *TEXTS, *texts]:
        assert not re.findall(r"(?<![\w.])/(?:work|home|root|tmp|Users|opt)/\S*", path.read_text("utf-8")), name_of(
            path
        )


PUBLIC = ("", "distribution", "cli", *keras_resnet.ROOMS)


def unnamed_arguments(thing, documentation):
    try:
        parameters = inspect.signature(thing).parameters.values()
    except ValueError:  # a class whose constructor is not written in Python
        return []
    # Python 3.11.2 gives (*args, **kwargs), those of `Layer.__new__`, for a layer that inherits its constructor.
    names = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    return [name for name in names if name != "self" and not re.search(rf"\b{name}\b", documentation)]


@pytest.mark.parametrize("room", PUBLIC)
def test_public_docstrings_name_every_argument(room):
    module = importlib.import_module(f"keras_resnet.{room}".removesuffix("."))
    missing = {}
    for name, thing in sorted(vars(module).items()):
        if (
            name.startswith("_")
            or not callable(thing)
            or not getattr(thing, "__module__", "").startswith(module.__name__)
        ):
            continue
        # A dataclass documents its fields where it defines them.
        classes = inspect.getmro(thing) if inspect.isclass(thing) else (thing,)
        ours = [part for part in classes if part.__module__.startswith("keras_resnet")]
        missing[name] = unnamed_arguments(thing, "\n".join(inspect.getdoc(part) or "" for part in ours))
        for key, method in vars(thing).items() if inspect.isclass(thing) else ():
            documentation = inspect.getdoc(method) or ""
            if inspect.isfunction(method) and "Args:" in documentation:
                missing[f"{name}.{key}"] = unnamed_arguments(method, documentation)
    assert not {name: arguments for name, arguments in missing.items() if arguments}


# What a function of this package raises for itself, and catches in the function that called it.
CAUGHT = {
    "__init__.py": 1,  # beside the namesake, which no command survives
    "files.py": 2,
    "models/validation.py": 3,
    "data/sources/npz.py": 1,
    "data/sources/folder.py": 1,
    "distribution/peers.py": 1,
    "training/state.py": 4,
}


def raised_by(path):
    """Yields the name of what each `raise` of a file makes; None where an error goes on as it came."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Raise):
            call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            yield getattr(call, "id", getattr(call, "attr", None))


def test_what_is_raised_for_a_user_says_so_by_its_class():
    found = {}
    for path in PYTHON_FILES:
        plain = [name for name in raised_by(path) if name in ("ValueError", "TypeError", "ImportError", "OSError")]
        if plain:
            found[path.relative_to(ROOT).as_posix().removeprefix("keras_resnet/")] = len(plain)
    assert found == CAUGHT


def test_the_text_that_a_mutant_changes_stands_once_in_its_file():
    mutants = runpy.run_path(str(ROOT / "tests" / "mutants.py"))
    found = {
        mutant.name: mutants["_path_of"](mutant).read_text("utf-8").count(mutant.before)
        for mutant in mutants["MUTANTS"]
    }
    assert not {name: count for name, count in found.items() if count != 1}
