"""Which port NAT may use: clash checks and the search for a free one. nf_nat_core.c (net/netfilter).

Where the kernel starts its search at a random offset the result is a draw: one token whose domain holds exactly the
free ports, each weighted with the number of start values that lead to it.
"""

from __future__ import annotations

from typing import Any

from ..model.conntrack import (
    IPS_NAT_MASK,
    IPS_SEQ_ADJUST,
    ORIGINAL,
    REPLY,
    Conn,
    Tuple,
)
from ..model.drawn import Domain, Drawn, Number
from ..model.packet import IPPROTO_GRE, IPPROTO_TCP
from . import conntrack
from .conntrack import ICMP_PROTOCOLS, Zones, invert
from .run import Ctx, Option
from .trackers import keyed_by_ports, tracker

NF_NAT_MAX_ATTEMPTS = 128
NF_NAT_HARDER_THRESH = NF_NAT_MAX_ATTEMPTS // 4
SRC = 0
NEW_RULES = (6, 12)  # kernel that checks the reverse direction and starts DNAT port searches at the range's begin


def used(ctx: Ctx, conn: Conn, t: Tuple) -> bool:
    """nf_nat_used_tuple()"""
    reply = invert(t)
    return reply is not None and tuple_taken(ctx, conn, reply) is not None


def tuple_taken(ctx: Ctx, conn: Conn, reply: Tuple) -> Conn | None:
    """nf_conntrack_tuple_taken(): the entry that has this tuple in one of its directions.

    An entry with the very same original tuple is the same flow; that is settled when the second one is confirmed.
    """
    found = conntrack.in_bucket(ctx, conn.zones[REPLY], conn.zones, reply, skip=conn.conn_id)
    if found is None or _same_flow(found[0], conn):
        return None
    return found[0]


def _same_flow(other: Conn, conn: Conn) -> bool:
    return other.tuples[ORIGINAL] == conn.tuples[ORIGINAL] and other.zones[ORIGINAL] == conn.zones[ORIGINAL]


def used_new(ctx: Ctx, conn: Conn, t: Tuple) -> bool:
    """nf_nat_used_tuple_new(): as ``used``, but the exact mirror image of an untranslated flow is let through."""
    if not used(ctx, conn, t):
        return False
    if ctx.host.kernel < NEW_RULES or not tracker(ctx.host, conn.tuples[0].proto).ALLOW_CLASH:
        return True
    uses_nat = IPS_NAT_MASK | IPS_SEQ_ADJUST
    if conn.status & uses_nat:
        return True
    reply = invert(t)
    found = conntrack.find_get(ctx, conn.zones, t)
    if found is None and reply is not None:
        found = conntrack.find_get(ctx, conn.zones, reply)
    if found is None:
        return False
    other = found[0]
    return bool(other.status & uses_nat) or other.tuples[ORIGINAL] != conn.tuples[REPLY]


def in_port_range(ctx: Ctx, t: Tuple, manip: int, low: int, high: int) -> bool:
    """l4proto_in_range(): protocols without ports are always in range."""
    if t.proto in ICMP_PROTOCOLS:
        return ctx.in_range(t.sport, low, high)
    if keyed_by_ports(ctx.host, t.proto) or t.proto == IPPROTO_GRE:
        return ctx.in_range(t.sport if manip == SRC else t.dport, low, high)
    return True


def unique_port(ctx: Ctx, conn: Conn, t: Tuple, manip: int, ports: tuple[int, int] | None, base: int | None,
                random: bool) -> Tuple:  # fmt: skip
    """nf_nat_l4proto_unique_tuple(): ``ports`` the rule's range or None, ``base`` of ``--to-destination a:b-c/base``."""
    window = _window(ctx, conn, t, manip, ports)
    if window is None:
        return t
    low, size = window
    search = _Search(ctx, conn, t, "sport" if manip == SRC or t.proto in ICMP_PROTOCOLS else "dport", low, size)
    if base is not None:
        key = ctx.ws.known(getattr(t, search.field))
        if not isinstance(key, Drawn):
            return search.from_offset((key - base) & 0xFFFF)
        ctx.run.note(f"{ctx.host.name}: the port offset is counted from a drawn port; taken as any of the range")
    elif not random and manip != SRC and ctx.host.kernel >= NEW_RULES:
        return search.from_offset(0)
    return search.from_random()


