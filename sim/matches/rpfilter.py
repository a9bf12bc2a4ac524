"""``-m rpfilter``: whether the way back to the source uses the in device. net/ipv4/netfilter/ipt_rpfilter.c rpfilter_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET, format_addr, is_limited_broadcast
from ..model.packet import PACKET_LOOPBACK
from ..model.rule import NF_INET_PRE_ROUTING, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

FLAGS = ("--loose", "--validmark", "--accept-local", "--invert")


@match(
    "rpfilter", hooks=(NF_INET_PRE_ROUTING,), tables=("raw", "mangle"), doc="-m rpfilter --loose --validmark --invert"
)
@dataclass(frozen=True, slots=True)
class Rpfilter(Match):
    """``loose``: any unicast route will do."""

    options = tuple(Opt(flag, 0) for flag in FLAGS)
    loose: bool = False
    validmark: bool = False
    accept_local: bool = False
    invert: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Rpfilter:
        names = {got.name for got in found}
        return cls(*(flag in names for flag in FLAGS))

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._passes(skb, ctx) != self.invert

    def _passes(self, skb: Skb, ctx: Ctx) -> bool:
        dev = ctx.indev or ""
        link = ctx.host.links.get(dev)
        if skb.pkttype == PACKET_LOOPBACK or dev == "lo" or (link is not None and link.loopback):
            return True
        if skb.family == AF_INET and skb.src == 0:
            if is_limited_broadcast(skb.family, skb.dst) or skb.dst >> 8 == 0xE00000:
                return True
        from ..engine.routing import reverse_path_ok

        return reverse_path_ok(ctx, skb, dev, self.loose, self.validmark, self.accept_local)

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        source = format_addr(skb.family, skb.src)
        if self.invert:
            actual = f"the way back to {source} passes"
        else:
            actual = f"the way back to {source} does not use {ctx.indev}"
        return Miss(" ".join(["-m rpfilter", *self.words()]), "a reverse path", actual)

    def words(self) -> list[str]:
        values = (self.loose, self.validmark, self.accept_local, self.invert)
        return [flag for flag, value in zip(FLAGS, values, strict=True) if value]
