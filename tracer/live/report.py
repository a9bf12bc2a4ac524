"""What ``confirm`` found, as a document and as text: verdict, how it was decided, hook by hook predicted | observed | same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...sim.render.style import Style, clean, fit, wrap
from .classify import CLASSES, Case, Finding, classify
from .compare import DIFFERS, NOT_OBSERVED, SAME, Row
from .predict import REPLY, REQUEST, Judged, from_the_wire, judge
from .rule_hits import DIFFERS as COUNTED_LESS
from .rule_hits import Count, counted
from .unsent import never_sent, refused, said

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...sim.flow import Question
    from ...sim.model.world import World
    from .rule_hits import Evidence
    from .scene import Scene
    from .story import Story

SCHEMA = "nattrace/confirm/1"
CONFIRMED, DISAGREES, UNDECIDED = "confirmed", "disagrees", "undecided"
STATUS = {CONFIRMED: 0, DISAGREES: 1, UNDECIDED: 4}
MARKS = {SAME: "same", DIFFERS: "DIFFERS", NOT_OBSERVED: "not observed"}
QUIET = frozenset(("start", "forward", "confirm"))


@dataclass
class Report:
    """``verdict``: confirmed, disagrees, undecided; ``open``: what keeps it from being decided."""

    flow: str
    verdict: str
    text: str
    judged: list[Judged]
    finding: Finding | None = None
    first: tuple[Judged, Row] | None = None
    open: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    counts: list[Count] | None = None  # rules by their counters; None: they were not read

    @property
    def status(self) -> int:
        return STATUS[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The document of ``confirm --json``."""
        finding, first = self.finding, self.first
        return {
            "schema": SCHEMA, "flow": self.flow, "verdict": self.verdict, "status": self.status, "text": self.text,
            "class": finding.name if finding else None, "how": finding.how if finding else None,
            "next": finding.next if finding else None,
            "first": None if first is None else {"packet": first[0].story.number} | first[1].to_json(),
            "hosts": self.hosts, "open": self.open, "notes": self.notes, "lost": self.lost,
            "rules": None if self.counts is None else [c.to_json() for c in self.counts],
            "packets": [
                {"number": j.story.number, "direction": j.direction, "certainty": j.certainty, "note": j.note,
                 "predicted": j.leaf.outcome if j.leaf is not None else None, "observed": j.story.end.outcome,
                 "incomplete": j.story.incomplete, "rows": [r.to_json() for r in j.comparison.rows] if j.comparison else []}
                for j in self.judged
            ],
        }  # fmt: skip

    def render(self, width: int = 100, style: Style | None = None, verbose: bool = False, quiet: bool = False) -> str:
        """As it is printed."""
        paint = style or Style(False)
        colour = {CONFIRMED: "green", DISAGREES: "red", UNDECIDED: "yellow"}[self.verdict]
        code = f" [{self.finding.name}]" if self.finding else ""
        lines = [
            paint(line, "bold", colour) for line in wrap(clean(f"{self.verdict.upper()}: {self.text}{code}"), width)
        ]
        if quiet:
            return paint(clean(f"{self.verdict.upper()}: {self.text}{code}"), "bold", colour) + "\n"
        if self.finding is not None:
            said = f"{CLASSES[self.finding.name]}: {self.finding.how}"
            lines += ["", *_block("WHY", said, width), *_block("NEXT", self.finding.next, width)]
        for judged in self.judged:
            lines += ["", *self._packet(judged, width, paint, verbose)]
        if self.counts:
            lines += ["", *self._counters(width, paint)]
        told = list(dict.fromkeys(self.open))
        if told or self.notes:
            lines.append("")
        for label, texts in (("OPEN", told), ("NOTE", self.notes)):
            for text in texts if verbose else texts[:6]:
                lines += _block(label, text, width)
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _packet(self, judged: Judged, width: int, paint: Style, verbose: bool) -> list[str]:
        head = judged.story.hops[0].before
        ends = " → ".join(
            f"{head.get(a)}" + (f":{head[p]}" if p in head else "") for a, p in (("src", "sport"), ("dst", "dport"))
        )
        lines = [paint(clean(f"#{judged.story.number} {judged.direction}  {head.get('proto')} {ends}"), "bold")]
        if judged.comparison is None:
            return [*lines, f"   {clean(judged.note or '')}"]
        place = 27
        half = max((width - place - 16) // 2, 16)
        lines.append(paint(f"{'':{place}}{'predicted':{half}} {'observed':{half}} same", "dim"))
        host = None
        for row in judged.comparison.rows:
            if (row.hop, row.host) != host:
                host = (row.hop, row.host)
                lines.append(clean(f"   {row.host}"))
            if (
                row.verdict == SAME
                and not verbose
                and (row.stage in QUIET or {row.predicted, row.observed} <= {"unchanged", "nothing"})
            ):
                continue
            first = self.first is not None and self.first[0] is judged and self.first[1] is row
            lines += self._row(row, place, half, paint, first)
        return lines

    def _counters(self, width: int, paint: Style) -> list[str]:
        lines = [paint("rules by their counters (other traffic counts too)", "bold"),
                 paint(f"   {'predicted':>9} {'rose by':>8}   rule", "dim")]  # fmt: skip
        for count in self.counts or ():
            differs = count.verdict == COUNTED_LESS
            text = f"{count.host} {count.table} {count.chain}: {count.text}" + ("   DIFFERS" if differs else "")
            pieces = wrap(clean(text), width - 24) or [""]
            head = f"   {count.predicted:>9} {count.rose:>8}   "
            block = [(head if i == 0 else " " * len(head)) + piece for i, piece in enumerate(pieces)]
            lines += [paint(line, "red") for line in block] if differs else block
        return lines

    def _row(self, row: Row, place: int, half: int, paint: Style, first: bool) -> list[str]:
        name = clean(" ".join(w for w in (row.hook, row.stage) if w))
        cells = [wrap(clean(text), half) or [""] for text in (row.predicted, row.observed)]
        mark = MARKS[row.verdict] + ("  ← first" if first else "")
        out = []
        for i in range(max(map(len, cells))):
            left, right = (cell[i] if i < len(cell) else "" for cell in cells)
            label, said = ("     " + name, mark) if i == 0 else ("", "")
            line = f"{fit(label, place - 1):{place}}{left:{half}} {right:{half}} {said}"
            out.append(paint(line, "red") if row.verdict == DIFFERS else line)
        return out


def _block(label: str, text: str, width: int) -> list[str]:
    pieces = wrap(clean(text), width - 6) or [""]
    return [f"{label if i == 0 else '':6}{piece}" for i, piece in enumerate(pieces)]


def assess(flow: str, world: World, question: Question | None, stories: Sequence[Story], scene: Scene, totals: dict[str, Any],
           now: Callable[[], World | None], predicted_hosts: Sequence[str] = (),
           rules: Evidence | None = None, events: Any = None) -> Report:  # fmt: skip
    """Predict what was seen, compare, and say what the first divergence comes from.

    ``rules``: which ones matched; ``events``: all that were recorded, those of no packet among them.
    """
    observed = frozenset(scene.names.values())
    if rules is not None:
        rules.into(stories)
    stories = [from_the_wire(story, scene) for story in stories]
    judged = judge(world, question, stories, observed)
    hosts = list(scene.names.values())
    notes = [
        f"{host} is on the predicted path and was not observed" for host in predicted_hosts if host not in observed
    ]
    lost = {k: v for k, v in totals["lost"].items() if v}
    report = Report(flow, UNDECIDED, "", judged, hosts=hosts, notes=notes, lost=lost)
    report.notes += [f"this kernel gives no {stream} events: {why}" for stream, why in totals["missing"].items()]
    if rules is not None and rules.lost:
        report.notes.append(f"{rules.lost} messages about rules were lost or left out")
    compared = [j for j in judged if j.comparison is not None]
    if rules is not None and rules.how == "counters":
        report.counts = counted(rules, [hop for j in compared if j.leaf is not None for hop in j.leaf.hops])
    first = next(((j, j.first) for j in compared if j.first is not None and j.certainty != "unknown"), None)
    if first is not None and first[1] is not None:
        _disagrees(report, Case(world, question, stories, judged, observed, scene, now), first[0], first[1])
        return report
    report.open = list(dict.fromkeys(text for j in judged for text in j.open))
    if not any(j.direction == REQUEST for j in compared):
        if not compared and not lost and _never_sent(report, world, question, events, scene):
            return report
        how = "nothing of it was seen" if not compared else "only packets of the other direction were seen"
        report.text = f"{flow}: {how} at {', '.join(hosts)}"
        report.finding = Finding(
            "never_came",
            how,
            "is it sent at all, and does it come here? nattrace why FLOW; nattrace trace FLOW upstream",
        )
        return report
    if lost:
        report.open.append("events were lost: " + ", ".join(f"{v} {k}" for k, v in lost.items()))
    report.open += [
        f"the counter of {c.host} {c.table} {c.chain}: {c.text} rose by {c.rose}, {c.predicted} predicted"
        for c in report.counts or () if c.verdict == COUNTED_LESS
    ]  # fmt: skip
    same = sum(row.verdict == SAME for j in compared if j.comparison is not None for row in j.comparison.rows)
    back = sum(j.direction == REPLY for j in compared)
    packets = f"{len(compared)} packet{'s' * (len(compared) != 1)}" + (f" ({back} in reply)" if back else "")
    report.text = f"{packets} at {', '.join(hosts)}: {same} places as predicted"
    if report.open:
        report.text += f", but not all is decided: {report.open[0]}"
        if lost:
            report.finding = Finding("events_lost", report.open[-1], "observe less: a narrower FLOW, fewer --netns")
    else:
        report.verdict = CONFIRMED
    return report


def _never_sent(report: Report, world: World, question: Question | None, events: Any, scene: Scene) -> bool:
    """Predicted is that no packet is made: confirmed where a lookup was seen that found no route, else open."""
    leaf = never_sent(world, question)
    if leaf is None or question is None or question.host not in report.hosts:
        return False
    seen = refused(leaf, question, events, scene)
    if seen is None:
        report.notes.append(f"predicted is that no packet is made ({said(leaf)}); nothing that was seen proves it")
        return False
    report.verdict = CONFIRMED
    report.text = f"no packet was made at {question.host}, as predicted: {said(leaf)}; its lookup was seen: {seen}"
    return True


def _disagrees(report: Report, case: Case, at: Judged, row: Row) -> None:
    report.finding = classify(case, at, row)
    report.first = (at, row)
    place = " ".join(w for w in (row.hook, row.stage) if w)
    report.text = f"{row.host} {place} (packet #{at.story.number}): predicted {row.predicted}; observed {row.observed}"
    report.verdict = UNDECIDED if report.finding.name == "events_lost" else DISAGREES
