"""``-m physdev``: the bridge port a packet came in on or leaves by. net/netfilter/xt_physdev.c physdev_mt().

Only packets that br_netfilter saw on a bridge know it. Without that knowledge every positive criterion fails and every
negated one holds. Which of several ports it is, nobody says: undecided where it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.rule import NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import by_name, opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

ORDER = ("--physdev-is-in", "--physdev-in", "--physdev-is-out", "--physdev-out", "--physdev-is-bridged")  # as printed


def interface_matches(pattern: str, name: str) -> bool:
    """ifname_compare(): a trailing + stands for any rest."""
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


@match("physdev", doc="-m physdev --physdev-in eth0 ! --physdev-is-bridged")
@dataclass(frozen=True, slots=True)
class Physdev(Match):
    """``criteria``: (option, negated, interface or "")."""

    options = (
        Opt("--physdev-in", 1, True),
        Opt("--physdev-out", 1, True),
        Opt("--physdev-is-in", 0, True),
        Opt("--physdev-is-out", 0, True),
        Opt("--physdev-is-bridged", 0, True),
    )
    criteria: tuple[tuple[str, bool, str], ...]

    @classmethod
    def parse(cls, found: Found, at: At) -> Physdev:
        if not found:
            raise at.error("-m physdev needs at least one option")
        got = by_name(found)
        bridged = got.get("--physdev-is-bridged")
        if at.chain == "OUTPUT" and ("--physdev-out" in got or "--physdev-is-out" in got):
            if bridged is None or bridged.negated:
                raise at.error("--physdev-out is not allowed in OUTPUT, except together with --physdev-is-bridged")
        return cls(tuple((n, got[n].negated, (got[n].args or ("",))[0]) for n in ORDER if n in got))

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb, ctx) is None

    def _failed(self, skb: Skb, ctx: Ctx) -> tuple[str, bool, str] | None:
        ports = _ports(ctx, ctx.indev, skb.family)
        if ports is None:
            return next((one for one in self.criteria if not one[1]), None)
        bridged = ctx.outdev == ctx.indev and ctx.hook in (NF_INET_FORWARD, NF_INET_POST_ROUTING)
        for one in self.criteria:
            name, negated, pattern = one
            if name == "--physdev-is-in":
                hit = True
            elif name in ("--physdev-is-out", "--physdev-is-bridged"):
                hit = bridged
            elif name == "--physdev-out" and not bridged:
                return one  # "if (!outdev) return false", negated or not
            else:
                hit = _one_of(pattern, ports, f"{name} {pattern}", ctx)
            if hit == negated:
                return one
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = _words(self._failed(skb, ctx) or self.criteria[0])
        ports = _ports(ctx, ctx.indev, skb.family)
        actual = (
            "the packet did not come through a bridge" if ports is None else f"the port is one of {', '.join(ports)}"
        )
        return Miss(" ".join(words), words[-1], actual)

    def words(self) -> list[str]:
        return [word for one in self.criteria for word in _words(one)]


def _words(one: tuple[str, bool, str]) -> list[str]:
    return opt(one[0], one[1], *([one[2]] if one[2] else []))


def _ports(ctx: Ctx, bridge: str | None, family: int) -> tuple[str, ...] | None:
    """The ports that the packet may have come in on; None where the kernel keeps no bridge information."""
    link = ctx.host.links.get(bridge or "")
    if link is None or link.kind != "bridge" or ctx.hook == NF_INET_LOCAL_OUT:
        return None
    name = "iptables" if family == AF_INET else "ip6tables"
    if not ctx.sysctl_int(f"net.bridge.bridge-nf-call-{name}", 1, (0,)):
        return None
    return tuple(one.name for one in ctx.host.links.values() if one.master == bridge)


def _one_of(pattern: str, ports: tuple[str, ...], text: str, ctx: Ctx) -> bool:
    hits = sum(interface_matches(pattern, port) for port in ports)
    if hits in (0, len(ports)):
        return hits > 0
    return ctx.unknown(
        f"-m physdev {text}: which port of {ctx.indev} the frame came in on is not known", "missing_input"
    )
