"""One packet put into the world: where it starts, every world it can end in, and its natural answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..model.addr import AF_INET, format_addr, is_limited_broadcast, is_multicast
from ..model.packet import (
    ICMP_ADDRESS,
    ICMP_ADDRESSREPLY,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_INFO_REPLY,
    ICMP_INFO_REQUEST,
    ICMP_TIMESTAMP,
    ICMP_TIMESTAMPREPLY,
    IPPROTO_TCP,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    TH_ACK,
    TH_FIN,
    TH_RST,
    TH_SYN,
    NfBridge,
    Sk,
    Skb,
)
from ..model.result import Hop, Leaf, Reason
from ..model.rule import NF_INET_LOCAL_OUT
from ..model.state import WorldState
from ..model.world import World
from ..record import NamedTuple, dataclass, field
from . import bridge, routing, sockets
from .fib_table import ENETUNREACH
from .host import EADDRNOTAVAIL, EMSGSIZE, Fate, Transfer, new_ctx
from .icmp import payload_length
from .rt import Rt
from .run import MAX_LEAVES, Ctx, Run, explore
from .walk import Local, follow, leaf_of

REPLY_ISN = 0x40000000  # sequence number that natural SYN,ACKs start with
ICMP_ANSWER = {
    ICMP_ECHO: ICMP_ECHOREPLY,
    ICMP_TIMESTAMP: ICMP_TIMESTAMPREPLY,
    ICMP_INFO_REQUEST: ICMP_INFO_REPLY,
    ICMP_ADDRESS: ICMP_ADDRESSREPLY,
}


class Injection(NamedTuple):
    """A packet put into ``host``: received by ``in_dev``, or (None) sent by a local process.

    ``skb.src`` 0 with ``in_dev`` None lets routing choose the source. ``at``: seconds since the first packet.
    ``oif``: device that the sending socket is bound to.
    """

    host: str
    in_dev: str | None
    skb: Skb
    at: float = 0.0
    oif: str | None = None


@dataclass(slots=True)
class Answer:
    """All worlds that one packet can lead to. ``complete``: none was left out for want of room.

    ``breeds``: the packet causes others without end, which were not followed.
    """

    leaves: list[Leaf]
    complete: bool = True
    injection: Injection | None = None
    notes: list[str] = field(default_factory=list)
    breeds: bool = False

    def groups(self) -> list[list[Leaf]]:
        """Leaves that an observer cannot tell apart, likeliest group first."""
        found: dict[Any, list[Leaf]] = {}
        for leaf in self.leaves:
            found.setdefault(leaf.signature(), []).append(leaf)
        return sorted(found.values(), key=lambda g: -sum(leaf.probability or 0 for leaf in g))

    @property
    def main(self) -> Leaf:
        """The likeliest leaf."""
        return self.groups()[0][0]


def play(world: World, start: WorldState | None, question: Injection, verbose: bool = False,
         max_leaves: int = MAX_LEAVES) -> Answer:  # fmt: skip
    """Put a packet into the world as it stands (``start``; None: as in the snapshot) and follow it everywhere."""
    state = WorldState(world) if start is None else start
    state.now = max(state.now, question.at)
    leaves, complete = explore(state, lambda run: _once(run, question), verbose, max_leaves)
    return Answer(leaves, complete, question, breeds=not complete and len(leaves) < max_leaves)


def _once(run: Run, question: Injection) -> Leaf:
    skb = question.skb.copy()
    if question.in_dev is not None:
        _address_frame(skb)
        return leaf_of(run, follow(run, _put_in(run, question.host, question.in_dev, skb)))
    started = start_local(run, question, skb)
    if isinstance(started, Fate):
        return leaf_of(run, started)
    return leaf_of(run, follow(run, started))


def _put_in(run: Run, host: str, dev: str, skb: Skb) -> Transfer:
    """Onto the wire of a device; what comes in by a bridge's port comes in by the bridge."""
    ctx = new_ctx(run, host)
    found = bridge.of(ctx, dev)
    if found is None:
        return Transfer(host, dev, skb)
    sender, to = bridge.arriving(ctx, found, dev, skb)
    if dev != found:
        skb.bridge = NfBridge(dev, sender)
    return Transfer(host, found, skb, sender, to)


