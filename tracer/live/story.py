"""One packet's story: its events, in causal order, as the simulator's hops and steps; where it ended; what was not seen.

    packets = group(events, *session.losses())
    for story in stories(events, packets, Scene.of(session)):
        story.hops                  # sim.model.result.Hop, with Steps like those of the simulator
        story.end                   # outcome, place, Reason; the kernel's drop reason
        story.incomplete            # owed but unseen; never read as "did not happen"

What is not seen says nothing, unless nothing was lost, the tap was in place and the stream was there. A packet ends as
``delivered`` or ``left`` only then; otherwise its outcome is None.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...sim.engine.simulate import hop_json, reason_json
from ...sim.model.result import Hop, Leaf, Reason, Response, Step
from . import drops, steps
from .event import HOOKS, KIND, STATUS
from .group import Packets
from .plan import CONNTRACK, FWD, IN, OUT, POST, PRE, Chain
from .scene import ATTACHED, Scene

LOWEST = -(2**31) - 1
PING = "ping_rcv"  # net/ipv4/ping.c frees every reply that no ping socket takes; ping(8) of root has a raw socket


@dataclass(slots=True)
class End:
    """Where a story ends. ``outcome``: as the simulator's, None where it was not seen. ``drop``: the kernel's name of
    the reason; ``place``: its function; ``transport``: the transport layer had it by then."""

    outcome: str | None
    at: dict[str, Any]
    reason: Reason
    drop: str | None = None
    place: str = ""
    transport: bool = False


@dataclass(slots=True)
class Story:
    """See the module. ``times``: for each hop the moment (CLOCK_MONOTONIC, ns) of each of its steps; ``asides``: copies
    of this packet that went their own way; ``events``: rows of event.EVENT in order."""

    number: int
    hops: list[Hop] = field(default_factory=list)
    times: list[list[int]] = field(default_factory=list)
    end: End = field(default_factory=lambda: End(None, {}, Reason("missing_input", "nothing was seen")))
    responses: list[Response] = field(default_factory=list)
    captures: list[dict[str, Any]] = field(default_factory=list)
    asides: list[Story] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    events: Any = None
    rules: str | None = None  # how the rules in it are known: "nftrace", "nflog", "counters", "model"

    @property
    def start(self) -> int:
        return int(self.events["ts"][0]) if self.events is not None and len(self.events) else 0

    @property
    def packet(self) -> dict[str, Any]:
        """The headers as they were last seen."""
        return next((h.after or h.before for h in reversed(self.hops)), {})

    def leaf(self) -> Leaf:
        """In the simulator's form, for renderers and comparisons; an end that was not seen is ``unknown``."""
        end = self.end
        return Leaf(end.outcome or "unknown", end.at, self.packet, end.reason, hops=self.hops, responses=self.responses)


