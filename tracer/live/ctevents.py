"""Conntrack entries as they come, change and go: ctnetlink events (net/netfilter/nf_conntrack_netlink.c).

    with ConntrackEvents([netns], keep=lambda e: e.orig.dport == 443) as events:
        for event in events.read(timeout=1.0):
            event.kind, event.orig, event.reply, event.status_names     # "new", (src, dst, …), …
        events.loss()                                                   # {"ctnetlink": messages lost}

Entries made before anybody listened may send no event when they go (net.netfilter.nf_conntrack_events = 2).
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from .flow import AF_INET6, FlowKey, protocol_name
from .nfnl.sock import InNetns, Nfnl, Refused
from .nfnl.wire import (
    CTNETLINK,
    GROUP_CT_DESTROY,
    GROUP_CT_NEW,
    GROUP_CT_UPDATE,
    NLM_F_CREATE,
    Message,
    attributes,
    number,
)

NEW, UPDATE, DESTROY = "new", "update", "destroy"
MSG_NEW, MSG_GET, MSG_DELETE, MSG_GET_STATS = 0, 1, 2, 5  # enum cntl_msg_types
BUFFER = 4 << 20
STATUS = (
    "EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED", "SRC_NAT", "DST_NAT", "SEQ_ADJUST", "SRC_NAT_DONE",
    "DST_NAT_DONE", "DYING", "FIXED_TIMEOUT", "TEMPLATE", "UNTRACKED", "HELPER", "OFFLOAD", "HW_OFFLOAD",
)  # fmt: skip  # enum ip_conntrack_status, from bit 0
TCP_STATES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)


class Tuple(NamedTuple):
    """One direction. ``sport`` of ICMP is the identifier, ``dport`` type and code as the kernel's tuple has them.

    ``zone``: of this direction only (CT --zone-orig, --zone-reply), None where it is the entry's.
    """

    family: int
    proto: int
    src: bytes
    dst: bytes
    sport: int | None
    dport: int | None
    zone: int | None = None

    def key(self) -> FlowKey:
        dport = None if self.proto in (1, 58) else self.dport
        return FlowKey(self.family, self.proto, self.src, self.dst, self.sport, dport)

    def __str__(self) -> str:
        return str(self.key())


class ConntrackEvent(NamedTuple):
    """``id``: as ``conntrack -o id`` prints it; ``netns``: index into the namespaces asked for; ``time``: when read."""

    kind: str
    orig: Tuple
    reply: Tuple
    zone: int
    status: int | None
    mark: int
    id: int
    timeout: int | None
    tcp_state: str | None
    netns: int
    time: int

    @property
    def status_names(self) -> tuple[str, ...]:
        bits = self.status or 0
        return tuple(name for bit, name in enumerate(STATUS) if bits >> bit & 1)

    def concerns(self, flow: FlowKey) -> bool:
        """Whether the flow is this entry's, by either direction's tuple."""
        return flow.covers(self.orig.key()) or flow.covers(self.reply.key())


def decode(message: Message, netns: int = 0, now: int | None = None) -> ConntrackEvent | None:
    """One ctnetlink message; None for what is no entry."""
    if message.type >> 8 != CTNETLINK:
        return None
    kind = message.type & 0xFF
    if kind not in (MSG_NEW, MSG_DELETE):
        return None
    word = DESTROY if kind == MSG_DELETE else NEW if message.flags & NLM_F_CREATE else UPDATE
    return decode_entry(message.body, message.family, time.monotonic_ns() if now is None else now, word, netns)


def decode_entry(body: bytes, family: int, now: int, word: str = UPDATE, netns: int = 0) -> ConntrackEvent | None:
    """The attributes of an entry, as events and the packets of a queue carry them (enum ctattr_type)."""
    a = attributes(body)
    if 1 not in a or 2 not in a:
        return None
    state = None
    if 4 in a and 1 in (info := attributes(a[4])):
        state_number = number(attributes(info[1]).get(1))
        state = TCP_STATES[state_number] if state_number is not None and state_number < len(TCP_STATES) else None
    return ConntrackEvent(
        word, _tuple(a[1], family), _tuple(a[2], family), number(a.get(18)) or 0, number(a.get(3)),
        number(a.get(8)) or 0, number(a.get(12)) or 0, number(a.get(7)), state, netns,
        now,
    )  # fmt: skip


def _tuple(data: bytes, family: int) -> Tuple:
    a = attributes(data)
    ip, proto = attributes(a.get(1, b"")), attributes(a.get(2, b""))
    v6 = family == AF_INET6
    src, dst = ip.get(3 if v6 else 1, b""), ip.get(4 if v6 else 2, b"")
    protocol = number(proto.get(1)) or 0
    if 4 in proto or 7 in proto:  # ICMP, ICMPv6: identifier, type, code
        base = 4 if 4 in proto else 7
        kind, code = number(proto.get(base + 1)) or 0, number(proto.get(base + 2)) or 0
        return Tuple(family, protocol, src, dst, number(proto.get(base)), kind << 8 | code, number(a.get(3)))
    return Tuple(family, protocol, src, dst, number(proto.get(2)), number(proto.get(3)), number(a.get(3)))


class ConntrackEvents:
    """Events of some namespaces. Nothing is kept between two reads, so it can run for days.

    ``kinds``: of "new", "update", "destroy"; ``keep``: called for each event, those it denies are left out.
    """

    def __init__(self, namespaces: Sequence[InNetns | None] = (None,), kinds: Sequence[str] = (NEW, UPDATE, DESTROY),
                 keep: Callable[[ConntrackEvent], bool] | None = None, flow: FlowKey | None = None,
                 buffer: int = BUFFER) -> None:  # fmt: skip
        groups = {NEW: GROUP_CT_NEW, UPDATE: GROUP_CT_UPDATE, DESTROY: GROUP_CT_DESTROY}
        self._keep, self._flow = keep, flow
        self.seen = 0
        self.sockets: list[Nfnl] = []
        try:
            for netns in namespaces:
                _await_module(netns)
                self.sockets.append(Nfnl(netns, [groups[kind] for kind in kinds], buffer))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ConntrackEvents:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()

    def filenos(self) -> list[int]:
        """For a selector of the caller's."""
        return [sock.fileno() for sock in self.sockets]

    def read(self, timeout: float = 0.0) -> list[ConntrackEvent]:
        """Events that are there, or that come within so many seconds; a bounded number at a time."""
        if timeout:
            select.select(self.sockets, [], [], timeout)
        found, now = [], time.monotonic_ns()
        for index, sock in enumerate(self.sockets):
            for message in sock.receive():
                event = decode(message, index, now)
                if event is None:
                    continue
                self.seen += 1
                if self._flow is not None and not event.concerns(self._flow):
                    continue
                if self._keep is None or self._keep(event):
                    found.append(event)
        return found

    def loss(self) -> dict[str, int]:
        """Messages that the kernel threw away because they were not read in time."""
        return {"ctnetlink": sum(sock.lost() for sock in self.sockets)}


def _await_module(netns: InNetns | None) -> None:
    """Subscribing makes the kernel load nf_conntrack_netlink, and does not wait for it (nfnetlink_bind()); a request does.

    Until it is there no event is made: the first connections would be missed.
    """
    with Nfnl(netns) as sock, suppress(Refused):
        sock.get(CTNETLINK << 8 | MSG_GET_STATS, 0)


def entries(netns: InNetns | None = None, family: int = 0) -> list[ConntrackEvent]:
    """The table as it is now, as events of kind "update"; a dump loads nothing that is not loaded."""
    with Nfnl(netns) as sock:
        found = (decode(m) for m in sock.dump(CTNETLINK << 8 | MSG_GET, family))
        return [event._replace(kind=UPDATE) for event in found if event is not None]


def describe(event: ConntrackEvent) -> str:
    """One line for a person."""
    words = [event.kind, protocol_name(event.orig.proto), str(event.orig), "| reply", str(event.reply)]
    words += [f"zone {event.zone}"] if event.zone else []
    words += [f"mark {event.mark:#x}"] if event.mark else []
    return " ".join([*words, *event.status_names])
