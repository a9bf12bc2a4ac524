"""CONNSECMARK: net/netfilter/xt_CONNSECMARK.c connsecmark_tg(). Copies SELinux labels between packet and entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target("CONNSECMARK", tables=("mangle", "security"), doc="-j CONNSECMARK --restore")
@dataclass(frozen=True, slots=True)
class Connsecmark(Target):
    """No effect on the way of the packet, but it needs connection tracking."""

    options = (Opt("--save", 0), Opt("--restore", 0))
    tracks = True

    mode: str

    @classmethod
    def parse(cls, found: Found, at: At) -> Connsecmark:
        return cls(Options("CONNSECMARK", found, at).one_of("--save", "--restore"))

    def words(self) -> list[str]:
        return [self.mode]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
