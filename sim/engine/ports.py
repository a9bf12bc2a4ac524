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
STARTS = 1 << 16  # get_random_u16()
NEGLIGIBLE, UNSEEN = 1e-3, 1e-6  # chances to find nothing that are mentioned but not played; not even mentioned
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
    if found is None or _same_flow(ctx, found[0], conn):
        return None
    return found[0]


def _same_flow(ctx: Ctx, other: Conn, conn: Conn) -> bool:
    same = _settled(ctx, other.tuples[ORIGINAL]) == _settled(ctx, conn.tuples[ORIGINAL])
    return same and other.zones[ORIGINAL] == conn.zones[ORIGINAL]


def _settled(ctx: Ctx, t: Tuple) -> Tuple:
    """A tuple with the values of those of its draws that are known by now."""
    if not t.drawn:
        return t
    return t._replace(sport=ctx.ws.known(t.sport), dport=ctx.ws.known(t.dport))


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
        self.hidden: list[Drawn] = []  # draws of other entries in the range: taken, but which number is not known
        self._survey()
        self.takeable: dict[int, Conn] = {}

    def with_port(self, port: Number) -> Tuple:
        return self.t._replace(sport=port) if self.field == "sport" else self.t._replace(dport=port)

    def _survey(self) -> None:
        """All numbers of the range whose tuple is in the table (nf_nat_used_tuple() for each of them)."""
        reply = invert(_settled(self.ctx, self.t))
        assert reply is not None
        # The port that is searched stands on the other side of the reply (an ICMP id on both).
        field = "sport" if self.field == "dport" or self.t.proto in ICMP_PROTOCOLS else "dport"
        table, zones = self.ctx.hs.ct, self.conn.zones
        if len(table.by_tuple) > self.size:
            for number in range(self.low, self.low + self.size):
                self._see(reply._replace(**{field: number}), number, zones)
            for conn_id in tuple(table.drawn):
                self._see_drawn(conn_id, reply, field)
            return
        wanted = reply._replace(**{field: 0})
        for (zone, other), _ in tuple(table.by_tuple.items()):
            if zone != zones[REPLY] or other.src != reply.src or other.dst != reply.dst:
                continue
            settled = _settled(self.ctx, other)
            port: Number = getattr(settled, field)
            if settled._replace(**{field: 0}) != wanted:
                continue
            if isinstance(port, Drawn):
                self._count_hidden(port)
            elif self.low <= port < self.low + self.size:
                self._see(other, port, zones)

    def _see(self, key: Tuple, port: int, zones: Zones) -> None:
        for conn_id, direction in self.ctx.hs.ct.at(zones[REPLY], key):
            conn = self.ctx.hs.ct.entries[conn_id]
            if conn_id == self.conn.conn_id or conn.zones[direction] != zones[direction]:
                continue
            if not conntrack.expired(self.ctx, conn) and not _same_flow(self.ctx, conn, self.conn):
                self.taken[port] = conn

    def _see_drawn(self, conn_id: int, reply: Tuple, field: str) -> None:
        conn = self.ctx.hs.ct.entries.get(conn_id)
        if conn is None or conn_id == self.conn.conn_id or conntrack.expired(self.ctx, conn):
            return
        if _same_flow(self.ctx, conn, self.conn):
            return
        for direction in (ORIGINAL, REPLY):
            if conn.zones[direction] != self.conn.zones[direction]:
                continue
            other = _settled(self.ctx, conn.tuples[direction])
            port = getattr(other, field)
            if other._replace(**{field: 0}) != reply._replace(**{field: 0}):
                continue
            if isinstance(port, Drawn):
                self._count_hidden(port)
            elif self.low <= port < self.low + self.size:
                self.taken[port] = conn

    def _count_hidden(self, port: Drawn) -> None:
        domain = self.ctx.ws.domains[port.draw_id]
        if domain.clip(self.low, self.low + self.size - 1).size == domain.size:
            self.hidden.append(port)

    def _split_takeable(self) -> None:
        """nf_nat_used_tuple_harder(): ports of finished TCP connections that a SYN may take in the last 32 tries."""
        if self.t.proto != IPPROTO_TCP or self.ctx.host.kernel < NEW_RULES:
            return
        tcp = tracker(self.ctx.host, IPPROTO_TCP)
        if tcp.state_of(self.conn).state != tcp.SYN_SENT:
            return
        for port, other in tuple(self.taken.items()):
            places = self.ctx.hs.ct.at(self.conn.zones[REPLY], invert(self.with_port(port)) or self.t)
            if (other.conn_id, REPLY) in places and tcp.may_be_evicted(self.ctx, other, self.conn):
                self.takeable[port] = self.taken.pop(port)

    def _take(self, port: int) -> Tuple:
        other = self.takeable.get(port)
        if other is not None:
            self.ctx.run.note(
                f"{self.ctx.host.name}: entry #{other.conn_id} gives up its port {port} to a newer connection"
            )
            conntrack.delete(self.ctx, other)
        return self.with_port(port)

    def _exhausted(self, port: Number) -> Tuple:
        """The last tuple tried is kept although it is in use: the packet will be dropped at confirmation, unless the
        null binding of the source can still move the other port.

        (With a single port to try that is an ordinary clash; nobody would call it exhaustion.)
        """
        if self.size > 1:
            self.ctx.hs.misc[f"nat ports exhausted #{self.conn.conn_id}"] = True
        return self.with_port(port)

    def _misses(self, chance: float) -> bool:
        """Whether the search gives up in front of a long run of numbers in use."""
        where = f"{self.ctx.host.name}: search of a free {self.field} in {self.low}-{self.low + self.size - 1}"
        if chance < NEGLIGIBLE:
            if chance > UNSEEN:
                self.ctx.run.note(
                    f"{where} succeeds (it fails, and the packet is dropped, with probability {chance:.1g})"
                )
            return False
        options = (Option(1 - chance, "finds one", False), Option(chance, "gives up", True))
        return bool(self.ctx.run.choose(where, options))

    def _gets_late(self, skip: int) -> bool:
        """Whether a search from some start value has only its last 32 tries left when it meets a free number."""
        free = _free_stretches(self.size, sorted(port - self.low for port in self.taken))
        early = max(0, _tries(self.size)[skip] - NF_NAT_HARDER_THRESH)
        return bool(self.taken) and (not free or _heads(free, self.size, early)[1] > 0)

    def _full(self) -> bool:
        return self.size <= len(self.taken) + len(set(self.hidden))

    def _last_tried(self) -> Number:
        """Where a search in vain ends: the random starts decide. It matters where the source port can still move (DNAT)."""
        if self.field == "sport" or len(self.taken) < 2:
            return next(iter(self.taken)) if self.taken else self.hidden[0]
        if len(self.taken) == self.size:
            return self.ctx.ws.draw("dport", Domain.of(self.low, self.low + self.size - 1))
        missed = set(range(self.low, self.low + self.size)) - set(self.taken)
        return self.ctx.ws.draw("dport", Domain.of(self.low, self.low + self.size - 1, missed, uniform=False))

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
        return self._exhausted(port) if tries >= self.size else self.from_random(1)

    def from_random(self, skip: int = 0) -> Tuple:
        """A search from a random start: the free numbers, by how many starts lead to each."""
        if self._gets_late(skip):
            self._split_takeable()
        if self._full():
            return self._exhausted(self._last_tried())
        if self.takeable and self.size > NF_NAT_HARDER_THRESH:
            domain, missed = late_search(self.low, self.size, set(self.taken), set(self.takeable), skip)
            self.takeable = {port: conn for port, conn in self.takeable.items() if domain.holds(port)}
        else:
            domain, missed = random_search(self.low, self.size, set(self.taken), skip)
        if self._misses(missed):
            return self._exhausted(self._last_tried())
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
    """Candidates of a search from a random start among ``size`` numbers from ``low`` on, with their weights."""
    return random_search(low, size, taken)[0]


