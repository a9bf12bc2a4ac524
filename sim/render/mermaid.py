"""A journey as a Mermaid flowchart, for tickets and wikis that draw it (https://mermaid.js.org/syntax/flowchart.html)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .journey import ARRIVE, LEAVE, NEIGHBOUR, PROCESS, Event, Journey, Pass, journeys
from .style import clean, fit

if TYPE_CHECKING:
    from ..explain.answer import Explanation

LONGEST = 90
STYLES = (
    "classDef changed stroke:#0b5cad,stroke-width:2px",
    "classDef decided stroke:#744b00,stroke-width:2px,stroke-dasharray:5 3",
    "classDef wrong stroke:#a3221b,stroke-width:3px",
)


def mermaid(x: Explanation) -> str:
    """Both directions, one subgraph for each pass through a host."""
    lines = [f"%% {text(x.verdict)}", "flowchart TD"]  # escaped too: a directive counts within a comment
    for journey in journeys(x):
        lines += _direction(journey)
    return "\n".join([*lines, *(f"  {style}" for style in STYLES)]) + "\n"


def _direction(journey: Journey) -> list[str]:
    letter = journey.phase[0]
    lines: list[str] = []
    chain: list[str] = []
    for i, one in enumerate(journey.passes):
        lines.append(f'  subgraph {letter}{i}["{text(f"{journey.phase}: {one.title}")}"]')
        for station in stations(one):
            name = f"{letter}{i}_{station}"
            lines.append(f'    {name}["{_label(one, station)}"]{_class(one, station)}')
            chain.append(name)
        lines.append("  end")
    end = f"{letter}_end"
    lines.append(
        f'  {end}(["{text(("✓ " if journey.good else "✗ ") + journey.ending)}"]){"" if journey.good else ":::wrong"}'
    )
    return lines + [f"  {a} --> {b}" for a, b in zip(chain, [*chain[1:], end], strict=True)]


def stations(one: Pass) -> list[str]:
    """What of a pass is worth a node: where something happened, and its two ends."""
    return [s for s in one.way[: one.reached] if one.at(s) or s in (ARRIVE, LEAVE, PROCESS) or s == one.end]


def station_lines(one: Pass, station: str) -> list[str]:
    """What a node says, line by line."""
    if station == ARRIVE:
        return [f"in {one.in_dev}", one.before]
    if station == LEAVE:
        return [f"out {one.out_dev}", one.after]
    if station == PROCESS:
        return ["local process", one.before if one.in_dev is None else ""]
    name = "next hop" if station == NEIGHBOUR else station
    return [name, *(_said(e) for e in one.at(station))]


def _said(e: Event) -> str:
    cell = "" if e.cell in (e.station, "neighbour", "forward") else f"{e.cell}: "
    return fit(f"{e.number} {'✗ ' if e.wrong else ''}{cell}{e.brief} {e.mark.tail}".rstrip(), LONGEST)


def station_kind(one: Pass, station: str) -> str:
    """wrong, decided, changed or nothing, as the picture has it."""
    events = one.at(station)
    if any(e.wrong for e in events) or (one.ends_here and one.end == station):
        return "wrong"
    if any(e.mark.tail for e in events):
        return "decided"
    return "changed" if any(e.step.changes.keys() - {"ttl"} for e in events) else ""


def _label(one: Pass, station: str) -> str:
    return "<br/>".join(text(line) for line in station_lines(one, station) if line)


def _class(one: Pass, station: str) -> str:
    kind = station_kind(one, station)
    return f":::{kind}" if kind else ""


def text(said: str) -> str:
    """A label's text: within quotes Mermaid reads entity codes (#quot;); anything that could end or style it becomes one."""
    return "".join(c if c.isalnum() or c in " .,:/→←✗✓…-_()=+!" else f"#{ord(c)};" for c in clean(said))
