"""Routing decisions of a host: for what it sends, receives, reroutes (net/ipv4/route.c, fib_frontend.c, netfilter.c).

The lookups are one code for both families; the order of the checks around them is exact for IPv4, basic for IPv6.
"""

from __future__ import annotations

from ..model.addr import AF_INET, format_addr, is_limited_broadcast, is_loopback, is_multicast
from ..model.drawn import Number
from ..model.packet import IPPROTO_IGMP, Skb
from ..model.result import Reason
from ..model.route import RT_SCOPE_HOST, RT_SCOPE_LINK, Nexthop, Route
from ..model.where import Where
from . import exceptions
from .exceptions import learn_pmtu, learn_redirect
from .fib_default import select_default
from .fib_rules import fib_lookup, local_index
from .fib_table import (
    EACCES,
    EHOSTUNREACH,
    EINVAL,
    ENETUNREACH,
    ENODEV,
    Flow,
    Hit,
    Miss,
    legs_of,
    table_lookup,
    uses_dev,
)  # fmt: skip
from .multipath import select_path
from .routing_words import decision
from .rt import Rt
from .run import Ctx
from .source import (
    find_device,
    gateway_of,
    has_ip,
    is_own,
    leg_source,
    loopback_name,
    on_link,
    select_source,
    select_source6,
)
from .validate import dissect, validate_source

DSCP_MASK = 0xFC  # INET_DSCP_MASK


# --- local output ------------------------------------------------------------------------------------------------


def output(ctx: Ctx, *, family: int, dst: int, src: int = 0, oif: str | None = None, mark: int = 0, tos: int = 0,
           uid: int = 0, proto: int = 0, sport: Number = 0, dport: Number = 0, transparent: bool = False,
           skb_in: Skb | None = None) -> Rt:  # fmt: skip
    """ip_route_output_key_hash_rcu: the route of a locally sent packet. Errors come as ``kind`` and ``errno``."""
    flow = Flow(family, dst, src, loopback_name(ctx.host), oif, mark, tos & DSCP_MASK, uid, proto, sport, dport,
                skb_in=skb_in)  # fmt: skip
    return _output4(ctx, flow, transparent) if family == AF_INET else _output6(ctx, flow)


def _output4(ctx: Ctx, flow: Flow, transparent: bool) -> Rt:
    host, dst = ctx.host, flow.dst
    aimless = is_multicast(AF_INET, dst) or is_limited_broadcast(AF_INET, dst)
    if flow.src:
        refused = _source_refused(ctx, flow, transparent, aimless)
        if isinstance(refused, Rt):
            return refused
        if refused is not None:
            flow.oif = refused
            return _make_output(ctx, flow, None, refused)
    if flow.oif is not None:
        direct = _bound_device(ctx, flow, aimless)
        if direct is not None:
            return direct
    if not dst:  # 0.0.0.0 is this host
        flow.dst = flow.src or 0x7F000001
        flow.src = flow.src or flow.dst
        return _make_output(ctx, flow, None, loopback_name(host), "local")
    found = fib_lookup(ctx, flow)
    if isinstance(found, Miss):
        if flow.oif is None:
            return _failed_output(ctx, flow, found)
        if not flow.src:
            flow.src = select_source(ctx, flow.oif, 0, RT_SCOPE_LINK) or 0
        note = f"no route by {flow.oif}: the destination is taken to be on its link"
        return _make_output(ctx, flow, None, flow.oif, note=note)
    if found.route.type == "local":
        if not flow.src:
            flow.src = found.route.prefsrc if found.route.prefsrc is not None else flow.dst
        return _make_output(ctx, flow, found, loopback_name(host), "local")
    if flow.oif is None:
        hit = select_path(ctx, flow, found, None)
        found = hit if hit is not found else select_default(ctx, flow, found)
    if not flow.src:
        flow.src = _prefsrc(ctx, found)
    dev = found.leg.dev if found.leg is not None else None
    return _make_output(ctx, flow, found, dev or loopback_name(host), found.route.type)


