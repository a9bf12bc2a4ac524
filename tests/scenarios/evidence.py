"""What can be seen of a situation, and statements about it: the vocabulary of every scenario test.

The same statements are put to two judges: ``predicted.py`` (the simulator, from the bundled snapshot) and
``observed.py`` (the kernel, in namespaces). Both hand over an :class:`Evidence`.

    Case("EC2-B leaves by eth1", "two-uplinks",
         does=[ping("ec2b", "203.0.113.9")],
         shows=[sees("nat:eth1", "172.31.8.208 → 203.0.113.9"), answered("ec2b", by="203.0.113.9")])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from ..differential.compare import same
from ..differential.kernel import Final

# ------------------------------------------------------------------------------------------ what is done


@dataclass(frozen=True)
class Packet:
    """One packet put into a host; its natural answer belongs to it."""

    record: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """What an administrator types on a host between two packets: ``iptables …``, ``ip rule …``, ``sysctl -w …``."""

    host: str
    text: str


@dataclass(frozen=True)
class Pause:
    """Time that passes."""

    seconds: float


Do = Packet | Command | Pause


def ping(host: str, dst: str, **keys: Any) -> Packet:
    """An echo request as ``ping`` sends it: 84 bytes, id 4711."""
    return Packet({"host": host, "in": None, "proto": "icmp", "dst": dst, "icmp_id": 4711, "seq": 1, "len": 84, **keys})


def udp(host: str, dst: str, dport: int, **keys: Any) -> Packet:
    return Packet(
        {"host": host, "in": None, "proto": "udp", "dst": dst, "sport": 40000, "dport": dport, "len": 60, **keys}
    )


def connect(host: str, dst: str, dport: int, **keys: Any) -> Packet:
    """The SYN of a ``connect()``."""
    return Packet(
        {
            "host": host,
            "in": None,
            "proto": "tcp",
            "dst": dst,
            "sport": 40000,
            "dport": dport,
            "len": 60,
            "df": True,
            **keys,
        }
    )


def types(host: str, text: str) -> Command:
    return Command(host, text)


# ------------------------------------------------------------------------------------------ what is seen


@dataclass
class Evidence:
    """``captures``: every packet at every interface ("in", "out"), and delivered ("arrived"), in order, all exchanges.
    ``errnos``: what each local send returned. ``counters``: host → (table, chain, rule) → packets. ``entries``: host →
    comparable conntrack entries. ``results``: the simulator's answers, None from the kernel. ``story``: for humans."""

    captures: list[Final] = field(default_factory=list)
    errnos: list[int | None] = field(default_factory=list)
    counters: dict[str, dict[tuple[str, str, int], int]] = field(default_factory=dict)
    entries: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    results: list[dict[str, Any]] | None = None
    story: str = ""

    def at(self, place: str) -> list[Final]:
        """Captures at ``host:dev`` or anywhere on ``host``."""
        host, _, dev = place.partition(":")
        return [f for f in self.captures if f.host == host and f.kind != "arrived" and dev in ("", f.dev)]


def line(final: Final) -> str:
    """One capture as tcpdump would write it."""
    p = final.packet
    about = (
        f" {p.get('flags', '')} {p['sport']} → {p['dport']}"
        if "sport" in p
        else f" type {p.get('type')}/{p.get('code')} id {p.get('icmp_id')}"
    )
    return f"{final.host}:{final.dev} {final.kind}  {p['src']} → {p['dst']}  {p['proto']}{about} ttl {p['ttl']} len {p['len']}"


class Check:
    """A statement. ``predicted_only``: it is about the simulator's words, which the kernel has none of."""

    predicted_only = False

    def __init__(self, words: str, holds: Callable[[Evidence], bool], predicted_only: bool = False) -> None:
        self.words, self.holds, self.predicted_only = words, holds, predicted_only

    def __call__(self, evidence: Evidence) -> None:
        if not self.holds(evidence):
            seen = "\n".join(line(f) for f in evidence.captures) or "(no packet at any interface)"
            pytest.fail(f"does not hold: {self.words}\n\ncaptures:\n{seen}\n\n{evidence.story}", pytrace=False)


class Drawn:
    """A number the kernel drew: anything but ``original``."""

    def __init__(self, original: int) -> None:
        self.original = original

    def __repr__(self) -> str:
        return f"drawn, not {self.original}"

    def fits(self, actual: Any) -> bool:
        return isinstance(actual, dict) or (isinstance(actual, int) and actual != self.original)


def _is(packet: dict[str, Any], addresses: str, keys: dict[str, Any]) -> bool:
    source, _, target = addresses.partition(" → ")
    if (packet["src"], packet["dst"]) != (source, target):
        return False
    for name, wanted in keys.items():
        actual = packet.get(name)
        fits = wanted.fits(actual) if isinstance(wanted, Drawn) else actual == wanted or same(actual, wanted)
        if not fits:
            return False
    return True


def sees(place: str, addresses: str, times: int | None = None, kind: str | None = None, **keys: Any) -> Check:
    """A capture at ``host:dev`` shows a packet ``src → dst`` with these header fields."""

    def holds(evidence: Evidence) -> bool:
        found = [f for f in evidence.at(place) if kind in (None, f.kind) and _is(f.packet, addresses, keys)]
        return bool(found) if times is None else len(found) == times

    return Check(f"a capture at {place} sees {addresses} {keys or ''}", holds)


