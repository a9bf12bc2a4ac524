"""Reads one packet's events in order and builds its story: hops, steps, where it ended, what was owed and not seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...sim.model.result import Hop, Reason, Response, Step
from . import drops, steps
from .event import HOOKS, KIND, STATUS
from .plan import CONNTRACK, FWD, IN, OUT, POST, PRE, Chain
from .scene import ATTACHED, Scene
from .told import End, Story

LOWEST = -(2**31) - 1
PING = "ping_rcv"  # net/ipv4/ping.c frees every reply that no ping socket takes; ping(8) of root has a raw socket


class Builder:
    """Reads one packet's events in order."""

    def __init__(self, number: int, scene: Scene) -> None:
        self.scene, self.story = scene, Story(number)
        self.hop: Hop | None = None
        self.early: list[Any] = []  # lookups for a packet that does not exist yet
        self.dropped: Any = None
        self.consumed = False
        self.last: Any = None
        self.done: list[tuple[Hop, int, int, dict[int, list[int]], bool]] = []
        self.lost = False  # whether an event near this packet was
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
        again = self.hop is not None and self.netns == int(event["netns"]) and not self.sent
        # with br_netfilter a bridge runs PREROUTING as if it came by the bridge, and hands it up afterwards (ip_sabotage_in())
        again = again and (self.hook is None or (self.hook == PRE and int(self.seen["indev"]) == int(event["indev"])))
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
        if self.hook is None:  # in front of the first tap: tracking itself, where that comes first
            first = PRE if self.hop and self.hop.in_dev else OUT
            taps = [tap for tap in self.scene.at(self.netns, self.pf, first) if tap.state == ATTACHED]
            found = [c for c in self.scene.chains(self.netns, self.pf, first) if not taps or c.prio < taps[0].place]
            return next((c for c in found if c.kind != "kernel"), next(iter(found), None))
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
        self.lost = lost
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
        if self.sent and self.lost:
            text = f"handed to {hop.out_dev} of {hop.host}; events were lost, so where it went on to is not known"
            return End(None, at, Reason("missing_input", text))
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