def _source_refused(ctx: Ctx, flow: Flow, transparent: bool, aimless: bool) -> Rt | str | None:
    """The checks of a given source: an error, or the device that sends multicast for it, or None (go on)."""
    src = flow.src
    if is_multicast(AF_INET, src) or is_limited_broadcast(AF_INET, src):
        text = f"{format_addr(AF_INET, src)} cannot be a source address"
        return Rt("none", errno=EINVAL, src=src, reason=Reason("send_failed", text))
    own: str | None = None
    if flow.oif is None and aimless:
        own = find_device(ctx, AF_INET, src)
    elif transparent or is_own(ctx, AF_INET, src):
        return None
    if own is None:
        text = f"{ctx.host.name} does not own the source address {format_addr(AF_INET, src)}"
        return Rt("none", errno=ENETUNREACH, src=src, reason=Reason("source_not_owned", text))
    return own


def _bound_device(ctx: Ctx, flow: Flow, aimless: bool) -> Rt | None:
    """A socket bound to a device: errors, multicast and broadcast are settled here, the rest is looked up."""
    dev = flow.oif
    assert dev is not None
    link = ctx.host.links.get(dev)
    if link is None and ctx.host.links:
        text = f"{ctx.host.name} has no interface {dev}"
        return Rt("none", errno=ENODEV, src=flow.src, reason=Reason("send_failed", text))
    if (link is not None and not link.up) or not has_ip(ctx.host, dev):
        text = f"interface {dev} of {ctx.host.name} is down"
        where = link.where if link is not None else None
        return Rt("none", errno=ENETUNREACH, src=flow.src, reason=Reason("no_route", text, where))
    local_multicast = flow.dst >> 8 == 0xE00000
    if local_multicast or is_limited_broadcast(AF_INET, flow.dst) or flow.proto == IPPROTO_IGMP:
        if not flow.src:
            flow.src = select_source(ctx, dev, 0, RT_SCOPE_LINK) or 0
        return _make_output(ctx, flow, None, dev)
    if not flow.src and aimless:
        flow.src = select_source(ctx, dev, 0, flow.scope) or 0
    elif not flow.src and not flow.dst:
        flow.src = select_source(ctx, dev, 0, RT_SCOPE_HOST) or 0
    return None


def _prefsrc(ctx: Ctx, hit: Hit) -> int:
    """fib_result_prefsrc: ``src`` of the route, else what the leg's device speaks from towards its gateway."""
    if hit.route.prefsrc is not None:
        return hit.route.prefsrc
    return (leg_source(ctx, hit.route, hit.leg) or 0) if hit.leg is not None else 0


def _make_output(ctx: Ctx, flow: Flow, hit: Hit | None, dev: str, kind: str = "unicast", note: str = "") -> Rt:
    """__mkroute_output."""
    if not has_ip(ctx.host, dev):
        text = f"{dev} carries no IPv4 (its MTU is below 68)"
        return Rt("none", errno=EINVAL, src=flow.src, reason=Reason("send_failed", text))
    link = ctx.host.links.get(dev)
    loopback = link.loopback if link is not None else dev == "lo"
    if is_loopback(AF_INET, flow.src) and not loopback and not ctx.conf(dev, "route_localnet"):
        text = f"the source {format_addr(AF_INET, flow.src)} may not leave by {dev}: route_localnet is 0 there"
        where = ctx.where_sysctl(f"net.ipv4.conf.{dev.replace('.', '/')}.route_localnet")
        return Rt("none", errno=EINVAL, src=flow.src, reason=Reason("route_localnet_off", text, where))
    via_route = hit
    if is_limited_broadcast(AF_INET, flow.dst):
        kind, via_route = "broadcast", None
    elif is_multicast(AF_INET, flow.dst):
        kind = "multicast"
        if hit is not None and hit.route.prefix.plen < 4:
            via_route = None
    return _with_nexthop(ctx, flow, hit, via_route, dev, kind, note, forward=False)


