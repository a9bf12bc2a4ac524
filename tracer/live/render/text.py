"""A story as text, in the form of ``why``: verdict, cause, path; or one line for each event."""

from __future__ import annotations

from typing import Any

from ....sim.explain.answer import ends
from ....sim.model.result import Hop, Step
from ....sim.render.style import Style, clean, fit, wrap
from ....sim.render.text import Line, Row, columns, step_words
from .. import steps
from ..drops import Why
from ..event import HOOKS, KIND, tuple_text
from ..scene import Scene
from ..story import Story

LEAD = {"delivered": "DELIVERED", "left": "LEAVES", "dropped": "DROPPED", "rejected": "REJECTED",
        "unreachable": "UNREACHABLE", "queued": "QUEUED", None: "NOT SEEN TO THE END"}  # fmt: skip
QUIET_STAGES = frozenset(("conntrack", "neighbour", "answer", "device", "forward", "icmp", "tcp_reset", "confirm"))
INDENT = 6


def story_text(
    story: Story, why: Why | None, width: int, style: Style, verbose: bool = False, quiet: bool = False
) -> str:
    """The whole story, each line no wider than ``width``."""
    lines = [verdict(story, why)] if quiet else [*_verdict(story, why, width), *_body(story, why, width, verbose)]
    return "".join(style(clean(line.text.rstrip()), *line.paint) + "\n" for line in lines)


def verdict(story: Story, why: Why | None) -> Line:
    """The first sentence."""
    end = story.end
    code = why.code if why is not None else end.reason.code
    said = why.text if why is not None else end.reason.text
    where = f" at {end.at['host']}" if end.at.get("host") and end.outcome not in ("left", "delivered") else ""
    colour = "green" if end.outcome in ("left", "delivered") and code != "no_listener" else "red"
    lead = "NOBODY LISTENS" if code in ("no_listener", "listener_bound_elsewhere") else LEAD.get(end.outcome, "ENDS")
    return Line(f"#{story.number} {lead}{where}: {clean(said).rstrip('.')}. [{code}]", ("bold", colour))


def _verdict(story: Story, why: Why | None, width: int) -> list[Line]:
    line = verdict(story, why)
    text, code = line.text.rsplit(" ", 1)
    pieces = wrap(text, width)
    if len(pieces[-1]) + 2 + len(code) <= width:
        pieces[-1] = pieces[-1].ljust(width - len(code)) + code
    else:
        pieces.append(code.rjust(width))
    return [Line(piece, line.paint) for piece in pieces]


def _body(story: Story, why: Why | None, width: int, verbose: bool) -> list[Line]:
    lines: list[Line] = []
    if story.end.drop is not None:
        place = f" at {story.end.place}" if story.end.place else ""
        lines += _block(
            "DROP", f"{story.end.drop}{place}" + (f": {'; '.join(why.evidence)}" if why and why.evidence else ""), width
        )
    lines += columns([Row("PATH", "src → dst", "zone", "conntrack", ("dim",)), *_way(story, verbose, width)], width)
    for response in story.responses:
        kind = "TCP reset" if response.kind == "tcp_reset" else f"ICMP {response.type}/{response.code}"
        lines.append(
            Line(fit(f"  answer   {clean(response.sender)} sends {kind} to {response.to}: {response.outcome}", width))
        )
    for aside in story.asides:
        lines.append(
            Line(fit(f"  copy     {aside.end.outcome or 'not seen to the end'}: {clean(aside.end.reason.text)}", width))
        )
        if verbose:
            lines += columns(_way(aside, True, width), width)
    if why is not None:
        for i, cure in enumerate(why.cure if verbose else why.cure[:2]):
            lines.append(Line(fit(("LOOK" if i == 0 else "").ljust(INDENT) + clean(cure), width)))
    for i, text in enumerate(story.incomplete):
        lines += _block("UNSEEN" if i == 0 else "", text, width)
    return [*lines, Line("")]


def _block(label: str, text: str, width: int) -> list[Line]:
    indent = max(INDENT, len(label) + 2)
    return [
        Line((label if i == 0 else "").ljust(indent) + piece)
        for i, piece in enumerate(wrap(clean(text), width - indent))
    ]


def _way(story: Story, verbose: bool, width: int) -> list[Line | Row]:
    out: list[Line | Row] = []
    hosts = [h.host for h in story.hops]
    for at, (hop, times) in enumerate(zip(story.hops, story.times, strict=True)):
        name = clean(hop.host)
        if hosts.count(hop.host) > 1:
            name = f"pass {hosts[: at + 1].count(hop.host)}  {name}"
        out += _hop(hop, times, story.start, name, verbose, width)
    return out


