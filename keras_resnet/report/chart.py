"""Charts as SVG, in the colors of the page: light, dark and print."""

from collections.abc import Sequence
from typing import Any

from keras_resnet.report.page import escape

WIDTH, HEIGHT, MARGIN = 960, 300, 48
TICKS = 4
Point = tuple[float, float]


def figure(height: int, content: str, note: str, name: str, legend: str = "") -> str:
    """Returns a figure around the content of an SVG of `WIDTH` by `height`.

    Args:
        height: of the drawing area, in its own units.
        content: SVG elements.
        note: what is to be seen, plain text; under the picture, and for screen readers.
        name: id of the SVG.
        legend: HTML between picture and note.
    """
    return (
        f'<figure class="wide"><svg id="{name}" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(note)}" '
        f'style="min-width: 40rem">{content}</svg>{legend}<figcaption>{escape(note)}</figcaption></figure>'
    )


def lines(
    series: Sequence[tuple[str, Sequence[Point]]],
    *,
    x_label: str,
    note: str,
    name: str,
    y_range: tuple[float, float] | None = None,
    pairs: bool = False,
) -> str:
    """Returns a line chart with a legend.

    Args:
        series: the name of each line, and its points in the order of x.
        x_label: of the horizontal axis.
        note: what is to be seen, plain text.
        name: id of the SVG.
        y_range: of the vertical axis; by default that of the points.
        pairs: lines 2n and 2n + 1 have one color, and the second is dashed.
    """
    points = [point for _, line in series for point in line]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = y_range or (min(y for _, y in points), max(y for _, y in points))
    across, up = (right - left) or 1.0, (high - low) or 1.0

    def place(x: float, y: float) -> Point:
        horizontal = MARGIN + (WIDTH - 2 * MARGIN) * (x - left) / across
        return horizontal, HEIGHT - MARGIN / 2 - (HEIGHT - MARGIN) * (y - low) / up

    drawn = []
    for tick in range(TICKS + 1):
        value = low + up * tick / TICKS
        height = place(left, value)[1]
        drawn.append(f'<line class="grid" x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{height:.1f}" y2="{height:.1f}"/>')
        drawn.append(f'<text x="4" y="{height + 4:.1f}">{value:.3g}</text>')
    drawn.append(f'<text x="{MARGIN}" y="{HEIGHT - 6}">{escape(x_label)} {left:g}</text>')
    drawn.append(f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)} {right:g}</text>')
    keys = []
    for number, (title, line) in enumerate(series):
        color = f"c{(number // 2 if pairs else number) % 8}" + (" dashed" if pairs and number % 2 else "")
        if not line:
            continue
        places = [place(*point) for point in line]
        if len(places) == 1:
            places.append((places[0][0] + 4, places[0][1]))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline class="line {color}" points="{path}"><title>{escape(title)}</title></polyline>')
        sample = f'<svg class="key" viewBox="0 0 30 10"><line class="line {color}" x1="0" x2="30" y1="5" y2="5"/></svg>'
        keys.append(f"<li>{sample}{escape(title)}</li>")
    return figure(HEIGHT, "".join(drawn), note, name, f'<ul class="legend">{"".join(keys)}</ul>')


def bars(rows: Sequence[tuple[str, float, str]], note: str, name: str) -> str:
    """Returns horizontal bars.

    Args:
        rows: name, length from 0 to 1, and the text at its end.
        note: what is to be seen, plain text.
        name: id of the SVG.
    """
    drawn = []
    for index, (title, length, told) in enumerate(rows):
        y = 18 + index * 22
        width = max(length, 0.0) * (WIDTH - 420)
        drawn.append(
            f'<text x="0" y="{y + 4}">{escape(title)}</text>'
            f'<rect class="bar" x="220" y="{y - 7}" width="{width:.1f}" height="12"/>'
            f'<text x="{228 + width:.1f}" y="{y + 4}">{escape(told)}</text>'
        )
    return figure(24 + 22 * len(rows), "".join(drawn), note, name)


def reliability_diagram(bins: Sequence[Any], note: str) -> str:
    """Returns the accuracy of each bin of confidence as columns, beside the diagonal of a calibrated classifier.

    Args:
        bins: of `evaluation.reliability`.
        note: what is to be seen, plain text.
    """
    side, foot = 300, 24
    start = (WIDTH - side * 2) / 2
    most = max(1, *(bin.examples for bin in bins))
    drawn = [
        f'<line class="axis dashed" x1="{start}" y1="{side + 8}" x2="{start + side}" y2="8"/>',
        f'<text x="{start}" y="{side + foot}">confidence 0</text>',
        f'<text x="{start + side}" y="{side + foot}" text-anchor="end">1</text>',
        f'<text x="{start - 6}" y="18" text-anchor="end">accuracy 1</text>',
        f'<text x="{start + side + 40}" y="{side + foot}">examples by confidence, at most {most:,} in a bin</text>',
    ]
    for bin in bins:
        if not bin.examples:
            continue
        x, width = start + bin.low * side, (bin.high - bin.low) * side - 1
        told = f"<title>{bin.examples:,} examples, confidence {bin.confidence:.3f}, accuracy {bin.accuracy:.3f}</title>"
        for left, height, kind in (
            (x, bin.accuracy * side, "bar"),
            (x + side + 40, bin.examples / most * side, "soft"),
        ):
            drawn.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{side + 8 - height:.1f}" width="{width:.1f}" '
                f'height="{max(height, 0.5):.1f}">{told}</rect>'
            )
        gap = side + 8 - bin.confidence * side
        drawn.append(f'<line class="honest" x1="{x:.1f}" x2="{x + width:.1f}" y1="{gap:.1f}" y2="{gap:.1f}"/>')
    return figure(side + foot + 8, "".join(drawn), note, "reliability")


def scatter(points: Sequence[Point], labels: tuple[str, str], note: str) -> str:
    """Returns points with the diagonal on which both values agree.

    Args:
        points: `(true, predicted)`.
        labels: of the two axes.
        note: what is to be seen, plain text.
    """
    side = 320
    start = (WIDTH - side) / 2
    values = [value for point in points for value in point]
    low, span = min(values), (max(values) - min(values)) or 1.0
    drawn = [f'<line class="axis dashed" x1="{start}" y1="{side + 8}" x2="{start + side}" y2="8"/>']
    drawn += [
        f'<circle class="bar" cx="{start + (x - low) / span * side:.1f}" cy="{side + 8 - (y - low) / span * side:.1f}" '
        'r="2.5" opacity="0.6"/>'
        for x, y in points
    ]
    drawn.append(f'<text x="{start}" y="{side + 24}">{escape(labels[0])}: {low:.3g} to {low + span:.3g}</text>')
    drawn.append(f'<text x="{start - 6}" y="18" text-anchor="end">{escape(labels[1])}</text>')
    return figure(side + 32, "".join(drawn), note, "scatter")
