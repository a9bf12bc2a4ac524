"""Predicted and observed, hook by hook: one packet's possible leaves against its story, as rows with a verdict each.

    verdict = compare(leaf, story, observed_hosts)
    verdict.rows        # (host, hook, stage, predicted, observed, verdict)
    verdict.first       # the first row that differs, None where all agree

What was not seen says nothing: a row is ``differs`` only where both sides tell something, or where the tap was in place
and nothing was lost. A drawn number is agreed with when what was seen is one of its candidates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...sim.engine.simulate import plain
from ...sim.model.drawn import Drawn
from ...sim.model.result import Hop, Leaf, Response, Step
from .rule_hits import rule_rows
from .steps import COMPARED

if TYPE_CHECKING:
    from .story import Story

SAME, DIFFERS, NOT_OBSERVED, NOT_PREDICTED = "same", "differs", "not observed", "not predicted"
DISCARDED = frozenset(("dropped", "rejected", "unreachable"))
TAKEN = frozenset(("queued", "stolen"))  # what a program or a target makes of it is not predicted
GOES_ON = frozenset(("ACCEPT", "RETURN", "CONTINUE", "JUMP", "GOTO"))  # verdicts after which the packet goes on
BY_NETFILTER = frozenset(("dropped_by_rule", "dropped_by_policy", "rejected_by_rule"))
HEADERS = ("src", "dst", "sport", "dport", "icmp_id", "ttl", "mark")
# where a packet meets what, in one pass: NF_IP_PRI_* within a hook, hooks in the order of ip_rcv() and ip_output()
HOOK_RANK = {"PREROUTING": 0, "OUTPUT": 2, "INPUT": 4, "FORWARD": 4, "POSTROUTING": 5}
STAGE_RANK = {"raw": 0, "conntrack": 1, "mangle": 2, "nft": 4, "filter": 5, "security": 6, "confirm": 9}
ROUTING_RANK, FORWARD_RANK, END_RANK = 1, 3, 10
STATE_RANK, ANSWER_RANK = 9, 11
LOCAL_TABLES = frozenset(
    ("local", "main", "default")
)  # one trie until the first ip rule: fib_table_lookup() names either
NOWHERE = frozenset(("no_route", "route_unreachable", "route_prohibit", "route_blackhole", "rule_blackhole"))
NO_WAY = re.compile(r"\b(blackhole|unreachable|prohibit|no route)\b")
TABLE, DEVICE = re.compile(r"table (\S+?):"), re.compile(r"\bdev (\S+)")
TABLES = frozenset(("raw", "mangle", "nat", "filter", "security"))
TRANSPORT = re.compile(r"(tcp|udp|raw|ping|sctp|dccp|sk|sock|__sk|__tcp|__udp)_")  # functions behind ip_local_deliver()
NAT_BITS = ("SRC_NAT", "DST_NAT")


@dataclass(frozen=True)
class Row:
    """One place. ``key``: what differs there ("hooks", "changes", "drop", "rules", "state", "entry",
    "route", "end", "path", "answer")."""

    hop: int
    host: str
    hook: str | None
    stage: str
    predicted: str
    observed: str
    verdict: str
    key: str = ""
    names: tuple[str, ...] = ()
    where: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"hop": self.hop, "host": self.host, "hook": self.hook, "stage": self.stage, "predicted": self.predicted,
                "observed": self.observed, "verdict": self.verdict, "key": self.key or None, "names": list(self.names),
                "where": self.where}  # fmt: skip


@dataclass
class Comparison:
    """All rows of one packet; ``undecided``: why a difference, or its absence, is no evidence."""

    rows: list[Row]
    undecided: list[str] = field(default_factory=list)

    @property
    def first(self) -> Row | None:
        return next((row for row in self.rows if row.verdict == DIFFERS), None)

    @property
    def differing(self) -> int:
        return sum(row.verdict == DIFFERS for row in self.rows)


@dataclass
class _Section:
    """What one side tells of one place of a hop."""

    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    drop: str | None = None
    conntrack: str | None = None
    text: str = ""
    where: str | None = None


Place = tuple[str | None, str]


def compare(leaf: Leaf, story: Story, observed: frozenset[str]) -> Comparison:
    """``observed``: hosts whose hooks had taps; what is predicted elsewhere is left out, and said so by the caller."""
    walk = _Walk(leaf, story, observed)
    walk.hops()
    if walk.comparable_end:
        walk.end()
    if leaf.outcome in TAKEN and story.end.outcome not in (None, "dropped"):
        walk.taken()
    return Comparison([row for _, row in sorted(walk.rows, key=lambda pair: pair[0])], [*story.incomplete, *walk.open])


class _Walk:
    """Both lists of hops side by side."""

    def __init__(self, leaf: Leaf, story: Story, observed: frozenset[str]) -> None:
        self.leaf, self.story, self.observed = leaf, story, observed
        self.rows: list[tuple[tuple[int, int, float], Row]] = []
        self.comparable_end = True
        self.early_drop, self.open = False, list[str]()
        self.shown: list[Place] = []  # places of the hop at hand that show the headers

    def add(self, hop: int, rank: tuple[int, float], row: Row) -> None:
        self.rows.append(((hop, *rank), row))

    def hops(self) -> None:
        theirs = [h for h in self.leaf.hops if h.host in self.observed]
        if self.leaf.hops and self.leaf.hops[-1].host not in self.observed:
            self.comparable_end = False
        mine = self.story.hops
        for number, (hop, seen) in enumerate(zip(theirs, mine, strict=False)):
            if hop.host != seen.host or (hop.in_dev != seen.in_dev and seen.in_dev is not None):
                self._path(number, f"{hop.host} by {hop.in_dev}", f"{seen.host} by {seen.in_dev}", seen.host)
                return
            self._hop(number, hop, seen)
        if len(theirs) > len(mine):
            extra = theirs[len(mine)]
            lacking = self.story.end.outcome is None or bool(self.story.incomplete)
            verdict = NOT_OBSERVED if lacking else DIFFERS
            last = mine[-1].host if mine else extra.host
            row = Row(
                len(mine) - 1,
                last,
                None,
                "path",
                f"goes on to {extra.host} by {extra.in_dev}",
                "does not go on",
                verdict,
                "path",
            )
            self.add(len(mine) - 1, (END_RANK, 0), row)
        elif len(mine) > len(theirs):
            extra = mine[len(theirs)]
            row = Row(len(theirs) - 1, extra.host, None, "path", "does not go on", f"goes on to {extra.host} by {extra.in_dev}",
                      DIFFERS, "path")  # fmt: skip
            self.add(len(theirs) - 1, (END_RANK, 0), row)

    def _path(self, number: int, predicted: str, seen: str, host: str) -> None:
        self.comparable_end = False
        self.add(number, (-1, 0), Row(number, host, None, "path", predicted, seen, DIFFERS, "path"))

    # --- one pass through one host

    def _hop(self, number: int, hop: Hop, seen: Hop) -> None:
        self._start(number, hop, seen)
        self._past_hooks(number, hop, seen)
        theirs, mine = self._sections(hop), self._sections(seen)
        _seen_late(theirs, mine)
        self._dropped_early(theirs, mine, seen)
        self.shown = [place for place in mine if place[1] != "routing"]
        for place in dict.fromkeys((*theirs, *mine)):
            self._place(number, hop, seen, place, theirs.get(place), mine.get(place))
        self._rules(number, hop, seen)
        self._entry(number, hop, seen)
        if hop.out_dev and seen.out_dev:
            same = hop.out_dev == seen.out_dev
            row = Row(
                number,
                seen.host,
                None,
                "out",
                f"out {hop.out_dev}",
                f"out {seen.out_dev}",
                SAME if same else DIFFERS,
                "route",
            )
            if not same:
                self.add(number, (ROUTING_RANK if seen.in_dev else -1, 1), row)

    def _past_hooks(self, number: int, hop: Hop, seen: Hop) -> None:
        """Where the prediction routes it, it came and left and no hook saw it: that is no switching."""
        if self.story.incomplete or not seen.in_dev or any(step.stage == "bridge" for step in hop.steps):
            return
        if any(step.stage == "bridge" for step in seen.steps):
            words = "is routed, by the hooks", f"from {seen.in_dev} to {seen.out_dev}, past all hooks"
            self.add(number, (-1, 1), Row(number, seen.host, None, "hooks", *words, DIFFERS, "hooks"))

    def _rules(self, number: int, hop: Hop, seen: Hop) -> None:
        """The rules themselves, where they were traced: each in front of what its table did."""
        hits = self.story.hits[number] if self.story.hits and number < len(self.story.hits) else None
        if hits is None:
            return
        reply = bool(seen.conntrack and seen.conntrack.get("reply_direction"))
        for row in rule_rows(hop, hits, reply, self.story.rules_lost):
            major, minor = _rank(row.hook, row.table if row.table in TABLES else "nft", seen)
            key = "rules" if row.verdict == DIFFERS else ""
            self.add(number, (major, minor - 0.5), Row(number, seen.host, row.hook, f"{row.table} rules", row.predicted,
                                                       row.observed, row.verdict, key, (), row.where))  # fmt: skip

    def _dropped_early(self, theirs: dict[Place, _Section], mine: dict[Place, _Section], seen: Hop) -> None:
        """A drop is told at the chain behind the last tap; a hook function without a chain, between the two, may have done it."""
        told = next((place for place, section in mine.items() if section.drop), None)
        for place, section in theirs.items():
            if not section.drop or place in mine or told is None:
                continue
            between = [p for p in mine if _rank(*place, seen) < _rank(*p, seen) < _rank(*told, seen)]
            if _rank(*place, seen) < _rank(*told, seen) and not between:
                mine[place] = mine.pop(told)
                self.early_drop = True

    def _start(self, number: int, hop: Hop, seen: Hop) -> None:
        wrong = [
            k
            for k in HEADERS
            if k in hop.before and k in seen.before and not self._equal(hop.before[k], seen.before[k])
        ]
        words = self._header(hop.before, wrong), self._header(seen.before, wrong)
        hook = "PREROUTING" if seen.in_dev else "OUTPUT"
        dev = f"in {seen.in_dev}: " if seen.in_dev else "sent: "
        told = (DIFFERS, "start") if wrong else (SAME, "")
        row = Row(number, seen.host, hook, "start", dev + words[0], dev + words[1], *told, tuple(wrong))
        self.add(number, (-2, 0), row)

    def _sections(self, hop: Hop) -> dict[Place, _Section]:
        found: dict[Place, _Section] = {}
        for step in hop.steps:
            if step.matched is False or (step.rule is not None and step.matched is None):
                continue  # a near miss
            place = _place(step, hop)
            if place is not None:
                self._into(found.setdefault(place, _Section()), step)
        return found

    def _into(self, section: _Section, step: Step) -> None:
        for key, (old, new) in step.changes.items():
            if key in COMPARED:
                first = section.changes[key][0] if key in section.changes else old
                section.changes[key] = (first, new)
        if step.verdict is not None and step.verdict not in GOES_ON:
            section.drop = step.verdict
        section.conntrack = step.conntrack or section.conntrack
        if step.stage in ("routing", "rerouting"):
            if not _a_check(step):
                section.text = step.text or section.text
        elif step.text or step.note:
            section.text = (f"{step.chain} {step.rule} " if step.rule else "") + (step.text or step.note or "")
        section.where = str(step.where) if step.where else section.where

    def _place(
        self, number: int, hop: Hop, seen: Hop, place: Place, theirs: _Section | None, mine: _Section | None
    ) -> None:
        hook, stage = place
        rank = _rank(hook, stage, seen)
        host = seen.host
        if stage == "routing":
            self._route(number, host, rank, theirs, mine)
            return
        if stage == "conntrack":
            if theirs is not None and mine is not None and theirs.conntrack and mine.conntrack:
                one_state, other_state = _state(theirs.conntrack), _state(mine.conntrack)
                zone = (
                    hop.conntrack.get("zone") if hop.conntrack else None
                )  # of a zone for one direction the kernel shows the id
                same = one_state == other_state or (one_state[:2] == other_state[:2] and other_state[-1] == str(zone))
                self.add(number, rank, Row(number, host, hook, stage, theirs.conntrack, mine.conntrack, SAME if same else DIFFERS,
                                           "" if same else "state"))  # fmt: skip
            return
        if stage == "confirm":
            both = theirs is not None and mine is not None
            if both:
                self.add(number, rank, Row(number, host, hook, stage, "entry confirmed", "entry confirmed", SAME))
            return
        one, other = theirs or _Section(), mine or _Section()
        names = [k for k in {**one.changes, **other.changes} if not self._changed_alike(one, other, k)]
        held = one.drop in ("QUEUE", "NFQUEUE", "STOLEN")  # it is not seen any more: the end tells
        dropped = not held and (one.drop is not None) != (other.drop is not None)
        verdict = DIFFERS if names or dropped else SAME
        shown = any(_rank(h, s, seen) > rank for h, s in self.shown) or number < len(self.story.hops) - 1
        if verdict == DIFFERS and mine is None and (self.story.incomplete or not shown):
            verdict = NOT_OBSERVED
        key = ("changes" if names else "drop") if verdict != SAME else ""
        words = self._words(one, theirs is not None), self._words(other, mine is not None)
        self.add(number, rank, Row(number, host, hook, stage, *words, verdict, key, tuple(sorted(names)), one.where))

    def _route(
        self, number: int, host: str, rank: tuple[int, float], theirs: _Section | None, mine: _Section | None
    ) -> None:
        nowhere = self.leaf.reason.code in NOWHERE and self.leaf.at.get("host") == host
        if (theirs is None or not theirs.text) and nowhere and mine is not None and not mine.text:
            words = self.leaf.reason.text, "no table has a route"
            self.add(number, rank, Row(number, host, None, "routing", *words, SAME))
            return
        if (theirs is None or not theirs.text) and nowhere and mine is not None and not NO_WAY.search(mine.text):
            row = Row(number, host, None, "routing", self.leaf.reason.text, mine.text, DIFFERS, "route")
            self.add(number, rank, row)
            return
        if theirs is None or not theirs.text:
            return
        if mine is None or not mine.text:
            unseen = "no lookup seen (cached, or demultiplexed early)"
            row = Row(number, host, None, "routing", theirs.text, unseen, NOT_OBSERVED, where=theirs.where)
            self.add(number, rank, row)
            return
        pairs = [(re_.search(theirs.text), re_.search(mine.text)) for re_ in (TABLE, DEVICE)]
        table, dev = [(a[1], b[1]) if a and b else None for a, b in pairs]
        wrong = bool(table and table[0] != table[1] and not LOCAL_TABLES.issuperset(table))
        local = "table local" in theirs.text
        wrong = wrong or bool(dev and dev[0] != dev[1] and not local)
        wrong = wrong or bool(NO_WAY.search(theirs.text)) != bool(NO_WAY.search(mine.text))
        self.add(number, rank, Row(number, host, None, "routing", theirs.text, mine.text, DIFFERS if wrong else SAME,
                                   "route" if wrong else "", (), theirs.where))  # fmt: skip

    def _entry(self, number: int, hop: Hop, seen: Hop) -> None:
        if not hop.conntrack or not seen.conntrack:
            return
        one, other = hop.conntrack, seen.conntrack
        names = [f"{way}.{k}" for way in ("orig", "reply") for k in ("src", "dst", "sport", "dport", "icmp_id")
                 if k in one[way] and k in other[way] and not self._equal(one[way][k], other[way][k])]  # fmt: skip
        names += [bit for bit in NAT_BITS if (bit in one["status"]) != (bit in other["status"])]
        if isinstance(one.get("zone"), int) and one["zone"] != other["zone"]:
            names.append("zone")
        if one.get("mark") is not None and one["mark"] != other.get("mark"):
            names.append("mark")
        words = self._tuples(one), self._tuples(other)
        row = Row(
            number, seen.host, None, "entry", *words, DIFFERS if names else SAME, "entry" if names else "", tuple(names)
        )
        self.add(number, (STATE_RANK, 0), row)

    # --- the end

    def end(self) -> None:
        leaf, story = self.leaf, self.story
        end, number = story.end, max(len(story.hops) - 1, 0)
        hook = end.at.get("hook")
        predicted = _ending(leaf.outcome, leaf.at, leaf.reason.code)
        seen = _ending(end.outcome, end.at, end.reason.code) if end.outcome else end.reason.text
        verdict = SAME
        if leaf.outcome in TAKEN:
            verdict = self._queued()
        elif end.outcome is None:
            verdict = NOT_OBSERVED
        elif leaf.outcome == "delivered" and leaf.at.get("host") == end.at.get("host") and _delivered(story):
            verdict = SAME
        elif _kind(leaf.outcome) != _kind(end.outcome) or leaf.at.get("host") != end.at.get("host"):
            verdict = DIFFERS
        elif _kind(leaf.outcome) == "discarded":
            by_hook = end.reason.code in BY_NETFILTER
            other = by_hook != (leaf.reason.code in BY_NETFILTER) and not (by_hook and leaf.at.get("hook"))
            known = end.drop not in (None, "NOT_SPECIFIED", "SKB_DROP_REASON_NOT_SPECIFIED")
            if (other and known) or (
                by_hook and leaf.at.get("hook") and hook and leaf.at["hook"] != hook and not self.early_drop
            ):
                verdict = DIFFERS
        key = "end" if verdict == DIFFERS else ""
        host = str(end.at.get("host") or leaf.at.get("host"))
        self.add(number, (END_RANK, 1), Row(number, host, hook, "end", predicted, seen, verdict, key))
        self._answers(number, host)

    def _queued(self) -> str:
        """Taken and not seen any more is as predicted; all else is up to who takes it."""
        if self.story.end.outcome is None:
            return SAME
        what = "packets from the queue" if self.leaf.outcome == "queued" else "it over"
        self.open.append(
            f"{self.leaf.at.get('host')}: whether anybody takes {what}, and what becomes of it, is not predicted"
        )
        return NOT_OBSERVED

    def taken(self) -> None:
        """Behind the place where it was handed over everything may differ."""
        hook, hops = self.leaf.at.get("hook"), [h for h in self.leaf.hops if h.host in self.observed]
        last, place = len(hops) - 1, HOOK_RANK.get(str(hook), 0)
        self.rows = [
            (rank, replace(row, verdict=NOT_OBSERVED, key="", names=()))
            if row.verdict == DIFFERS and (rank[0] > last or (rank[0] == last and rank[1] >= place))
            else (rank, row)
            for rank, row in self.rows
        ]

    def _answers(self, number: int, host: str) -> None:
        theirs, mine = ([_answer(r) for r in side] for side in (self.leaf.responses, self.story.responses))
        if not theirs and not mine:
            return
        same = sorted(theirs) == sorted(mine)
        absent = bool(self.story.incomplete) and not mine
        verdict = SAME if same else NOT_OBSERVED if absent else DIFFERS
        words = ", ".join(theirs) or "none", ", ".join(mine) or "none"
        self.add(number, (ANSWER_RANK, 0), Row(number, host, None, "answer", *words, verdict, "" if same else "answer"))

    # --- values

    def _equal(self, predicted: Any, seen: Any) -> bool:
        if isinstance(predicted, Drawn):
            return isinstance(seen, int) and bool(self.leaf.state.domains[predicted.draw_id].holds(seen))
        return bool(predicted == seen)

    def _changed_alike(self, one: _Section, other: _Section, key: str) -> bool:
        if key in one.changes and key in other.changes:
            return self._equal(one.changes[key][1], other.changes[key][1])
        only = one.changes.get(key) or other.changes[key]
        drawn = isinstance(only[1], Drawn)  # a draw may give the value that was there
        return drawn and key in one.changes and isinstance(only[0], int) and self._equal(only[1], only[0])

    def _value(self, value: Any) -> str:
        shown = plain(value, self.leaf.state) if isinstance(value, Drawn) else value
        if isinstance(shown, dict):
            return " or ".join(f"{low}–{high}" for low, high in shown["ranges"])
        return str(shown)

    def _words(self, section: _Section, there: bool) -> str:
        found = [f"{k} {self._value(a)} → {self._value(b)}" for k, (a, b) in section.changes.items()]
        if section.drop:
            found.append(section.drop)
        return ", ".join(found) if found else "unchanged" if there else "nothing"

    def _header(self, header: dict[str, Any], more: list[str]) -> str:
        ends = [
            f"{header.get(a)}" + (f":{self._value(header[p])}" if p in header else "")
            for a, p in (("src", "sport"), ("dst", "dport"))
        ]
        return " → ".join(ends) + "".join(
            f", {k} {self._value(header[k])}" for k in more if k in ("ttl", "mark", "icmp_id")
        )

    def _tuples(self, entry: dict[str, Any]) -> str:
        bits = [b for b in NAT_BITS if b in entry["status"]]
        zone = f" zone {entry['zone']}" if entry.get("zone") else ""
        mark = f" mark {entry['mark']:#x}" if entry.get("mark") else ""
        return f"reply {self._header(entry['reply'], [])}{zone}{mark}" + (f" {' '.join(bits)}" if bits else "")


def _seen_late(theirs: dict[Place, _Section], mine: dict[Place, _Section]) -> None:
    """NAT works at its own hooks where no chain is, and no tap then stands behind it: the next one shows what it did."""
    for place, section in theirs.items():
        if place in mine or not section.changes:
            continue
        for late in (one for (_, stage), one in mine.items() if stage == "change"):
            found = {key: late.changes.pop(key) for key in tuple(late.changes) if key in section.changes}
            if found:
                mine[place] = _Section(changes=found)
                break


def _place(step: Step, hop: Hop) -> Place | None:
    if step.stage in ("routing", "rerouting"):
        return (step.hook if step.stage == "rerouting" else None), "routing"
    if step.stage in ("forward", "conntrack", "confirm"):
        return (None if step.stage == "forward" else step.hook), step.stage
    if step.table and step.hook:
        return step.hook, step.table if step.stage != "nft" else f"nft {step.table} {step.chain}"
    if step.hook and step.stage in TABLES:
        return step.hook, step.stage
    return (step.hook, "change") if step.changes and step.hook else None


def _rank(hook: str | None, stage: str, hop: Hop) -> tuple[int, float]:
    if stage == "routing" and hook is None:
        return (ROUTING_RANK if hop.in_dev else -1), 0
    if stage == "forward":
        return FORWARD_RANK, 0
    source = hook in ("INPUT", "POSTROUTING")
    inside = (7 if source else 3) if stage == "nat" else STAGE_RANK.get(stage.split(" ")[0], 4)
    return HOOK_RANK.get(hook or "", 4), inside


def _a_check(step: Step) -> bool:
    """A lookup that is not the packet's way: of its source, or of a table that had no route."""
    return "source reachable" in (step.note or "") or (step.text or "").endswith(": no match")


