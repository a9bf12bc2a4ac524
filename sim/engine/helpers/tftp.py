"""TFTP: net/netfilter/nf_conntrack_tftp.c, nf_nat_tftp.c. A request announces data from any port of the server."""

from __future__ import annotations

from ...model.conntrack import IPS_NAT_MASK, ORIGINAL, REPLY, Conn, Expectation
from ...model.drawn import Drawn
from ...model.packet import IPPROTO_UDP, Skb
from ...model.rule import DROP, V_ACCEPT, Verdict
from ..conntrack import expect_related, zone_id
from ..run import Ctx

TIMEOUT_S, MAX_EXPECTED = 300, 1
READ, WRITE = 1, 2


def help_(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """tftp_help()"""
    if skb.payload is None:
        ctx.run.note(f"{ctx.host.name}: the payload is not known; the tftp helper takes it for no request")
        return V_ACCEPT
    if len(skb.payload) < 2 or int.from_bytes(skb.payload[:2], "big") not in (READ, WRITE):
        return V_ACCEPT
    reply, natted = conn.tuples[REPLY], bool(conn.status & IPS_NAT_MASK)
    port, saved = ctx.ws.known(reply.dport), ctx.ws.known(conn.tuples[ORIGINAL].sport)
    if isinstance(saved, Drawn):
        ctx.run.note(f"{ctx.host.name}: the expectation of tftp leads to a drawn port and is left out")
        return V_ACCEPT
    expectation = Expectation(
        reply.family,
        IPPROTO_UDP,
        reply.src,
        reply.dst,
        port,
        master=conn.conn_id,
        zone=zone_id(conn.zones),
        helper="tftp",
        timeout_at=ctx.now + TIMEOUT_S,
        direction=REPLY if natted else ORIGINAL,
        saved_port=saved if natted else None,
        follow_master=natted,
    )
    if expect_related(ctx, expectation, MAX_EXPECTED):
        return V_ACCEPT
    return Verdict(DROP, reason="helper_expectation_failed", text="the tftp helper could not register its expectation")
