"""The commands and their options, as data for argparse.

It imports nothing of the package: the program `keras-resnet` reads this file by its path, so that --help is quick.
"""

import argparse
import difflib
import pathlib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

PACKAGE = pathlib.Path(__file__).resolve().parents[1]


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


SPECS = sorted(_words("data/sources/*.py", r' = Source\("\w+", \w+, "([^"]+)"'))
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


def _option(*names: str, **arguments: Any) -> Option:
    return names, arguments


DATA = _option("--data", metavar="SPEC", help=f"the data: {SPEC}")
# `train photos/`, beside `train --data photos/`.
PATH = _option("path", metavar="SPEC", nargs="?", help="the data, as for --data")
OTHER_DATA = _option("--data", metavar="SPEC", help=f"{SPEC}; a run folder has its own")
DATA_DIR = _option("--data-dir", metavar="DIR", help="where TFDS finds its prepared data sets")
JSON = _option("--json", action="store_true", help="print one JSON object instead of a table")
RESUME = _option("--resume", action="store_true", help="go on where the folder stands; start where it is empty")
SEED = _option("--seed", type=int, metavar="N", help="of weights, order and augmentation")
SET = _option("--set", action="append", default=[], metavar="a.b=v", help="set one value of the recipe; repeatable")
MINUTES = _option("--minutes", type=float, metavar="T", help="how long to train: as many epochs as fit, measured")
EPOCHS = _option("--epochs", type=int, metavar="N", help="passes over the training split")
BATCH_SIZE = _option("--batch-size", type=int, metavar="N", help="images per step")
TRAINED = _option("trained", metavar="RUN|MODEL", help="a run folder, a .keras file, or NAME:TAG of weights")
ENGINE = _option("--engine", choices=["local", "ray"], default="local", help="what runs it (default: %(default)s)")
ADDRESS = _option("--address", metavar="HOST:PORT", help="of the Ray cluster (default: that of this machine)")
IMAGES = _option("images", metavar="IMAGE", nargs="+", help="image files or arrays (.npy, .npz), or folders of them")
TASKS = _words("tasks/*.py", r'^    name = "(\w+)"')
TASK = _option("--task", choices=TASKS, help="what a model is for that does not say it itself")
TRACKERS = ["mlflow", "wandb", "trackio"]
VIEWS = _keys("training/folds.py", "VIEWS")
FORMATS = _keys("export/formats.py", "FORMATS")
TTA = _option("--tta", choices=VIEWS, default="none", help="views whose answers are averaged (default: %(default)s)")

