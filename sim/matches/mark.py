"""``-m mark``: the packet mark. net/netfilter/xt_mark.c mark_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import masked, opt, said, show_masked

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("mark", doc="-m mark ! --mark 0x10/0xf0")
@dataclass(frozen=True, slots=True)
class Mark(Match):
    """(mark & mask) == value."""

    options = (Opt("--mark", 1, True),)
    value: int
    mask: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Mark:
        if not found:
            raise at.error("-m mark needs --mark")
        return cls(*masked(at, "--mark", found[0].args[0]), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (skb.mark & self.mask == self.value) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(" ".join(words), said(self.negated) + words[-1], f"the packet's mark is 0x{skb.mark:x}")

    def words(self) -> list[str]:
        return opt("--mark", self.negated, show_masked(self.value, self.mask))
