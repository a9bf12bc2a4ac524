"""A drawing as SVG: alone, with its own style sheet for light and dark, or as a part of a page that brings the styles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path as File
from typing import TYPE_CHECKING

from .drawing import Box, Drawing, Group, Path, Text
from .picture import wide
from .style import clean

if TYPE_CHECKING:
    from ..explain.answer import Explanation


@cache
def resource(name: str) -> str:
    """A file that is shipped beside the page's code."""
    return (File(__file__).parent / "page" / name).read_text(encoding="utf-8")


def safe(text: str) -> str:
    """Text from outside: control characters made visible, markup characters escaped."""
    return escape(clean(text))


def svg(x: Explanation) -> str:
    """The pictures of both directions as one file."""
    from .journey import journeys

    drawings = [(j, wide(j)) for j in journeys(x)]
    head = 26.0
    height = sum(d.height + head + 14 for _, d in drawings) + 34
    width = max(d.width for _, d in drawings) + 24
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
             f'viewBox="-12 0 {width:g} {height:g}" role="img" aria-labelledby="t d">']  # fmt: skip
    parts.append(f'<title id="t">{safe(x.question.text)}</title><desc id="d">{safe(x.verdict)}</desc>')
    colours = resource("colours.css").replace(":root", "svg").replace("html[data-theme=dark]", "svg.dark")
    parts.append(f"<style>{colours}{resource('picture.css')}svg{{background:var(--paper)}}</style>{MARKERS}")
    parts.append(f'<text x="0" y="20" class="title">{safe(x.verdict[:160])}</text>')
    y = 34.0
    for journey, drawing in drawings:
        parts.append(f'<text x="0" y="{y + 14:g}" class="phase">{journey.phase}</text>')
        parts.append(f'<g transform="translate(0 {y + head:g})">{"".join(_shapes(drawing.shapes, False))}</g>')
        y += drawing.height + head + 14
    return "\n".join([*parts, "</svg>"]) + "\n"


MARKERS = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
    'markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" class="tip"/></marker>'
    '<marker id="tip2" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="11" markerHeight="11" orient="auto" '
    'markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" class="tip way"/></marker></defs>'
)


def part(drawing: Drawing, name: str, chosen: bool = True) -> str:
    """One picture of a page. ``name``: the class that decides when it is shown; ``chosen``: its groups can be chosen."""
    body = "".join(_shapes(drawing.shapes, chosen))
    return (
        f'<svg class="picture {name}" viewBox="-3 0 {drawing.width + 6:g} {drawing.height:g}" '
        f'role="{"group" if chosen else "img"}" aria-label="{safe(drawing.about)}">{body}</svg>'
    )


def _shapes(shapes: list[Box | Text | Path | Group] | tuple[Box | Text | Path, ...], chosen: bool) -> Iterator[str]:
    for shape in shapes:
        if isinstance(shape, Box):
            yield (
                f'<rect x="{shape.x:g}" y="{shape.y:g}" width="{shape.w:g}" height="{shape.h:g}" rx="{shape.radius:g}" '
                f'class="{shape.role}"/>'
            )
        elif isinstance(shape, Text):
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            yield f'<text x="{shape.x:g}" y="{shape.y:g}"{anchor} class="{shape.role}">{safe(shape.text)}</text>'
        elif isinstance(shape, Path):
            yield _line(shape)
        else:
            inner = "".join(_shapes(shape.shapes, chosen))
            if chosen and shape.steps:
                numbers = " ".join(map(str, shape.steps))
                yield (
                    f'<g class="stop" role="button" tabindex="-1" data-steps="{numbers}" '
                    f'aria-label="{safe(shape.label)}">{inner}</g>'
                )
            else:
                yield f"<g>{f'<title>{safe(shape.label)}</title>' if shape.steps else ''}{inner}</g>"


def _line(line: Path) -> str:
    points = " ".join(f"{x:g},{y:g}" for x, y in line.points)
    tip = (' marker-end="url(#tip2)"' if line.role == "way" else ' marker-end="url(#tip)"') if line.arrow else ""
    return f'<polyline points="{points}" class="line {line.role}"{tip}/>'