def _with_nexthop(ctx: Ctx, flow: Flow, hit: Hit | None, via: Hit | None, dev: str, kind: str, note: str,
                  forward: bool, redirect: bool = False) -> Rt:  # fmt: skip
    """rt_set_nexthop and the MTU of the result. ``via``: the hit if its gateway and metrics count, else None."""
    gateway, gateway_family, leg = None, flow.family, via.leg if via is not None else None
    learned = exceptions.find(ctx, flow.family, flow.dst, leg) if leg is not None else None
    if via is not None and leg is not None and leg.via is not None and kind != "local":
        gateway, gateway_family = gateway_of(ctx, via.route, leg), leg.via_family
    if learned is not None and learned.gateway is not None:
        gateway, gateway_family = learned.gateway, flow.family
        note = "; ".join(filter(None, (note, f"redirected to {format_addr(flow.family, gateway)}")))
    route = via.route if via is not None else None
    mtu, locked = _mtu(ctx, dev, route, learned, gateway is not None, forward)
    return Rt(
        kind, dev, gateway, gateway_family, flow.src, mtu, locked, hit.route.table if hit else None,
        hit.route if hit else None, hit.rule if hit else None, hit.leg if hit else None, redirect=redirect, note=note,
    )  # fmt: skip


def _mtu(ctx: Ctx, dev: str, route: Route | None, learned: exceptions.RouteException | None, gatewayed: bool,
         forward: bool) -> tuple[int, bool]:  # fmt: skip
    """ip_dst_mtu_maybe_forward, and whether the MTU is locked."""
    link = ctx.host.links.get(dev)
    mtu = link.mtu if link is not None else 1500
    locked = bool((route is not None and route.mtu_locked) or (learned is not None and learned.locked))
    if learned is not None and learned.mtu is not None:
        if not forward or locked or ctx.sysctl_int("net.ipv4.ip_forward_use_pmtu", 0):
            return min(learned.mtu, 65535), locked
    if route is not None and route.mtu:
        return min(route.mtu, 65535), locked
    if locked and gatewayed and mtu > 576:
        mtu = 576
    return min(mtu, 65535), locked


_REASON = {"unreachable": "route_unreachable", "prohibit": "route_prohibit", "blackhole": "route_blackhole"}


def _refusal(ctx: Ctx, family: int, dst: int, miss: Miss) -> tuple[str, Reason]:
    """Kind and reason of a lookup that found no way."""
    target = format_addr(family, dst)
    words = decision(miss.rule, miss.route, None)
    if miss.kind == "none":
        text = f"{ctx.host.name} has no route to {target}"
        return "none", Reason("no_route", text, _routes_file(ctx, family))
    place: Where | None = miss.route.where if miss.route is not None else miss.rule.where if miss.rule else None
    code = "rule_blackhole" if miss.route is None and miss.kind == "blackhole" else _REASON[miss.kind]
    return miss.kind, Reason(code, f"{words} refuses {target} on {ctx.host.name}", place)


def _routes_file(ctx: Ctx, family: int) -> Where | None:
    file = ctx.host.file_of.get("route" if family == AF_INET else "route6")
    return Where(file) if file else None


def _failed_output(ctx: Ctx, flow: Flow, miss: Miss) -> Rt:
    kind, reason = _refusal(ctx, flow.family, flow.dst, miss)
    return Rt(kind, src=flow.src, errno=miss.errno, reason=reason, rule=miss.rule, route=miss.route,
              table=miss.route.table if miss.route else None)  # fmt: skip