class _Builder:
    """Reads one packet's events in order."""

    def __init__(self, number: int, scene: Scene) -> None:
        self.scene, self.story = scene, Story(number)
        self.hop: Hop | None = None
        self.early: list[Any] = []  # lookups for a packet that does not exist yet
        self.dropped: Any = None
        self.consumed = False
        self.last: Any = None
        self.done: list[tuple[Hop, int, int, dict[int, list[int]], bool]] = []
        self._forget()

    def _forget(self) -> None:
        """What is true of one pass only."""
        self.seen: Any = None  # the last event that shows the headers
        self.head: dict[str, Any] = {}
        self.hook: int | None = None
        self.prio = LOWEST
        self.netns = self.pf = 0
        self.visited: dict[int, list[int]] = {}
        self.sent = self.routed = self.unconfirmed = False
        self.first_prio: int | None = None
        self.nexthop: str | None = None

    def feed(self, event: Any) -> None:
        kind = KIND(int(event["kind"]))
        if kind == KIND.fib:
            self._fib(event)
        elif kind == KIND.neigh:
            self._neigh(event)
        else:
            getattr(self, f"_{kind.name}")(event)
            self.last = event

    # --- hops and steps

    def _start(self, event: Any, in_dev: str | None) -> None:
        self._close_hop()
        self._forget()
        self.netns, self.pf = int(event["netns"]), int(event["pf"])
        self.hop = Hop(self.scene.host(self.netns), in_dev, before=steps.header(event))
        self.story.hops.append(self.hop)
        self.story.times.append([])
        early = [e for e in self.early if int(e["netns"]) == self.netns]
        self.early = []
        if in_dev is None:
            for lookup in early:
                self._route(lookup, OUT)

    def _close_hop(self) -> None:
        if self.hop is not None:
            self.done.append((self.hop, self.netns, self.pf, self.visited, self.sent))

    def _step(self, step: Step | None, event: Any) -> None:
        if step is not None and self.hop is not None:
            self.hop.steps.append(step)
            self.story.times[-1].append(int(event["ts"]))

    def _look(self, event: Any) -> dict[str, Any]:
        """Take in the headers; returns what changed since."""
        now = steps.header(event)
        if self.head and int(event["kind"]) != KIND.tap:
            now["len"] = self.head["len"]  # a device counts its own header too
        found = steps.changes(self.head, now) if self.head else {}
        self.seen, self.head = event, now
        if self.hop is not None:
            self.hop.after = now
            entry = steps.entry_json(event)
            if entry is not None:
                self.hop.conntrack = entry
        return found

    def _confirmed(self, event: Any) -> None:
        if not event["ct"]:
            return
        if STATUS.CONFIRMED not in STATUS(int(event["status"])):
            self.unconfirmed = True
        elif self.unconfirmed:
            self.unconfirmed = False
            self._step(steps.confirm_step(event, self.hook if self.hook is not None else POST), event)

    # --- kinds

    def _rx(self, event: Any) -> None:
        dev = self.scene.device(int(event["netns"]), int(event["indev"]))
        again = self.hop is not None and self.netns == int(event["netns"]) and self.hook is None and not self.sent
        if again and self.hop is not None and self.hop.in_dev != dev:
            self._step(Step(None, "device", text=f"came by {self.hop.in_dev}, handed up to {dev}"), event)
            self.hop.in_dev = dev
        elif not again:
            self._start(event, dev)
            self._capture(event, dev, "in")
        self._look(event)

    def _tap(self, event: Any) -> None:
        hook = int(event["hook"])
        if self.hop is None or self._passes_anew(event, hook):
            if self.hop is not None and hook != OUT and int(event["netns"]) == self.netns and not self.sent:
                self.story.incomplete.append(
                    f"{self.hop.host}: how the packet got from {HOOKS[self.hook or 0]} to {HOOKS[hook]}"
                )
            self._start(event, None if hook == OUT else self.scene.device(int(event["netns"]), int(event["indev"])))
            self.head = {}
        before, found = self.seen, self._look(event)
        self._passed(event, hook, before, found)
        self._confirmed(event)
        self.visited.setdefault(hook, []).append(int(event["prio"]))
        self.hook, self.prio = hook, int(event["prio"])
        if self.first_prio is None:
            self.first_prio = self.prio
        if self.hop is not None and hook in (FWD, POST, OUT) and not self.sent:
            self.hop.out_dev = self.scene.device(self.netns, int(event["outdev"])) or self.hop.out_dev

    def _passes_anew(self, event: Any, hook: int) -> bool:
        if int(event["netns"]) != self.netns or self.sent:
            return True
        if self.hook is None:
            return hook == OUT and self.hop is not None and self.hop.in_dev is not None
        if hook == self.hook:
            return int(event["prio"]) <= self.prio
        return (self.hook, hook) not in ((PRE, IN), (PRE, FWD), (PRE, POST), (FWD, POST), (OUT, POST))

    def _passed(self, event: Any, hook: int, before: Any, found: dict[str, Any]) -> None:
        """Steps of the chains between the last tap and this one."""
        prio, scene = int(event["prio"]), self.scene
        chains: list[Chain] = []
        if self.hook is not None and self.hook != hook:
            chains += [c for c in scene.chains(self.netns, self.pf, self.hook) if c.prio > self.prio]
            if "ttl" in found and hook in (FWD, POST) and self.hook == PRE:
                change = {"ttl": found.pop("ttl")}
                self._step(Step(None, "forward", changes=change, note="forwarded: ttl decremented"), event)
        low = self.prio if self.hook == hook else LOWEST
        chains += [c for c in scene.chains(self.netns, self.pf, hook) if low < c.prio < prio]
        for chain, share in zip(chains, _shares(chains, found), strict=True):
            self._step(steps.chain_step(chain, before, event, share, scene.tracked(self.netns)), event)
        if found and not chains:
            note = (
                "changed before the first chain" if before is None or self.hook is None else "changed between two taps"
            )
            self._step(Step(HOOKS[hook], "change", changes=found, note=note), event)

    def _tx(self, event: Any) -> None:
        dev = self.scene.device(int(event["netns"]), int(event["outdev"]))
        if self.hop is None or int(event["netns"]) != self.netns:
            self._start(event, None)
            self._step(Step(None, "device", note="handed to the device past all hooks"), event)
        before = self.head
        self._look(event)
        self._confirmed(event)
        assert self.hop is not None
        found = steps.changes(before, self.head) if before else {}
        if found and not self.sent:
            self._step(Step(None, "change", changes=found, note="changed behind the last tap"), event)
        if self.sent:
            self._step(Step(None, "device", text=f"handed down to {dev}"), event)
        elif self.hop.in_dev is not None and self.hook is None:
            self._step(Step(None, "bridge", text=f"bridged from {self.hop.in_dev} to {dev}"), event)
        if not self.sent:
            self.hop.out_dev = dev
        self.sent = True
        self._capture(event, dev, "out")

    def _xmit(self, event: Any) -> None:
        self._look(event)

    def _drop(self, event: Any) -> None:
        if self.hook == IN and self.scene.symbol(int(event["aux"])).startswith(PING):
            self._step(
                Step(None, "delivery", note="an echo reply: raw sockets had their copy, no ping socket waits"), event
            )
            return
        self.dropped = event
        if self.hop is None:
            self._start(event, self.scene.device(int(event["netns"]), int(event["indev"])))
        if event["netns"] and int(event["netns"]) == self.netns and not self.sent:
            self._confirmed(event)
        meant = drops.meant(self.scene.reason(int(event["reason"])), self.scene.symbol(int(event["aux"])))
        chain = self._next_chain() if meant.name in drops.BY_CHAIN else None
        hook = chain.hook if chain is not None else self.hook
        self._step(steps.drop_step(event, self.scene, hook, chain, meant.sentence), event)
        if hook is not None:
            self.hook = hook

    def _next_chain(self) -> Chain | None:
        """The chain right behind the last tap: it took the packet, for the next tap did not see it any more."""
        if self.hook is None:
            found = self.scene.chains(self.netns, self.pf, PRE if self.hop and self.hop.in_dev else OUT)
            return next((c for c in found if c.kind != "kernel"), None)
        here = [c for c in self.scene.chains(self.netns, self.pf, self.hook) if c.prio > self.prio]
        further = self.scene.chains(self.netns, self.pf, POST) if self.hook in (FWD, OUT) else []
        return next(iter(here or further), None)

    def _consume(self, event: Any) -> None:
        self.consumed = True

    def _icmp_send(self, event: Any) -> None:
        kind, code = divmod(int(event["reason"]), 256)
        self._answer("icmp", kind, code, event)

    def _tcp_reset(self, event: Any) -> None:
        self._answer("tcp_reset", None, None, event)

    def _answer(self, kind: str, number: int | None, code: int | None, event: Any) -> None:
        to = steps.address(event["t"], "s")
        host = self.scene.host(int(event["netns"]))
        self.story.responses.append(Response(kind, number, code, host, to, "sent"))
        text = "TCP reset" if kind == "tcp_reset" else f"ICMP {number}/{code}"
        self._step(Step(None, "icmp" if kind == "icmp" else "tcp_reset", note=f"{host} answers with {text}"), event)

    def _fib(self, event: Any) -> None:
        if (
            self.hop is None
            or int(event["netns"]) != self.netns
            or not event["skb"]
            or (self.sent and not event["skb"])
        ):
            self.early.append(event)
        else:
            self._route(event, None)

    def _route(self, event: Any, hook: int | None) -> None:
        """A lookup is the packet's own way, a check of its source, or belongs to an answer."""
        target, proto = steps.address(event["t"], "d"), int(event["t"]["proto"])
        own = self.head or (self.hop.before if self.hop is not None else {})
        stage, note = "routing", None
        if own and target == own["src"] and target != own["dst"]:
            other = proto and self.seen is not None and proto != int(self.seen["t"]["proto"])
            if other or self.hook not in (None, PRE) or self.story.responses:
                stage, note = "answer", "route of the answer"
            else:
                note = "is the source reachable this way?"
        elif self.hook in (IN, POST):
            stage, note = "answer", "route of the answer"  # its own way is decided by then
        elif self.hook == OUT:
            stage = "rerouting"
        if stage != "answer" and note is None:
            self.nexthop = steps.gateway(event) or (own.get("dst") if own else None)
        step = steps.fib_step(event, self.scene, stage, hook, note)
        if self.hop is not None and (not self.hop.steps or self.hop.steps[-1] != step):
            self._step(step, event)

    def _neigh(self, event: Any) -> None:
        wanted = self.nexthop or self.head.get("dst")
        if self.hop is None or int(event["netns"]) != self.netns or steps.address(event["t"], "d") != wanted:
            return
        if self.hook in (OUT, FWD, POST) and not self.sent:
            step = steps.neigh_step(event, self.scene)
            if not self.hop.steps or self.hop.steps[-1] != step:
                self._step(step, event)

    def _capture(self, event: Any, dev: str | None, way: str) -> None:
        self.story.captures.append(
            {"host": self.scene.host(int(event["netns"])), "interface": dev, "way": way, "packet": steps.header(event),
             "ts": int(event["ts"])}
        )  # fmt: skip

    # --- the end

    def finish(self, lost: bool, events: Any) -> Story:
        self._close_hop()
        story = self.story
        story.events = events
        if lost:
            story.incomplete.append("events were lost near this packet")
        for hop, netns, pf, visited, sent in self.done:
            story.incomplete += _owed(self.scene, hop, netns, pf, visited, sent)
        story.end = self._end()
        story.incomplete = list(dict.fromkeys(story.incomplete))
        return story

    def _end(self) -> End:
        hop = self.hop
        if hop is None:
            return self.story.end
        dev = hop.out_dev if self.sent or self.hook in (OUT, POST) else hop.in_dev
        at = {"host": hop.host, "interface": dev, "hook": None if self.hook is None else HOOKS[self.hook]}
        if self.dropped is not None:
            return self._dropped(at)
        if self.sent:
            text = f"leaves {hop.host} by {hop.out_dev} as {_ends(hop.after)}"
            return End("left", at | {"interface": hop.out_dev}, Reason("left_at_edge", text))
        if self.hook == IN and self._complete_hook(IN):
            if "drop" in self.scene.streams and "drop" not in self.scene.missing and not self.story.incomplete:
                return End("delivered", at, Reason("delivered_local", f"delivered to {hop.host}"), transport=True)
            return End(
                None,
                at,
                Reason("missing_input", f"passed INPUT of {hop.host}; whether it was dropped later is not seen"),
            )
        return End(None, at, Reason("missing_input", self._trail(hop)))

    def _trail(self, hop: Hop) -> str:
        if self.hook is None:
            return f"last seen as it came in by {hop.in_dev} of {hop.host}"
        nxt = self._next_chain()
        if self.hook == POST and nxt is None and ("tx" not in self.scene.streams or "tx" in self.scene.missing):
            self.story.incomplete.append(f"{hop.host}: whether a device sent the packet (no tap shows that here)")
            return f"passed POSTROUTING of {hop.host} as {_ends(hop.after or hop.before)}; what came then is not seen"
        if self.hook == POST and nxt is None:
            self.story.incomplete.append(
                f"{hop.host}: no device was seen to send the packet (it may wait for a neighbour)"
            )
            return f"last seen at the end of POSTROUTING of {hop.host}: waiting for a neighbour, or for its turn"
        behind = f", before {nxt.table} {nxt.name}".replace("  ", " ") if nxt is not None else ""
        self.story.incomplete.append(f"{hop.host}: the packet after {HOOKS[self.hook]} {self.prio}")
        return f"last seen at {HOOKS[self.hook]} {self.prio} of {hop.host}{behind}: queued, taken over, or not observed"

    def _complete_hook(self, hook: int) -> bool:
        taps = [t for t in self.scene.at(self.netns, self.pf, hook) if t.state == ATTACHED]
        return bool(taps) and self.prio >= taps[-1].place

    def _dropped(self, at: dict[str, Any]) -> End:
        event, hop = self.dropped, self.hop
        assert hop is not None
        name, place = self.scene.reason(int(event["reason"])), self.scene.symbol(int(event["aux"]))
        meant = drops.meant(name, place)
        at = at | {"interface": hop.out_dev if self.sent or self.hook in (OUT, POST) else hop.in_dev}
        had = meant.name in drops.AFTER_DELIVERY and self.hook == IN
        end = End("dropped", at, Reason(meant.code, meant.sentence), name, place, had or meant.layer == drops.TRANSPORT)
        return ended(end, [r for r in self.story.responses if r.sender == hop.host])


