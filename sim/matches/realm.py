"""``-m realm``: routing realm of the packet's route. net/netfilter/xt_realm.c realm_mt().

The realm of the route counts, where it has none that of the ip rule (net/ipv4/route.c set_class_tag()).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.rule import NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import masked, opt, said, show_masked

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

STANDARD_NAMES = {"cosmos": "0"}  # /etc/iproute2/rt_realms as distributions ship it; iptables-save prints the name


@match(
    "realm",
    families=(AF_INET,),
    hooks=(NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING),
    doc="-m realm ! --realm 0x2/0xff",
)
@dataclass(frozen=True, slots=True)
class Realm(Match):
    """(realm & mask) == value."""

    options = (Opt("--realm", 1, True),)
    value: int
    mask: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Realm:
        if not found:
            raise at.error("-m realm needs --realm")
        text = STANDARD_NAMES.get(found[0].args[0], found[0].args[0])
        if not text[:1].isdigit():
            raise at.error(f"--realm: {text!r}: names of realms are not in a snapshot", "write the number")
        return cls(*masked(at, "--realm", text), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (class_tag(skb) & self.mask == self.value) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(" ".join(words), said(self.negated) + words[-1], f"the route's realm is 0x{class_tag(skb):x}")

    def words(self) -> list[str]:
        return opt("--realm", self.negated, show_masked(self.value, self.mask))


def class_tag(skb: Skb) -> int:
    """dst->tclassid: destination realm in the low half, source realm in the high half."""
    if skb.rt is None:
        return 0
    route, rule = skb.rt.route, skb.rt.rule
    own, other = (0 if one is None else one.realm for one in (route, rule))
    low, high = own & 0xFFFF or other & 0xFFFF, own & 0xFFFF0000 or other & 0xFFFF0000
    return int(low | high)
