"""Tables of labels: a CSV or parquet file that names a picture or an array in each row, its label and its group."""

import collections
import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.arguments import suggestion
from keras_resnet.data.array_files import MEASUREMENTS, measurement_kind, read_measurement
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.arrays import ArrayExamples, as_images
from keras_resnet.data.examples.splits import divided, division
from keras_resnet.data.images.headers import Header, apply_bad_image_policy
from keras_resnet.data.options import LoadOptions, Source
from keras_resnet.data.sources.folder import headers_of
from keras_resnet.data.sources.groups import FEW_GROUPS, check_groups, group_report, groups_of, read_weight, weights_of
from keras_resnet.data.sources.listing import EXTENSIONS, SPLIT_WORDS, names_below, resolve, split_of
from keras_resnet.data.sources.pictures import hold, pictures, report_kinds
from keras_resnet.data.sources.table_labels import (
    YES_OR_NO,
    Row,
    are_lists,
    are_yes_and_no,
    columns_of_yes_and_no,
    divider_of,
    first_of,
    is_one_hot,
    is_yes,
    read_cells,
    read_labels,
)
from keras_resnet.errors import BadValue
from keras_resnet.tasks.labels import class_counts, is_number

# As fastai writes it: True for validation.
IS_VALID = "isvalid"
_SUBJECTS = ("patient", "subject", "participant", "case", "study", "series", "lesion")
# Role of a column -> its names, in lower case and without blanks and signs.
ROLES = {
    "path": ("path", "file", "filename", "filepath", "image", "imagepath"),
    "label": ("label", "labels", "class", "target", "y"),
    "split": ("split", IS_VALID, "subset", "set", "phase"),
    "group": ("group", "groupid", *(f"{name}{ending}" for name in _SUBJECTS for ending in ("", "id"))),
    "weight": ("weight", "sampleweight", "exampleweight"),
}
# These mean something else too: they are read where every cell says a split.
MAYBE_SPLIT = ("subset", "set", "phase")
# Above it numbers are rather a quantity than classes.
MANY_NUMBERS = 20
OPTIONAL = ("split", "group", "weight")
SPLIT_ORDER = ("train", "validation", "test")