def ended(end: End, answers: list[Response]) -> End:
    """The outcome of a drop: whether the sender was told makes the difference, as in the simulator's words."""
    name, outcome, code = drops.meant(end.drop or "", end.place).name, "dropped", end.reason.code
    if name.endswith("_NO_SOCKET"):
        outcome = "delivered"
    elif name in drops.AFTER_DELIVERY and end.at.get("hook") == "INPUT":
        outcome, code = "delivered", "delivered_local"  # a socket had it, and was closed before anybody read it
    elif name in drops.BY_CHAIN and answers:
        outcome, code = "rejected", "rejected_by_rule"
    elif answers and not end.transport:
        outcome, code = "unreachable", _icmp_code(answers[-1], code)
    return replace(end, outcome=outcome, reason=Reason(code, end.reason.text))


def _icmp_code(response: Response, code: str) -> str:
    """A drop without a telling reason that was answered: the answer tells."""
    known = {(11, 0): "ttl_exceeded", (3, 4): "fragmentation_needed", (3, 13): "route_prohibit"}
    return known.get((response.type or 0, response.code or 0), code)


ADDRESSES = frozenset(("src", "dst", "sport", "dport", "icmp_id"))


def _shares(chains: list[Chain], found: dict[str, Any]) -> list[dict[str, Any]]:
    """What each chain between two taps did: all of it where there is one; else NAT the addresses, mangle the rest."""
    able = [i for i, c in enumerate(chains) if c.kind != "kernel"] or list(range(len(chains)))
    shares: list[dict[str, Any]] = [{} for _ in chains]
    for key, change in found.items() if able else ():
        table = "nat" if key in ADDRESSES else "mangle"
        place = next((i for i in able if chains[i].table == table), able[-1])
        shares[place][key] = change
    return shares


