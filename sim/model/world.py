"""The world as configured: hosts and the segments between them. Immutable; what changes is in ``state``."""

from __future__ import annotations

from typing import Any

from ..record import NamedTuple, dataclass, field, replace
from .addr import AF_INET
from .ipset import IpSet
from .route import Address, FibRule, Link, Neighbour, Nexthop, Route, Socket
from .rule import ForeignChain, Table
from .where import Where


class Setting(NamedTuple):
    """A sysctl value as text, and where it was read."""

    value: str
    where: Where | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NexthopObject:
    """``ip nexthop``: a single nexthop or a group of (id, weight)."""

    nhid: int
    nexthop: Nexthop | None = None
    group: tuple[tuple[int, int], ...] = ()
    blackhole: bool = False
    resilient: bool = False
    where: Where | None = None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Host:
    """One network namespace. ``sysctl``: dotted name (``net.ipv4.conf.eth0/1.rp_filter`` keeps the device's own
    dots as slashes) → Setting. ``files``: the kinds of dump that were present ("sysctl", "route", …), so that
    absence is told from emptiness. ``unmodelled``: things seen and named as not modelled (tc, xfrm, XDP …).
    """

    name: str
    kernel: tuple[int, int] = (6, 18)
    links: dict[str, Link] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    routes: dict[tuple[int, int], tuple[Route, ...]] = field(default_factory=dict)  # (family, table) -> routes
    rules: dict[int, tuple[FibRule, ...]] = field(default_factory=dict)  # family -> by priority
    nexthops: dict[int, NexthopObject] = field(default_factory=dict)
    sysctl: dict[str, Setting] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    foreign: tuple[ForeignChain, ...] = ()
    sets: dict[str, IpSet] = field(default_factory=dict)
    sockets: tuple[Socket, ...] | None = None  # None: not in the snapshot
    conns: tuple[Any, ...] = ()  # model.conntrack.Conn of conntrack.txt
    expectations: tuple[Any, ...] = ()
    users: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    names: dict[str, tuple[int, int]] = field(default_factory=dict)  # hosts.txt: name -> (family, addr)
    files: frozenset[str] = frozenset()
    unmodelled: tuple[tuple[str, Where | None], ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    captured_at: float | None = None  # seconds since the epoch
    file_of: dict[str, str] = field(default_factory=dict)  # kind of dump -> file name as the user sees it

    def with_(self, **changes: Any) -> Host:
        return replace(self, **changes)

    def addresses_of(self, dev: str, family: int = AF_INET) -> list[Address]:
        return [a for a in self.addresses if a.dev == dev and a.family == family]

    def link_by_index(self, ifindex: int) -> Link | None:
        return next((link for link in self.links.values() if link.ifindex == ifindex), None)


class Port(NamedTuple):
    """An interface of a host."""

    host: str
    dev: str

    def __str__(self) -> str:
        return f"{self.host}:{self.dev}"


class Segment(NamedTuple):
    """One layer-2 network."""

    name: str
    members: tuple[Port, ...]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class World:
    """All hosts of a snapshot. ``notes``: what the reader ignored or assumed, for ``assumptions``."""

    hosts: dict[str, Host]
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""

    def segment_of(self, host: str, dev: str) -> Segment | None:
        """The layer-2 network an interface is in; None: the edge of the known world."""
        port = Port(host, dev)
        return next((s for s in self.segments if port in s.members), None)

    def with_host(self, host: Host) -> World:
        return replace(self, hosts={**self.hosts, host.name: host})
