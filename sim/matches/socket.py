"""``-m socket``: whether a local socket takes the packet. net/netfilter/xt_socket.c, net/ipv4/netfilter/nf_socket_ipv4.c.

A connected socket is looked for first, then a listening or unconnected one; one bound to no address counts only with
--nowildcard. ICMP errors are looked up by the packet they quote, replies of SNATed connections by the original source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.sockets import is_raw, sent_from_here
from ..model.conntrack import IP_CT_ESTABLISHED_REPLY, IP_CT_RELATED_REPLY, IPS_SRC_NAT_DONE
from ..model.packet import IPPROTO_TCP, IPPROTO_UDP
from ..model.route import Socket
from ..model.rule import NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import need_header

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.drawn import Number
    from ..model.packet import Skb

FLAGS = ("--transparent", "--nowildcard", "--restore-skmark")


@match("socket", hooks=(NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN), doc="-m socket --transparent --nowildcard")
@dataclass(frozen=True, slots=True)
class SocketMatch(Match):
    """Flags of revision 3."""

    options = tuple(Opt(flag, 0) for flag in FLAGS)
    transparent: bool = False
    nowildcard: bool = False
    restore: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> SocketMatch:
        names = {got.name for got in found}
        return cls(*(flag in names for flag in FLAGS))

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if skb.tproxy is None and ctx.host.sockets is None:
            return ctx.unknown(
                "-m socket: the sockets of the host are not in the snapshot (sockets.txt)", "missing_input"
            )
        found = self._find(skb, ctx)
        if found is None:
            return False
        if self.restore:
            skb.mark = found.mark
        return True

    def _find(self, skb: Skb, ctx: Ctx) -> Socket | None:
        sk: Socket | None = skb.tproxy or lookup(skb, ctx)
        if sk is None or (self.transparent and not sk.transparent):
            return None
        if not self.nowildcard and sk.local is None and sk.state != "TIME-WAIT":
            return None
        return sk

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        sk = skb.tproxy or (lookup(skb, ctx) if ctx.host.sockets is not None else None)
        if sk is None:
            actual = "no local socket takes this packet"
        elif sk.local is None and not self.nowildcard:
            actual = "the socket is bound to no address (add --nowildcard)"
        else:
            actual = "the socket is not transparent"
        return Miss(" ".join(["-m socket", *self.words()]), "a socket", actual)

    def words(self) -> list[str]:
        values = (self.transparent, self.nowildcard, self.restore)
        return [flag for flag, value in zip(FLAGS, values, strict=True) if value]


def lookup(skb: Skb, ctx: Ctx) -> Socket | None:
    """nf_sk_lookup_slow_v4()."""
    icmp = skb.is_icmp
    if icmp:
        quoted = skb.inner if skb.is_icmp_error else None
        if quoted is None or quoted.proto not in (IPPROTO_TCP, IPPROTO_UDP):
            return None
        proto, far, near = quoted.proto, (quoted.dst, quoted.dport), (quoted.src, quoted.sport)
    elif skb.proto in (IPPROTO_TCP, IPPROTO_UDP) and not skb.frag:
        if not need_header(skb, 4):
            return None
        proto, far, near = skb.proto, (skb.src, skb.sport), (skb.dst, skb.dport)
    else:
        return None
    conn = ctx.ct(skb)
    back = IP_CT_RELATED_REPLY if icmp else IP_CT_ESTABLISHED_REPLY
    if conn is not None and skb.ctinfo == back and conn.status & IPS_SRC_NAT_DONE:
        near = (conn.tuples[0].src, conn.tuples[0].sport)
    return find_socket(ctx, skb.family, proto, near, far)


def find_socket(ctx: Ctx, family: int, proto: int, near: tuple[int, Number],
                far: tuple[int, Number]) -> Socket | None:  # fmt: skip
    """The best socket: inet_lookup(), udp4_lib_lookup(). ``near``/``far``: local and remote address and port."""
    flow = ("socket", proto, *near, *far)
    if sent_from_here(ctx, flow, ctx.indev):
        local = None if flow == ctx.run.unbound_sender else near[0]
        return Socket(family, proto, local, near[1], far[0], far[1], "ESTAB")  # type: ignore[arg-type]
    best: Socket | None = None
    best_score = -1
    for sk in ctx.host.sockets or ():
        if is_raw(sk) or sk.proto != proto or (sk.family != family and (sk.local is not None or sk.v6only)):
            continue
        if sk.local not in (None, near[0]) or (sk.dev is not None and sk.dev != ctx.indev):
            continue
        connected = bool(sk.rport)
        if connected and (sk.remote not in (None, far[0]) or not ctx.same(sk.rport, far[1])):
            continue
        if not connected and proto == IPPROTO_TCP and sk.state != "LISTEN":
            continue
        if not ctx.same(sk.lport, near[1]):
            continue
        score = 8 * connected + 4 * (sk.local is not None) + 2 * (sk.dev is not None) + (sk.family == family)
        if score > best_score:
            best, best_score = sk, score
    return best