def _output6(ctx: Ctx, flow: Flow) -> Rt:
    """ip6_route_output and the source selection after it."""
    found = fib_lookup(ctx, flow)
    if isinstance(found, Miss):
        return _failed_output(ctx, flow, found)
    if found.route.type == "local":
        flow.src = flow.src or flow.dst
        return _with_nexthop(ctx, flow, found, found, loopback_name(ctx.host), "local", "", forward=False)
    found = select_path(ctx, flow, found, None) if flow.oif is None else found
    dev = found.leg.dev if found.leg is not None and found.leg.dev else loopback_name(ctx.host)
    if not flow.src:
        flow.src = found.route.prefsrc or select_source6(ctx, dev, flow.dst) or 0
    kind = "multicast" if is_multicast(flow.family, flow.dst) else found.route.type
    return _with_nexthop(ctx, flow, found, found, dev, kind, "", forward=False)


# --- received packets --------------------------------------------------------------------------------------------


def forwarding(ctx: Ctx, dev: str, family: int = AF_INET) -> bool:
    """Whether packets received on a device are forwarded: its own flag, else what the snapshot has instead."""
    if family != AF_INET:
        return bool(ctx.sysctl_int("net.ipv6.conf.all.forwarding", 0, (1,)))
    return ctx.sysctl_int(_forwarding_sysctl(ctx, dev), *_forwarding_default(ctx)) != 0


def _forwarding_sysctl(ctx: Ctx, dev: str) -> str:
    mine = f"net.ipv4.conf.{dev.replace('.', '/')}.forwarding"
    names = (mine, "net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding")
    return next((name for name in names if name in ctx.host.sysctl), "net.ipv4.ip_forward")


def _forwarding_default(ctx: Ctx) -> tuple[int, tuple[int, ...]]:
    """A snapshot of rules alone is taken from a router; one with links or routes gets the kernel's default."""
    host = ctx.host
    bare = not (host.links or host.addresses or host.routes)
    return (1, (0,)) if bare else (0, (1,))


def input(ctx: Ctx, skb: Skb, indev: str) -> Rt:
    """ip_route_input: deliver, forward, refuse or drop a received packet."""
    if skb.family != AF_INET:
        return _input6(ctx, skb, indev)
    if not has_ip(ctx.host, indev):
        return _drop("martian_destination", f"{indev} carries no IPv4 (its MTU is below 68)")
    if is_multicast(AF_INET, skb.dst):
        return _input_multicast(ctx, skb, indev)
    strange = _martian(ctx, skb, indev)
    if strange is not None:
        return strange
    if is_limited_broadcast(AF_INET, skb.dst) or not (skb.src or skb.dst):
        return _input_broadcast(ctx, skb, indev, None)
    flow = Flow(AF_INET, skb.dst, skb.src, indev, mark=skb.mark, tos=skb.tos & DSCP_MASK)
    dissect(ctx, skb, flow)
    found = fib_lookup(ctx, flow)
    if isinstance(found, Miss):
        return _no_way(ctx, skb, indev, found)
    kind = found.route.type
    if kind == "broadcast" and not ctx.conf(indev, "bc_forwarding", 0, "and"):
        return _input_broadcast(ctx, skb, indev, found)
    if kind == "local":
        return _input_local(ctx, skb, indev, found)
    if kind != "broadcast":
        if not forwarding(ctx, indev):
            return _not_forwarding(ctx, skb, indev, found)
        if kind != "unicast":
            text = f"{format_addr(AF_INET, skb.dst)} is a {kind} destination (martian destination)"
            return _drop("martian_destination", text, found.route.where)
    return _input_forward(ctx, skb, indev, flow, found)


def _drop(code: str, text: str, where: Where | None = None, errno: int = EINVAL) -> Rt:
    return Rt("drop", errno=errno, reason=Reason(code, text, where))


