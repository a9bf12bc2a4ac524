"""What the model expects of a new connection, and whether the kernel did it: verdict, translation, zone, interface.

Each connection is put to its own host alone, as the snapshot has it and without other connections: what the table held
matters for few (a port in use), and those are asked again with a fresh snapshot that has the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ....sim.engine import routing
from ....sim.engine.play import Answer, Injection, play
from ....sim.engine.run import Ctx, Run
from ....sim.engine.simulate import injection_of, result_json
from ....sim.errors import InputError
from ....sim.model.addr import parse_addr
from ....sim.model.conntrack import Conn, Tuple
from ....sim.model.drawn import Drawn
from ....sim.model.packet import PROTO_NAME, Sk, flags_to_text
from ....sim.model.result import Hop, Leaf
from ....sim.model.state import WorldState
from ....sim.model.world import World
from ..event import NO_UID, STATUS
from .connections import POST, Connection, Ends

AGREED, DIFFERS, UNCHECKED = "agreed", "differs", "unchecked"
VERDICT, TRANSLATION, ZONE, INTERFACE = "verdict", "translation", "zone", "interface"
ICMP = ("icmp", "icmpv6")
# matches that look at more of a packet than an event holds: other headers, options, the payload, the frame
BLIND = re.compile(
    r"-m (mac|pkttype|string|u32|bpf|tcpmss|ah|esp|sctp|dccp|ipv6header|rt|frag|hbh|dst|cgroup|cpu)\b"
    r"|--(tcp-option|gid-owner|socket-exists|ecn-tcp-\w+|physdev-\w+)\b"
)
# matches whose answer depends on what earlier packets did: no snapshot has it
REMEMBERING = re.compile(r"-m (limit|hashlimit|recent|quota|connlimit|nfacct|rateest|statistic --mode nth)\b")


@dataclass(frozen=True)
class Finding:
    """``state``: AGREED, DIFFERS or UNCHECKED; ``what``: which of the four differs, or why it could not be checked.

    ``expected``/``actual``: in words; ``where``: the rule, route or setting that decided in the model.
    """

    state: str
    what: str = ""
    expected: str = ""
    actual: str = ""
    where: str = ""
    flow: str = ""


def flow_of(one: Connection, host: str, device: str | None) -> str:
    """As ``nattrace why`` takes it."""
    name = PROTO_NAME.get(one.orig.proto, str(one.orig.proto))
    src, dst = one.orig.src, one.orig.dst
    if name in ("tcp", "udp", "sctp", "dccp", "udplite"):
        src, dst = _with_port(src, one.orig.sport), _with_port(dst, one.orig.dport)
    return f"{name} {src} -> {dst} " + (f"in {device} at {host}" if device else f"at {host}")


def _with_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def injection(world: World, host: str, one: Connection, device: str | None, at: float) -> Injection:
    """The connection's first packet. Raises InputError where the world has no such device or packet."""
    name = PROTO_NAME.get(one.orig.proto, str(one.orig.proto))
    record: dict[str, Any] = {
        "host": host, "in": device, "proto": name, "src": one.orig.src, "dst": one.orig.dst, "at": at,
        "ttl": one.ttl or 64, "tos": one.tos, "len": max(one.length, 20),
    }  # fmt: skip
    if name in ICMP:
        record |= {"type": one.orig.dport >> 8, "code": one.orig.dport & 255, "icmp_id": one.orig.sport}
    elif name in ("tcp", "udp", "sctp", "dccp", "udplite"):
        record |= {"sport": one.orig.sport, "dport": one.orig.dport}
    if name == "tcp":
        record |= {"flags": flags_to_text(one.flags) or "S", "window": 65535}
    owned = one.uid != NO_UID
    if device is None:
        record["uid"] = one.uid if owned else 0
    found = injection_of(world, record)
    skb = found.skb
    if device is None:
        skb.mark = one.mark
        skb.sk = Sk(skb.uid, skb.uid, mark=one.mark, transparent=True, has_file=owned)
    return found


