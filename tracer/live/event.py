"""The record that every probe writes: ``bpf/include/event.h`` as a numpy type, its kinds, and small readers of its fields.

All backends (netfilter links, tracepoints, kprobes) write this one record, so that everything above reads one form.

    >>> import numpy
    >>> events = numpy.zeros(1, EVENT)
    >>> events["kind"] = KIND.tap
    >>> KIND(int(events["kind"][0])).name
    'tap'
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VERSION = 1  # of the layout; the same number stands in event.h and in every recording


class KIND(IntEnum):
    """What an event tells. The numbers are those of event.h.

    ``tap``        the packet at a place between two chains of a hook (``hook``, ``prio``)
    ``rx``         a device hands the packet to layer 3 (netif_receive_skb)
    ``tx``         layer 3 hands the packet to a device (net_dev_queue)
    ``drop``       the packet is freed with a reason (``reason``; ``aux``: address in the kernel that did it)
    ``consume``    the packet is freed after use (``aux`` as above)
    ``icmp_send``  an ICMP error is made because of this packet (``reason``: type << 8 | code)
    ``fib``        a route was looked up (``table``, ``reason``: error as an unsigned number, ``outdev``, ``aux``: gateway,
                   ``indev``, ``mark``; ``skb`` 0 when no packet existed yet, as for a local sender)
    ``neigh``      a neighbour entry changed (``reason``: its state NUD_*, ``t.d``: its address)
    ``tcp_reset``  a reset is sent because of this packet (``reason``: the sk_rst_reason where the kernel tells)
    ``xmit``       the device driver gets the packet (net_dev_start_xmit; off unless asked)
    """

    tap = 0
    rx = 1
    tx = 2
    drop = 3
    consume = 4
    icmp_send = 5
    fib = 6
    neigh = 7
    tcp_reset = 8
    xmit = 9


HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")  # enum nf_inet_hooks
NO_HOOK = 255
NO_UID = 0xFFFFFFFF
AF_INET, AF_INET6 = 2, 10  # also nf_conntrack's l3num and NFPROTO_IPV4/IPV6

# struct nf_conntrack_tuple: network byte order in addresses and ports. An ICMP query has its id in sport, and
# dport holds type << 8 | code
TUPLE = np.dtype(
    [
        ("s", "u1", 16),
        ("sport", ">u2"),
        ("l3num", "<u2"),
        ("d", "u1", 16),
        ("dport", ">u2"),
        ("proto", "u1"),
        ("dir", "u1"),
    ]
)
EVENT = np.dtype(
    [
        ("ts", "<u8"),  # CLOCK_MONOTONIC
        ("skb", "<u8"),  # address of the sk_buff; recycled by the kernel, so never an identity by itself
        ("head", "<u8"),  # its data buffer: clones share it
        ("ct", "<u8"),  # address of the conntrack entry, 0 without one
        ("aux", "<u8"),
        ("pay", "u1", 8),  # the first 8 octets behind the transport header (TCP: seq and ack), zeros if not at hand
        ("prio", "<i4"),
        ("indev", "<u4"),
        ("outdev", "<u4"),
        ("netns", "<u4"),  # inode number of the namespace
        ("len", "<u4"),
        ("mark", "<u4"),
        ("status", "<u4"),  # enum ip_conntrack_status
        ("ctmark", "<u4"),
        ("reason", "<u4"),
        ("table", "<u4"),  # of a lookup; of a packet its TOS octet (IPv6: traffic class)
        ("seq", "<u4"),  # counts every event of this CPU, lost ones too: a gap is a loss
        ("uid", "<u4"),  # owner of the sending or receiving socket, NO_UID without one
        ("t", TUPLE),  # the headers as they are now
        ("o", TUPLE),  # the entry's original tuple
        ("r", TUPLE),  # the entry's reply tuple
        ("ipid", "<u2"),
        ("zone", "<u2"),
        ("frag", "<u2"),  # offset field of the IP header in host order: 0x2000 more follow, 0x4000 do not fragment
        ("gso", "<u2"),  # size of the segments this packet stands for, 0 if it is one
        ("cpu", "<u2"),
        ("kind", "u1"),
        ("hook", "u1"),
        ("pf", "u1"),
        ("ttl", "u1"),
        ("ctinfo", "u1"),  # enum ip_conntrack_info; 7 is UNTRACKED
        ("tcp_flags", "u1"),
    ]
)


class STATUS(IntFlag):
    """enum ip_conntrack_status, the bits a story tells."""

    EXPECTED = 1
    SEEN_REPLY = 2
    ASSURED = 4
    CONFIRMED = 8
    SRC_NAT = 16
    DST_NAT = 32
    SEQ_ADJUST = 64
    SRC_NAT_DONE = 128
    DST_NAT_DONE = 256
    DYING = 512
    FIXED_TIMEOUT = 1024
    TEMPLATE = 2048
    UNTRACKED = 4096
    HELPER = 8192
    OFFLOAD = 16384


CTINFO = {0: "ESTABLISHED", 1: "RELATED", 2: "NEW", 3: "ESTABLISHED", 4: "RELATED", 7: "UNTRACKED"}
REPLY_CTINFO = frozenset({3, 4})


def join(parts: Sequence[npt.NDArray[Any]], dtype: np.dtype[Any] = EVENT) -> npt.NDArray[Any]:
    """Arrays of records put together as they are: numpy's own way would turn the byte order of every port."""
    if not parts:
        return np.zeros(0, dtype)
    plain = np.dtype((np.void, dtype.itemsize))
    joined: npt.NDArray[Any] = np.concatenate([np.ascontiguousarray(part).view(plain) for part in parts]).view(dtype)
    return joined


def address(row: Any, side: str) -> str:
    """An address of a tuple (``side``: "s" or "d") as text."""
    octets = bytes(row[side])
    return str(ipaddress.ip_address(octets if row["l3num"] == AF_INET6 else octets[:4]))


def tuple_text(row: Any) -> str:
    """``udp 10.0.0.2:5000 > 10.0.0.1:53``; ICMP with its type, code and id."""
    proto = int(row["proto"])
    source, target = address(row, "s"), address(row, "d")
    if proto in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6):
        name = "icmp" if proto == socket.IPPROTO_ICMP else "icmpv6"
        kind, code = divmod(int(row["dport"]), 256)
        return f"{name} {source} > {target} type {kind} code {code} id {row['sport']}"
    known = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}.get(proto)
    if known is None:
        return f"protocol {proto} {source} > {target}"
    if row["l3num"] == AF_INET6:
        source, target = f"[{source}]", f"[{target}]"
    return f"{known} {source}:{row['sport']} > {target}:{row['dport']}"


def header_layout() -> tuple[int, int]:
    """(version, size) as event.h states them; a test holds them against this module."""
    text = (Path(__file__).parents[2] / "bpf" / "include" / "event.h").read_text()
    found = {key: int(value) for key, value in re.findall(r"#define (EVENT_VERSION|EVENT_SIZE) (\d+)", text)}
    return found["EVENT_VERSION"], found["EVENT_SIZE"]
