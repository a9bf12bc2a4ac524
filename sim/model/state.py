"""What changes while packets pass: one explicit object per world that can be forked cheaply."""

from __future__ import annotations

from typing import Any

from .conntrack import IPS_CONFIRMED, Conn, ConntrackTable
from .drawn import Domain, Drawn, Number
from .ipset import Element
from .rule import RuleId
from .world import Host, World

_RECENT: list[tuple[tuple[Conn, ...], ConntrackTable]] = []
_KEPT = 4


def _table(conns: tuple[Conn, ...]) -> ConntrackTable:
    """The table that holds the entries of a snapshot. Not to be changed: fork it.

    A full table takes a second to make, and one question plays a hundred packets in worlds that mostly share it.
    """
    for known, table in _RECENT:
        if known is conns:
            return table
    table = ConntrackTable()
    by_source: dict[tuple[Any, ...], list[int]] = {}
    for conn_id, conn in enumerate(conns, 1):
        table.insert(conn.with_(conn_id=conn_id, status=conn.status | IPS_CONFIRMED))
        orig = conn.tuples[0]
        by_source.setdefault((conn.zones[0], orig.family, orig.proto, orig.src, orig.sport), []).append(conn_id)
    table.by_source = {source: tuple(ids) for source, ids in by_source.items()}
    table.next_id = len(conns) + 1
    _RECENT[:] = [(conns, table), *_RECENT[: _KEPT - 1]]
    return table


class HostState:
    """Mutable state of one host.

    ``counters``: RuleId → (packets, bytes) counted since the start; base chain policies under index 0.
    ``match_state``: (RuleId, position of the match) or a name shared between rules → an immutable value.
    ``sets``: set name → {key: Element}; replace the inner dict, never change it in place.
    ``exceptions``: (family, dst) → RouteException learned from ICMP (redirect, PMTU).
    ``neigh``: (dev, addr) → learned resolution ("ok" or "failed").
    Values in these dicts are immutable: that is what makes fork() a handful of dict copies.
    """

    __slots__ = ("counters", "ct", "exceptions", "match_state", "misc", "neigh", "sets")

    def __init__(self) -> None:
        self.ct = ConntrackTable()
        self.counters: dict[RuleId, tuple[int, int]] = {}
        self.match_state: dict[Any, Any] = {}
        self.sets: dict[str, dict[tuple[Any, ...], Element]] = {}
        self.exceptions: dict[Any, Any] = {}
        self.neigh: dict[tuple[str, int], str] = {}
        self.misc: dict[str, Any] = {}

    @classmethod
    def of(cls, host: Host) -> HostState:
        """The starting state: entries of conntrack.txt, elements of ipset.txt."""
        state = cls()
        if host.conns:
            state.ct = _table(host.conns).fork()
        state.ct.expectations = host.expectations
        state.sets = {name: ipset.elements for name, ipset in host.sets.items()}
        return state

    def fork(self) -> HostState:
        twin = HostState.__new__(HostState)
        twin.ct = self.ct.fork()
        twin.counters = self.counters.copy()
        twin.match_state = self.match_state.copy()
        twin.sets = self.sets.copy()
        twin.exceptions = self.exceptions.copy()
        twin.neigh = self.neigh.copy()
        twin.misc = self.misc.copy()
        return twin

    def count(self, rule_id: RuleId, length: int) -> None:
        packets, octets = self.counters.get(rule_id, (0, 0))
        self.counters[rule_id] = (packets + 1, octets + length)


class WorldState:
    """State of all hosts, the clock (seconds since the first packet) and what is known about drawn values."""

    __slots__ = ("_hosts", "domains", "next_draw", "now", "world")

    def __init__(self, world: World) -> None:
        self.world = world
        self._hosts: dict[str, HostState] = {}
        self.now = 0.0
        self.domains: dict[int, Domain] = {}
        self.next_draw = 1

    def host(self, name: str) -> HostState:
        """State of a host, made from its snapshot at first use."""
        state = self._hosts.get(name)
        if state is None:
            state = self._hosts[name] = HostState.of(self.world.hosts[name])
        return state

    def fork(self) -> WorldState:
        twin = WorldState.__new__(WorldState)
        twin.world, twin.now, twin.next_draw = self.world, self.now, self.next_draw
        twin._hosts = {name: state.fork() for name, state in self._hosts.items()}
        twin.domains = self.domains.copy()
        return twin

    def draw(self, what: str, domain: Domain) -> Number:
        """A new drawn value; with one candidate left it is simply that number."""
        if domain.single is not None:
            return domain.single
        token = Drawn(self.next_draw, what)
        self.next_draw += 1
        self.domains[token.draw_id] = domain
        return token

    def known(self, value: Number) -> Number:
        """The number itself where only one candidate is left, else the token."""
        if isinstance(value, Drawn):
            single = self.domains[value.draw_id].single
            return value if single is None else single
        return value
