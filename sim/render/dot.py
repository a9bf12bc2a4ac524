"""A journey as a Graphviz graph (the DOT language), for whoever lays out pictures themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .journey import Journey, journeys
from .mermaid import station_kind, station_lines, stations
from .style import clean

if TYPE_CHECKING:
    from ..explain.answer import Explanation

COLOURS = {"wrong": "#a3221b", "decided": "#744b00", "changed": "#0b5cad", "": "#56606b"}


def dot(x: Explanation) -> str:
    """Both directions, one cluster for each pass through a host."""
    lines = [
        "digraph nattrace {",
        "  rankdir=TB;",
        '  node [shape=box, style=rounded, fontname="monospace", fontsize=10];',
        f"  label={quoted([x.verdict])}; labelloc=t;",
    ]
    for journey in journeys(x):
        lines += _direction(journey)
    return "\n".join([*lines, "}"]) + "\n"


def _direction(journey: Journey) -> list[str]:
    letter = journey.phase[0]
    lines: list[str] = []
    chain: list[str] = []
    for i, one in enumerate(journey.passes):
        lines.append(f"  subgraph cluster_{letter}{i} {{")
        lines.append(f"    label={quoted([f'{journey.phase}: {one.title}'])}; labeljust=l;")
        for station in stations(one):
            name = f"{letter}{i}_{station}"
            kind = station_kind(one, station)
            thick = ", penwidth=2" if kind else ""
            said = [line for line in station_lines(one, station) if line]
            lines.append(f'    {name} [label={quoted(said, True)}, color="{COLOURS[kind]}"{thick}];')
            chain.append(name)
        lines.append("  }")
    end, sign = f"{letter}_end", "✓" if journey.good else "✗"
    colour = "#116329" if journey.good else COLOURS["wrong"]
    lines.append(f'  {end} [label={quoted([f"{sign} {journey.ending}"])}, shape=plaintext, fontcolor="{colour}"];')
    return lines + [f"  {a} -> {b};" for a, b in zip(chain, [*chain[1:], end], strict=True)]


def quoted(lines: list[str], left: bool = False) -> str:
    """A DOT string: quotes and backslashes escaped; ``left``: every line begins at the left."""
    end = "\\l" if left else "\\n"
    body = end.join(clean(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return f'"{body}{end if left else ""}"'
