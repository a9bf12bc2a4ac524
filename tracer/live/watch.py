"""``nattrace watch``: every new connection predicted, and held against what the kernel made of it, until stopped.

Taps show the first packet of each connection and nothing else (Filter.fresh), ctnetlink says which stay. A connection
that the model would have treated otherwise is judged again with a snapshot taken at that moment, which has the
connection table, before it counts as a disagreement.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...sim.errors import NattraceError
from .. import scratch as scratches
from . import run
from .confirm import _spaces, captured
from .ctevents import NEW, ConntrackEvents
from .filter import Filter
from .session import Session
from .watching.connections import Connection, Connections
from .watching.expected import AGREED, DIFFERS, Finding, Judge
from .watching.renewal import Changes
from .watching.tally import Tally
from .worlds import Worlds

if TYPE_CHECKING:
    from .netns import Namespace

DISAGREED, UNDECIDED = 1, 4
STREAMS = ("tap", "drop")
SETTLE = 0.05  # seconds that the last taps of a connection may come after the word that it stays
RENEW_EVERY = 2.0  # seconds between two snapshots at least: a host that changes all the time is not all we look at
BEHIND = 20000  # connections waiting to be judged; beyond, they are counted only
AT_ONCE = 500  # judged between two looks at the streams
MAX_RATE = 200_000  # events a second; beyond, the kernel adds up and nothing can be judged


def watch(command: list[str], options: dict[str, Any]) -> int:
    """Returns the exit status."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=scratches.prefix())))
        worlds = Worlds(options)
        spaces = [stack.enter_context(ns) for ns in _spaces(worlds, "", options)]
        stop = stack.enter_context(run._signals())
        watcher = stack.enter_context(Watcher(spaces, worlds, scratch))
        shown = stack.enter_context(_shown(options, watcher))
        if options["ready_file"]:
            Path(options["ready_file"]).write_text(f"{os.getpid()}\n")
        child = run._start(command)
        try:
            _loop(watcher, shown, child, options, stop)
        finally:
            run._end(child)
        watcher.finish()
        shown.end()
        watcher.close()
        if options["verbose"]:
            run._residue(spaces)
    return _status(watcher.tally, stop)


def _status(tally: Tally, stop: run.Stop) -> int:
    if tally.differ:
        return DISAGREED
    return 0 if tally.agreed or stop.signal else UNDECIDED


def _loop(watcher: Watcher, shown: Any, child: Any, options: dict[str, Any], stop: run.Stop) -> None:
    until = time.monotonic() + (options["duration"] or 1e12)
    gone = 0.0
    while not stop.signal and time.monotonic() < until:
        watcher.step(run.TICK)
        shown.tick()
        if options["count"] and watcher.tally.total >= options["count"]:
            return
        if child is not None and child.poll() is not None and not gone:
            gone = time.monotonic()
            run._say(f"the command ended with status {child.returncode}")
        if gone and time.monotonic() - gone > run.AFTER_COMMAND + SETTLE and not watcher.waiting():
            return
        if watcher.spaces and all(ns.deleted() for ns in watcher.spaces):
            run._say("the namespace that was watched is gone")
            return


def _shown(options: dict[str, Any], watcher: Watcher) -> Any:
    from .watching.screen import shown

    return shown(options, watcher)


