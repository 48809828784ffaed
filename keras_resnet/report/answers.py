"""What a model predicts for new files: a table for other programs, and a page of pictures, the least sure first."""

import csv
import heapq
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.errors import BadValue
from keras_resnet.evaluation import Predictor
from keras_resnet.evaluation.scoring import read_batches
from keras_resnet.explain.overlays import as_rgb, blend
from keras_resnet.report.page import escape, page, page_path, tiles
from keras_resnet.report.run_page import embed_picture

# Pictures on a page, each some kB.
MAX_PICTURES = 120
COLUMNS = ("file", "class", "probability", "labels", "values", "units", "set", "is_sure", "novelty", "error")


def table_path(out: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a table to write.

    Args:
        out: as the user named it.

    Raises:
        ValueError: it does not end in .csv, or cannot be written.
    """
    path = pathlib.Path(out).expanduser()
    if path.suffix != ".csv":
        raise BadValue(f"csv={os.fspath(out)!r} does not end in .csv. Expected a path such as answers.csv.")
    files.check_parent(path)
    return path


def write_answers(answers: Iterable[Mapping[str, Any]], out: str | os.PathLike) -> pathlib.Path:
    """Writes the answers of `predict` as a table, one row per file.

    Columns that no answer fills are left out. `is_sure` is there for models with prediction sets
    (`evaluation.prediction_sets`): whether the set holds one class; `novelty` for answers that have it.

    Args:
        answers: of `predict` or `predict_each`.
        out: ends in `.csv`; it is written whole when the last answer came.

    Raises:
        ValueError: it cannot be written; and what `answers` raises.
    """
    path = table_path(out)
    rows = [_row(answer) for answer in answers]
    columns = [name for name in COLUMNS if any(name in row for row in rows)]

    def write(half: pathlib.Path) -> None:
        with open(half, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    files.write_atomically(path, write)
    return path


def _row(answer: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"file": files.plain_cell(str(answer["image"]))}
    if "error" in answer:
        row["error"] = files.plain_cell(answer["error"])
    if "labels" in answer:
        row["labels"] = files.plain_cell("|".join(answer["labels"]))
    elif answer.get("classes"):
        best = answer["classes"][0]
        row |= {"class": files.plain_cell(best["name"]), "probability": best["probability"]}
    if "values" in answer:
        row["values"] = "|".join(map(str, answer["values"]))
        row |= {"units": files.plain_cell("|".join(answer["units"]))} if answer.get("units") else {}
    if "set" in answer:
        row |= {"set": files.plain_cell("|".join(answer["set"])), "is_sure": len(answer["set"]) == 1}
    return row | ({"novelty": answer["novelty"]} if "novelty" in answer else {})


def sureness(answer: Mapping[str, Any]) -> float:
    """Returns how sure an answer is, in [0, 1]: the probability of the class; of several labels, the least sure one.

    Args:
        answer: of `predict`, with all its classes where there may be several labels.
    """
    chances = [best["probability"] for best in answer.get("classes", ())]
    if "labels" in answer:
        return min((abs(chance - 0.5) + 0.5 for chance in chances), default=1.0)
    return chances[0] if chances else 1.0


def answers_page(answers: Iterable[Mapping[str, Any]], predictor: Predictor, out: str | os.PathLike) -> Iterator[Any]:
    """Yields the answers as they come, and writes a page of the least sure pictures when the last one came.

    Args:
        answers: of `predict_each`.
        predictor: the model that gave them.
        out: ends in `.html`; an older page there is replaced.

    Raises:
        ValueError: it is no HTML file, or cannot be written.
    """
    path = page_path(out)
    least: list[tuple[float, int, Mapping[str, Any]]] = []
    count = failed = 0
    for count, answer in enumerate(answers, start=1):
        failed += "error" in answer
        if "error" not in answer:
            heapq.heappush(least, (-sureness(answer), count, answer))
            if len(least) > MAX_PICTURES:
                heapq.heappop(least)
        yield answer
    listed = [answer for _, _, answer in sorted(least, key=lambda row: -row[0])]
    note = f"The {len(listed)} least sure of {count} answers, the least sure first." if len(listed) < count else ""
    figures = "".join(_figure(answer, predictor) for answer in listed)
    facts = tiles([("files", f"{count:,}"), *([("skipped", f"{failed:,}")] if failed else [])])
    body = f'<p>{note}</p><div class="pictures">{figures}</div>'
    files.write_text(path, page("Answers", predictor.model.name, [("At a glance", facts), ("Pictures", body)]))


def _figure(answer: Mapping[str, Any], predictor: Predictor) -> str:
    name = str(answer["image"])
    picture = ""
    if os.path.isfile(name):  # an example inside of an array has no picture
        image = next(iter(read_batches(name, predictor)))[1][0]
        if image.ndim == 3:
            picture = embed_picture(blend(as_rgb(image, predictor.record), np.zeros(image.shape[:2])), name)
    unlike = f"; novelty {answer['novelty']:.1%}" if "novelty" in answer else ""
    return f"<figure>{picture}<figcaption>{escape(name)}: {escape(answer_text(answer) + unlike)}</figcaption></figure>"


def answer_text(answer: Mapping[str, Any]) -> str:
    """Returns an answer in a line: the class with its probability, the labels, or the values.

    Args:
        answer: of `predict`.
    """
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    if "values" in answer:
        units = answer.get("units") or [""] * len(answer["values"])
        return ", ".join(f"{value:g} {unit}".rstrip() for value, unit in zip(answer["values"], units, strict=True))
    best = answer["classes"][0]
    text = f"{best['name']} {best['probability']:.1%}"
    return f"{text}; set: {', '.join(answer['set']) or 'none'}" if "set" in answer else text
