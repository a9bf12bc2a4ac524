"""``-m ah``: the SPI of an authentication header. net/ipv4/netfilter/ipt_ah.c ah_mt(); IPv6: ip6t_ah.c ah_mt6()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET6
from ..model.packet import IPPROTO_AH
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, by_name, need_header, number, opt, said, show_span, span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("ah", doc="-p ah -m ah ! --ahspi 256:511")
@dataclass(frozen=True, slots=True)
class Ah(Match):
    """An inclusive range; None = any. ``length`` and ``reserved`` exist in IPv6 only and are not modelled."""

    options = (Opt("--ahspi", 1, True), Opt("--ahlen", 1, True), Opt("--ahres", 0))
    span: tuple[int, int] | None = None
    negated: bool = False
    length: int | None = None
    not_length: bool = False
    reserved: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Ah:
        got = by_name(found)
        length = got.get("--ahlen")
        if at.family != AF_INET6:
            if at.proto != IPPROTO_AH or at.proto_negated:
                raise at.error("-m ah needs -p ah")
            if length is not None or "--ahres" in got:
                raise at.error("--ahlen and --ahres exist in ip6tables only")
        values, negated = None, False
        if (one := got.get("--ahspi")) is not None:
            values, negated = span(at, "--ahspi", one.args[0]), one.negated
            if values == (0, U32):  # iptables forgets it, its negation too
                values, negated = None, False
        size = None if length is None else number(at, "--ahlen", length.args[0])
        return cls(values, negated, size, length is not None and length.negated, "--ahres" in got)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if skb.family == AF_INET6 and (skb.proto != IPPROTO_AH or self.length is not None or self.reserved):
            return ctx.unknown("-m ah: extension headers of IPv6 are not modelled")
        if skb.frag or not need_header(skb, 12):
            return False
        return self.span is None or (self.span[0] <= skb.spi <= self.span[1]) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words() or ["-m ah"]
        actual = "the packet is a later fragment" if skb.frag else f"the SPI is {skb.spi}"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        out = [] if self.span is None else opt("--ahspi", self.negated, show_span(*self.span))
        if self.length is not None:
            out += opt("--ahlen", self.not_length, self.length)
        return [*out, "--ahres"] if self.reserved else out