def _state(text: str) -> tuple[str, ...]:
    """``NEW zone 0`` to what can be told apart on both sides."""
    words = text.split()
    zone = next((words[i + 1] for i, w in enumerate(words[:-1]) if w == "zone"), "")
    return (
        (words[0], "reply" if "reply" in words else "", zone)
        if words[0] not in ("INVALID", "UNTRACKED")
        else (words[0],)
    )


def _delivered(story: Story) -> bool:
    """Whether the transport layer had it, whatever it did with it then: that is what "delivered" says."""
    end = story.end
    return (
        end.outcome == "delivered"
        or end.transport
        or (end.at.get("hook") == "INPUT" and bool(TRANSPORT.match(end.place)))
    )


def _kind(outcome: str | None) -> str:
    return "discarded" if outcome in DISCARDED else str(outcome)


def _ending(outcome: str | None, at: dict[str, Any], code: str) -> str:
    place = "".join(f" {w}" for w in (at.get("hook"),) if w and _kind(outcome) == "discarded")
    dev = f" by {at['interface']}" if outcome == "left" and at.get("interface") else ""
    return f"{outcome} at {at.get('host')}{place}{dev} [{code}]"


def _answer(response: Response) -> str:
    return response.kind if response.type is None else f"{response.kind} {response.type}/{response.code}"
