"""``-m dccp``: ports, packet types and options. net/netfilter/xt_dccp.c dccp_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.packet import IPPROTO_DCCP
from ..model.rule import HotDrop, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U8, by_name, need_header, no_ports, number, opt, ports, said, show_span
from .tcp import find_option, port_miss

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

TYPES = ("REQUEST", "RESPONSE", "DATA", "ACK", "DATAACK", "CLOSEREQ", "CLOSE", "RESET", "SYNC", "SYNCACK", "INVALID")
INVALID = 10


@match("dccp", doc="-p dccp -m dccp --sport 1:1023 ! --dccp-types REQUEST,RESET --dccp-option 5")
@dataclass(frozen=True, slots=True)
class Dccp(Match):
    """``types``: bit mask of packet types."""

    options = (
        Opt("--sport", 1, True, ("--source-port",)),
        Opt("--dport", 1, True, ("--destination-port",)),
        Opt("--dccp-types", 1, True),
        Opt("--dccp-option", 1, True),
    )
    sport: tuple[int, int] | None = None
    not_sport: bool = False
    dport: tuple[int, int] | None = None
    not_dport: bool = False
    types: int | None = None
    not_types: bool = False
    option: int | None = None
    not_option: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Dccp:
        if at.proto != IPPROTO_DCCP or at.proto_negated:
            raise at.error("-m dccp needs -p dccp")
        got = by_name(found)
        fields: dict[str, object] = {}
        for name in ("--sport", "--dport"):
            if name in got:
                fields |= {name[2:]: ports(at, name, got[name].args[0]), f"not_{name[2:]}": got[name].negated}
        if (one := got.get("--dccp-types")) is not None:
            names = one.args[0].upper().split(",")
            if bad := [name for name in names if name not in TYPES]:
                raise at.error(f"--dccp-types: unknown packet type {bad[0]!r}", f"one of {', '.join(TYPES)}")
            fields |= {"types": sum({1 << TYPES.index(name) for name in names}), "not_types": one.negated}
        if (one := got.get("--dccp-option")) is not None:
            fields |= {"option": number(at, one.name, one.args[0], U8, 1), "not_option": one.negated}
        return cls(**fields)  # type: ignore[arg-type]

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb, ctx) is None

    def _failed(self, skb: Skb, ctx: Ctx) -> str | None:
        if skb.frag or not need_header(skb, 12):
            return "fragment"
        if self.sport and ctx.in_range(skb.sport, *self.sport) == self.not_sport:
            return "sport"
        if self.dport and ctx.in_range(skb.dport, *self.dport) == self.not_dport:
            return "dport"
        if self.types is not None and bool(self.types >> skb.dccp_type & 1) == self.not_types:
            return "types"
        if self.option is not None and find_option(_options(skb), self.option) == self.not_option:
            return "option"
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        failed = self._failed(skb, ctx)
        if failed == "sport" and self.sport:
            return port_miss("sport", self.sport, self.not_sport, skb, ctx)
        if failed == "dport" and self.dport:
            return port_miss("dport", self.dport, self.not_dport, skb, ctx)
        if failed == "types":
            have = TYPES[skb.dccp_type] if skb.dccp_type < INVALID else str(skb.dccp_type)
            return Miss(f"{said(self.not_types)}--dccp-types {self._names()}", self._names(), f"the packet is a {have}")
        if failed == "option":
            has = "has" if self.not_option else "lacks"
            return Miss(f"{said(self.not_option)}--dccp-option {self.option}", str(self.option), f"the header {has} it")
        return Miss("-m dccp", "a whole DCCP header", no_ports(skb) or "the header is cut off")

    def _names(self) -> str:
        return ",".join(name for place, name in enumerate(TYPES) if (self.types or 0) >> place & 1)

    def words(self) -> list[str]:
        out: list[str] = []
        if self.sport:
            out += opt("--sport", self.not_sport, show_span(*self.sport))
        if self.dport:
            out += opt("--dport", self.not_dport, show_span(*self.dport))
        if self.types is not None:
            out += opt("--dccp-types", self.not_types, self._names())
        if self.option is not None:
            out += opt("--dccp-option", self.not_option, self.option)
        return out


def _options(skb: Skb) -> bytes:
    """dccp_find_option(): what follows the fixed header up to the data offset."""
    data = wire.to_bytes(skb)[wire.header_length(skb) :]
    fixed, end = wire.dccp_header_length(skb.dccp_type), data[4] * 4
    if end < fixed or end > len(data):
        raise HotDrop
    return data[fixed:end]
