"""What commands are made of: the table of commands, the options that several take, and what these mean as arguments.

Nothing here loads Keras, so that `--help` and what only lists are quick.
"""

import argparse
import dataclasses
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from keras_resnet.arguments import suggestion
from keras_resnet.cli.names import PACKAGE, data_sources
from keras_resnet.errors import BadValue


def _words(files: str, pattern: str) -> list[str]:
    """Returns what a pattern finds in source files: importing their tables would load TensorFlow."""
    return [
        word
        for path in sorted(PACKAGE.glob(files))
        for word in re.findall(pattern, path.read_text("utf-8"), re.MULTILINE)
    ]


def _keys(file: str, table: str) -> list[str]:
    """Returns the keys of a table in a source file."""
    text = (PACKAGE / file).read_text("utf-8")
    body = re.search(rf"^{table}\b[^\n]*= \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    return re.findall(r'^    "([\w-]+)":', body[1] if body else "", re.MULTILINE)


SPECS = sorted(data_sources().values())
SPEC = f"{', '.join(SPECS[:-1])} or {SPECS[-1]}"
DESCRIPTION = "Residual networks for Keras: train them, evaluate them, predict with them."
EPILOG = """\
first steps:
  keras-resnet train --out runs/digits            ResNet-18 on scikit-learn's handwritten digits, about a minute
  keras-resnet evaluate runs/digits               accuracy on the test split, class by class
  keras-resnet predict runs/digits image.png      the classes of one image, the most probable first

exit status: 0 done; 2 a mistake in what was asked, told in one message; 130 interrupted, and the run resumable.
"""

Option = tuple[tuple[str, ...], dict[str, Any]]


def option(*names: str, **arguments: Any) -> Option:
    """Returns one option: the arguments of `ArgumentParser.add_argument`."""
    return names, arguments


DATA = option("--data", metavar="SPEC", help=f"the data: {SPEC}")
# `train photos/`, beside `train --data photos/`.
PATH = option("path", metavar="SPEC", nargs="?", help="the data, as for --data")
OTHER_DATA = option("--data", metavar="SPEC", help=f"{SPEC}; a run folder has its own")
DATA_DIR = option("--data-dir", metavar="DIR", help="where TFDS finds its prepared data sets")
JSON = option("--json", action="store_true", help="print one JSON object instead of a table")
RESUME = option("--resume", action="store_true", help="go on where the folder stands; start where it is empty")
SEED = option("--seed", type=int, metavar="N", help="of weights, order and augmentation")
SET = option("--set", action="append", default=[], metavar="a.b=v", help="set one value of the recipe; repeatable")
MINUTES = option("--minutes", type=float, metavar="T", help="how long to train: as many epochs as fit, measured")
EPOCHS = option("--epochs", type=int, metavar="N", help="passes over the training split")
BATCH_SIZE = option("--batch-size", type=int, metavar="N", help="images per step")
TRAINED = option("trained", metavar="RUN|MODEL", help="a run folder, a .keras file, or NAME:TAG of weights")
ENGINE = option("--engine", choices=["local", "ray"], default="local", help="what runs it (default: %(default)s)")
ADDRESS = option("--address", metavar="HOST:PORT", help="of the Ray cluster (default: that of this machine)")
IMAGES = option("images", metavar="IMAGE", nargs="+", help="image files or arrays (.npy, .npz), or folders of them")
TASKS = _words("tasks/*.py", r'^    name = "(\w+)"')
TASK = option("--task", choices=TASKS, help="what a model is for that does not say it itself")
TRACKERS = ["mlflow", "wandb", "trackio"]
VIEWS = _keys("training/folds.py", "VIEWS")
FORMATS = _keys("export/formats.py", "FORMATS")
TTA = option("--tta", choices=VIEWS, default="none", help="views whose answers are averaged (default: %(default)s)")


@dataclasses.dataclass(frozen=True)
class Command:
    """One command: what it does, its options, what follows its name in the two examples of its help, its function.

    Attributes:
        needs_keras: whether Keras is loaded before its function runs; the function loads it itself otherwise.
    """

    summary: str
    options: tuple[Option, ...]
    examples: tuple[str, str]
    run: Callable[[argparse.Namespace], int | None]
    needs_keras: bool


COMMANDS: dict[str, Command] = {}


def command(name: str, summary: str, *options: Option, examples: tuple[str, str], needs_keras: bool = True) -> Callable:
    """Returns a decorator that makes a function of the parsed options a command, which returns its exit status or None.

    Example:
        >>> from keras_resnet.cli.options import COMMANDS, command
        >>> @command("hello", "greet", examples=("", ""), needs_keras=False)
        ... def hello(options):
        ...     print("hello")
        >>> COMMANDS.pop("hello").run(None)
        hello
    """

    def add(run: Callable[[argparse.Namespace], int | None]) -> Callable[[argparse.Namespace], int | None]:
        COMMANDS[name] = Command(summary, options, examples, run, needs_keras)
        return run

    return add


# Headings of `--help` beside argparse's own "options", which holds the others.
GROUPS = {
    "data": ("--data", "--data-dir", "--split", "--on-bad-image", "--calibration"),
    "output": (
        *("--out", "--json", "--json-lines", "--csv", "--page", "--svg", "--top", "--port", "--format", "--quantize"),
        *("--compare", "--dry-run", "--intervals", "--paired", "--at-specificity"),
    ),
}


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line that names the help, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        hint = suggestion(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""
        self.exit(2, f"{self.prog}: {message}. {hint}Run `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    (version,) = _words("__init__.py", r'^__version__ = "(.+)"$')
    top = _Parser(
        prog="keras-resnet",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"keras-resnet {version}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, row in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=row.summary,
            description=f"keras-resnet {name}: {row.summary}.",
            epilog="examples:\n" + "\n".join(f"  keras-resnet {name} {words}" for words in row.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        groups: dict[str | None, Any] = {title: command.add_argument_group(title) for title in GROUPS}
        for names, arguments in row.options:
            title = next((title for title, members in GROUPS.items() if names[0] in members), None)
            groups.get(title, command).add_argument(*names, **arguments)
    return top


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line.

    Args:
        argv: what follows the name of the program; by default `sys.argv[1:]`.

    Returns:
        One attribute for `command` and for each of its options, and `words`, all that was given.

    Raises:
        SystemExit: with status 0 after `--help` and `--version`, with 2 after one line about an option that is unknown,
            missing or of the wrong type.

    Example:
        >>> from keras_resnet.cli.options import parse
        >>> parse(["train", "--epochs", "3"]).epochs
        3
    """
    words = list(sys.argv[1:] if argv is None else argv)
    top = parser()
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        commands = ", ".join(COMMANDS)
        top.error(f"there is no command {words[0]!r}. {suggestion(words[0], COMMANDS)}The commands are: {commands}")
    options, unknown = top.parse_known_args(words)
    if unknown:
        names = [name for names, _ in COMMANDS[options.command].options for name in names if name.startswith("-")]
        hint = suggestion(unknown[0], names) if unknown[0].startswith("-") else ""
        takes = ", ".join(names) or "no options"
        top.error(f"{options.command} does not take {unknown[0]!r}. {hint}It takes: {takes}")
    options.words = words
    if path := getattr(options, "path", None):
        if options.data is not None:
            top.error(f"{options.command} was given {path!r} and --data {options.data!r}. Name the data once")
        options.data = path
    return options


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Returns the options that were given; the others keep the defaults that the library has."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def overrides_of(settings: list[str]) -> dict[str, str]:
    """Returns {"a.b": "v"} for words such as "a.b=v"."""
    overrides = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or "." not in name:
            raise BadValue(
                f"--set {setting} is not of the form section.field=value. Allowed is for example --set model.width=16. "
                "Write it so, without spaces."
            )
        overrides[name.strip()] = value.strip()
    return overrides


def model_arguments(settings: list[str]) -> dict[str, Any]:
    """Returns {"width": 16} for "model.width=16": values as TOML writes them, and bare words as strings."""
    arguments = {}
    for name, text in overrides_of(settings).items():
        section, _, argument = name.partition(".")
        if section != "model":
            raise BadValue(f"--set {name} has no effect here. Allowed is model.NAME=value. Leave it out.")
        try:
            arguments[argument] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            arguments[argument] = text
    return arguments


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """Returns (8, 8, 1) for "8,8,1"."""
    if text is None:
        return None
    sizes = text.replace("x", ",").split(",")
    if not all(size.strip().isdigit() for size in sizes):
        raise BadValue(f"--input-shape {text} is not a list of sizes. Allowed is for example 224,224,3. Write it so.")
    return tuple(int(size) for size in sizes)


def training_overrides(options: argparse.Namespace) -> dict[str, str]:
    """Returns the overrides of `train`: those of --set, and of the options that are fields too."""
    overrides = overrides_of(options.set)
    for field, value in (("train.epochs", options.epochs), ("train.batch_size", options.batch_size)):
        if value is not None:
            overrides[field] = str(value)
    return overrides
