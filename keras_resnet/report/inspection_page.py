"""Pages on data: what an inspection found, and the examples whose labels are doubtful, with their pictures."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_resnet import files
from keras_resnet.data import Dataset, Inspection
from keras_resnet.data.inspection import shown_range
from keras_resnet.evaluation.label_issues import LabelIssue, agreement, label_issues
from keras_resnet.report import chart
from keras_resnet.report.page import SORT, escape, page, page_path, table
from keras_resnet.report.run_page import embed_picture
from keras_resnet.training import Run

SHOWN_PAIRS, SHOWN_PICTURES, SHOWN_LABELS, LISTED = 24, 24, 60, 500
SIDE_PX = 128
BATCH_SIZE = 64


def write_inspection(found: Inspection, dataset: Dataset, out: str | os.PathLike) -> pathlib.Path:
    """Writes a page on what `inspect_data` found, with the pictures that look alike side by side.

    Args:
        found: of `inspect_data(dataset)`.
        dataset: the data.
        out: ends in `.html`; an older page there is replaced.

    Raises:
        ValueError: it is no HTML file, or cannot be written.
    """
    path = page_path(out)
    pairs = found.near_copies[:SHOWN_PAIRS]
    names = {name for pair in pairs for name in pair.names} | set(found.one_color[:SHOWN_PICTURES])
    pictures = _pictures_of(dataset, names)
    across = sum(pair.splits[0] != pair.splits[1] for pair in found.near_copies)
    few = ", ".join(map(escape, found.few)) or "none"
    alike = "" if found.are_all_alike is None else f"<p>Warning: {escape(found.are_all_alike)}.</p>"
    sections = [
        ("Examples", _counts(found)),
        ("Classes with few training examples", f"<p>{few}</p>"),
        (f"Near copies: {len(found.near_copies)}, {across} of them in two splits", alike + _pairs(found, pictures)),
        (f"Pictures of one color: {len(found.one_color)}", _single(found.one_color, pictures)),
        ("What loading the data said", f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in found.report)}</ul>"),
    ]
    shape = " x ".join("?" if size is None else str(size) for size in found.shape)
    files.write_text(path, page("Inspection of data", f"{found.spec}; examples of {shape}", sections, SORT))
    return path


def write_label_issues(folder: str | os.PathLike, out: str | os.PathLike) -> pathlib.Path:
    """Writes a page of the examples of a cross-validation whose labels are most doubtful, to be looked at.

    Args:
        folder: of `training.cross_validate`, for a classification.
        out: ends in `.html`; an older page there is replaced.

    Raises:
        ValueError: the folder holds no such predictions, or `out` is no HTML file or cannot be written.
    """
    path = page_path(out)
    issues = label_issues(folder)
    dataset = Run.load(pathlib.Path(folder) / "fold-1").dataset
    top_issues = issues[:SHOWN_LABELS]
    pictures = _pictures_of(dataset, {issue.path for issue in top_issues})
    figures = "".join(_doubtful(issue, pictures) for issue in top_issues) if pictures else ""
    rows = [
        ("", [issue.path, issue.label, issue.guess, issue.quality, "yes" if issue.is_issue else ""])
        for issue in issues[:LISTED]
    ]
    doubtful = sum(issue.is_issue for issue in issues)
    text = (
        "<p>Models that had not seen an example disagree most with the labels of these. "
        f"{doubtful:,} of {len(issues):,}{' (examples times classes)' * issues[0].several} are counted as wrong by "
        f"confident learning (Northcutt et al. 2021). {agreement(issues)} Look at them before you change a label: a "
        "model may be wrong where it is sure.</p>"
    )
    listed = table(
        ["example", "label", "more probably", "probability of its label", "counted as wrong"], rows, sortable=True
    )
    sections = [("The most doubtful labels", f'{text}<div class="pictures">{figures}</div>'), ("As a list", listed)]
    files.write_text(path, page("Doubtful labels", os.fspath(folder), sections, SORT))
    return path


def _counts(found: Inspection) -> str:
    parts = []
    for split, counts in found.counts.items():
        most = max([*counts.values(), 1])
        rows = [(name or "examples", count / most, f"{count:,}") for name, count in counts.items()]
        parts.append(chart.bars(rows, f"Split {split}: {sum(counts.values()):,} labels.", f"counts-{split}"))
    return f'<div class="charts">{"".join(parts)}</div>'


def _pairs(found: Inspection, pictures: dict[str, np.ndarray]) -> str:
    if not found.near_copies:
        return "<p>None was found.</p>"
    parts = []
    for pair in found.near_copies[:SHOWN_PAIRS]:
        figures = "".join(embed_picture(pictures[name], name) for name in pair.names if name in pictures)
        parts.append(f'<figure><div class="two">{figures}</div><figcaption>{escape(pair)}</figcaption></figure>')
    num_hidden = len(found.near_copies) - len(parts)
    more = f"<p>And {num_hidden:,} more, which --json lists.</p>" * bool(num_hidden)
    return f'<div class="pictures">{"".join(parts)}</div>{more}'


def _single(names: Sequence[str], pictures: dict[str, np.ndarray]) -> str:
    if not names:
        return "<p>None was found.</p>"
    figures = "".join(
        f"<figure>{embed_picture(pictures[name], name)}<figcaption>{escape(name)}</figcaption></figure>"
        for name in names[:SHOWN_PICTURES]
        if name in pictures
    )
    return f'<div class="pictures">{figures}</div>'


def _doubtful(issue: LabelIssue, pictures: dict[str, np.ndarray]) -> str:
    if issue.path not in pictures:
        return ""
    caption = f"{issue.path}: labeled {issue.label} ({issue.quality:.1%}), more probably {issue.guess}"
    return f"<figure>{embed_picture(pictures[issue.path], caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _pictures_of(dataset: Dataset, names: set[str]) -> dict[str, np.ndarray]:
    """Returns the pictures of these names as uint8 in three colors, small; nothing for signals and volumes."""
    if len(dataset.image_shape) != 3 or not names:
        return {}
    low, high = shown_range(dataset)
    size = None if None not in dataset.image_shape else SIDE_PX
    pictures: dict[str, np.ndarray] = {}
    for split in dataset.sizes:
        for number, (images, *_) in enumerate(dataset.batches(split, BATCH_SIZE, image_size=size, crop="none")):
            for place in range(len(images)):
                name = dataset.name_of(split, number * BATCH_SIZE + place)
                if name in names:
                    pixels = (np.asarray(images[place], "float32") - low) * (255.0 / (high - low))
                    pixels = pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, axis=-1)
                    pictures[name] = np.clip(np.round(pixels), 0, 255).astype("uint8")
    return pictures