def _owed(scene: Scene, hop: Hop, netns: int, pf: int, visited: dict[int, list[int]], sent: bool) -> Iterator[str]:
    """Taps that the packet must have met and where it was not seen, or could not be."""
    if not visited:
        return
    hooks = [h for h in (PRE, IN, FWD, OUT, POST) if h in visited]
    through = sent or POST in visited
    if through:
        hooks = [PRE, FWD, POST] if hop.in_dev is not None and OUT not in visited else [OUT, POST]
    for place, hook in enumerate(hooks):
        seen, last = visited.get(hook, []), place == len(hooks) - 1
        for tap in scene.at(netns, pf, hook):
            finished = not last or sent
            if not finished and tap.place > max(seen):
                continue
            where = f"{hop.host}: {HOOKS[hook]} at priority {tap.place}"
            if tap.state != ATTACHED:
                yield f"{where} can't be observed ({tap.note or tap.state})"
            elif tap.place not in seen and not _too_early(hook, tap.place, visited, hop):
                yield f"{where} was passed, but not seen"


def _too_early(hook: int, place: int, visited: dict[int, list[int]], hop: Hop) -> bool:
    """Before conntrack looks, a packet may not be known yet to belong to the flow."""
    first = min(visited.get(hook, [LOWEST]))
    return hook in (PRE, OUT) and place < CONNTRACK < first and not any(s.stage == "device" for s in hop.steps)