def random_search(low: int, size: int, taken: set[int], skip: int = 0) -> tuple[Domain, float]:
    """The candidates with their weights, and the chance that the search ends without any of them.

    ``skip``: rounds that are over already.

    A number's weight is how many of the 65536 start values end at it: its own, and those of the run of taken numbers
    before it. A round that finds nothing within its tries is followed by a shorter one from a new random start; so
    behind a run of more than 127 taken numbers a search may fail although others are free.
    """
    free = _free_stretches(size, sorted(p - low for p in taken))
    rounds = [_heads(free, size, tries) for tries in _tries(size)[skip:]]
    while len(rounds) > 1 and not rounds[-2][1]:
        rounds.pop()  # never reached
    scale = STARTS ** (len(rounds) - 1)
    heads, once, missed = [0] * len(free), 0, 1.0
    for found, lost in rounds:
        heads = [head + scale * weight for head, weight in zip(heads, found, strict=True)]
        once += scale  # weight of a number's own start value
        scale = scale * lost // STARTS
        missed *= lost / STARTS
    weights: list[tuple[int, int, int]] = []
    for (first, last), head in zip(free, heads, strict=True):
        weights.append((low + first, low + first, head))
        weights.extend(_tails(low, first + 1, last, size, once))
    if len({w for _, _, w in weights}) == 1:
        weights = []
    return Domain(tuple((low + first, low + last) for first, last in free), True, _joined(weights)), missed


