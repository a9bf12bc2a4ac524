"""TRACE: net/netfilter/xt_TRACE.c trace_tg(). The kernel reports every rule that this packet meets from here on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, target

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target("TRACE", doc="-j TRACE")
@dataclass(frozen=True, slots=True)
class Trace(Target):
    """Sets skb->nf_trace. iptables-legacy takes it in raw only; iptables-nft writes ``meta nftrace set 1`` anywhere."""

    @classmethod
    def parse(cls, found: Found, at: At) -> Trace:
        return cls()

    def words(self) -> list[str]:
        return []

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        skb.nf_trace = True
        return V_CONTINUE