def _address_frame(skb: Skb) -> None:
    """eth_type_trans(): what is sent to everybody comes in a frame to everybody; no error may answer it."""
    if skb.pkttype == PACKET_HOST and is_multicast(skb.family, skb.dst):
        skb.pkttype = PACKET_MULTICAST
    elif skb.pkttype == PACKET_HOST and is_limited_broadcast(skb.family, skb.dst):
        skb.pkttype = PACKET_BROADCAST


def start_local(run: Run, question: Injection, skb: Skb) -> Local | Fate:
    """Route a local send (ip_route_output_flow): source chosen, or the errno of a packet that never was."""
    ctx = new_ctx(run, question.host)
    ctx.hook = NF_INET_LOCAL_OUT
    if skb.sk is None:
        skb.sk = Sk(uid=skb.uid, mark=skb.mark)
    if is_connect(skb):
        skb.tos &= ~0x03  # do_ip_setsockopt(): a stream socket's ECN bits are TCP's own
    near = skb.src
    if skb.src and routing.addr_type(ctx, skb.family, skb.src) in ("BROADCAST", "MULTICAST"):
        skb.src = 0  # __inet_bind(), raw_bind(): such a socket receives there, and sends from the device's address
    unbindable = _bind_refused(ctx, skb)
    if unbindable is not None:
        return _never_sent(run, question, skb, unbindable, EADDRNOTAVAIL)
    rt = _route(ctx, question, skb, skb.src)
    if is_connect(skb) and not skb.src and not rt.errno:
        rt = _route(ctx, question, skb, rt.src)  # ip_route_connect(): once for the source, once with it
    if rt.errno:
        return _never_sent(run, question, skb, rt.reason or Reason("no_route", rt.text, rt.where), rt.errno)
    if is_connect(skb) and rt.kind in ("broadcast", "multicast"):  # tcp_v4_connect()
        reason = Reason("send_failed", f"connect() to {rt.text or 'a ' + rt.kind + ' address'}", rt.where)
        return _never_sent(run, question, skb, reason, ENETUNREACH)
    bound = bool(skb.src)
    if not bound:
        skb.src = rt.src
    skb.rt = rt
    if rt.mtu and skb.length > rt.mtu and skb.df and skb.proto != IPPROTO_TCP:
        text = f"{skb.length} bytes with DF are more than the mtu {rt.mtu} of {rt.dev}"
        return _never_sent(run, question, skb, Reason("send_failed", text, rt.where), EMSGSIZE)
    if skb.sk.has_file:
        heard = skb.copy()
        heard.src = near or skb.src
        sockets.remember(ctx, heard, bool(near))
    return Local(question.host, skb)


def _bind_refused(ctx: Ctx, skb: Skb) -> Reason | None:
    """inet_addr_valid_or_nonlocal(): a socket is bound to an address of the host, unless it may take any."""
    if not skb.src or skb.family != AF_INET or (skb.sk is not None and (skb.sk.transparent or not skb.sk.has_file)):
        return None
    if routing.addr_type(ctx, skb.family, skb.src) != "UNICAST":
        return None
    if ctx.sysctl_int("net.ipv4.ip_nonlocal_bind", 0, ()):
        return None
    text = f"{ctx.host.name} does not own the source address {format_addr(skb.family, skb.src)}, so no socket is bound to it"
    return Reason("source_not_owned", text)


def is_connect(skb: Skb) -> bool:
    """Whether a locally sent packet is the SYN of a connect(); other segments are made by hand, in a raw socket."""
    return skb.proto == IPPROTO_TCP and skb.tcp_flags == TH_SYN and not (skb.sk is not None and skb.sk.transparent)


