"""``-m length``: IP total length. net/netfilter/xt_length.c length_mt(), length_mt6()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U16, opt, said, show_span, span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("length", doc="-m length ! --length 60:1500")
@dataclass(frozen=True, slots=True)
class Length(Match):
    """Bytes, header included."""

    options = (Opt("--length", 1, True),)
    span: tuple[int, int]
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Length:
        if not found:
            raise at.error("-m length needs --length")
        return cls(span(at, "--length", found[0].args[0], U16), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (self.span[0] <= skb.length <= self.span[1]) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(" ".join(words), said(self.negated) + words[-1], f"the packet is {skb.length} bytes long")

    def words(self) -> list[str]:
        return opt("--length", self.negated, show_span(*self.span))
