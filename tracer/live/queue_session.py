"""nfqueue taps as a source of events: what session.Session gives, from packets that pass through user space.

    with QueueSession([ns], flow, allow_changes=True) as session:
        events = session.read(0.5)        # rows of event.EVENT, kind tap only

So trace --tap queue tells the same stories, without BPF. The taps stand where the probes' would (plan.py). There are no
receive, send, route or drop events: what came after the last tap was not seen, and a story says so. Packets are known
again from tap to tap by what no hook changes (protocol, IP id, first octets of the payload), for a queue does not show
the address of the sk_buff.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from ...sim.errors import InputError, NattraceError
from . import plan
from .event import EVENT, KIND, NO_UID
from .flow import FlowKey
from .netns import Namespace
from .queue import MAX_LEN, Held, QueueTaps, Seen, TapPoint, describe_changes
from .rules.nftrace import needs_changes

WHY = "queue taps show packets at hooks only"
NOT_SEEN = ("rx", "tx", "drop", "consume", "icmp_send", "fib", "neigh", "tcp_reset", "xmit")
OLD = 30 * 10**9  # ns after which a packet is not expected at a further tap
PATHS = {0: (1, 2), 1: (), 2: (4,), 3: (4,), 4: (0,)}  # hooks that a packet can meet next in a namespace, or in another
POST, LOOPBACK_IFINDEX = 4, 1  # the loopback device of every namespace is its first
FRAGMENT = 0x1FFF


class QueueSession:
    """``hold``: packets wait for a verdict, :meth:`held` hands them out; else they pass and :meth:`read` tells them."""

    def __init__(self, namespaces: Sequence[Namespace], flow: FlowKey | None, *, max_len: int = MAX_LEN,
                 hold: bool = False, allow_changes: bool = False) -> None:  # fmt: skip
        if flow is None:
            raise InputError("--tap queue needs a FLOW: it sends packets of one flow through user space")
        self.namespaces, self.flow, self.max_len, self.hold = list(namespaces), flow, max_len, hold
        self.slots: list[plan.Slot] = []
        for ns in self.namespaces:
            self.slots += [_placed(slot) for slot in plan.slots(ns, plan.chains_of(ns), (flow.family,))]
        if not allow_changes:
            raise NattraceError("--tap queue changes this host", remedy=needs_changes(self.changes()))
        self.streams: tuple[str, ...] = ("tap",)
        self.missing: dict[str, str] = {}
        self.notes: list[str] = []
        self.times: dict[str, float] = {}
        self.backend, self.ready, self.with_conntrack = "nfqueue", False, False
        self.taps: dict[int, QueueTaps] = {}
        self._known = Known()
        self._sequence = 0
        self._stack = ExitStack()

    def changes(self) -> list[str]:
        """What will be changed, for the user to agree to."""
        points = [TapPoint(slot.hook, slot.prio) for slot in self.slots if slot.prio is not None]
        return describe_changes(self.flow, list(dict.fromkeys(points)), self.max_len)

    def __enter__(self) -> QueueSession:
        start = time.monotonic()
        try:
            for ns in self.namespaces:
                points = [TapPoint(s.hook, s.prio) for s in self.slots if s.netns is ns and s.prio is not None]
                taps = QueueTaps(ns, self.flow, points, replies=[self.flow.reversed()], max_len=self.max_len,
                                 hold=self.hold, allow_changes=True)  # fmt: skip
                self.taps[ns.inum] = self._stack.enter_context(taps)
        except BaseException:
            self._stack.close()
            raise
        self.with_conntrack = all(queue.with_conntrack for taps in self.taps.values() for queue in taps.queues)
        self.times["queues"] = time.monotonic() - start
        self.ready = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.ready = False
        self._stack.close()

    def read(self, timeout: float = 0.0) -> Any:
        """Events since the last call, None without any; waits at most so long for the first."""
        self._wait(timeout)
        seen = [(s, ns) for ns, taps in self.taps.items() for s in taps.read()]
        return self.events(sorted(seen, key=lambda pair: pair[0].time)) if seen else None

    def held(self, timeout: float = 0.0) -> list[tuple[Held, int]]:
        """Packets that wait, each with the inode number of its namespace."""
        self._wait(timeout)
        found = [(h, ns) for ns, taps in self.taps.items() for h in taps.held()]
        return sorted(found, key=lambda pair: pair[0].seen.time)

    def events(self, seen: Sequence[tuple[Seen, int]]) -> Any:
        """As rows of event.EVENT."""
        rows = np.zeros(len(seen), EVENT)
        for row, (one, ns) in zip(rows, seen, strict=True):
            self._sequence += 1
            _fill(row, one, ns, self._sequence)
            row["skb"] = row["head"] = self._known.number(row)
        return rows

    def _wait(self, timeout: float) -> None:
        if timeout > 0:
            import select

            select.select([fd for taps in self.taps.values() for fd in taps.filenos()], [], [], timeout)

    # --- what Session has besides

    def loss(self) -> dict[str, int]:
        """Packets that a tap did not show, by cause; exact."""
        found: dict[str, int] = {}
        for taps in self.taps.values():
            for key, value in taps.loss().items():
                found[key] = found.get(key, 0) + value
        return found

    def losses(self) -> tuple[Any, int]:
        """No records; what a tap did not show may be of any packet."""
        from .session import LOSS

        return np.zeros(0, LOSS), sum(self.loss().values())

    def emitted(self) -> int:
        return self._sequence + sum(self.loss().values())

    def reasons(self) -> dict[int, str]:
        """Drops are not seen, so none needs a name."""
        return {}

    def vanished(self) -> list[Namespace]:
        return [ns for ns in self.namespaces if ns.deleted()]

    def pause(self) -> None:
        """Packets go on unseen from now on."""
        for taps in self.taps.values():
            with suppress(OSError):
                taps.end_rules()

    def resume(self) -> None:
        raise NotImplementedError("a session of queue taps that was paused is at its end")


def _placed(slot: plan.Slot) -> plan.Slot:
    """A chain may share a priority with others, so every place between two chains can be had."""
    return slot if slot.state != "planned" else replace(slot, state="attached", prio=slot.wanted)


class Known:
    """Which packet a row is of: the one that was last seen before this place and looks the same; else a new one."""

    def __init__(self) -> None:
        self._count = 0
        self._open: dict[
            tuple[Any, ...], list[tuple[int, int, int, int, int]]
        ] = {}  # → (number, netns, hook, prio, ts)

    def number(self, row: Any) -> int:
        """A number in place of the address of an sk_buff."""
        now = int(row["ts"])
        place = (int(row["netns"]), int(row["hook"]), int(row["prio"]))
        key = (
            int(row["t"]["proto"]),
            int(row["ipid"]),
            int(row["frag"]) & FRAGMENT,
            bytes(row["pay"]),
            int(row["len"]),
        )
        alive = [entry for entry in self._open.get(key, []) if now - entry[4] < OLD]
        for entry in alive:
            if _follows(entry[1:4], place, int(row["indev"])):
                alive.remove(entry)
                break
        else:
            self._count += 1
            entry = (self._count << 8, 0, 0, 0, 0)
        alive.append((entry[0], *place, now))
        self._open[key] = alive
        if len(self._open) > 4096:
            self._open = {k: v for k, v in self._open.items() if now - v[-1][4] < OLD}
        return entry[0]


def _follows(last: tuple[int, int, int], place: tuple[int, int, int], indev: int) -> bool:
    """Whether a packet seen at one place can be seen at another next; it comes back to its host by loopback only."""
    if last[0] == place[0]:
        if last[1] == place[1]:
            return last[2] < place[2]
        if last[1] == POST and indev != LOOPBACK_IFINDEX:
            return False
    return place[1] in PATHS[last[1]]


def _fill(row: Any, seen: Seen, netns: int, sequence: int) -> None:
    """The fields of an event; ``ct`` is the entry's id where the queue tells the entry."""
    data = seen.data
    row["ts"], row["kind"], row["netns"], row["seq"] = seen.time, KIND.tap, netns, sequence
    row["hook"], row["prio"], row["mark"] = seen.point.hook, seen.point.priority, seen.mark
    row["indev"], row["outdev"] = seen.indev or 0, seen.outdev or 0
    row["len"], row["uid"] = seen.full_length, NO_UID if seen.uid is None else seen.uid
    if data[:1] and data[0] >> 4 == 6:
        _ipv6(row, data)
    else:
        _ipv4(row, data)
    if seen.entry is not None:
        entry = seen.entry
        row["ct"], row["status"], row["ctmark"], row["zone"] = entry.id or 1, entry.status or 0, entry.mark, entry.zone
        row["ctinfo"] = seen.ctinfo_number or 0
        for name, tuple_ in (("o", entry.orig), ("r", entry.reply)):
            _tuple(row[name], tuple_.family, tuple_.proto, tuple_.src, tuple_.dst, tuple_.sport or 0, tuple_.dport or 0)
        row["r"]["dir"] = 1


