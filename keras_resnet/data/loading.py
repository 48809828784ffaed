"""From a spec such as "digits" or "folder:photos" to a dataset."""

import dataclasses
import inspect
import os
import pathlib
import unicodedata
from collections.abc import Sequence
from typing import Any

from keras_resnet.arguments import choose, suggestion
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.options import OF_SOME_SOURCES, LoadOptions
from keras_resnet.data.sources import find_sources
from keras_resnet.errors import BadType, BadValue

SOURCES = find_sources()
ALLOWED = ", ".join(repr(source.spec) for source in SOURCES.values())


def load(spec: str = "digits", **options: Any) -> Dataset:
    """Finds a dataset, checks it, and returns it with its splits.

    Everything that can be known before training is checked here: labels, class names, headers and ends of image
    files. A split that the source lacks is taken from the training split: seeded, stratified by class, disjoint.

    Args:
        spec: "digits"; "tfds:NAME[:VERSION]"; "folder:PATH", one folder per class, or `train/`, `val/` or
            `validation/`, and `test/` with such folders in them; "npz:FILE" with `x_train`, `y_train`, `w_train` for
            weights, and the like;
            "csv:FILE", a table with the path, the label, and if there are the split, the group and the weight of each;
            "wds:PATTERN", tar shards as WebDataset lays them out; "hf:PATH", parquet files of Hugging Face.
        data_dir: where prepared TFDS sets lie; the root of relative paths for "folder:" and "npz:".
        task: "classification", or "regression" ("npz:" and "csv:").
        validation_fraction: share of the training split for validation where the source has none, in [0, 1);
            0 for no validation split.
        test_fraction: share of a source without any splits for test, in [0, 1); 0 for no test split.
        split_seed: of these divisions, >= 0.
        on_bad_image: "error" names the bad files and stops; "skip" leaves them out and lists them in the report.
        max_skipped_fraction: share of bad files from which "skip" is an error after all, in [0, 1].
        max_pixels: images with more pixels are refused by their header, before they are decoded.
        apply_exif: turn photographs upright by their EXIF orientation; False reads the pixels as stored.
        in_memory_limit: bytes of decoded images that are held in memory; larger sets are read as they are needed.
        rank: axes of space of an example: 1 for signals, 2 for pictures, 3 for volumes. None takes arrays as they are
            shaped, the last axis for the channels; with a rank, arrays that lack that axis get it. Grey pictures
            (examples, height, width), whose height and width are equal, need it.
        class_names: those that a model knows, in the order of its outputs. Class folders are matched by name, and may
            be fewer; another one is an error. None takes the classes that the source has.
        label_key: name of the feature of a "tfds:" set, or the column of an "hf:" one, that is the label; None for its
            default, or for the only one.
        uncertain: what a blank or -1 means in a column of 0 and 1 of a table of several labels: "negative", "positive",
            "ignore" (a label that is not known: it counts in no loss and no figure), or "error", which refuses the
            table.
        columns: of a "csv:" table, such as "path=image,label=diagnosis,group=patient"; None finds them by usual names.
            Several targets of a regression are "label=age+height"; "weight=none" leaves a column out.
        group_pattern: a regular expression that finds in a path of "folder:" or "csv:" which patient, machine or scene
            it is of, by its first parentheses; examples of one group are not divided by a split. None for no groups.
        fold: which of how many equal parts of the training split is the test split, as "1/5", stratified by class, with
            `split_seed`; a test split that the source has is then left out. None for no folds.
        validation_fold: the same for the validation split, where the source has none, in the place of
            `validation_fraction`.
        manifest: a file written by `write_manifest`; every file of a "folder:" is compared with its sha256.

    Raises:
        TypeError, ValueError: an argument is out of its range, or the data is not fit to train on; the message names
            the file, the sample or the class.
        ImportError: the source needs a package that is not installed.

    Example:
        >>> from keras_resnet import data
        >>> digits = data.load("digits")
        >>> digits.sizes
        {'train': 1293, 'validation': 144, 'test': 360}
    """
    unknown = [name for name in options if name not in PARAMETERS]
    if unknown:
        raise BadType(
            f"load() has no argument {unknown[0]!r}. {suggestion(unknown[0], PARAMETERS)}Allowed are "
            f"{', '.join(PARAMETERS)}. Correct the name."
        )
    checked = LoadOptions.of(**options)
    given, spec = spec, with_source(spec, checked.data_dir)
    source, argument = split_spec(spec)
    for name in OF_SOME_SOURCES:
        having = [repr(f"{row.name}:") for row in SOURCES.values() if name in row.options]
        if options.get(name) is not None and source in SOURCES and name not in SOURCES[source].options:
            raise BadValue(
                f"{name}={options[name]!r} was given with spec={spec!r}. It is for {' and '.join(having)}. Leave it "
                "out."
            )
    dataset = choose("data source", source, SOURCES).load(spec, argument, checked)
    rank = checked.rank
    if rank is not None and len(dataset.image_shape) != rank + 1:
        raise BadValue(
            f"rank={rank} was given with spec={spec!r}, whose examples have the shape {dataset.image_shape}. "
            f"Allowed is {len(dataset.image_shape) - 1} there. Leave it out."
        )
    dataset.options = checked
    if spec != given:
        dataset.report.insert(0, f"{given} is read as {spec}")
    dataset.report += similar_names(dataset.class_names)
    return dataset