def late_search(low: int, size: int, taken: set[int], late: set[int], skip: int = 0) -> tuple[Domain, float]:
    """As :func:`random_search`, with numbers ``late`` that only the last 32 tries of a round may take.

    Every start value is followed; there is no short form, and the case is rare.
    """
    late_at = [at % size + low in late for at in range(STARTS)]
    usable = _next([late_at[at] or at % size + low not in taken for at in range(STARTS)])
    free = _next([not late_at[at] and at % size + low not in taken for at in range(STARTS)])
    share, weights = 1.0, [0.0] * size
    for tries in _tries(size)[skip:]:
        early = max(0, tries - NF_NAT_HARDER_THRESH)
        missed = 0
        for start in range(STARTS):
            steps = free[start]
            if steps >= early:
                steps = early + usable[(start + early) % STARTS]
            if steps < tries:
                weights[(start + steps) % STARTS % size] += share
            else:
                missed += 1
        share *= missed / STARTS
        if not missed:
            break
    unit = STARTS << 16  # weights are whole numbers
    pieces = [(low + n, low + n, max(1, round(w * unit))) for n, w in enumerate(weights) if w]
    holes = {low + n for n, w in enumerate(weights) if not w}
    return Domain.of(low, low + size - 1, holes)._replace(weights=_joined(pieces)), share


def _next(marks: list[bool]) -> list[int]:
    """From every start value, how many steps to the next one that is marked; behind the last comes the first."""
    out, steps = [0] * STARTS, STARTS
    for at in (*range(STARTS - 1, -1, -1), *range(STARTS - 1, -1, -1)):
        steps = 0 if marks[at] else steps + 1
        out[at] = steps
    return out


def _tries(size: int) -> list[int]:
    """Numbers tried in each round."""
    out = [min(size, NF_NAT_MAX_ATTEMPTS)]
    while out[-1] < size and out[-1] >= 16:
        out.append(out[-1] // 2)
    return out


def _free_stretches(size: int, holes: list[int]) -> list[tuple[int, int]]:
    """What is left of 0 … size-1, as (first, last)."""
    out: list[tuple[int, int]] = []
    at = 0
    for hole in [*holes, size]:
        if hole > at:
            out.append((at, hole - 1))
        at = hole + 1
    return out


def _heads(free: list[tuple[int, int]], size: int, tries: int) -> tuple[list[int], int]:
    """Start values that lead to the first number of each free stretch, and those from which ``tries`` find nothing."""
    each, extra = divmod(STARTS, size)
    weights: list[int] = []
    before = free[-1][1] - size
    for first, last in free:
        weights.append((each + (first < extra)) * min(first - before, tries))
        before = last
    if extra and free:
        # The start value is 16 bits wide: behind 65535 comes 0, not the next number of the range.
        first = free[0][0]
        end = max((min(last, extra - 1) for at, last in free if at < extra), default=free[-1][1] - size)
        weights[0] += min(extra - end + first, tries) - min(first + size - free[-1][1], tries)
    tails = sum((last - first) * each + max(0, min(last, extra - 1) - first) for first, last in free)
    return weights, STARTS - sum(weights) - tails


def _tails(low: int, first: int, last: int, size: int, once: int) -> list[tuple[int, int, int]]:
    """The numbers that only their own start values lead to: the first ``65536 % size`` have one more of these."""
    each, extra = divmod(STARTS, size)
    pieces = ((first, min(last, extra - 1), each + 1), (max(first, extra), last, each))
    return [(low + a, low + b, count * once) for a, b, count in pieces if a <= b]


def _joined(weights: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Neighbouring pieces of equal weight put together."""
    out: list[tuple[int, int, int]] = []
    for low, high, weight in weights:
        if out and out[-1][1] + 1 == low and out[-1][2] == weight:
            low = out.pop()[0]
        out.append((low, high, weight))
    return tuple(out)