def _ends(packet: dict[str, Any]) -> str:
    from ...sim.explain.answer import ends

    return ends(packet)


# --------------------------------------------------------------------------------------------- stories


def story_of(rows: Any, scene: Scene, number: int = 1, lost: bool = False) -> Story:
    """The story of one packet from its events in order."""
    builder = _Builder(number, scene)
    for row in rows:
        builder.feed(row)
    return builder.finish(lost, rows)


def stories(events: Any, packets: Packets, scene: Scene, first: int = 1) -> list[Story]:
    """All packets of group.group(events), in the order of their beginnings; a copy is an aside of what it was made of."""
    rows = [events[packets.rows(i)] for i in range(packets.count)]
    loose = _Loose(events[packets.loose])
    parent = [int(p) for p in packets.copy_of]
    lost = [bool(f) for f in packets.lost_near]
    copies: dict[int, list[int]] = {}
    merged: dict[int, int] = {}
    for i in sorted(range(packets.count), key=lambda i: int(rows[i]["ts"][0])):
        of = parent[i]
        while of in merged:
            of = merged[of]
        if of < 0 or of == i:
            continue
        if _goes_on(rows[of], rows[i]):
            rows[of], lost[of], merged[i] = np.concatenate([rows[of], rows[i]]), lost[of] or lost[i], of
        elif rows[of]["ts"][0] <= rows[i]["ts"][0] <= rows[of]["ts"][-1]:
            copies.setdefault(of, []).append(i)
    _held(rows, copies, merged)
    aside = {i for group_ in copies.values() for i in group_}
    told = {i: story_of(loose.before(rows[i]), scene, 0, lost[i]) for i in range(packets.count)
        if i not in merged and not np.isin(rows[i]["kind"], (KIND.fib, KIND.neigh)).all() and rows[i]["netns"].any()}  # fmt: skip
    for of, made in copies.items():
        if of in told:
            told[of].asides += [told[i] for i in made if i in told]
    kept = sorted((s for i, s in told.items() if i not in aside), key=lambda story: story.start)
    for number, story in enumerate(kept, first):
        story.number = number
    _link_answers(kept)
    return kept


