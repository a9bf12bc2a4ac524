"""One routing table: an index by prefix length, made once per set of routes, and the lookup in it.

Follows net/ipv4/fib_trie.c fib_table_lookup. The order within one prefix is that of fib_insert_alias: higher table
id first (local and main share one trie until the first policy rule), higher TOS, lower metric, order of addition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..model.addr import AF_INET, BITS
from ..model.drawn import Number
from ..model.route import Nexthop, Route
from ..model.world import Host
from ..record import NamedTuple
from .run import Ctx

EACCES, EINVAL, ENODEV = 13, 22, 19
ENETUNREACH, EHOSTUNREACH, EXDEV = 101, 113, 18
TOS_MASK = 0x1C  # INET_DSCP_LEGACY_TOS_MASK: what a tos of a route or rule is compared with

# fib_props[].error of the route types that end a lookup
REJECT = {"unreachable": EHOSTUNREACH, "prohibit": EACCES, "blackhole": EINVAL, "nat": EINVAL}

T = TypeVar("T")


class IdentityCache:
    """Remembers what was derived from immutable objects. The objects are held, so an id is never another's."""

    __slots__ = ("limit", "made")

    def __init__(self, limit: int = 512) -> None:
        self.limit = limit
        self.made: dict[tuple[int, ...], tuple[tuple[object, ...], Any]] = {}

    def get(self, sources: tuple[object, ...], make: Callable[[], T]) -> T:
        key = tuple(map(id, sources))
        found = self.made.get(key)
        if found is None:
            if len(self.made) >= self.limit:
                del self.made[next(iter(self.made))]
            found = self.made[key] = (sources, make())
        return found[1]


class Flow:
    """struct flowi4/flowi6: what a lookup may look at. ``iif`` is the loopback device for local output.

    ``skb_in``: of an ICMP error, the packet that it is about: a multipath route hashes that one, not the error
    (icmp_route_lookup(), icmp6_send()).
    """

    __slots__ = (
        "dport", "dst", "family", "iif", "mark", "oif", "proto", "scope", "skb_in", "sport", "src", "tos", "uid",
    )  # fmt: skip

    def __init__(self, family: int, dst: int, src: int = 0, iif: str | None = "lo", oif: str | None = None,
                 mark: int = 0, tos: int = 0, uid: int = 0, proto: int = 0, sport: Number = 0, dport: Number = 0,
                 scope: int = 0, skb_in: Any = None) -> None:  # fmt: skip
        self.family, self.dst, self.src, self.iif, self.oif = family, dst, src, iif, oif
        self.mark, self.tos, self.uid, self.proto = mark, tos, uid, proto
        self.sport, self.dport, self.scope, self.skb_in = sport, dport, scope, skb_in


class Hit(NamedTuple):
    """A route that takes the packet, and the first usable leg of it (None: the route has no device)."""

    route: Route
    leg: Nexthop | None
    rule: Any = None


class Miss(NamedTuple):
    """Why there is no route: ``errno`` positive, ``kind`` as in Rt; the route or rule that said so, if any."""

    kind: str
    errno: int
    route: Route | None = None
    rule: Any = None


class Index:
    """Routes of one table (or of the merged local and main) by prefix length, longest first."""

    __slots__ = ("bits", "by_length", "defaults")

    def __init__(self, family: int, routes: tuple[Route, ...]) -> None:
        self.bits = BITS[family]
        by_length: dict[int, dict[int, list[Route]]] = {}
        for route in routes:
            plen = route.prefix.plen
            by_length.setdefault(plen, {}).setdefault(route.prefix.value >> (self.bits - plen), []).append(route)
        for level in by_length.values():
            for group in level.values():
                if len(group) > 1:
                    group.sort(key=lambda r: (-r.table, -r.tos, r.metric))
        self.by_length = [(self.bits - plen, by_length[plen]) for plen in sorted(by_length, reverse=True)]
        self.defaults = len(by_length.get(0, {}).get(0, ()))

    def matching(self, dst: int) -> Iterator[Route]:
        """Every route whose prefix holds ``dst``, in the kernel's order."""
        for shift, level in self.by_length:
            group = level.get(dst >> shift)
            if group is not None:
                yield from group


