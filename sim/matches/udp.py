"""``-m udp``: ports of a UDP header. net/netfilter/xt_tcpudp.c udp_mt(); for iptables-nft see ``tcp``.

Also the ports of UDP-Lite, which has a match of the same shape in the kernel but no option parser in iptables 1.8.9
(``-p udplite`` goes with ``-m multiport``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.packet import IPPROTO_UDP
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import native, need_header, no_ports, opt, ports, show_span
from .tcp import ALL_PORTS, failed_word, port_miss

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("udp", doc="-p udp -m udp ! --sport 53 --dport 1024:65535")
@dataclass(frozen=True, slots=True)
class Udp(Match):
    """Ports; an absent criterion is None."""

    options = (Opt("--sport", 1, True, ("--source-port",)), Opt("--dport", 1, True, ("--destination-port",)))
    sport: tuple[int, int] | None = None
    not_sport: bool = False
    dport: tuple[int, int] | None = None
    not_dport: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Udp:
        if at.proto != IPPROTO_UDP or at.proto_negated:
            raise at.error("-m udp needs -p udp")
        fields: dict[str, object] = {}
        for name, negated, args in found:
            value = ports(at, name, args[0])
            if value != ALL_PORTS:  # iptables forgets it, its negation too
                fields[name[2:]], fields["not_" + name[2:]] = value, negated
        return cls(**fields)  # type: ignore[arg-type]

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb, ctx) is None

    def _failed(self, skb: Skb, ctx: Ctx) -> str | None:
        if native(ctx):
            if skb.frag or wire.transport_length(skb) < 8:
                return self._failed_bytes(wire.to_bytes(skb)[wire.header_length(skb) :])
        elif not need_header(skb, 8):
            return "fragment"
        if self.sport and ctx.in_range(skb.sport, *self.sport) == self.not_sport:
            return "sport"
        if self.dport and ctx.in_range(skb.dport, *self.dport) == self.not_dport:
            return "dport"
        return None

    def _failed_bytes(self, data: bytes) -> str | None:
        if self.sport and failed_word(data, 0, self.sport, self.not_sport):
            return "sport"
        if self.dport and failed_word(data, 2, self.dport, self.not_dport):
            return "dport"
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        failed = self._failed(skb, ctx)
        if failed == "sport" and self.sport:
            return port_miss("sport", self.sport, self.not_sport, skb, ctx)
        if failed == "dport" and self.dport:
            return port_miss("dport", self.dport, self.not_dport, skb, ctx)
        return Miss("-m udp", "a whole UDP header", no_ports(skb) or "the header is cut off")

    def words(self) -> list[str]:
        out: list[str] = []
        if self.sport:
            out += opt("--sport", self.not_sport, show_span(*self.sport))
        if self.dport:
            out += opt("--dport", self.not_dport, show_span(*self.dport))
        return out