class Judge:
    """One per snapshot. ``alone``: host -> its world without entries; ``whole``: with them; ``devices``: host -> interface
    index -> name. ``clock``: seconds since the snapshot."""

    def __init__(self, world: World, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.alone = {name: World({name: host.with_(conns=(), expectations=())}) for name, host in world.hosts.items()}
        self.whole = {name: World({name: host}) for name, host in world.hosts.items()}  # with the table
        self.devices = {n: {x.ifindex: x.name for x in h.links.values()} for n, h in world.hosts.items()}

    def forget_table(self) -> None:
        """The entries of the snapshot are of that moment; a big table is not kept for nothing."""
        self.whole = self.alone

    def judge(self, host: str, one: Connection, table: bool = False) -> Finding:
        """``table``: with the entries that the snapshot holds, but for this connection's own."""
        unfit = self._unfit(host, one)
        device = self._device(host, one)
        flow = flow_of(one, host, device)
        if unfit:
            return Finding(UNCHECKED, unfit, flow=flow)
        world = _without(self.whole[host], host, one) if table else self.alone[host]
        try:
            answer = play(world, None, injection(world, host, one, device, self.clock()))
        except InputError as error:
            return Finding(UNCHECKED, f"the model takes no such packet: {error.message}", flow=flow)
        return self._against(world, answer, host, one, flow)

    def _device(self, host: str, one: Connection) -> str | None:
        """The device it came in by; where no tap saw that, the one that the way back to its source leads to."""
        if one.seen:
            return None if one.local else self.devices[host].get(one.indev)
        family, src = parse_addr(one.orig.src)
        data = self.alone[host].hosts[host]
        if any(a.family == family and a.local == src for a in data.addresses):
            return None
        run = Run(WorldState(self.alone[host]))
        return routing.output(Ctx(run, data, run.ws.host(host)), family=family, dst=src).dev

    def _unfit(self, host: str, one: Connection) -> str:
        if host not in self.alone:
            return "the host is not in the snapshot"
        if one.seen and not one.local and one.indev not in self.devices[host]:
            return "its interface is not in the snapshot"
        if one.changed:
            return "the rule set changed meanwhile"
        if one.status & STATUS.EXPECTED:
            return "a helper expected it"
        return ""

    def _against(self, world: World, answer: Answer, host: str, one: Connection, flow: str) -> Finding:
        leaves = [leaf for group in answer.groups() for leaf in group]
        found = [self._compare(leaf, host, one) for leaf in leaves]
        if any(not differences for differences in found):
            return Finding(AGREED, flow=flow)
        if not one.seen:
            return Finding(UNCHECKED, "no tap saw its first packet", flow=flow)
        if result_json(answer)["certainty"] == "unknown":
            why = next((n.text for leaf in leaves for n in leaf.unknowns), "the snapshot does not tell")
            return Finding(UNCHECKED, f"the model cannot tell: {why}", flow=flow)
        if any(leaf.outcome in ("queued", "stolen") for leaf in leaves):
            return Finding(UNCHECKED, "a program or a target took it over", flow=flow)
        if beyond := _beyond(world, answer):
            return Finding(UNCHECKED, beyond, flow=flow)
        nearest = min(range(len(found)), key=lambda i: len(found[i]))
        what, expected, actual = found[nearest][0]
        return Finding(DIFFERS, what, expected, actual, _decided(leaves[nearest], what), flow)

    def _compare(self, leaf: Leaf, host: str, one: Connection) -> list[tuple[str, str, str]]:
        """(what, expected, actual) of all that differs."""
        entry = _entry(leaf, host, one)
        if (entry is not None) != one.confirmed:
            actual = "the connection was made" if one.confirmed else "it was dropped"
            return [(VERDICT, _stays(entry is not None, leaf), actual)]
        if entry is None:
            return []
        found = []
        if not _same_ends(entry.tuples[1], one.reply, leaf):
            found.append((TRANSLATION, _words(entry.tuples[1], leaf), _ends_words(one.reply)))
        if entry.zones[0] != one.zone:
            found.append((ZONE, f"zone {entry.zones[0]}", f"zone {one.zone}"))
        out, hop = self.devices[host].get(one.outdev), leaf.hops[0]
        if one.last == POST and hop.out_dev is not None and out is not None and hop.out_dev != out:
            found.append((INTERFACE, f"out {hop.out_dev}", f"out {out}"))
        return found


def _beyond(world: World, answer: Answer) -> str:
    """The first match on the way whose answer depends on what neither a snapshot nor an event holds."""
    assert answer.injection is not None
    for leaf in play(world, None, answer.injection, verbose=True).leaves:
        for step in leaf.hops[0].steps if leaf.hops else ():
            if hit := REMEMBERING.search(step.text or ""):
                return f"its rules remember earlier packets ({hit[1]})"
            if hit := BLIND.search(step.text or ""):
                return f"its rules look at what no event tells ({hit[1] or hit[2]})"
    return ""


def _without(world: World, host: str, one: Connection) -> World:
    """The world without the entry that this connection has become."""
    own = _tuple(one.orig)
    data = world.hosts[host]
    return world.with_host(data.with_(conns=tuple(c for c in data.conns if c.tuples[0] != own)))


def _stays(stays: bool, leaf: Leaf) -> str:
    return "the connection is made" if stays else f"{leaf.outcome}: {leaf.reason.text}"


def _entry(leaf: Leaf, host: str, one: Connection) -> Conn | None:
    """The entry that the connection has become in the model."""
    if not leaf.hops or leaf.state is None:
        return None
    own = _tuple(one.orig)
    entries = leaf.state.host(host).ct.entries.values()
    return next((c for c in reversed(entries) if c.tuples[0] == own and c.confirmed), None)


def _tuple(ends: Ends) -> Tuple:
    family, src = parse_addr(ends.src)
    return Tuple(family, ends.proto, src, parse_addr(ends.dst)[1], ends.sport, ends.dport)


def _same_ends(expected: Tuple, actual: Ends, leaf: Leaf) -> bool:
    seen = _tuple(actual)
    if expected[:4] != seen[:4]:
        return False
    return all(_holds(mine, kernels, leaf) for mine, kernels in zip(expected[4:], seen[4:], strict=True))


def _holds(expected: Any, actual: Any, leaf: Leaf) -> bool:
    """A number, or one of the candidates of a drawn one."""
    if isinstance(expected, Drawn):
        return leaf.state is not None and leaf.state.domains[expected.draw_id].holds(actual)
    return bool(expected == actual)


def _words(side: Tuple, leaf: Leaf) -> str:
    from ....sim.engine.conntrack import tuple_json
    from ....sim.engine.simulate import plain

    told = plain(tuple_json(side), leaf.state)
    ports = (f":{_port(told['sport'])}", f":{_port(told['dport'])}") if "sport" in told else ("", "")
    return f"replies {told['src']}{ports[0]} → {told['dst']}{ports[1]}"


def _port(value: Any) -> str:
    if isinstance(value, dict):
        return "|".join(f"{low}-{high}" for low, high in value["ranges"][:3])
    return str(value)


def _ends_words(side: Ends) -> str:
    if side.proto in (1, 58):
        return f"replies {side.src} → {side.dst}"
    return f"replies {side.src}:{side.sport} → {side.dst}:{side.dport}"


def _decided(leaf: Leaf, what: str) -> str:
    """The place of the model's decision: the last step that changed something, refused, or routed."""
    hop: Hop | None = leaf.hops[0] if leaf.hops else None
    if what == VERDICT and leaf.reason.where is not None:
        return str(leaf.reason.where)
    stages = {TRANSLATION: ("nat",), ZONE: ("raw",), INTERFACE: ("routing", "rerouting")}.get(what, ())
    for step in reversed(hop.steps if hop is not None else ()):
        if step.stage in stages and (step.where is not None or step.text):
            return (
                f"{step.table or step.stage} {step.chain or ''} {step.rule or ''}".strip()
                + f" ({step.where or step.text})"
            )
    return what


__all__ = ["AGREED", "DIFFERS", "UNCHECKED", "Finding", "Judge", "flow_of"]
