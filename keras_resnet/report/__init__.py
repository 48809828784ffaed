"""One self-contained HTML page of a search.

Example:
    >>> from keras_resnet import report
    >>> report.write_report("nowhere", "page.html")
    Traceback (most recent call last):
    ...
    keras_resnet.errors.BadValue: source='nowhere' holds neither a run nor a search. ...
"""

import os
import pathlib

from keras_resnet import files
from keras_resnet.errors import BadValue, NotAvailable
from keras_resnet.report.importance import Importance as Importance
from keras_resnet.report.importance import importance_of as importance_of
from keras_resnet.report.search_page import search_page
from keras_resnet.tuning import Search


def write_report(source: str | os.PathLike, out: str | os.PathLike) -> pathlib.Path:
    """Writes a page that needs no network: pictures, tables, styles and script are inside.

    Args:
        source: the folder of a search.
        out: ends in `.html`; an older file there is replaced.

    Returns:
        The path of the page.

    Raises:
        ValueError: the folder holds no search, or `out` is no HTML file in a folder that exists.
        NotImplementedError: the folder is that of a run.
    """
    folder, path = pathlib.Path(source).expanduser(), pathlib.Path(out).expanduser()
    if path.suffix not in (".html", ".htm") or not path.absolute().parent.is_dir():
        raise BadValue(
            f"out={os.fspath(out)!r} is no HTML file in a folder that exists. Allowed is such as report.html. Choose "
            "another."
        )
    if (folder / "run.json").is_file():
        raise NotAvailable("The report of a run is not available yet. This version writes that of a search.")
    if not (folder / "search.json").is_file() and not (folder / "search.previous.json").is_file():
        raise BadValue(
            f"source={os.fspath(source)!r} holds neither a run nor a search. Allowed is the folder of one. Check the "
            "path."
        )
    files.write_text(path, search_page(Search.load(folder)))
    return path
