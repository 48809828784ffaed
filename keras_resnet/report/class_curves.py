"""The section of a page that shows what each class gives at every threshold, and where it stands."""

from collections.abc import Sequence

import numpy as np

from keras_resnet.report import chart
from keras_resnet.report.page import escape, table
from keras_resnet.tasks.curves import Points, points_of
from keras_resnet.tasks.multilabel import THRESHOLD, is_known, thresholds_for

# Beyond that many classes lines cannot be told apart; those of the lowest areas are drawn.
MAX_LINES = 6
MAX_POINTS = 200
STEPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def class_curves(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    thresholds: Sequence[float] = (),
    weights: np.ndarray | None = None,
) -> str:
    """Returns the curves of ROC and of precision and recall, a dot at each operating point, and a table of thresholds.

    Args:
        probabilities: `(examples, classes)`.
        labels: integers `(examples,)`, of which each class is drawn against the rest, of two classes the second; or
            rows of 0 and 1 for multi-label targets.
        class_names: one per class.
        thresholds: of the operating points, one per class; empty for 0.5.
        weights: how much each example counts; None for all alike.
    """
    counted = np.ones(len(labels), bool) if weights is None else weights > 0
    probabilities, labels = probabilities[counted], labels[counted]
    weights = None if weights is None else weights[counted]
    several = labels.ndim == 2
    truth = labels > 0 if several else np.eye(len(class_names))[labels.astype("int64")] > 0
    shown = [1] if len(class_names) == 2 and not several else list(range(len(class_names)))
    known = is_known(labels) if several else np.ones(truth.shape, bool)
    shown = [index for index in shown if 0 < truth[:, index].sum() < known[:, index].sum()]
    if not shown:
        return "<p>No class has examples both with it and without it.</p>"
    points = {
        index: points_of(probabilities[mine, index], truth[mine, index], None if weights is None else weights[mine])
        for index in shown
        for mine in [known[:, index]]
    }
    areas = {index: _area(found) for index, found in points.items()}
    cuts = thresholds_for(thresholds, len(class_names))
    drawn = sorted(shown, key=areas.__getitem__)[:MAX_LINES]
    said = "" if len(drawn) == len(shown) else f" Of {len(shown)} classes the {len(drawn)} of the smallest areas."
    common = f"The dot is where it stands: at {_told(thresholds)}.{said}"
    at = {index: points[index].at(cuts[index]) for index in drawn}
    roc = [(_title(class_names[i], areas[i]), _roc_line(points[i])) for i in drawn]
    precision = [(class_names[i], _precision_line(points[i])) for i in drawn]
    charts = [
        chart.lines(
            roc,
            x_label="false positives: share of the others that is taken",
            note=f"ROC: the share of a class that is found (sensitivity) against the false positives. {common}",
            name="roc",
            y_range=(0, 1),
            whole=False,
            dots=[(at[i][1], at[i][0]) for i in drawn],
        ),
        chart.lines(
            precision,
            x_label="recall: share of the class that is found",
            note=f"Precision: the share of those taken that are of the class, against the recall. {common}",
            name="precision-recall",
            y_range=(0, 1),
            whole=False,
            dots=[(at[i][0], at[i][2]) for i in drawn],
        ),
    ]
    listed = "".join(
        f"<h3>{escape(class_names[index])}</h3>{_thresholds(points[index], cuts[index])}" for index in shown
    )
    folded = f"<details><summary>What other thresholds would give, class by class</summary>{listed}</details>"
    return f'<div class="charts">{"".join(charts)}</div>{folded}'


def _told(thresholds: Sequence[float]) -> str:
    return "the threshold of its class" if len(thresholds) else f"a probability of {THRESHOLD}"


def _title(name: str, area: float) -> str:
    return f"{name}, area {area:.3f}"


def _area(points: Points) -> float:
    return float(np.trapezoid(np.r_[0, points.sensitivity], np.r_[0, points.false_positives]))


def _roc_line(points: Points) -> list[tuple[float, float]]:
    line = list(zip(points.false_positives.tolist(), points.sensitivity.tolist(), strict=True))
    return [(0.0, 0.0), *_thinned(line)]


def _precision_line(points: Points) -> list[tuple[float, float]]:
    line = list(zip(points.sensitivity.tolist(), points.precision.tolist(), strict=True))
    return [(0.0, line[0][1]), *_thinned(line)]


def _thinned(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns so few points that a page stays small, the last one among them."""
    step = -(-len(line) // MAX_POINTS)
    return line[::step] if (len(line) - 1) % step == 0 else [*line[::step], line[-1]]


def _thresholds(points: Points, own: float) -> str:
    rows = []
    for cut in sorted({*STEPS, round(float(own), 4)}):
        sensitivity, false_positives, precision = points.at(cut)
        mark = " (in use)" if cut == round(float(own), 4) else ""
        rows.append(("", [f"{cut:g}{mark}", sensitivity, 1 - false_positives, precision]))
    return table(["threshold", "sensitivity (recall)", "specificity", "precision"], rows)
