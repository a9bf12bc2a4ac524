"""Confirming in the process of a test: namespaces watched while something happens, judged against a world."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nattrace.sim.flow import Question
from nattrace.sim.model.world import World
from nattrace.tracer.live import netns
from nattrace.tracer.live.confirm import captured
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.netns import Namespace
from nattrace.tracer.live.recording import read
from nattrace.tracer.live.report import Report, assess
from nattrace.tracer.live.trace import Replay, Tracer

PROTOCOLS = ("icmp", "udp", "tcp")


@contextmanager
def spaces_of(names: dict[str, str]) -> Iterator[list[Namespace]]:
    """Namespaces, named as the hosts they are (host → namespace)."""
    opened = []
    try:
        for host, name in names.items():
            opened.append(netns.by_name(name))
            opened[-1].name = host
        yield opened
    finally:
        for ns in opened:
            ns.close()


@dataclass
class Watched:
    """What was seen; judged against any world, as often as wanted."""

    stories: list[Any]
    replay: Replay
    spaces: list[Namespace]

    def judged(self, world: World, now: World | None = None, question: Question | None = None) -> Report:
        events = self.replay.recording.events
        return assess(
            "test", world, question, self.stories, self.replay.scene, self.replay.totals(), lambda: now, events=events
        )


def watched(spaces: list[Namespace], act: Callable[[], Any], settle: float = 0.3) -> Watched:
    """Every packet while something happens, neighbour discovery and the like left out."""
    import time

    with tempfile.TemporaryDirectory() as scratch:
        file = str(Path(scratch) / "events")
        with Tracer(spaces, Filter.everything(), file) as tracer:
            act()
            time.sleep(settle)
            tracer.finish()
        replay = Replay(read(file), "events")
    stories = [s for s in replay.stories() if s.hops and s.hops[0].before.get("proto") in PROTOCOLS]
    return Watched(stories, replay, spaces)


def world_of(spaces: list[Namespace]) -> World:
    """The namespaces as they are."""
    with tempfile.TemporaryDirectory() as scratch:
        return captured(Path(scratch) / "snapshot", spaces)
