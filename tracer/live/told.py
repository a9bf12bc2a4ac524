"""What a story is: its shape, as renderers, recordings and comparisons see it. story.py makes them from events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...sim.engine.simulate import hop_json, reason_json
from ...sim.model.result import Hop, Leaf, Reason, Response

if TYPE_CHECKING:
    from .rule_hits import HopRules


@dataclass(slots=True)
class End:
    """Where a story ends. ``outcome``: as the simulator's, None where it was not seen. ``drop``: the kernel's name of
    the reason; ``place``: its function; ``transport``: the transport layer had it by then."""

    outcome: str | None
    at: dict[str, Any]
    reason: Reason
    drop: str | None = None
    place: str = ""
    transport: bool = False


@dataclass(slots=True)
class Story:
    """See the module. ``times``: for each hop the moment (CLOCK_MONOTONIC, ns) of each of its steps; ``asides``: copies
    of this packet that went their own way; ``events``: rows of event.EVENT in order."""

    number: int
    hops: list[Hop] = field(default_factory=list)
    times: list[list[int]] = field(default_factory=list)
    end: End = field(default_factory=lambda: End(None, {}, Reason("missing_input", "nothing was seen")))
    responses: list[Response] = field(default_factory=list)
    captures: list[dict[str, Any]] = field(default_factory=list)
    asides: list[Story] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    events: Any = None
    hits: list[HopRules | None] | None = None  # the rules it met, pass by pass; None: nobody asked
    rules_lost: bool = False  # messages about rules were lost: a rule that is not among them may have matched
    rules: str | None = None  # how the rules in it are known: "nftrace", "nflog", "counters", "model"

    @property
    def start(self) -> int:
        return int(self.events["ts"][0]) if self.events is not None and len(self.events) else 0

    @property
    def packet(self) -> dict[str, Any]:
        """The headers as they were last seen."""
        return next((h.after or h.before for h in reversed(self.hops)), {})

    def leaf(self) -> Leaf:
        """In the simulator's form, for renderers and comparisons; an end that was not seen is ``unknown``."""
        end = self.end
        return Leaf(end.outcome or "unknown", end.at, self.packet, end.reason, hops=self.hops, responses=self.responses)


def to_json(story: Story) -> dict[str, Any]:
    """A story as a line of ``trace --json``."""
    end = story.end
    return {
        "schema": "nattrace/trace/1",
        "kind": "story",
        "number": story.number,
        "start_ns": story.start,
        "outcome": end.outcome,
        "at": {k: end.at.get(k) for k in ("host", "interface", "hook")},
        "packet": story.packet,
        "reason": reason_json(end.reason),
        "drop": None if end.drop is None else {"reason": end.drop, "function": end.place, "transport": end.transport},
        "hops": [hop_json(hop, None) | {"times_ns": times} for hop, times in zip(story.hops, story.times, strict=True)],
        "responses": [
            {"kind": r.kind, "type": r.type, "code": r.code, "from": r.sender, "to": r.to, "outcome": r.outcome}
            for r in story.responses
        ],
        "captures": story.captures,
        "asides": [to_json(aside) for aside in story.asides],
        "incomplete": story.incomplete,
        "rules": story.rules,
        "events": len(story.events) if story.events is not None else 0,
    }