def _held(rows: list[Any], copies: dict[int, list[int]], merged: dict[int, int]) -> None:
    """What was only seen being thrown away: a copy that a socket held (an error queue, a capture) of an earlier packet."""
    known = {i for group_ in copies.values() for i in group_}
    seen: dict[tuple[int, int, bytes], int] = {}
    for i in sorted(range(len(rows)), key=lambda i: int(rows[i]["ts"][0])):
        first = rows[i][0]
        key = (int(first["ipid"]), int(first["t"]["proto"]), bytes(first["pay"]))
        if i in known or i in merged:
            continue
        if np.isin(rows[i]["kind"], (KIND.drop, KIND.consume)).all():
            if key in seen:
                copies.setdefault(seen[key], []).append(i)
        else:
            seen[key] = i


def _goes_on(parent: Any, child: Any) -> bool:
    """Whether a packet under a new sk_buff is the same one, sent on: it comes in where the other was sent."""
    end, begin = parent[-1], child[0]
    sent = int(end["kind"]) in (KIND.tx, KIND.xmit) or (int(end["kind"]) == KIND.tap and int(end["hook"]) == POST)
    comes = int(begin["kind"]) == KIND.rx or (int(begin["kind"]) == KIND.tap and int(begin["hook"]) == PRE)
    return sent and comes and bool(begin["ts"] >= end["ts"])