# A row a command: what it does, its options, and what follows its name in the two examples of its help.
COMMANDS: dict[str, tuple[str, list[Option], tuple[str, str]]] = {
    "list": (
        "the models, with their parameters and multiply-adds; or the published weights",
        [
            _option("pattern", metavar="PATTERN", nargs="?", help="names that match, such as '*50*'"),
            _option("--weights", action="store_true", help="the weights, with publisher, license and accuracy"),
        ],
        ("'*50*'", "--weights"),
    ),
    "info": (
        "a model stage by stage: shapes, parameters, multiply-adds, memory",
        [
            _option(
                "model", metavar="MODEL", help="a name that `list` prints, NAME:TAG, a run folder or a .keras file"
            ),
            _option("--input-shape", metavar="H,W,C", help="of one input, such as 224,224,3"),
            _option("--set", action="append", default=[], metavar="model.b=v", help="such as model.stem=small"),
            _option("--svg", metavar="FILE.svg", help="draw the block diagram too"),
        ],
        ("resnet50", "resnet18 --input-shape 32,32,3 --set model.stem=small"),
    ),
    "recipes": (
        "the recipes; one of them, or what differs between two",
        [
            _option("name", metavar="NAME|FILE.toml", nargs="?", help="a recipe to show; without one all are listed"),
            _option("--compare", metavar="NAME|FILE.toml", help="show the fields in which this one differs"),
        ],
        ("", "quick --compare cifar"),
    ),
    "train": (
        "train a model by a recipe and leave a run folder",
        [
            PATH,
            DATA,
            DATA_DIR,
            _option("--model", metavar="NAME", help="a name that `list` prints"),
            _option("--recipe", metavar="NAME|FILE.toml", help="a recipe of the package or a file"),
            EPOCHS,
            MINUTES,
            BATCH_SIZE,
            _option("--weights", metavar="TAG|FILE", help="to begin with, such as cifar10; default: random ones"),
            _option("--out", metavar="RUN", help="the run folder to make"),
            RESUME,
            SEED,
            SET,
            _option("--folds", type=int, metavar="K", help="cross-validation: a run for each of K folds"),
            _option("--processes", type=int, metavar="N", help="train together in N processes on this machine"),
            ENGINE,
            _option("--workers", type=int, metavar="N", help="processes on the Ray cluster that train together"),
            ADDRESS,
            _option("--dry-run", action="store_true", help="resolve and build everything, print it, take no step"),
            _option(
                "--track",
                choices=TRACKERS,
                help="send the run there while it trains; its own variables, as MLFLOW_TRACKING_URI, say where",
            ),
        ],
        ("photos/ --minutes 30 --out runs/photos", "--data labels.csv --weights imagenet --out runs/tuned"),
    ),
    "auto": (
        "try three settings, train the best long, and write a page",
        [
            PATH,
            DATA,
            DATA_DIR,
            _option("--model", metavar="NAME", help="a name that `list` prints"),
            _option("--minutes", type=float, default=60.0, metavar="T", help="for all of it (default: %(default)g)"),
            _option("--out", metavar="DIR", required=True, help="the folder; the same command goes on there"),
            SEED,
            SET,
        ],
        ("photos/ --minutes 60 --out runs/auto", "--data labels.csv --out runs/auto"),
    ),
    "evaluate": (
        "score a trained model; every example is counted once",
        [
            TRAINED,
            OTHER_DATA,
            DATA_DIR,
            _option("--split", help="train, validation, test or all (default: test; all of new data without one)"),
            _option("--on-bad-image", choices=["error", "skip"], help="of other data (default: as the run did)"),
            _option("--intervals", action="store_true", help="more scores, each with its 95 %% bootstrap interval"),
            _option("--at-specificity", type=float, metavar="S", help="the sensitivity at this specificity, in (0, 1)"),
            _option("--robustness", action="store_true", help="on corrupted pictures too, at five severities"),
            TTA,
            TASK,
            JSON,
        ],
        ("runs/photos --intervals", "runs/photos --data new_photos/"),
    ),
    "predict": (
        "the most probable classes of image files",
        [
            TRAINED,
            IMAGES,
            _option("--top", type=int, default=5, metavar="N", help="classes to print (default: %(default)s)"),
            _option("--on-bad-image", choices=["error", "skip"], default="error", help="default: %(default)s"),
            TTA,
            TASK,
            JSON,
            _option("--json-lines", action="store_true", help="print one JSON object per image, as they come"),
            _option("--csv", metavar="FILE", help="write a table: file, class, probability"),
            _option("--page", metavar="FILE.html", help="write a page of the pictures, the least sure first"),
            _option("--index", metavar="FILE.parquet", help="say how unlike the examples of `embed` each picture is"),
        ],
        ("runs/photos picture.jpg", "runs/photos new/ --csv answers.csv --page answers.html"),
    ),
    "explain": (
        "class activation maps over images",
        [TRAINED, IMAGES, _option("--out", metavar="DIR", required=True, help="where the PNG files go"), TASK],
        ("runs/photos picture.jpg --out maps", "resnet18:cifar10 pictures/ --out maps"),
    ),
    "lr-find": (
        "a range test: for which learning rates the loss falls",
        [
            PATH,
            DATA,
            DATA_DIR,
            _option("--model", metavar="NAME", help="a name that `list` prints (default: resnet18)"),
            _option("--recipe", metavar="NAME|FILE.toml", help="a recipe of the package or a file (default: quick)"),
            _option("--out", metavar="DIR", required=True, help="where lr.csv and lr.png go"),
            SEED,
            SET,
        ],
        ("photos/ --out ranges", "--data digits --recipe quick --out ranges"),
    ),
    "preview": (
        "a contact sheet of training examples as a recipe changes them",
        [
            PATH,
            DATA,
            DATA_DIR,
            _option("--recipe", metavar="NAME|FILE.toml", help="a recipe of the package or a file (default: quick)"),
            _option("--out", metavar="FILE.png", required=True, help="the picture to make"),
            SEED,
            SET,
        ],
        ("photos/ --out grid.png", "--data photos/ --recipe cifar --out grid.png"),
    ),
    "inspect-data": (
        "what is wrong with data before training; or the labels that a cross-validation doubts",
        [
            _option("spec", metavar="SPEC|FOLDER", help=f"{SPEC}; or the folder of `train --folds`"),
            DATA_DIR,
            TASK,
            SET,
            _option("--out", metavar="FILE.html", help="write a page with the pictures too"),
            JSON,
        ],
        ("photos/", "photos/ --out inspection.html"),
    ),
    "prepare": (
        "large pictures made small once, so that training reads them fast; the labels in a table",
        [
            _option("spec", metavar="SPEC", help="folder:PATH or csv:FILE"),
            DATA_DIR,
            TASK,
            SET,
            _option("--long-side", type=int, default=512, metavar="PX", help="of a picture (default: %(default)s)"),
            _option("--out", metavar="DIR", required=True, help="the folder; the same command goes on there"),
        ],
        ("photos/ --out small", "labels.csv --long-side 1024 --out small"),
    ),
    "probe": (
        "classifiers on the features of a frozen network, the first thing to try with few examples",
        [
            _option("--data", metavar="SPEC", required=True, help=f"the data, with a test split: {SPEC}"),
            DATA_DIR,
            _option("--model", metavar="NAME", help="a name that `list` prints (default: resnet18)"),
            _option("--weights", metavar="TAG|FILE|RUN", default="cifar10", help="default: %(default)s"),
            *(TASK, SET, JSON),
        ],
        ("--data photos/ --model resnet50 --weights imagenet", "--data photos/ --model resnet18 --weights cifar10"),
    ),
    "embed": (
        "the features of a network for a set of examples, in a parquet file",
        [
            TRAINED,
            OTHER_DATA,
            DATA_DIR,
            _option("--split", help="train, validation, test or all (default: all; train of the run's own data)"),
            _option("--out", metavar="FILE.parquet", required=True, help="columns path, label, vector, distance"),
        ],
        ("runs/photos --out photos.parquet", "resnet18:cifar10 --data photos/ --out photos.parquet"),
    ),
    "similar": (
        "the nearest examples of an index for each picture, and how unlike all of them it is",
        [
            _option("index", metavar="INDEX", help="a file that `embed` wrote"),
            _option(
                "images", metavar="IMAGE", nargs="*", help="as for `predict`; none for the closest pairs of the index"
            ),
            _option("--top", type=int, default=10, metavar="N", help="examples to print (default: %(default)s)"),
            _option("--network", metavar="RUN|MODEL", help="where the network of the index is now"),
            _option("--json-lines", action="store_true", help="print one JSON object per image"),
        ],
        ("photos.parquet new.jpg", "photos.parquet new/ --top 3 --json-lines"),
    ),
    "tune": (
        "search for a better recipe, in its own processes",
        [
            PATH,
            _option("--data", metavar="SPEC", help=f"the data: {SPEC} (default: digits)"),
            DATA_DIR,
            _option("--model", metavar="NAME", help="a name that `list` prints (default: resnet18)"),
            _option("--algorithm", choices=["random", "bayesian", "hyperband", "grid"], help="default: random"),
            _option("--trials", type=int, metavar="N", help="how many recipes to try at most (default: 20)"),
            _option("--out", metavar="DIR", required=True, help="where trials.csv and best.toml go"),
            EPOCHS,
            _option("--workers", type=int, default=1, metavar="K", help="trials at a time (default: %(default)s)"),
            ENGINE,
            ADDRESS,
            RESUME,
            SEED,
            SET,
        ],
        ("photos/ --trials 20 --out search", "--out search --resume"),
    ),
    "export": (
        "write a model for serving, and check it",
        [
            TRAINED,
            _option("--format", choices=FORMATS, required=True, help="to write"),
            _option("--quantize", choices=["int8", "int8-all", "float16"], help="store numbers in fewer bits"),
            _option("--calibration", metavar="SPEC", help="the data that int8 is calibrated on"),
            DATA_DIR,
            _option("--out", metavar="PATH", required=True, help="the file or folder to make"),
            _option("--model-version", type=int, metavar="N", help="of a SavedModel: write OUT/N beside the others"),
            TASK,
        ],
        ("runs/photos --format savedmodel --out served", "runs/photos --format onnx --out net.onnx"),
    ),
    "convert": (
        "weights of other libraries into our own file, or ours into one that timm loads",
        [
            _option("source", metavar="SOURCE", help="a run folder or a file: .safetensors, .pth, .h5, .keras"),
            _option("--model", metavar="NAME", help="a name that `list` prints; a run folder knows its own"),
            _option("--out", metavar="FILE.safetensors", required=True, help="the file to make"),
            _option("--names", choices=["keras_resnet", "timm"], default="keras_resnet", help="default: %(default)s"),
        ],
        ("net.pth --model resnet50 --out net.safetensors", "runs/photos --names timm --out net.safetensors"),
    ),
    "publish": (
        "a folder, or a repository of the Hub, that timm, transformers, KerasHub and Keras read",
        [
            _option("run", metavar="RUN", help="a finished run folder"),
            _option("--to", metavar="folder:DIR|hf://ORG/NAME", required=True, help="the folder, or the repository"),
            _option("--license", metavar="NAME", help="such as apache-2.0 (default: that of the first weights)"),
            _option("--private", action="store_true", help="a new repository is private"),
            _option("--mistakes", action="store_true", help="show the most confident errors: pictures of your data"),
            _option("--dry-run", action="store_true", help="write and check in a temporary folder, publish nothing"),
        ],
        ("runs/photos --to folder:published", "runs/photos --to hf://me/flowers --license apache-2.0"),
    ),
    "track": (
        "send a run, a search or a cross-validation to a tracking server; as often as you like, each figure once",
        [
            _option("folder", metavar="RUN|FOLDS|SEARCH", help="the folder, finished or not"),
            _option(
                "--to",
                choices=TRACKERS,
                default="mlflow",
                help="its own variables, as MLFLOW_TRACKING_URI, say where (default: %(default)s)",
            ),
        ],
        ("runs/photos", "searches/photos --to mlflow"),
    ),
    "verify": (
        "whether a published folder is whole, and the figure on its card holds for data",
        [
            _option("folder", metavar="FOLDER|hf://ORG/NAME", help="what `publish` wrote"),
            _option("--data", metavar="SPEC", required=True, help=f"the data: {SPEC}"),
            DATA_DIR,
        ],
        ("published --data photos/", "hf://me/flowers --data photos/"),
    ),
    "report": (
        "one HTML page of a run, of a cross-validation or of a search",
        [
            _option("source", metavar="RUN|FOLDS|SEARCH", help="a run folder, one of `train --folds`, or of a search"),
            _option("--out", metavar="FILE.html", required=True, help="the file to make"),
        ],
        ("runs/photos --out report.html", "search --out search.html"),
    ),
    "compare": (
        "figures, recipes and curves of several runs side by side",
        [
            _option("runs", metavar="RUN", nargs="+", help="run folders, at least two"),
            _option("--out", metavar="FILE.html", help="write a page with the curves too"),
            _option("--paired", action="store_true", help="of two runs: whether they differ on the same examples"),
            JSON,
        ],
        ("runs/one runs/other", "runs/one runs/other --paired"),
    ),
    "calibrate": (
        "calibrate the probabilities of a run, by a temperature that is saved with the model",
        [
            _option("run", metavar="RUN", help="a run folder; the temperature is found on its validation split"),
            _option("--coverage", type=float, metavar="C", help="instead: sets that hold the class so often, as 0.9"),
            _option("--out", metavar="FILE.keras", help="default: RUN/calibrated.keras, or RUN/sets.keras"),
            JSON,
        ],
        ("runs/photos", "runs/photos --coverage 0.9"),
    ),
    "prune": (
        "a smaller network, without the channels that matter least; to be trained again",
        [
            TRAINED,
            _option("--macs", type=float, default=0.5, metavar="S", help="multiply-adds that stay (default: 0.5)"),
            _option(
                "--by", choices=["norm", "taylor"], help="size of filters, or change of the loss (default with data)"
            ),
            OTHER_DATA,
            DATA_DIR,
            _option("--multiple", type=int, default=4, metavar="N", help="of channels (default: %(default)s)"),
            _option("--out", metavar="FILE.keras", required=True, help="the pruned network"),
            JSON,
        ],
        ("runs/photos --out small.keras", "resnet18:cifar10 --macs 0.7 --data photos/ --out small.keras"),
    ),
    "shrink": (
        "a run made smaller for as long as it stays as good: pruned, distilled, stored in 8 bits",
        [
            _option("run", metavar="RUN", help="a finished run folder; its data must be there"),
            _option("--macs", type=float, default=0.25, metavar="S", help="multiply-adds to come to (default: 0.25)"),
            _option("--max-loss", type=float, default=0.005, metavar="L", help="of the figure (default: %(default)s)"),
            _option("--epochs", type=int, metavar="N", help="of each step (default: a quarter of the run's)"),
            _option("--multiple", type=int, default=4, metavar="N", help="of channels (default: %(default)s)"),
            _option("--format", choices=FORMATS, help="of the file in 8 bits (default: the first that is installed)"),
            _option("--out", metavar="DIR", required=True, help="for the steps; the same one goes on"),
            JSON,
        ],
        ("runs/photos --out small", "runs/photos --macs 0.1 --max-loss 0.01 --format onnx --out small"),
    ),
    "average": (
        "one model that answers with the mean of several",
        [
            _option("models", metavar="RUN|MODEL", nargs="+", help="run folders or .keras files that answer alike"),
            TTA,
            _option("--out", metavar="FILE.keras", required=True, help="the file to make"),
        ],
        ("runs/one runs/other --out mean.keras", "runs/one --tta flip --out views.keras"),
    ),
    "demo": (
        "a page on this machine where one drops an image and sees its classes",
        [
            TRAINED,
            _option("--port", type=int, default=8000, metavar="N", help="of 127.0.0.1 (default: %(default)s)"),
            TASK,
        ],
        ("runs/photos", "resnet18:cifar10 --port 8001"),
    ),
    "benchmark": (
        "images per second on this machine, and the share of its matrix speed",
        [
            _option("--model", metavar="NAME", help="a name that `list` prints"),
            _option("--input-size", type=int, metavar="N", help="side of the image in pixels"),
            BATCH_SIZE,
            _option("--mode", choices=["train", "infer", "data"], help="what to time"),
            JSON,
        ],
        ("--model resnet50 --mode infer", "--model resnet18 --input-size 32 --mode train"),
    ),
}


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
        hint = _closest(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""
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
    for name, (summary, options, examples) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"keras-resnet {name}: {summary}.",
            epilog="examples:\n" + "\n".join(f"  keras-resnet {name} {words}" for words in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        groups: dict[str | None, Any] = {title: command.add_argument_group(title) for title in GROUPS}
        for names, arguments in options:
            title = next((title for title, members in GROUPS.items() if names[0] in members), None)
            groups.get(title, command).add_argument(*names, **arguments)
    return top


def _closest(word: str, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(names), n=1)
    return f"Did you mean {matches[0]!r}? " if matches else ""


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
        top.error(f"there is no command {words[0]!r}. {_closest(words[0], COMMANDS)}The commands are: {commands}")
    options, unknown = top.parse_known_args(words)
    if unknown:
        names = [name for names, _ in COMMANDS[options.command][1] for name in names if name.startswith("-")]
        hint = _closest(unknown[0], names) if unknown[0].startswith("-") else ""
        takes = ", ".join(names) or "no options"
        top.error(f"{options.command} does not take {unknown[0]!r}. {hint}It takes: {takes}")
    options.words = words
    if path := getattr(options, "path", None):
        if options.data is not None:
            top.error(f"{options.command} was given {path!r} and --data {options.data!r}. Name the data once")
        options.data = path
    return options
