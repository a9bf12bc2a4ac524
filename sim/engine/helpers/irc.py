"""IRC: net/netfilter/nf_conntrack_irc.c, nf_nat_irc.c. A client's DCC message announces a connection to it."""

from __future__ import annotations

import re

from ...model.addr import AF_INET
from ...model.conntrack import IP_CT_ESTABLISHED, IPS_NAT_MASK, ORIGINAL, REPLY, Conn
from ...model.packet import Skb
from ...model.rule import V_ACCEPT, Verdict
from ...record import NamedTuple
from ..run import Ctx
from . import announce

TIMEOUT_S, MAX_EXPECTED = 300, 8
MAX_SEARCH_SIZE = 4095
COMMANDS = (b"SEND ", b"CHAT ", b"MOVE ", b"TSEND ", b"SCHAT ")
SHORTEST = 26  # bytes that the shortest message still has when its " :" begins


class Offer(NamedTuple):
    """What a DCC message says, and where its numbers stand."""

    addr: int
    port: int
    begin: int
    end: int


def help_(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """help(): what the client says, once the server has answered."""
    if skb.ctinfo != IP_CT_ESTABLISHED or skb.family != AF_INET:
        return V_ACCEPT
    if skb.payload is None:
        return announce.payload_unknown(ctx, "irc")
    offer = search(skb.payload[:MAX_SEARCH_SIZE], (conn.tuples[ORIGINAL].src, conn.tuples[REPLY].dst))
    if offer is None:
        return V_ACCEPT
    natted = bool(conn.status & IPS_NAT_MASK)
    seen = conn.tuples[REPLY].dst
    expectation = announce.tcp(ctx, conn, "irc", None, seen, offer.port, TIMEOUT_S, REPLY if natted else None)
    verdict = announce.register(ctx, expectation, MAX_EXPECTED, natted)
    if verdict is V_ACCEPT and natted:
        announce.rewrite(ctx, skb, conn, offer.begin, offer.end, f"{seen} {offer.port}".encode())
    return verdict


def search(text: bytes, own: tuple[int, ...]) -> Offer | None:
    """The first message of the line, if it is a DCC offer of one of the client's addresses."""
    at, limit = 0, len(text)
    while at < limit - 10 and text[at : at + 1] in (b" ", b"\r", b"\n"):
        at += 1
    if at < limit - 10:
        if text[at : at + 8].upper() != b"PRIVMSG ":
            return None
        at += 8
    at = text.find(b" :", at)
    if at < 0 or at >= limit - SHORTEST:
        return None
    at += 2
    if text[at : at + 5] != b"\1DCC ":
        return None
    at += 5
    for command in COMMANDS:
        if text[at : at + len(command)] == command:
            return _numbers(text, at + len(command), own)
    return None


def _numbers(text: bytes, at: int, own: tuple[int, ...]) -> Offer | None:
    """parse_dcc(): address and port after the file's name, in decimal."""
    space = text.find(b" ", at)
    if space < 0 or space >= len(text) - 12 or b"\n" not in text[space + 1 :]:
        return None
    found = re.compile(rb"(\d*)( *)(\d*)").match(text, space + 1)
    assert found is not None
    addr, port = int(found[1] or 0) & 0xFFFFFFFF, int(found[3] or 0) & 0xFFFF
    if addr not in own or not port:
        return None
    return Offer(addr, port, space + 1, found.end())
