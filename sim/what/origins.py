"""Where a packet that leaves an interface can have come from: candidates from state, addresses and rules, each played.

A candidate counts only when the simulator, given the packet as it would have come in, makes exactly the packet that was
seen. So nothing here has to know how NAT works; it only has to name enough candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from ..engine.conntrack import tuple_json
from ..engine.play import play
from ..engine.simulate import injection_of
from ..errors import InputError
from ..flow import route_back
from ..flow_words import Endpoint
from ..model.addr import AF_INET, Prefix, format_addr, parse_addr, parse_prefix
from ..model.conntrack import Tuple
from ..model.state import WorldState
from ..model.world import Host, World
from .sighting import Sighting, Way, leaves_as, record_of

MOST_TRIED = 400  # candidates that are played for one packet
MOST_RULES = 2000  # NAT rules of a host that are looked at for addresses
SAMPLE_PORT = 40000


class Candidate(NamedTuple):
    """A packet that may have come in. ``any_of``: the source is one of many like it."""

    dev: str | None
    packet: dict[str, Any]
    any_of: str | None = None


def origins(world: World, state: WorldState, seen: Sighting) -> list[Way]:
    """Every way in that leads to the packet as it was seen going out.

    A connection that is known decides; otherwise every kind of origin is tried and all that fit are named.
    """
    host = world.hosts[seen.host]
    for kind in (_from_entries, _anew):
        found = [
            way for c in islice(kind(world, state, host, seen), MOST_TRIED) if (way := _tried(world, state, seen, c))
        ]
        if found:
            return _likely(world, _without_repeats(found))
    return []


def _likely(world: World, ways: list[Way]) -> list[Way]:
    """Ways in by the interface that leads back to the source; all of them where none does (spoofed, asymmetric)."""
    usual = [w for w in ways if w.entry.in_dev in (None, _way_back(world, w))]
    return usual or ways


def _way_back(world: World, way: Way) -> str | None:
    skb = way.entry.skb
    return route_back(world, world.hosts[way.entry.host], Endpoint(skb.family, skb.src))


def _tried(world: World, state: WorldState, seen: Sighting, candidate: Candidate) -> Way | None:
    record = {**record_of(candidate.packet), "host": seen.host, "in": candidate.dev, "at": seen.at}
    if candidate.dev is not None and record.get("ttl", 0):
        record["ttl"] = min(record["ttl"] + 1, 255)
    try:
        entry = injection_of(world, record)
    except InputError:
        return None
    leaf = play(world, state, entry).main
    hop = leaves_as(leaf, seen.host, seen.dev, seen.packet)
    return None if hop is None else Way(entry, leaf, hop, candidate.any_of)


def _without_repeats(ways: list[Way]) -> list[Way]:
    """One way for each (interface, network, destination)."""
    kept: dict[Any, Way] = {}
    for way in ways:
        before = way.hop.before
        kept.setdefault((way.entry.in_dev, way.any_of or before["src"], before["dst"], before.get("dport")), way)
    return list(kept.values())


# ------------------------------------------------------------------------------------------- candidates


def _from_entries(world: World, state: WorldState, host: Host, seen: Sighting) -> Iterator[Candidate]:
    """Connections that conntrack knows: what leaves is one direction's tuple turned round, or an error about it."""
    quoted = seen.packet.get("inner")
    for conn in list(state.host(host.name).ct.entries.values()):
        for direction in (0, 1):
            here, there = conn.tuples[direction], conn.tuples[1 - direction]
            if _turned(there, seen.packet):
                yield from _by_any(host, {**seen.packet, **_ends(here)})
            elif isinstance(quoted, dict) and _is(there, quoted):
                yield from _by_any(host, _error(seen.packet, quoted, _ends(_round(here))))


def _by_any(host: Host, packet: dict[str, Any]) -> Iterator[Candidate]:
    own = {format_addr(a.family, a.local) for a in host.addresses}
    yield from (Candidate(dev, packet) for dev in _devices(host))
    if packet["src"] in own:
        yield Candidate(None, packet)


