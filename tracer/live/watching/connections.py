"""New connections as the kernel makes them: the taps' view of a first packet, joined to ctnetlink's word that it stays.

The programs let through only packets whose conntrack entry is not confirmed yet (Filter.fresh): of each connection the
first packet, at every place between conntrack and its confirmation. Where that packet ends, its entry ends too.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..ctevents import ConntrackEvent
from ..event import KIND, NO_UID

PRE, IN, FORWARD, OUT, POST = range(5)
IP_CT_NEW = 2
PATIENCE = 5.0  # seconds in which a first packet may wait: for a verdict of a queue, for its events
MOST = 65536  # connections under way at one time; beyond, they are counted and not looked at


class Ends(NamedTuple):
    """One direction of a connection: addresses as text; ICMP has its id in ``sport`` and type << 8 | code in ``dport``."""

    proto: int
    src: str
    dst: str
    sport: int
    dport: int


@dataclass(slots=True)
class Connection:
    """What was seen of one. ``hook``/``indev``/``outdev``: where the packet began, came in, and was last about to leave.

    ``confirmed``: the kernel kept it. ``seen``: by a tap (a host whose chains are elsewhere has none where the connection
    begins).
    """

    netns: int
    orig: Ends
    reply: Ends
    hook: int
    indev: int
    began: int
    zone: int = 0
    uid: int = NO_UID
    mark: int = 0
    length: int = 0
    ttl: int = 64
    flags: int = 0
    tos: int = 0
    outdev: int = 0
    last: int = PRE
    status: int = 0
    confirmed: bool = False
    seen: bool = True
    changed: bool = False  # the rule set was another one before it was done

    @property
    def local(self) -> bool:
        """Sent by a process of the host."""
        return self.hook == OUT


COLUMNS = ("ts", "ct", "netns", "kind", "hook", "indev", "outdev", "zone", "uid", "mark", "len", "ttl", "tcp_flags",
           "status", "ctinfo", "table")  # fmt: skip


@dataclass
class Connections:
    """Feeds on both streams; ``done()`` gives what is decided.

    ``crowded``: too many at once; ``lasting``: whose end was never seen.
    """

    inums: dict[int, int]  # inode number of a namespace -> index of its socket of events
    open: dict[tuple[int, int], Connection] = field(default_factory=dict)
    by_flow: dict[tuple[int, int, Ends], tuple[int, int]] = field(default_factory=dict)
    waiting: dict[tuple[int, int, Ends], tuple[float, ConntrackEvent]] = field(default_factory=dict)
    ready: list[Connection] = field(default_factory=list)
    crowded: int = 0
    lasting: int = 0

    def taps(self, events: Any) -> None:
        """A batch of tap and drop events (event.EVENT), in the kernel's order for each packet."""
        columns = [events[name].tolist() for name in COLUMNS]
        for number, row in enumerate(zip(*columns, strict=True)):
            self._tap(events, number, row)

    def _tap(self, events: Any, number: int, row: tuple[Any, ...]) -> None:
        ts, ct, inum, kind, hook, indev, outdev, zone, uid, mark, length, ttl, flags, status, ctinfo, tos = row
        netns = self.inums.get(inum)
        if netns is None or not ct or ctinfo != IP_CT_NEW:
            return  # the error that a rule sends about a packet carries its entry too, as RELATED
        key = (netns, ct)
        one = self.open.get(key)
        if kind == KIND.drop:
            if one is not None:
                self._finish(key, one)
            return
        orig = ends_of(events["o"][number])
        if one is not None and (one.orig != orig or (hook in (PRE, OUT) and one.last not in (PRE, OUT))):
            self._forget(key, one)  # the address of an entry that is gone was given to this one
            one = None
        if one is None:
            if hook not in (PRE, OUT):
                return  # its beginning was before ours
            if len(self.open) >= MOST:
                self.crowded += 1
                return
            one = Connection(netns, orig, orig, hook, indev, ts, zone, uid, mark, length, ttl, flags, tos)
            self.open[key] = one
        one.last, one.status, one.reply = hook, status, ends_of(events["r"][number])
        one.zone = zone
        if outdev:
            one.outdev = outdev
        flow = (netns, zone, orig)
        self.by_flow[flow] = key
        told = self.waiting.pop(flow, None)
        if told is not None:
            self._confirm(key, one, told[1])

    def made(self, event: ConntrackEvent) -> None:
        """An entry was confirmed."""
        flow = (event.netns, event.orig.zone or event.zone, _ends(event.orig))
        key = self.by_flow.get(flow)
        one = self.open.get(key) if key is not None else None
        if key is None or one is None:
            if len(self.waiting) < MOST:
                self.waiting[flow] = (time.monotonic(), event)
            else:
                self.crowded += 1
            return
        self._confirm(key, one, event)

    def _confirm(self, key: tuple[int, int], one: Connection, event: ConntrackEvent) -> None:
        one.confirmed, one.reply, one.status = True, _ends(event.reply), event.status or one.status
        self._finish(key, one)

    def _finish(self, key: tuple[int, int], one: Connection) -> None:
        self._forget(key, one)
        self.ready.append(one)

    def _forget(self, key: tuple[int, int], one: Connection) -> None:
        self.open.pop(key, None)
        self.by_flow.pop((one.netns, one.zone, one.orig), None)

    def done(self, settle: Callable[[Connection], bool]) -> list[Connection]:
        """Those that ended or were confirmed, once ``settle`` lets them go (their last taps may come after the word)."""
        now: list[Connection] = []
        later: list[Connection] = []
        for one in self.ready:
            (now if settle(one) else later).append(one)
        self.ready = later
        self._overdue()
        return now

    def _overdue(self) -> None:
        clock = time.monotonic()
        limit = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(PATIENCE * 1e9)
        for flow, (since, event) in list(self.waiting.items()):
            if clock - since < 1.0:
                break
            del self.waiting[flow]
            self.ready.append(_untapped(event, limit))
        for key, one in list(self.open.items()):
            if one.began > limit:
                break
            self._forget(key, one)
            self.lasting += 1

    def all_open(self) -> Iterator[Connection]:
        """Those under way and those not taken yet."""
        yield from self.open.values()
        yield from self.ready


def _untapped(event: ConntrackEvent, began: int) -> Connection:
    """What ctnetlink alone knows of it."""
    orig, reply = _ends(event.orig), _ends(event.reply)
    zone = event.orig.zone or event.zone
    return Connection(
        event.netns, orig, reply, PRE, 0, began, zone, status=event.status or 0, confirmed=True, seen=False
    )


def ends_of(row: Any) -> Ends:
    """A struct tuple of an event."""
    octets = bytes(row["s"]), bytes(row["d"])
    size = 16 if row["l3num"] == 10 else 4
    src, dst = (str(ipaddress.ip_address(o[:size])) for o in octets)
    return Ends(int(row["proto"]), src, dst, int(row["sport"]), int(row["dport"]))


def _ends(side: Any) -> Ends:
    src, dst = str(ipaddress.ip_address(side.src)), str(ipaddress.ip_address(side.dst))
    return Ends(side.proto, src, dst, side.sport or 0, side.dport or 0)


__all__ = ["Connection", "Connections", "Ends"]
