"""Sums of a watch: how many connections, how many as expected, what disagreed and why the rest was not checked. Bounded."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .expected import AGREED, DIFFERS, Finding

GROUPS, REASONS = 200, 100  # kept; what comes beyond is counted under OTHERS
OTHERS, UNKNOWN = "others", "unknown"
WINDOW = 60.0  # seconds over which the rate is told


@dataclass
class Group:
    """Disagreements of one kind at one place. ``example``: the first of them; ``cause``: as ``confirm`` names its classes."""

    host: str
    what: str
    where: str
    example: Finding
    cause: str
    count: int = 0
    last: float = 0.0

    def to_json(self) -> dict[str, Any]:
        e = self.example
        return {
            "host": self.host, "what": self.what, "where": self.where, "cause": self.cause, "count": self.count,
            "last": round(self.last, 3), "example": {"flow": e.flow, "expected": e.expected, "actual": e.actual},
        }  # fmt: skip


@dataclass
class Tally:
    """``second``: agreed only when they were looked at again with a fresh snapshot (a port was in use, rules had changed)."""

    agreed: int = 0
    second: int = 0
    differ: int = 0
    unchecked: Counter[str] = field(default_factory=Counter)
    groups: dict[tuple[str, str, str], Group] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    latest: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def total(self) -> int:
        """Connections made or refused since the watch began."""
        return self.agreed + self.differ + sum(self.unchecked.values())

    @property
    def share(self) -> float | None:
        """Agreement among those that were checked, 0 to 1."""
        checked = self.agreed + self.differ
        return self.agreed / checked if checked else None

    def add(
        self, host: str, finding: Finding, second: bool = False, cause: Callable[[], str] = lambda: UNKNOWN
    ) -> None:
        """``cause``: asked once for each new group of disagreements."""
        if finding.state == AGREED:
            self.agreed += 1
            self.second += second
        elif finding.state == DIFFERS:
            self.differ += 1
            self._group(host, finding, cause)
        else:
            self.miss(finding.what)

    def miss(self, why: str, count: int = 1) -> None:
        """Not checked."""
        if count:
            self.unchecked[why if why in self.unchecked or len(self.unchecked) < REASONS else OTHERS] += count

    def _group(self, host: str, finding: Finding, cause: Callable[[], str]) -> None:
        key = (host, finding.what, finding.where)
        if key not in self.groups and len(self.groups) >= GROUPS:
            key = (OTHERS, OTHERS, OTHERS)
        if key not in self.groups:
            self.groups[key] = Group(*key, finding, cause() if key[0] != OTHERS else UNKNOWN)
        group = self.groups[key]
        group.count, group.last = group.count + 1, time.time()

    def rate(self) -> float:
        """Connections a second over the last minute."""
        now = time.monotonic()
        self.latest.append((now, self.total))
        if len(self.latest) == 1:
            self.latest.appendleft((self.began, 0))
        while len(self.latest) > 2 and self.latest[0][0] < now - WINDOW:
            self.latest.popleft()
        since, count = self.latest[0]
        return (self.total - count) / (now - since) if now > since else 0.0

    def ranked(self) -> list[Group]:
        return sorted(self.groups.values(), key=lambda g: -g.count)

    def to_json(self, final: bool, lost: dict[str, int], renewals: int) -> dict[str, Any]:
        """The document of ``watch --json``."""
        share = self.share
        return {
            "schema": "nattrace/watch/1", "kind": "total" if final else "progress",
            "seconds": round(time.monotonic() - self.began, 3), "connections": self.total, "rate": round(self.rate(), 1),
            "agreed": self.agreed, "agreed_at_second_look": self.second, "disagreed": self.differ,
            "agreement": None if share is None else round(share, 6), "not_checked": dict(self.unchecked.most_common()),
            "disagreements": [g.to_json() for g in self.ranked()], "lost": lost, "renewals": renewals,
        }  # fmt: skip


__all__ = ["Group", "Tally"]
