"""Amanda: net/netfilter/nf_conntrack_amanda.c, nf_nat_amanda.c. The client's CONNECT line announces up to four streams."""

from __future__ import annotations

import re

from ...model.conntrack import IPS_NAT_MASK, ORIGINAL, Conn, ctinfo2dir
from ...model.packet import Skb
from ...model.rule import V_ACCEPT, Verdict
from ..run import Ctx
from ..trackers import common
from . import announce

MASTER_TIMEOUT_S, TIMEOUT_S, MAX_EXPECTED = 300, 180, 4
STREAMS = (b"DATA ", b"MESG ", b"INDEX ", b"STATE ")


def help_(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """amanda_help(): only what the client (the server of this connection) answers is read."""
    if ctinfo2dir(skb.ctinfo or 0) == ORIGINAL:
        return V_ACCEPT
    conn = common.extend(ctx, conn, MASTER_TIMEOUT_S)
    if skb.payload is None:
        return announce.payload_unknown(ctx, "amanda")
    begin = skb.payload.find(b"CONNECT ")
    end = skb.payload.find(b"\n", begin) if begin >= 0 else -1
    if end < 0:
        return V_ACCEPT
    for stream in STREAMS:
        verdict = _stream(ctx, skb, conn, stream, begin + len(b"CONNECT "))
        if verdict is not V_ACCEPT:
            return verdict
    return V_ACCEPT


def _stream(ctx: Ctx, skb: Skb, conn: Conn, word: bytes, begin: int) -> Verdict:
    assert skb.payload is not None
    end = skb.payload.index(b"\n", begin)
    at = skb.payload.find(word, begin, end)
    if at < 0:
        return V_ACCEPT
    at += len(word)
    digits = re.match(rb"\d{0,5}", skb.payload[at : min(at + 5, end)])
    port = int(digits.group() or 0) & 0xFFFF if digits else 0
    if not port:
        return V_ACCEPT
    natted = bool(conn.status & IPS_NAT_MASK)
    client = conn.tuples[ORIGINAL]
    expectation = announce.tcp(
        ctx, conn, "amanda", client.src, client.dst, port, TIMEOUT_S, ORIGINAL if natted else None
    )
    verdict = announce.register(ctx, expectation, MAX_EXPECTED, natted)
    if verdict is V_ACCEPT and natted:
        announce.rewrite(ctx, skb, conn, at, at + len(digits.group()), str(port).encode())  # type: ignore[union-attr]
    return verdict
