"""UDP-Lite: nf_conntrack_udplite_packet() in net/netfilter/nf_conntrack_proto_udp.c."""

from __future__ import annotations

from ...model.conntrack import IPS_ASSURED, IPS_NAT_CLASH, IPS_SEEN_REPLY, Conn
from ...model.packet import Skb
from ...model.rule import NF_INET_PRE_ROUTING
from ..run import Ctx
from .common import ACCEPTED, INVALID, refresh, set_status, timeout

NAME = "udplite"
ALLOW_CLASH = True


def packet(ctx: Ctx, skb: Skb, conn: Conn) -> str:
    """nf_conntrack_udplite_packet(); udplite_error() sums received ones with the pseudo header of UDP: all are wrong."""
    if ctx.hook == NF_INET_PRE_ROUTING and ctx.sysctl_int("net.netfilter.nf_conntrack_checksum", 1):
        return INVALID
    if not conn.status & IPS_SEEN_REPLY:
        refresh(ctx, skb, conn, timeout(ctx, conn, "udp_timeout", 30))
        return ACCEPTED
    conn = refresh(ctx, skb, conn, timeout(ctx, conn, "udp_timeout_stream", 120))
    if not conn.status & IPS_NAT_CLASH:
        set_status(ctx, conn, IPS_ASSURED)
    return ACCEPTED
