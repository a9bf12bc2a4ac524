"""``-m connmark``: the mark of the packet's entry. net/netfilter/xt_connmark.c connmark_mt().

A packet without entry never matches, negated or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import entry, masked, opt, said, show_masked

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("connmark", doc="-m connmark ! --mark 0x2/0xff")
@dataclass(frozen=True, slots=True)
class Connmark(Match):
    """(mark of the entry & mask) == value."""

    tracks = True
    options = (Opt("--mark", 1, True),)
    value: int
    mask: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Connmark:
        if not found:
            raise at.error("-m connmark needs --mark")
        return cls(*masked(at, "--mark", found[0].args[0]), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        conn = entry(skb, ctx)
        return conn is not None and (conn.mark & self.mask == self.value) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        conn = entry(skb, ctx)
        actual = "the packet has no conntrack entry" if conn is None else f"the entry's mark is 0x{conn.mark:x}"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        return opt("--mark", self.negated, show_masked(self.value, self.mask))
