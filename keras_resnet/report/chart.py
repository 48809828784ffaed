"""Charts as SVG, in the colors of the page: light, dark and print."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_resnet.report.page import escape, number, table
from keras_resnet.tasks import Predictions
from keras_resnet.tasks.metrics import Points, points_of
from keras_resnet.tasks.multilabel import THRESHOLD, thresholds_for

WIDTH, HEIGHT = 640, 300
# Around the area of a chart, wide enough for ticks in the larger letters of a phone.
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 14, 40
TICKS = 5
Z_95 = 1.959964  # of the normal distribution, for intervals of 95 %
Point = tuple[float, float]


def figure(height: int, content: str, note: str, name: str, legend: str = "", width: int = WIDTH) -> str:
    """Returns a figure around the content of an SVG."""
    kind, least = ("figure", "") if width <= WIDTH else ("wide", f' style="min-width: {width * 0.7:.0f}px"')
    return (
        f'<figure class="{kind}"><svg id="{name}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(note)}"{least}>{content}</svg>{legend}<figcaption>{escape(note)}</figcaption></figure>'
    )


def round_ticks(low: float, high: float, most: int = TICKS, whole: bool = False) -> list[float]:
    """Returns multiples of 1, 2 or 5 times a power of ten between two numbers.

    Example:
        >>> from keras_resnet.report.chart import round_ticks
        >>> round_ticks(0.13, 0.97)
        [0.2, 0.4, 0.6, 0.8]
    """
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / most * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)] or [low]


def frame(
    x_range: tuple[float, float], y_range: tuple[float, float], x_label: str, whole: bool = True
) -> tuple[Callable[[float, float], Point], str]:
    """Returns the axes of a chart: a function from values to their place, and the SVG of ticks and grid."""
    (left, right), (low, high) = x_range, y_range
    across, up = (right - left) or 1.0, (high - low) or 1.0

    def place(x: float, y: float) -> Point:
        horizontal = LEFT + (WIDTH - LEFT - RIGHT) * (x - left) / across
        return horizontal, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / up

    elements = []
    for value in round_ticks(low, high):
        height = place(left, value)[1]
        elements.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        elements.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in round_ticks(left, right, whole=whole):
        x = place(value, low)[0]
        elements.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM + 4}"/>')
        elements.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    elements.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    return place, "".join(elements)


def lines(
    series: Sequence[tuple[str, Sequence[Point]]],
    *,
    x_label: str,
    note: str,
    name: str,
    y_range: tuple[float, float] | None = None,
    pairs: bool = False,
    whole: bool = True,
    dots: Sequence[Point] = (),
) -> str:
    """Returns a line chart with a legend."""
    series = [(title, [point for point in line if math.isfinite(point[1])]) for title, line in series]
    points = [point for _, line in series for point in line]
    if not points:
        return "<p>None of the values is finite.</p>"
    across = min(x for x, _ in points), max(x for x, _ in points)
    place, axes = frame(across, y_range or (min(y for _, y in points), max(y for _, y in points)), x_label, whole)
    drawn, keys = [axes], []
    for index, (title, line) in enumerate(series):
        color = f"c{(index // 2 if pairs else index) % 8}" + (" dashed" if pairs and index % 2 else "")
        if not line:
            continue
        places = [place(*point) for point in line]
        if len(places) == 1:
            places.append((places[0][0] + 4, places[0][1]))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline class="line {color}" points="{path}"><title>{escape(title)}</title></polyline>')
        if dots:
            x, y = place(*dots[index])
            drawn.append(f'<circle class="dot {color}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        sample = f'<svg class="key" viewBox="0 0 30 10"><line class="line {color}" x1="0" x2="30" y1="5" y2="5"/></svg>'
        keys.append(f"<li>{sample}{escape(title)}</li>")
    return figure(HEIGHT, "".join(drawn), note, name, f'<ul class="legend">{"".join(keys)}</ul>')


def bars(rows: Sequence[tuple[str, float, str]], note: str, name: str) -> str:
    """Returns horizontal bars, as a table whose names may be long."""
    rows_html = "".join(
        f'<tr><th scope="row">{escape(title)}</th><td><span class="hbar" style="width: {max(length, 0.0) * 100:.1f}%">'
        f'</span></td><td class="number">{escape(told)}</td></tr>'
        for title, length, told in rows
    )
    return (
        f'<figure class="figure"><table class="bars" id="{name}">{rows_html}</table>'
        f"<figcaption>{escape(note)}</figcaption></figure>"
    )


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share that was counted in that many examples.

    Source:
        Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    Example:
        >>> from keras_resnet.report.chart import wilson_interval
        >>> [round(end, 3) for end in wilson_interval(0.5, 10)]
        [0.237, 0.763]
    """
    square = Z_95**2 / count
    center = (share + square / 2) / (1 + square)
    half = Z_95 * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, center - half), min(1.0, center + half)


