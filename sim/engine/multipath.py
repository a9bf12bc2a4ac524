"""Which leg of a multipath route a flow takes (fib_semantics.c fib_select_multipath, nexthop.c nexthop_select_path).

The kernel compares a 31-bit hash of the flow, seeded at boot, with cumulative weights. The hash is one unknown
number per flow and host: what is known of it after a choice is kept as intervals, so that a later packet with the
same key, or another route with other weights, is consistent with the first.
"""

from __future__ import annotations

from typing import Any

from ..model.addr import AF_INET
from ..model.packet import Skb
from ..model.route import Nexthop, Route
from .fib_table import Flow, Hit, leg_dead, leg_ignored, legs_of
from .neigh_state import neighbour_state, state_is_valid
from .run import Ctx, Option
from .source import gateway_of, leg_source

Interval = tuple[int, int]
HASH_SPACE: tuple[Interval, ...] = ((0, 1 << 31),)


def select_path(ctx: Ctx, flow: Flow, hit: Hit, skb: Skb | None) -> Hit:
    """The hit with the leg that the kernel picks. ``skb``: the received packet, None for local output."""
    legs = legs_of(ctx.host, hit.route)
    if len(legs) < 2:
        return hit
    if hit.route.resilient or _is_resilient(ctx, hit.route):
        return hit._replace(leg=_bucket(ctx, flow, hit.route, legs, skb))
    picked = _picks(ctx, flow, hit.route, legs, skb)
    shares = _upper_bounds(ctx, hit.route, legs)
    return hit._replace(leg=_choose(ctx, flow, hit.route, skb, legs, picked, shares))


def _is_resilient(ctx: Ctx, route: Route) -> bool:
    found = ctx.host.nexthops.get(route.nhid) if route.nhid is not None else None
    return found is not None and found.resilient


