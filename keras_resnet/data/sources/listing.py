"""Which files of a folder are images, and of which class: nothing is left out in silence."""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from keras_resnet.data.options import LoadOptions
from keras_resnet.errors import BadValue

T = TypeVar("T")
AT_ONCE = 64  # files that a thread looks at before it takes the next ones
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp"})
# How much the examples count, beside class folders: its columns are called path and weight.
WEIGHTS_NAME = "weights.csv"
# Words that name a split, in any case: those of Hugging Face's `datasets`. Folders, shards, parquet files and tables
# share them.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


@dataclasses.dataclass
class ClassFolders:
    """The image files of one split."""

    root: pathlib.Path
    files: dict[str, list[str]]


@dataclasses.dataclass
class _Ignored:
    """What is not read, counted for the report."""

    extensions: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    hidden: int = 0
    nested: int = 0
    loops: int = 0

    def lines(self, root: pathlib.Path) -> list[str]:
        """Returns a line of the report for each kind."""
        lines = [
            f"ignored {count} files with extension {extension or 'none'} in {root}"
            for extension, count in sorted(self.extensions.items())
        ]
        if self.hidden:
            lines.append(f"ignored {self.hidden} hidden files and folders in {root}")
        if self.nested:
            lines.append(f"{self.nested} image files lie in folders within class folders of {root}; they are included")
        if self.loops:
            lines.append(f"ignored {self.loops} links in {root} to folders that were already read")
        return lines


def split_of(name: str) -> str | None:
    """Returns the split that a name says by one of its words, as "Testing", "valid-0" and "seg_train" do."""
    words = re.split(r"[^a-z]+", name.lower())
    matches = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return matches.pop() if len(matches) == 1 else None


def find_splits(root: pathlib.Path, report: list[str]) -> dict[str, pathlib.Path]:
    """Returns the folder of each split, such as `train/` and `test_set/`, or `root` itself as "train"."""
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise BadValue(
            f"folder:{root} {what}. Allowed is a folder that holds one folder per class. Check the path and --data-dir."
        )
    inside = {
        entry.name: {inner.name for inner in _visible(root / entry.name) if inner.is_dir()}
        for entry in _visible(root)
        if entry.is_dir()
    }
    # A class may be called "train": as a split it holds class folders, as a class it holds pictures.
    by_name = {name: split for name, folders in inside.items() if folders and (split := split_of(name)) is not None}
    if len(set(by_name.values())) < 2:  # a class may be called "train station" too
        by_name = {name: split for name, split in by_name.items() if name.lower() in SPLIT_WORDS}
    if len(inside) == 1 == len(by_name) and "train" not in by_name.values():
        (name,) = by_name
        report.append(f"{root} holds {name}/ alone, which is read as the data")
        return {"train": root / name}
    if "train" not in by_name.values():
        _refuse_unnamed_splits(root, inside)
        return {"train": root}
    splits: dict[str, pathlib.Path] = {}
    for name in sorted(inside):
        if name not in by_name:
            report.append(f"ignored folder {root / name}, whose name says no split ({', '.join(SPLIT_WORDS)})")
        elif by_name[name] in splits:
            other = splits[by_name[name]].name
            raise BadValue(
                f"folder:{root} holds {other!r} and {name!r}, which both stand for the split {by_name[name]!r}. "
                "Allowed is one folder per split. Rename or merge them."
            )
        else:
            splits[by_name[name]] = root / name
    return {split: _without_shell(folder, split) for split, folder in splits.items()}


