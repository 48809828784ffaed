"""The frame of every page: one file, light and dark, for a phone, a keyboard and a printer."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

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
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.chosen td { background: var(--band); } tr.best td:first-child { color: var(--good); font-weight: 700; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .axis { stroke: var(--line); }
svg .curve { fill: none; stroke: var(--soft); stroke-opacity: .35; stroke-width: 1.2; }
svg .best { stroke: var(--good); stroke-opacity: 1; stroke-width: 2.2; }
svg .chosen { stroke: var(--mark); stroke-opacity: 1; stroke-width: 3; } svg .bar { fill: var(--mark); }
svg .dim { stroke-opacity: .06; } pre { background: var(--band); padding: .8rem; overflow-x: auto; }
label { margin-right: 1rem; } select, button { font: inherit; }
@media print { body { max-width: none; } .controls { display: none; } h2 { break-after: avoid; }
  figure, table { break-inside: avoid; } }
figure { margin: 0; }
"""


def page(title: str, subtitle: str, sections: Sequence[tuple[str, str]], script: str = "") -> str:
    """Returns a whole HTML page.

    Args:
        title: of the page, plain text.
        subtitle: under it, plain text.
        sections: heading in plain text, and HTML.
        script: JavaScript that runs at the end.
    """
    body = "\n".join(f"<section><h2>{escape(heading)}</h2>\n{content}\n</section>" for heading, content in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
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


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[Any]]], *, sortable: bool = False) -> str:
    """Returns an HTML table.

    Args:
        head: names of the columns.
        rows: attributes of the row as HTML, and the values of its cells.
        sortable: whether the names are buttons that sort.
    """
    cells = [f'<button type="button">{escape(name)}</button>' if sortable else escape(name) for name in head]
    lines = ["<tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in cells) + "</tr>"]
    for attributes, values in rows:
        filled = "".join(
            f'<td class="{"number" if isinstance(value, (int, float)) else ""}" data-value="{escape(value)}">'
            f"{number(value)}</td>"
            for value in values
        )
        lines.append(f"<tr {attributes}>{filled}</tr>")
    return f'<div class="wide"><table class="{"sortable" if sortable else ""}">' + "\n".join(lines) + "</table></div>"
