"""Several runs side by side: figures, what differs in their recipes, and their curves."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from keras_resnet import files
from keras_resnet.errors import BadValue
from keras_resnet.report import chart
from keras_resnet.report.page import SORT, page, page_path, table
from keras_resnet.training import Run
from keras_resnet.training.folds import Folds
from keras_resnet.training.recipe import DESCRIPTIVE
from keras_resnet.training.scoring import direction_of

FIGURES = ("accuracy", "loss", "top5", "expected_calibration_error", "mse", "mae", "r2")

OTHER_DATA = "the runs were scored on different examples; their figures do not say which model is better."


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        names: of the runs, the last parts of their paths that tell them apart.
        runs: in the order given.
        rows: one per run: name, the figures of the test split, model, epochs, minutes, parameters, status and data.
        differing: field of the recipe -> its value in each run, where they are not all the same.
    """

    names: tuple[str, ...]
    runs: tuple[Run, ...]
    rows: tuple[dict[str, Any], ...]
    differing: dict[str, tuple[Any, ...]]

    def __str__(self) -> str:
        """Returns the two tables."""
        columns = list(self.rows[0])
        cells = [columns, *([_text(row[column]) for column in columns] for row in self.rows)]
        tables = [cells]
        if self.differing:
            head = ["recipe", *self.names]
            tables.append([head, *([name, *map(_text, values)] for name, values in self.differing.items())])
        text = "\n\n".join("\n".join(_align(cells)) for cells in tables)
        return text if self.is_of_one_test else f"{text}\n\nwarning: {OTHER_DATA}"

    @property
    def is_of_one_test(self) -> bool:
        """Whether all runs were scored on the same examples, so that their figures can be compared."""
        return len({(run.about.fingerprint, "test" in run.metrics) for run in self.runs}) == 1

    def write(self, out: str | os.PathLike) -> pathlib.Path:
        """Writes a page with the tables and the curves of all runs.

        Args:
            out: ends in `.html`; an older page there is replaced.

        Raises:
            ValueError: it is no HTML file, or cannot be written.
        """
        path = page_path(out)
        subtitle = f"{len(self.runs)} runs; figures of the test split, or of the validation split where there is none"
        files.write_text(path, page("Runs side by side", subtitle, self.sections(), SORT))
        return path

    def sections(self) -> list[tuple[str, str]]:
        """Returns title and HTML of each part of the page."""
        columns = list(self.rows[0])
        rows = [("", [row[column] for column in columns]) for row in self.rows]
        figures = table(columns, rows, sortable=True, stacked=True, winners=self._winners(columns))
        figures += "" if self.is_of_one_test else f"<p>Warning: {OTHER_DATA}</p>"
        sections = [("Figures", figures)]
        if self.differing:
            rows = [("", [name, *map(_text, values)]) for name, values in self.differing.items()]
            sections.append(("What differs in the recipes", table(["field", *self.names], rows, stacked=True)))
        charts = [figure for figure in map(self._curve, ("loss", "accuracy", "mae")) if figure]
        if charts:
            sections.append(("Curves", f'<div class="charts">{"".join(charts)}</div>'))
        return sections

    def _winners(self, columns: list[str]) -> set[tuple[int, int]]:
        """Returns the cells with the best of each figure, where the runs were scored on the same data."""
        if not self.is_of_one_test:
            return set()
        winners = set()
        for name in set(FIGURES) & set(columns):
            values = [row[name] for row in self.rows]
            values_known = [value for value in values if value is not None]
            best = (max if direction_of(name) == "max" else min)(values_known, default=None)
            if len(set(values_known)) > 1:
                winners |= {(row, columns.index(name)) for row, value in enumerate(values) if value == best}
        return winners

    def _curve(self, name: str) -> str:
        series = []
        for title, run in zip(self.names, self.runs, strict=True):
            for key, split in ((name, "training"), (f"val_{name}", "validation")):
                points = list(zip(run.history.get("epoch", []), run.history.get(key, []), strict=False))
                series.append((f"{title}, {split}", points))
        if not any(points for _, points in series):
            return ""
        title = {"mae": "Mean absolute error", "loss": "Loss as minimized"}.get(name, name.capitalize())
        note = f"{title} after every epoch: one color a run, dashed for validation."
        return chart.lines(series, x_label="epoch", note=note, name=f"curve-{name}", pairs=True)