def _without_shell(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Returns the folder inside that holds the classes, where a split lies in another folder of its name."""
    inner = [entry for entry in _visible(folder) if entry.is_dir()]
    if (
        len(inner) == 1
        and split_of(inner[0].name) == split
        and any(e.is_dir() for e in _visible(pathlib.Path(inner[0])))
    ):
        return pathlib.Path(inner[0])
    return folder


def _refuse_unnamed_splits(root: pathlib.Path, inside: Mapping[str, set[str]]) -> None:
    """Raises ValueError where all folders hold the same folders: the inner ones are the classes."""
    first, *others = inside.values() or [set()]
    if len(first) > 1 and others and all(other == first for other in others):
        raise BadValue(
            f"folder:{root} holds the folders {sorted(inside)}, and each of them holds the folders {sorted(first)}: "
            "class folders that each hold the same class folders. Splits are known by the words "
            f"{', '.join(SPLIT_WORDS)} in their names. Rename the folders of the splits, or point to one of them."
        )


def list_classes(root: pathlib.Path, report: list[str], known: tuple[str, ...] | None = None) -> ClassFolders:
    """Returns the image files of the class folders in `root`."""
    ignored = _Ignored()
    files: dict[str, list[str]] = {}
    loose = 0
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            ignored.hidden += 1
        elif not entry.is_dir():
            suffix = pathlib.Path(entry.name).suffix.lower()
            loose += suffix in EXTENSIONS
            ignored.extensions[suffix] += suffix not in EXTENSIONS and entry.name != WEIGHTS_NAME
        else:
            files[entry.name] = _walk(pathlib.Path(entry.path), ignored)
    ignored.extensions += collections.Counter()  # drops the zeros
    if loose and files:
        report.append(f"ignored {loose} image files in {root} that lie in no class folder")
    report.extend(ignored.lines(root))
    _check_classes(root, files, loose, ignored, known)
    if known is not None:
        missing = [name for name in known if not files.get(name)]
        if missing:
            report.append(f"{root} has no images of the classes {missing}")
        files = {name: files[name] for name in known if files.get(name)}
    return ClassFolders(root, files)


def check_same_classes(classes: dict[str, ClassFolders], report: list[str]) -> tuple[str, ...]:
    """Returns the class names of the training split."""
    names = tuple(classes["train"].files)
    for split, found in classes.items():
        unknown = sorted(set(found.files) - set(names))
        if unknown:
            raise BadValue(
                f"{found.root} holds class folders {unknown} that {classes['train'].root} lacks. "
                f"Allowed are the {len(names)} classes of training. Rename or move these folders."
            )
        missing = sorted(set(names) - set(found.files))
        if missing:
            report.append(f"split {split!r} has no images of the classes {missing}")
    return names


def class_counts(split: str, classes: ClassFolders) -> str:
    """Returns a line of the report: how many images of each class."""
    counts = ", ".join(f"{name} {len(paths)}" for name, paths in classes.files.items())
    return f"split {split!r}: {len(classes.files)} classes: {counts}"


def _visible(folder: pathlib.Path) -> list[os.DirEntry]:
    return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]


def _walk(top: pathlib.Path, ignored: _Ignored) -> list[str]:
    """Returns the image files under `top`, links followed, no folder read twice."""
    paths = []
    waiting, seen = [top], set()
    while waiting:
        folder = waiting.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            ignored.loops += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in os.scandir(folder):
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                ignored.hidden += 1
            elif entry.is_dir():
                waiting.append(pathlib.Path(entry.path))
            elif suffix in EXTENSIONS:
                paths.append(entry.path)
                ignored.nested += folder != top
            else:
                ignored.extensions[suffix] += 1
    return sorted(paths)


def _check_classes(
    root: pathlib.Path, files: dict[str, list[str]], loose: int, ignored: _Ignored, known: tuple[str, ...] | None
) -> None:
    if not files:
        contents = f"{loose} image files and no class folder" if loose else "no class folder"
        raise BadValue(
            f"{root} holds {contents}. Allowed is one folder per class, with the images of the class in it. "
            "Move the images into folders named after their classes."
        )
    odd = [name for name in files if not name.isprintable()]
    if odd:
        raise BadValue(
            f"{root} holds class folders with unprintable characters in their names: {odd!r}. "
            "Allowed are letters, digits, spaces and signs of any script on one line. Rename them."
        )
    if known is not None:
        unknown = sorted(set(files) - set(known))
        if unknown:
            raise BadValue(
                f"{root} holds the class folders {unknown}, which the model does not know. Its classes are "
                f"{list(known)}. Rename or move these folders."
            )
        return
    empty = [name for name, paths in files.items() if not paths]
    if empty:
        extensions = ", ".join(sorted(EXTENSIONS))
        others = (
            f" ({sum(ignored.extensions.values())} files of other kinds were ignored)" if ignored.extensions else ""
        )
        raise BadValue(
            f"{root} holds class folders without images: {empty}{others}. "
            f"Allowed is at least one file with extension {extensions} in each. Fill or delete these folders."
        )
    if len(files) < 2:
        raise BadValue(
            f"{root} holds one class, {next(iter(files))!r}. Allowed are two or more classes. "
            "Add the folders of the other classes, or point to the folder above."
        )


def map_threaded(paths: Sequence[str], function: Callable[[str], T], threads: int | None) -> list[T]:
    """Returns the result of a function for each path, in threads.

    A thread takes some of them at a time: a task for each one would cost more time and memory than a look at a file.
    """

    def some(first: int) -> list[T]:
        return [function(path) for path in paths[first : first + AT_ONCE]]

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return [found for each in pool.map(some, range(0, len(paths), AT_ONCE)) for found in each]


def names_below(root: pathlib.Path, paths: Iterable[str]) -> list[str]:
    """Returns the paths relative to the folder of the data."""
    # os.path.relpath asks for the working directory each time.
    prefix = os.path.join(root, "")
    return [path[len(prefix) :] if path.startswith(prefix) else os.path.relpath(path, root) for path in paths]


def resolve(argument: str, options: LoadOptions) -> pathlib.Path:
    """Returns the path of a spec; a relative one starts from `data_dir` where that is given."""
    path = pathlib.Path(argument).expanduser()
    return options.data_dir / path if options.data_dir is not None else path
