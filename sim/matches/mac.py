"""``-m mac``: source address of the Ethernet frame. net/netfilter/xt_mac.c mac_mt().

Not on a device without Ethernet header (lo, tun): there it fails, negated or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


def parse_mac(at: At, option: str, text: str) -> int:
    parts = text.split(":")
    try:
        octets = bytes(int(part, 16) for part in parts if len(part) == 2)
    except ValueError:
        octets = b""
    if len(octets) != 6 or len(parts) != 6:
        raise at.error(f"{option}: not a MAC address: {text!r}")
    return int.from_bytes(octets, "big")


def show_mac(mac: int) -> str:
    return ":".join(f"{octet:02x}" for octet in mac.to_bytes(6, "big"))


def is_ethernet(ctx: Ctx, dev: str | None) -> bool:
    """Whether frames of a device have an Ethernet header (ARPHRD_ETHER); a device nobody described is taken for one."""
    link = ctx.host.links.get(dev or "")
    return dev is not None and (link is None or not (link.loopback or link.mac is None))


@match(
    "mac",
    hooks=(NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD),
    doc="-m mac ! --mac-source 02:00:00:aa:bb:cc",
)
@dataclass(frozen=True, slots=True)
class Mac(Match):
    """48 bits as an integer."""

    options = (Opt("--mac-source", 1, True),)
    mac: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Mac:
        if not found:
            raise at.error("-m mac needs --mac-source")
        return cls(parse_mac(at, "--mac-source", found[0].args[0]), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if not is_ethernet(ctx, ctx.indev):
            return False
        if skb.mac_src is None:
            text = f"--mac-source {show_mac(self.mac)}: the sender's MAC address is not known (say it with the key mac)"
            return ctx.unknown(text, "missing_input")
        return (skb.mac_src == self.mac) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        if not is_ethernet(ctx, ctx.indev):
            actual = f"frames on {ctx.indev} have no Ethernet header"
        else:
            actual = "the sender's MAC address is " + ("not known" if skb.mac_src is None else show_mac(skb.mac_src))
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        return opt("--mac-source", self.negated, show_mac(self.mac))
