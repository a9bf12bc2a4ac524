"""Values that the kernel draws at random: one token, not thousands of outcomes.

A ``Drawn`` stands in a packet or tuple where a number would (a source port, an ICMP id). Its candidates, a
``Domain``, belong to the world state (``WorldState.domains``), because two worlds that split on it know different
things about the same draw. Compare through :func:`nattrace.sim.engine.run.in_range`, never with ``==`` on numbers.
"""

from __future__ import annotations

from ..record import NamedTuple


class Drawn(NamedTuple):
    """A drawn number; equal and hashable by identity of the draw."""

    draw_id: int
    what: str  # "sport", "dport", "icmp_id", …

    def __repr__(self) -> str:
        return f"<{self.what}#{self.draw_id}>"


Number = int | Drawn


class Domain(NamedTuple):
    """Candidates of a draw: inclusive, sorted, disjoint ranges. ``uniform``: their probabilities are known.

    ``weights``: (low, high, weight of each number) for every candidate, or empty where all are equally likely.
    """

    ranges: tuple[tuple[int, int], ...]
    uniform: bool = True
    weights: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(cls, low: int, high: int, except_: frozenset[int] | set[int] = frozenset(), uniform: bool = True) -> Domain:
        ranges: list[tuple[int, int]] = []
        start = low
        for hole in sorted(h for h in except_ if low <= h <= high):
            if hole > start:
                ranges.append((start, hole - 1))
            start = hole + 1
        if start <= high:
            ranges.append((start, high))
        return cls(tuple(ranges), uniform)

    @property
    def size(self) -> int:
        """How many candidates there are."""
        return sum(hi - lo + 1 for lo, hi in self.ranges)

    def clip(self, low: int, high: int) -> Domain:
        """The candidates within [low, high]."""
        kept = ((max(lo, low), min(hi, high)) for lo, hi in self.ranges)
        weights = ((max(lo, low), min(hi, high), w) for lo, hi, w in self.weights)
        return Domain(
            tuple((lo, hi) for lo, hi in kept if lo <= hi), self.uniform, tuple(w for w in weights if w[0] <= w[1])
        )

    def without(self, low: int, high: int) -> Domain:
        """The candidates outside [low, high]."""
        out: list[tuple[int, int]] = []
        for lo, hi in self.ranges:
            if lo < low:
                out.append((lo, min(hi, low - 1)))
            if hi > high:
                out.append((max(lo, high + 1), hi))
        weights: list[tuple[int, int, int]] = []
        for lo, hi, weight in self.weights:
            if lo < low:
                weights.append((lo, min(hi, low - 1), weight))
            if hi > high:
                weights.append((max(lo, high + 1), hi, weight))
        return Domain(tuple(out), self.uniform, tuple(weights))

    @property
    def mass(self) -> int:
        """The candidates' weights added up: probabilities are ratios of it."""
        if not self.weights:
            return self.size
        return sum((hi - lo + 1) * weight for lo, hi, weight in self.weights)

    def holds(self, value: int) -> bool:
        return any(lo <= value <= hi for lo, hi in self.ranges)

    @property
    def single(self) -> int | None:
        """The one candidate left, or None."""
        if len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]:
            return self.ranges[0][0]
        return None

    def to_json(self) -> dict[str, object]:
        """``{"ranges": [[lo, hi]], "except": [...]}``: small holes are listed, not split."""
        merged: list[list[int]] = []
        holes: list[int] = []
        for lo, hi in self.ranges:
            if merged and lo - merged[-1][1] - 1 <= 8:
                holes.extend(range(merged[-1][1] + 1, lo))
                merged[-1][1] = hi
            else:
                merged.append([lo, hi])
        return {"ranges": merged, "except": holes}
