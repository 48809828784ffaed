"""The page of a search: best trials, curves, parallel coordinates, importance, and what was never tried."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.report import chart
from keras_resnet.report.chart import HEIGHT, figure, frame
from keras_resnet.report.page import SORT, escape, number, page, table
from keras_resnet.tuning import Dimension, Search, Trial

FEWEST_TRIALS = 10
TREES, REPEATS, FOLDS = 200, 10, 5


@dataclasses.dataclass(frozen=True)
class Importance:
    """Permutation importance, on trials that the model was not fitted to.

    Attributes:
        explained: R squared of the forest on held-out trials; near or below 0 the importances mean nothing.
        drops: name -> how much of it is lost when the values of that hyperparameter are shuffled, the largest first.
        spreads: name -> standard deviation over folds and shuffles.
    """

    explained: float
    drops: dict[str, float]
    spreads: dict[str, float]


def importance_of(dimensions: Sequence[Dimension], trials: Sequence[Trial], seed: int = 0) -> Importance | None:
    """Returns how much each dimension mattered for the score, by permutation importance of a random forest.

    A forest of 200 trees learns the score from the values in 5 folds. On each held-out fold the values of one dimension
    are shuffled ten times; the importance is the mean loss of R squared.

    Args:
        dimensions: of the search.
        trials: those with a score count.
        seed: of folds, forests and shuffles.

    Returns:
        None with fewer than 10 scored trials, or where all scores are equal.

    Source:
        Breiman 2001, "Random Forests", section 10.
    """
    scored = [trial for trial in trials if trial.score is not None]
    scores = np.array([trial.score for trial in scored], dtype=float)
    if len(scored) < FEWEST_TRIALS or np.ptp(scores) == 0:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    values = np.array([[encoded(dimension, trial.values) for dimension in dimensions] for trial in scored])
    drops, predicted = [], np.empty_like(scores)
    for train, held_out in KFold(FOLDS, shuffle=True, random_state=seed).split(values):
        forest = RandomForestRegressor(TREES, random_state=seed).fit(values[train], scores[train])
        predicted[held_out] = forest.predict(values[held_out])
        importance = permutation_importance(
            forest,
            values[held_out],
            scores[held_out],
            n_repeats=REPEATS,
            random_state=seed,
            scoring="neg_mean_squared_error",
        )
        drops.append(importance.importances / scores.var())
    together = np.concatenate(drops, axis=1)
    order = sorted(range(len(dimensions)), key=lambda index: -together[index].mean())
    names = [dimensions[index].name for index in order]
    return Importance(
        explained=float(1 - np.mean((predicted - scores) ** 2) / scores.var()),
        drops=dict(zip(names, (float(together[index].mean()) for index in order), strict=True)),
        spreads=dict(zip(names, (float(together[index].std()) for index in order), strict=True)),
    )


def encoded(dimension: Dimension, values: dict[str, Any]) -> float:
    """Returns the place of a trial's value in its dimension, from 0 to 1; -1 where the dimension was not active."""
    if dimension.name not in values:
        return -1.0
    value = values[dimension.name]
    if dimension.choices:
        return dimension.choices.index(value) / max(len(dimension.choices) - 1, 1)
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.scale == "log":
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def unexplored(dimensions: Sequence[Dimension], trials: Sequence[Trial], parts: int = 5) -> dict[str, list[str]]:
    """Returns the values that no scored trial tried: choices, and fifths of the range on its scale."""
    scored = [trial.values for trial in trials if trial.score is not None]
    gaps: dict[str, list[str]] = {}
    for dimension in dimensions:
        if dimension.choices:
            tried = {values.get(dimension.name) for values in scored}
            untried = [str(choice) for choice in dimension.choices if choice not in tried]
        else:
            places = [encoded(dimension, values) for values in scored if dimension.name in values]
            filled = {min(int(place * parts), parts - 1) for place in places}
            edges = dimension.values(parts + 1) if not dimension.is_integer else None
            low, high = float(dimension.low or 0), float(dimension.high or 0)
            edges = edges or [low + (high - low) * part / parts for part in range(parts + 1)]
            untried = [f"{edges[part]:.3g} to {edges[part + 1]:.3g}" for part in range(parts) if part not in filled]
        if untried:
            gaps[dimension.name] = untried
    return gaps


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
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    subtitle = (
        f"{about.algorithm} search, {over}: {len(found.trials)} of {about.trials} trials ({summary}); {about.model} on "
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
        metrics = ", ".join(f"{escape(k)} {v:.4f}" for k, v in found.metrics.items() if isinstance(v, float))
        lines.append(f"; on the test split, which no trial saw: {metrics} ({found.metrics['examples']} examples)")
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
    plotted = [trial for trial in found.trials if curves[trial.id]]
    if not plotted:
        return "<p>No trial has finished an epoch yet.</p>"
    values = [value for trial in plotted for _, value in curves[trial.id]]
    epochs = max(len(trial.curve) for trial in plotted)
    place, axes = frame((1, epochs), (min(values), max(values)), "epoch")
    lines = []
    for trial in _best_last(found, plotted):
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
    gaps = unexplored(list(found.definition.space), found.trials)
    if not gaps:
        return "<p>Every choice and every fifth of every range was tried.</p>"
    rows = [("", [name, "; ".join(parts)]) for name, parts in gaps.items()]
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