def compare(runs: Sequence[Run | str | os.PathLike]) -> Comparison:
    """Puts runs side by side; nothing is trained or predicted, the figures are those that the runs ended with.

    Args:
        runs: run folders or runs, at least two.

    Returns:
        A `Comparison`: `print` shows its tables, `write` makes a page.

    Raises:
        ValueError: there are fewer than two, or a path holds no run.
    """
    loaded = tuple(run if isinstance(run, Run) else Run.load(run) for run in runs)
    if len(loaded) < 2:
        raise BadValue(f"{len(loaded)} runs were given. A comparison takes at least two. Name another run folder.")
    names = _names([run.path.absolute() for run in loaded])
    rows = [_row(name, run) for name, run in zip(names, loaded, strict=True)]
    columns = [column for column in rows[0] if any(row[column] is not None for row in rows)]
    columns_kept = tuple({column: row[column] for column in columns} for row in rows)
    return Comparison(names, loaded, columns_kept, _differing(loaded))


def _row(name: str, run: Run) -> dict[str, Any]:
    figures = run.metrics.get("test") or run.metrics.get("validation") or {}
    history = run.history
    return {
        "run": name,
        **{figure: figures.get(figure) for figure in FIGURES},
        "model": run.about.model,
        "epochs": len(history.get("epoch", [])),
        "minutes": round(sum(history.get("epoch_seconds", [])) / 60, 2),
        "parameters": run.about.parameters,
        "status": run.file.status,
        "data": run.about.data,
    }


def _names(paths: list[pathlib.Path]) -> tuple[str, ...]:
    """Returns as many last parts of each path as tell them all apart; a path given twice keeps its name."""
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return tuple(names)


def _differing(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    tables = []
    for run in runs:
        recipe = {
            key: value
            for key, value in run.recipe.to_dict().items()
            if isinstance(value, dict) and key not in DESCRIPTIVE
        }
        tables.append({f"{key}.{name}": value for key, values in recipe.items() for name, value in values.items()})
    together = {name: tuple(table[name] for table in tables) for name in tables[0]}
    return {name: values for name, values in together.items() if any(value != values[0] for value in values)}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _align(cells: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


NOTE = (
    "Each fold is scored on the examples that it left out. The spread is the standard deviation of the folds, which "
    "share most of their training examples: it is not the error of the mean. Out of fold: "
    "all of these predictions together."
)


def write_folds(found: Folds, out: str | os.PathLike) -> pathlib.Path:
    """Writes a page with the scores of a cross-validation, and its runs side by side.

    Args:
        found: of `training.cross_validate`.
        out: ends in `.html`; an older page there is replaced.

    Returns:
        The path of the page.

    Raises:
        ValueError: it is no HTML file, or cannot be written.
    """
    path = page_path(out)
    names, scores = found.table()
    rows = [("", [title, *(values.get(name) for name in names)]) for title, values in scores.items()]
    body = f"{table(['fold', *names], rows, stacked=True)}<p>{NOTE}</p>"
    runs = compare([found.path / f"fold-{number}" for number in range(1, len(found.rows) + 1)])
    sections = [("Scores", body), *((title.replace("Figures", "Runs"), text) for title, text in runs.sections())]
    about = runs.runs[0].about
    subtitle = f"{about.model} on {about.data}, recipe {about.recipe.name}, {len(found.rows)} folds"
    files.write_text(path, page("Cross-validation", subtitle, sections, SORT))
    return path
