"""TCPMSS: net/netfilter/xt_TCPMSS.c tcpmss_mangle_packet().

An MSS option is only ever lowered. Where there is none and no data follows the header, one is added, with at most
the default of RFC 9293 (536, IPv6 1220).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.packet import IPPROTO_TCP
from ..model.rule import V_CONTINUE, V_DROP, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options
from .tcpoptions import TCPOLEN_MSS, TCPOPT_MSS, mss_option, option_bytes, set_options, walk

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

OPTIONS_MAX = 40  # doff has four bits
DEFAULT_V4, DEFAULT_V6 = 536, 1220
NO_ROUTE_MTU = 0xFFFFFFFF


@target("TCPMSS", doc="-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400")
@dataclass(frozen=True, slots=True)
class Tcpmss(Target):
    """``mss`` None: --clamp-mss-to-pmtu."""

    options = (Opt("--set-mss"), Opt("--clamp-mss-to-pmtu", 0))

    mss: int | None

    @classmethod
    def parse(cls, found: Found, at: At) -> Tcpmss:
        options = Options("TCPMSS", found, at)
        name = options.one_of("--set-mss", "--clamp-mss-to-pmtu")
        if at.proto != IPPROTO_TCP or at.proto_negated:
            raise at.error("TCPMSS needs -p tcp", "add -p tcp --tcp-flags SYN,RST SYN to the rule")
        if name == "--set-mss":
            return cls(options.number(name, 0, 65515 if at.family == AF_INET else 65495))
        if at.chain in ("PREROUTING", "INPUT"):
            raise at.error("TCPMSS: path-MTU clamping works in FORWARD, OUTPUT and POSTROUTING only")
        return cls(None)

    def words(self) -> list[str]:
        return ["--clamp-mss-to-pmtu"] if self.mss is None else ["--set-mss", str(self.mss)]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        if skb.frag:
            return V_CONTINUE
        limit = self.mss
        if limit is None:
            headers = (20 if skb.family == AF_INET else 40) + 20
            mtu = min(_mtu(ctx, skb.rt), _reverse_mtu(ctx, skb))
            if mtu <= headers:
                return V_DROP
            limit = (mtu - headers) & 0xFFFF
        return _clamp(skb, limit)


def _clamp(skb: Skb, limit: int) -> Verdict:
    from ..engine.icmp import payload_length

    options = option_bytes(skb)
    for at, kind, _ in walk(options):
        if at + TCPOLEN_MSS > len(options):
            break
        if kind == TCPOPT_MSS and options[at + 1] == TCPOLEN_MSS:
            if int.from_bytes(options[at + 2 : at + 4], "big") > limit:
                set_options(skb, options[:at] + mss_option(limit) + options[at + 4 :])
            return V_CONTINUE
    if payload_length(skb) or len(options) >= OPTIONS_MAX:
        return V_CONTINUE
    limit = min(limit, DEFAULT_V4 if skb.family == AF_INET else DEFAULT_V6)
    if skb.tcp_options is None and options == b"":
        skb.mss = limit
    else:
        set_options(skb, mss_option(limit) + options)
    skb.length += TCPOLEN_MSS
    return V_CONTINUE


def _mtu(ctx: Ctx, rt: object) -> int:
    """dst_mtu(): of the route, else of its device."""
    mtu = getattr(rt, "mtu", 0)
    if mtu:
        return int(mtu)
    link = ctx.host.links.get(getattr(rt, "dev", None) or "")
    return link.mtu if link is not None else 1500


def _reverse_mtu(ctx: Ctx, skb: Skb) -> int:
    """tcpmss_reverse_mtu(): of the route to the source, looked up with nothing else known."""
    from ..engine import routing

    rt = routing.output(ctx, family=skb.family, dst=skb.src)
    return NO_ROUTE_MTU if rt.errno else _mtu(ctx, rt)
