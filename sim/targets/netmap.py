"""NETMAP: net/netfilter/xt_NETMAP.c netmap_tg4(). Maps a network onto another, host bits kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import BITS, Prefix, mask_of, parse_prefix
from ..model.rule import (
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    Target,
    Verdict,
)
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options
from .natrange import Span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target(
    "NETMAP",
    tables=("nat",),
    hooks=(NF_INET_PRE_ROUTING, NF_INET_POST_ROUTING, NF_INET_LOCAL_OUT, NF_INET_LOCAL_IN),
    doc="-j NETMAP --to 10.5.0.0/24",
)
@dataclass(frozen=True, slots=True)
class Netmap(Target):
    """The destination in PREROUTING and OUTPUT, the source in POSTROUTING and INPUT."""

    options = (Opt("--to"),)
    tracks = True
    terminal = True

    to: Prefix

    @classmethod
    def parse(cls, found: Found, at: At) -> Netmap:
        options = Options("NETMAP", found, at)
        text = options.need("--to")
        try:
            prefix = parse_prefix(text)
        except (ValueError, OSError):
            raise options.bad("--to", "a network, ADDRESS/LENGTH") from None
        if prefix.family != at.family:
            raise options.bad("--to", "a network of the rule's IP version")
        return cls(prefix)

    def words(self) -> list[str]:
        return ["--to", str(self.to)]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        from ..engine import nat

        dst = ctx.hook in (NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT)
        host_bits = ~mask_of(self.to.family, self.to.plen) & ((1 << BITS[self.to.family]) - 1)
        mapped = ((skb.dst if dst else skb.src) & host_bits) | self.to.value
        span = Span(self.to.family, (mapped, mapped))
        return nat.setup_info(ctx, skb, span.range(), nat.MANIP_DST if dst else nat.MANIP_SRC)