_indexes = IdentityCache()


def index_of(host: Host, family: int, *tables: int) -> Index | None:
    """The index of a table; of several tables: of the trie they share. None: no such table."""
    parts = tuple(p for table in tables if (p := host.routes.get((family, table))))
    if not parts:
        return None
    return _indexes.get(parts, lambda: Index(family, tuple(r for part in parts for r in part)))


def legs_of(host: Host, route: Route) -> tuple[Nexthop, ...]:
    """The legs of a route; those of its nexthop object where the dump did not spell them out."""
    if route.nexthops or route.nhid is None:
        return route.nexthops
    top = host.nexthops.get(route.nhid)
    if top is None:
        return ()
    if top.nexthop is not None:
        return (top.nexthop,)
    legs = []
    for nhid, weight in top.group:
        member = host.nexthops.get(nhid)
        if member is not None and member.nexthop is not None:
            legs.append(Nexthop(member.nexthop.dev, member.nexthop.via, member.nexthop.via_family, weight, nhid=nhid))
    return tuple(legs)


def leg_dead(ctx: Ctx, route: Route, leg: Nexthop) -> bool:
    """RTNH_F_DEAD. A dump calls a leg dead also where it is merely ignored for want of carrier (fib_nexthop_info).

    Local routes outlive their device going down (fib_sync_down_dev passes over scope nowhere).
    """
    link = ctx.host.links.get(leg.dev) if leg.dev else None
    if leg.dead:
        return not leg.linkdown or link is None or not link.up
    return link is not None and not link.up and route.type != "local"


def leg_ignored(ctx: Ctx, route: Route, leg: Nexthop) -> bool:
    """RTNH_F_LINKDOWN on a device whose ignore_routes_with_linkdown is set."""
    if leg.dev is None:
        return False
    link = ctx.host.links.get(leg.dev)
    if not leg.linkdown and (link is None or link.carrier or not link.up or route.type == "local"):
        return False
    return bool(ctx.conf(leg.dev, "ignore_routes_with_linkdown"))


def _good_leg(ctx: Ctx, flow: Flow, route: Route, ignore_linkstate: bool) -> Nexthop | None:
    """The first leg that fib_lookup_good_nhc accepts."""
    for leg in legs_of(ctx.host, route):
        if leg_dead(ctx, route, leg) or (flow.oif is not None and flow.oif != leg.dev):
            continue
        if not ignore_linkstate and leg_ignored(ctx, route, leg):
            continue
        return leg
    return None


def table_lookup(ctx: Ctx, index: Index | None, flow: Flow, ignore_linkstate: bool = False) -> Hit | Miss | None:
    """fib_table_lookup: the route for a flow, an error that a route orders, or None (try the next rule)."""
    if index is None:
        return None
    tos = flow.tos & TOS_MASK
    for route in index.matching(flow.dst):
        if (route.tos and route.tos != tos) or route.scope < flow.scope:
            continue
        if route.type == "throw":
            return None
        errno = REJECT.get(route.type)
        if errno is not None:
            return Miss(route.type if route.type != "nat" else "none", errno, route)
        if route.nhid is not None and _blackhole_object(ctx.host, route.nhid):
            return Miss("blackhole", EINVAL, route)
        leg = _good_leg(ctx, flow, route, ignore_linkstate)
        if leg is not None:
            return Hit(route, leg)
        if flow.family != AF_INET and route.type == "local" and not route.nexthops:
            return Hit(route, None)
    return None


def _blackhole_object(host: Host, nhid: int) -> bool:
    found = host.nexthops.get(nhid)
    return found is not None and found.blackhole


def uses_dev(host: Host, route: Route, dev: str) -> bool:
    """fib_info_nh_uses_dev: whether any leg, alive or not, is on a device."""
    return any(leg.dev == dev for leg in legs_of(host, route))
