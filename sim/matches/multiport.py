"""``-m multiport``: up to 15 ports and ranges. net/netfilter/xt_multiport.c multiport_mt(), ports_match_v1()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.packet import WITH_PORTS
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import need_header, no_ports, opt, port, said, show_number, show_span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

MAX_PORTS = 15  # XT_MULTI_PORTS; a range counts twice


@match("multiport", doc="-p tcp -m multiport ! --dports 53,1024:65535")
@dataclass(frozen=True, slots=True)
class Multiport(Match):
    """``side``: sports, dports or ports (either)."""

    options = (
        Opt("--sports", 1, True, ("--source-ports",)),
        Opt("--dports", 1, True, ("--destination-ports",)),
        Opt("--ports", 1, True),
    )
    side: str
    spans: tuple[tuple[int, int], ...]
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Multiport:
        if len(found) != 1:
            raise at.error("-m multiport needs exactly one of --sports, --dports, --ports")
        if at.proto not in WITH_PORTS or at.proto_negated:
            raise at.error("-m multiport needs -p tcp, udp, udplite, sctp or dccp")
        name, negated, args = found[0]
        spans, used = [], 0
        for text in args[0].split(","):
            first, colon, last = text.partition(":")
            low = port(at, name, first)
            high = port(at, name, last) if colon else low
            if low > high or (colon and low == high):
                raise at.error(f"{name}: the range {text} must end above its beginning")
            used += 2 if colon else 1
            spans.append((low, high))
        if used > MAX_PORTS:
            raise at.error(f"{name}: more than {MAX_PORTS} ports (a range counts twice)", "split it over two rules")
        return cls(name[2:], tuple(spans), negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if not need_header_of_ports(skb):
            return False
        for low, high in self.spans:
            if self.side != "sports" and ctx.in_range(skb.dport, low, high):
                return not self.negated
            if self.side != "dports" and ctx.in_range(skb.sport, low, high):
                return not self.negated
        return self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        if (actual := no_ports(skb)) is None:
            have = {"sports": (skb.sport,), "dports": (skb.dport,)}.get(self.side, (skb.sport, skb.dport))
            actual = f"{self.side} {', '.join(show_number(value, ctx) for value in have)}"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        return opt("--" + self.side, self.negated, ",".join(show_span(*one) for one in self.spans))


def need_header_of_ports(skb: Skb) -> bool:
    """As need_header(), but an overlapping TCP fragment is no reason to drop here."""
    return not skb.frag and need_header(skb, 4)