def _route(ctx: Ctx, question: Injection, skb: Skb, src: int) -> Rt:
    """ip_route_output_flow() for a socket's packet."""
    assert skb.sk is not None
    return routing.output(
        ctx,
        family=skb.family,
        dst=skb.dst,
        src=src,
        oif=question.oif or skb.sk.bound_dev,
        mark=skb.mark,
        tos=skb.tos,
        uid=skb.sk.uid,
        proto=skb.proto,
        sport=skb.sport if skb.has_ports else 0,
        dport=skb.dport if skb.has_ports else 0,
        transparent=skb.sk.transparent,
    )


def _never_sent(run: Run, question: Injection, skb: Skb, reason: Reason, errno: int) -> Fate:
    run.hop = Hop(question.host, None, before=skb.header(), after=skb.header())
    run.hops.append(run.hop)
    return Fate("never_sent", question.host, None, None, reason, skb, errno)


# ------------------------------------------------------------------------------------ the natural answer


def natural_reply(world: World, leaf: Leaf) -> Injection | None:
    """What comes back by itself: SYN → SYN,ACK, echo → reply, UDP → UDP; None where nothing does.

    A packet that left the known world is answered from the edge it left by; a delivered one by its receiver.
    """
    if leaf.arrival is None or leaf.outcome not in ("delivered", "left"):
        return None
    host, skb, found, iface = leaf.arrival
    if leaf.outcome == "delivered" and (found is None or found.kind == "no_listener" or found.kind == "no_protocol"):
        return None
    out = turned_round(skb)
    if out is None:
        return None
    if leaf.outcome == "left":
        return Injection(host, iface, out)
    socket = getattr(found, "socket", None)
    kernel_made = out.is_icmp
    out.sk = Sk(uid=getattr(socket, "uid", 0) or 0, has_file=not kernel_made, transparent=True)
    out.tos = skb.tos if kernel_made else 0
    if kernel_made and _reflects(world, host):
        out.mark = skb.mark
    return Injection(host, None, out)


def _reflects(world: World, host: str) -> bool:
    setting = world.hosts[host].sysctl.get("net.ipv4.fwmark_reflect")
    return setting is not None and setting.value.strip() == "1"


def turned_round(skb: Skb) -> Skb | None:
    """The packet that answers ``skb``, with the tuple turned round; None for what is never answered."""
    out = Skb(skb.family, skb.proto, skb.dst, skb.src)
    out.length = 20
    if skb.is_icmp:
        answer = ICMP_ANSWER.get(skb.icmp_type)
        if answer is None or skb.inner is not None:
            return None
        out.icmp_type, out.icmp_id, out.icmp_seq, out.length = answer, skb.icmp_id, skb.icmp_seq, skb.length
        out.payload = skb.payload
        return out
    if skb.proto == IPPROTO_TCP:
        return _tcp_answer(skb, out)
    if skb.has_ports:
        out.sport, out.dport = skb.dport, skb.sport
        out.length = skb.length
        return out
    out.length = skb.length
    return out


def _tcp_answer(skb: Skb, out: Skb) -> Skb | None:
    flags = skb.tcp_flags
    if flags & TH_RST:
        return None
    out.sport, out.dport, out.length = skb.dport, skb.sport, 40
    out.df = True
    taken = payload_length(skb) + bool(flags & TH_SYN) + bool(flags & TH_FIN)
    out.tcp_ack = (skb.tcp_seq + taken) & 0xFFFFFFFF
    out.tcp_seq = skb.tcp_ack if flags & TH_ACK else REPLY_ISN
    if flags & TH_SYN and not flags & TH_ACK:
        out.tcp_flags, out.mss = TH_SYN | TH_ACK, skb.mss
        out.length = 44 if skb.mss is not None else 40
    elif flags & TH_FIN:
        out.tcp_flags = TH_FIN | TH_ACK
    elif taken or flags & TH_SYN:
        out.tcp_flags = TH_ACK
    else:
        return None  # a bare ACK is not answered
    return out


def describe_end(leaf: Leaf) -> str:
    """A short line for notes: what the packet looked like at its end."""
    skb = leaf.arrival[1]
    return f"{format_addr(skb.family, skb.src)} → {format_addr(skb.family, skb.dst)}"


Play = Callable[[World, WorldState | None, Injection], Answer]