def _hop(hop: Hop, times: list[int], start: int, name: str, verbose: bool, width: int) -> list[Line | Row]:
    conn = hop.conntrack or {}
    state = next((s.conntrack for s in hop.steps if s.stage == "conntrack" and s.conntrack), "") or ""
    state = state.split(" zone ")[0].lower()
    zone = str(conn.get("zone", "")) if conn else ""
    shown = [(s, t) for s, t in zip(hop.steps, times, strict=True) if verbose or _telling(s)]
    if not shown and hop.out_dev:
        way = f"sends by {hop.out_dev}" if hop.in_dev is None else f"forwarded {hop.in_dev} → {hop.out_dev}"
        return [Row(f"  {name}  {way}", ends(hop.after or hop.before), zone, state)]
    head = f"  {name}  " + (f"in {hop.in_dev}" if hop.in_dev else "sent by the host itself")
    out: list[Line | Row] = [Row(head, ends(hop.before), zone, state, ("bold",))]
    for step, ts in shown:
        out += _step(step, ts - start, verbose, width)
    if hop.out_dev and not any(s.verdict == "DROP" for s in hop.steps):
        out.append(Row(f"        out {hop.out_dev}", ends(hop.after)))
    return out


def _telling(step: Step) -> bool:
    """What decided or changed something."""
    if step.verdict == "DROP" or step.rule or step.changes.keys() - {"ttl"}:
        return True
    if step.stage in QUIET_STAGES or step.note == "passed":
        return False
    if step.stage == "routing" and str(step.text).endswith(": no match"):
        return False
    return step.stage != "routing" or not (step.note or "").startswith("is the source")


def _step(step: Step, after: int, verbose: bool, width: int) -> list[Line | Row]:
    where = f"{step.table} {step.chain}" if step.table and step.chain else step.stage
    if step.rule:
        where += f" {step.rule}"
    said = "  ".join(clean(p) for p in step_words(step) if p)
    clock = f"{after / 1000:>9.1f} µs" if verbose else ""
    paint = ("red",) if step.verdict == "DROP" else ("yellow",) if step.changes.keys() - {"ttl"} else ()
    label = f"   {'✗' if step.verdict == 'DROP' else ' '}{clock}  {where:<12} "
    pieces = wrap(said, max(width - len(label), 24)) or [""]
    return [Line((label if i == 0 else " " * len(label)) + piece, paint) for i, piece in enumerate(pieces)]


# ------------------------------------------------------------------------------------------- one line an event


def event_line(event: Any, scene: Scene, start: int, number: int) -> str:
    """``#1 +12.3µs router PREROUTING after mangle (-149)  udp 10.0.0.2:5 > …  mark 0x7 ttl 64  NEW zone 0``."""
    inum, kind = int(event["netns"]), KIND(int(event["kind"]))
    where = f"{clean(scene.host(inum))} {what(event, kind, scene, inum)}"
    told = [] if kind == KIND.neigh else [tuple_text(event["t"])]
    if kind in (KIND.tap, KIND.rx, KIND.tx, KIND.drop):
        told += [f"mark {int(event['mark']):#x}"] if event["mark"] else []
        told += [f"ttl {int(event['ttl'])}", f"len {int(event['len'])}"]
        state = steps.conntrack_text(event, scene.tracked(inum)) if kind == KIND.tap else None
        told += [state] if state else []
    return clean(f"#{number} {(int(event['ts']) - start) / 1000:+10.1f} µs  {where:<44} {'  '.join(told)}")


def what(event: Any, kind: KIND, scene: Scene, inum: int) -> str:
    """Where, or what happened."""
    if kind == KIND.tap:
        hook, prio = int(event["hook"]), int(event["prio"])
        tap = next((t for t in scene.at(inum, int(event["pf"]), hook) if t.place == prio), None)
        behind = " ".join(c.table or c.name for c in tap.after[-1:]) if tap is not None else ""
        return f"{HOOKS[hook]} {f'after {clean(behind)} ' if behind else ''}({prio})"
    if kind == KIND.rx:
        return f"in {scene.device(inum, int(event['indev']))}"
    if kind in (KIND.tx, KIND.xmit):
        return f"out {scene.device(inum, int(event['outdev']))}"
    if kind == KIND.drop:
        place = scene.symbol(int(event["aux"]))
        return f"DROP {scene.reason(int(event['reason']))}" + (f" at {place}" if place else "")
    if kind == KIND.fib:
        return f"route {steps.fib_text(event, scene)}"
    if kind == KIND.neigh:
        return f"neighbour {steps.neigh_step(event, scene).text}"
    if kind == KIND.icmp_send:
        return "ICMP error {}/{} about".format(*divmod(int(event["reason"]), 256))
    return {KIND.tcp_reset: "TCP reset because of", KIND.consume: "consumed"}.get(kind, kind.name)
