"""Two captures, before and after a host: which packet became which across NAT, and where the others vanished.

A packet that comes in at one place is looked for among those that go out at the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..engine.simulate import plain
from ..model.result import Leaf
from ..model.state import WorldState
from ..model.world import World
from .sighting import ADDRESSES, IN, OUT, Sighting, agrees, enter, leaves_as, settle

EARLY, LATE = 0.05, 5.0  # seconds that a packet may be seen before (clocks differ) and after its first sighting

AS_PREDICTED, OTHERWISE, VANISHED, LOST, UNASKED = "as_predicted", "otherwise", "vanished", "lost", "unasked"


class Match(NamedTuple):
    """One packet, seen coming in (``before``), going out (``after``) or both.

    ``kind``: as_predicted (found as it should be), otherwise (found, but changed differently), vanished (not to come
    out there: the prediction says why), lost (it should have come out there and did not), unasked (only seen going out).
    """

    kind: str
    before: Sighting | None
    after: Sighting | None
    leaf: Leaf | None
    predicted: dict[str, Any] | None = None


def match(world: World, first: Sequence[Sighting], second: Sequence[Sighting]) -> list[Match]:
    """Pair the packets of two captures on one clock, in both directions; then what was only seen going out.

    What comes in at either place is played in order of time, so that each direction finds the other's connections.
    """
    state = WorldState(world)
    waiting = {
        id(first): _Waiting([s for s in first if s.way == OUT]),
        id(second): _Waiting([s for s in second if s.way == OUT]),
    }
    coming = [(s, waiting[id(second)]) for s in first if s.way == IN] + [
        (s, waiting[id(first)]) for s in second if s.way == IN
    ]
    found = []
    for seen, other_side in sorted(coming, key=lambda pair: pair[0].at):
        state.now = max(state.now, seen.at)
        leaf = enter(world, state, seen.host, seen.dev, seen.packet, seen.at)
        one = _paired(leaf, seen, other_side)
        if one.after is not None and one.predicted is not None and one.kind == AS_PREDICTED:
            settle(leaf, one.predicted, one.after.packet)
        state = leaf.state
        found.append(one._replace(predicted=None if one.predicted is None else plain(one.predicted, leaf.state)))
    return found + [Match(UNASKED, None, s, None) for side in waiting.values() for s in side.left()]


def _paired(leaf: Leaf, seen: Sighting, waiting: _Waiting) -> Match:
    place = waiting.place
    hop = next((h for h in leaf.hops if place is not None and (h.host, h.out_dev) == place), None)
    if hop is not None:
        twin = waiting.take(seen, lambda s: agrees(leaf, hop.after, s.packet))
        if twin is not None:
            return Match(AS_PREDICTED, seen, twin, leaf, hop.after)
    twin = waiting.take(seen, lambda s: s.digest == seen.digest)
    predicted = hop.after if hop is not None else None
    if twin is not None:
        right = hop is not None and leaves_as(leaf, twin.host, twin.dev, twin.packet) is not None
        return Match(AS_PREDICTED if right else OTHERWISE, seen, twin, leaf, predicted)
    return Match(LOST if hop is not None else VANISHED, seen, None, leaf, predicted)


class _Waiting:
    """Sightings after the host that no packet has claimed yet, findable by digest and in order of time."""

    def __init__(self, after: Sequence[Sighting]) -> None:
        self.sightings = list(after)
        self.taken = [False] * len(after)
        self.place = (after[0].host, after[0].dev) if after else None
        self.by_digest: dict[Any, list[int]] = {}
        for i, s in enumerate(after):
            self.by_digest.setdefault(s.digest, []).append(i)

    def take(self, seen: Sighting, fits: Any) -> Sighting | None:
        """The first unclaimed sighting with the same content, in time, that fits."""
        for i in self.by_digest.get(seen.digest, ()):
            other = self.sightings[i]
            if not self.taken[i] and -EARLY <= other.at - seen.at <= LATE and fits(other):
                self.taken[i] = True
                return other
        return None

    def left(self) -> list[Sighting]:
        return [s for s, taken in zip(self.sightings, self.taken, strict=True) if not taken]


def difference(predicted: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    """``src: predicted 5.5.5.5, seen 10.0.0.2`` for every address or port that is not as predicted."""
    out = []
    for key in ADDRESSES:
        a, b = predicted.get(key), seen.get(key)
        drawn = isinstance(a, dict) and isinstance(b, int) and any(lo <= b <= hi for lo, hi in a["ranges"])
        if a != b and not drawn:
            out.append(f"{key}: predicted {a}, seen {b}")
    return out
