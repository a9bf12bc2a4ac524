"""TPROXY: net/netfilter/xt_TPROXY.c tproxy_tg4(), net/ipv4/netfilter/nf_tproxy_ipv4.c nf_tproxy_get_sock_v4().

Hands the packet to a transparent socket of this host without changing its addresses. Looked for first: a socket
connected with exactly the packet's two ends; else one that listens on (--on-ip, or the first primary address of the
device; --on-port, or the packet's port). None, or not transparent: the packet is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET, format_addr
from ..model.drawn import Number
from ..model.packet import IPPROTO_TCP, IPPROTO_UDP, PROTO_NAME, TH_ACK, TH_FIN, TH_RST, TH_SYN
from ..model.route import Socket
from ..model.rule import DROP, NF_INET_PRE_ROUTING, V_ACCEPT, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

NO_SOCKET = "tproxy_no_socket"


@target(
    "TPROXY",
    tables=("mangle",),
    hooks=(NF_INET_PRE_ROUTING,),
    doc="-p tcp -j TPROXY --on-port 50080 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1",
)
@dataclass(frozen=True, slots=True)
class Tproxy(Target):
    """``port`` 0 and ``addr`` 0: not given."""

    options = (Opt("--on-port"), Opt("--on-ip"), Opt("--tproxy-mark"))
    terminal = True

    port: int
    addr: int = 0
    mark: int = 0
    mask: int = 0
    family: int = AF_INET

    @classmethod
    def parse(cls, found: Found, at: At) -> Tproxy:
        options = Options("TPROXY", found, at)
        options.need("--on-port")
        port = options.number("--on-port", 0, 0xFFFF) or 0
        if at.proto not in (IPPROTO_TCP, IPPROTO_UDP) or at.proto_negated:
            raise at.error("TPROXY needs -p tcp or -p udp", "add -p tcp or -p udp to the rule")
        mark, mask = options.value_mask("--tproxy-mark") or (0, 0)
        return cls(port, options.addr("--on-ip") or 0, mark, mask, at.family)

    def words(self) -> list[str]:
        return [
            "--on-port", str(self.port), "--on-ip", format_addr(self.family, self.addr),
            "--tproxy-mark", f"{self.mark:#x}/{self.mask:#x}",
        ]  # fmt: skip

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        addr = self.addr or _own_address(ctx, skb)
        port: Number = self.port or skb.dport
        if ctx.host.sockets is None:
            socket = self._assumed(ctx, skb, addr, port)
        else:
            socket = _connected(ctx, skb)
            if socket is None or (socket.state == "TIME-WAIT" and _is_first_syn(skb)):
                socket = _listening(ctx, skb, addr, port) or socket
        if socket is None or not socket.transparent:
            return Verdict(DROP, reason=NO_SOCKET, text=_why(self.family, skb, addr, port, socket))
        skb.mark = (skb.mark & ~self.mask) ^ self.mark
        skb.tproxy = socket
        return V_ACCEPT

    def _assumed(self, ctx: Ctx, skb: Skb, addr: int, port: Number) -> Socket | None:
        """No list of sockets: both answers, and the file that would decide."""
        file = ctx.host.file_of.get("sockets", "sockets.txt")
        place = f"{format_addr(self.family, addr)}:{port}"
        text = f"whether a transparent socket for TPROXY listens on {place} of {ctx.host.name} would be in {file}"
        if not ctx.unknown(text, "missing_input"):
            return None
        number = port if isinstance(port, int) else 0
        return Socket(self.family, skb.proto, addr, number, transparent=True)


def _why(family: int, skb: Skb, addr: int, port: Number, socket: Socket | None) -> str:
    place = f"{PROTO_NAME.get(skb.proto, str(skb.proto))} {format_addr(family, addr)}:{port}"
    if socket is None:
        return f"no socket listens on {place}"
    return f"the socket on {place} is not transparent (IP_TRANSPARENT is off)"


def _own_address(ctx: Ctx, skb: Skb) -> int:
    """nf_tproxy_laddr4(): the first primary address of the device the packet came in by, else its destination."""
    for address in ctx.host.addresses_of(ctx.indev or "", skb.family):
        if not address.secondary:
            return address.local
    return skb.dst


def _is_first_syn(skb: Skb) -> bool:
    return skb.proto == IPPROTO_TCP and skb.tcp_flags & (TH_SYN | TH_RST | TH_ACK | TH_FIN) == TH_SYN


def _sockets(ctx: Ctx, skb: Skb, addr: int, port: Number) -> list[Socket]:
    """Sockets of the protocol that fit the local end and the device."""
    found = []
    for socket in ctx.host.sockets or ():
        wildcard6 = skb.family == AF_INET and socket.local is None and not socket.v6only
        if socket.proto != skb.proto or dict(socket.extra).get("netid") == "raw":
            continue
        if socket.family != skb.family and not wildcard6:
            continue
        if socket.local in (None, addr) and socket.dev in (None, ctx.indev) and ctx.same(port, socket.lport):
            found.append(socket)
    return found


def _connected(ctx: Ctx, skb: Skb) -> Socket | None:
    """NF_TPROXY_LOOKUP_ESTABLISHED; a connected UDP socket counts only where it is bound to an address too."""
    from ..engine.sockets import sent_from_here

    flow = ("socket", skb.proto, skb.dst, skb.dport, skb.src, skb.sport)
    if sent_from_here(ctx, flow, ctx.indev):
        ours = ctx.hs.match_state[flow] == "transparent"  # remember(): a process that sent; or TPROXY gave it its SYN
        near, far = (p if isinstance(p, int) else 0 for p in (skb.dport, skb.sport))
        return Socket(skb.family, skb.proto, skb.dst, near, skb.src, far, "ESTAB", transparent=ours)
    for socket in _sockets(ctx, skb, skb.dst, skb.dport):
        if socket.state == "LISTEN" or socket.local is None or socket.remote != skb.src:
            continue
        if ctx.same(skb.sport, socket.rport):
            return socket
    return None


def _listening(ctx: Ctx, skb: Skb, addr: int, port: Number) -> Socket | None:
    """NF_TPROXY_LOOKUP_LISTENER: an exact address before the wildcard, then a bound device, then the family."""
    best: Socket | None = None
    best_rank = (False, False, False)
    for socket in _sockets(ctx, skb, addr, port):
        if socket.proto == IPPROTO_TCP and socket.state != "LISTEN":
            continue
        if socket.remote is not None:
            continue
        rank = (socket.local is not None, socket.dev is not None, socket.family == skb.family)
        if best is None or rank > best_rank:
            best, best_rank = socket, rank
    return best
