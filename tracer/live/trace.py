"""Observing without predicting: a session's events told as stories while they come, or those of a recording.

    with Tracer(spaces, Filter.of(proto="udp", dport=53)) as tracer:
        for story in tracer.poll(0.2): ...        # packets that are at rest
        for story in tracer.finish(): ...         # the others
        tracer.totals()                           # {"seen": events, "matched": packets, "lost": {stream: count}}
    for story in replay(recording.read(path), scene): ...

A packet is told when nothing came of it for a while; one whose end was not seen yet waits longer, for it may wait itself:
a neighbour is asked for three seconds (mcast_solicit × retrans_time_ms).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from ...sim.errors import InputError
from . import netns as spaces_of
from .event import KIND
from .filter import Filter
from .group import Packets, group
from .netns import Namespace
from .plan import IN
from .queue_session import QueueSession
from .recording import Recording, Writer, session_header
from .scene import ATTACHED, Scene
from .session import POLL, STREAMS, Session
from .story import Story, stories

SETTLE, PATIENCE = 0.15, 3.6  # seconds without a further event: of a packet that ended, of one that may go on
ENDED = (KIND.drop, KIND.tx, KIND.xmit, KIND.consume)
AT_ONCE = 1000  # stories told from one look at the ring
LONG_AGO = 1 << 62


class _Reader(threading.Thread):
    """Empties the ring while stories are told, which takes longer than their events; what it holds is bounded."""

    MOST = 1_000_000  # events; beyond, they stay in the kernel, which counts those it loses

    def __init__(self, session: Session | QueueSession) -> None:
        super().__init__(name="nattrace-reader", daemon=True)
        self.session, self.lock, self.come, self.ends = session, threading.Lock(), threading.Event(), threading.Event()
        self.batches: list[Any] = []
        self.held = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ends.is_set():
                events = None
                if self.held < self.MOST:
                    with self.lock:
                        events = self.session.read(0.0)
                        if events is not None:
                            self.batches.append(events)
                            self.held += len(events)
                if events is None:
                    self.ends.wait(POLL)
                else:
                    self.come.set()
        except BaseException as error:  # told where the events are awaited
            self.error = error
            self.come.set()

    def take(self, timeout: float) -> list[Any]:
        """What has come; waits for the first. Raises what reading raised."""
        self.come.wait(timeout)
        if self.error is not None:
            raise self.error
        with self.lock:
            found, self.batches, self.held = self.batches, [], 0
            self.come.clear()
        return found

    def stop(self) -> list[Any]:
        """The end; what was not taken yet."""
        self.ends.set()
        if self.is_alive():
            self.join()
        return self.take(0.0) if self.error is None else []


class Tracer:
    """See the module. ``record``: where raw events are saved as they come. ``on_events``: called with every batch."""

    def __init__(self, spaces: Sequence[Namespace], filter: Filter, record: str | None = None,
                 streams: Sequence[str] = STREAMS, on_events: Callable[[Any], None] | None = None,
                 session: Session | QueueSession | None = None) -> None:  # fmt: skip
        self.session = Session(spaces, filter, streams) if session is None else session
        self.spaces, self.record, self.on_events = list(spaces), record, on_events
        self.told = self.untold = self.events = 0
        self._kept: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> Tracer:
        try:
            self._stack.enter_context(self.session)
            self.scene = Scene.of(self.session)
            if isinstance(self.session, QueueSession) and not self.session.with_conntrack:
                self.scene.tracking = dict.fromkeys(
                    self.scene.tracking, False
                )  # an entry that is not shown is not absent
            self.peers = spaces_of.veth_peers(self.spaces)
            self.reader = _Reader(self.session)
            self._stack.callback(self.reader.stop)
            self.reader.start()
            self.writer = None
            if self.record is not None:
                header = session_header(self.session, scene=self.scene.to_json(), peers=_peers_json(self.peers))
                self.writer = self._stack.enter_context(Writer(self.record, header))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def poll(self, timeout: float) -> list[Story]:
        """Wait for events at most so long; the packets that are at rest by then."""
        self._take(self.reader.take(timeout))
        return self._tell(time.clock_gettime_ns(time.CLOCK_MONOTONIC))

    def _take(self, batches: list[Any]) -> None:
        for events in batches:
            self.events += len(events)
            if self.writer is not None:
                self.writer.events(events)
            if self.on_events is not None:
                self.on_events(events)
        if batches:
            kept = [] if self._kept is None else [self._kept]
            self._kept = np.concatenate([*kept, *batches])

    def _tell(self, now: int) -> list[Story]:
        events = self._kept
        if events is None or not len(events):
            return []
        with self.reader.lock:
            records, unlogged = self.session.losses()
        packets = group(events, records, unlogged, self.peers)
        rest = at_rest(events, packets, now)
        young = events[packets.loose][events["ts"][packets.loose] > now - int(SETTLE * 1e9)]
        if not rest.any():
            if not packets.count and not len(young):
                self._kept = None
            return []
        others, mine, chosen = packets.split(events, rest)
        self._kept = np.concatenate([young, others])
        if chosen.count > AT_ONCE:
            mine, chosen = self._first_ones(mine, chosen)
        return self._number(stories(mine, chosen, self.scene, self.told + 1))

    def _first_ones(self, events: Any, packets: Packets) -> tuple[Any, Packets]:
        """More than can be told before the next ones come: the others are counted only."""
        begin = events["ts"][packets.order[packets.start[:-1]]]
        wanted = np.zeros(packets.count, bool)
        wanted[np.argsort(begin, kind="stable")[:AT_ONCE]] = True
        self.untold += int((~wanted).sum())
        _, mine, chosen = packets.split(events, wanted)
        return mine, chosen

    def _number(self, found: list[Story]) -> list[Story]:
        self.told += len(found)
        return found

    def waiting(self) -> bool:
        """Whether packets are still to be told."""
        return self.reader.held > 0 or (self._kept is not None and bool((self._kept["skb"] != 0).any()))

    def finish(self) -> list[Story]:
        """No more events: what was seen of the packets still under way, and the recording's end."""
        self.session.pause()
        self._take(self.reader.stop())
        while (events := self.session.read(0.0)) is not None:
            self._take([events])
        found = self._tell(LONG_AGO)
        if self.writer is not None:
            records, unlogged = self.session.losses()
            self.writer.finish(records, unlogged, self.session.loss(), symbols=self._symbols())
        return found

    def _symbols(self) -> dict[str, str]:
        return {str(k): v for k, v in self.scene.symbols.items()}

    def totals(self) -> dict[str, Any]:
        """For the last line. ``missing``: streams that this kernel does not give."""
        return {
            "seen": self.events, "matched": self.told + self.untold, "untold": self.untold,
            "lost": self.session.loss(), "missing": dict(self.session.missing),
            "unobservable": [f"{s}: {s.note or s.state}" for s in self.session.slots if s.state != "attached"],
        }  # fmt: skip


