"""SECMARK: net/netfilter/xt_SECMARK.c secmark_tg(). Labels the packet for SELinux; nothing else looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target("SECMARK", tables=("mangle", "security"), doc="-j SECMARK --selctx system_u:object_r:httpd_packet_t:s0")
@dataclass(frozen=True, slots=True)
class Secmark(Target):
    """The packet goes on; what a security module does with the label is not modelled."""

    options = (Opt("--selctx"),)

    context: str

    @classmethod
    def parse(cls, found: Found, at: At) -> Secmark:
        return cls(Options("SECMARK", found, at).need("--selctx"))

    def words(self) -> list[str]:
        return ["--selctx", self.context]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