def never_sees(place: str, addresses: str | None = None, kind: str | None = None, **keys: Any) -> Check:
    """A capture there shows no such packet (none at all, without addresses)."""

    def holds(evidence: Evidence) -> bool:
        found = [f for f in evidence.at(place) if kind in (None, f.kind)]
        return not any(addresses is None or _is(f.packet, addresses, keys) for f in found)

    return Check(f"a capture at {place} never sees {addresses or 'anything'} {keys or ''}", holds)


def _arrived(evidence: Evidence, host: str, src: str | None, keys: dict[str, Any]) -> bool:
    for f in evidence.captures:
        if f.kind == "arrived" and f.host == host and src in (None, f.packet["src"]):
            if _is(f.packet, f"{f.packet['src']} → {f.packet['dst']}", keys):
                return True
    return False


def reaches(host: str, src: str | None = None, **keys: Any) -> Check:
    """A packet is delivered on a host."""
    return Check(f"{host} gets a packet of {src} {keys}", lambda e: _arrived(e, host, src, keys))


def answered(host: str, by: str, **keys: Any) -> Check:
    """The answer (no ICMP error) is delivered to the asker."""

    def holds(evidence: Evidence) -> bool:
        return any(
            f.kind == "arrived"
            and f.host == host
            and "inner" not in f.packet
            and _is(f.packet, f"{by} → {f.packet['dst']}", keys)
            for f in evidence.captures
        )

    return Check(f"{host} is answered by {by} {keys or ''}", holds)


def unanswered(host: str) -> Check:
    """Nothing at all is delivered to the asker."""
    return Check(
        f"{host} gets no answer", lambda e: not any(f.kind == "arrived" and f.host == host for f in e.captures)
    )


def told(host: str, icmp: tuple[int, int], by: str, **keys: Any) -> Check:
    """An ICMP error is delivered to a host."""
    keys = {"type": icmp[0], "code": icmp[1], **keys}
    return Check(f"{by} tells {host} ICMP {icmp[0]}/{icmp[1]}", lambda e: _arrived(e, host, by, keys))


def fails_with(errno: int, packet: int = 0) -> Check:
    """What the sender's system call returned."""
    return Check(f"send {packet} fails with errno {errno}", lambda e: e.errnos[packet] == errno)


def counted(host: str, **rules: int) -> Check:
    """Packets per rule; ``nat_POSTROUTING_1=3``."""

    def holds(evidence: Evidence) -> bool:
        have = evidence.counters.get(host, {})
        return all(have.get(_rule(name), 0) == wanted for name, wanted in rules.items())

    return Check(f"rule counters of {host}: {rules}", holds)


def _rule(name: str) -> tuple[str, str, int]:
    table, chain, number = name.split("_")
    return table, chain, int(number)


def tracks(host: str, *entries: str, zones: Iterable[tuple[int, int]] | None = None) -> Check:
    """Exactly these entries, ``src → dst | src → dst`` of both directions; ``zones`` in the same order."""
    wanted_zones = list(zones) if zones is not None else [(0, 0)] * len(entries)
    wanted = sorted(zip(entries, wanted_zones, strict=True))

    def holds(evidence: Evidence) -> bool:
        have = [(f"{o[0]} → {o[1]} | {r[0]} → {r[1]}", z) for _, o, r, z, *_ in evidence.entries.get(host, [])]
        return sorted(have) == wanted

    return Check(f"conntrack of {host}: {wanted}", holds)


def blames(code: str, where: str | None = None, packet: int = -1, reply: bool = False) -> Check:
    """The simulator's reason: its code and the place it names."""

    def holds(evidence: Evidence) -> bool:
        result = (evidence.results or [])[packet]
        result = (result.get("reply") or {}) if reply else result
        reason = result.get("reason") or {}
        return reason.get("code") == code and (where is None or str(reason.get("where") or "").startswith(where))

    return Check(f"the reason is {code} {where or ''}", holds, predicted_only=True)


def notes(host: str, stage: str, words: str, hop: int | None = None) -> Check:
    """Some step of a stage says these words (``text`` or ``note``)."""

    def holds(evidence: Evidence) -> bool:
        for result in evidence.results or []:
            for number, h in enumerate(result["hops"]):
                if h["host"] == host and hop in (None, number):
                    for step in h["steps"]:
                        if step["stage"] == stage and words in f"{step['text']} {step['note']}":
                            return True
        return False

    return Check(f"a {stage} step of {host} says {words!r}", holds, predicted_only=True)


def passes(host: str, *order: str) -> Check:
    """The decisions of the host's first hop, in order: ``raw PREROUTING``, ``routing`` …"""

    def holds(evidence: Evidence) -> bool:
        hop = next(h for h in (evidence.results or [])[0]["hops"] if h["host"] == host)
        have: list[str] = []
        for step in hop["steps"]:
            name = f"{step['stage']} {step['hook']}" if step["hook"] else step["stage"]
            if name in order and (not have or have[-1] != name):
                have.append(name)
        return have == list(order)

    return Check(f"{host} decides in the order {', '.join(order)}", holds, predicted_only=True)


@dataclass(frozen=True)
class Case:
    """``id``: what is claimed, in words. ``does`` in a fresh copy of the stage ``shows`` these things."""

    id: str
    stage: str
    does: list[Do]
    shows: list[Check]
