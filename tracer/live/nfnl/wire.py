"""Netlink messages and their attributes as bytes: include/uapi/linux/netlink.h, linux/netfilter/nfnetlink.h.

Reading is our own and not pyroute2's: it has no message for traces, NFLOG or queues and no zone inside a conntrack
tuple, its sockets keep what arrives in memory without bound and do not say how much was lost, and what arrives once
per rule and packet has to be read in microseconds. Messages that *make* tables are built with it (tables.py).

    >>> attributes(attribute(1, b"eth0\0") + attribute(3, be32(7)))
    {1: b'eth0\x00', 3: b'\x00\x00\x00\x07'}
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE, NLM_F_APPEND = 0x1, 0x4, 0x300, 0x400, 0x800
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

# subsystems, the high byte of a message type
CTNETLINK, QUEUE, LOG, NFTABLES = 1, 3, 4, 10
BATCH_BEGIN, BATCH_END = 0x10, 0x11

# multicast groups, enum nfnetlink_groups
GROUP_CT_NEW, GROUP_CT_UPDATE, GROUP_CT_DESTROY, GROUP_NFTRACE = 1, 2, 3, 9

# families, include/uapi/linux/netfilter.h
INET, IPV4, ARP, NETDEV, BRIDGE, IPV6 = 1, 2, 3, 5, 7, 10
FAMILY_WORD = {INET: "inet", IPV4: "ip", ARP: "arp", NETDEV: "netdev", BRIDGE: "bridge", IPV6: "ip6"}
FAMILY_NUMBER = {word: number for number, word in FAMILY_WORD.items()}

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port id
_NFGEN = struct.Struct(">BBH")  # struct nfgenmsg: family, version, resource id
_ATTRIBUTE = struct.Struct("=HH")
PAYLOAD = _HEADER.size + _NFGEN.size  # where the attributes begin


class Message(NamedTuple):
    """One message as it came: ``type`` with its subsystem, the family and resource id of its nfgenmsg, the rest."""

    type: int
    flags: int
    sequence: int
    family: int
    resource: int
    body: bytes


def be16(value: int) -> bytes:
    return struct.pack(">H", value)


def be32(value: int) -> bytes:
    return struct.pack(">I", value & 0xFFFFFFFF)


def be64(value: int) -> bytes:
    return struct.pack(">Q", value)


def text(value: bytes | None) -> str | None:
    """A string attribute: up to its NUL."""
    return None if value is None else value.partition(b"\0")[0].decode(errors="replace")


def number(value: bytes | None) -> int | None:
    """An attribute in network order, whatever its width."""
    return None if value is None else int.from_bytes(value, "big")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """All attributes of a level; the last one wins. What is cut short ends the level, as in nla_ok()."""
    found = {}
    at, end = 0, len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        found[kind & NLA_TYPE_MASK] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The same one by one, for levels where a type occurs again and again (lists)."""
    at, end = 0, len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        yield kind & NLA_TYPE_MASK, data[at + 4 : at + length]
        at += length + 3 & ~3


def message(kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    """One message, ready to be sent."""
    body += b"\0" * (-len(body) % 4)
    return _HEADER.pack(PAYLOAD + len(body), kind, flags, sequence, 0) + _NFGEN.pack(family, 0, resource) + body


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of a datagram; for NLMSG_ERROR and NLMSG_DONE the body begins right after the header."""
    at, end = 0, len(datagram)
    while at + 16 <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, at)
        if length < 16 or at + length > end:
            break
        if kind in (NLMSG_ERROR, NLMSG_DONE) or length < PAYLOAD:
            yield Message(kind, flags, sequence, 0, 0, datagram[at + 16 : at + length])
        else:
            family, _, resource = _NFGEN.unpack_from(datagram, at + 16)
            yield Message(kind, flags, sequence, family, resource, datagram[at + PAYLOAD : at + length])
        at += length + 3 & ~3


def error_of(body: bytes) -> int:
    """The errno that an NLMSG_ERROR (or NLMSG_DONE) carries, 0 for an acknowledgement."""
    return -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
