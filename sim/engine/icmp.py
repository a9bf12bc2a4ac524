"""Packets that the kernel itself makes about another packet: ICMP errors, resets, redirects, TEE copies.

They are routed like local output and walked to their end at once, as in the kernel, where they are sent from
within the processing of their cause. Sources: net/ipv4/icmp.c, route.c, netfilter/nf_reject_ipv4.c, nf_dup_ipv4.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..model.addr import AF_INET, format_addr
from ..model.packet import (
    ICMP_ERRORS,
    IPPROTO_AH,
    IPPROTO_DCCP,
    IPPROTO_ESP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    PACKET_HOST,
    TH_ACK,
    TH_FIN,
    TH_RST,
    TH_SYN,
    Sk,
    Skb,
)
from ..model.result import Hop, Reason, Response
from ..model.rule import NF_INET_PRE_ROUTING
from ..model.world import Port
from ..record import NamedTuple
from . import conntrack, routing
from .run import Ctx
from .trackers import knows

INADDR_DUMMY = 0xC0000008  # 192.0.0.8, RFC 7600: the sender has no address at all
HZ = 250  # ticks a second of distribution kernels; rate limits count in them
REDIRECT_NUMBER, REDIRECT_LOAD = 9, HZ // 50  # ip_rt_redirect_number, ip_rt_redirect_load
REDIRECT_SILENCE = REDIRECT_LOAD << (REDIRECT_NUMBER + 1)
ERROR_COST, ERROR_BURST = HZ, 5 * HZ  # ip_rt_error_cost, ip_rt_error_burst
XRLIM_BURST_FACTOR = 6
ICMP_QUOTE = 576  # icmp_send() quotes at most what fits a minimal MTU


class Peer(NamedTuple):
    """struct inet_peer: what a host remembers of another about rate limits. Times in ticks."""

    tokens: int
    last: int
    redirects: int


def _peer(ctx: Ctx, addr: int) -> tuple[Peer, int]:
    """The peer as inet_getpeer() makes it (60 s old), and the time now in ticks."""
    now = int(ctx.now * HZ)
    peer = ctx.hs.match_state.get(("peer", addr)) or Peer(0, now - 60 * HZ, 0)
    return peer, now


def _remember(ctx: Ctx, addr: int, peer: Peer) -> None:
    ctx.hs.match_state["peer", addr] = peer


def error_allowed(ctx: Ctx, addr: int) -> bool:
    """ip_error(): errors about routes come out of a bucket of five seconds, one second each."""
    peer, now = _peer(ctx, addr)
    tokens = min(peer.tokens + max(0, now - peer.last), ERROR_BURST)
    allowed = tokens >= ERROR_COST
    _remember(ctx, addr, peer._replace(tokens=tokens - ERROR_COST if allowed else tokens, last=now))
    return allowed


def _rate_allowed(ctx: Ctx, icmp_type: int, code: int, rt: Any, addr: int) -> bool:
    """icmpv4_xrlim_allow(): the same bucket, by icmp_ratelimit, for the types of icmp_ratemask."""
    mask = ctx.sysctl_int("net.ipv4.icmp_ratemask", 6168)
    link = ctx.host.links.get(rt.dev)
    if (icmp_type, code) == (3, 4) or not mask >> icmp_type & 1 or (link is not None and link.loopback):
        return True
    cost = ctx.sysctl_int("net.ipv4.icmp_ratelimit", 1000) * HZ // 1000
    peer, now = _peer(ctx, addr)
    tokens = min(peer.tokens + max(0, now - peer.last), XRLIM_BURST_FACTOR * cost)
    allowed = tokens >= cost
    _remember(ctx, addr, peer._replace(tokens=tokens - cost if allowed else tokens, last=now))
    return allowed


def icmp_send(ctx: Ctx, skb: Skb, icmp_type: int, code: int, info: int = 0) -> None:
    """__icmp_send(): tell the sender of ``skb``; silently nothing where RFC 1122 forbids an answer.

    ``info``: mtu of type 3/4, gateway (address) of type 5.
    """
    if not _may_answer(skb):
        return
    out = Skb(AF_INET, IPPROTO_ICMP, _error_source(ctx, skb), skb.src)
    out.icmp_type, out.icmp_code = icmp_type, code
    if icmp_type == 5:
        out.icmp_gateway = info
    else:
        out.icmp_mtu = info
    out.tos = (skb.tos & 0x1E) | 0xC0
    out.inner = _quoted(skb)
    out.length = min(20 + 8 + out.inner.length, ICMP_QUOTE)
    out.sk = Sk(has_file=False)
    _send(ctx, skb, out, "icmp", attach=True)


# nf_reject_verify_csum(): checksums that do not cover the whole payload, or are optional, are not looked at
UNVERIFIED = frozenset((IPPROTO_AH, IPPROTO_ESP, IPPROTO_SCTP, IPPROTO_UDPLITE, IPPROTO_GRE))
VERIFIED = frozenset((IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6))  # taken to be right


def checksum_holds(ctx: Ctx, skb: Skb) -> bool:
    """nf_ip_checksum() before REJECT answers: a protocol it does not know is summed up like ICMP, over all bytes."""
    if skb.proto in UNVERIFIED or skb.proto in VERIFIED:
        return True
    if skb.proto == IPPROTO_DCCP and knows(ctx.host, IPPROTO_DCCP):
        return True  # its name left the list when the protocol left the kernel
    from .wire import checksum, header_length, to_bytes

    return checksum(to_bytes(skb)[header_length(skb) :]) == 0


def _may_answer(skb: Skb) -> bool:
    if skb.frag or skb.pkttype != PACKET_HOST or skb.rt is None:
        return False
    if skb.rt.kind in ("broadcast", "multicast"):
        return False
    return not (skb.proto == IPPROTO_ICMP and (skb.icmp_type in ICMP_ERRORS or skb.icmp_type > 18))


def _error_source(ctx: Ctx, skb: Skb) -> int:
    """The packet's own destination if that was local, else 0: chosen by the route back (or the inbound device)."""
    if skb.rt.kind == "local":
        return skb.dst
    if ctx.indev and ctx.sysctl_int("net.ipv4.icmp_errors_use_inbound_ifaddr", 0):
        return routing.select_source(ctx, ctx.indev, skb.src, 253) or 0
    return 0


