"""DNAT: net/netfilter/xt_nat.c xt_dnat_target_v2(). What happens with the range is engine.nat's (nf_nat_setup_info)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options
from .natrange import Span, parse_span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target(
    "DNAT",
    tables=("nat",),
    hooks=(NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT),
    doc="-p tcp -j DNAT --to-destination 10.0.0.5-10.0.0.9:8000-8010/5000 --random --persistent",
)
@dataclass(frozen=True, slots=True)
class Dnat(Target):
    """Decides the destination of a connection, once."""

    options = (Opt("--to-destination"), Opt("--random", 0), Opt("--persistent", 0))
    tracks = True
    terminal = True

    to: Span

    @classmethod
    def parse(cls, found: Found, at: At) -> Dnat:
        return cls(parse_span(Options("DNAT", found, at), "--to-destination", shifted=True))

    def words(self) -> list[str]:
        return ["--to-destination", str(self.to), *self.to.flag_words()]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        from ..engine import nat

        return nat.setup_info(ctx, skb, self.to.range(), nat.MANIP_DST)
