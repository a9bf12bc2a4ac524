"""Other flows, built from the world's own boundaries: what a fix would change besides the flow it is for.

Sources are every host itself, a neighbour and an outsider at every edge, and addresses just within and just beyond each
prefix that a rule asks for; destinations every host's address, an address outside, and the same of what rules and routes
name; services the ports that rules name, and the next ones. The list is the same on every run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from ..engine.conntrack import active
from ..engine.play import play
from ..errors import NattraceError
from ..flow import Question
from ..model.addr import AF_INET, format_addr, parse_prefix
from ..model.rule import Rule
from ..model.world import Host, World
from ..record import NamedTuple
from .trial import source_lost
from .whatif import Edit, RuleEdit

OUTSIDE, OUTSIDER = "198.51.100.80", "203.0.113.9"  # RFC 5737: nobody's
MOST_RULES = 200  # of a table are read for addresses and ports
MOST_SOURCES = 12  # of a host's rules

Seen = tuple[Any, ...]
Sources = Callable[[World, Host], Iterable[tuple[str | None, str | None]]]


def flows(world: World, question: Question, limit: int) -> list[Question]:
    """Up to ``limit`` flows, spread evenly over all combinations, and a quarter more from the prefixes that rules ask for."""
    if question.family != AF_INET:
        return []
    asked = _spread(_combinations(world, question, _asked_for), question, limit // 4)
    return [*_spread(_combinations(world, question, _sources), question, limit), *asked]


def _spread(combinations: Iterator[Question], question: Question, limit: int) -> list[Question]:
    every = [q for q in combinations if q.ends() != question.ends()]
    if len(every) <= limit:
        return every
    return [every[i * len(every) // limit] for i in range(limit)]


def _combinations(world: World, question: Question, sources: Sources) -> Iterator[Question]:
    places = list(_destinations(world, question))
    services = list(_services(world))
    for host in world.hosts.values():
        for in_dev, src in sources(world, host):
            for dst in places:
                if dst == src:
                    continue
                for proto, port in services:
                    packet: dict[str, Any] = {"proto": proto, "dst": dst}
                    if src is not None:
                        packet["src"] = src
                    if port is None:
                        packet["icmp_id"] = 77
                    else:
                        packet |= {"sport": 41000, "dport": port}
                    yield Question("", host.name, in_dev, packet)


def _sources(world: World, host: Host) -> Iterator[tuple[str | None, str | None]]:
    yield None, None
    for address in host.addresses:
        if (
            address.family != AF_INET
            or address.local >> 24 == 127
            or world.segment_of(host.name, address.dev) is not None
        ):
            continue
        if address.plen < 31:
            neighbour = address.network.value + 1
            yield address.dev, format_addr(AF_INET, neighbour + (neighbour == address.local))
        yield address.dev, OUTSIDER


def _asked_for(world: World, host: Host) -> Iterator[tuple[str, str]]:
    """Both sides of the boundary of each source prefix in the host's rules, by the edge they would come from."""
    edges = [
        a
        for a in host.addresses
        if a.family == AF_INET and a.local >> 24 != 127 and world.segment_of(host.name, a.dev) is None
    ]
    own = {a.local for a in host.addresses}
    seen: set[int] = set()
    for table in host.tables if edges else ():
        for rule in islice(table.all_rules(), MOST_RULES):
            for text in re.findall(r"-s (\d+\.\d+\.\d+\.\d+(?:/\d+)?)", rule.text):
                for number in _both_sides(text):
                    if number in seen or number in own or len(seen) >= MOST_SOURCES:
                        continue
                    seen.add(number)
                    near = [a.dev for a in edges if a.plen < 31 and number in a.network]
                    said = re.search(r"(?<!! )-i (\S+)", rule.text)
                    dev = near[0] if near else said[1] if said and said[1] in {a.dev for a in edges} else edges[0].dev
                    yield dev, format_addr(AF_INET, number)


def _both_sides(text: str) -> list[int]:
    """An address just within a prefix, and the first one beyond it."""
    try:
        prefix = parse_prefix(text)
    except ValueError:
        return []
    beyond = prefix.value + (1 << (32 - prefix.plen))
    return [prefix.value + (prefix.plen < 31), *([beyond] if beyond < 0xE0000000 else [])]


