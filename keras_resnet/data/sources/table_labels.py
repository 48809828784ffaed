"""The labels of a table: a class, numbers, or several classes in columns of 0 and 1 or in a list in one cell."""

import ast
import csv
import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.data.array_files import InvalidArrayFile, check_unpacked
from keras_resnet.data.options import UNCERTAIN, LoadOptions
from keras_resnet.errors import BadValue, require
from keras_resnet.tasks.labels import is_number

NAMED_AT_MOST = 5
DELIMITERS = (",", ";", "\t", "|")
# What pandas reads as missing, beside the empty cell (`pandas.read_csv`, na_values).
MISSING = frozenset(
    [
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
CELL_BYTES = 64  # of a short text, as Python holds it
# Of a cell; a path or a label is shorter.
csv.field_size_limit(2**17)


def first_of(faults: Sequence[str]) -> str:
    """Returns the first faults of a table in one line, and how many more there are."""
    more = f"; and {len(faults) - NAMED_AT_MOST} more" if len(faults) > NAMED_AT_MOST else ""
    return "; ".join(faults[:NAMED_AT_MOST]) + more


def read_cells(spec: str, path: pathlib.Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the names of the columns, and the line and the cells of every row."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise BadValue(
            f"{spec}: {str(path)!r} {what}. Allowed is a CSV or parquet file. Check the path and --data-dir."
        )
    if path.suffix.lower() == ".parquet":
        return _parquet_cells(spec, path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            # Excel says so what divides the cells.
            is_said = first.lower().startswith("sep=") and len(first.strip()) == 5
            delimiter = first[4] if is_said else max(DELIMITERS, key=first.count)
            if not is_said:
                file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            cells = [
                (reader.line_num + is_said, [_cell(cell) for cell in row]) for row in reader if any(map(str.strip, row))
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadValue(
            f"{spec}: {str(path)!r} cannot be read ({error}). Allowed is a CSV file in UTF-8. Save it so."
        ) from error
    if not cells:
        raise BadValue(f"{spec}: {str(path)!r} is empty. Allowed is a line of column names and a line per example.")
    (_, header), *rows = cells
    if len(header) > 1 and not header[-1] and all(len(row) == len(header) and not row[-1] for _, row in rows):
        header, rows = header[:-1], [(line, row[:-1]) for line, row in rows]  # every line ends in a comma
    if not header[0] and all(row[0].isdigit() for _, row in rows):
        header = ["Unnamed: 0", *header[1:]]  # the index that pandas writes, under the name that it reads
    for line, row in rows:
        if len(row) != len(header):
            raise BadValue(
                f"{spec}: line {line} has {len(row)} cells, and the first line {len(header)} columns. Allowed is the "
                f"same number, cells with {delimiter!r} in them in quotes. Correct the line."
            )
    return header, rows


def _cell(text: str) -> str:
    """Returns a cell without blanks around it; an empty one where it is missing."""
    text = text.strip()
    return "" if text in MISSING else text


def _parquet_cells(spec: str, path: pathlib.Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    require("pyarrow.parquet", f"spec={spec!r}", "hf")
    import pyarrow

    try:
        table = _laid_out(path)
    except (OSError, InvalidArrayFile, pyarrow.lib.ArrowException) as error:
        raise BadValue(f"{spec}: {str(path)!r} cannot be read ({error}). Allowed is a whole parquet file.") from error
    columns = [["" if value is None else _cell(str(value)) for value in column.to_pylist()] for column in table.columns]
    return list(table.column_names), [(number, list(row)) for number, row in enumerate(zip(*columns, strict=True), 1)]


def _laid_out(path: pathlib.Path) -> Any:
    """Returns the table of a parquet file, in which a text that repeats stands once.

    A few hundred bytes of parquet can hold the same cell a thousand million times: such a file is an InvalidArrayFile.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    check_unpacked(CELL_BYTES * sum(chunk.num_values for chunk in chunks), path.stat().st_size)
    texts = {chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"}
    table = pyarrow.parquet.read_table(path, read_dictionary=sorted(texts))
    size = 0
    for array in (array for column in table.columns for array in column.chunks):
        while pyarrow.types.is_nested(array.type) and hasattr(array, "values"):
            array = array.values
        if pyarrow.types.is_dictionary(array.type):
            lengths = pyarrow.compute.binary_length(array.dictionary)
            size += pyarrow.compute.sum(lengths.take(array.indices)).as_py() or 0
    check_unpacked(size, path.stat().st_size)
    return table


# What divides the labels of one cell; the first of these that any cell has.
SEPARATORS = ("|", ";", ",", " ")
UNSURE = ("", "-1", "-1.0")
YES_OR_NO = {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0, "true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


@dataclasses.dataclass(frozen=True)
class Row:
    """One example of a table.

    Attributes:
        line: in the file, 1-based; of a parquet file the number of the row.
        path: of the file.
        label: as it is written; several where the table has several columns of targets.
        split: "train", "validation", "test"; None where the table does not say.
        group: which examples stay together; None where the table does not say.
        weight: how much the example counts; None where the table does not say.
    """

    line: int
    path: str
    label: tuple[str, ...]
    split: str | None
    group: str | None
    weight: float | None = None


def read_labels(
    spec: str, rows: Sequence[Row], columns: Sequence[str], options: LoadOptions
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the class names and the labels; no names for a regression."""
    if options.task.has_thresholds:
        return _several(spec, rows, columns, options)
    if options.task.has_classes:
        return _classes(spec, rows, options)
    return (), _targets(spec, rows)


def columns_of_yes_and_no(header: Sequence[str], cells: Sequence[tuple[int, Sequence[str]]]) -> list[str]:
    """Returns the columns whose cells are 0 and 1, or yes and no, and may be blank or -1."""
    columns = []
    for place, name in enumerate(header):
        values = {row[place].lower() for _, row in cells}
        if values and values <= {*YES_OR_NO, *UNSURE} and values & {*YES_OR_NO}:
            columns.append(name)
    return columns


def is_yes(cell: str) -> bool:
    """Returns True for a cell such as 1 or yes."""
    return YES_OR_NO.get(cell.lower()) == 1.0


def is_one_hot(cells: Sequence[str]) -> bool:
    """Returns True for cells of 0 and 1, of which one is 1."""
    return all(cell.lower() in YES_OR_NO for cell in cells) and sum(map(is_yes, cells)) == 1


def are_yes_and_no(rows: Sequence[Row]) -> bool:
    """Returns whether labels are columns of 0 and 1, and not lists of classes."""
    return len(rows[0].label) > 1 or all(row.label[0].lower() in YES_OR_NO for row in rows)


def divider_of(rows: Sequence[Row]) -> str:
    """Returns the separator of the labels in one cell: the first of the usual ones that any cell has.

    A blank divides names of one word, of which there are fewer than of different cells; else names have two words.
    """
    cells = {row.label[0] for row in rows if row.label[0]}
    divider = next((sign for sign in SEPARATORS if any(sign in cell for cell in cells)), SEPARATORS[0])
    if divider == " " and len({word for cell in cells for word in cell.split()}) >= len(cells):
        return SEPARATORS[0]
    return divider


def _is_list(text: str) -> bool:
    return text.startswith("[") and text.endswith("]")


def are_lists(rows: Sequence[Row]) -> bool:
    """Returns True if the labels of each example are a list of Python or JSON in one cell."""
    return any(row.label[0] for row in rows) and all(_is_list(row.label[0]) for row in rows if row.label[0])


def _listed(spec: str, row: Row) -> list[str]:
    """Returns the names of a cell that is a list of Python or JSON, such as "['cat', 'dog']"."""
    try:
        values = ast.literal_eval(row.label[0] or "[]")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise BadValue(
            f"{spec}: line {row.line} has the labels {row.label[0]!r}. Allowed is a list of names such as "
            "['cat', 'dog'], names divided by '|', or a column of 0 and 1 for each class. Write them so."
        )
    return [value.strip() for value in values]


def _targets(spec: str, rows: Sequence[Row]) -> np.ndarray:
    targets = np.empty((len(rows), len(rows[0].label)), "float32")
    for index, row in enumerate(rows):
        for output, text in enumerate(row.label):
            try:
                targets[index, output] = float(text)
            except ValueError:
                raise BadValue(f"{spec}: line {row.line} has the target {text!r}. Allowed is a number.") from None
            if not math.isfinite(targets[index, output]):
                raise BadValue(f"{spec}: line {row.line} has the target {text!r}. Allowed is a finite number.")
    return targets[:, 0] if targets.shape[1] == 1 else targets


def _classes(spec: str, rows: Sequence[Row], options: LoadOptions) -> tuple[tuple[str, ...], np.ndarray]:
    listed = next((row for row in rows if _is_list(row.label[0])), None)
    if listed is not None and options.class_names is None:
        raise BadValue(
            f"{spec}: line {listed.line} has the label {listed.label[0]!r}, which is a list. Allowed is the name of "
            "one class; lists are for task='multilabel' (in a recipe loss.name='multilabel_cross_entropy'). Use that, "
            "or write a name."
        )
    names = options.class_names or _sorted_names(spec, {row.label[0] for row in rows}, 2)
    joined = next((row for row in rows if options.class_names is None and _are_classes(row.label[0], names)), None)
    if joined is not None:
        raise BadValue(
            f"{spec}: line {joined.line} has the label {joined.label[0]!r}, whose parts are classes of other lines. "
            "Allowed is the name of one class; several are for task='multilabel' (in a recipe "
            "loss.name='multilabel_cross_entropy'). Use that, or write one name."
        )
    number = {name: index for index, name in enumerate(names)}
    unknown = [row for row in rows if row.label[0] not in number]
    if unknown:
        _refuse_class(spec, unknown[0].line, unknown[0].label[0], names)
    return names, np.array([number[row.label[0]] for row in rows], "int32")


def _are_classes(label: str, names: Sequence[str]) -> bool:
    """Returns True if a label is several names of classes with a sign between them."""
    parts = ([part.strip() for part in label.split(sign)] for sign in SEPARATORS if sign in label and sign != " ")
    return any(set(found) <= set(names) for found in parts)


def _several(
    spec: str, rows: Sequence[Row], columns: Sequence[str], options: LoadOptions
) -> tuple[tuple[str, ...], np.ndarray]:
    if are_yes_and_no(rows):
        return _from_columns(spec, rows, columns, options)
    if are_lists(rows):
        lists = [_listed(spec, row) for row in rows]
    else:
        divider = divider_of(rows)
        lists = [[part.strip() for part in row.label[0].split(divider) if part.strip()] for row in rows]
    names = options.class_names or _sorted_names(spec, {name for labels in lists for name in labels}, 1)
    number = {name: index for index, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), "float32")
    for index, (row, own) in enumerate(zip(rows, lists, strict=True)):
        for name in own:
            if name not in number:
                _refuse_class(spec, row.line, name, names)
            labels[index, number[name]] = 1.0
    return tuple(names), labels


def _from_columns(
    spec: str, rows: Sequence[Row], columns: Sequence[str], options: LoadOptions
) -> tuple[tuple[str, ...], np.ndarray]:
    labels = np.zeros((len(rows), len(columns)), "float32")
    value = UNCERTAIN[options.uncertain]
    unsure = {name: sum(row.label[place] in UNSURE for row in rows) for place, name in enumerate(columns)}
    if value is None and any(unsure.values()):
        summary = ", ".join(f"{name!r} in {count}" for name, count in unsure.items() if count)
        raise BadValue(
            f"{spec} has blanks or -1 in columns of 0 and 1, of {len(rows)} lines: {summary}. Say what they mean: "
            "uncertain='negative', 'positive' or 'ignore', in a recipe data.uncertain; or name the columns of the "
            "labels without these."
        )
    for index, row in enumerate(rows):
        for place, text in enumerate(row.label):
            if text in UNSURE and value is not None:
                labels[index, place] = value
                continue
            if text.lower() not in YES_OR_NO:
                raise BadValue(
                    f"{spec}: line {row.line} has {text!r} in the column {columns[place]!r}. Allowed are 0 and 1. "
                    "Correct it, or name the columns of the labels."
                )
            labels[index, place] = YES_OR_NO[text.lower()]
    names = options.class_names
    if names is None:
        return tuple(columns), labels
    if set(names) != set(columns):
        raise BadValue(
            f"{spec} has the columns {list(columns)}, and the model knows the classes {list(names)}. Allowed is a "
            "column for each class, because a column that is missing says nothing of its class. Name the columns."
        )
    return names, labels[:, [list(columns).index(name) for name in names]]


def _sorted_names(spec: str, written: set[str], fewest: int) -> tuple[str, ...]:
    """Returns class names in their order: numbers by their value, words by the alphabet."""
    are_numbers = all(map(is_number, written))
    names = tuple(sorted(written, key=lambda text: (float(text), text))) if are_numbers else tuple(sorted(written))
    if len(names) < fewest:
        description = f"one class, {names[0]!r}" if names else "no class in any line"
        raise BadValue(f"{spec} has {description}. Allowed are {fewest} or more classes. Check its column.")
    odd = [name for name in names if not name.isprintable()]
    if odd:
        raise BadValue(f"{spec} has the labels {odd!r} with unprintable characters. Rename these classes.")
    return names


def _refuse_class(spec: str, line: int, name: str, names: Sequence[str]) -> None:
    raise BadValue(
        f"{spec}: line {line} has the class {name!r}, which is not one of {list(names)}. "
        "Rename or leave out these lines."
    )
