"""netbios-ns and snmp: net/netfilter/nf_conntrack_broadcast.c. Whoever is on the link may answer what was asked of all."""

from __future__ import annotations

from ...model.addr import AF_INET, BITS
from ...model.conntrack import ORIGINAL, REPLY, Conn, Expectation, ctinfo2dir
from ...model.packet import IPPROTO_UDP, Skb
from ...model.rule import V_ACCEPT, Verdict
from ..conntrack import expect_related, zone_id
from ..run import Ctx
from ..source import addresses
from ..trackers import common

TIMEOUT_S = {"netbios-ns": 3, "snmp": 30}
PORT = {"netbios-ns": 137, "snmp": 161}


def help_(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """nf_conntrack_broadcast_help(): only what this host sends to the broadcast address of one of its own."""
    if skb.sk is None or skb.rt is None or skb.rt.kind != "broadcast" or ctinfo2dir(skb.ctinfo or 0) != ORIGINAL:
        return V_ACCEPT
    name = conn.helper or ""
    mask = _mask(ctx, skb)
    reply = conn.tuples[REPLY]
    port = ctx.ws.known(reply.dport)
    if not mask:
        return V_ACCEPT
    expectation = Expectation(
        reply.family,
        IPPROTO_UDP,
        reply.src,
        reply.dst,
        port,
        sport=PORT[name],
        master=conn.conn_id,
        zone=zone_id(conn.zones),
        helper=name,
        permanent=True,
        timeout_at=ctx.now + TIMEOUT_S[name],
        src_mask=mask,
    )
    expect_related(ctx, expectation, 1)
    common.extend(ctx, common.current(ctx, conn), TIMEOUT_S[name])
    return V_ACCEPT


def _mask(ctx: Ctx, skb: Skb) -> int:
    """The network mask of the address that has this broadcast address; it has none unless somebody gave it one."""
    assert skb.rt is not None
    for address in addresses(ctx.host).by_dev.get((AF_INET, skb.rt.dev or ""), ()):
        if address.broadcast == skb.dst:
            return ((1 << BITS[AF_INET]) - 1) >> (32 - address.plen) << (32 - address.plen)
    return 0
