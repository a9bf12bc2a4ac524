"""GRE: net/netfilter/nf_conntrack_proto_gre.c. Version 0 has no key in its tuple: one flow per address pair."""

from __future__ import annotations

from ...model.conntrack import IPS_ASSURED, IPS_NAT_CLASH, IPS_SEEN_REPLY, Conn
from ...model.packet import Skb
from ...record import NamedTuple
from ..run import Ctx
from .common import ACCEPTED, refresh, set_status, timeout

NAME = "gre"
ALLOW_CLASH = True


class GreState(NamedTuple):
    """The entry's own timeouts, fixed when it was made."""

    timeout: int
    stream_timeout: int


def packet(ctx: Ctx, skb: Skb, conn: Conn) -> str:
    """nf_conntrack_gre_packet()"""
    state = conn.proto_state
    if not isinstance(state, GreState):
        state = GreState(timeout(ctx, conn, "gre_timeout", 30), timeout(ctx, conn, "gre_timeout_stream", 180))
        conn = ctx.hs.ct.update(conn, proto_state=state)
    if not conn.status & IPS_SEEN_REPLY:
        refresh(ctx, skb, conn, state.timeout)
        return ACCEPTED
    conn = refresh(ctx, skb, conn, state.stream_timeout)
    if not conn.status & IPS_NAT_CLASH:
        set_status(ctx, conn, IPS_ASSURED)
    return ACCEPTED
