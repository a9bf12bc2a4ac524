"""Routes that the kernel makes by itself from addresses, for dumps that lack them (net/ipv4/fib_frontend.c fib_add_ifaddr).

``ip route`` without ``table all`` shows the main table only; without the local table no packet would ever be local.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..model.addr import AF_INET, AF_INET6, BITS, Prefix, is_loopback, mask_of
from ..model.route import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    Address,
    Link,
    Nexthop,
    Route,
)  # fmt: skip

if TYPE_CHECKING:
    from .iproute import Addresses

Routes = dict[tuple[int, int], tuple[Any, ...]]


def complete(
    routes: Routes, files: Collection[str], addresses: Addresses, links: dict[str, Link]
) -> tuple[Routes, list[str]]:
    """``routes`` with what the kernel would have made, and the notes that say so."""
    notes: list[str] = []
    for family, kind in ((AF_INET, "route"), (AF_INET6, "route6")):
        mine = [a for a in addresses.all if a.family == family and (a.dev not in links or links[a.dev].up)]
        if not mine:
            continue
        ip = "IPv4" if family == AF_INET else "IPv6"
        if kind not in files:
            if any(key[0] == family for key in routes):
                continue  # one dump held both families
            connected = [r for a in mine if _has_prefix_route(a, addresses) for r in _connected(a, links)]
            routes = {**routes, (family, RT_TABLE_MAIN): tuple(connected)}
            notes.append(f"no {kind}.json: {ip} routes are those that the addresses imply")
        if (family, RT_TABLE_LOCAL) not in routes:
            local = [route for a in mine for route in _local(a, addresses.all, links)]
            routes = {**routes, (family, RT_TABLE_LOCAL): tuple(dict.fromkeys(local))}
            notes.append(
                f"the {ip} routes lack table local: it is derived from the addresses (ip route show table all)"
            )
    return routes, notes


def _has_prefix_route(address: Address, addresses: Addresses) -> bool:
    return not any(addresses.all[i] is address for i in addresses.noprefixroute)


def _route(address: Address, prefix: Prefix, kind: str, table: int, scope: int, source: int | None) -> Route:
    words = [] if kind == "unicast" else [kind]
    metric = 0 if address.family == AF_INET or table == RT_TABLE_LOCAL else 256
    return Route(
        prefix=prefix,
        table=table,
        type=kind,
        nexthops=(Nexthop(address.dev, None, address.family),),
        metric=metric,
        scope=scope,
        prefsrc=source,
        protocol="kernel",
        text=" ".join([*words, str(prefix), "dev", address.dev, "proto kernel"]),
        where=address.where,
    )


def _primary(address: Address, addresses: tuple[Address, ...]) -> int:
    """The source of routes of a secondary address: the primary one of its prefix (inet_ifa_byprefix)."""
    if not address.secondary:
        return address.local
    same = (a for a in addresses if a.dev == address.dev and not a.secondary and a.plen == address.plen)
    return next((a.local for a in same if a.network == address.network), address.local)


def _local(address: Address, addresses: tuple[Address, ...], links: dict[str, Link]) -> list[Route]:
    """Routes of table local: the address itself, its broadcast addresses, a loopback's whole prefix."""
    family, bits = address.family, BITS[address.family]
    if family == AF_INET6:
        return [_route(address, Prefix(family, address.local, bits), "local", RT_TABLE_LOCAL, 0, None)]
    source = _primary(address, addresses)
    own = Prefix(family, address.local, bits)
    found = [_route(address, own, "local", RT_TABLE_LOCAL, RT_SCOPE_HOST, source)]
    link = links.get(address.dev)
    if link is not None and not link.up:
        return found

    def broadcast(value: int) -> None:
        found.append(_route(address, Prefix(family, value, bits), "broadcast", RT_TABLE_LOCAL, RT_SCOPE_LINK, source))

    if address.broadcast and address.broadcast != 0xFFFFFFFF:
        broadcast(address.broadcast)
    net = address.network
    if net.value >> 24 and not address.secondary and (net.value != address.local or address.plen < bits):
        if _is_loopback(address, links):
            found.append(_route(address, net, "local", RT_TABLE_LOCAL, RT_SCOPE_HOST, source))
        last = net.value | ~mask_of(family, net.plen) & 0xFFFFFFFF
        if address.plen < 31 and last != address.broadcast:
            broadcast(last)
    return found


def _is_loopback(address: Address, links: dict[str, Link]) -> bool:
    link = links.get(address.dev)
    return link.loopback if link is not None else is_loopback(address.family, address.local)


def _connected(address: Address, links: dict[str, Link]) -> list[Route]:
    """The prefix route in table main."""
    net = address.network
    if _is_loopback(address, links) or address.secondary:
        return []
    if address.family == AF_INET:
        if not net.value >> 24 or (net.value == address.local and net.plen == 32):
            return []
        return [_route(address, net, "unicast", RT_TABLE_MAIN, RT_SCOPE_LINK, address.local)]
    return [_route(address, net, "unicast", RT_TABLE_MAIN, 0, None)] if net.plen < 128 else []
