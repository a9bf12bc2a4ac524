"""TEE: net/netfilter/xt_TEE.c tee_tg4(), nf_dup_ipv4.c (in engine.icmp). The original goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.run import DUPLICATED
from ..model.addr import AF_INET, format_addr
from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target("TEE", doc="-j TEE --gateway 10.0.0.2 --oif eth1")
@dataclass(frozen=True, slots=True)
class Tee(Target):
    """Sends an untracked copy to another gateway; a copy is not copied again."""

    options = (Opt("--gateway"), Opt("--oif"))

    gateway: int
    oif: str | None = None
    family: int = AF_INET

    @classmethod
    def parse(cls, found: Found, at: At) -> Tee:
        options = Options("TEE", found, at)
        options.need("--gateway")
        gateway = options.addr("--gateway")
        if not gateway:
            raise options.bad("--gateway", "an address other than the unspecified one")
        return cls(gateway, options.text("--oif"), at.family)

    def words(self) -> list[str]:
        out = ["--gateway", format_addr(self.family, self.gateway)]
        return out if self.oif is None else [*out, "--oif", self.oif]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        from ..engine import icmp

        if ctx.hs.misc.get(DUPLICATED):
            return V_CONTINUE
        ctx.hs.misc[DUPLICATED] = True
        try:
            # A device that does not exist is no constraint (nf_dup_ipv4_route: oif -1).
            icmp.tee(ctx, skb, self.gateway, self.oif if self.oif in ctx.host.links else None)
        finally:
            del ctx.hs.misc[DUPLICATED]
        ctx.run.settle()
        return V_CONTINUE
