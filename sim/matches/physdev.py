"""``-m physdev``: the bridge port a packet came in on or leaves by. net/netfilter/xt_physdev.c physdev_mt().

Only packets that br_netfilter saw on a bridge know it (engine/bridge.py). Without that knowledge every positive criterion
fails and every negated one holds. Where the snapshot does not tell the port: undecided if it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import by_name, opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import NfBridge, Skb
    from ..model.route import Link

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
        info = skb.bridge
        if info is None:
            return next((one for one in self.criteria if not one[1]), None)
        for one in self.criteria:
            name, negated, pattern = one
            if name == "--physdev-is-in":
                hit = True
            elif name in ("--physdev-is-out", "--physdev-is-bridged"):
                hit = info.switched
            elif name == "--physdev-out" and not info.switched:
                return one  # "if (!outdev) return false", negated or not
            else:
                port = info.physin if name == "--physdev-in" else info.physout
                hit = _is(pattern, port, f"{name} {pattern}", ctx)
            if hit == negated:
                return one
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = _words(self._failed(skb, ctx) or self.criteria[0])
        return Miss(" ".join(words), words[-1], _actual(skb.bridge))

    def words(self) -> list[str]:
        return [word for one in self.criteria for word in _words(one)]


def _words(one: tuple[str, bool, str]) -> list[str]:
    return opt(one[0], one[1], *([one[2]] if one[2] else []))


def _actual(info: NfBridge | None) -> str:
    if info is None:
        return "the packet did not come through a bridge"
    leaves = f", switched to {info.physout or 'a port that is not known'}" if info.switched else ", not switched"
    return f"came in by {info.physin or 'a port that is not known'}{leaves}"


def _is(pattern: str, port: str | None, text: str, ctx: Ctx) -> bool:
    """ifname_compare(); a port that is not known may be any of the bridge's."""
    if port is not None:
        return interface_matches(pattern, port)
    names = [link.name for link in bridge_ports(ctx, ctx.indev or ctx.outdev or "")]
    hits = sum(interface_matches(pattern, name) for name in names)
    if hits == 0 or hits == len(names):
        return hits > 0
    return ctx.unknown(f"-m physdev {text}: which port of {ctx.indev} it is is not known", "missing_input")


def bridge_ports(ctx: Ctx, bridge: str) -> tuple[Link, ...]:
    from ..engine.bridge import ports

    return ports(ctx, bridge)
