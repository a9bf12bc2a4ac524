"""Recorded traces in Python: stories as objects, events, steps and latencies as DataFrames.

    import nattrace as nt

    trace = nt.load_trace("ping.trace")     # what `nattrace trace -o ping.trace …` saved
    trace.stories[0]["outcome"], trace.latency()

A recording is read on any machine: it needs numpy (``pip install 'nattrace[live]'``), no root, no Linux, no bcc.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from nattrace.sim.errors import MissingFacility
from nattrace.sim.frames import frame
from nattrace.sim.model.packet import ICMP_ERRORS
from nattrace.sim.notebook import Snapshot

STEPS = ("story", "hop", "host", "in", "out", "hook", "stage", "table", "chain", "text", "verdict", "changes", "conntrack",
         "note", "us")  # fmt: skip
EVENTS = ("ns", "kind", "host", "hook", "prio", "src", "dst", "sport", "dport", "proto", "mark", "ttl", "len", "cpu")
COMPARED = ("packet", "src", "dst", "sport", "dport", "outcome", "at", "agrees")


def load_trace(path: str | Path) -> Trace:
    """A recording made with ``nattrace trace -o``. Raises InputError for what is none."""
    try:
        from .live.recording import read
        from .live.trace import Replay
    except ImportError as error:
        raise MissingFacility(f"{error.name} is not installed", remedy="pip install 'nattrace[live]'") from None
    return Trace(Replay(read(Path(path)), str(path)))


class Trace:
    """What the kernel did to the packets of a flow."""

    def __init__(self, replay: Any) -> None:
        self._replay = replay

    def __repr__(self) -> str:
        return f"<Trace of {len(self.stories)} packets, {len(self._replay.recording.events)} events>"

    @cached_property
    def _stories(self) -> list[Any]:
        return list(self._replay.stories())

    @property
    def stories(self) -> list[dict[str, Any]]:
        """One document for each packet, as ``trace --json`` prints it, in order of their first event."""
        from .live.story import to_json

        return [to_json(story) for story in self._stories]

    @property
    def totals(self) -> dict[str, Any]:
        """Events seen and lost, and the places that could not be observed."""
        assert self._stories is not None  # the totals count what was told
        return dict(self._replay.totals())

    def text(self, number: int | None = None, width: int = 100) -> str:
        """The stories (or the one of that number) as ``nattrace trace`` prints them."""
        from nattrace.sim.render.style import Style

        from .live.render.text import story_text

        chosen = [s for s in self._stories if number in (None, s.number)]
        return "\n".join(story_text(s, None, width, Style(False)) for s in chosen)

    def steps(self, kind: str | None = None) -> Any:
        """Every step of every packet; ``us``: microseconds since the step before. ``kind``: "pandas", "polars", "arrow"."""
        return frame(list(self._steps()), STEPS, kind)

    def _steps(self) -> Iterator[dict[str, Any]]:
        for story in self.stories:
            before = None
            for number, hop in enumerate(story["hops"], 1):
                for step, at in zip(hop["steps"], hop["times_ns"], strict=True):
                    us: float | None = None if before is None or not at else (at - before) / 1000
                    before = at or before
                    yield {"story": story["number"], "hop": number, "host": hop["host"], "in": hop["in"], "out": hop["out"],
                           **{k: step[k] for k in STEPS[5:-1]}, "us": us}  # fmt: skip

    def latency(self, kind: str | None = None) -> Any:
        """``stage`` (host, hook and what was done) and ``us``, for :func:`nattrace.sim.plots.plot_latency`."""
        rows = [
            {"stage": " ".join(p for p in (r["host"], r["hook"] or "", r["stage"]) if p), "us": r["us"]}
            for r in self._steps()
            if r["us"] is not None
        ]
        return frame(rows, ("stage", "us"), kind)

    def events(self, kind: str | None = None) -> Any:
        """Every event as the probes wrote it; ``ns`` counts from the first."""
        return frame(list(self._events()), EVENTS, kind)

    def _events(self) -> Iterator[dict[str, Any]]:
        from .live.event import HOOKS, KIND, NO_HOOK, address

        events = self._replay.recording.events
        start = int(events["ts"].min()) if len(events) else 0
        for e in events[events["ts"].argsort(kind="stable")]:
            hook = int(e["hook"])
            yield {
                "ns": int(e["ts"]) - start, "kind": KIND(int(e["kind"])).name, "host": self._replay.scene.host(int(e["netns"])),
                "hook": None if hook == NO_HOOK else HOOKS[hook], "prio": int(e["prio"]), "src": address(e["t"], "s"),
                "dst": address(e["t"], "d"), "sport": int(e["t"]["sport"]), "dport": int(e["t"]["dport"]),
                "proto": int(e["t"]["proto"]), "mark": int(e["mark"]), "ttl": int(e["ttl"]), "len": int(e["len"]),
                "cpu": int(e["cpu"]),
            }  # fmt: skip

    def compare(self, snapshot: Snapshot, kind: str | None = None) -> Any:
        """Each packet that began on a host of ``snapshot``, as it was seen to end and as it is predicted to.

        Two rows a packet (``observed``, ``predicted``), state carried from packet to packet; ``agrees`` in both.
        """
        return frame(list(self._compared(snapshot)), COMPARED, kind)

    def _compared(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        from nattrace.sim.tables import packets

        begun = [s for s in self.stories if s["hops"] and s["hops"][0]["host"] in snapshot.hosts]
        asked = [
            s for s in begun if s["packet"].get("type") not in ICMP_ERRORS
        ]  # what they quote is not in a recording
        first = asked[0]["start_ns"] if asked else 0
        predictions = snapshot.simulate([_record(s, first) for s in asked])
        for story, row in zip(asked, packets(predictions), strict=True):
            at = story["at"]["host"]
            seen = story["packet"] | {"outcome": story["outcome"], "at": at}
            keys = ("src", "dst", "sport", "dport", "outcome", "at")
            agrees = all(_same(row[k], seen.get(k)) for k in keys)
            number = story["number"]
            yield {"packet": f"#{number} observed", **{k: seen.get(k) for k in keys}, "agrees": agrees}
            yield {"packet": f"#{number} predicted", **{k: row[k] for k in keys}, "agrees": agrees}


def _same(predicted: Any, seen: Any) -> bool:
    """Equal, or one of the candidates of a drawn number."""
    if isinstance(predicted, dict):
        return isinstance(seen, int) and any(low <= seen <= high for low, high in predicted["ranges"])
    return bool(predicted == seen)


_SENT = (
    "proto",
    "src",
    "dst",
    "sport",
    "dport",
    "type",
    "code",
    "icmp_id",
    "seq",
    "flags",
    "tcp_seq",
    "tcp_ack",
    "ttl",
    "len",
    "df",
)


def _record(story: dict[str, Any], first_ns: int) -> dict[str, Any]:
    """The packet as ``simulate`` takes it, from where it was first seen."""
    hop = story["hops"][0]
    record = {k: hop["before"][k] for k in _SENT if hop["before"].get(k) is not None}
    at = max(story["start_ns"] - first_ns, 0) / 1e9
    return record | {"id": story["number"], "host": hop["host"], "in": hop["in"], "at": at}
