"""``-m addrtype``: what kind of address the local table says it is. net/netfilter/xt_addrtype.c addrtype_mt_v1()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import format_addr
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import by_name, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# RTN_* of include/uapi/linux/rtnetlink.h, by number
TYPES = (
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW",
    "NAT", "XRESOLVE",
)  # fmt: skip


def parse_types(at: At, option: str, text: str) -> frozenset[str]:
    names = frozenset(text.upper().split(","))
    if bad := sorted(names.difference(TYPES)):
        raise at.error(f"{option}: unknown address type {bad[0]!r}", f"one of {', '.join(TYPES)}")
    return names


@match("addrtype", doc="-m addrtype ! --src-type LOCAL --dst-type UNICAST,BROADCAST --limit-iface-in")
@dataclass(frozen=True, slots=True)
class Addrtype(Match):
    """``limit``: "in" or "out" asks about that device's addresses only."""

    options = (
        Opt("--src-type", 1, True),
        Opt("--dst-type", 1, True),
        Opt("--limit-iface-in", 0),
        Opt("--limit-iface-out", 0),
    )
    src: frozenset[str] | None = None
    not_src: bool = False
    dst: frozenset[str] | None = None
    not_dst: bool = False
    limit: str | None = None

    @classmethod
    def parse(cls, found: Found, at: At) -> Addrtype:
        got = by_name(found)
        fields: dict[str, object] = {}
        for side in ("src", "dst"):
            if (one := got.get(f"--{side}-type")) is not None:
                fields |= {side: parse_types(at, one.name, one.args[0]), f"not_{side}": one.negated}
        if not fields:
            raise at.error("-m addrtype needs --src-type or --dst-type")
        limits = [side for side in ("in", "out") if f"--limit-iface-{side}" in got]
        if len(limits) > 1:
            raise at.error("--limit-iface-in and --limit-iface-out exclude each other")
        if limits == ["in"] and at.chain in ("OUTPUT", "POSTROUTING"):
            raise at.error(f"--limit-iface-in is not allowed in {at.chain}")
        if limits == ["out"] and at.chain in ("PREROUTING", "INPUT"):
            raise at.error(f"--limit-iface-out is not allowed in {at.chain}")
        return cls(**fields, limit=limits[0] if limits else None)  # type: ignore[arg-type]

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb, ctx) is None

    def _failed(self, skb: Skb, ctx: Ctx) -> tuple[str, str] | None:
        """The side that fails and the type it has."""
        from ..engine.routing import addr_type

        dev = {"in": ctx.indev, "out": ctx.outdev}.get(self.limit or "")
        if self.src and ((kind := addr_type(ctx, skb.family, skb.src, dev)) in self.src) == self.not_src:
            return "src", kind
        if self.dst and ((kind := addr_type(ctx, skb.family, skb.dst, dev)) in self.dst) == self.not_dst:
            return "dst", kind
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        side, kind = self._failed(skb, ctx) or ("src", "UNICAST")
        negated = self.not_src if side == "src" else self.not_dst
        wanted = _show((self.src if side == "src" else self.dst) or frozenset())
        addr = format_addr(skb.family, skb.src if side == "src" else skb.dst)
        dev = {"in": ctx.indev, "out": ctx.outdev}.get(self.limit or "")
        actual = f"{addr} is {kind}" + (f" on {dev}" if dev else "")
        return Miss(f"{said(negated)}--{side}-type {wanted}", said(negated) + wanted, actual)

    def words(self) -> list[str]:
        out: list[str] = []
        if self.src:
            out += opt("--src-type", self.not_src, _show(self.src))
        if self.dst:
            out += opt("--dst-type", self.not_dst, _show(self.dst))
        if self.limit:
            out += opt(f"--limit-iface-{self.limit}")
        return out


def _show(types: frozenset[str]) -> str:
    return ",".join(name for name in TYPES if name in types)
