"""A packet's way as stations: which hooks of each host it passes, what happened there, where it ends. No coordinates.

Pictures, Mermaid, dot and the step list are made from this. The order of stations is the kernel's
(include/uapi/linux/netfilter_ipv4.h); which tables a host has comes from the same list that the engine runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine.hooks import HookLists
from ..explain.answer import captures, ends
from ..explain.parts import SHOWN, Mark
from ..explain.trial import FORWARD, REPLY
from ..model.addr import AF_INET, AF_INET6
from ..model.result import Hop, Leaf, Step
from ..model.rule import (
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
)
from ..record import NamedTuple
from .style import clean
from .text import step_words

if TYPE_CHECKING:
    from ..explain.answer import Explanation

PRE, IN, FWD, OUT, POST = "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"
HOOKS = {
    PRE: NF_INET_PRE_ROUTING,
    IN: NF_INET_LOCAL_IN,
    FWD: NF_INET_FORWARD,
    OUT: NF_INET_LOCAL_OUT,
    POST: NF_INET_POST_ROUTING,
}
USUAL = {  # what the picture of every host shows, whether the host has it or not
    PRE: ("raw", "conntrack", "mangle", "nat"),
    IN: ("mangle", "filter", "security", "nat", "confirm"),
    FWD: ("mangle", "filter", "security"),
    OUT: ("raw", "conntrack", "mangle", "nat", "filter", "security"),
    POST: ("mangle", "nat", "confirm"),
}
ARRIVE, ROUTE, PROCESS, NEIGHBOUR, LEAVE = "in", "routing", "process", "neighbour", "out"
FORWARDED = (ARRIVE, PRE, ROUTE, FWD, POST, NEIGHBOUR, LEAVE)
RECEIVED = (ARRIVE, PRE, ROUTE, IN, PROCESS)
SENT = (PROCESS, ROUTE, OUT, POST, NEIGHBOUR, LEAVE)
GOOD_ENDS = ("left", "delivered")
UNREMARKABLE = {"routing", "forward", "neighbour"}


class Event(NamedTuple):
    """One step of the answer with its number, its place in the picture and its words."""

    number: int
    station: str  # a hook, or ROUTE, NEIGHBOUR, …
    cell: str  # the table or function within the hook
    step: Step
    mark: Mark
    said: str
    brief: str

    @property
    def wrong(self) -> bool:
        return bool(self.mark.sign) or self.step.verdict == "DROP"


class Cell(NamedTuple):
    """What runs at a hook. ``present``: this host has it; ``rules``: of its base chain, None where it is no table."""

    name: str
    present: bool
    rules: int | None = None
    foreign: bool = False


class Pass(NamedTuple):
    """One way through one host. ``way``: the stations in order; ``reached``: how many of them the packet came to."""

    host: str
    title: str
    in_dev: str | None
    out_dev: str | None
    before: str
    after: str
    way: tuple[str, ...]
    reached: int
    cells: dict[str, tuple[Cell, ...]]
    events: tuple[Event, ...]
    conntrack: str
    zone: str
    ends_here: bool
    ttl: str = ""

    @property
    def dull(self) -> bool:
        """Nothing but routing: drawn as a strip."""
        plain = all(e.step.stage in UNREMARKABLE and not e.wrong and not e.mark.tail for e in self.events)
        return plain and not self.ends_here

    def passed(self, station: str) -> bool:
        return station in self.way[: self.reached]

    def at(self, station: str, cell: str | None = None) -> list[Event]:
        return [e for e in self.events if e.station == station and (cell is None or e.cell == cell)]

    @property
    def end(self) -> str:
        return self.way[self.reached - 1]


class Journey(NamedTuple):
    """One direction. ``ending``: where and how it ends, in words; ``good``: it arrived or left as it should."""

    phase: str
    passes: tuple[Pass, ...]
    ending: str
    good: bool
    answers: tuple[str, ...]

    @property
    def events(self) -> list[Event]:
        return [e for p in self.passes for e in p.events]


def journeys(x: Explanation) -> list[Journey]:
    """The way there and, where there is one, the way back."""
    trial = x.trial
    found = [journey(x, FORWARD, trial.leaf)]
    if trial.back is not None:
        found.append(journey(x, REPLY, trial.back))
    return found


def journey(x: Explanation, phase: str, leaf: Leaf) -> Journey:
    """The stations of one direction."""
    family = x.trial.question.family
    names = [h.host for h in leaf.hops]
    counts: dict[str, int] = {}
    passes = []
    for index, hop in enumerate(leaf.hops):
        counts[hop.host] = counts.get(hop.host, 0) + 1
        title = hop.host if names.count(hop.host) == 1 else f"{hop.host}, pass {counts[hop.host]}"
        passes.append(_pass(x, phase, index, hop, leaf, title, family))
    at = leaf.at
    where = " ".join(str(at[k]) for k in ("host", "interface") if at.get(k))
    verb = {"left": "leaves by", "delivered": "arrives at", "never_sent": "is never sent by", "queued": "is queued at",
            "stolen": "is taken over at", "looped": "loops at"}.get(leaf.outcome, f"{leaf.outcome} at")  # fmt: skip
    obstacle = x.trial.obstacle
    good = leaf.outcome in GOOD_ENDS and (obstacle is None or obstacle.phase != phase)
    ending = f"{verb} {where}: {leaf.reason.text}" if leaf.outcome not in GOOD_ENDS else f"{verb} {where}"
    if not good and leaf.outcome in GOOD_ENDS and obstacle is not None:
        ending += f"; {obstacle.text}"
    return Journey(phase, tuple(passes), clean(ending), good, tuple(_answers(leaf)))


def _answers(leaf: Leaf) -> list[str]:
    found = []
    for r in leaf.responses:
        kind = "a TCP reset" if r.kind == "tcp_reset" else f"ICMP {r.type}/{r.code}"
        if r.type == 5:
            kind = f"an ICMP redirect (use {r.packet.get('gateway')})"
        found.append(clean(f"{r.sender} sends {kind} to {r.to}: {r.outcome}"))
    return found


def _pass(x: Explanation, phase: str, index: int, hop: Hop, leaf: Leaf, title: str, family: int) -> Pass:
    last = index == len(leaf.hops) - 1
    events = []
    for i, step in enumerate(hop.steps):
        place = (phase, index, i)
        mark = x.marks.get(place, SHOWN)
        said = mark.text if mark.text is not None else "  ".join(p for p in step_words(step) if p)
        said = f"rule {said}" if mark.text is not None and said[:1].isdigit() and not step.rule else said
        station, cell = _station(step, hop)
        events.append(Event(x.numbers.get(place, 0), station, cell, step, mark, clean(said), clean(brief(step, mark))))
    way = _way(hop, leaf, last)
    conn = hop.conntrack or {}
    before, after = hop.before.get("ttl"), hop.after.get("ttl")
    return Pass(
        clean(hop.host),
        clean(title),
        hop.in_dev and clean(hop.in_dev),
        hop.out_dev and clean(hop.out_dev),
        clean(ends(hop.before, leaf.state)) if hop.before else "",
        clean(ends(hop.after, leaf.state)) if hop.after else "",
        way,
        _reached(way, hop, leaf, last, events),
        _cells(x, hop, family),
        tuple(events),
        clean(str(conn.get("state") or "")),
        str(conn.get("zone", "")) if conn else "",
        last and leaf.outcome not in GOOD_ENDS,
        f"ttl {before} → {after}" if after is not None and before != after else "",
    )


def _station(step: Step, hop: Hop) -> tuple[str, str]:
    """Where a step belongs in the picture."""
    if step.stage in ("routing", "rerouting"):
        return ROUTE, step.stage
    if step.stage == "neighbour" or (step.hook is None and step.stage != "forward"):
        return (NEIGHBOUR if hop.out_dev or step.stage == "neighbour" else ROUTE), step.stage
    if step.stage == "forward":
        return FWD, "forward"
    return str(step.hook), step.table or step.stage


def _way(hop: Hop, leaf: Leaf, last: bool) -> tuple[str, ...]:
    if hop.in_dev is None:
        return SENT
    received = any(s.hook == IN for s in hop.steps) or (last and leaf.outcome == "delivered")
    received = received or (last and leaf.at.get("hook") == IN)
    return RECEIVED if received else FORWARDED


def _reached(way: tuple[str, ...], hop: Hop, leaf: Leaf, last: bool, events: list[Event]) -> int:
    """How many stations of the way the packet came to."""
    if not last or leaf.outcome in GOOD_ENDS:
        return len(way)
    places = [way.index(e.station) for e in events if e.station in way]
    hook = leaf.at.get("hook")
    places += [way.index(hook)] if hook in way else []
    return max(places, default=0 if hop.in_dev is None else 1) + 1


def _cells(x: Explanation, hop: Hop, family: int) -> dict[str, tuple[Cell, ...]]:
    host = x.trial.world.hosts.get(hop.host)
    if host is None:
        return {}
    lists = HookLists(host, AF_INET6 if family == AF_INET6 else AF_INET)
    found: dict[str, tuple[Cell, ...]] = {}
    for name, number in HOOKS.items():
        cells: dict[str, Cell] = {}
        for entry in lists.entries[number]:
            if entry.kind == "table":
                table = entry.item.table
                cells[table.name] = Cell(table.name, True, len(table.chains[name]))
            elif entry.kind == "foreign":
                label = f"nft {entry.item.table} {entry.item.chain}"
                cells[label] = Cell(clean(label), True, entry.item.rules, True)
            elif entry.kind == "nat":
                rules = sum(len(c.table.chains[name]) for c in lists.nat_chains.get(number, []))
                cells["nat"] = Cell("nat", True, rules)
            else:
                cells[entry.kind] = Cell(entry.kind, True)
        found[name] = _in_order(name, cells)
    return found


def _in_order(hook: str, cells: dict[str, Cell]) -> tuple[Cell, ...]:
    """What is there in the order in which it runs, and what could be there at its usual place."""
    order = list(cells)
    for i, name in enumerate(USUAL[hook]):
        if name not in cells:
            after = [order.index(n) + 1 for n in USUAL[hook][:i] if n in order]
            order.insert(max(after, default=0), name)
    return tuple(cells.get(name, Cell(name, False)) for name in order)


def brief(step: Step, mark: Mark = SHOWN) -> str:
    """The step in a few words, for a box of the picture."""
    changed = [f"{k} → {_value(b)}" for k, (_, b) in step.changes.items() if k != "ttl"]
    who = ""
    if step.rule:
        who = f"rule {step.rule}" if step.chain in (None, step.hook) else f"{step.chain} {step.rule}"
    if step.matched is False:
        return f"{who}: no match" if who else "no match"
    if changed:
        return ", ".join(changed)
    if mark.text is not None and "not consulted" in mark.text:
        return "not consulted"
    if who:
        verdict = step.verdict if step.verdict not in (None, "CONTINUE") else step.target
        return f"{who}: {verdict or 'matches'}"
    if step.stage == "conntrack":
        return step.conntrack or ("table full → DROP" if step.verdict == "DROP" else "seen")
    if step.stage == "forward":
        before, after = step.changes.get("ttl", ("", ""))
        return f"ttl {before} → {after}" if step.changes else "forwarded"
    if step.stage == "confirm":
        refused = "clash → DROP" if step.conntrack else "no free port → DROP"
        return refused if step.verdict == "DROP" else "entry confirmed"
    if step.stage in ("routing", "rerouting"):
        text = step.text or step.note or ""
        return text.rpartition("table main: ")[2] or text
    said = step.note or step.text or step.verdict or step.stage
    for mark_ in (": ", "; ", " ("):
        said = said.partition(mark_)[0]
    return f"{said} → DROP" if step.verdict == "DROP" and "DROP" not in said else said


def _value(value: Any) -> str:
    return "none" if value is None else "drawn" if isinstance(value, tuple) else str(value)


__all__ = ["Cell", "Event", "Journey", "Pass", "captures", "journey", "journeys"]
