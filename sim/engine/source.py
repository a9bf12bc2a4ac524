"""Addresses of a host: which are its own, which lie on a link, which one it speaks from (net/ipv4/devinet.c)."""

from __future__ import annotations

from ..model.addr import AF_INET, BITS, format_addr
from ..model.route import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    Address,
    Link,
    Nexthop,
    Route,
)  # fmt: skip
from ..model.world import Host
from .fib_rules import local_index, shared_trie
from .fib_table import Flow, Hit, IdentityCache, index_of, table_lookup
from .run import Ctx, Option


class _Addresses:
    """The addresses of a host by device and by value. ``order``: devices as for_each_netdev walks them."""

    __slots__ = ("by_dev", "by_local", "devices", "order")

    def __init__(self, links: dict[str, Link], addresses: tuple[Address, ...]) -> None:
        self.by_dev: dict[tuple[int, str], list[Address]] = {}
        self.by_local: dict[tuple[int, int], Address] = {}
        self.devices: dict[tuple[int, int], tuple[str, ...]] = {}
        for address in addresses:
            self.by_dev.setdefault((address.family, address.dev), []).append(address)
            key = address.family, address.local
            self.by_local.setdefault(key, address)
            self.devices[key] = (*self.devices.get(key, ()), address.dev)
        named = sorted(links.values(), key=lambda link: (not link.loopback, link.ifindex))
        self.order = [link.name for link in named]
        self.order += [dev for _, dev in self.by_dev if dev not in links]


_cache = IdentityCache()


def addresses(host: Host) -> _Addresses:
    return _cache.get((host.links, host.addresses), lambda: _Addresses(host.links, host.addresses))


def loopback_name(host: Host) -> str:
    """The loopback device: ``lo`` unless somebody renamed it."""
    if "lo" in host.links:
        return "lo"
    return next((link.name for link in host.links.values() if link.loopback), "lo")


def has_ip(host: Host, dev: str) -> bool:
    """Whether a device has an in_device: IPv4 is switched off below the minimum MTU of 68."""
    link = host.links.get(dev)
    return link.mtu >= 68 if link is not None else True


def own_address(host: Host, family: int, addr: int) -> Address | None:
    """inet_lookup_ifaddr_rcu: the configured address with this value."""
    return addresses(host).by_local.get((family, addr))


def has_address(host: Host, family: int, dev: str) -> bool:
    return (family, dev) in addresses(host).by_dev


def is_own(ctx: Ctx, family: int, addr: int) -> bool:
    """Whether __ip_dev_find finds any device for an address."""
    return own_address(ctx.host, family, addr) is not None or find_device(ctx, family, addr) is not None


def find_device(ctx: Ctx, family: int, addr: int) -> str | None:
    """__ip_dev_find: the device that has an address, or that table local gives for it (127/8, AnyIP)."""
    devices = addresses(ctx.host).devices.get((family, addr))
    if devices is not None:
        what = f"{ctx.host.name}: which of its interfaces got {format_addr(family, addr)} last"
        return ctx.run.choose(what, tuple(Option(None, dev, dev) for dev in devices))
    found = table_lookup(ctx, local_index(ctx, family, addr), Flow(family, addr))
    if isinstance(found, Hit) and found.route.type == "local":
        return found.leg.dev if found.leg is not None else loopback_name(ctx.host)
    return None


def on_link(host: Host, family: int, dev: str, a: int, b: int = 0) -> bool:
    """inet_addr_onlink: one prefix of the device holds ``a``, and ``b`` unless that is 0."""
    return any(a in p.network and (not b or b in p.network) for p in addresses(host).by_dev.get((family, dev), ()))


def gateway_of(ctx: Ctx, route: Route, leg: Nexthop) -> int | None:
    """The gateway of a leg, if it is used as one: a "gateway" that is local on the leg's own device means on-link.

    fib_check_nh_v4_gw gives such a leg scope host and rt_set_nexthop wants scope link. It looks the gateway up when
    the route is added; nobody knows any more which rules existed then, so the tables are taken as without rules.
    """
    if leg.via is None or leg.onlink or leg.via_family != AF_INET:
        return leg.via
    flow = Flow(AF_INET, leg.via, oif=leg.dev, scope=RT_SCOPE_LINK)
    own_table = () if route.table in (RT_TABLE_MAIN, RT_TABLE_LOCAL) else (route.table,)
    tables = (index_of(ctx.host, AF_INET, *own_table), shared_trie(ctx.host))
    for index in (*tables, index_of(ctx.host, AF_INET, RT_TABLE_DEFAULT)):
        found = table_lookup(ctx, index, flow, ignore_linkstate=True)
        if isinstance(found, Hit):
            return None if found.route.scope >= RT_SCOPE_HOST else leg.via
    return leg.via


