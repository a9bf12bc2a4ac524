"""Configuration of routing: links, addresses, neighbours, routes, nexthops, policy rules."""

from __future__ import annotations

from typing import Any

from ..record import dataclass, field
from .addr import AF_INET, Prefix
from .where import Where

RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL = 253, 254, 255  # include/uapi/linux/rtnetlink.h
RT_SCOPE_UNIVERSE, RT_SCOPE_SITE, RT_SCOPE_LINK, RT_SCOPE_HOST, RT_SCOPE_NOWHERE = 0, 200, 253, 254, 255
SCOPE_NUMBER = {"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. ``mac`` as an int of 48 bits or None; ``kind``: veth, bridge, vlan, … or "" (physical).

    ``nf_call_iptables``: of a bridge (BROPT_NF_CALL_IPTABLES); ``hairpin``: of its port (BR_HAIRPIN_MODE).
    """

    name: str
    ifindex: int
    up: bool = True
    carrier: bool = True
    mtu: int = 1500
    mac: int | None = None
    loopback: bool = False
    noarp: bool = False
    pointopoint: bool = False
    kind: str = ""
    master: str | None = None
    group: int = 0
    peer_ifindex: int | None = None
    peer_netnsid: int | None = None
    altnames: tuple[str, ...] = ()
    xdp: bool = False
    nf_call_iptables: bool = False
    hairpin: bool = False
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a device, in the kernel's list order. ``peer``: the far end of a point-to-point address."""

    family: int
    dev: str
    local: int
    plen: int
    scope: int = RT_SCOPE_UNIVERSE
    broadcast: int | None = None
    peer: int | None = None
    secondary: bool = False
    deprecated: bool = False
    tentative: bool = False
    label: str = ""
    where: Where | None = None

    @property
    def network(self) -> Prefix:
        """The prefix that is on-link (of the peer where there is one)."""
        bits = 32 if self.family == AF_INET else 128
        base = self.local if self.peer is None else self.peer
        return Prefix(self.family, base >> (bits - self.plen) << (bits - self.plen), self.plen)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A neighbour table entry; ``state`` as ``ip neigh`` prints (REACHABLE, FAILED, PERMANENT, …)."""

    family: int
    dev: str
    addr: int
    mac: int | None = None
    state: str = "REACHABLE"
    proxy: bool = False
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Nexthop:
    """One leg of a route. ``via`` None: the destination itself is on the link."""

    dev: str | None
    via: int | None = None
    via_family: int = AF_INET
    weight: int = 1
    onlink: bool = False
    dead: bool = False
    linkdown: bool = False
    nhid: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One FIB entry. ``type``: unicast, local, broadcast, multicast, unreachable, prohibit, blackhole, throw."""

    prefix: Prefix
    table: int = RT_TABLE_MAIN
    type: str = "unicast"
    nexthops: tuple[Nexthop, ...] = ()
    metric: int = 0
    tos: int = 0
    scope: int = RT_SCOPE_UNIVERSE
    prefsrc: int | None = None
    protocol: str = ""
    mtu: int | None = None
    mtu_locked: bool = False
    advmss: int | None = None
    nhid: int | None = None
    resilient: bool = False
    realm: int = 0
    text: str = ""
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class FibRule:
    """One line of ``ip rule``. ``action``: table, goto, nop, blackhole, unreachable, prohibit."""

    priority: int
    family: int = AF_INET
    invert: bool = False
    src: Prefix | None = None
    dst: Prefix | None = None
    iif: str | None = None
    oif: str | None = None
    fwmark: int | None = None
    fwmask: int = 0xFFFFFFFF
    tos: int | None = None
    dscp: int | None = None
    uid_range: tuple[int, int] | None = None
    ipproto: int | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    l3mdev: bool = False
    action: str = "table"
    table: int = RT_TABLE_MAIN
    goto: int | None = None
    suppress_prefixlen: int | None = None
    suppress_ifgroup: int | None = None
    realm: int = 0
    tun_id: int | None = None
    text: str = ""
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket of ``ss``. ``local``/``remote`` None = any address; ``state``: LISTEN, UNCONN, ESTAB, …"""

    family: int
    proto: int
    local: int | None
    lport: int
    remote: int | None = None
    rport: int = 0
    state: str = "LISTEN"
    uid: int = 0
    dev: str | None = None
    mark: int = 0
    transparent: bool = False
    freebind: bool = False
    v6only: bool = False
    process: str = ""
    extra: tuple[tuple[str, Any], ...] = field(default=())
    where: Where | None = None
