"""Which packets are meant: addresses, protocol and ports of one direction, as far as they are known.

>>> flow = FlowKey.parse("udp", "10.0.0.1", "10.9.9.9", sport=4000, dport=53)
>>> flow.reversed()
FlowKey(family=2, proto=17, src=b'\\n\\t\\t\\t', dst=b'\\n\\x00\\x00\\x01', sport=53, dport=4000, iif=None)
>>> flow.covers(FlowKey.parse("udp", "10.0.0.1", "10.9.9.9", sport=4000, dport=53))
True
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ...sim.flow import Question

AF_INET, AF_INET6 = 2, 10
PORTS = (6, 17, 33, 132, 136)  # protocols whose header begins with two ports
ICMP, ICMPV6 = 1, 58


class FlowKey(NamedTuple):
    """None: any. Addresses in network order. ``sport`` of ICMP: the identifier (echo)."""

    family: int
    proto: int | None = None
    src: bytes | None = None
    dst: bytes | None = None
    sport: int | None = None
    dport: int | None = None
    iif: str | None = None  # received there; none: any interface, or sent by this host

    @classmethod
    def parse(cls, proto: str | int | None, src: str | None = None, dst: str | None = None,
              sport: int | None = None, dport: int | None = None, iif: str | None = None) -> FlowKey:  # fmt: skip
        """From words. Raises ValueError for an address or a protocol that is none."""
        family = AF_INET6 if ":" in (src or dst or "") else AF_INET
        ends = [None if end is None else _packed(family, end) for end in (src, dst)]
        return cls(family, _protocol(proto), ends[0], ends[1], sport, dport, iif)

    @classmethod
    def of_question(cls, question: Question) -> FlowKey:
        """From a flow as ``sim.flow.parse_flow`` understood it."""
        from ...sim.flow import PING_ID

        p = question.packet
        echo = p.get("icmp_id")
        sport = (
            p.get("sport") if echo in (None, PING_ID) else echo
        )  # a flow that names no id gets that one: any will do
        sport = sport if isinstance(sport, int) else None
        return cls.parse(p["proto"], p.get("src"), p["dst"], sport, p.get("dport") or None, question.in_dev)

    def reversed(self) -> FlowKey:
        """The other direction of the same tuple (an echo's identifier stays where it is)."""
        if self.proto in (ICMP, ICMPV6):
            return self._replace(src=self.dst, dst=self.src, iif=None)
        return self._replace(src=self.dst, dst=self.src, sport=self.dport, dport=self.sport, iif=None)

    def covers(self, other: FlowKey) -> bool:
        """Whether everything that this key says holds for the other one."""
        return all(mine in (None, theirs) for mine, theirs in zip(self[:6], other[:6], strict=True))

    def __str__(self) -> str:
        src, dst = (_end(self.family, a, p) for a, p in ((self.src, self.sport), (self.dst, self.dport)))
        return f"{src} → {dst}" + (f" {protocol_name(self.proto)}" if self.proto is not None else "")


def protocol_name(number: int) -> str:
    """``tcp``, ``udp`` … or the number, without asking any database."""
    return _NAMES.get(number, str(number))


_NAMES = {
    1: "icmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    132: "sctp",
    136: "udplite",
}
_NUMBERS = {name: number for number, name in _NAMES.items()} | {"ipv6-icmp": 58, "icmp6": 58}


def _protocol(word: str | int | None) -> int | None:
    if word is None or isinstance(word, int):
        return word
    if word.isdigit() and int(word) < 256:
        return int(word)
    if word in _NUMBERS:
        return _NUMBERS[word]
    raise ValueError(f"not a protocol: {word[:40]!r}")


def _packed(family: int, word: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6 if family == AF_INET6 else socket.AF_INET, word.partition("%")[0])
    except OSError:
        raise ValueError(f"not an address: {word[:60]!r}") from None


def _end(family: int, address: bytes | None, port: int | None) -> str:
    if address is None:
        return "any" if port is None else f"any:{port}"
    word = socket.inet_ntop(socket.AF_INET6 if family == AF_INET6 else socket.AF_INET, address)
    if port is None:
        return word
    return f"[{word}]:{port}" if family == AF_INET6 else f"{word}:{port}"
