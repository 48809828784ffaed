"""The cells of a table in a file."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

from keras_resnet.data.array_files import InvalidArrayFile, check_unpacked
from keras_resnet.errors import BadValue, MissingPackage

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
    """Returns the first faults of a table in one line, and how many more there are.

    Args:
        faults: in their order; at least one.
    """
    more = f"; and {len(faults) - NAMED_AT_MOST} more" if len(faults) > NAMED_AT_MOST else ""
    return "; ".join(faults[:NAMED_AT_MOST]) + more


def read_cells(spec: str, path: pathlib.Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the names of the columns, and the line and the cells of every row.

    Args:
        spec: for messages.
        path: of a CSV file in UTF-8, whose cells commas, semicolons, tabs or bars divide, or of a parquet file.

    Raises:
        MissingPackage: a parquet file needs pyarrow.
        ValueError: it cannot be read, is empty, or a row has another number of cells than the first.
    """
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
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackage(
            f"spec={spec!r} needs pyarrow, which is not installed. It comes with the extra 'hf'. Run: pip install "
            "'keras-resnet-zoo[hf]'"
        ) from error
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
