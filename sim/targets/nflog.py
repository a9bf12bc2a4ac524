"""NFLOG: net/netfilter/xt_NFLOG.c nflog_tg(). Hands a copy to user space; the packet goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

PREFIX_MAX = 63  # struct xt_nflog_info keeps 64 bytes


@target("NFLOG", doc="-j NFLOG --nflog-prefix seen --nflog-group 5 --nflog-size 80 --nflog-threshold 10")
@dataclass(frozen=True, slots=True)
class Nflog(Target):
    """``range_``: the older option whose value the kernel ignores; ``size``: the one it honours."""

    options = (
        Opt("--nflog-group"),
        Opt("--nflog-prefix"),
        Opt("--nflog-range"),
        Opt("--nflog-size"),
        Opt("--nflog-threshold"),
    )

    prefix: str = ""
    group: int = 0
    range_: int = 0
    size: int | None = None
    threshold: int = 0

    @classmethod
    def parse(cls, found: Found, at: At) -> Nflog:
        options = Options("NFLOG", found, at)
        if "--nflog-range" in options and "--nflog-size" in options:
            raise at.error('NFLOG: option "--nflog-range" cannot be used together with "--nflog-size"')
        return cls(
            (options.text("--nflog-prefix") or "")[:PREFIX_MAX],
            options.number("--nflog-group", 0, 0xFFFF) or 0,
            options.number("--nflog-range") or 0,
            options.number("--nflog-size"),
            options.number("--nflog-threshold", 0, 0xFFFF) or 0,
        )

    def words(self) -> list[str]:
        out = ["--nflog-prefix", self.prefix] if self.prefix else []
        if self.group:
            out += ["--nflog-group", str(self.group)]
        if self.size is not None:
            out += ["--nflog-size", str(self.size)]
        elif self.range_:
            out += ["--nflog-range", str(self.range_)]
        if self.threshold:
            out += ["--nflog-threshold", str(self.threshold)]
        return out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
