"""The result of a routing decision (struct rtable / rt6_info as far as anybody looks at it)."""

from __future__ import annotations

from typing import Any

from ..model.addr import AF_INET
from ..model.result import Reason
from ..model.route import FibRule, Nexthop, Route
from ..model.where import Where
from ..record import dataclass, replace


@dataclass(frozen=True, slots=True)
class Rt:
    """``kind``: unicast, local, broadcast, multicast; unreachable, prohibit, blackhole, none, drop.

    ``gateway`` None: the destination is on the link. ``src``: the source address the flow has or was given.
    ``mtu``: what ip_forward (input) or the sender (output) must respect. ``errno`` positive. ``icmp``: the error
    to send, (type, code). ``redirect``: the sender is to be told a better way (RTCF_DOREDIRECT). ``note``: words
    that stand in for the route where no route decided.
    """

    kind: str
    dev: str | None = None
    gateway: int | None = None
    gateway_family: int = AF_INET
    src: int = 0
    mtu: int = 0
    mtu_locked: bool = False
    table: int | None = None
    route: Route | None = None
    rule: FibRule | None = None
    leg: Nexthop | None = None
    errno: int = 0
    reason: Reason | None = None
    icmp: tuple[int, int] | None = None
    redirect: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.errno == 0

    @property
    def text(self) -> str:
        """The decision in one line: rule, table, route."""
        from .routing_words import decision

        words = decision(self.rule, self.route, self.leg)
        return f"{words}; {self.note}" if words and self.note else words or self.note

    @property
    def where(self) -> Where | None:
        """The place in the snapshot that decided."""
        if self.reason is not None and self.reason.where is not None:
            return self.reason.where
        if self.route is not None and self.route.where is not None:
            return self.route.where
        return self.rule.where if self.rule is not None else None

    def with_(self, **changes: Any) -> Rt:
        return replace(self, **changes)
