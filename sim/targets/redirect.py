"""REDIRECT: net/netfilter/xt_REDIRECT.c redirect_tg4(), nf_nat_redirect.c (in engine.nat)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options
from .natrange import Span, flags_of, parse_ports

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target(
    "REDIRECT",
    tables=("nat",),
    hooks=(NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT),
    doc="-p tcp -j REDIRECT --to-ports 80-90 --random",
)
@dataclass(frozen=True, slots=True)
class Redirect(Target):
    """DNAT to this host itself."""

    options = (Opt("--to-ports"), Opt("--random", 0))
    tracks = True
    terminal = True

    to: Span

    @classmethod
    def parse(cls, found: Found, at: At) -> Redirect:
        options = Options("REDIRECT", found, at)
        text = options.text("--to-ports")
        ports = None if text is None else parse_ports(options, "--to-ports", text, shifted=False)
        return cls(Span(at.family, None, ports, flags_of(options)))

    def words(self) -> list[str]:
        out = [] if self.to.ports is None else ["--to-ports", str(self.to.ports)]
        return out + self.to.flag_words()

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        from ..engine import nat

        return nat.redirect(ctx, skb, self.to.range())
