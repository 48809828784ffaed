"""The page of a search: best trials, curves, parallel coordinates, importance, and what was never tried."""

import math
from typing import Any

from keras_resnet.report import chart
from keras_resnet.report.chart import HEIGHT, figure, frame
from keras_resnet.report.importance import encoded, importance_of, unexplored
from keras_resnet.report.page import SORT, escape, number, page, table
from keras_resnet.tuning import Dimension, Search, Trial

PARALLEL_WIDTH, MARGIN = 960, 48  # of the parallel coordinates

SCRIPT = """
const rows = [...document.querySelectorAll("tr[data-trial]")];
const marks = [...document.querySelectorAll("[data-trial]")];
function choose(trial) {
  marks.forEach(mark => mark.classList.toggle("chosen", mark.dataset.trial === trial));
  document.getElementById("told").textContent = trial === null ? "" : "Trial " + trial + " is marked.";
}
let chosen = null;
rows.forEach(row => {
  const act = () => { chosen = chosen === row.dataset.trial ? null : row.dataset.trial; choose(chosen); };
  row.tabIndex = 0;
  row.addEventListener("click", act);
  row.addEventListener("keydown", event => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); }
  });
});
document.getElementById("status").addEventListener("change", event => {
  const wanted = event.target.value;
  marks.forEach(mark => {
    const shown = wanted === "" || mark.dataset.status === wanted;
    if (mark.tagName === "TR") mark.hidden = !shown; else mark.classList.toggle("dim", !shown);
  });
});
"""


def search_page(found: Search) -> str:
    """Returns the page of a search.

    Args:
        found: the search, over or under way.
    """
    about = found.definition
    over = "over" if found.is_over else "under way"
    counts = {status: sum(trial.status == status for trial in found.trials) for status in _statuses(found)}
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    subtitle = (
        f"{about.algorithm} search, {over}: {len(found.trials)} of {about.trials} trials ({told}); {about.model} on "
        f"{about.data}, at most {about.recipe.train.epochs} epochs each; by {about.metric}; seed {about.seed}"
    )
    sections = [
        ("The winner", _winner(found)),
        ("Trials", _trials(found)),
        (f"{about.metric} after every epoch", _curves(found)),
        ("Parallel coordinates", _parallel(found)),
        ("What mattered", _importance(found)),
        ("What was never tried", _unexplored(found)),
        ("The space", _space(found)),
    ]
    return page(f"Search {found.path.name}", subtitle, sections, SCRIPT + SORT)


def _statuses(found: Search) -> list[str]:
    return sorted({trial.status for trial in found.trials})


def _winner(found: Search) -> str:
    if found.best is None or found.recipe is None:
        return "<p>No trial has a score yet.</p>"
    lines = [f"<p>Trial {escape(found.best.id)}: {found.definition.metric} <strong>{found.best.score:.4f}</strong>"]
    if found.metrics:
        shown = ", ".join(f"{escape(k)} {v:.4f}" for k, v in found.metrics.items() if isinstance(v, float))
        lines.append(f"; on the test split, which no trial saw: {shown} ({found.metrics['examples']} examples)")
    lines.append(f".</p><p>To train it again:</p><pre>{escape(found.recipe.about.command)}</pre>")
    return "".join(lines)


def _attributes(found: Search, trial: Trial) -> str:
    best = found.best is not None and trial.id == found.best.id
    return (
        f'data-trial="{escape(trial.id)}" data-status="{escape(trial.status)}" class="curve{" best" if best else ""}"'
    )


def _trials(found: Search) -> str:
    sign = -1 if found.definition.direction == "max" else 1
    ranked = sorted(found.trials, key=lambda trial: (trial.score is None, sign * (trial.score or 0)))
    names = found.definition.space.names
    rows = [
        (
            _attributes(found, trial).replace("curve", ""),
            [trial.id, trial.status, trial.score, trial.epochs, trial.seconds]
            + [trial.values.get(name) for name in names]
            + [trial.message],
        )
        for trial in ranked
    ]
    options = "".join(f'<option value="{escape(status)}">{escape(status)}</option>' for status in _statuses(found))
    controls = (
        f'<p class="controls"><label>Show <select id="status"><option value="">all trials</option>{options}</select>'
        "</label> Choose a row to mark the trial in the pictures; a heading sorts. "
        '<span id="told" role="status"></span></p>'
    )
    head = ["trial", "status", found.definition.metric, "epochs", "seconds", *names, "message"]
    return controls + table(head, rows, sortable=True)


def _polyline(found: Search, trial: Trial, points: list[tuple[float, float]]) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    title = f"<title>trial {escape(trial.id)}</title>"
    return f'<polyline {_attributes(found, trial)} points="{places}">{title}</polyline>'


