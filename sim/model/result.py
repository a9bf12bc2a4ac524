"""What the engine found out: steps, hops, leaves. Data only; prose is made when rendering."""

from __future__ import annotations

from typing import Any

from ..record import NamedTuple, dataclass, field
from .where import Where


class Reason(NamedTuple):
    """Why the outcome is what it is: a stable code (docs/reference), one plain sentence, the place."""

    code: str
    text: str
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One decision at one hook. Fields are the contract's; ``miss`` is set on a near miss (matched False)."""

    hook: str | None
    stage: str
    table: str | None = None
    family: str | None = None
    chain: str | None = None
    rule: int | None = None
    handle: int | None = None
    text: str | None = None
    where: Where | None = None
    matched: bool | None = None
    verdict: str | None = None
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    conntrack: str | None = None
    note: str | None = None
    backend: str | None = None
    target: str | None = None


@dataclass(slots=True)
class Hop:
    """One pass through one host. ``before``/``after``: Skb.header() dicts; ``conntrack`` as it left the hop."""

    host: str
    in_dev: str | None
    out_dev: str | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    conntrack: dict[str, Any] | None = None
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Response:
    """An error or reset that a host sent about the packet, and what became of it.

    ``kind``: "icmp" or "tcp_reset"; ``sender``: host name; ``to``: address text or host; ``outcome`` as of a
    packet; ``packet``: header as it was at the end of its own way; ``hops`` its way.
    """

    kind: str
    type: int | None
    code: int | None
    sender: str
    to: str
    outcome: str
    packet: dict[str, Any] = field(default_factory=dict)
    hops: tuple[Hop, ...] = ()
    at: dict[str, Any] | None = None
    reason: Reason | None = None

    def signature(self) -> tuple[Any, ...]:
        """What an observer would see of it."""
        at, ends = self.at or {}, (str(self.packet.get("src")), str(self.packet.get("dst")))
        return self.kind, self.type, self.code, self.sender, self.outcome, at.get("host"), at.get("interface"), *ends


@dataclass(slots=True)
class Leaf:
    """One possible world after one packet.

    ``probability``: of this world among its siblings, None where nobody can know. ``at``: host, interface, hook.
    ``arrival``: (host, Skb, socket or None) where a reply would start, None if there is none. ``unknowns``:
    reasons that make the answer undecided here. ``state``: the world state afterwards.
    """

    outcome: str
    at: dict[str, Any]
    packet: dict[str, Any]
    reason: Reason
    errno: int | None = None
    hops: list[Hop] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    copies: list[dict[str, Any]] = field(default_factory=list)  # TEE, broadcast loop-back
    probability: float | None = 1.0
    unknowns: list[Reason] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    choices: tuple[str, ...] = ()
    arrival: Any = None
    state: Any = None

    def signature(self) -> tuple[Any, ...]:
        """What an observer outside would see: two leaves with the same signature are one outcome."""
        return (
            self.outcome,
            tuple(sorted((k, str(v)) for k, v in self.at.items())),
            tuple(sorted((k, str(v)) for k, v in self.packet.items())),
            self.errno,
            self.reason.code,
            tuple(response.signature() for response in self.responses),
            tuple((c.get("outcome"), str(c.get("at"))) for c in self.copies),
        )