def _quoted(skb: Skb) -> Skb:
    inner = skb.copy()
    inner.inner = None if skb.inner is None else skb.inner.copy()
    inner.length = skb.piece or skb.length
    inner.ct = inner.ctinfo = inner.rt = inner.sk = inner.template = inner.cause = None
    return inner


def _send(ctx: Ctx, cause: Skb, out: Skb, kind: str, attach: bool) -> None:
    """Route and send a packet of the kernel's own, and record what became of it."""
    if ctx.sysctl_int("net.ipv4.fwmark_reflect", 0):
        out.mark = cause.mark
    rt = routing.output(
        ctx,
        family=out.family,
        dst=out.dst,
        src=out.src,
        mark=out.mark,
        tos=out.tos,
        proto=out.proto,
        sport=_port(out.sport),
        dport=_port(out.dport),
        transparent=out.sk is not None and out.sk.transparent,
        skb_in=cause if attach else None,
    )
    if rt.errno:
        return
    if attach and not _rate_allowed(ctx, out.icmp_type, out.icmp_code, rt, out.dst):
        ctx.step(
            "icmp", hook=None, note=f"no ICMP error is sent: rate limit towards {format_addr(out.family, out.dst)}"
        )
        return
    out.rt = rt
    if not out.src:
        out.src = rt.src or INADDR_DUMMY
    if not out.dst:  # ip_route_output_key_hash_rcu() turns 0.0.0.0 into the source in the flow that the header is from
        out.dst = rt.src
    out.ttl = ctx.sysctl_int("net.ipv4.ip_default_ttl", 64)
    if attach:
        conntrack.attach(ctx, out, cause)
    emit(ctx, out, kind)