def _error(error: dict[str, Any], quoted: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """An ICMP error as it was before its address and what it quotes were translated back."""
    src = before["dst"] if error["src"] == quoted["dst"] else error["src"]
    return {**error, "src": src, "dst": before["src"], "inner": {**quoted, **before}}


def _round(t: Tuple) -> Tuple:
    """The tuple of what the other side was sent: addresses and ports of the answer exchanged."""
    return t._replace(src=t.dst, dst=t.src, sport=t.dport, dport=t.sport)


def _is(t: Tuple, packet: dict[str, Any]) -> bool:
    ends = tuple_json(t)
    return all(ends[key] == packet.get(key) for key in ends)


def _turned(t: Tuple, packet: dict[str, Any]) -> bool:
    back = tuple_json(t)
    if back["proto"] != packet["proto"] or (back["src"], back["dst"]) != (packet["dst"], packet["src"]):
        return False
    if "icmp_id" in back:
        return bool(back["icmp_id"] == packet.get("icmp_id"))
    return (back.get("sport"), back.get("dport")) == (packet.get("dport"), packet.get("sport"))


def _ends(t: Tuple) -> dict[str, Any]:
    return {k: v for k, v in tuple_json(t).items() if k in ("src", "dst", "sport", "dport", "icmp_id")}


def _anew(world: World, state: WorldState, host: Host, seen: Sighting) -> Iterator[Candidate]:
    """The first packet of a connection."""
    yield from _as_it_is(host, seen)
    yield from _translated(host, seen)


def _as_it_is(host: Host, seen: Sighting) -> Iterator[Candidate]:
    """Nothing was translated: sent by the host itself, or forwarded from any interface."""
    own = {format_addr(a.family, a.local) for a in host.addresses}
    if seen.packet["src"] in own:
        yield Candidate(None, seen.packet)
        yield Candidate(None, {**seen.packet, "src": None})
        return
    for dev in _devices(host):
        yield Candidate(dev, seen.packet)


def _translated(host: Host, seen: Sighting) -> Iterator[Candidate]:
    """Sources behind the other interfaces, destinations that rules rewrite, and both together."""
    sources = list(_sources(host, seen))
    targets = list(_targets(host, seen))
    for dst, dport in [(None, None), *targets]:
        changed = dict(seen.packet)
        if dst is not None:
            changed["dst"] = dst
        if dport is not None:
            changed["dport"] = dport
        if dst is not None or dport is not None:
            yield from _by_any(host, changed)
        for dev, src, network in sources:
            yield Candidate(dev, {**changed, "src": src}, network)


def _sources(host: Host, seen: Sighting) -> Iterator[tuple[str, str, str | None]]:
    """(interface, address, network it stands for): neighbours, connected networks, and what NAT rules name by ``-s``."""
    for dev in _devices(host):
        for address in host.addresses_of(dev):
            known = next((n.addr for n in host.neighbours if n.dev == dev and n.addr in address.network), None)
            yield dev, _member(host, address.network, known), str(address.network)
        for prefix in _routed(host, dev):
            yield dev, _member(host, prefix, None), str(prefix)
    for text in _nat_texts(host):
        for word in re.findall(r"(?<!! )(?<=-s )\S+", text):
            named = _prefix(word)
            if named is not None:
                for dev in _devices(host):
                    yield dev, _member(host, named, None), str(named) if named.plen < 32 else None


def _member(host: Host, network: Prefix, known: int | None) -> str:
    """An address of the network that is not the host's own."""
    own = {a.local for a in host.addresses}
    if known is not None:
        return format_addr(AF_INET, known)
    first = network.value + (network.plen < 31)
    while first in own and first + 1 in network:
        first += 1
    return format_addr(AF_INET, first)


def _routed(host: Host, dev: str) -> Iterator[Prefix]:
    for (family, table), routes in host.routes.items():
        for r in routes if family == AF_INET and table != 255 else ():
            if r.prefix.plen and any(n.dev == dev and n.via is not None for n in r.nexthops):
                yield r.prefix


def _targets(host: Host, seen: Sighting) -> Iterator[tuple[str | None, int | None]]:
    """Destinations (address, port) that a rule may have rewritten to what was seen."""
    own = [format_addr(AF_INET, a.local) for a in host.addresses if a.family == AF_INET and a.local >> 24 != 127]
    for text in _nat_texts(host):
        if not any(t in text for t in ("-j DNAT", "-j REDIRECT", "-j NETMAP")):
            continue
        named = [p for word in re.findall(r"(?<!! )(?<=-d )\S+", text) if (p := _prefix(word)) is not None]
        ports: list[int | None] = [int(p) for p in re.findall(r"(?:--dport |--dports |,)(\d+)", text) if int(p) < 65536]
        places = [format_addr(AF_INET, p.value + (seen_low(seen, p) if p.plen < 32 else 0)) for p in named] or own
        for place in places:
            for port in ports or [None]:
                yield place, port


def seen_low(seen: Sighting, prefix: Prefix) -> int:
    """The host bits of what was seen: NETMAP keeps them, and other rules do not care."""
    return parse_addr(seen.packet["dst"])[1] & ((1 << (32 - prefix.plen)) - 1)


def _nat_texts(host: Host) -> Iterator[str]:
    found = (r.text for t in host.tables if t.name == "nat" and t.family == AF_INET for r in t.all_rules())
    return islice(found, MOST_RULES)


def _prefix(word: str) -> Prefix | None:
    try:
        found = parse_prefix(word)
    except ValueError:
        return None
    return found if found.family == AF_INET else None


def _devices(host: Host) -> list[str]:
    return [name for name, link in host.links.items() if link.up and not link.loopback]
