"""Which socket receives a locally delivered packet (net/ipv4/udp.c, inet_hashtables.c, raw.c, ip_input.c)."""

from __future__ import annotations

from typing import Any

from ..model.addr import AF_INET, is_multicast
from ..model.drawn import Number
from ..model.packet import (
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    IPPROTO_AH,
    IPPROTO_DCCP,
    IPPROTO_ESP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IGMP,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    PROTO_NAME,
    TH_ACK,
    TH_FIN,
    TH_RST,
    TH_SYN,
    Skb,
)  # fmt: skip
from ..model.route import Socket
from ..record import dataclass
from .run import Ctx

# Protocols with a handler in every kernel, and those whose handler is a module: only meta.json can tell of it.
ALWAYS = frozenset((IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_ICMPV6))
MODULES = frozenset((4, 41, IPPROTO_GRE, IPPROTO_ESP, IPPROTO_AH, IPPROTO_SCTP, IPPROTO_DCCP, 108, 115))
TUNNELS = {"gre": 47, "gretap": 47, "erspan": 47, "ipip": 4, "sit": 41, "l2tp": 115, "vti": 4}


@dataclass(frozen=True, slots=True)
class Delivery:
    """``kind``: socket, kernel (the stack itself answers or consumes it), no_listener, no_protocol, unknown."""

    kind: str
    socket: Socket | None = None
    note: str = ""


def lookup(ctx: Ctx, skb: Skb) -> Delivery:
    """The receiver of a packet that passed INPUT."""
    if isinstance(skb.tproxy, Socket):
        if skb.proto == IPPROTO_TCP and skb.tproxy.state == "LISTEN":
            if _remembered(ctx, skb):
                return Delivery("socket", None, f"delivered to its connection on {ctx.host.name}")
            return _to_listener(ctx, skb, skb.tproxy)
        return Delivery("socket", skb.tproxy, "the socket that TPROXY assigned")
    if skb.is_icmp:
        return _icmp(ctx, skb)
    if skb.proto == IPPROTO_IGMP:
        return Delivery("kernel", None, "group membership is handled by the kernel")
    if skb.proto in (IPPROTO_UDP, IPPROTO_UDPLITE):
        return _udp(ctx, skb)
    if skb.proto == IPPROTO_TCP:
        return _tcp(ctx, skb)
    return _other(ctx, skb)


def remember(ctx: Ctx, skb: Skb, bound: bool = True) -> None:
    """A local process sent this: its socket exists and takes the answers. Call before OUTPUT changes anything.

    ``bound`` False: routing chose the source. A datagram socket is then bound to no address while it sends this packet,
    and connected to its peer, which binds it, from then on (__ip4_datagram_connect()).
    """
    key = _flow_key(skb.proto, skb.src, _near(skb), skb.dst, skb.dport)
    if not bound and skb.proto in (IPPROTO_UDP, IPPROTO_UDPLITE) and key not in ctx.hs.match_state:
        ctx.run.unbound_sender = key
    ctx.hs.match_state[key] = "bound"
    if skb.sk is not None and skb.sk.bound_dev is not None:
        ctx.hs.match_state["device of", *key] = skb.sk.bound_dev
    else:
        ctx.hs.match_state.pop(("device of", *key), None)
    if skb.proto == IPPROTO_TCP and skb.tcp_flags & (TH_SYN | TH_ACK) == TH_SYN:
        ctx.hs.match_state["opening", *key[1:]] = (skb.tcp_seq, ctx.now)
    ctx.hs.match_state["sender"] = (skb.proto, skb.src, _near(skb) if skb.has_ports else 0)
    ctx.hs.match_state["sender bound"] = bound


def hear_error(ctx: Ctx, skb: Skb) -> None:
    """tcp_v4_err(): an ICMP error about a connect() that nobody has answered yet ends its socket.

    Not while connect() itself is still running (the socket is locked then, the error is only noted): that is the case
    for all that the SYN causes before the call returns.
    """
    quoted = skb.inner
    hard = skb.icmp_type in (11, 12) or (skb.icmp_type == 3 and skb.icmp_code <= 15 and skb.icmp_code != 4)
    if not hard or quoted is None or quoted.proto != IPPROTO_TCP:
        return
    flow = (IPPROTO_TCP, quoted.src, quoted.sport, quoted.dst, quoted.dport)
    opening = ctx.hs.match_state.get(("opening", *flow))
    if opening is None or ctx.now <= opening[1] or (quoted.tcp_seq - opening[0]) & 0xFFFFFFFF > 1:
        return
    del ctx.hs.match_state["opening", *flow]
    ctx.hs.match_state.pop(("socket", *flow), None)


def _near(skb: Skb) -> Number:
    return skb.icmp_id if skb.is_icmp else skb.sport


def _flow_key(proto: int, local: int, lport: Number, remote: int, rport: Number) -> tuple[Any, ...]:
    return "socket", proto, local, lport, remote, rport