def _martian(ctx: Ctx, skb: Skb, indev: str) -> Rt | None:
    """The addresses that ip_route_input_slow refuses before any lookup."""
    src, dst = skb.src, skb.dst
    source, target = format_addr(AF_INET, src), format_addr(AF_INET, dst)
    if is_multicast(AF_INET, src) or is_limited_broadcast(AF_INET, src):
        return _drop("martian_source", f"{source} cannot be a source address (martian source)")
    if is_limited_broadcast(AF_INET, dst) or not (src or dst):
        return None
    if not src:
        return _drop("martian_source", "the source 0.0.0.0 is accepted for broadcasts only (martian source)")
    if not dst:
        return _drop("martian_destination", "0.0.0.0 is no destination (martian destination)")
    which = "destination" if is_loopback(AF_INET, dst) else "source" if is_loopback(AF_INET, src) else None
    if which is None or ctx.conf(indev, "route_localnet"):
        return None
    addr = target if which == "destination" else source
    text = f"{which} {addr} received on {indev}, where route_localnet is 0 (martian {which})"
    return _drop(
        "route_localnet_off", text, ctx.where_sysctl(f"net.ipv4.conf.{indev.replace('.', '/')}.route_localnet")
    )


def _input_multicast(ctx: Ctx, skb: Skb, indev: str) -> Rt:
    """ip_route_input_mc: delivered where the group is joined (224.0.0.1 is, everywhere)."""
    target = format_addr(AF_INET, skb.dst)
    if skb.dst != 0xE0000001:
        question = f"{ctx.host.name}: whether a process joined group {target} on {indev} is not in the snapshot"
        if not ctx.unknown(question, "missing_input"):
            return _drop("martian_destination", f"nobody on {ctx.host.name} joined group {target} on {indev}")
    src = skb.src
    if is_multicast(AF_INET, src) or is_limited_broadcast(AF_INET, src):
        return _drop("martian_source", f"{format_addr(AF_INET, src)} cannot be a source address (martian source)")
    if is_loopback(AF_INET, src) and not ctx.conf(indev, "route_localnet"):
        return _drop("route_localnet_off", f"source {format_addr(AF_INET, src)} on {indev}, where route_localnet is 0")
    if not src:
        if skb.dst >> 8 != 0xE00000 and skb.proto != IPPROTO_IGMP:
            return _drop("martian_source", "the source 0.0.0.0 is accepted for broadcasts only (martian source)")
    else:
        checked = validate_source(ctx, skb, 0, indev, None)
        if checked.errno:
            return Rt("drop", errno=checked.errno, reason=checked.reason)
    return Rt("multicast", loopback_name(ctx.host), note=f"multicast group {target}")


def _input_broadcast(ctx: Ctx, skb: Skb, indev: str, hit: Hit | None) -> Rt:
    if skb.src:
        checked = validate_source(ctx, skb, 0, indev, None)
        if checked.errno:
            return Rt("drop", errno=checked.errno, reason=checked.reason)
    note = "" if hit else "limited broadcast"
    return _local_result(ctx, skb, hit, "broadcast", note)


def _input_local(ctx: Ctx, skb: Skb, indev: str, hit: Hit) -> Rt:
    checked = validate_source(ctx, skb, skb.dst, indev, None)
    if checked.errno:
        return Rt("drop", errno=checked.errno, reason=checked.reason, rule=hit.rule, route=hit.route)
    return _local_result(ctx, skb, hit, "local", "")


def _local_result(ctx: Ctx, skb: Skb, hit: Hit | None, kind: str, note: str) -> Rt:
    route, leg, rule = (hit.route, hit.leg, hit.rule) if hit else (None, None, None)
    return Rt(kind, loopback_name(ctx.host), gateway_family=skb.family, src=skb.src, mtu=65535,
              table=route.table if route else None, route=route, rule=rule, leg=leg, note=note)  # fmt: skip


def _input_forward(ctx: Ctx, skb: Skb, indev: str, flow: Flow, hit: Hit) -> Rt:
    """ip_mkroute_input."""
    hit = select_path(ctx, flow, hit, skb)
    dev = hit.leg.dev if hit.leg is not None and hit.leg.dev else loopback_name(ctx.host)
    checked = validate_source(ctx, skb, skb.dst, indev, dev)
    if checked.errno:
        return Rt("drop", errno=checked.errno, reason=checked.reason, rule=hit.rule, route=hit.route, leg=hit.leg)
    redirect = dev == indev and checked.onlink and _redirects(ctx, skb, dev, hit.leg)
    return _with_nexthop(ctx, flow, hit, hit, dev, "unicast", "", forward=True, redirect=redirect)


