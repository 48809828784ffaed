"""The page of a cross-validation: the scores of its folds, their mean and spread, and the runs side by side."""

import os
import pathlib

from keras_resnet import files
from keras_resnet.report.comparison import compare
from keras_resnet.report.page import SORT, page, page_path, table
from keras_resnet.training.folds import Folds

NOTE = (
    "Each fold is scored on the examples that it left out. The spread is the standard deviation of the folds, which "
    "share most of their training examples: it is no error of the mean. Out of fold: all of these predictions together."
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
    told = f"{table(['fold', *names], rows, stacked=True)}<p>{NOTE}</p>"
    runs = compare([found.path / f"fold-{number}" for number in range(1, len(found.rows) + 1)])
    sections = [("Scores", told), *((title.replace("Figures", "Runs"), text) for title, text in runs.sections())]
    about = runs.runs[0].about
    subtitle = f"{about.model} on {about.data}, recipe {about.recipe.name}, {len(found.rows)} folds"
    files.write_text(path, page("Cross-validation", subtitle, sections, SORT))
    return path
