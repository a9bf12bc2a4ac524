"""SYNPROXY: net/ipv4/netfilter/ipt_SYNPROXY.c synproxy_tg4(), net/netfilter/nf_synproxy_core.c.

A client's SYN is taken over and answered with a SYN-ACK whose sequence number is a cookie. The ACK that completes the
handshake is taken over too and makes this host open the connection to the server; any other ACK is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model.packet import IPPROTO_TCP, TH_ACK, TH_CWR, TH_ECE, TH_FIN, TH_RST, TH_SYN
from ..model.rule import DROP, NF_INET_FORWARD, NF_INET_LOCAL_IN, STOLEN, V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

FLAGS = ("--sack-perm", "--timestamp")


@target(
    "SYNPROXY",
    hooks=(NF_INET_LOCAL_IN, NF_INET_FORWARD),
    doc="-p tcp -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --ecn",
)
@dataclass(frozen=True, slots=True)
class Synproxy(Target):
    """The options that the SYN-ACK may carry."""

    options = (Opt("--sack-perm", 0), Opt("--timestamp", 0), Opt("--wscale"), Opt("--mss"), Opt("--ecn", 0))
    tracks = True
    terminal = True

    sack_perm: bool = False
    timestamp: bool = False
    wscale: int | None = None
    mss: int | None = None
    ecn: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Synproxy:
        options = Options("SYNPROXY", found, at)
        if at.proto != IPPROTO_TCP or at.proto_negated:
            raise at.error("SYNPROXY needs -p tcp", "add -p tcp to the rule")
        return cls(
            "--sack-perm" in options,
            "--timestamp" in options,
            options.number("--wscale"),
            options.number("--mss", 0, 0xFFFF),
            "--ecn" in options,
        )

    def words(self) -> list[str]:
        out = [name for name, on in zip(FLAGS, (self.sack_perm, self.timestamp), strict=True) if on]
        if self.wscale is not None:
            out += ["--wscale", str(self.wscale)]
        if self.mss is not None:
            out += ["--mss", str(self.mss)]
        return [*out, "--ecn"] if self.ecn else out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        flags = skb.tcp_flags & (TH_SYN | TH_ACK | TH_FIN | TH_RST)
        key = ("synproxy", skb.src, skb.sport, skb.dst, skb.dport)
        if flags == TH_SYN:
            ctx.hs.match_state[key] = True
            self._answer(skb, ctx)
            return Verdict(STOLEN, reason="stolen_synproxy", text="the SYN is answered in the server's name")
        if flags != TH_ACK:
            return V_CONTINUE
        return self._handshake(ctx, ctx.hs.match_state.get(key))

    def _handshake(self, ctx: Ctx, asked: Any) -> Verdict:
        """synproxy_recv_client_ack(): only an ACK of a cookie that was given out is taken."""
        if asked and ctx.unknown(
            "whether the ACK returns the cookie of SYNPROXY's SYN-ACK is known to the client only"
        ):
            return Verdict(STOLEN, reason="stolen_synproxy", text="handshake done: the proxy now opens the connection")
        return Verdict(DROP, reason="synproxy_bad_cookie", text="the ACK returns no cookie of SYNPROXY")

    def _answer(self, skb: Skb, ctx: Ctx) -> None:
        """synproxy_send_client_synack(): goes back as local output with the SYN's entry, if it has one."""
        from ..engine import icmp, routing
        from ..model.conntrack import IP_CT_ESTABLISHED_REPLY
        from ..model.packet import Skb as Packet

        out = Packet(skb.family, IPPROTO_TCP, skb.dst, skb.src)
        out.sport, out.dport, out.window, out.df = skb.dport, skb.sport, 0, True
        out.tcp_flags, out.tcp_ack = TH_SYN | TH_ACK, (skb.tcp_seq + 1) & 0xFFFFFFFF
        out.cookie = True
        out.mss = self.mss if skb.mss is not None else None
        if self.ecn and self.timestamp and skb.tcp_flags & TH_ECE and skb.tcp_flags & TH_CWR:
            out.tcp_flags |= TH_ECE
        out.length = 40 + (4 if out.mss is not None else 0)
        out.ttl = ctx.sysctl_int("net.ipv4.ip_default_ttl", 64)
        rt = routing.reroute(ctx, out)
        if rt.errno:
            return
        out.rt = rt
        if skb.ct is not None:
            out.ct, out.ctinfo = skb.ct, IP_CT_ESTABLISHED_REPLY
        icmp.emit(ctx, out, "tcp_synack")
