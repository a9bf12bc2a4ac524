"""MASQUERADE: net/netfilter/xt_MASQUERADE.c masquerade_tg(), nf_nat_masquerade.c (in engine.nat)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import NF_INET_POST_ROUTING, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options
from .natrange import Span, flags_of, parse_ports

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target(
    "MASQUERADE",
    tables=("nat",),
    hooks=(NF_INET_POST_ROUTING,),
    doc="-p tcp -j MASQUERADE --to-ports 1000-2000 --random --random-fully",
)
@dataclass(frozen=True, slots=True)
class Masquerade(Target):
    """SNAT to an address of the device that the packet leaves by."""

    options = (Opt("--to-ports"), Opt("--random", 0), Opt("--random-fully", 0))
    tracks = True
    terminal = True

    to: Span

    @classmethod
    def parse(cls, found: Found, at: At) -> Masquerade:
        options = Options("MASQUERADE", found, at)
        text = options.text("--to-ports")
        ports = None if text is None else parse_ports(options, "--to-ports", text, shifted=False)
        return cls(Span(at.family, None, ports, flags_of(options)))

    def words(self) -> list[str]:
        out = [] if self.to.ports is None else ["--to-ports", str(self.to.ports)]
        return out + self.to.flag_words()

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        from ..engine import nat

        return nat.masquerade(ctx, skb, self.to.range())