def _redirects(ctx: Ctx, skb: Skb, dev: str, leg: Nexthop | None) -> bool:
    """Whether a packet that goes out where it came in makes the host send an ICMP redirect."""
    if not ctx.conf(dev, "send_redirects", 1):
        return False
    gateway = leg.via or 0 if leg is not None and leg.via_family == AF_INET else 0
    return on_link(ctx.host, AF_INET, dev, skb.src, gateway) or bool(ctx.conf(dev, "shared_media", 1))


_ICMP = {
    AF_INET: {ENETUNREACH: (3, 0), EHOSTUNREACH: (3, 1), EACCES: (3, 13)},
    10: {ENETUNREACH: (1, 0), EHOSTUNREACH: (1, 3), EACCES: (1, 1)},
}


def _no_way(ctx: Ctx, skb: Skb, indev: str, miss: Miss) -> Rt:
    """ip_error: no route, or one that refuses. Without forwarding nobody is told."""
    if not forwarding(ctx, indev, skb.family):
        return _not_forwarding(ctx, skb, indev, miss)
    kind, reason = _refusal(ctx, skb.family, skb.dst, miss)
    return Rt(kind, errno=miss.errno, reason=reason, icmp=_ICMP[skb.family].get(miss.errno), rule=miss.rule,
              route=miss.route, table=miss.route.table if miss.route else None)  # fmt: skip


