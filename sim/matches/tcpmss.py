"""``-m tcpmss``: the maximum segment size option. net/netfilter/xt_tcpmss.c tcpmss_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.packet import IPPROTO_TCP
from ..model.rule import HotDrop, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U16, opt, said, show_span, span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("tcpmss", doc="-p tcp -m tcpmss ! --mss 1400:1536")
@dataclass(frozen=True, slots=True)
class Tcpmss(Match):
    """A header without the option fails a positive criterion and meets a negated one."""

    options = (Opt("--mss", 1, True),)
    span: tuple[int, int]
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Tcpmss:
        if at.proto != IPPROTO_TCP or at.proto_negated:
            raise at.error("-m tcpmss needs -p tcp")
        if not found:
            raise at.error("-m tcpmss needs --mss")
        low, high = span(at, "--mss", found[0].args[0], U16)
        if high < low:
            raise at.error(f"--mss: the range {found[0].args[0]} ends before it begins")
        return cls((low, high), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        mss = find_mss(skb)
        return self.negated if mss is None else (self.span[0] <= mss <= self.span[1]) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        mss = find_mss(skb)
        actual = "the packet has no MSS option" if mss is None else f"the MSS is {mss}"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        return opt("--mss", self.negated, show_span(*self.span))


def find_mss(skb: Skb) -> int | None:
    """The MSS option of the header, None without; HotDrop where the header is cut off."""
    if skb.frag:  # the kernel does not look: the bytes at the header's place are taken for one
        data = wire.to_bytes(skb)[wire.header_length(skb) :]
        if len(data) < 20 or (data[12] >> 4) * 4 < 20 or len(data) < (data[12] >> 4) * 4:
            raise HotDrop
        options = data[20 : (data[12] >> 4) * 4]
    else:
        options = wire.tcp_options(skb)
        if wire.transport_length(skb) < 20 + len(options):
            raise HotDrop
    place = 0
    while place < len(options):
        if options[place] == 2 and len(options) - place >= 4 and options[place + 1] == 4:
            return int.from_bytes(options[place + 2 : place + 4], "big")
        if options[place] < 2 or place == len(options) - 1:
            place += 1
        else:
            place += options[place + 1] or 1
    return None
