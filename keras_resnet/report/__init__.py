"""One self-contained HTML page of a run, of a cross-validation or of a search, and runs side by side.

Example:
    >>> from keras_resnet import report
    >>> report.write_report("nowhere", "page.html")
    Traceback (most recent call last):
    ...
    keras_resnet.errors.BadValue: source='nowhere' holds neither a run, a cross-validation nor a search. ...
"""

import os
import pathlib

from keras_resnet import (
    files,
    needs_tensorflow,  # noqa: F401
    training,
    tuning,
)
from keras_resnet.errors import BadValue
from keras_resnet.report.answers import answers_page as answers_page
from keras_resnet.report.answers import write_answers as write_answers
from keras_resnet.report.comparison import Comparison as Comparison
from keras_resnet.report.comparison import compare as compare
from keras_resnet.report.comparison import write_folds as write_folds
from keras_resnet.report.inspection_page import write_inspection as write_inspection
from keras_resnet.report.inspection_page import write_label_issues as write_label_issues
from keras_resnet.report.page import page_path
from keras_resnet.report.run_page import run_page
from keras_resnet.report.search_page import Importance as Importance
from keras_resnet.report.search_page import importance_of as importance_of
from keras_resnet.report.search_page import search_page
from keras_resnet.training.folds import FOLDS_FILE


def write_report(source: str | os.PathLike, out: str | os.PathLike) -> pathlib.Path:
    """Writes a page that needs no network: pictures, tables, styles and script are inside.

    The page of a run has its figures, curves, confusion, calibration, worst mistakes with what the network sees in
    them, data, recipe, versions, and how to make it again; the test split is predicted for it.

    Args:
        source: the folder of a run, of a cross-validation or of a search.
        out: ends in `.html`; an older page there is replaced.

    Returns:
        The path of the page.

    Raises:
        ValueError: the folder holds none of them, the run has no model yet or its data changed, or `out` is no HTML
            file or cannot be written.
    """
    folder, path = pathlib.Path(source).expanduser(), page_path(out)
    if (folder / "run.json").is_file():
        text = run_page(training.Run.load(folder))
    elif (folder / "search.json").is_file() or (folder / "search.previous.json").is_file():
        text = search_page(tuning.Search.load(folder))
    elif (folder / FOLDS_FILE).is_file():
        return write_folds(training.Folds.load(folder), path)
    else:
        raise BadValue(
            f"source={os.fspath(source)!r} holds neither a run, a cross-validation nor a search. Allowed is the folder "
            "of one. Check the path."
        )
    files.write_text(path, text)
    return path
