"""SNAT: net/netfilter/xt_nat.c xt_snat_target_v2(). What happens with the range is engine.nat's (nf_nat_setup_info)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import NF_INET_LOCAL_IN, NF_INET_POST_ROUTING, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options
from .natrange import Span, parse_span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target(
    "SNAT",
    tables=("nat",),
    hooks=(NF_INET_POST_ROUTING, NF_INET_LOCAL_IN),
    doc="-p udp -j SNAT --to-source 10.0.0.5-10.0.0.9:1000-2000 --random-fully --persistent",
)
@dataclass(frozen=True, slots=True)
class Snat(Target):
    """Decides the source of a connection, once."""

    options = (Opt("--to-source"), Opt("--random", 0), Opt("--random-fully", 0), Opt("--persistent", 0))
    tracks = True
    terminal = True

    to: Span

    @classmethod
    def parse(cls, found: Found, at: At) -> Snat:
        return cls(parse_span(Options("SNAT", found, at), "--to-source"))

    def words(self) -> list[str]:
        return ["--to-source", str(self.to), *self.to.flag_words()]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        from ..engine import nat

        return nat.setup_info(ctx, skb, self.to.range(), nat.MANIP_SRC)
