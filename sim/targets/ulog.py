"""ULOG: the predecessor of NFLOG (net/ipv4/netfilter/ipt_ULOG.c, removed in Linux 3.17). The packet goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target("ULOG", families=(AF_INET,), doc="-j ULOG --ulog-prefix seen --ulog-nlgroup 2")
@dataclass(frozen=True, slots=True)
class Ulog(Target):
    """Only in dumps of old kernels."""

    options = (Opt("--ulog-nlgroup"), Opt("--ulog-prefix"), Opt("--ulog-cprange"), Opt("--ulog-qthreshold"))

    prefix: str = ""
    group: int = 1
    copy_range: int = 0
    threshold: int = 1

    @classmethod
    def parse(cls, found: Found, at: At) -> Ulog:
        options = Options("ULOG", found, at)
        group = options.number("--ulog-nlgroup", 1, 32)
        threshold = options.number("--ulog-qthreshold", 1, 50)
        return cls(
            (options.text("--ulog-prefix") or "")[:31],
            1 if group is None else group,
            options.number("--ulog-cprange") or 0,
            1 if threshold is None else threshold,
        )

    def words(self) -> list[str]:
        out = ["--ulog-prefix", self.prefix] if self.prefix else []
        if self.group != 1:
            out += ["--ulog-nlgroup", str(self.group)]
        if self.copy_range:
            out += ["--ulog-cprange", str(self.copy_range)]
        if self.threshold != 1:
            out += ["--ulog-qthreshold", str(self.threshold)]
        return out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