def _destinations(world: World, question: Question) -> list[str]:
    found: dict[str, None] = {question.packet["dst"]: None, OUTSIDE: None}
    for host in world.hosts.values():
        for address in host.addresses:
            if address.family == AF_INET and address.local >> 24 != 127:
                found[format_addr(AF_INET, address.local)] = None
    for rule in _rules(world):
        for text in re.findall(r"(?:-d|--to-destination|--to) (\d+\.\d+\.\d+\.\d+(?:/\d+)?)", rule.text):
            found |= dict.fromkeys(format_addr(AF_INET, number) for number in _both_sides(text)[:1])
    for host in world.hosts.values():
        for routes in host.routes.values():
            for route in routes[:50]:
                if route.prefix.family == AF_INET and 0 < route.prefix.plen < 31 and route.type == "unicast":
                    found[format_addr(AF_INET, route.prefix.value + 5)] = None
    return list(islice(found, 24))


def _services(world: World) -> list[tuple[str, int | None]]:
    found: dict[tuple[str, int | None], None] = {("icmp", None): None, ("tcp", 443): None, ("udp", 53): None}
    for rule in _rules(world):
        for proto, port in re.findall(r"-p (tcp|udp).*?--dports? (\d+)", rule.text):
            found[proto, int(port)] = None
            found[proto, min(int(port) + 1, 65535)] = None
    return list(islice(found, 12))


def _rules(world: World) -> Iterator[Rule]:
    for host in world.hosts.values():
        for table in host.tables:
            yield from islice(table.all_rules(), MOST_RULES)


class Sampled(NamedTuple):
    """A flow, what an observer sees of it (None: it cannot be asked), and the (host, interface) it comes in by."""

    question: Question
    seen: Seen | None
    visits: frozenset[tuple[str, str | None]] = frozenset()


def outcome(world: World, question: Question) -> Sampled:
    """Play a flow's first packet."""
    try:
        state, injection = question.start(world)
        answer = play(world, state, injection, max_leaves=8)
    except NattraceError:
        return Sampled(question, None)
    seen = []
    for group in answer.groups():
        leaf = group[0]
        p = leaf.packet
        ends = tuple(str(p.get(k)) for k in ("src", "dst", "sport", "dport"))
        lost = leaf.outcome not in ("delivered", "left") or (
            leaf.outcome == "left" and source_lost(world, leaf) is not None
        )
        seen.append((leaf.outcome, leaf.at.get("host"), leaf.at.get("interface"), *ends, lost))
    visits = frozenset((hop.host, hop.in_dev) for leaf in answer.leaves for hop in leaf.hops)
    return Sampled(question, tuple(seen), visits)


def _untouched(flow: Sampled, edits: tuple[Edit, ...], tracking: dict[str, bool]) -> bool:
    """Whether the changes lie off a flow's way for certain: another host, or a rule for another input interface."""
    for edit in edits:
        here = {dev for host, dev in flow.visits if host == edit.host}
        if not here or (isinstance(edit, RuleEdit) and tracking.get(edit.host) and _other_input(edit.text, here)):
            continue
        return False
    return flow.seen is not None


def _other_input(text: str, devices: set[str | None]) -> bool:
    words = text.split()
    if "-i" not in words or ("-A" not in words and "-I" not in words):
        return False
    place = words.index("-i")
    return words[place - 1] != "!" and "+" not in words[place + 1] and words[place + 1] not in devices


def side_effects(
    before: list[Sampled], world: World, edits: tuple[Edit, ...], old_world: World
) -> tuple[list[str], int]:
    """Flows of a sample that fare differently in ``world``, in words; those that it cures are only counted."""
    changed, cured = [], 0
    tracking = {edit.host: active(old_world.hosts[edit.host]) for edit in edits}
    for flow in before:
        question, old = flow.question, flow.seen
        if _untouched(flow, edits, tracking):
            continue
        new = outcome(world, question).seen
        if new == old:
            continue
        was_lost = bool(old) and all(one[-1] for one in old or ())
        is_lost = bool(new) and all(one[-1] for one in new or ())
        if was_lost and new and not any(one[-1] for one in new):
            cured += 1
        elif not (was_lost and is_lost):
            changed.append(f"{question.flow().replace('->', '→')}: {_words(old)} → {_words(new)}")
    return changed, cured


def _words(seen: Seen | None) -> str:
    if not seen:
        return "cannot be asked"
    if len(seen) > 1:
        return "one of " + ", ".join(dict.fromkeys(str(s[0]) for s in seen))
    outcome_, host, dev, src, dst, *_ = seen[0]
    if outcome_ in ("left", "delivered"):
        verb = "leaves by" if outcome_ == "left" else "delivered at"
        return f"{verb} {host}{' ' + dev if dev and outcome_ == 'left' else ''} as {src} → {dst}"
    return f"{outcome_} at {host}"
