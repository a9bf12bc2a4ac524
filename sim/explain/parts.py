"""The small pieces an answer is made of, apart from what finds them: cheap to import on every ``why``."""

from __future__ import annotations

from ..model.where import Where
from ..record import NamedTuple

WORKS, FORWARD_ONLY, FAILS = "works", "forward_only", "fails"  # what re-simulation said of a fix
SAMPLE = 32  # other flows looked at for side effects

Place = tuple[str, int, int]  # phase, hop, step


class Mark(NamedTuple):
    """How a step of the path is pointed at. ``text`` says the step in other words ({decided}: that step's number)."""

    sign: str = ""  # "✗": here it went wrong
    tail: str = ""  # in the margin after the step
    text: str | None = None


WRONG, SHOWN = Mark("✗"), Mark()
DECIDED_HERE = "← decided here"


class Diagnosis(NamedTuple):
    """``places``: steps of the path that belong to it, each with its mark."""

    code: str
    text: str
    evidence: tuple[Where, ...] = ()
    places: tuple[tuple[Place, Mark], ...] = ()