PARAMETERS = {field.name: field.metadata["default"] for field in dataclasses.fields(LoadOptions)}
load.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter("spec", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="digits", annotation=str),
        *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in PARAMETERS.items()),
    ],
    return_annotation=Dataset,
)


def similar_names(names: Sequence[str]) -> list[str]:
    """Returns a warning for classes whose names differ by case, Unicode form or leading zeros alone."""
    plain: dict[str, list[str]] = {}
    for name in names:
        key = unicodedata.normalize("NFKC", name).casefold().strip()
        plain.setdefault(str(int(key)) if key.isascii() and key.isdigit() else key, []).append(name)
    return [
        f"warning: the classes {', '.join(map(repr, alike))} differ by case, Unicode form or zeros alone; if they are "
        "one class, write them alike"
        for alike in plain.values()
        if len(alike) > 1
    ]


# Ending of a file -> its source.
ENDINGS = {ending: row.name for row in SOURCES.values() for ending in row.endings}


def with_source(spec: Any, data_dir: str | os.PathLike | None = None) -> Any:
    """Returns a spec with the name of its source, where a path stands alone: "photos/" is "folder:photos/".

    Args:
        spec: as the user gave it; one that has a source, or is not a path, is returned as it is.
        data_dir: the root of relative paths; None for the working directory.
    """
    if not isinstance(spec, str) or not spec or spec.partition(":")[0] in SOURCES:
        return spec
    path = pathlib.Path(spec).expanduser()
    path = path if data_dir is None else pathlib.Path(data_dir).expanduser() / path
    try:
        if path.is_dir():
            suffixes = {entry.suffix.lower() for entry in path.iterdir() if entry.is_file()}
            has_folders = any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir())
            sharded = next((ENDINGS[ending] for ending in (".tar", ".parquet") if ending in suffixes), "folder")
            return f"{'folder' if has_folders else sharded}:{spec}"
        return f"{ENDINGS[path.suffix.lower()]}:{spec}" if path.is_file() and path.suffix.lower() in ENDINGS else spec
    except (OSError, ValueError):
        return spec


def split_spec(spec: Any) -> tuple[str, str]:
    """Returns the name of the source and what follows the colon.

    Raises:
        TypeError: the spec is not a string.
        ValueError: it is empty, or lacks what its source needs.
    """
    if not isinstance(spec, str):
        raise BadType(
            f"spec must be a string, got {spec!r} of type {type(spec).__name__}. "
            f"Allowed are {ALLOWED}. Pass one of them."
        )
    source, _, argument = spec.partition(":")
    if source in SOURCES and ":" in SOURCES[source].spec and not argument:
        raise BadValue(f"spec={spec!r} lacks what follows the colon. Allowed are {ALLOWED}. Add the name or the path.")
    return source, argument


def is_path_spec(spec: str) -> bool:
    """Returns True if what follows the colon of a spec is a path.

    Args:
        spec: of any source.
    """
    source, argument = split_spec(spec)
    return source in SOURCES and SOURCES[source].is_path and bool(argument)