def reliability_diagram(bins: Sequence[Any], note: str) -> str:
    """Returns the accuracy of each bin of confidence as columns, beside the diagonal of a calibrated classifier."""
    side, top = 250, 26
    starts, floor = (LEFT, WIDTH - side - RIGHT), top + side
    most = max(1, *(bin.examples for bin in bins))
    elements = [
        f'<line class="axis dashed" x1="{starts[0]}" y1="{floor}" x2="{starts[0] + side}" y2="{top}"/>',
        f'<text x="{starts[0]}" y="16">accuracy</text>',
        f'<text x="{starts[1]}" y="16">examples, at most {most:,}</text>',
    ]
    for start in starts:
        for value in (0, 0.2, 0.4, 0.6, 0.8, 1):
            x = start + value * side
            elements.append(f'<text x="{x:.1f}" y="{floor + 18}" text-anchor="middle">{value:g}</text>')
        elements.append(f'<text x="{start + side / 2}" y="{floor + 36}" text-anchor="middle">confidence</text>')
    for value in (0, 0.2, 0.4, 0.6, 0.8, 1):
        y = floor - value * side
        elements.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    rows = []
    for bin in bins:
        if not bin.examples:
            continue
        x, width = bin.low * side, (bin.high - bin.low) * side - 1
        low, high = wilson_interval(bin.accuracy, bin.examples)
        tooltip = (
            f"<title>{bin.examples:,} examples, confidence {bin.confidence:.3f}, accuracy {bin.accuracy:.3f}</title>"
        )
        heights = bin.accuracy * side, bin.examples / most * side
        for start, height, kind in zip(starts, heights, ("bar", "soft"), strict=True):
            elements.append(
                f'<rect class="{kind}" x="{start + x:.1f}" y="{floor - height:.1f}" width="{width:.1f}" '
                f'height="{max(height, 0.5):.1f}">{tooltip}</rect>'
            )
        middle, gap = starts[0] + x + width / 2, floor - bin.confidence * side
        elements.append(
            f'<line class="interval" x1="{middle:.1f}" x2="{middle:.1f}" y1="{floor - high * side:.1f}" '
            f'y2="{floor - low * side:.1f}"/>'
        )
        x_left = starts[0] + x
        elements.append(
            f'<line class="honest" x1="{x_left:.1f}" x2="{x_left + width:.1f}" y1="{gap:.1f}" y2="{gap:.1f}"/>'
        )
        cells = f"{bin.low:.2f} to {bin.high:.2f}", f"{bin.examples:,}", f"{bin.confidence:.3f}", f"{bin.accuracy:.3f}"
        rows.append("".join(f"<td>{cell}</td>" for cell in (*cells, f"{low:.2f} to {high:.2f}")))
    header = "".join(
        f'<th scope="col">{name}</th>' for name in ("confidence", "examples", "mean", "accuracy", "95 % interval")
    )
    listed = "".join(f"<tr>{row}</tr>" for row in rows)
    numbers = f"<details><summary>As numbers</summary><table><tr>{header}</tr>{listed}</table></details>"
    return figure(floor + 44, "".join(elements), note, "reliability", numbers)


def scatter(points: Sequence[Point], labels: tuple[str, str], note: str) -> str:
    """Returns points with the diagonal on which both values agree."""
    side, top = 320, 26
    start, floor = (WIDTH - side) / 2, 26 + 320
    values = [value for point in points for value in point]
    low, span = min(values), (max(values) - min(values)) or 1.0
    elements = [f'<line class="axis dashed" x1="{start}" y1="{floor}" x2="{start + side}" y2="{top}"/>']
    for value in round_ticks(low, low + span):
        place = (value - low) / span * side
        elements.append(f'<text x="{start + place:.1f}" y="{floor + 18}" text-anchor="middle">{number(value)}</text>')
        elements.append(f'<text x="{start - 6}" y="{floor - place + 4:.1f}" text-anchor="end">{number(value)}</text>')
    elements += [
        f'<circle class="bar" cx="{start + (x - low) / span * side:.1f}" cy="{floor - (y - low) / span * side:.1f}" '
        'r="3.5" opacity="0.6"/>'
        for x, y in points
    ]
    elements.append(f'<text x="{WIDTH / 2}" y="{floor + 38}" text-anchor="middle">{escape(labels[0])}</text>')
    elements.append(f'<text x="{start}" y="16" text-anchor="middle">{escape(labels[1])}</text>')
    return figure(floor + 46, "".join(elements), note, "scatter")