def _ipv4(row: Any, data: bytes) -> None:
    row["pf"] = 2
    fragment = int.from_bytes(data[6:8], "big")
    row["ipid"], row["frag"], row["ttl"], row["table"] = int.from_bytes(data[4:6], "big"), fragment, data[8], data[1]
    transport = b"" if fragment & FRAGMENT else data[4 * (data[0] & 15) :]
    _transport(row, 2, data[9], data[12:16], data[16:20], transport)


EXTENSIONS = frozenset((0, 43, 60))  # hop-by-hop, routing, destination options: RFC 8200, section 4


def _ipv6(row: Any, data: bytes) -> None:
    row["pf"], row["ttl"], row["table"] = 10, data[7], (data[0] & 15) << 4 | data[1] >> 4
    proto, at = data[6], 40
    while proto in EXTENSIONS and at + 8 <= len(data):
        proto, at = data[at], at + 8 * (data[at + 1] + 1)
    _transport(row, 10, proto, data[8:24], data[24:40], data[at:])


def _transport(row: Any, family: int, proto: int, src: bytes, dst: bytes, l4: bytes) -> None:
    """Ports or ICMP's id and type, and the octets that no hook changes (see bpf/include/packet.h)."""
    sport = dport = 0
    if proto in (1, 58) and len(l4) >= 4:
        sport, dport = int.from_bytes(l4[4:6], "big"), l4[0] << 8 | l4[1]
        pay = l4[6:14]
    else:
        if len(l4) >= 4:
            sport, dport = int.from_bytes(l4[:2], "big"), int.from_bytes(l4[2:4], "big")
        pay = l4[4:12] if proto == 6 else l4[8:16]
        row["tcp_flags"] = l4[13] if proto == 6 and len(l4) > 13 else 0
    row["pay"] = np.frombuffer(pay.ljust(8, b"\0"), np.uint8)
    _tuple(row["t"], family, proto, src, dst, sport, dport)


def _tuple(row: Any, family: int, proto: int, src: bytes, dst: bytes, sport: int, dport: int) -> None:
    row["s"], row["d"] = (np.frombuffer(a.ljust(16, b"\0"), np.uint8) for a in (src, dst))
    row["l3num"], row["proto"], row["sport"], row["dport"] = family, proto, sport, dport
