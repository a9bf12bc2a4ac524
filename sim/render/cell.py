"""An explanation as a notebook cell's HTML: the verdict in a box, cause, path as a table, fixes to copy.

Styles stand at the elements, since notebooks strip style sheets of strangers; every text from outside is escaped. The
rows are those of the text form, so that both say the same.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ..explain.parts import WORKS
from .style import clean
from .text import Page, Row

if TYPE_CHECKING:
    from ..explain.answer import Explanation

WIDE = 400  # columns: the browser wraps
_MONO = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:0.92em"
_CELL = f"text-align:left;padding:1px 12px 1px 0;vertical-align:top;white-space:pre-wrap;{_MONO}"
_GOOD, _BAD = "#1a7f37", "#b42318"


def cell(explanation: Explanation) -> str:
    """One ``<div>`` with the whole answer."""
    page = Page(explanation, WIDE, verbose=False)
    colour = _GOOD if page.colour() == "green" else _BAD
    sign = "✓" if colour == _GOOD else "✗"
    parts = [
        f"<div style='border-left:4px solid {colour};padding:4px 10px;margin:2px 0'>"
        f"<strong>{sign} {_text(explanation.verdict)}</strong> <code>{_text(explanation.code)}</code></div>"
    ]
    if explanation.before is not None:
        edits = "; ".join(explanation.edits)
        parts.append(_paragraph("With", f"{edits}. Before: {explanation.before.verdict} [{explanation.before.code}]"))
    for e in explanation.expectations:
        word = {True: "as expected", False: "not as expected", None: "undecided"}[e.met]
        parts.append(_paragraph("Expected", f"{e.text}: {word}; {e.why}"))
    if explanation.cause:
        parts.append(_paragraph("Why", explanation.cause))
    parts.append(_path(page))
    parts += _fixes(explanation)
    if explanation.assumptions:
        items = "".join(f"<li>{_text(a)}</li>" for a in explanation.assumptions)
        parts.append(f"<details><summary>{len(explanation.assumptions)} assumed</summary><ul>{items}</ul></details>")
    return f"<div style='max-width:70em'>{''.join(parts)}</div>"


def _text(text: str) -> str:
    return escape(clean(text))


def _paragraph(label: str, text: str) -> str:
    return f"<p style='margin:6px 0'><strong>{label}</strong> {_text(text)}</p>"


def _path(page: Page) -> str:
    """The rows of the text form in columns; a line without columns goes across."""
    rows = []
    for item in page.rows():
        if isinstance(item, Row):
            tag = "th" if "dim" in item.paint else "td"
            weight = "font-weight:600;" if "bold" in item.paint else ""
            cells = (item.left + item.extra, item.ends, item.zone, item.state)
            rows.append("".join(f"<{tag} style='{weight}{_CELL}'>{_text(c)}</{tag}>" for c in cells))
        elif item.text.strip():
            tint = f"color:{_BAD};" if "red" in item.paint else "color:#9a6700;" if "yellow" in item.paint else ""
            rows.append(f"<td colspan='4' style='{tint}{_CELL}'>{_text(item.text)}</td>")
    body = "".join(f"<tr style='background:none'>{row}</tr>" for row in rows)
    return f"<table style='border-collapse:collapse;margin:6px 0'>{body}</table>"


def _fixes(explanation: Explanation) -> list[str]:
    """At most two that work and one known remedy that fails, as the text form has them."""
    works = [f for f in explanation.fixes if f.result == WORKS][:2]
    failing = [f for f in explanation.fixes if f.result != WORKS][:1]
    out = []
    for label, fix in [*(("Fix", f) for f in works), *(("Not", f) for f in failing)]:
        lines = "\n".join(_text(f"{command}    # on {host}") for host, command in fix.steps())
        out.append(
            f"<p style='margin:6px 0 0'><strong>{label}</strong> re-simulated: {_text(fix.text)}</p>"
            f"<pre style='margin:2px 0;{_MONO}'>{lines}</pre>"
        )
    return out
