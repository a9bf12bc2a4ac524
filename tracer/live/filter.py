"""Which packets are wanted, as the programs in the kernel evaluate it (``bpf/include/filter.h``).

A term is held against either tuple of the packet's conntrack entry, in both directions, so that NAT never loses the
packet and replies are seen; before conntrack has looked, against the headers and against the tuples learned so far.
The other conditions (mark, uid, interface, pcap expression) hold for some packets of a flow at some place only; the flow
of a packet that met them is followed from there on.

    Filter.of(proto="udp", src="10.0.0.2", dport=53)
    Filter.of(dst="2001:db8::/32", iface="eth0")
    Filter.everything()
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from ...sim.errors import InputError
from .event import AF_INET, AF_INET6

LEARN, ANY, FIB, PCAP, UID, IFACE, MARK, FRESH = 1, 2, 4, 8, 16, 32, 64, 128
ONE_WAY = 1
MAX_TERMS, MAX_NAMESPACES, MANY = 2, 16, 255
PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "sctp": 132,
    "udplite": 136,
}
TERM = struct.Struct("<16s16s16s16sHHHHHBBI")
HEAD = struct.Struct("<8I16I")
SIZE = HEAD.size + MAX_TERMS * TERM.size

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Term:
    """One flow or set of flows; what is None is anything. ``one_way``: only in this direction.

    The id of an ICMP query counts as its ``sport``, in both directions.
    """

    proto: int | None = None
    src: Network | None = None
    dst: Network | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    one_way: bool = False

    def encode(self) -> bytes:
        """struct term."""
        family = next((net.version for net in (self.src, self.dst) if net is not None), None)
        l3num = {4: AF_INET, 6: AF_INET6, None: 0}[family]
        sport, dport = self.sport or (0, 0), self.dport or (0, 0)
        return TERM.pack(
            *_address(self.src),
            *_address(self.dst),
            *sport,
            *dport,
            l3num,
            self.proto or 0,
            ONE_WAY if self.one_way else 0,
            0,
        )


def _address(net: Network | None) -> tuple[bytes, bytes]:
    if net is None:
        return b"", b""
    return net.network_address.packed, net.netmask.packed


@dataclass(frozen=True)
class Filter:
    """Any of the terms, and all of the rest. Without terms: every packet."""

    terms: tuple[Term, ...] = ()
    ifindex: int | None = None
    mark: tuple[int, int] | None = None  # value, mask
    uid: int | None = None
    pcap: str | None = None  # a tcpdump expression about the packet from its IP header on
    fresh: bool = False  # only packets whose conntrack entry is not confirmed yet: the first of each connection

    @classmethod
    def everything(cls) -> Filter:
        """Every packet of the namespaces."""
        return cls()

    @classmethod
    def of(
        cls,
        proto: str | int | None = None,
        src: str | None = None,
        dst: str | None = None,
        sport: int | tuple[int, int] | None = None,
        dport: int | tuple[int, int] | None = None,
        one_way: bool = False,
    ) -> Filter:
        """A filter of one term, from text as users write it. Raises InputError."""
        term = Term(
            _protocol(proto), _network(src), _network(dst), _ports(sport), _ports(dport), one_way,
        )  # fmt: skip
        if term.src is not None and term.dst is not None and term.src.version != term.dst.version:
            raise InputError(f"{src} and {dst} are of different families")
        return cls((term,))

    def encode(self, namespaces: list[int], fib: bool, learn: bool) -> bytes:
        """struct config for these namespaces (inode numbers). Raises InputError."""
        if len(self.terms) > MAX_TERMS:
            raise InputError(f"a filter has at most {MAX_TERMS} terms")
        if len(namespaces) > MAX_NAMESPACES:
            count, inums = MANY, [0] * MAX_NAMESPACES  # a map holds them
        else:
            count, inums = len(namespaces), namespaces + [0] * (MAX_NAMESPACES - len(namespaces))
        side = {UID: self.uid, IFACE: self.ifindex, MARK: self.mark, PCAP: self.pcap}
        flags = sum(flag for flag, value in side.items() if value is not None)
        flags |= (FIB if fib else 0) | (0 if self.terms else ANY) | (LEARN if flags or (learn and self.terms) else 0)
        flags |= FRESH if self.fresh else 0
        mark, mask = self.mark or (0, 0)
        head = HEAD.pack(
            flags, len(self.terms), count, self.ifindex or 0, mark & mask, mask, self.uid or 0, 0, *inums,
        )  # fmt: skip
        return (head + b"".join(term.encode() for term in self.terms)).ljust(SIZE, b"\0")


def _protocol(value: str | int | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    if value.isdigit() and int(value) < 256:
        return int(value)
    if value not in PROTOCOLS:
        raise InputError(f"{value!r} is no protocol", remedy=f"one of {', '.join(PROTOCOLS)}, or a number")
    return PROTOCOLS[value]


def _network(text: str | None) -> Network | None:
    if text is None:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InputError(f"{error}") from None


def _ports(value: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if value is None:
        return None
    low, high = (value, value) if isinstance(value, int) else value
    if not 0 <= low <= high <= 65535 or high == 0:
        raise InputError(f"{low}-{high} are no ports")
    return low, high
