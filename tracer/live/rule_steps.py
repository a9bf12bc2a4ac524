"""Which rules matched, put into the stories: as the kernel tells it, or from counters and the model, labelled so.

With --allow-changes the flow is marked in a table of our own and the kernel's trace messages are read (rules/). Without
it nothing is changed: what the model says would match is put in and called that, and rules whose counters rose are
listed at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ...sim.errors import InputError, NattraceError
from ...sim.model.result import Hop, Step
from ...sim.record import replace
from ...sim.render.style import clean
from .flow import FlowKey
from .rule_hits import NFLOG, NFTRACE, Evidence, HopRules, Rise
from .rules.book import RuleBook
from .rules.counters import Counters
from .rules.nflog import LegacyTrace
from .rules.nftrace import RuleTrace, describe_changes

if TYPE_CHECKING:
    from ...sim.flow import Question
    from .netns import Namespace
    from .story import Story
    from .worlds import Worlds

BY_MODEL = "by the model, not observed"


class Rules:
    """For as long as it is open; ``into(story)`` adds the steps of the rules that this packet met."""

    def __init__(self, spaces: list[Namespace], question: Question | None, options: dict[str, Any], worlds: Worlds,
                 also: Sequence[FlowKey] = ()) -> None:  # fmt: skip
        """``also``: other tuples of the flow, as NAT is predicted to make them."""
        if question is None:
            raise InputError("--rules needs a FLOW: rules are told for one flow")
        self.flow = FlowKey.of_question(question)._replace(iif=None)
        self.spaces, self.options, self.worlds = spaces, options, worlds
        known = dict.fromkeys((self.flow.reversed(), *also))
        self.replies = [key for key in known if key != self.flow and key.family == self.flow.family]
        self.exact = bool(options["allow_changes"])
        self.traces: list[tuple[str, str, Any]] = []
        self.counters: list[tuple[str, Counters]] = []
        self.pending: dict[tuple[str, str], list[Any]] = {}
        self.absent: dict[str, frozenset[str]] = {}  # by host: tracers for which there is no rule to be met
        self._stack = ExitStack()

    def __enter__(self) -> Rules:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        world = self.worlds.world()
        if self.exact:
            for line in describe_changes(self.flow):
                print(f"nattrace: changes while it runs: {clean(line)}", file=sys.stderr)
        for ns in self.spaces:
            host = world.hosts.get(ns.name) if world is not None else None
            if not self.exact:
                self.counters.append((ns.name, Counters(ns, host)))
                continue
            book = RuleBook.read(ns, host)
            known = {rule.backend for rule in book.rules.values()}
            self.absent[ns.name] = frozenset(
                how for how, there in ((NFTRACE, known - {"legacy"}), (NFLOG, "legacy" in known)) if not there
            )
            if known - {"legacy"}:
                found = RuleTrace(ns, self.flow, book=book, replies=self.replies, allow_changes=True)
                self.traces.append((ns.name, NFTRACE, self._stack.enter_context(found)))
            if "legacy" in known:
                legacy = LegacyTrace(ns, self.flow, book=book, replies=self.replies, allow_changes=True)
                self.traces.append((ns.name, NFLOG, self._stack.enter_context(legacy)))

    def read(self) -> None:
        """Take in what has come."""
        for host, how, trace in self.traces:
            self.pending.setdefault((host, how), []).extend(trace.read())

    def into(self, story: Story) -> None:
        """Add the rules that this packet met to its hops."""
        self.read()
        if not self.exact:
            self._by_model(story)
            return
        for host, how, _ in self.traces:
            for hop, times in zip(story.hops, story.times, strict=True):
                if hop.host == host:
                    mine = self._claim(host, how, hop)
                    _insert(hop, times, mine)
                    story.rules = how if mine else story.rules

    def _claim(self, host: str, how: str, hop: Hop) -> list[Step]:
        """Messages of this very packet: the first of each has its headers, IP identification and length among them."""
        found, rest = [], []
        wanted = _identities(hop)
        number: int | None = None
        rank = 0
        for hit in self.pending.get((host, how), []):
            packet = getattr(hit, "packet", None)
            same = hit.headers is not None and _of_headers(hit.headers) in wanted
            if same and packet is None:  # lines have no number: a hook that lies before the last one is another pass
                same, rank = RANK[hit.hook] >= rank, max(rank, RANK[hit.hook])
            if same and (number is None or packet == number or packet is None):
                number = packet if packet is not None else -1
                found.append(hit.step)
            elif packet is not None and packet == number:
                found.append(hit.step)
            else:
                rest.append(hit)
        self.pending[host, how] = rest
        return found

    def hits(self, story: Story) -> list[HopRules | None]:
        """The rules that this packet met, pass by pass; None for a host whose rules are not traced."""
        found: list[HopRules | None] = []
        for hop in story.hops:
            if hop.host not in self.absent:
                found.append(None)
                continue
            steps, sure = list[Step](), set(self.absent[hop.host])
            for host, how, trace in self.traces:
                if host != hop.host:
                    continue
                mine = self._claim(host, how, hop)
                if mine or _identities(hop) & trace.marked:
                    sure.add(how)
                steps += mine
                story.rules = how if mine else story.rules
            found.append(HopRules(tuple(steps), frozenset(sure)))
        return found

    def evidence(self, stories: Iterable[Story]) -> Evidence:
        """All that is known about rules, for packets that are told."""
        hosts = [host for host, _ in self.counters] or list(self.absent)
        if not self.exact:
            rises = [Rise(host, r.rule.table, r.rule.chain, r.rule.text, r.packets)
                     for host, counters in self.counters for r in counters.rises() if r.rule.number]  # fmt: skip
            return Evidence("counters", 0, {}, rises, hosts)
        told = {story.number: self.hits(story) for story in stories}
        lost = sum(sum(trace.loss().values()) for _, _, trace in self.traces)
        return Evidence("trace", lost, told, [], hosts)

    def _by_model(self, story: Story) -> None:
        """What the snapshot's rules would do with this packet, where it goes the same way."""
        world = self.worlds.world()
        if world is None or not story.hops:
            return
        from ...sim.engine.play import play
        from ...sim.engine.simulate import injection_of

        first = story.hops[0]
        packet = {k: v for k, v in first.before.items() if k not in ("ip_id", "fragment", "more", "gso", "len")}
        try:
            injection = injection_of(world, {**packet, "host": first.host, "in": first.in_dev})
            predicted = play(world, None, injection).leaves[0].hops
        except (NattraceError, KeyError, IndexError):
            return
        for hop, times, model in zip(story.hops, story.times, predicted, strict=False):
            if hop.host != model.host:
                return
            steps = [s for s in model.steps if s.rule and s.matched]
            _insert(
                hop,
                times,
                [replace(s, changes={}, note=f"{s.note}; {BY_MODEL}" if s.note else BY_MODEL) for s in steps],
            )
            story.rules = "model" if steps else story.rules

    def totals(self) -> dict[str, Any]:
        """What was lost; without changes, the rules whose counters rose."""
        out: dict[str, Any] = {"how": "trace" if self.exact else "counters and model", "lost": {}, "notes": []}
        for host, _, trace in self.traces:
            for key, value in trace.loss().items():
                out["lost"][key] = out["lost"].get(key, 0) + value
                if value:
                    out["notes"].append(f"{host}: {value} messages about rules lost or left out ({key})")
        for host, counters in self.counters:
            for rise in counters.rises():
                rule = rise.rule
                place = f"{rule.table} {rule.chain} " + (str(rule.number) if rule.number else "policy")
                out["notes"].append(f"{host}: counter of {place} rose by {rise.packets}: {rule.text}")
        return out