def _remembered(ctx: Ctx, skb: Skb) -> bool:
    near = skb.icmp_id if skb.is_icmp else skb.dport
    return sent_from_here(ctx, _flow_key(skb.proto, skb.dst, near, skb.src, skb.sport), inet_iif(ctx, skb))


def sent_from_here(ctx: Ctx, flow: tuple[Any, ...], dev: str | None) -> bool:
    """Whether a process has a socket of a flow (see remember()) that hears what comes in by ``dev``: SO_BINDTODEVICE."""
    return flow in ctx.hs.match_state and ctx.hs.match_state.get(("device of", *flow)) in (None, dev)


def _own_sender(ctx: Ctx, skb: Skb, port: Number) -> bool:
    """Over lo a packet can come back to the very socket that is sending it (the last one that sent)."""
    link = ctx.host.links.get(ctx.indev or "")
    if link is None or not link.loopback or "sender" not in ctx.hs.match_state:
        return False
    proto, src, near = ctx.hs.match_state["sender"]
    return (proto, near) == (skb.proto, port) and (not ctx.hs.match_state["sender bound"] or src == skb.dst)


def _own_raw_sender(ctx: Ctx, skb: Skb) -> bool:
    """raw_v4_match(): the sender's unconnected raw socket takes what comes to its address, or to any if it has none."""
    proto, src, _ = ctx.hs.match_state.get("sender", (None, 0, 0))
    return proto == skb.proto and (not ctx.hs.match_state["sender bound"] or src == skb.dst)


def _no_dump(ctx: Ctx, skb: Skb) -> Delivery:
    ctx.run.note(f"{ctx.host.name}: no sockets.txt: somebody is taken to wait for this packet")
    return Delivery("unknown", None, f"delivered to {ctx.host.name}; the snapshot does not say who listens there")


def inet_iif(ctx: Ctx, skb: Skb) -> str | None:
    """The device that SO_BINDTODEVICE is held against: of what comes back over lo that of its local route (rt_iif)."""
    link, rt = ctx.host.links.get(ctx.indev or ""), skb.rt
    if link is not None and link.loopback and rt is not None and rt.route is not None and rt.route.nexthops:
        return str(rt.route.nexthops[0].dev)
    return ctx.indev


def _fits_device(ctx: Ctx, skb: Skb, socket: Socket) -> bool:
    return socket.dev is None or socket.dev == inet_iif(ctx, skb)


def _speaks(socket: Socket, family: int) -> bool:
    """An IPv6 socket on the wildcard address takes IPv4 too, unless it is v6only."""
    if socket.family == family:
        return True
    return family == AF_INET and socket.local is None and not socket.v6only


def is_raw(socket: Socket) -> bool:
    return dict(socket.extra).get("netid") == "raw"


def _candidates(ctx: Ctx, skb: Skb) -> list[Socket]:
    """Sockets of the protocol on the destination port whose device and family fit."""
    out = []
    for socket in ctx.host.sockets or ():
        if socket.proto != skb.proto or is_raw(socket) or not _speaks(socket, skb.family):
            continue
        if _fits_device(ctx, skb, socket) and socket.local in (None, skb.dst) and ctx.same(skb.dport, socket.lport):
            out.append(socket)
    return out


def _udp(ctx: Ctx, skb: Skb) -> Delivery:
    """__udp4_lib_lookup: an exact address beats the wildcard, then connected, device and family count."""
    best: tuple[tuple[bool, int], Socket] | None = None
    for socket in _candidates(ctx, skb):
        score = 2 if socket.family == skb.family else 1
        if socket.remote is not None:
            if socket.remote != skb.src:
                continue
            score += 4
        if socket.rport:
            if not ctx.same(skb.sport, socket.rport):
                continue
            score += 4
        score += 4 if socket.dev is not None else 0
        rank = (socket.local is not None, score)
        if best is None or rank > best[0]:
            best = rank, socket
    if best is not None:
        return _to(ctx, best[1])
    if _remembered(ctx, skb):
        return Delivery("socket", None, f"delivered to the socket on {ctx.host.name} that sent the original packet")
    if _own_sender(ctx, skb, skb.dport):
        return Delivery("socket", None, f"delivered to the socket on {ctx.host.name} that sent it")
    return _nobody(ctx, skb)


def _tcp(ctx: Ctx, skb: Skb) -> Delivery:
    """__inet_lookup: the connection, else a listener for a SYN; anything else is answered with a reset."""
    candidates = _candidates(ctx, skb)
    for socket in candidates:
        if socket.state != "LISTEN" and socket.remote == skb.src and ctx.same(skb.sport, socket.rport):
            return _to(ctx, socket)
    if _remembered(ctx, skb):
        if skb.tcp_flags & (TH_SYN | TH_ACK) == TH_SYN | TH_ACK:
            ctx.hs.match_state.pop(("opening", skb.proto, skb.dst, skb.dport, skb.src, skb.sport), None)
        return Delivery("socket", None, f"delivered to its connection on {ctx.host.name}")
    best: tuple[tuple[bool, bool, bool], Socket] | None = None
    for socket in candidates:
        if socket.state == "LISTEN":
            rank = (socket.local is not None, socket.dev is not None, socket.family == skb.family)
            if best is None or rank > best[0]:
                best = rank, socket
    return _nobody(ctx, skb) if best is None else _to_listener(ctx, skb, best[1])