def _port(value: Any) -> int:
    return value if isinstance(value, int) else 0


def emit(ctx: Ctx, out: Skb, kind: str) -> None:
    """Walk a routed packet from this host's OUTPUT to its end, as a response of the main packet."""
    from .walk import Local

    run = ctx.run
    out.cause = kind
    run.emitted += 1
    run.aside(Local(ctx.host.name, out), _told(ctx, out, kind))
    run.settle()


def _told(ctx: Ctx, out: Skb, kind: str) -> Callable[[Any, list[Hop]], None]:
    """Writes down as a response what becomes of the packet that was made last."""
    run = ctx.run
    number, sender, target = run.emitted, ctx.host.name, format_addr(out.family, out.dst)
    icmp_type, code = (out.icmp_type, out.icmp_code) if out.is_icmp else (None, None)

    def done(fate: Any, hops: list[Hop]) -> None:
        run.responses[number] = Response(
            kind,
            icmp_type,
            code,
            sender,
            fate.host if fate.outcome == "delivered" else target,
            fate.outcome,
            fate.skb.header(),
            tuple(hops),
            {"host": fate.host, "interface": fate.interface, "hook": fate.hook},
            fate.reason,
        )

    return done


def tcp_reset(ctx: Ctx, skb: Skb) -> None:
    """nf_send_reset(): REJECT --reject-with tcp-reset. The RST carries the rejected packet's entry as RELATED."""
    if skb.proto != IPPROTO_TCP or skb.tcp_flags & TH_RST or skb.frag:
        return
    if skb.rt is not None and skb.rt.kind in ("broadcast", "multicast"):
        return
    out = reset_of(skb)
    if ctx.sysctl_int("net.ipv4.fwmark_reflect", 0):
        out.mark = skb.mark
    out.df = True
    rt = routing.reroute(ctx, out)
    if rt.errno:
        return
    out.rt = rt
    out.ttl = ctx.sysctl_int("net.ipv4.ip_default_ttl", 64)
    conntrack.attach(ctx, out, skb)
    conntrack.set_closing(ctx, skb)
    if skb.bridge is None:
        emit(ctx, out, "tcp_reset")
    else:
        _reset_by_port(ctx, out, skb.bridge.sender)


def _reset_by_port(ctx: Ctx, out: Skb, sender: Port | None) -> None:
    """nf_send_reset() of what came in by a bridge: straight out of that port again, past OUTPUT and POSTROUTING."""
    from .host import Fate, Transfer

    run, me = ctx.run, ctx.host.name
    run.emitted += 1
    done = _told(ctx, out, "tcp_reset")
    if sender is None:
        reason = Reason("left_at_edge", f"leaves {me} by the port of {ctx.indev} that the segment came in on")
        done(Fate("left", me, ctx.indev, None, reason, out), [Hop(me, None, ctx.indev, before=out.header())])
        return
    out.ct = out.ctinfo = out.rt = out.sk = None
    run.aside(Transfer(sender.host, sender.dev, out, Port(me, ctx.indev or "")), done)
    run.settle()


def reset_of(skb: Skb) -> Skb:
    """The RST that answers a segment (RFC 9293 3.10.7.1)."""
    out = Skb(skb.family, IPPROTO_TCP, skb.dst, skb.src)
    out.sport, out.dport, out.length, out.window = skb.dport, skb.sport, 40, 0
    if skb.tcp_flags & TH_ACK:
        out.tcp_flags, out.tcp_seq = TH_RST, skb.tcp_ack
    else:
        counted = bool(skb.tcp_flags & TH_SYN) + bool(skb.tcp_flags & TH_FIN) + payload_length(skb)
        out.tcp_flags, out.tcp_ack = TH_RST | TH_ACK, (skb.tcp_seq + counted) & 0xFFFFFFFF
    return out


