"""Conntrack helpers: what looks into a payload and announces another connection. nf_conntrack_helper.c."""

from __future__ import annotations

from importlib import import_module

from ...model.conntrack import IPS_NAT_MASK, Conn, Tuple
from ...model.packet import Skb
from ...model.rule import DROP, V_ACCEPT, Verdict
from ..run import Ctx

MODELLED = ("ftp", "tftp", "irc", "amanda", "sane")
BROADCASTS = ("netbios-ns", "snmp")
NOT_MODELLED = ("sip", "pptp", "Q.931", "RAS", "H.245", "slp")
UNHEARD = "helpers not heard"  # misc key: (helper, addresses of its connection) of announcements that were not read


def run_helper(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """helper->help(), called for a packet of a connection that has one."""
    name = conn.helper or ""
    module = "broadcast" if name in BROADCASTS else name.split("-")[0]
    if module in (*MODELLED, "broadcast"):
        verdict: Verdict = import_module(f".{module}", __name__).help_(ctx, skb, conn)
        if name != "snmp" or not conn.status & IPS_NAT_MASK:
            return verdict
    elif skb.payload == b"":
        return V_ACCEPT
    return _unheard(ctx, skb, conn, name)


def _unheard(ctx: Ctx, skb: Skb, conn: Conn, name: str) -> Verdict:
    """A helper reads what the model does not: it may announce connections, and rewrite or refuse what is translated."""
    known: tuple[tuple[str, frozenset[int]], ...] = ctx.hs.misc.get(UNHEARD, ())
    mine = (name, frozenset(addr for t in conn.tuples for addr in (t.src, t.dst)))
    if mine not in known:
        ctx.hs.misc[UNHEARD] = (*known, mine)
    text = f"{ctx.host.name}: what helper {name!r} makes of the payload of a translated packet is not modelled"
    if conn.status & IPS_NAT_MASK and ctx.unknown(text):
        return Verdict(DROP, reason="unmodelled_match", text=text)
    return V_ACCEPT


def may_be_expected(ctx: Ctx, t: Tuple) -> bool:
    """Whether a new connection is one that was announced and not heard: possible between the hosts of the first."""
    for name, addresses in ctx.hs.misc.get(UNHEARD, ()):
        if t.src in addresses or t.dst in addresses:
            return ctx.unknown(
                f"{ctx.host.name}: helper {name!r}, whose announcements are not modelled, expects this connection"
            )
    return False
