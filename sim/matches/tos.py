"""``-m tos``: the type-of-service byte under a mask. net/netfilter/xt_dscp.c tos_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U8, number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

TOS_NAME = {
    "minimize-delay": 0x10, "maximize-throughput": 0x08, "maximize-reliability": 0x04, "minimize-cost": 0x02,
    "normal-service": 0x00,
}  # fmt: skip
NAMED_MASK = 0x3F  # a symbolic name leaves the two highest bits alone


def parse_tos(at: At, option: str, text: str) -> tuple[int, int]:
    """``value[/mask]`` or a name of RFC 1349."""
    if text[:1].isdigit():
        value, slash, mask = text.partition("/")
        return number(at, option, value, U8), number(at, option, mask, U8) if slash else U8
    hits = [value for name, value in TOS_NAME.items() if name.startswith(text.lower())]
    if len(hits) != 1:
        raise at.error(f"{option}: unknown type of service {text!r}", f"a number or one of {', '.join(TOS_NAME)}")
    return hits[0], NAMED_MASK


@match("tos", doc="-m tos ! --tos 0x10/0x3f")
@dataclass(frozen=True, slots=True)
class Tos(Match):
    """(tos & mask) == value."""

    options = (Opt("--tos", 1, True),)
    value: int
    mask: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Tos:
        if not found:
            raise at.error("-m tos needs --tos")
        return cls(*parse_tos(at, "--tos", found[0].args[0]), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (skb.tos & self.mask == self.value) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(" ".join(words), said(self.negated) + words[-1], f"the packet's tos is 0x{skb.tos:02x}")

    def words(self) -> list[str]:
        return opt("--tos", self.negated, f"0x{self.value:02x}/0x{self.mask:02x}")
