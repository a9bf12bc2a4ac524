"""``-m ipcomp``: the compression parameter index. net/netfilter/xt_ipcomp.c comp_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.packet import IPPROTO_IPCOMP
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U16, U32, by_name, need_header, opt, said, show_span, span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("ipcomp", doc="-p ipcomp -m ipcomp ! --ipcompspi 18")
@dataclass(frozen=True, slots=True)
class Ipcomp(Match):
    """An inclusive range compared with the 16-bit CPI; None = any. ``--compres`` is accepted and does nothing."""

    options = (Opt("--ipcompspi", 1, True), Opt("--compres", 0))
    span: tuple[int, int] | None = None
    negated: bool = False
    reserved: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Ipcomp:
        if at.proto != IPPROTO_IPCOMP or at.proto_negated:
            raise at.error("-m ipcomp needs -p ipcomp")
        got = by_name(found)
        one = got.get("--ipcompspi")
        values = None if one is None else span(at, "--ipcompspi", one.args[0])
        if values == (0, U32):  # iptables forgets it, its negation too
            values = None
        return cls(values, one is not None and values is not None and one.negated, "--compres" in got)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if skb.frag or not need_header(skb, 4):
            return False
        return self.span is None or (self.span[0] <= skb.spi & U16 <= self.span[1]) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words() or ["-m ipcomp"]
        actual = "the packet is a later fragment" if skb.frag else f"the CPI is {skb.spi & U16}"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        out = [] if self.span is None else opt("--ipcompspi", self.negated, show_span(*self.span))
        return [*out, "--compres"] if self.reserved else out
