"""What an answer says besides verdict, cause, path and fixes, as titled lists of sentences: expectations, a symptom's
hypotheses, what else can happen. Pages and tickets show the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..explain.answer import ends
from ..record import NamedTuple

if TYPE_CHECKING:
    from ..explain.answer import Explanation

MOST_OUTCOMES = 12


class Note(NamedTuple):
    """``lines``: sentences, each with its reason code or an empty text."""

    title: str
    lines: tuple[tuple[str, str], ...]


def notes(x: Explanation) -> Iterator[Note]:
    """In the order in which they are worth reading."""
    yield from _expected(x)
    yield from _symptom(x)
    also = [(x.numbered(d.text, d), d.code) for d in (*x.diagnosis[1:], *x.remarks)]
    if also:
        yield Note("Also", tuple(also[:6]))
    yield from _outcomes(x)


def _expected(x: Explanation) -> Iterator[Note]:
    for e in x.expectations:
        word = {True: "✓ as expected", False: "✗ not as expected", None: "? undecided"}[e.met]
        lines = [(f"{word}; {e.why}", "")]
        if e.differs is not None:
            number = x.numbers.get(e.differs.place, 0) if e.differs.place is not None else 0
            at = f"step {number}" if number else e.differs.host
            lines.append((f"parts at {at}: {e.differs.actual}; as expected it would be {e.differs.expected}", ""))
        yield Note(f"Expected: {e.text}", tuple(lines))


def _symptom(x: Explanation) -> Iterator[Note]:
    if x.symptom is None:
        return
    head = "explained" if x.symptom.explained else "nothing that was tested explains it"
    lines = [(f"{'✓' if h.explains else '–'} {h.text} (tested: {h.tested})", h.code) for h in x.symptom.hypotheses]
    yield Note(f"Symptom: {x.symptom.text}: {head}", tuple(lines))


def _outcomes(x: Explanation) -> Iterator[Note]:
    groups = x.trial.forward.groups()
    if len(groups) < 2:
        return
    lines = []
    for group in groups[:MOST_OUTCOMES]:
        leaf = group[0]
        chances = [m.probability for m in group]
        share = "" if None in chances else f"{sum(c or 0 for c in chances):.1%}: "
        where = " ".join(str(leaf.at[k]) for k in ("host", "interface") if leaf.at.get(k))
        lines.append(
            (f"{share}{leaf.outcome.replace('_', ' ')} at {where} as {ends(leaf.packet, leaf.state)}", leaf.reason.code)
        )
    if len(groups) > MOST_OUTCOMES:
        lines.append((f"… and {len(groups) - MOST_OUTCOMES} more", ""))
    yield Note("What can happen (the picture shows the first)", tuple(lines))