def at_rest(events: Any, packets: Packets, now: int) -> npt.NDArray[np.bool_]:
    """Which packets need no more waiting."""
    if not packets.count:
        return np.zeros(0, bool)
    kind, hook = events["kind"][packets.order], events["hook"][packets.order]
    own = (kind != KIND.fib) & (kind != KIND.neigh)
    starts = packets.start[:-1]
    last = np.maximum.reduceat(np.where(own, np.arange(len(kind)), -1), starts)
    last = np.where(last < 0, packets.start[1:] - 1, last)
    ended = np.isin(kind[last], ENDED) | ((kind[last] == KIND.tap) & (hook[last] == IN))
    latest = np.maximum.reduceat(events["ts"][packets.order].astype(np.int64), starts)
    rest: npt.NDArray[np.bool_] = latest + np.where(ended, int(SETTLE * 1e9), int(PATIENCE * 1e9)) <= now
    return rest


def _peers_json(peers: dict[tuple[int, int], tuple[int, int]]) -> list[list[int]]:
    return [[*a, *b] for a, b in peers.items()]


class Replay:
    """A recording, told again: ``scene``, ``stories()``, ``totals()``."""

    def __init__(self, recording: Recording, name: str) -> None:
        self.recording, self.told = recording, 0
        try:
            self.scene = Scene.from_json(recording.header["scene"])
            self.scene.symbols |= {int(k): str(v) for k, v in recording.tail.get("symbols", {}).items()}
            self.peers = {(int(a), int(b)): (int(c), int(d)) for a, b, c, d in recording.header.get("peers", [])}
        except (KeyError, TypeError, ValueError, AttributeError):
            remedy = "record it with: nattrace trace -o FILE"
            raise InputError(f"{name}: the recording does not tell the scene", remedy=remedy) from None

    def stories(self) -> list[Story]:
        unlogged = self.recording.tail.get("unlogged", 0)
        losses = self.recording.losses
        packets = group(self.recording.events, losses, unlogged if isinstance(unlogged, int) else 0, self.peers)
        found = stories(self.recording.events, packets, self.scene)
        if not self.recording.whole:
            for story in found[-1:]:
                story.incomplete.append("the recording was cut off here")
        self.told = len(found)
        return found

    def totals(self) -> dict[str, Any]:
        lost = self.recording.tail.get("loss", {})
        hidden = [t for t in self.scene.taps if t.state != ATTACHED]
        return {
            "untold": 0, "seen": len(self.recording.events), "matched": self.told,
            "lost": {str(k): int(v) for k, v in lost.items()} if isinstance(lost, dict) else {},
            "missing": dict(self.scene.missing),
            "unobservable": [f"{self.scene.host(t.netns)} {t.place}: {t.note or t.state}" for t in hidden],
        }  # fmt: skip