def leg_source(ctx: Ctx, route: Route, leg: Nexthop) -> int | None:
    """nh_saddr: what the leg's device speaks from towards its gateway.

    A nexthop object has it from its own creation (nh_create_ipv4: one scope narrower than the nexthop's), a leg of
    the route's own from the route's scope.
    """
    if leg.dev is None:
        return None
    gateway = leg.via if leg.via_family == AF_INET else None
    scope = route.scope
    if route.nhid is not None:
        scope = RT_SCOPE_LINK if gateway_of(ctx, route, leg) is None else RT_SCOPE_LINK - 1
    return select_source(ctx, leg.dev, gateway or 0, scope)


def select_source(ctx: Ctx, dev: str, dst: int, scope: int = 0) -> int | None:
    """inet_select_addr: a primary address of the device whose prefix holds ``dst``, else its first one, else the
    first one of another device (loopback first, then by index). None: the host has no usable address.
    """
    table = addresses(ctx.host)
    if has_ip(ctx.host, dev):
        mine = table.by_dev.get((AF_INET, dev), ())
        fallback: int | None = None
        for address in mine:
            if address.secondary or min(address.scope, _localnet_scope(ctx, dev, address, scope)) > scope:
                continue
            if not dst or dst in address.network:
                return address.local
            if fallback is None:
                fallback = address.local
        if fallback is not None:
            return fallback
    for name in table.order:
        if not has_ip(ctx.host, name):
            continue
        for address in table.by_dev.get((AF_INET, name), ()):
            if not address.secondary and address.scope != RT_SCOPE_LINK and address.scope <= scope:
                return address.local
    return None


def _localnet_scope(ctx: Ctx, dev: str, address: Address, scope: int) -> int:
    """Addresses of scope host count as scope link under route_localnet; asked only where that decides."""
    if address.scope < RT_SCOPE_HOST or scope != RT_SCOPE_LINK:
        return RT_SCOPE_HOST
    return RT_SCOPE_LINK if ctx.conf(dev, "route_localnet") else RT_SCOPE_HOST


def confirm_address(ctx: Ctx, dev: str | None, dst: int, local: int, scope: int) -> int | None:
    """inet_confirm_addr: an address of the device (of any, if None) that fits ``local`` and the prefix of ``dst``."""
    table = addresses(ctx.host)
    for name in (dev,) if dev is not None else table.order:
        found = _confirm_on(ctx, name, table.by_dev.get((AF_INET, name), []), dst, local, scope)
        if found is not None:
            return found
    return None


def _confirm_on(ctx: Ctx, dev: str, mine: list[Address], dst: int, local: int, scope: int) -> int | None:
    """confirm_addr_indev."""
    found: int | None = None
    same = False
    for address in mine:
        near = min(address.scope, _localnet_scope(ctx, dev, address, scope))
        if found is None and local in (0, address.local) and near <= scope:
            found = address.local
            if same:
                break
        if not same:
            same = (not local or local in address.network) and (not dst or dst in address.network)
            if same and found is not None:
                if local or not dst or found in address.network:
                    break
                if near <= scope:
                    found = address.local
                    break
                same = False
    return found if same else None


def select_source6(ctx: Ctx, dev: str, dst: int) -> int | None:
    """ipv6_dev_get_saddr in its deciding rules: same address, scope, not deprecated, out device, longest prefix."""
    best: tuple[tuple[bool, int, bool, bool, int], int] | None = None
    wanted = _scope6(dst)
    for address in ctx.host.addresses:
        if address.family == AF_INET or address.tentative:
            continue
        mine = _scope6(address.local)
        if mine < 14 and wanted < 14 and mine != wanted and min(mine, wanted) == 2 and address.dev != dev:
            continue
        rank = (
            address.local == dst,
            mine if mine <= wanted else -mine,
            not address.deprecated,
            address.dev == dev,
            BITS[10] - (address.local ^ dst).bit_length(),
        )
        if mine == 1 and wanted != 1:
            continue
        if best is None or rank > best[0]:
            best = rank, address.local
    return best[1] if best else None


def _scope6(addr: int) -> int:
    """Scope of an IPv6 address as in a multicast address: 1 node, 2 link, 5 site, 14 global."""
    if addr >> 120 == 0xFF:
        return addr >> 112 & 0xF
    if addr == 1:
        return 1
    return 2 if addr >> 118 == 0x3FA else 14
