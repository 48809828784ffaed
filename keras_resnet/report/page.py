"""The frame of every page: one file, light and dark, for a phone, a keyboard and a printer."""

import html
import os
import pathlib
from collections.abc import Container, Iterable, Sequence
from typing import Any

from keras_resnet.errors import BadValue
from keras_resnet.files import HTML_MARK, check_parent, check_replaceable

LONGEST_WORD = 24  # that a cell of a table holds in one piece

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #5d6670; --line: #d5dae0; --mark: #0b66c3;
  --good: #137a3a; --band: #f2f5f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --paper: #14181c; --soft: #98a3ad; --line: #353d45;
  --mark: #63b0ff; --good: #5fd38d; --band: #1d2329; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto; padding: 1rem;
  max-width: 72rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p.soft, td.soft, figcaption { color: var(--soft); }
a { color: var(--mark); } :focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
td.long { overflow-wrap: anywhere; min-width: 9rem; } td.number { white-space: nowrap; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.winner { color: var(--good); font-weight: 700; }
tr.chosen td { background: var(--band); } tr.best td:first-child { color: var(--good); font-weight: 700; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--line); }
svg .curve { fill: none; stroke: var(--soft); stroke-opacity: .35; stroke-width: 1.2; }
svg .best { stroke: var(--good); stroke-opacity: 1; stroke-width: 2.2; }
svg .chosen { stroke: var(--mark); stroke-opacity: 1; stroke-width: 3; } svg .bar { fill: var(--mark); }
svg .dim { stroke-opacity: .06; }
pre { background: var(--band); padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
label { margin-right: 1rem; } select, button { font: inherit; }
@media print { body { max-width: none; } .controls { display: none; } h2 { break-after: avoid; }
  figure, table { break-inside: avoid; } }
figure { margin: 0; } figure.figure { max-width: 44rem; } figcaption { overflow-wrap: anywhere; }
p.soft, p, li, h1, h2, td, th { overflow-wrap: anywhere; } p code { overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
table.answers { width: auto; max-width: 100%; } table.answers td.share { width: 12rem; }
table.bars { table-layout: auto; } table.bars th { font-weight: 400; overflow-wrap: anywhere; width: 30%; }
table.bars td { width: 55%; } table.bars td.number { width: 15%; text-align: left; }
.hbar { display: block; height: .75rem; background: var(--mark); border-radius: 2px; min-width: 1px; }
svg .grid { stroke: var(--line); stroke-opacity: .6; } svg .dashed { stroke-dasharray: 6 4; }
svg .line { fill: none; stroke-width: 2; } svg .dot { fill: Canvas; stroke-width: 2; }
svg .soft { fill: var(--soft); fill-opacity: .5; }
svg .honest { stroke: var(--ink); stroke-width: 2; } svg .interval { stroke: var(--soft); stroke-width: 1.5; }
svg .c0 { stroke: #0b66c3; } svg .c1 { stroke: #c2571a; } svg .c2 { stroke: #137a3a; } svg .c3 { stroke: #a02c6d; }
svg .c4 { stroke: #6b4fbb; } svg .c5 { stroke: #8a6d00; } svg .c6 { stroke: #00798c; } svg .c7 { stroke: #9c3b3b; }
@media (prefers-color-scheme: dark) { svg .c0 { stroke: #63b0ff; } svg .c1 { stroke: #ff9d5c; }
  svg .c2 { stroke: #5fd38d; } svg .c3 { stroke: #f285c1; } svg .c4 { stroke: #b39dff; } svg .c5 { stroke: #e0c04d; }
  svg .c6 { stroke: #4fd0e0; } svg .c7 { stroke: #f08f8f; } }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .3rem 0; }
ul.legend svg.key { display: inline-block; width: 30px; height: 10px; margin-right: .4rem; }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; margin: 1rem 0; }
dl.tiles div { background: var(--band); padding: .6rem .8rem; border-radius: .4rem; }
dl.tiles dt { color: var(--soft); }
dl.tiles dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
.pictures img { max-width: 100%; height: auto; image-rendering: pixelated; } .pictures .two img { width: 49%; }
table.confusion td { text-align: right; padding: .2rem .4rem; border: 0; }
table.confusion td { background: color-mix(in srgb, var(--mark) calc(var(--share) * 70%), transparent); }
table.confusion th[scope=col] { text-align: right; padding: .2rem .4rem; }
table.confusion { width: auto; }
table.confusion td.zero { color: var(--soft); }
@media (max-width: 40rem) { body { padding: .7rem; }
  .figure svg text { font-size: 18px; } th, td { padding: .25rem .3rem; }
  table.confusion { font-size: .72rem; } table.confusion td, table.confusion th { padding: .15rem .2rem; }
  table.confusion th[scope=col] { writing-mode: vertical-rl; text-align: left; }
  table.stack tr:first-child { display: none; } table.stack tr { display: block; padding: .5rem 0;
    border-bottom: 2px solid var(--line); }
  table.stack td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem .2rem;
    text-align: right; white-space: normal; }
  table.stack td::before { content: attr(data-label); color: var(--soft); text-align: left; overflow-wrap: normal; } }
details { margin: .6rem 0; } summary { cursor: pointer; }
"""

# A heading of a sortable table is a button: numbers by size, words by the alphabet, what is missing last.
SORT = """
document.querySelectorAll("table.sortable").forEach(body => {
  body.querySelectorAll("th button").forEach((button, column) => {
    let up = false;
    button.addEventListener("click", () => {
      up = !up;
      const key = row => row.cells[column].dataset.value;
      const sorted = [...body.querySelectorAll("tr")].filter(row => row.cells[0].tagName === "TD").sort((a, b) => {
        const [x, y] = [key(a), key(b)], numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        if (x === "None" || y === "None") return (x === "None") - (y === "None");
        return (numbers ? x - y : x.localeCompare(y)) * (up ? 1 : -1);
      });
      sorted.forEach(row => row.parentNode.appendChild(row));
      body.querySelectorAll("th").forEach(head => head.removeAttribute("aria-sort"));
      button.closest("th").setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
});
"""


def page(title: str, subtitle: str, sections: Sequence[tuple[str, str]], script: str = "") -> str:
    """Returns a whole HTML page."""
    body = "\n".join(f"<section><h2>{escape(heading)}</h2>\n{content}\n</section>" for heading, content in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{HTML_MARK}<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>\n"
        f'<p class="soft">{escape(subtitle)}</p>\n{body}\n</main>\n<script>{script}</script></body></html>\n'
    )


def escape(text: Any) -> str:
    """Returns text with the characters that HTML reads as markup written out."""
    return html.escape(str(text))


def number(value: Any, digits: int = 4) -> str:
    """Returns a number for reading; other values as text, None as nothing."""
    if value is None:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else escape(value)


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Returns figures with their names, side by side."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values)
    return f'<dl class="tiles">{items}</dl>'


def table(
    head: Sequence[str],
    rows: Iterable[tuple[str, Sequence[Any]]],
    *,
    sortable: bool = False,
    stacked: bool = False,
    winners: Container[tuple[int, int]] = (),
) -> str:
    """Returns an HTML table."""

    def labeled(column: int) -> str:
        return f' data-label="{escape(head[column])}"' if stacked else ""

    rows = list(rows)
    first = rows[0][1] if rows else [""] * len(head)
    kinds = [_kind(value) for value in first]
    cells = [f'<button type="button">{escape(name)}</button>' if sortable else escape(name) for name in head]
    header = "".join(f'<th scope="col" class="{kind}">{cell}</th>' for kind, cell in zip(kinds, cells, strict=True))
    lines = [f"<tr>{header}</tr>"]
    for index, (attributes, values) in enumerate(rows):
        filled = "".join(
            f'<td class="{_kind(value)}{" winner" * ((index, column) in winners)}" data-value="{escape(value)}"'
            f"{labeled(column)}>{number(value)}</td>"
            for column, value in enumerate(values)
        )
        lines.append(f"<tr {attributes}>{filled}</tr>")
    kind = " ".join(["sortable"] * sortable + ["stack"] * stacked)
    return f'<div class="wide"><table class="{kind}">' + "\n".join(lines) + "</table></div>"


def _kind(value: Any) -> str:
    if isinstance(value, (int, float)):
        return "number"
    # Paths and digests break anywhere; words do not.
    return "long" if any(len(word) > LONGEST_WORD for word in str(value).split()) else ""


def page_path(out: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a page to write.

    Args:
        out: as the user named it.

    Raises:
        ValueError: it is no HTML file, cannot be written, or is a file that this package did not write.
    """
    path = pathlib.Path(out).expanduser()
    if path.suffix not in (".html", ".htm"):
        raise BadValue(f"out={os.fspath(out)!r} is not an HTML file. Expected a path such as report.html.")
    check_parent(path)
    check_replaceable(path)
    return path
