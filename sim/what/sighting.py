"""A packet seen at an interface, and whether a simulated way explains it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..engine.conntrack import pin
from ..engine.play import Injection, play
from ..engine.simulate import injection_of
from ..model.drawn import Drawn
from ..model.result import Hop, Leaf
from ..model.state import WorldState
from ..model.world import World

IN, OUT = "in", "out"
ADDRESSES = ("proto", "src", "dst", "sport", "dport", "type", "icmp_id")  # what tells one flow's packet from another's
_TAKEN = (
    "proto", "src", "dst", "sport", "dport", "flags", "ttl", "tos", "len", "df", "type", "code", "icmp_id", "seq",
    "tcp_seq", "tcp_ack", "window", "mss", "spi", "mtu", "gateway", "inner",
)  # fmt: skip


class Sighting(NamedTuple):
    """One captured packet. ``number`` counts from 1 in its file; ``at``: seconds since the capture's first packet.

    ``way``: ``in`` (received) or ``out`` (sent) at interface ``dev`` of ``host``. ``packet``: as ``simulate`` writes it.
    ``digest``: what NAT leaves alone (id, sequence numbers, payload), to find the packet again elsewhere.
    """

    number: int
    at: float
    host: str
    dev: str
    way: str
    packet: dict[str, Any]
    digest: tuple[Any, ...] = ()

    def flow(self) -> tuple[Any, ...]:
        """The same for both directions of a flow; an ICMP error belongs to the flow that it quotes."""
        quoted = self.packet.get("inner")
        p = quoted if isinstance(quoted, dict) else self.packet
        ends = sorted([(p["src"], p.get("sport") or 0), (p["dst"], p.get("dport") or 0)])
        return (p["proto"], p.get("icmp_id"), *ends)


class Way(NamedTuple):
    """A simulated packet that was, or became, what was seen: where it entered, and its end.

    ``hop``: the pass through the capture's host. ``any_of``: its source stands for every host of this network.
    """

    entry: Injection
    leaf: Leaf
    hop: Hop
    any_of: str | None = None


def record_of(packet: dict[str, Any]) -> dict[str, Any]:
    """The keys that a packet put into the simulator has."""
    record = {key: packet[key] for key in _TAKEN if packet.get(key) is not None}
    if isinstance(record.get("inner"), dict):
        record["inner"] = record_of(record["inner"])
    return record


def enter(world: World, state: WorldState, host: str, dev: str | None, packet: dict[str, Any], at: float) -> Leaf:
    """Play a packet that comes in by ``dev`` (None: is sent by the host itself); the likeliest world."""
    entry = injection_of(world, {**record_of(packet), "host": host, "in": dev, "at": at})
    return play(world, state, entry).main


def leaves_as(leaf: Leaf, host: str, dev: str, packet: dict[str, Any]) -> Hop | None:
    """The pass in which the packet goes out of ``dev`` with these addresses, drawn ports being any candidate."""
    for hop in leaf.hops:
        if hop.host == host and hop.out_dev == dev and agrees(leaf, hop.after, packet):
            return hop
    return None


def agrees(leaf: Leaf, predicted: dict[str, Any], seen: dict[str, Any]) -> bool:
    """Whether addresses, ports and protocol are the predicted ones."""
    for key in ADDRESSES:
        value, other = predicted.get(key), seen.get(key)
        if isinstance(value, Drawn):
            if not (isinstance(other, int) and leaf.state.domains[value.draw_id].holds(other)):
                return False
        elif value != other:
            return False
    return True


def settle(leaf: Leaf, predicted: dict[str, Any], seen: dict[str, Any]) -> None:
    """What was drawn is known now: the state goes on with the seen number."""
    for key in ADDRESSES:
        value, other = predicted.get(key), seen.get(key)
        if isinstance(value, Drawn) and isinstance(other, int):
            pin(leaf.state, value, other)


def translated(hop: Hop) -> Iterator[tuple[str, str, str]]:
    """(what changed it, before, after) for every address or port that changed in a pass."""
    for step in hop.steps:
        for key, (before, after) in step.changes.items():
            if key in ("src", "dst", "sport", "dport", "icmp_id"):
                rule = (
                    f"{step.table} {step.chain} {step.rule}" if step.rule else f"{step.stage} {step.hook or ''}".strip()
                )
                yield rule, f"{key} {before}", str(after)