class Watcher:
    """Streams, model and sums of one watch. ``step()`` works off what has come."""

    def __init__(self, spaces: list[Namespace], worlds: Worlds, scratch: Path) -> None:
        self.spaces, self.worlds, self.scratch = spaces, worlds, scratch
        self.fixed = worlds.given
        self.tally = Tally()
        self.renewals = 0
        self.connections = Connections({ns.inum: number for number, ns in enumerate(spaces)})
        self.queue: list[Connection] = []
        self._stack = ExitStack()
        self._stale: set[str] = set()
        self._renewed = self._looked = -1e9
        self._numbers = 0
        self._lost: Counter[str] = Counter()
        self.session: Session | None = None

    def __enter__(self) -> Watcher:
        try:
            self.changes = self._stack.enter_context(Changes(self.spaces))
            self.judge = self._judge()
            self._stack.callback(self._shut)
            self._open()
            self.events = self._stack.enter_context(ConntrackEvents(self.spaces, kinds=(NEW,)))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing of ours stays; safe to repeat."""
        self._stack.close()

    def _open(self) -> None:
        self.session = Session(self.spaces, Filter(fresh=True), STREAMS, max_rate=MAX_RATE)
        self.session.open()

    def _shut(self) -> None:
        if self.session is not None:
            self._lost.update(self.session.loss())
            self.session.close()
        self.session = None

    # --- the model

    def _judge(self) -> Judge:
        world = self.worlds.world() if self.fixed else self._captured()
        assert world is not None
        began = time.monotonic()
        return Judge(world, lambda: time.monotonic() - began)

    def _captured(self) -> Any:
        self._numbers += 1
        target = self.scratch / f"snapshot-{self._numbers % 2}"
        shutil.rmtree(target, ignore_errors=True)
        return captured(target, self.spaces)

    def _renew(self) -> bool:
        """A fresh snapshot, unless the last one is too young or none can be taken."""
        if self.fixed or time.monotonic() - self._renewed < RENEW_EVERY:
            return False
        try:
            self.judge = self._judge()
        except (NattraceError, OSError) as error:
            run._say(f"the hosts could not be read again: {error}")
            self._renewed = time.monotonic()
            return False
        self._renewed, self.renewals = time.monotonic(), self.renewals + 1
        if self.session is not None and self.session.changed():  # between chains that came no tap lies
            self._shut()
            self._open()
        self._stale -= {ns.name for ns in self.spaces}
        return True

    # --- one step

    def step(self, timeout: float) -> None:
        """Read both streams, judge what is decided."""
        assert self.session is not None
        events = self.session.read(0.0 if self.queue else timeout)
        if not self.fixed:
            self._stale |= set(self.changes.happened())
            for one in self.connections.all_open() if self._stale else ():
                one.changed = one.changed or self.spaces[one.netns].name in self._stale
        while events is not None:
            self.connections.taps(events)
            events = self.session.read(0.0)
        for event in self.events.read():
            self.connections.made(event)
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._take(self.connections.done(lambda one: now - one.began > SETTLE * 1e9))
        if self._stale:
            self._renew()
        self._work(AT_ONCE)

    def _take(self, done: list[Connection]) -> None:
        for one in done:
            one.changed = one.changed or self.spaces[one.netns].name in self._stale
            if len(self.queue) < BEHIND:
                self.queue.append(one)
            else:
                self.tally.miss("more came than could be judged")
        self.tally.miss("too many at one time", self.connections.crowded)
        self.tally.miss("its end was not seen", self.connections.lasting)
        self.connections.crowded = self.connections.lasting = 0

    def _work(self, most: int) -> None:
        mine, self.queue = self.queue[:most], self.queue[most:]
        doubtful: list[Connection] = []
        for one in mine:
            host = self.spaces[one.netns].name
            found = self.judge.judge(host, one)
            if found.state == DIFFERS:
                doubtful.append(one)
            else:
                self.tally.add(host, found)
        if doubtful:
            self._again(doubtful)

    def _again(self, doubtful: list[Connection]) -> None:
        """Judge once more, with the table and everything else as it is now."""
        fresh = self._renew()
        for one in doubtful:
            host = self.spaces[one.netns].name
            found = self.judge.judge(host, one, table=True)
            if found.state == DIFFERS and not fresh and not self.fixed:
                found = Finding("unchecked", "it differs, and the snapshot was too old to say why", flow=found.flow)
            self.tally.add(host, found, True, partial(self._cause, host, one))
        if not self.fixed:
            self.judge.forget_table()

    def _cause(self, host: str, one: Connection) -> str:
        """Of a disagreement: with a snapshot of now the model agrees, or it is wrong all the same."""
        if not self.fixed:
            return "model_wrong"
        if time.monotonic() - self._looked > 5 * RENEW_EVERY:
            try:
                self._now = Judge(self._captured(), lambda: 0.0)
            except (NattraceError, OSError):
                return "unknown"
            self._looked = time.monotonic()
        found = self._now.judge(host, one, table=True)
        return {DIFFERS: "model_wrong", AGREED: "rule_set_changed"}.get(found.state, "unknown")

    def waiting(self) -> bool:
        """Whether connections are still under way or not judged."""
        return bool(self.queue or self.connections.open or self.connections.ready or self.connections.waiting)

    def finish(self) -> None:
        """No more events: judge what was decided, count the rest."""
        assert self.session is not None
        self.session.pause()
        until = time.monotonic() + 2.0
        while time.monotonic() < until and (self.queue or self.connections.ready or self.connections.waiting):
            self.step(0.02)
        self.tally.miss("under way when the watch ended", len(self.connections.open) + len(self.queue))

    def lost(self) -> dict[str, int]:
        """Events that the kernel could not deliver: connections among them are not checked."""
        now = self.session.loss() if self.session is not None else {}
        return {name: self._lost[name] + now.get(name, 0) for name in STREAMS} | self.events.loss()

    def to_json(self, final: bool = False) -> dict[str, Any]:
        return self.tally.to_json(final, self.lost(), self.renewals)


__all__ = ["Watcher", "watch"]
