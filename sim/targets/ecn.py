"""ECN: net/ipv4/netfilter/ipt_ECN.c ecn_tg()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.packet import IPPROTO_TCP, TH_CWR, TH_ECE
from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target(
    "ECN", families=(AF_INET,), tables=("mangle",), doc="-p tcp -j ECN --ecn-tcp-ece 1 --ecn-tcp-cwr 0 --ecn-ip-ect 2"
)
@dataclass(frozen=True, slots=True)
class Ecn(Target):
    """Sets the ECT codepoint of the IP header and the ECE and CWR flags of TCP; None: left alone."""

    options = (Opt("--ecn-tcp-remove", 0), Opt("--ecn-tcp-ece"), Opt("--ecn-tcp-cwr"), Opt("--ecn-ip-ect"))

    ece: int | None = None
    cwr: int | None = None
    ect: int | None = None

    @classmethod
    def parse(cls, found: Found, at: At) -> Ecn:
        options = Options("ECN", found, at)
        ece, cwr = options.number("--ecn-tcp-ece", 0, 1), options.number("--ecn-tcp-cwr", 0, 1)
        ect = options.number("--ecn-ip-ect", 0, 3)
        if "--ecn-tcp-remove" in options:
            if ece is not None or cwr is not None:
                raise at.error('ECN: option "--ecn-tcp-remove" cannot be used together with the other TCP options')
            ece = cwr = 0
        if ece is None and cwr is None and ect is None:
            raise at.error("ECN: an operation is required")
        if (ece is not None or cwr is not None) and (at.proto != IPPROTO_TCP or at.proto_negated):
            raise at.error("ECN: the TCP flags need -p tcp", "add -p tcp to the rule")
        return cls(ece, cwr, ect)

    def words(self) -> list[str]:
        if self.ece == 0 and self.cwr == 0 and self.ect is None:
            return ["--ecn-tcp-remove"]
        out: list[str] = []
        for name, value in (("--ecn-tcp-ece", self.ece), ("--ecn-tcp-cwr", self.cwr), ("--ecn-ip-ect", self.ect)):
            if value is not None:
                out += [name, str(value)]
        return out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        if self.ect is not None:
            skb.tos = (skb.tos & ~3) | self.ect
        if skb.proto == IPPROTO_TCP and not skb.frag:
            for bit, wanted in ((TH_ECE, self.ece), (TH_CWR, self.cwr)):
                if wanted is not None:
                    skb.tcp_flags = skb.tcp_flags | bit if wanted else skb.tcp_flags & ~bit
        return V_CONTINUE