def load_table(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns the examples that a table names."""
    path = resolve(argument, options)
    beside = pathlib.Path(argument).expanduser()
    if not path.exists() and beside.is_file():  # the pictures lie in data_dir, and the table where it was named
        path = beside
    header, cells = read_cells(spec, path)
    columns = _columns(spec, header, cells, options)
    rows = _rows(spec, path, header, cells, columns, options)
    report = [f"column {name!r} of {path.name} is the {role}" for role, names in columns.items() for name in names]
    unread = [name for name in header if name not in {name for names in columns.values() for name in names}]
    if unread:
        report.append(f"columns of {path.name} that are not read: {', '.join(map(repr, unread))}")
    report += _repeated(path, header, cells, unread) if "group" not in columns and options.group_pattern is None else []
    names, labels = read_labels(spec, rows, columns["label"], options)
    if options.task.is_exclusive and len(names) > MANY_NUMBERS and all(map(is_number, names)):
        report.append(_many_numbers(spec, columns["label"][0], names))
    if options.task.has_thresholds and not are_yes_and_no(rows) and not are_lists(rows):
        report.append(f"labels of one cell are divided by {divider_of(rows)!r}")
    is_array = {_is_array(row.path) for row in rows}
    if len(is_array) > 1:
        first = next(row for row in rows if _is_array(row.path))
        raise BadValue(
            f"{spec}: line {first.line} names an array, and others pictures. Allowed is one kind. Divide it."
        )
    examples, kept = (_arrays if True in is_array else _pictures)(spec, path, rows, labels, options, report)
    splits, groups = _divided(
        spec,
        options.data_dir or path.parent,
        [rows[index] for index in kept],
        labels[kept],
        names,
        examples,
        options,
        report,
    )
    result = splits if True in is_array else hold(splits, options, report, groups)
    outputs = len(names) if names else (1 if labels.ndim == 1 else labels.shape[1])
    units = () if names else tuple(columns["label"])
    return Dataset(
        spec,
        dict(result),
        class_names=names,
        num_outputs=outputs,
        units=units,
        report=report,
        groups=groups,
        task=options.task.name,
    )


def _divided(
    spec: str,
    root: pathlib.Path,
    rows: Sequence[Row],
    labels: np.ndarray,
    names: Sequence[str],
    examples: Any,
    options: LoadOptions,
    report: list[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the splits of the table, and those that it lacks, and their groups; none of them is divided."""
    paths = names_below(root, [row.path for row in rows])
    groups = groups_of(paths, [row.group for row in rows], options.group_pattern)
    report += group_report(paths, groups)
    by_split: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_split.setdefault(row.split or "train", []).append(number)
    if "train" not in by_split:
        if len(by_split) > 1 or options.class_names is None:
            raise BadValue(f"{spec}: no line is of the split 'train'. Allowed are train, validation, test. Correct it.")
        by_split = {"train": next(iter(by_split.values()))}
    check_groups(spec, groups, by_split, [f"line {row.line}" for row in rows])
    by_split = {split: by_split[split] for split in SPLIT_ORDER if split in by_split}
    first, splits = len(report), {split: examples.take(np.array(numbers)) for split, numbers in by_split.items()}
    for split, numbers in by_split.items():
        counts = class_counts(labels[numbers], len(names)) if names else ()
        summary = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        report.append(f"split {split!r}: {len(numbers)} examples" + f": {summary}" * bool(names))
    subjects = {split: None if groups is None else groups[numbers] for split, numbers in by_split.items()}
    splits = divided(splits, options, subjects)
    report[first] += division(splits, len(by_split))
    return splits, subjects


def _columns(
    spec: str, header: list[str], cells: list[tuple[int, list[str]]], options: LoadOptions
) -> dict[str, list[str]]:
    """Returns the columns of each role that the table has."""
    twice = [name for name, count in collections.Counter(header).items() if count > 1]
    if twice or not all(header):
        raise BadValue(
            f"{spec} has the columns {header}. Allowed are different names, none empty. Correct the first line."
        )
    plain = {plain_name(name): name for name in reversed(header)}
    used = {name for names in options.columns.values() for name in names}
    columns: dict[str, list[str]] = {}
    for role, names in ROLES.items():
        column = options.columns.get(role)
        if column == ("none",) and role in OPTIONAL and "none" not in header:
            continue
        if column is not None:
            unknown = [name for name in column if name not in header]
            if unknown:
                raise BadValue(
                    f"{spec} has no column {unknown[0]!r}, which was named for the {role}. "
                    f"{suggestion(unknown[0], header)}It has {', '.join(map(repr, header))}. Name one of them."
                )
            columns[role] = list(column)
            continue
        matches = [plain[name] for name in names if name in plain and plain[name] not in used]
        if role == "split":
            matches = [name for name in matches if _says_splits(name, [row[header.index(name)] for _, row in cells])]
        if len(matches) > 1 and role in ("path", "label"):
            raise BadValue(
                f"{spec} has the columns {', '.join(map(repr, matches))}, any of which may be the {role}. Say which: "
                f"columns='{role}={matches[0]}', in a recipe data.columns."
            )
        if matches:
            columns[role] = matches[:1]
        elif role == "label" and options.task.has_thresholds and (several := _several(header, cells, options)):
            columns[role] = several
        elif role in ("path", "label"):
            several = _several(header, cells, options) if role == "label" else []
            hint = (
                f" The columns {', '.join(map(repr, several))} hold 0 and 1: several labels for each example are "
                "task='multilabel', in a recipe loss.name='multilabel_cross_entropy'."
            )
            raise BadValue(
                f"{spec} has the columns {', '.join(map(repr, header))}, and none is called {role!r}. Say which it is: "
                f"columns='{role}=NAME', in a recipe data.columns.{hint * (len(several) > 1)}"
            )
    if options.task.is_exclusive and len(columns["label"]) > 1:
        places = [header.index(name) for name in columns["label"]]
        wrong = next((line for line, row in cells if not is_one_hot([row[place] for place in places])), None)
        if wrong is not None:
            raise BadValue(
                f"columns name {len(columns['label'])} labels, with task={options.task.name!r}, and line {wrong} has "
                "not a single 1 in them. Allowed is one column of names, or columns of 0 with a single 1; several "
                "labels are for a regression, or for task='multilabel' (in a recipe "
                "loss.name='multilabel_cross_entropy'). Name one."
            )
    return columns


def _repeated(
    path: pathlib.Path, header: list[str], cells: list[tuple[int, list[str]]], unread: list[str]
) -> list[str]:
    """Returns a warning for each column that is not read and whose values repeat as those of subjects do."""
    lines = []
    for name in unread:
        values = [row[header.index(name)] for _, row in cells if row[header.index(name)]]
        times = len(values) / max(len(set(values)), 1)
        if (
            len(set(values)) > FEW_GROUPS
            and times >= 1.5
            and plain_name(name).endswith(("id", "name", "uid", "number", "no"))
        ):
            lines.append(
                f"warning: the column {name!r} of {path.name} is not read, and its {len(set(values))} values repeat in "
                f"{len(values)} lines: are these patients, machines or scenes? A split may divide them. Name it: "
                f"columns='group={name}', in a recipe data.columns"
            )
    return lines


def _many_numbers(spec: str, column: str, names: Sequence[str]) -> str:
    """Returns a warning about classes that are numbers; raises ValueError where these are no whole ones."""
    text = f"the column {column!r} has {len(names)} different numbers"
    advice = "For a quantity, such as an age, train a regression: in a recipe loss.name='mean_squared_error'"
    if any(float(name) % 1 for name in names):
        raise BadValue(f"{spec}: {text}, not all whole, and each would be a class. {advice}.")
    return f"warning: {text}, and each is a class. {advice}"


def _is_array(path: str) -> bool:
    return measurement_kind(path) in (".npy", *MEASUREMENTS)


def _several(header: list[str], cells: list[tuple[int, list[str]]], options: LoadOptions) -> list[str]:
    """Returns the columns of 0 and 1 that are for nothing else."""
    other = {name for names in options.columns.values() for name in names}
    usual = {name for names in ROLES.values() for name in names}
    columns = columns_of_yes_and_no(header, cells)
    return [name for name in columns if name not in other and plain_name(name) not in usual]


def plain_name(column: str) -> str:
    """Returns the name of a column in lower case, without blanks, underscores and signs."""
    return re.sub(r"[\W_]", "", column.lower())


def read_split(column: str, cell: str) -> str | None:
    """Returns the split that a cell says; None for none."""
    if plain_name(column) != IS_VALID:
        return split_of(cell)
    is_valid = YES_OR_NO.get(cell.lower())
    return None if is_valid is None else "validation" if is_valid else "train"


def _says_splits(column: str, cells: Sequence[str]) -> bool:
    """Returns True if a column is one of splits; one that is called so by a word of other meanings must say it."""
    return plain_name(column) not in MAYBE_SPLIT or all(read_split(column, cell) for cell in cells)


def _rows(
    spec: str,
    path: pathlib.Path,
    header: list[str],
    cells: list[tuple[int, list[str]]],
    columns: dict[str, list[str]],
    options: LoadOptions,
) -> list[Row]:
    """Returns the rows; every fault in them is reported with its line."""
    place = {name: number for number, name in enumerate(header)}
    root = options.data_dir or path.parent
    rows, faults, seen, weight = [], list[str](), dict[str, int](), None
    may_be_empty = options.task.has_thresholds  # a list of no labels, or an answer that is not known
    for line, row in cells:
        value = {role: tuple(row[place[name]] for name in names) for role, names in columns.items()}
        (file,) = value["path"]
        (said,) = value.get("split", ("",))
        split = read_split(columns["split"][0], said) if said else None
        if not file:
            faults.append(f"line {line} has no path")
        elif not all(value["label"]) and not may_be_empty:
            faults.append(f"line {line} has no label")
        elif said and split is None:
            faults.append(f"line {line} has the split {said!r}")
        elif "group" in value and not value["group"][0]:
            faults.append(f"line {line} has no group")
        elif "weight" in value and (weight := read_weight(value["weight"][0])) is None:
            faults.append(f"line {line} has the weight {value['weight'][0]!r}")
        else:
            full = _with_ending(os.path.normpath(os.path.join(root, os.path.expanduser(file))))
            if full in seen:
                faults.append(f"line {line} names {file!r} again, as line {seen[full]} does")
            seen[full] = line
            label = value["label"]
            if options.task.is_exclusive and len(label) > 1:  # one-hot: the name of the column that says yes
                label = (next(name for name, cell in zip(columns["label"], label, strict=True) if is_yes(cell)),)
            rows.append(Row(line, full, label, split, value.get("group", (None,))[0], weight))
    if faults:
        raise BadValue(
            f"{spec}: {first_of(faults)}. Allowed is a path and a label in every line (nan, NA, None and null are "
            f"missing), each file once, splits by the words {', '.join(SPLIT_WORDS)}, and weights that are numbers "
            "from 0 on. Correct the lines."
        )
    if not rows:
        raise BadValue(f"{spec}: {str(path)!r} has no line beside its column names. Add the examples.")
    return rows


def _with_ending(path: str) -> str:
    """Returns the path of a picture whose ending the table leaves out, where one file alone has that name."""
    if os.path.splitext(path)[1] or os.path.exists(path):
        return path
    endings = [*EXTENSIONS, *(ending.upper() for ending in EXTENSIONS)]
    paths = [path + ending for ending in endings if os.path.isfile(path + ending)]
    return paths[0] if len(paths) == 1 else path


def _pictures(
    spec: str, path: pathlib.Path, rows: Sequence[Row], labels: np.ndarray, options: LoadOptions, report: list[str]
) -> tuple[Any, list[int]]:
    """Returns the pictures of the rows, and the numbers of the rows that are kept."""
    root = options.data_dir or path.parent
    headers = headers_of(root, [row.path for row in rows], options.max_pixels)
    bad = [
        (f"line {row.line}, {row.path}", header)
        for row, header in zip(rows, headers, strict=True)
        if isinstance(header, str)
    ]
    apply_bad_image_policy(bad, len(rows), options, report)
    report_kinds(((row.path, header) for row, header in zip(rows, headers, strict=True)), options, report)
    readable = [index for index, header in enumerate(headers) if isinstance(header, Header)]
    files = [(rows[index].path, header) for index, header in enumerate(headers) if isinstance(header, Header)]
    examples = pictures(root, files, labels[readable], options)
    return dataclasses.replace(examples, weights=weights_of([rows[index] for index in readable])), readable


def _arrays(
    spec: str, path: pathlib.Path, rows: Sequence[Row], labels: np.ndarray, options: LoadOptions, report: list[str]
) -> tuple[Any, list[int]]:
    """Returns the arrays of the rows, held in memory: signals, volumes or pictures, all of one shape."""
    arrays: list[np.ndarray] = []
    for row in rows:
        try:
            if measurement_kind(row.path) in MEASUREMENTS:
                array = read_measurement(row.path)
            else:
                array = np.load(row.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise BadValue(
                f"{spec}: line {row.line}, {row.path!r} cannot be read ({error}). Allowed are arrays of numbers that "
                f"numpy.save wrote, and files with the extensions {', '.join(MEASUREMENTS)}. Write it again."
            ) from error
        if arrays and (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
            raise BadValue(
                f"{spec}: line {row.line} names an array of shape {array.shape} and type {array.dtype}, and line "
                f"{rows[0].line} one of {arrays[0].shape} and {arrays[0].dtype}. Allowed is one shape and type. Cut or "
                "fill them up."
            )
        if (len(rows) * array.nbytes) > options.in_memory_limit:
            raise BadValue(
                f"{spec}: {len(rows)} arrays of {array.nbytes} bytes are more than in_memory_limit="
                f"{options.in_memory_limit}, and arrays are held in memory. Raise it (data.in_memory_limit), or take "
                "smaller ones."
            )
        arrays.append(array)
    stacked = as_images(np.stack(arrays), f"{spec}", options.rank)
    report.append(f"{len(rows)} arrays of shape {arrays[0].shape}")
    return ArrayExamples(stacked, labels, [row.path for row in rows], weights_of(rows)), list(range(len(rows)))


TABLE = Source("csv", load_table, "csv:FILE", options=("columns", "group_pattern"), endings=(".csv", ".tsv"))
