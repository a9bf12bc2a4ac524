"""Where two trials of one flow part: the first step that is another in the world in which the expectation holds.

It is the first deciding point: up to there both worlds treat the packet alike, and whatever follows is a consequence.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from ..model.result import Hop, Step
from ..record import NamedTuple
from .parts import Place
from .spots import ways
from .trial import FORWARD, Trial

ENDS = "the packet ends here"


class Difference(NamedTuple):
    """``place``: the step as it is (None: the packet got no farther); ``actual`` and ``expected`` in words."""

    host: str
    place: Place | None
    actual: str
    expected: str


def difference(actual: Trial, expected: Trial) -> Difference | None:
    """The first point at which ``expected`` goes another way; None where both look the same."""
    for (phase, hops), (_, others) in zip(ways(actual), ways(expected), strict=True):
        for index, (hop, other) in enumerate(zip_longest(hops, others)):
            if hop is None or other is None:
                return _whole_hop(phase, hops, others, index)
            found = _within(hop, other)
            if found is not None:
                number, text, wanted = found
                if text == ENDS:
                    leaf = actual.leaf if phase == FORWARD else actual.back
                    text = leaf.reason.text if leaf is not None else text
                    number = len(hop.steps) - 1 if hop.steps else None
                return Difference(hop.host, None if number is None else (phase, index, number), text, wanted)
            if (hop.out_dev, hop.after) != (other.out_dev, other.after) and hop.out_dev != other.out_dev:
                return Difference(hop.host, None, f"leaves by {hop.out_dev}", f"leaves by {other.out_dev}")
    return None


def _whole_hop(phase: str, hops: list[Hop], others: list[Hop], index: int) -> Difference:
    if index < len(hops):
        hop = hops[index]
        expected = f"does not come by {hop.host}" if others else "nothing comes back"
        return Difference(hop.host, (phase, index, 0) if hop.steps else None, f"comes by {hop.host}", expected)
    last = hops[-1].host if hops else others[index].host
    return Difference(
        last, None, "goes no farther" if hops else "nothing comes back", f"goes on to {others[index].host}"
    )


def _within(hop: Hop, other: Hop) -> tuple[int | None, str, str] | None:
    mine = [(i, s) for i, s in enumerate(hop.steps) if s.matched is not False]
    theirs = [s for s in other.steps if s.matched is not False]
    for have, want in zip_longest(mine, theirs):
        if have is not None and want is not None and _key(have[1]) == _key(want):
            continue
        if (
            want is not None
            and want.rule
            and have is not None
            and (have[1].hook, have[1].table) != (want.hook, want.table)
        ):
            return None, f"no rule of {want.table} {want.chain} acts on it", words(want)
        number = have[0] if have is not None else None
        return (
            number,
            words(have[1]) if have is not None else ENDS,
            words(want) if want is not None else ENDS,
        )
    return None


def _key(step: Step) -> tuple[Any, ...]:
    """What makes two steps the same to the packet; places and numbers move with every edit."""
    changes = tuple(sorted((k, str(v)) for k, v in step.changes.items()))
    shown = step.text if step.stage not in ("confirm",) else None
    return (
        step.hook,
        step.stage,
        step.table,
        step.chain,
        step.target,
        shown,
        step.verdict,
        changes,
        step.conntrack,
        step.note,
    )


def words(step: Step) -> str:
    """A step in a few words: where, what it says, what it did."""
    place = f"{step.table} {step.chain}" if step.table and step.chain else step.stage
    if step.rule:
        place += f" {step.rule}"
    said = step.text or step.conntrack or ""
    if step.text and step.text.startswith("rule 32766: from all → table main: "):
        said = step.text.removeprefix("rule 32766: from all → table ")
    did = ", ".join(f"{k} {a} → {b}" for k, (a, b) in step.changes.items() if isinstance(b, (str, int)))
    parts = [p for p in (said, did, step.note if not did else None) if p]
    ended = f" → {step.verdict}" if step.verdict in ("DROP", "STOLEN", "QUEUE") and "policy" not in said else ""
    return f"{place}: {'; '.join(parts)}{ended}" if parts else f"{place}{ended}"


__all__ = ["Difference", "difference"]