def _window(ctx: Ctx, conn: Conn, t: Tuple, manip: int, ports: tuple[int, int] | None) -> tuple[int, int] | None:
    """(first, how many) of the numbers to try; None: this protocol, or this case, has none."""
    if t.proto in ICMP_PROTOCOLS:
        return (0, 65536) if ports is None else (ports[0], ports[1] - ports[0] + 1)
    if t.proto == IPPROTO_GRE:
        if conn.master is None:
            return None
        return (1, 65535) if ports is None else (ports[0], ports[1] - ports[0] + 1)
    if not keyed_by_ports(ctx.host, t.proto):
        return None
    if ports is not None:
        low, high = sorted(ports)
        return low, high - low + 1
    if manip != SRC:
        return None
    if ctx.in_range(t.sport, 0, 511):
        return 1, 511
    if ctx.in_range(t.sport, 512, 1023):
        return 600, 424
    return 1024, 64512


class _Search:
    """The search among ``size`` numbers from ``low`` on for field ``field`` of tuple ``t``."""

    __slots__ = ("conn", "ctx", "field", "hidden", "low", "size", "t", "takeable", "taken")

    def __init__(self, ctx: Ctx, conn: Conn, t: Tuple, field: str, low: int, size: int) -> None:
        self.ctx, self.conn, self.t, self.field, self.low, self.size = ctx, conn, t, field, low, size
        self.taken: dict[int, Conn] = {}
        self.hidden = 0  # entries in the range whose own port is a draw: it is none of ours, but which is not known
        self._survey()
        self.takeable: dict[int, Conn] = {}

    def with_port(self, port: Number) -> Tuple:
        return self.t._replace(sport=port) if self.field == "sport" else self.t._replace(dport=port)

    def _survey(self) -> None:
        """All numbers of the range whose tuple is in the table (nf_nat_used_tuple() for each of them)."""
        reply = invert(self.t)
        assert reply is not None
        # The port that is searched stands on the other side of the reply (an ICMP id on both).
        field = "sport" if self.field == "dport" or self.t.proto in ICMP_PROTOCOLS else "dport"
        table, zones = self.ctx.hs.ct, self.conn.zones
        if len(table.by_tuple) > self.size:
            for number in range(self.low, self.low + self.size):
                self._see(reply._replace(**{field: number}), number, zones)
            for conn_id in table.drawn:
                self._see_drawn(conn_id, reply, field)
            return
        wanted = reply._replace(**{field: 0})
        for (zone, other), _ in tuple(table.by_tuple.items()):
            if zone != zones[REPLY] or other.src != reply.src or other.dst != reply.dst:
                continue
            port: Number = self.ctx.ws.known(getattr(other, field))
            if isinstance(port, Drawn):
                if other._replace(**{field: 0}) == wanted:
                    self._count_hidden(port)
            elif other._replace(**{field: 0}) == wanted and self.low <= port < self.low + self.size:
                self._see(other, port, zones)

    def _see(self, key: Tuple, port: int, zones: Zones) -> None:
        hit = self.ctx.hs.ct.by_tuple.get((zones[REPLY], key))
        if hit is None or hit[0] == self.conn.conn_id:
            return
        conn = self.ctx.hs.ct.entries[hit[0]]
        if conn.zones[hit[1]] != zones[hit[1]] or conntrack.expired(self.ctx, conn) or _same_flow(conn, self.conn):
            return
        self.taken[port] = conn

    def _see_drawn(self, conn_id: int, reply: Tuple, field: str) -> None:
        conn = self.ctx.hs.ct.entries.get(conn_id)
        if conn is None:
            return
        for direction in (ORIGINAL, REPLY):
            other = conn.tuples[direction]
            port = self.ctx.ws.known(getattr(other, field))
            if other._replace(**{field: 0}) != reply._replace(**{field: 0}):
                continue
            if isinstance(port, Drawn):
                self._count_hidden(port)
            elif self.low <= port < self.low + self.size:
                self.taken[port] = conn

    def _count_hidden(self, port: Drawn) -> None:
        domain = self.ctx.ws.domains[port.draw_id]
        if domain.clip(self.low, self.low + self.size - 1).size == domain.size:
            self.hidden += 1

    def _split_takeable(self) -> None:
        """nf_nat_used_tuple_harder(): ports of finished TCP connections that a SYN may take in the last 32 tries."""
        if self.t.proto != IPPROTO_TCP or self.ctx.host.kernel < NEW_RULES:
            return
        tcp = tracker(self.ctx.host, IPPROTO_TCP)
        if tcp.state_of(self.conn).state != tcp.SYN_SENT:
            return
        for port, other in tuple(self.taken.items()):
            hit = self.ctx.hs.ct.by_tuple.get((self.conn.zones[REPLY], invert(self.with_port(port)) or self.t))
            if hit is not None and hit[1] == REPLY and tcp.may_be_evicted(self.ctx, other, self.conn):
                self.takeable[port] = self.taken.pop(port)

    def _take(self, port: int) -> Tuple:
        other = self.takeable.get(port)
        if other is not None:
            self.ctx.run.note(
                f"{self.ctx.host.name}: entry #{other.conn_id} gives up its port {port} to a newer connection"
            )
            conntrack.delete(self.ctx, other)
        return self.with_port(port)

    def _exhausted(self, port: int) -> Tuple:
        """The last tuple tried is kept although it is in use: the packet will be dropped at confirmation.

        (With a single port to try that is an ordinary clash; nobody would call it exhaustion.)
        """
        if self.size > 1:
            self.ctx.hs.misc[f"nat ports exhausted #{self.conn.conn_id}"] = True
        return self.with_port(port)

    def from_offset(self, offset: int) -> Tuple:
        """A search whose start is known is exact: the first free number, with wrap."""
        tries = min(self.size, NF_NAT_MAX_ATTEMPTS)
        port = self.low
        for i in range(tries):
            port = self.low + ((offset + i) & 0xFFFF) % self.size
            if tries - i == NF_NAT_HARDER_THRESH or (i == 0 and tries <= NF_NAT_HARDER_THRESH):
                self._split_takeable()
            if port not in self.taken:
                return self._take(port)
        return self._exhausted(port) if tries >= self.size else self.from_random()

    def from_random(self) -> Tuple:
        """A search from a random start: the free numbers, by how many starts lead to each."""
        if self.size <= NF_NAT_HARDER_THRESH or self.size - len(self.taken) - self.hidden <= 0:
            self._split_takeable()
        if self.size - len(self.taken) - self.hidden <= 0:
            return self._exhausted(self.low + self.size - 1)
        domain = search_domain(self.low, self.size, set(self.taken))
        for port in sorted(self.takeable):
            # Taking this one deletes an entry, so it is a world of its own.
            mine = domain.clip(port, port)
            rest = domain.without(port, port)
            if not rest.size:
                return self._take(port)
            share = mine.mass / domain.mass
            option: Any = self.ctx.run.choose(
                f"the port of finished entry #{self.takeable[port].conn_id}",
                (Option(1 - share, "another port is drawn", False), Option(share, f"port {port} is drawn", True)),
            )
            if option:
                return self._take(port)
            domain = rest
        what = "icmp_id" if self.t.proto in ICMP_PROTOCOLS else self.field
        return self.with_port(self.ctx.ws.draw(what, domain))


