"""``-m esp``: the security parameter index. net/netfilter/xt_esp.c esp_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.packet import IPPROTO_ESP
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, need_header, opt, said, show_span, span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("esp", doc="-p esp -m esp ! --espspi 256:511")
@dataclass(frozen=True, slots=True)
class Esp(Match):
    """An inclusive range; None = any (iptables forgets a range that holds every value, its negation too)."""

    options = (Opt("--espspi", 1, True),)
    span: tuple[int, int] | None = None
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Esp:
        if at.proto != IPPROTO_ESP or at.proto_negated:
            raise at.error("-m esp needs -p esp")
        if not found:
            return cls()
        values = span(at, "--espspi", found[0].args[0])
        return cls() if values == (0, U32) else cls(values, found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if skb.frag or not need_header(skb, 8):
            return False
        return self.span is None or (self.span[0] <= skb.spi <= self.span[1]) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words() or ["-m esp"]
        actual = "the packet is a later fragment" if skb.frag else f"the SPI is {skb.spi}"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        return [] if self.span is None else opt("--espspi", self.negated, show_span(*self.span))
