"""``-m pkttype``: how the frame was addressed. net/netfilter/xt_pkttype.c pkttype_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET, is_multicast
from ..model.packet import PACKET_BROADCAST, PACKET_HOST, PACKET_LOOPBACK, PACKET_MULTICAST, PACKET_OTHERHOST
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

TYPES = {
    "unicast": PACKET_HOST, "host": PACKET_HOST, "broadcast": PACKET_BROADCAST, "bcast": PACKET_BROADCAST,
    "multicast": PACKET_MULTICAST, "mcast": PACKET_MULTICAST,
}  # fmt: skip
NAME = {PACKET_HOST: "unicast", PACKET_BROADCAST: "broadcast", PACKET_MULTICAST: "multicast"}


def packet_type(skb: Skb) -> int:
    """skb->pkt_type; a looped-back copy counts as what its destination says."""
    if skb.pkttype != PACKET_LOOPBACK:
        return skb.pkttype
    if skb.family != AF_INET or is_multicast(skb.family, skb.dst):
        return PACKET_MULTICAST
    return PACKET_BROADCAST


@match("pkttype", doc="-m pkttype ! --pkt-type broadcast")
@dataclass(frozen=True, slots=True)
class Pkttype(Match):
    """PACKET_* of include/uapi/linux/if_packet.h."""

    options = (Opt("--pkt-type", 1, True),)
    kind: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Pkttype:
        if not found:
            raise at.error("-m pkttype needs --pkt-type")
        name = found[0].args[0]
        if name.lower() not in TYPES:
            raise at.error(f"--pkt-type: unknown packet type {name!r}", "unicast, broadcast or multicast")
        return cls(TYPES[name.lower()], found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (packet_type(skb) == self.kind) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        have = packet_type(skb)
        name = NAME.get(have, "for another host" if have == PACKET_OTHERHOST else str(have))
        return Miss(" ".join(words), said(self.negated) + words[-1], f"the frame is {name}")

    def words(self) -> list[str]:
        return opt("--pkt-type", self.negated, NAME[self.kind])