def _curves(found: Search) -> str:
    curves = {trial.id: [(n, y) for n, y in enumerate(trial.curve, 1) if math.isfinite(y)] for trial in found.trials}
    drawn = [trial for trial in found.trials if curves[trial.id]]
    if not drawn:
        return "<p>No trial has finished an epoch yet.</p>"
    values = [value for trial in drawn for _, value in curves[trial.id]]
    epochs = max(len(trial.curve) for trial in drawn)
    place, axes = frame((1, epochs), (min(values), max(values)), "epoch")
    lines = []
    for trial in _best_last(found, drawn):
        points = [place(epoch, value) for epoch, value in curves[trial.id]]
        if len(points) == 1:
            points.append((points[0][0] + 3, points[0][1]))
        lines.append(_polyline(found, trial, points))
    return figure(HEIGHT, axes + "".join(lines), "One line per trial, the winner in green.", "curves")


def _best_last(found: Search, trials: list[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: found.best is not None and trial.id == found.best.id)


def _parallel(found: Search) -> str:
    scored = [trial for trial in found.trials if trial.score is not None]
    dimensions: list[Dimension] = list(found.definition.space)
    if not scored:
        return "<p>No trial has a score yet.</p>"
    scores = [trial.score or 0.0 for trial in scored]
    low, span = min(scores), (max(scores) - min(scores)) or 1.0
    height = 340
    step = (PARALLEL_WIDTH - 2 * MARGIN) / len(dimensions)

    def place(column: int, share: float) -> tuple[float, float]:
        return MARGIN + column * step, height - 60 - (height - 110) * share

    parts = []
    for trial in _best_last(found, scored):
        points = [
            place(column, share)
            for column, dimension in enumerate(dimensions)
            if (share := encoded(dimension, trial.values)) >= 0
        ]
        points.append(place(len(dimensions), ((trial.score or 0.0) - low) / span))
        parts.append(_polyline(found, trial, points))
    names = [*(dimension.name for dimension in dimensions), found.definition.metric]
    for column, name in enumerate(names):
        (x, top), (_, bottom) = place(column, 1), place(column, 0)
        ends: tuple[Any, Any] = (low, low + span)
        if column < len(dimensions):
            choices = dimensions[column].choices
            ends = (choices[0], choices[-1]) if choices else (dimensions[column].low, dimensions[column].high)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
            f'<text x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{number(ends[0], 3)}</text>'
            f'<text x="{x:.1f}" y="{top - 6:.1f}" text-anchor="middle">{number(ends[1], 3)}</text>'
            f'<text transform="translate({x:.1f} {height - 34 + 14 * (column % 2):.1f})" text-anchor="middle">'
            f"{escape(name.rpartition('.')[2] if name.rpartition('.')[2] != 'name' else name.partition('.')[0])}</text>"
        )
    note = "One line per trial through the values it tried to its score on the right, past inactive dimensions."
    return figure(height, "".join(parts), note, "parallel", width=PARALLEL_WIDTH)


def _importance(found: Search) -> str:
    dimensions = list(found.definition.space)
    importance = importance_of(dimensions, found.trials)
    if importance is None:
        return "<p>That takes ten trials with scores that differ.</p>"
    most = max([*importance.drops.values(), 1e-9])
    rows = [
        (name, drop / most, f"{drop:.3f} ± {importance.spreads[name]:.3f}") for name, drop in importance.drops.items()
    ]
    note = (
        "Permutation importance of a random forest (Breiman 2001): how much of the held-out R squared is lost when the "
        "values of one hyperparameter are shuffled. On trials it has not seen the forest explains "
        f"{importance.explained:.0%} of the variance of the score"
        + (", so little that these bars mean nothing." if importance.explained < 0.1 else ".")
    )
    return chart.bars(rows, note, "importance")


def _unexplored(found: Search) -> str:
    left = unexplored(list(found.definition.space), found.trials)
    if not left:
        return "<p>Every choice and every fifth of every range was tried.</p>"
    rows = [("", [name, "; ".join(parts)]) for name, parts in left.items()]
    return "<p>Choices and fifths of a range, on its scale, that no scored trial holds.</p>" + table(
        ["dimension", "never tried"], rows
    )


def _space(found: Search) -> str:
    rows = [
        (
            "",
            [
                d.name,
                ", ".join(map(str, d.choices)) or f"{d.low:g} to {d.high:g}",
                d.scale if not d.choices else "",
                d.why,
            ],
        )
        for d in found.definition.space
    ]
    return table(["dimension", "values", "scale", "why"], rows)