MAX_COLORS = 8


def class_map(points: Sequence[Point], labels: Sequence[int], names: Sequence[str], note: str) -> str:
    """Returns points in the color of their class: each of the most frequent ones has its own, all others are gray."""
    order = np.argsort(-np.bincount(labels, minlength=len(names)), kind="stable")
    colored = sorted(order[:MAX_COLORS].tolist())
    colors = {index: f"c{place}" for place, index in enumerate(colored)}
    across, up = ([point[axis] for point in points] for axis in (0, 1))
    place, axes = frame((min(across), max(across)), (min(up), max(up)), "first direction", whole=False)
    circles = [
        f'<circle class="dot {colors.get(label, "axis")}" cx="{x:.1f}" cy="{y:.1f}" r="3" opacity="0.7">'
        f"<title>{escape(names[label])}</title></circle>"
        for (x, y), label in zip((place(*point) for point in points), labels, strict=True)
    ]
    keys = [
        f'<li><svg class="key" viewBox="0 0 30 10"><circle class="dot {color}" cx="15" cy="5" r="4"/></svg>'
        f"{escape(names[index])}</li>"
        for index, color in colors.items()
    ]
    note += f" Other classes than these {MAX_COLORS} are gray." if len(names) > MAX_COLORS else ""
    return figure(HEIGHT, axes + "".join(circles), note, "map", f'<ul class="legend">{"".join(keys)}</ul>')


# Beyond that many classes lines cannot be told apart; those of the lowest areas are drawn.
MAX_LINES = 6
MAX_POINTS = 200
STEPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def class_curves(predictions: Predictions) -> str:
    """Returns curves of ROC and of precision and recall, with operating points, and a table of thresholds."""
    class_names, thresholds, counts = predictions.class_names, predictions.thresholds, predictions.counts
    truth, known = predictions.truth, predictions.known & (counts > 0)[:, None]
    is_binary = len(class_names) == 2 and predictions.task.is_exclusive
    classes = [1] if is_binary else list(range(len(class_names)))
    classes = [index for index in classes if 0 < truth[known[:, index], index].sum() < known[:, index].sum()]
    if not classes:
        return "<p>No class has examples both with it and without it.</p>"
    points = {
        index: points_of(predictions.probabilities[mine, index], truth[mine, index], counts[mine])
        for index in classes
        for mine in [known[:, index]]
    }
    areas = {index: _area(found) for index, found in points.items()}
    cuts = thresholds_for(thresholds, len(class_names))
    plotted = sorted(classes, key=areas.__getitem__)[:MAX_LINES]
    remark = (
        "" if len(plotted) == len(classes) else f" Of {len(classes)} classes the {len(plotted)} of the smallest areas."
    )
    common = f"The dot is where it stands: at {_told(thresholds)}.{remark}"
    at = {index: points[index].at(cuts[index]) for index in plotted}
    roc = [(_title(class_names[i], areas[i]), _roc_line(points[i])) for i in plotted]
    precision = [(class_names[i], _precision_line(points[i])) for i in plotted]
    charts = [
        lines(
            roc,
            x_label="false positives: share of the others that is taken",
            note=f"ROC: the share of a class that is found (sensitivity) against the false positives. {common}",
            name="roc",
            y_range=(0, 1),
            whole=False,
            dots=[(at[i][1], at[i][0]) for i in plotted],
        ),
        lines(
            precision,
            x_label="recall: share of the class that is found",
            note=f"Precision: the share of those taken that are of the class, against the recall. {common}",
            name="precision-recall",
            y_range=(0, 1),
            whole=False,
            dots=[(at[i][0], at[i][2]) for i in plotted],
        ),
    ]
    listed = "".join(
        f"<h3>{escape(class_names[index])}</h3>{_thresholds(points[index], cuts[index])}" for index in classes
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
