"""Weights of examples as people write them: a column of a table, or a table beside class folders."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnet.data.sources.cells import first_of, read_cells
from keras_resnet.data.sources.listing import WEIGHTS_NAME
from keras_resnet.data.sources.table_labels import Row
from keras_resnet.errors import BadValue


def read_weight(cell: str) -> float | None:
    """Returns the weight in a cell; None where it is not a finite number from 0 on."""
    try:
        weight = float(cell)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight >= 0 else None


def weights_of(rows: Sequence[Row]) -> np.ndarray | None:
    """Returns the weights of rows, float32; None where the table has none."""
    if not rows or rows[0].weight is None:
        return None
    return np.array([row.weight for row in rows], "float32")


def weights_beside(spec: str, root: pathlib.Path, report: list[str]) -> Mapping[str, float] | None:
    """Returns absolute path -> weight of `weights.csv` in a folder of classes; None where there is no such file.

    Args:
        spec: for messages.
        root: of the data; paths in the table are relative to it.
        report: to which is added that the file was read.

    Raises:
        ValueError: the table cannot be read, lacks a column, or a line of it is wrong.
    """
    path = root / WEIGHTS_NAME
    if not path.is_file():
        return None
    header, cells = read_cells(spec, path)
    if not {"path", "weight"} <= set(header):
        raise BadValue(
            f"{spec}: {os.fspath(path)!r} has the columns {', '.join(map(repr, header))}. Needed are 'path' and "
            "'weight'. Correct its first line."
        )
    place, value = header.index("path"), header.index("weight")
    found: dict[str, float] = {}
    faults = []
    for line, row in cells:
        full = os.path.normpath(os.path.join(root, row[place]))
        weight = read_weight(row[value])
        if weight is None:
            faults.append(f"line {line} has the weight {row[value]!r}")
        elif full in found:
            faults.append(f"line {line} names {row[place]!r} again")
        else:
            found[full] = weight
    _refuse(spec, path, faults)
    report.append(f"{WEIGHTS_NAME} in {root} has the weights of {len(found)} files; others count as 1")
    return found


def check_named(spec: str, root: pathlib.Path, weights: Mapping[str, float], paths: set[str]) -> None:
    """Raises ValueError where a table of weights names files that are none of the examples.

    Args:
        spec: for messages.
        root: of the data.
        weights: from `weights_beside`.
        paths: of all examples, absolute as the weights have them.
    """
    strange = [os.path.relpath(path, root) for path in weights if path not in paths]
    _refuse(spec, root / WEIGHTS_NAME, [f"it names {path!r}, which is none of the examples" for path in strange])


def _refuse(spec: str, path: pathlib.Path, faults: list[str]) -> None:
    if faults:
        raise BadValue(
            f"{spec}: {os.fspath(path)!r}: {first_of(faults)}. Allowed is a line for a file of "
            "the data, each once, with a number from 0 on. Correct the lines."
        )