def _to_listener(ctx: Ctx, skb: Skb, listener: Socket) -> Delivery:
    """A SYN opens a connection; anything else belongs to none."""
    if skb.tcp_flags & (TH_SYN | TH_ACK | TH_RST | TH_FIN) == TH_SYN:
        kind = "transparent" if listener.transparent else "bound"
        ctx.hs.match_state[_flow_key(skb.proto, skb.dst, skb.dport, skb.src, skb.sport)] = kind
        if skb.tproxy is listener:
            return Delivery("socket", listener, "the socket that TPROXY assigned")
        return _to(ctx, listener)
    if skb.tcp_flags & TH_RST or not skb.tcp_flags & TH_ACK:  # tcp_rcv_state_process(), TCP_LISTEN
        return Delivery("kernel", None, f"{ctx.host.name} listens on the port and ignores a segment that opens nothing")
    port = listener.lport
    return Delivery("no_listener", listener, f"{ctx.host.name} listens on port {port}, but has no such connection")


def _nobody(ctx: Ctx, skb: Skb) -> Delivery:
    if ctx.host.sockets is None:
        return _no_dump(ctx, skb)
    name = PROTO_NAME.get(skb.proto, str(skb.proto))
    for socket in ctx.host.sockets:
        if socket.proto == skb.proto and not is_raw(socket) and socket.lport == skb.dport:
            if socket.state in ("LISTEN", "UNCONN"):
                text = f"{name} port {skb.dport} on {ctx.host.name} listens on another address or interface only"
                return Delivery("no_listener", socket, text)
    return Delivery("no_listener", None, f"nobody on {ctx.host.name} listens on {name} port {skb.dport}")


def _to(ctx: Ctx, socket: Socket) -> Delivery:
    who = f" ({socket.process})" if socket.process else ""
    return Delivery("socket", socket, f"delivered to a socket on {ctx.host.name}{who}")


def _icmp(ctx: Ctx, skb: Skb) -> Delivery:
    """icmp_rcv: the kernel answers echo requests; replies go to ping and raw sockets, errors to whom they concern."""
    name = ctx.host.name
    if skb.family == AF_INET and skb.icmp_type == ICMP_ECHO:
        if ctx.sysctl_int("net.ipv4.icmp_echo_ignore_all", 0):
            return Delivery("kernel", None, f"{name} ignores echo requests (icmp_echo_ignore_all)")
        return Delivery("kernel", None, f"delivered to {name}, whose kernel answers echo requests")
    if skb.family == AF_INET and skb.icmp_type == ICMP_ECHOREPLY and _remembered(ctx, skb):
        return Delivery("socket", None, f"delivered to the socket on {name} that sent the request")
    return Delivery("kernel", None, f"delivered to {name}")


def echo_is_answered(ctx: Ctx, skb: Skb) -> bool:
    """icmp_echo: whether an echo request gets a reply."""
    if ctx.sysctl_int("net.ipv4.icmp_echo_ignore_all", 0):
        return False
    to_many = is_multicast(skb.family, skb.dst) or (skb.rt is not None and skb.rt.kind != "local")
    return not (to_many and ctx.sysctl_int("net.ipv4.icmp_echo_ignore_broadcasts", 1))


def _other(ctx: Ctx, skb: Skb) -> Delivery:
    """ip_protocol_deliver_rcu for the rest: a raw socket, a handler that may be loaded, else protocol unreachable."""
    for socket in ctx.host.sockets or ():
        if not is_raw(socket) or socket.lport != skb.proto or not _fits_device(ctx, skb, socket):
            continue
        if socket.family == skb.family and socket.local in (None, skb.dst) and socket.remote in (None, skb.src):
            return _to(ctx, socket)
    name = PROTO_NAME.get(skb.proto, str(skb.proto))
    link = ctx.host.links.get(ctx.indev or "")
    if link is not None and link.loopback and _own_raw_sender(ctx, skb):
        return Delivery("socket", None, f"delivered to the raw socket on {ctx.host.name} that sent it")
    if any(TUNNELS.get(link.kind) == skb.proto for link in ctx.host.links.values()):
        return Delivery("kernel", None, f"delivered to the {name} tunnel of {ctx.host.name}")
    loaded = ctx.host.meta.get("protocols") if skb.family == AF_INET else None
    if isinstance(loaded, list) and skb.proto in loaded:
        return Delivery("kernel", None, f"delivered to {ctx.host.name}, whose kernel handles {name}")
    if not isinstance(loaded, list) and skb.proto in MODULES:
        return Delivery(
            "unknown", None, f"delivered to {ctx.host.name}; whether it handles {name} is not in the snapshot"
        )
    if ctx.host.sockets is None:
        return _no_dump(ctx, skb)
    return Delivery("no_protocol", None, f"nothing on {ctx.host.name} takes protocol {name}")
