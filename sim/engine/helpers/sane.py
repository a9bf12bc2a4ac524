"""SANE: net/netfilter/nf_conntrack_sane.c. The answer to SANE_NET_START names the port that the scan comes by."""

from __future__ import annotations

from ...model.conntrack import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, ORIGINAL, Conn
from ...model.packet import Skb
from ...model.rule import V_ACCEPT, Verdict
from ..run import Ctx
from . import announce

TIMEOUT_S, MAX_EXPECTED = 300, 1
SANE_NET_START, SANE_STATUS_SUCCESS = 7, 0
REQUEST_BYTES, REPLY_BYTES = 8, 8


def help_(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """help()"""
    if skb.ctinfo not in (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY):
        return V_ACCEPT
    if skb.payload is None:
        return announce.payload_unknown(ctx, "sane")
    if not skb.payload:
        return V_ACCEPT
    asked = ("sane", conn.conn_id)
    if skb.ctinfo == IP_CT_ESTABLISHED:
        if len(skb.payload) == REQUEST_BYTES:
            ctx.hs.match_state[asked] = int.from_bytes(skb.payload[:4], "big") == SANE_NET_START
        return V_ACCEPT
    if not ctx.hs.match_state.get(asked):
        return V_ACCEPT
    ctx.hs.match_state[asked] = False
    if len(skb.payload) < REPLY_BYTES or int.from_bytes(skb.payload[:6], "big") != SANE_STATUS_SUCCESS:
        return V_ACCEPT
    client = conn.tuples[ORIGINAL]
    port = int.from_bytes(skb.payload[6:8], "big")
    expectation = announce.tcp(ctx, conn, "sane", client.src, client.dst, port, TIMEOUT_S, None)
    return announce.register(ctx, expectation, MAX_EXPECTED, False)