class _Loose:
    """Lookups made before there was a packet: each belongs to the packet that its namespace sends next to that address."""

    WITHIN = 20_000_000  # ns

    def __init__(self, events: Any) -> None:
        self.events = events[events["kind"] == KIND.fib]
        self.free = np.ones(len(self.events), bool)

    def before(self, rows: Any) -> Any:
        """A locally sent packet's events, with its own lookups in front."""
        first = rows[0]
        if not len(self.events) or int(first["kind"]) not in (KIND.tap, KIND.tx) or first["indev"]:
            return rows
        e, start = self.events, int(first["ts"])
        mine = self.free & (e["ts"] <= start) & (e["ts"] + self.WITHIN >= start) & (e["netns"] == first["netns"])
        mine &= (e["t"]["d"] == first["t"]["d"]).all(axis=1)
        self.free &= ~mine
        return np.concatenate([e[mine], rows]) if mine.any() else rows


def _link_answers(found: list[Story]) -> None:
    """What became of an ICMP error: the story of the error itself, where it was seen."""
    starts = [story.start for story in found]
    for story in found:
        _unannounced(story, found, starts)
        for at, response in enumerate(story.responses):
            meanwhile = found[bisect_left(starts, story.start) : bisect_right(starts, int(story.events["ts"][-1]))]
            answer = next((s for s in meanwhile if _is_answer(s, response, story)), None)
            if answer is not None and answer.end.outcome is not None:
                story.responses[at] = _arrived(response, answer)


def _unannounced(story: Story, found: list[Story], starts: list[int]) -> None:
    """An answer that no tracepoint tells (ICMPv6, a reset by a rule): sent by the host that dropped the packet, meanwhile."""
    end = story.end
    if end.drop is None or story.responses or not story.hops:
        return
    host, source = str(end.at.get("host")), story.hops[-1].before.get("src")
    until = int(story.events["ts"][-1])
    taps = story.events["ts"][story.events["kind"] == KIND.tap]
    since = int(taps[-1]) if len(taps) else story.start
    for other in found[bisect_left(starts, since) : bisect_right(starts, until)]:
        packet = other.hops[0].before if other.hops else {}
        if not other.hops or other.hops[0].host != host or other.hops[0].in_dev is not None:
            continue
        error = packet.get("proto") == "icmpv6" and packet.get("type", 200) < 128
        error |= packet.get("proto") == "icmp" and packet.get("type") in (3, 11, 12)
        reset = "R" in str(packet.get("flags", ""))
        if packet.get("dst") == source and (error or reset):
            kind = "icmp" if error else "tcp_reset"
            story.responses.append(Response(kind, packet.get("type"), packet.get("code"), host, str(source), "sent"))
            story.end = ended(end, story.responses)
            return


def _arrived(response: Response, answer: Story) -> Response:
    """The response with its way."""
    end = answer.end
    return Response(response.kind, response.type, response.code, response.sender, response.to, end.outcome or "sent",
                    answer.packet, tuple(answer.hops), end.at, end.reason)  # fmt: skip


def _is_answer(story: Story, response: Response, cause: Story) -> bool:
    if story is cause or not story.hops or not cause.start < story.start:
        return False
    packet = story.hops[0].before
    if response.kind == "icmp":
        return (
            packet.get("type") == response.type and packet.get("code") == response.code and packet["dst"] == response.to
        )
    return "R" in str(packet.get("flags", "")) and packet["dst"] == response.to


def to_json(story: Story) -> dict[str, Any]:
    """A story as a line of ``trace --json``."""
    end = story.end
    return {
        "schema": "nattrace/trace/1",
        "kind": "story",
        "number": story.number,
        "start_ns": story.start,
        "outcome": end.outcome,
        "at": {k: end.at.get(k) for k in ("host", "interface", "hook")},
        "packet": story.packet,
        "reason": reason_json(end.reason),
        "drop": None if end.drop is None else {"reason": end.drop, "function": end.place, "transport": end.transport},
        "hops": [hop_json(hop, None) | {"times_ns": times} for hop, times in zip(story.hops, story.times, strict=True)],
        "responses": [
            {"kind": r.kind, "type": r.type, "code": r.code, "from": r.sender, "to": r.to, "outcome": r.outcome}
            for r in story.responses
        ],
        "captures": story.captures,
        "asides": [to_json(aside) for aside in story.asides],
        "incomplete": story.incomplete,
        "rules": story.rules,
        "events": len(story.events) if story.events is not None else 0,
    }