def _not_forwarding(ctx: Ctx, skb: Skb, indev: str, found: Hit | Miss) -> Rt:
    """The packet is for others and the input device does not forward."""
    host, target = ctx.host, format_addr(skb.family, skb.dst)
    if skb.family != AF_INET:
        name, all_off = "net.ipv6.conf.all.forwarding", True
    else:
        name = _forwarding_sysctl(ctx, indev)
        shared = next((n for n in ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding") if n in host.sysctl), None)
        all_off = shared is None or host.sysctl[shared].value.strip() == "0"
        name = shared if all_off and shared is not None else name
    if all_off:
        text = f"{target} is not an address of {host.name}, and {name} is 0: it does not forward"
        reason = Reason("ip_forward_disabled", text, ctx.where_sysctl(name))
    else:
        text = f"{target} is not an address of {host.name}, and {name} is 0: what comes in by {indev} is not forwarded"
        reason = Reason("forwarding_disabled_on_interface", text, ctx.where_sysctl(name))
    return Rt("drop", errno=EHOSTUNREACH, reason=reason, rule=found.rule, route=found.route,
              leg=found.leg if isinstance(found, Hit) else None)  # fmt: skip


def _input6(ctx: Ctx, skb: Skb, indev: str) -> Rt:
    """ip6_route_input. No reverse path filter exists here; multicast is taken to be wanted."""
    if is_multicast(skb.family, skb.dst):
        return Rt("multicast", loopback_name(ctx.host), gateway_family=skb.family, note="multicast")
    if is_loopback(skb.family, skb.src) or is_loopback(skb.family, skb.dst):
        link = ctx.host.links.get(indev)
        if link is not None and not link.loopback:
            return _drop("martian_source", f"::1 received on {indev}")
    flow = Flow(skb.family, skb.dst, skb.src, indev, mark=skb.mark, tos=skb.tos & DSCP_MASK)
    dissect(ctx, skb, flow)
    found = fib_lookup(ctx, flow)
    if isinstance(found, Miss):
        return _no_way(ctx, skb, indev, found)
    if found.route.type in ("local", "anycast"):
        return _local_result(ctx, skb, found, "local", "")
    if not forwarding(ctx, indev, skb.family):
        return _not_forwarding(ctx, skb, indev, found)
    found = select_path(ctx, flow, found, skb)
    dev = found.leg.dev if found.leg is not None and found.leg.dev else loopback_name(ctx.host)
    return _with_nexthop(ctx, flow, found, found, dev, "unicast", "", forward=True)


# --- rerouting, address types, reverse path ----------------------------------------------------------------------


def reroute(ctx: Ctx, skb: Skb) -> Rt:
    """ip_route_me_harder: route again after OUTPUT changed addresses, mark or TOS. User id 0, source kept."""
    sk = skb.sk
    flow = Flow(skb.family, skb.dst, skb.src, loopback_name(ctx.host), sk.bound_dev if sk else None, skb.mark,
                skb.tos & DSCP_MASK)  # fmt: skip
    dissect(ctx, skb, flow)
    if skb.family != AF_INET:
        flow.uid = sk.uid if sk is not None else 0
        return _output6(ctx, flow)
    keeps = addr_type(ctx, AF_INET, skb.src) in ("LOCAL", "UNICAST")
    if not keeps:
        flow.src = 0
    return _output4(ctx, flow, transparent=keeps or bool(sk is not None and sk.transparent))


def addr_type(ctx: Ctx, family: int, addr: int, dev: str | None = None) -> str:
    """inet_addr_type (``dev``: inet_dev_addr_type): LOCAL, BROADCAST, MULTICAST or UNICAST, as table local has it."""
    if family != AF_INET:
        return _addr_type6(ctx, family, addr, dev)
    if not addr or is_limited_broadcast(family, addr):
        return "BROADCAST"
    if is_multicast(family, addr):
        return "MULTICAST"
    found = table_lookup(ctx, local_index(ctx, family, addr), Flow(family, addr))
    if not isinstance(found, Hit):
        return "UNICAST"
    legs = legs_of(ctx.host, found.route)
    if dev is not None and (not legs or legs[0].dev != dev):
        return "UNICAST"
    return found.route.type.upper()


def _addr_type6(ctx: Ctx, family: int, addr: int, dev: str | None) -> str:
    """match_lookup_rt6 of xt_addrtype."""
    if is_multicast(family, addr):
        return "MULTICAST"
    if not addr:
        return "UNSPEC"
    found = fib_lookup(ctx, Flow(family, addr, oif=dev))
    if isinstance(found, Miss):
        return "UNREACHABLE"
    return {"local": "LOCAL", "anycast": "ANYCAST"}.get(found.route.type, "UNICAST")


def reverse_path_ok(ctx: Ctx, skb: Skb, indev: str, loose: bool = False, validmark: bool = False,
                    accept_local: bool = False) -> bool:  # fmt: skip
    """rpfilter_mt without its inversion (ipt_rpfilter.c, ip6t_rpfilter.c)."""
    link = ctx.host.links.get(indev)
    if (link is not None and link.loopback) or indev == "lo":
        return True
    if skb.family == AF_INET and not skb.src and (skb.dst >> 8 == 0xE00000 or is_limited_broadcast(AF_INET, skb.dst)):
        return True
    back = skb.dst
    if skb.family == AF_INET and (is_multicast(AF_INET, back) or is_limited_broadcast(AF_INET, back)):
        back = 0
    flow = Flow(skb.family, skb.src, back, loopback_name(ctx.host), mark=skb.mark if validmark else 0,
                tos=skb.tos & DSCP_MASK)  # fmt: skip
    found = fib_lookup(ctx, flow, ignore_linkstate=True)
    if isinstance(found, Miss):
        return False
    if found.route.type != "unicast" and not (found.route.type == "local" and accept_local):
        return False
    return loose or uses_dev(ctx.host, found.route, indev)


__all__ = [
    "Rt", "addr_type", "forwarding", "input", "learn_pmtu", "learn_redirect", "output", "reroute", "reverse_path_ok",
    "select_source",
]  # fmt: skip
