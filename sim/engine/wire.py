"""The packet as bytes, from the IP header on: what u32, bpf and string read. Checksums are filled in and right.

Some bytes are nobody's to know: a port that the kernel drew, the IP id of a packet that the host made itself, the
checksum of a TCP or UDP header (left to the device on the sending host, so a capture in between sees another one).
:func:`build` returns these as spans beside the bytes; a match that reads one of them cannot be decided.
A payload that nobody gave is zero bytes up to the packet's length.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.drawn import Drawn, Number
from ..model.packet import (
    IPPROTO_AH,
    IPPROTO_DCCP,
    IPPROTO_ESP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IPCOMP,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    Skb,
)
from ..record import NamedTuple

if TYPE_CHECKING:
    from .run import Ctx

# sizes of the fixed headers that the kernel's matches insist on (skb_header_pointer)
L4_HEADER = {
    IPPROTO_TCP: 20, IPPROTO_UDP: 8, IPPROTO_UDPLITE: 8, IPPROTO_ICMP: 8, IPPROTO_ICMPV6: 8, IPPROTO_SCTP: 12,
    IPPROTO_DCCP: 12, IPPROTO_ESP: 8, IPPROTO_AH: 12, IPPROTO_IPCOMP: 4,
}  # fmt: skip

Span = tuple[int, int]  # [start, end) in bytes from the IP header


class Wire(NamedTuple):
    """``data``: exactly ``skb.length`` bytes; ``unknown``: spans whose value is not decided; ``given``: where the
    bytes that somebody stated end (zero filling follows)."""

    data: bytes
    unknown: tuple[Span, ...]
    given: int

    def undecided(self, start: int, end: int) -> bool:
        """Whether a read of [start, end) depends on a byte that nobody can know."""
        return any(lo < end and start < hi for lo, hi in self.unknown)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def header_length(skb: Skb) -> int:
    """Length of the network header with its options."""
    return 20 + (len(skb.ip_options) + 3) // 4 * 4 if skb.family == AF_INET else 40


def transport_length(skb: Skb) -> int:
    """Bytes after the network header."""
    return max(0, skb.length - header_length(skb))


def tcp_options(skb: Skb) -> bytes:
    """Option bytes of a TCP header, padded to a multiple of four."""
    raw = skb.tcp_options
    if raw is None:
        raw = b"" if skb.mss is None else struct.pack("!BBH", 2, 4, skb.mss)
    return raw + b"\0" * (-len(raw) % 4)


def to_bytes(skb: Skb) -> bytes:
    """The packet from the IP header on; bytes that cannot be known are zero."""
    return build(skb).data


def build(skb: Skb, ctx: Ctx | None = None) -> Wire:
    """The packet from the IP header on with the spans that are not decided."""
    unknown: list[Span] = []
    start = header_length(skb)
    room = max(0, skb.length - start)
    if skb.frag:
        head = b""
    else:
        head = _transport(skb, ctx, start, unknown)
    body = head + (skb.payload or b"")
    given = start + min(len(body), room)
    body = (body + b"\0" * (room - len(body)))[:room]
    if not skb.frag:
        body = _fill_checksum(skb, body, start, unknown)
    data = (_network(skb, unknown) + body)[: max(skb.length, start)]
    return Wire(data, tuple(unknown), given)


def _number(value: Number, ctx: Ctx | None, at: int, unknown: list[Span]) -> int:
    if ctx is not None:
        value = ctx.ws.known(value)
    if isinstance(value, Drawn):
        unknown.append((at, at + 2))
        return 0
    return value


def _network(skb: Skb, unknown: list[Span]) -> bytes:
    if skb.family != AF_INET:
        word = 6 << 28 | skb.tos << 20
        addresses = skb.src.to_bytes(16, "big") + skb.dst.to_bytes(16, "big")
        return struct.pack("!IHBB", word, max(0, skb.length - 40), skb.proto, skb.ttl) + addresses
    options = skb.ip_options + b"\0" * (-len(skb.ip_options) % 4)
    version = 0x45 + len(options) // 4
    flags = skb.df << 14 | skb.mf << 13 | skb.frag // 8
    head = struct.pack("!BBHHHBBHII", version, skb.tos, skb.length & 0xFFFF, skb.ip_id, flags, skb.ttl, skb.proto, 0,
                       skb.src, skb.dst) + options  # fmt: skip
    if not skb.ip_id:  # the kernel picks one (ip_select_ident) and nobody said which
        unknown += [(4, 6), (10, 12)]
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def _transport(skb: Skb, ctx: Ctx | None, at: int, unknown: list[Span]) -> bytes:
    """The transport header with a zero checksum."""
    proto = skb.proto
    if skb.is_icmp:
        return _icmp(skb, ctx, at, unknown)
    if proto in (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_DCCP):
        ports = struct.pack("!HH", _number(skb.sport, ctx, at, unknown), _number(skb.dport, ctx, at + 2, unknown))
        if proto == IPPROTO_TCP:
            options = tcp_options(skb)
            head = struct.pack("!IIBBHHH", skb.tcp_seq & 0xFFFFFFFF, skb.tcp_ack & 0xFFFFFFFF,
                               (5 + len(options) // 4) << 4, skb.tcp_flags, skb.window & 0xFFFF, 0, 0)  # fmt: skip
            return ports + head + options
        if proto == IPPROTO_SCTP:
            chunks = b"".join(struct.pack("!BBH", kind, flags, 4) for kind, flags in skb.chunk_types)
            return ports + bytes(8) + chunks
        if proto == IPPROTO_DCCP:
            rest = dccp_header_length(skb.dccp_type)
            return ports + struct.pack("!BBHB", rest // 4, 0, 0, skb.dccp_type << 1 | 1) + bytes(rest - 9)
        return ports + struct.pack("!HH", transport_length(skb) & 0xFFFF, 0)
    if proto == IPPROTO_ESP:
        return struct.pack("!II", skb.spi, 0)
    if proto == IPPROTO_AH:
        return struct.pack("!BBHII", 59, 1, 0, skb.spi, 0)
    if proto == IPPROTO_IPCOMP:
        return struct.pack("!BBH", 59, 0, skb.spi & 0xFFFF)
    if proto == IPPROTO_GRE:
        return struct.pack("!HHI", 0x2000, 0x0800, skb.gre_key) if skb.gre_key else struct.pack("!HH", 0, 0x0800)
    return b""


def dccp_header_length(kind: int) -> int:
    """Bytes of a DCCP header with 48-bit sequence numbers (dccp_packet_hdr_len(), include/linux/dccp.h)."""
    return 16 + {0: 4, 1: 12, 2: 0, 7: 12}.get(kind, 8)


def _icmp(skb: Skb, ctx: Ctx | None, at: int, unknown: list[Span]) -> bytes:
    if skb.inner is None:
        ident = _number(skb.icmp_id, ctx, at + 4, unknown)
        return struct.pack("!BBHHH", skb.icmp_type, skb.icmp_code, 0, ident, skb.icmp_seq & 0xFFFF)
    rest = skb.icmp_gateway or skb.icmp_mtu
    inside = build(skb.inner, ctx)
    shift = at + 8
    unknown += [(lo + shift, hi + shift) for lo, hi in inside.unknown]
    return struct.pack("!BBHI", skb.icmp_type, skb.icmp_code, 0, rest) + inside.data


_CHECKSUM_AT = {
    IPPROTO_TCP: 16,
    IPPROTO_UDP: 6,
    IPPROTO_UDPLITE: 6,
    IPPROTO_ICMP: 2,
    IPPROTO_ICMPV6: 2,
    IPPROTO_DCCP: 6,
}


def _fill_checksum(skb: Skb, body: bytes, start: int, unknown: list[Span]) -> bytes:
    at = _CHECKSUM_AT.get(skb.proto)
    if at is None or len(body) < at + 2:
        return body
    if skb.proto != IPPROTO_ICMP or any(lo >= start for lo, _ in unknown):
        unknown.append((start + at, start + at + 2))
    size = 4 if skb.family == AF_INET else 16
    pseudo = b""
    if skb.proto != IPPROTO_ICMP:
        pseudo = skb.src.to_bytes(size, "big") + skb.dst.to_bytes(size, "big")
        pseudo += struct.pack("!IHBB", len(body), 0, 0, skb.proto)
    value = checksum(pseudo + body)
    if value == 0 and skb.proto in (IPPROTO_UDP, IPPROTO_UDPLITE):
        value = 0xFFFF
    return body[:at] + struct.pack("!H", value) + body[at + 2 :]


__all__ = [
    "L4_HEADER", "Wire", "build", "checksum", "dccp_header_length", "header_length", "tcp_options", "to_bytes",
    "transport_length",
]  # fmt: skip