def payload_length(skb: Skb) -> int:
    """Bytes after the TCP header; a SYN carries none, what is left of it is options that nobody named."""
    if skb.payload:
        return len(skb.payload)
    if skb.tcp_options is not None:
        options = (len(skb.tcp_options) + 3) // 4 * 4
    else:
        options = 4 if skb.mss is not None else 0
    left = max(0, skb.length - 20 - len(skb.ip_options) - 20 - options)
    return 0 if skb.tcp_flags & TH_SYN and skb.tcp_options is None and left + options <= 40 else left


def no_listener(ctx: Ctx, skb: Skb, kind: str) -> None:
    """Nobody listens: the stack's own reset (tcp_v4_send_reset), port or protocol unreachable."""
    if kind == "no_protocol":
        icmp_send(ctx, skb, 3, 2)
    elif skb.proto == IPPROTO_TCP:
        if skb.tcp_flags & TH_RST:
            return
        out = reset_of(skb)
        out.tos, out.df = skb.tos & 0xFC, True
        out.sk = Sk(has_file=False, transparent=getattr(skb.tproxy, "transparent", False))  # IP_REPLY_ARG_NOSRCCHECK
        _send(ctx, skb, out, "tcp_reset", attach=False)
    elif skb.has_ports:
        skb.ct = skb.ctinfo = None  # __udp4_lib_rcv(): nf_reset_ct() comes before the error, which is looked up anew
        icmp_send(ctx, skb, 3, 3)


def send_redirect(ctx: Ctx, skb: Skb) -> None:
    """ip_rt_send_redirect(): tell an on-link sender of the better nexthop, at most 9 times, ever more slowly."""
    gateway = skb.rt.gateway if skb.rt.gateway is not None else skb.dst
    addr = skb.src
    peer, now = _peer(ctx, addr)
    if now > peer.last + REDIRECT_SILENCE:
        peer = peer._replace(tokens=0, redirects=0)
    if peer.redirects >= REDIRECT_NUMBER:
        _remember(ctx, addr, peer._replace(last=now))
        return
    _remember(ctx, addr, peer)
    if peer.redirects and now <= peer.last + (REDIRECT_LOAD << peer.redirects):
        return
    icmp_send(ctx, skb, 5, 1, gateway)
    _remember(ctx, addr, _peer(ctx, addr)[0]._replace(last=now, redirects=peer.redirects + 1))


def tee(ctx: Ctx, skb: Skb, gateway: int, oif: str | None) -> None:
    """nf_dup_ipv4(): an untracked copy to ``gateway``, through OUTPUT; the original goes on."""
    from ..model.conntrack import IP_CT_UNTRACKED

    copy = skb.copy()
    copy.ct, copy.ctinfo, copy.template, copy.sk = None, IP_CT_UNTRACKED, None, None  # pskb_copy() leaves out skb->sk
    copy.df = True
    if ctx.hook in (NF_INET_PRE_ROUTING, 1):
        copy.ttl = (copy.ttl - 1) & 0xFF  # nobody looks whether it is used up: eight bits wrap
    rt = routing.output(ctx, family=skb.family, dst=gateway, oif=oif, tos=skb.tos)
    if rt.errno:
        return
    # The copy keeps its own destination but goes to the gateway, or to the gateway of the route that leads there
    # (FLOWI_FLAG_KNOWN_NH: rt_set_nexthop() fills in what has none).
    from ..record import replace

    known = rt.kind != "unicast" or rt.gateway is not None
    copy.rt = rt if known else replace(rt, gateway=gateway, gateway_family=skb.family)
    emit_copy(ctx, copy)


def emit_copy(ctx: Ctx, copy: Skb) -> None:
    """Walk a TEE copy; it shows up under ``copies``, not as a response."""
    from .walk import Local

    ctx.run.aside(Local(ctx.host.name, copy))
