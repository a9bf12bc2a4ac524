"""``-m iprange``: inclusive ranges of addresses. net/netfilter/xt_iprange.c iprange_mt4(), iprange_mt6()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET, format_addr
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import address, opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("iprange", doc="-m iprange --src-range 10.0.0.5-10.0.0.9 ! --dst-range 10.1.0.1-10.1.0.3")
@dataclass(frozen=True, slots=True)
class Iprange(Match):
    """Ranges of source and destination; None = any."""

    options = (Opt("--src-range", 1, True), Opt("--dst-range", 1, True))
    src: tuple[int, int] | None = None
    not_src: bool = False
    dst: tuple[int, int] | None = None
    not_dst: bool = False
    family: int = AF_INET

    @classmethod
    def parse(cls, found: Found, at: At) -> Iprange:
        if not found:
            raise at.error("-m iprange needs --src-range or --dst-range")
        fields: dict[str, object] = {}
        for name, negated, args in found:
            first, dash, last = args[0].partition("-")
            low = address(at, name, first)
            high = address(at, name, last) if dash else low
            fields |= {name[2:5]: (low, high), f"not_{name[2:5]}": negated}
        return cls(**fields, family=at.family)  # type: ignore[arg-type]

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb) is None

    def _failed(self, skb: Skb) -> str | None:
        if self.src and (self.src[0] <= skb.src <= self.src[1]) == self.not_src:
            return "src"
        if self.dst and (self.dst[0] <= skb.dst <= self.dst[1]) == self.not_dst:
            return "dst"
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        if self._failed(skb) == "dst" and self.dst:
            words, actual = self._words("dst", self.dst, self.not_dst), skb.dst
        else:
            words, actual = self._words("src", self.src or (0, 0), self.not_src), skb.src
        return Miss(" ".join(words), words[-1], f"the address is {format_addr(skb.family, actual)}")

    def _words(self, side: str, span: tuple[int, int], negated: bool) -> list[str]:
        text = "-".join(format_addr(self.family, one) for one in span)
        return opt(f"--{side}-range", negated, text)

    def words(self) -> list[str]:
        out: list[str] = []
        if self.src:
            out += self._words("src", self.src, self.not_src)
        if self.dst:
            out += self._words("dst", self.dst, self.not_dst)
        return out
