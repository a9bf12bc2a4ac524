"""An answer as Markdown for a ticket: verdict, cause, what cures it, the way as a table, the picture as Mermaid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..explain.parts import WORKS
from .journey import Journey, Pass, journeys
from .mermaid import mermaid
from .notes import notes
from .style import clean

if TYPE_CHECKING:
    from ..explain.answer import Explanation
    from ..explain.fixes import Fix

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&@!])")


def markdown(x: Explanation) -> str:
    """The whole document."""
    return "\n".join(_parts(x)) + "\n"


def _parts(x: Explanation) -> Iterator[str]:
    yield f"## {code(x.question.text)}\n"
    yield f"**{plain(x.verdict)}** {code(x.code)}\n"
    if x.before is not None:
        yield "With:\n\n" + fenced("\n".join(x.edits))
        yield f"Before: {plain(x.before.verdict)} {code(x.before.code)}\n"
    if x.cause:
        yield f"**Why:** {plain(x.cause)}\n"
    for note in notes(x):
        yield f"**{plain(note.title)}**\n"
        for text, code_ in note.lines:
            yield f"- {plain(text)}{f' {code(code_)}' if code_ else ''}"
        yield ""
    works = [f for f in x.fixes if f.result == WORKS][:2]
    for label, fix in [*(("Fix", f) for f in works), *(("Does not help", f) for f in x.fixes if f.result != WORKS)][:3]:
        yield from _fix(label, fix)
    for journey in journeys(x):
        yield from _table(journey)
    yield f"<details><summary>picture</summary>\n\n```mermaid\n{mermaid(x)}```\n\n</details>"
    if x.assumptions:
        yield "\nAssumed:\n"
        for text in x.assumptions:
            yield f"- {plain(text)}"


def _fix(label: str, fix: Fix) -> Iterator[str]:
    several = len(fix.hosts) > 1
    where = "" if several else f" on {code(fix.hosts[0])}"
    sampled = f"; {fix.flows_sampled} other flows sampled, {len(fix.side_effects)} changed" if fix.flows_sampled else ""
    yield f"**{label}**{where} (re-simulated: {plain(fix.text)}{sampled}):\n"
    yield fenced("\n".join(f"{host}# {command}" if several else command for host, command in fix.steps()))


def _table(journey: Journey) -> Iterator[str]:
    yield f"### {journey.phase.capitalize()}\n\n| step | where | what | from |\n|---:|---|---|---|"
    for one in journey.passes:
        yield f"| | **{plain(one.title)}** {plain(_through(one))} | {plain(one.before)} | |"
        for e in one.events:
            step = e.step
            where = f"{step.table} {step.chain}" if step.table and step.chain else step.stage
            where += f" {step.rule}" if step.rule else ""
            sign = "✗ " if e.wrong else ""
            tail = f" **{plain(e.mark.tail)}**" if e.mark.tail else ""
            source = code(str(step.where)) if step.where else ""
            yield f"| {e.number} | {plain(where)} | {sign}{plain(e.said or e.brief)}{tail} | {source} |"
    yield f"\n{'✓' if journey.good else '✗'} {plain(journey.ending)}\n"


def _through(one: Pass) -> str:
    return ", ".join(
        p for p in (f"in {one.in_dev}" if one.in_dev else "sent here", one.out_dev and f"out {one.out_dev}") if p
    )


def plain(text: str) -> str:
    """Text that Markdown and HTML leave alone."""
    return _SPECIAL.sub(r"\\\1", clean(text)).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def code(text: str) -> str:
    """A code span whose fence is longer than any run of backticks within; a bar would end a table's cell."""
    said = clean(text).replace("|", "¦")
    fence = "`" * (max((len(run) for run in re.findall("`+", said)), default=0) + 1)
    pad = " " if said.startswith("`") or said.endswith("`") or not said else ""
    return f"{fence}{pad}{said}{pad}{fence}"


def fenced(text: str) -> str:
    """A code block whose fence is longer than any within."""
    said = "\n".join(clean(line) for line in text.split("\n"))
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", said)), default=0) + 1)
    return f"{fence}\n{said}\n{fence}\n"
