"""DSCP: net/netfilter/xt_DSCP.c dscp_tg(). The two ECN bits stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# Per-hop behaviours: RFC 2474 (CS), 2597 (AF), 3246 (EF), 5865 (VA)
CLASSES = {f"cs{n}": n << 3 for n in range(8)} | {
    f"af{c}{d}": c << 3 | d << 1 for c in range(1, 5) for d in range(1, 4)
}
CLASSES |= {"be": 0, "ef": 0x2E}


@target("DSCP", tables=("mangle",), doc="-j DSCP --set-dscp 0x2e")
@dataclass(frozen=True, slots=True)
class Dscp(Target):
    """Changes the upper six bits of the TOS byte; in mangle OUTPUT a change reroutes."""

    options = (Opt("--set-dscp"), Opt("--set-dscp-class"))

    dscp: int

    @classmethod
    def parse(cls, found: Found, at: At) -> Dscp:
        options = Options("DSCP", found, at)
        name = options.one_of("--set-dscp", "--set-dscp-class")
        if name == "--set-dscp":
            return cls(options.number(name, 0, 63) or 0)
        given = CLASSES.get(options.need(name).lower())
        if given is None:
            raise options.bad(name, f"one of {', '.join(CLASSES)}")
        return cls(given)

    def words(self) -> list[str]:
        return ["--set-dscp", f"0x{self.dscp:02x}"]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        skb.tos = (skb.tos & 3) | self.dscp << 2
        return V_CONTINUE
