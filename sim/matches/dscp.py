"""``-m dscp``: the upper six bits of the tos byte. net/netfilter/xt_dscp.c dscp_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# RFC 2474, RFC 2597, RFC 3246
CLASS = {"BE": 0, "EF": 0x2E} | {f"CS{n}": n << 3 for n in range(8)}
CLASS |= {f"AF{n}{drop}": n << 3 | drop << 1 for n in range(1, 5) for drop in range(1, 4)}


def parse_dscp(at: At, option: str, text: str) -> int:
    """The value of ``--dscp`` or the class of ``--dscp-class``."""
    if not option.endswith("-class"):
        return number(at, option, text, 0x3F)
    if text.upper() not in CLASS:
        raise at.error(f"{option}: unknown DSCP class {text!r}", "CS0-CS7, BE, EF, AF11-AF43")
    return CLASS[text.upper()]


@match("dscp", doc="-m dscp ! --dscp 0x2e")
@dataclass(frozen=True, slots=True)
class Dscp(Match):
    """dscp == value."""

    options = (Opt("--dscp", 1, True), Opt("--dscp-class", 1, True))
    value: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Dscp:
        if len(found) != 1:
            raise at.error("-m dscp needs one of --dscp, --dscp-class")
        return cls(parse_dscp(at, found[0].name, found[0].args[0]), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (skb.tos >> 2 == self.value) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(" ".join(words), said(self.negated) + words[-1], f"the packet's dscp is 0x{skb.tos >> 2:02x}")

    def words(self) -> list[str]:
        return opt("--dscp", self.negated, f"0x{self.value:02x}")
