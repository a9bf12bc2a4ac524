"""ipset: definition and starting elements of one set (its live elements belong to HostState.sets)."""

from __future__ import annotations

from typing import Any

from ..record import NamedTuple, dataclass, field
from .where import Where


class Element(NamedTuple):
    """One element. ``key``: one entry per dimension; ``timeout_at``: absolute world seconds or None."""

    key: tuple[Any, ...]
    nomatch: bool = False
    timeout_at: float | None = None
    counters: tuple[int, int] | None = None
    skbmark: tuple[int, int] | None = None
    skbprio: tuple[int, int] | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class IpSet:
    """``type`` as ipset names it (hash:net,port …); ``options`` of the create line (family, timeout, maxelem …)."""

    name: str
    type: str
    options: dict[str, Any] = field(default_factory=dict)
    elements: dict[tuple[Any, ...], Element] = field(default_factory=dict)
    where: Where | None = None