RANK = {0: 0, 3: 0, 1: 1, 2: 1, 4: 2}  # PREROUTING and OUTPUT, then INPUT and FORWARD, then POSTROUTING


def _identities(hop: Hop) -> set[tuple[Any, ...]]:
    """The packet as it came, as it left, and as it is when NAT has changed one of its ends."""
    both = (hop.before, hop.after or hop.before)
    ident = hop.before.get("ip_id")
    return {(a.get("src"), b.get("dst"), ident) for a in both for b in both}


def _of_headers(headers: Any) -> tuple[Any, ...]:
    import ipaddress

    key = headers.key
    ends = (str(ipaddress.ip_address(key.src)), str(ipaddress.ip_address(key.dst)))
    return (*ends, headers.ip_id)


def _insert(hop: Hop, times: list[int], found: list[Step]) -> None:
    """Each rule in front of what its table was seen to do; the change itself goes to the rule that ended the table."""
    for step in found:
        at = next((i for i, s in enumerate(hop.steps) if _same_table(s, step) and not s.rule), None)
        if at is None:
            at = next((i for i, s in enumerate(hop.steps) if s.verdict == "DROP"), len(hop.steps))
        moment = times[at] if at < len(times) else (times[-1] if times else 0)
        hop.steps.insert(at, step)
        times.insert(at, moment)
    for i, (before, step) in enumerate(pairwise(hop.steps), 1):
        ended = before.rule and not step.rule and _same_table(step, before) and step.verdict != "DROP"
        if ended and step.changes:
            hop.steps[i - 1] = replace(before, changes=step.changes)
            hop.steps[i] = replace(step, changes={}, note=step.note or "passed")


def _same_table(a: Step, b: Step) -> bool:
    return a.hook == b.hook and a.table == b.table
