"""Conntrack entries: tuples, status bits, ctinfo; the table with its indexes.

Everything here is immutable or replaced as a whole, so that a table is forked by copying three dicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..record import NamedTuple, dataclass, replace
from .drawn import Drawn, Number

# enum ip_conntrack_info, include/uapi/linux/netfilter/nf_conntrack_common.h
IP_CT_ESTABLISHED = 0
IP_CT_RELATED = 1
IP_CT_NEW = 2
IP_CT_IS_REPLY = 3
IP_CT_ESTABLISHED_REPLY = 3
IP_CT_RELATED_REPLY = 4
IP_CT_UNTRACKED = 7

CTINFO_NAME = {
    0: "ESTABLISHED",
    1: "RELATED",
    2: "NEW",
    3: "ESTABLISHED",
    4: "RELATED",
    7: "UNTRACKED",
    None: "INVALID",
}

# enum ip_conntrack_status, same header
IPS_EXPECTED = 1 << 0
IPS_SEEN_REPLY = 1 << 1
IPS_ASSURED = 1 << 2
IPS_CONFIRMED = 1 << 3
IPS_SRC_NAT = 1 << 4
IPS_DST_NAT = 1 << 5
IPS_SEQ_ADJUST = 1 << 6
IPS_SRC_NAT_DONE = 1 << 7
IPS_DST_NAT_DONE = 1 << 8
IPS_DYING = 1 << 9
IPS_FIXED_TIMEOUT = 1 << 10
IPS_TEMPLATE = 1 << 11
IPS_NAT_CLASH = 1 << 12
IPS_HELPER = 1 << 13
IPS_NAT_MASK = IPS_SRC_NAT | IPS_DST_NAT

STATUS_NAME = {
    IPS_EXPECTED: "EXPECTED", IPS_SEEN_REPLY: "SEEN_REPLY", IPS_ASSURED: "ASSURED", IPS_CONFIRMED: "CONFIRMED",
    IPS_SRC_NAT: "SRC_NAT", IPS_DST_NAT: "DST_NAT", IPS_SEQ_ADJUST: "SEQ_ADJUST", IPS_SRC_NAT_DONE: "SRC_NAT_DONE",
    IPS_DST_NAT_DONE: "DST_NAT_DONE", IPS_DYING: "DYING", IPS_FIXED_TIMEOUT: "FIXED_TIMEOUT", IPS_HELPER: "HELPER",
}  # fmt: skip

ORIGINAL, REPLY = 0, 1  # enum ip_conntrack_dir
DIR_NAME = ("ORIGINAL", "REPLY")


def ctinfo2dir(ctinfo: int) -> int:
    return REPLY if ctinfo in (IP_CT_ESTABLISHED_REPLY, IP_CT_RELATED_REPLY) else ORIGINAL


class Tuple(NamedTuple):
    """struct nf_conntrack_tuple. Ports hold what the protocol's tracker keys on:

    tcp/udp/sctp/dccp: ports; icmp: ``sport`` = id, ``dport`` = type << 8 | code; gre: keys; anything else: 0.
    """

    family: int
    proto: int
    src: int
    dst: int
    sport: Number
    dport: Number

    @property
    def drawn(self) -> bool:
        """Whether a port is a value that the kernel drew."""
        return isinstance(self.sport, Drawn) or isinstance(self.dport, Drawn)


@dataclass(frozen=True, slots=True)
class Conn:
    """struct nf_conn. ``tuples`` is (original, reply); ``zones`` the zone id each is keyed with.

    ``timeout_at``: absolute seconds of the world clock, None while unconfirmed. ``proto_state`` belongs to the
    protocol's tracker (a frozen object, or None). ``acct``: ((packets, bytes), (packets, bytes)) or None when
    nf_conntrack_acct was off at creation. ``created_at``: seconds; ``master``: id of the expecting entry.
    """

    conn_id: int
    tuples: tuple[Tuple, Tuple]
    zones: tuple[int, int] = (0, 0)
    status: int = 0
    timeout_at: float | None = None
    timeout_s: float | None = None  # what an unconfirmed entry will start with at confirmation
    mark: int = 0
    labels: int = 0
    helper: str | None = None
    master: int | None = None
    proto_state: Any = None
    acct: tuple[tuple[int, int], tuple[int, int]] | None = None
    created_at: float = 0.0
    masq_ifindex: int = 0
    timeout_policy: str | None = None
    secmark: int = 0
    synproxy: Any = None
    where: Any = None  # Where of conntrack.txt for an entry of the snapshot

    def with_(self, **changes: Any) -> Conn:
        return replace(self, **changes)

    @property
    def confirmed(self) -> bool:
        return bool(self.status & IPS_CONFIRMED)

    def status_names(self) -> list[str]:
        return [name for bit, name in STATUS_NAME.items() if self.status & bit]


class ConntrackTable:
    """All entries of one network namespace, confirmed or not.

    ``entries``: id -> Conn. ``by_tuple``: (zone of that direction, Tuple) -> (id, direction), confirmed only; ``shared``:
    the older ones of those that have the same key, which zones of one direction make possible (one's answers are the
    other's requests).
    ``order`` of dicts is insertion order, which is what "most recently added" questions need.
    """

    __slots__ = ("by_source", "by_tuple", "drawn", "entries", "expectations", "leftover", "next_id", "shared")

    def __init__(self) -> None:
        self.entries: dict[int, Conn] = {}
        self.by_tuple: dict[tuple[int, Tuple], tuple[int, int]] = {}
        self.shared: dict[tuple[int, Tuple], tuple[tuple[int, int], ...]] = {}
        # nf_nat bysource: (zone of orig, family, proto, src, sport) -> ids, in order of addition
        self.by_source: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self.drawn: tuple[int, ...] = ()  # ids of confirmed entries with a drawn port
        self.expectations: tuple[Any, ...] = ()
        # ids that only packets on their way may still refer to: created and not confirmed, or killed
        self.leftover: tuple[int, ...] = ()
        self.next_id = 1

    def fork(self) -> ConntrackTable:
        twin = ConntrackTable.__new__(ConntrackTable)
        twin.entries = self.entries.copy()
        twin.by_tuple = self.by_tuple.copy()
        twin.shared = self.shared.copy() if self.shared else {}
        twin.by_source = self.by_source.copy()
        twin.drawn = self.drawn
        twin.expectations = self.expectations
        twin.leftover = self.leftover
        twin.next_id = self.next_id
        return twin

    def get(self, conn_id: int | None) -> Conn | None:
        return None if conn_id is None else self.entries.get(conn_id)

    def create(self, tuples: tuple[Tuple, Tuple], **fields: Any) -> Conn:
        """A new unconfirmed entry."""
        conn = Conn(self.next_id, tuples, **fields)
        self.next_id += 1
        self.entries[conn.conn_id] = conn
        self.leftover += (conn.conn_id,)
        return conn

    def update(self, conn: Conn, **changes: Any) -> Conn:
        """Replace an entry by a changed one. Tuples and zones of a confirmed entry never change."""
        new = conn.with_(**changes)
        self.entries[conn.conn_id] = new
        return new

    def insert(self, conn: Conn) -> None:
        """Hash a (now confirmed) entry under both tuples."""
        self.entries[conn.conn_id] = conn
        for direction in (ORIGINAL, REPLY):
            self.hash(conn, direction)
        if conn.tuples[0].drawn or conn.tuples[1].drawn:
            self.drawn += (conn.conn_id,)

    def hash(self, conn: Conn, direction: int) -> None:
        """Put one direction of an entry into the table."""
        key, place = (conn.zones[direction], conn.tuples[direction]), (conn.conn_id, direction)
        old = self.by_tuple.get(key)
        if old is not None and old != place:
            self.shared[key] = (old, *self.shared.get(key, ()))
        self.by_tuple[key] = place

    def at(self, zone: int, t: Tuple) -> tuple[tuple[int, int], ...]:
        """(id, direction) of all that is hashed under a tuple with a zone id, newest first."""
        first = self.by_tuple.get((zone, t))
        if first is None:
            return ()
        return (first, *self.shared.get((zone, t), ())) if self.shared else (first,)

    def _unhash(self, conn: Conn, direction: int) -> None:
        key, place = (conn.zones[direction], conn.tuples[direction]), (conn.conn_id, direction)
        others = tuple(other for other in self.at(*key) if other != place)
        if not others:
            self.by_tuple.pop(key, None)
            self.shared.pop(key, None)
        elif self.shared:
            self.by_tuple[key], self.shared[key] = others[0], others[1:]

    def remove(self, conn: Conn) -> None:
        """Forget an entry, confirmed or not."""
        self.entries.pop(conn.conn_id, None)
        for direction in (ORIGINAL, REPLY):
            self._unhash(conn, direction)
        orig = conn.tuples[0]
        source = (conn.zones[0], orig.family, orig.proto, orig.src, orig.sport)
        left = tuple(i for i in self.by_source.get(source, ()) if i != conn.conn_id)
        if left:
            self.by_source[source] = left
        else:
            self.by_source.pop(source, None)
        if conn.conn_id in self.drawn:
            self.drawn = tuple(i for i in self.drawn if i != conn.conn_id)

    def bury(self, conn: Conn) -> None:
        """Take a killed entry out of all indexes; packets that carry it still find it until ``sweep``."""
        self.remove(conn)
        self.entries[conn.conn_id] = conn.with_(status=conn.status | IPS_DYING)
        self.leftover += (conn.conn_id,)

    def sweep(self) -> None:
        """Forget what no packet carries any more: dead entries and those that were never confirmed."""
        for conn_id in self.leftover:
            conn = self.entries.get(conn_id)
            if conn is None:
                continue
            if conn.status & IPS_DYING:
                del self.entries[conn_id]
            elif not conn.status & IPS_CONFIRMED:
                self.remove(conn)
        self.leftover = ()

    def confirmed(self) -> Iterator[Conn]:
        """Entries in the table now; whoever looks at one may find it expired and take it out."""
        return (c for c in list(self.entries.values()) if c.status & IPS_CONFIRMED and not c.status & IPS_DYING)


@dataclass(frozen=True, slots=True)
class Expectation:
    """struct nf_conntrack_expect. ``None`` in a field is a wildcard (mask 0); ``timeout_at`` in world seconds.

    ``src_mask``: the bits of ``src`` that count, None: all.
    """

    family: int
    proto: int
    src: int | None
    dst: int
    dport: Number
    sport: int | None = None
    master: int | None = None
    zone: int = 0
    helper: str | None = None
    permanent: bool = False
    timeout_at: float | None = None
    direction: int = 0
    saved_addr: int | None = None
    saved_port: int | None = None
    follow_master: bool = False
    where: Any = None
    src_mask: int | None = None