def _upper_bounds(ctx: Ctx, route: Route, legs: tuple[Nexthop, ...]) -> list[Interval | None]:
    """fib_rebalance: the part of the hash space of each leg; None for a leg that takes no part."""
    alive = [route.nhid is not None or not (leg_dead(ctx, route, leg) or leg_ignored(ctx, route, leg)) for leg in legs]
    total = sum(leg.weight for leg, ok in zip(legs, alive, strict=True) if ok) or 1
    bounds: list[Interval | None] = []
    weight = start = 0
    for leg, ok in zip(legs, alive, strict=True):
        if not ok:
            bounds.append(None)
            continue
        weight += leg.weight
        end = ((weight << 31) + total // 2) // total
        bounds.append((start, end))
        start = end
    return bounds


def _picks(ctx: Ctx, flow: Flow, route: Route, legs: tuple[Nexthop, ...], skb: Skb | None) -> list[int]:
    """For a hash in the part of leg i: the leg taken. Differs from i by neighbour state and by bound source."""
    by_neighbour = route.nhid is not None or bool(ctx.sysctl_int("net.ipv4.fib_multipath_use_neigh", 0))
    good = [not by_neighbour or _neighbour_good(ctx, route, leg) for leg in legs]
    bounds = _upper_bounds(ctx, route, legs)
    usable = [i for i, ok in enumerate(good) if ok and bounds[i] is not None]
    if not usable:
        return [next((i for i, b in enumerate(bounds) if b is not None), 0)] * len(legs)
    wanted = set(usable)
    if route.nhid is None and skb is None and flow.src and ctx.host.kernel >= (6, 16) and flow.family == AF_INET:
        matching = {i for i in usable if leg_source(ctx, route, legs[i]) == flow.src}
        wanted = matching or wanted
    first = min(wanted)
    return [min((i for i in wanted if i >= h), default=first) for h in range(len(legs))]


def _neighbour_good(ctx: Ctx, route: Route, leg: Nexthop) -> bool:
    """fib_good_nh: a gateway that the neighbour table knows to be failed is passed over."""
    if leg.via is None or leg.dev is None or gateway_of(ctx, route, leg) is None:
        return True
    state = neighbour_state(ctx, leg.via_family, leg.dev, leg.via)
    return state is None or state_is_valid(state)


def _hash_key(ctx: Ctx, flow: Flow, skb: Skb | None) -> Any:
    """What fib_multipath_hash hashes; addresses and ports each without order (__flow_hash_consistentify)."""
    policy = ctx.sysctl_int(f"net.ipv{4 if flow.family == AF_INET else 6}.fib_multipath_hash_policy", 0, (1,))
    src, dst, proto, sport, dport = flow.src, flow.dst, flow.proto, flow.sport, flow.dport
    skb = flow.skb_in if skb is None else skb
    if skb is not None:
        src, dst, proto, sport, dport = skb.src, skb.dst, skb.proto, skb.sport, skb.dport
        if policy == 0 and skb.is_icmp_error and skb.inner is not None:  # an error follows what it is about
            src, dst = skb.inner.src, skb.inner.dst
        if not skb.has_ports or skb.mf or skb.frag:
            sport = dport = 0
    ports = frozenset((("p", sport), ("p", dport)))
    if policy == 1:
        return flow.family, frozenset((src, dst)), ports, proto
    if policy == 3:
        fields = ctx.sysctl_int("net.ipv4.fib_multipath_hash_fields", 7)
        pair = frozenset((src if fields & 1 else 0, dst if fields & 2 else 0))
        ends = frozenset((sport if fields & 16 else 0, dport if fields & 32 else 0))
        return flow.family, pair, ends, proto if fields & 4 else 0
    return flow.family, frozenset((src, dst))


def _choose(ctx: Ctx, flow: Flow, route: Route, skb: Skb | None, legs: tuple[Nexthop, ...], picked: list[int],
            shares: list[Interval | None]) -> Nexthop:  # fmt: skip
    """Take a leg with its exact probability, given what is already known of this flow's hash."""
    if len({p for p, share in zip(picked, shares, strict=True) if share is not None}) == 1:
        return legs[next(p for p, share in zip(picked, shares, strict=True) if share is not None)]
    key = ("multipath", _hash_key(ctx, flow, skb))
    known: tuple[Interval, ...] = ctx.hs.match_state.get(key, HASH_SPACE)
    parts: dict[int, list[Interval]] = {}
    for leg, share in zip(picked, shares, strict=True):
        if share is not None:
            parts.setdefault(leg, []).extend(_overlap(known, share))
    total = sum(hi - lo for lo, hi in known)
    options = tuple(
        Option(sum(hi - lo for lo, hi in part) / total, _leg_words(legs[leg]), (leg, tuple(part)))
        for leg, part in sorted(parts.items())
        if part
    )
    what = f"{ctx.host.name}: leg of multipath route {route.prefix}"
    leg, rest = ctx.run.choose(what, options)
    ctx.hs.match_state[key] = rest
    return legs[leg]


def _overlap(known: tuple[Interval, ...], share: Interval) -> list[Interval]:
    cut = ((max(lo, share[0]), min(hi, share[1])) for lo, hi in known)
    return [(lo, hi) for lo, hi in cut if lo < hi]


def _bucket(ctx: Ctx, flow: Flow, route: Route, legs: tuple[Nexthop, ...], skb: Skb | None) -> Nexthop:
    """A resilient group: buckets move with traffic, so nobody can say how likely a leg is; stable per key."""
    key = ("resilient", route.nhid, _hash_key(ctx, flow, skb))
    chosen = ctx.hs.match_state.get(key)
    if chosen is None:
        options = tuple(Option(None, _leg_words(leg), i) for i, leg in enumerate(legs))
        chosen = ctx.run.choose(f"{ctx.host.name}: bucket of the resilient nexthop group {route.nhid}", options)
        ctx.hs.match_state[key] = chosen
    return legs[chosen]


def _leg_words(leg: Nexthop) -> str:
    from .routing_words import leg_words

    return leg_words(leg)