def search_domain(low: int, size: int, taken: set[int]) -> Domain:
    """Candidates of a sequential search with wrap from ``low + random_u16 % size``, with their weights.

    A number's weight is how many of the 65536 start values end at it: its own, and those of the run of taken
    numbers before it. (Runs longer than 128 would make the kernel draw again; that changes no candidate.)
    """
    extra = 65536 % size
    each = 65536 // size

    def start_weight(first: int, last: int) -> int:
        """Start values that hit offsets first … last."""
        return (last - first + 1) * each + max(0, min(last, extra - 1) - first + 1)

    free: list[tuple[int, int]] = []
    at = 0
    for hole in sorted(p - low for p in taken):
        if hole > at:
            free.append((at, hole - 1))
        at = hole + 1
    if at < size:
        free.append((at, size - 1))
    weights: list[tuple[int, int, int]] = []
    jumped = 0
    for index, (first, last) in reversed(tuple(enumerate(free))):
        if index:
            begin = free[index - 1][1] + 1
            run = start_weight(begin, first - 1)
            if begin < extra <= first:
                # The offset is 16 bits wide: behind 65535 comes 0, not the next number of the range.
                jumped = extra - begin
                run -= jumped
        else:
            tail = free[-1][1]
            run = (start_weight(0, first - 1) if first else 0) + (
                start_weight(tail + 1, size - 1) if tail < size - 1 else 0
            )
            run += jumped
        weights.extend(_pieces(low, first, last, run, each, extra))
    ranges = tuple((low + first, low + last) for first, last in free)
    weights.sort()
    if len({w for _, _, w in weights}) == 1:
        weights = []
    return Domain(ranges, True, tuple(weights))


def _pieces(low: int, first: int, last: int, run: int, each: int, extra: int) -> list[tuple[int, int, int]]:
    """One free stretch as (low, high, weight) pieces: its first number inherits the run of taken ones before it."""
    out: list[tuple[int, int, int]] = []
    if run:
        out.append((low + first, low + first, run + each + (first < extra)))
        first += 1
    if first <= last and first < extra:
        end = min(last, extra - 1)
        out.append((low + first, low + end, each + 1))
        first = end + 1
    if first <= last:
        out.append((low + first, low + last, each))
    return out
