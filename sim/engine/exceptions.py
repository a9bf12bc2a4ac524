"""Route exceptions: path MTUs and gateways learned from ICMP (struct fib_nh_exception, net/ipv4/route.c)."""

from __future__ import annotations

from ..model.addr import AF_INET, is_limited_broadcast, is_multicast
from ..model.packet import Skb
from ..model.route import Nexthop
from ..record import NamedTuple
from .fib_table import legs_of
from .neigh_state import neighbour_state, state_is_valid
from .run import Ctx
from .source import on_link


class RouteException(NamedTuple):
    """What was learned for one destination behind one leg. ``expires_at``: world seconds of the path MTU."""

    gateway: int | None = None
    mtu: int | None = None
    locked: bool = False
    expires_at: float | None = None


def _key(family: int, dst: int, leg: Nexthop) -> tuple[int, int, str | None, int | None]:
    return family, dst, leg.dev, leg.via


def find(ctx: Ctx, family: int, dst: int, leg: Nexthop) -> RouteException | None:
    """find_exception: expired ones are as good as gone."""
    if not ctx.hs.exceptions:
        return None
    found = ctx.hs.exceptions.get(_key(family, dst, leg))
    if found is None or (found.expires_at is not None and ctx.now > found.expires_at):
        return None
    return found


def _learn(ctx: Ctx, family: int, dst: int, leg: Nexthop, **news: object) -> None:
    """update_or_create_fnhe: what is not news stays."""
    old = find(ctx, family, dst, leg) or RouteException()
    ctx.hs.exceptions[_key(family, dst, leg)] = old._replace(**news)  # type: ignore[arg-type]


def learn_pmtu(ctx: Ctx, skb: Skb, uid: int = 0, oif: str | None = None) -> str:
    """An ICMP "fragmentation needed" received: ``skb.inner`` is what this host sent, ``icmp_mtu`` the size.

    ip_rt_update_pmtu. Returns what was learned, in words; "" where nothing was.
    """
    from .routing import output

    inner, mtu = skb.inner, skb.icmp_mtu
    if inner is None:
        return ""
    mode = ctx.sysctl_int("net.ipv4.ip_no_pmtu_disc", 0, ())
    if mode == 2:
        return ""
    if mode == 1:
        mtu = 0
    rt = output(ctx, family=inner.family, dst=inner.dst, src=inner.src, oif=oif, tos=inner.tos, uid=uid,
                proto=inner.proto, sport=inner.sport, dport=inner.dport, transparent=True)  # fmt: skip
    if rt.route is None or rt.leg is None or rt.kind != "unicast" or rt.mtu_locked or rt.mtu < mtu:
        return ""
    locked = False
    smallest = ctx.sysctl_int("net.ipv4.route.min_pmtu", 552, ())
    if mtu < smallest:
        mtu, locked = min(rt.mtu, smallest), True
    expires = ctx.now + ctx.sysctl_int("net.ipv4.route.mtu_expires", 600, ())
    legs = legs_of(ctx.host, rt.route)
    for leg in legs if len(legs) > 1 else (rt.leg,):
        _learn(ctx, inner.family, inner.dst, leg, mtu=mtu, locked=locked, expires_at=expires)
    return f"path MTU {mtu} for {expires - ctx.now:g} s"


def learn_redirect(ctx: Ctx, skb: Skb, uid: int = 0) -> str:
    """An ICMP redirect received on ``ctx.indev``: ``icmp_gateway`` is advised for ``skb.inner`` (sent by this host).

    __ip_do_redirect. Returns "" if the new gateway was learned, else why not.
    """
    from .neigh import resolve
    from .routing import addr_type, output

    inner, indev = skb.inner, ctx.indev
    if inner is None or indev is None or skb.icmp_code & 7 > 3:
        return "not a redirect for a host or network"
    new, old = skb.icmp_gateway, skb.src
    rt = output(ctx, family=AF_INET, dst=inner.dst, src=inner.src, oif=indev, tos=inner.tos, uid=uid,
                proto=inner.proto, transparent=True)  # fmt: skip
    if rt.gateway != old or rt.gateway_family != AF_INET:
        return "it does not come from the gateway in use"
    if new == old or is_multicast(AF_INET, new) or is_limited_broadcast(AF_INET, new) or not new:
        return "the advised gateway is no unicast address, or the one in use"
    if not accepts_redirects(ctx, indev):
        return f"accept_redirects is off on {indev}"
    if not ctx.conf(indev, "shared_media", 1):
        if not on_link(ctx.host, AF_INET, indev, new, old):
            return "the advised gateway is not on the link"
        if ctx.conf(indev, "secure_redirects", 1) and not _is_known_gateway(ctx, new, indev):
            return "secure_redirects is on and the advised gateway is no gateway of any route there"
    elif addr_type(ctx, AF_INET, new) != "UNICAST":
        return "the advised gateway is not a unicast address"
    if rt.leg is None:
        return "no route"
    state = neighbour_state(ctx, AF_INET, indev, new)
    if state is None or not state_is_valid(state):
        if resolve(ctx, indev, new, AF_INET).kind != "failed":
            ctx.hs.neigh[indev, new] = "ok"
        return "the advised gateway is only now being resolved; the next redirect will be taken"
    _learn(ctx, AF_INET, inner.dst, rt.leg, gateway=new)
    return ""


def accepts_redirects(ctx: Ctx, dev: str) -> bool:
    """IN_DEV_RX_REDIRECTS: a router needs all and device, a host either."""
    from .routing import forwarding

    return bool(ctx.conf(dev, "accept_redirects", 1, "and" if forwarding(ctx, dev) else "or"))


def _is_known_gateway(ctx: Ctx, gateway: int, dev: str) -> bool:
    """Not ip_fib_check_default: whether a route of the device already uses the gateway."""
    for (family, _), routes in ctx.host.routes.items():
        if family == AF_INET:
            for route in routes:
                if any(leg.dev == dev and leg.via == gateway for leg in legs_of(ctx.host, route)):
                    return True
    return False
