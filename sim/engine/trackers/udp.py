"""UDP: net/netfilter/nf_conntrack_proto_udp.c."""

from __future__ import annotations

from ...model.conntrack import IPS_ASSURED, IPS_NAT_CLASH, IPS_SEEN_REPLY, Conn
from ...model.packet import Skb
from ...record import NamedTuple
from ..run import Ctx
from .common import ACCEPTED, refresh, set_status, timeout

NAME = "udp"
ALLOW_CLASH = True
STREAM_S = 2  # a flow that is still alive after this is a stream


class UdpState(NamedTuple):
    """``stream_ts``: second from which a two-way flow counts as a stream."""

    stream_ts: float


def packet(ctx: Ctx, skb: Skb, conn: Conn) -> str:
    """nf_conntrack_udp_packet()"""
    if not conn.confirmed:
        conn = ctx.hs.ct.update(conn, proto_state=UdpState(ctx.now + STREAM_S))
    seconds = timeout(ctx, conn, "udp_timeout", 30)
    if not conn.status & IPS_SEEN_REPLY:
        refresh(ctx, skb, conn, seconds)
        return ACCEPTED
    # An entry of the snapshot does not say when it began: it is older than two seconds.
    begun = conn.proto_state.stream_ts if isinstance(conn.proto_state, UdpState) else float("-inf")
    stream = ctx.now > begun
    if stream:
        seconds = timeout(ctx, conn, "udp_timeout_stream", 120)
    conn = refresh(ctx, skb, conn, seconds)
    if stream and not conn.status & IPS_NAT_CLASH:
        set_status(ctx, conn, IPS_ASSURED)
    return ACCEPTED
